//! Copying one object from branch to branch, and telling whether that was done already.

use std::collections::BTreeMap;

use rules::{Attr, Errno, Kind, Name, XattrClasses};
use tree::{Access, Object, Tree};

use crate::copy::{copy_attributes, make_empty};
use crate::dialect::overlay;

/// How much of two files is compared at a time.
const PIECE: usize = 128 << 10;

/// An object on a branch.
pub(super) struct Spot<'a, T: Tree> {
    pub(super) tree: &'a T,
    pub(super) dir: &'a T::Dir,
    pub(super) name: &'a Name,
}

impl<T: Tree> Clone for Spot<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Tree> Copy for Spot<'_, T> {}

impl<'a, T: Tree> Spot<'a, T> {
    fn object(&self) -> Object<'a, T> {
        Object::Entry(self.dir, self.name)
    }

    /// Makes what has the name a copy of what `from` has, which is no directory.
    pub(super) fn become_copy_of(&self, from: Spot<'_, T>, original: &Attr) -> Result<(), Errno> {
        let target = match original.kind {
            Kind::Symlink => from.tree.read_link(from.dir, from.name)?,
            _ => Vec::new(),
        };
        let file = make_empty(self.tree, self.dir, self.name, original, &target)?;
        if let Some(file) = &file
            && original.size > 0
        {
            let source = from
                .tree
                .open_file(from.dir, from.name, Access::ReadQuietly)?;
            self.tree.copy_data(&source, file, original.size)?;
        }
        copy_attributes(
            from.tree,
            from.object(),
            original,
            self.tree,
            self.object(),
            XattrClasses::NONE,
        )
    }

    /// Returns whether both names have objects, no directories, with the same contents and attributes.
    pub(super) fn equals(
        &self,
        own: &Attr,
        other: Spot<'_, T>,
        attr: &Attr,
    ) -> Result<bool, Errno> {
        let shape = |attr: &Attr| {
            let size = if attr.kind == Kind::File {
                attr.size
            } else {
                0
            };
            (
                (attr.kind, attr.perm, attr.uid, attr.gid),
                (attr.rdev, size, attr.mtime),
            )
        };
        if shape(own) != shape(attr) || self.xattrs()? != other.xattrs()? {
            return Ok(false);
        }
        match own.kind {
            Kind::Symlink => Ok(self.tree.read_link(self.dir, self.name)?
                == other.tree.read_link(other.dir, other.name)?),
            Kind::File if own.size > 0 => self.same_data(other),
            _ => Ok(true),
        }
    }

    fn xattrs(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
        let mut found = BTreeMap::new();
        for name in self.tree.xattr_names(self.object())? {
            if overlay::is_private(&name) {
                continue;
            }
            match self.tree.xattr(self.object(), &name) {
                Err(Errno::NODATA) => {}
                value => drop(found.insert(name, value?)),
            }
        }
        Ok(found)
    }

    fn same_data(&self, other: Spot<'_, T>) -> Result<bool, Errno> {
        let open = |spot: &Spot<'_, T>| {
            spot.tree
                .open_file(spot.dir, spot.name, Access::ReadQuietly)
        };
        let (one, two) = (open(self)?, open(&other)?);
        let (mut a, mut b) = (vec![0; PIECE], vec![0; PIECE]);
        let mut offset = 0;
        loop {
            let count = self.tree.read(&one, &mut a, offset)?;
            if other.tree.read(&two, &mut b, offset)? != count || a[..count] != b[..count] {
                return Ok(false);
            }
            if count < PIECE {
                return Ok(true);
            }
            offset += count as u64;
        }
    }
}
