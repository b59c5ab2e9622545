//! Extended attributes, with the namespaces and refusals that ext4 has for root.

use rules::{Errno, Kind, XattrClasses};
use tree::XattrHow;

use super::acl::{self, Acl};
use super::disk::Table;
use super::inode::{Ino, Inode};

/// Longest name of an attribute.
const NAME_MAX: usize = 255;
/// Longest value that the kernel lets through.
const VALUE_MAX: usize = 65_536;
/// What all attributes of an object may take: about one block, as on ext4 by default.
const SPACE: usize = 4096 - 36;

/// What an attribute's name begins with decides who keeps it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Space {
    Plain,
    AccessList,
    DefaultList,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Read,
    Write,
}

/// Checks a name and a value as the kernel does before it looks for the object.
pub(super) fn check(name: &[u8], value: &[u8]) -> Result<(), Errno> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(Errno::RANGE);
    }
    if name.contains(&0) {
        return Err(Errno::INVAL);
    }
    if value.len() > VALUE_MAX {
        Err(Errno::BIG)
    } else {
        Ok(())
    }
}

/// Finds out whether an object may have an attribute of this name.
fn space(inode: &Inode, name: &[u8], deed: Deed) -> Result<Space, Errno> {
    if name == acl::ACCESS || name == acl::DEFAULT {
        let access = name == acl::ACCESS;
        return match inode.kind() {
            Kind::Symlink => Err(Errno::OPNOTSUPP),
            _ if access => Ok(Space::AccessList),
            _ => Ok(Space::DefaultList),
        };
    }
    if name.starts_with(b"user.") && !matches!(inode.kind(), Kind::File | Kind::Dir) {
        return Err(if deed == Deed::Write {
            Errno::PERM
        } else {
            Errno::NODATA
        });
    }
    for prefix in [b"user.".as_slice(), b"trusted.", b"security."] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return if rest.is_empty() {
                Err(Errno::INVAL)
            } else {
                Ok(Space::Plain)
            };
        }
    }
    Err(Errno::OPNOTSUPP)
}

impl Table {
    /// Returns the value of an attribute.
    pub(crate) fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let inode = self.inode(ino);
        space(inode, name, Deed::Read)?;
        inode.xattrs.get(name).cloned().ok_or(Errno::NODATA)
    }

    /// Returns the names of all attributes, sorted.
    pub(crate) fn xattr_names(&self, ino: Ino) -> Vec<Vec<u8>> {
        self.inode(ino).xattrs.keys().cloned().collect()
    }

    /// Sets an attribute.
    pub(crate) fn set_xattr(
        &mut self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Result<(), Errno> {
        let is_list = name == acl::ACCESS || name == acl::DEFAULT;
        // The kernel reads the list before it asks whether the object may have one.
        let list = if is_list { Acl::parse(value)? } else { None };
        let inode = self.inode(ino);
        let space = space(inode, name, Deed::Write)?;
        if self.refused_xattrs.contains(XattrClasses::of(name)) {
            return Err(Errno::OPNOTSUPP);
        }
        match space {
            Space::AccessList => self.set_access_list(ino, list)?,
            Space::DefaultList => self.set_default_list(ino, list)?,
            Space::Plain => {
                let exists = inode.xattrs.contains_key(name);
                match how {
                    XattrHow::Create if exists => return Err(Errno::EXIST),
                    XattrHow::Replace if !exists => return Err(Errno::NODATA),
                    _ => {}
                }
                let others = inode.xattrs.iter().filter(|(other, _)| *other != name);
                let taken: usize = others.map(|(name, value)| footprint(name, value)).sum();
                if taken + footprint(name, value) > SPACE {
                    return Err(Errno::NOSPC);
                }
                self.inode_mut(ino)
                    .xattrs
                    .insert(name.to_vec(), value.to_vec());
            }
        }
        self.touch(ino);
        Ok(())
    }

    /// Removes an attribute. Removing an access control list that is not there succeeds.
    pub(crate) fn remove_xattr(&mut self, ino: Ino, name: &[u8]) -> Result<(), Errno> {
        let inode = self.inode_mut(ino);
        let space = space(inode, name, Deed::Write)?;
        if inode.xattrs.remove(name).is_none() && space == Space::Plain {
            return Err(Errno::NODATA);
        }
        self.touch(ino);
        Ok(())
    }

    /// A list that permission bits can say becomes permission bits.
    fn set_access_list(&mut self, ino: Ino, list: Option<Acl>) -> Result<(), Errno> {
        list.as_ref().map_or(Ok(()), Acl::check)?;
        let inode = self.inode_mut(ino);
        inode.xattrs.remove(acl::ACCESS);
        if let Some(list) = list {
            inode.perm = list.decide(inode.perm);
            if !list.is_plain() {
                inode.xattrs.insert(acl::ACCESS.to_vec(), list.value());
            }
        }
        Ok(())
    }

    fn set_default_list(&mut self, ino: Ino, list: Option<Acl>) -> Result<(), Errno> {
        let inode = self.inode_mut(ino);
        match list {
            None => {
                inode.xattrs.remove(acl::DEFAULT);
            }
            Some(_) if !inode.is_dir() => return Err(Errno::ACCES),
            Some(list) => {
                list.check()?;
                inode.xattrs.insert(acl::DEFAULT.to_vec(), list.value());
            }
        }
        Ok(())
    }
}

/// Returns how many bytes an attribute takes in its block.
fn footprint(name: &[u8], value: &[u8]) -> usize {
    let suffix = name
        .iter()
        .position(|byte| *byte == b'.')
        .map_or(0, |dot| name.len() - dot - 1);
    16 + suffix.next_multiple_of(4) + value.len().next_multiple_of(4)
}
