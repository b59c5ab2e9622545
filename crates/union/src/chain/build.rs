//! Making the index of a chain of branches: a union of them is walked, so that the index says what a union shows.

use std::io::{self, Seek, Write};
use std::sync::Arc;

use chainindex::{Member, NewDirectory, NewEntry, Writer};
use rules::lookup::{Resolution, Sighting, resolve};
use rules::{Attr, Kind, Name};
use tree::{Object, Tree};

use crate::api::InodeId;
use crate::branch::BranchDir;
use crate::error::{Error, Refusal, Result};
use crate::inode::Inode;
use crate::union::Union;

/// Why no index was made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A branch can be written to.
    #[error("branch {0} is writable")]
    Writable(usize),
    /// A branch or the union said no.
    #[error(transparent)]
    Union(#[from] Error),
    /// The index could not be written.
    #[error("cannot write the index: {0}")]
    Output(#[from] io::Error),
}

/// What an index is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Built {
    /// Directories in it.
    pub directories: u64,
    /// Names that are shown in them.
    pub names: u64,
    /// Directories that are not in it, and are read from the branches.
    pub left_out: u64,
}

impl<T: Tree> Union<T> {
    /// Writes an index of all branches, which are read-only. Nobody else uses the union meanwhile.
    ///
    /// `is_settled` tells of the attributes of a directory whether a change of it would now give it another time than it has; it may
    /// wait until that is so. A directory that is not settled, that changes meanwhile, that cannot be read, or in which another
    /// filesystem begins, is left out.
    pub fn write_chain_index<W: Write + Seek>(
        &self,
        out: W,
        mut is_settled: impl FnMut(&Attr) -> bool,
    ) -> std::result::Result<(W, Built), BuildError> {
        let mut layers = Vec::new();
        for (at, root) in self.roots().iter().enumerate() {
            if root.powers().writable {
                return Err(BuildError::Writable(at));
            }
            layers.push(self.layer_now(root).map_err(Error::from)?);
        }
        let mut writer = Writer::new(out, self.reading(), layers)?;
        let mut built = Built::default();
        let mut left = vec![self.inode(InodeId::ROOT)?];
        while let Some(inode) = left.pop() {
            let described = self.describe(&inode, &mut is_settled, &mut left);
            match described {
                Ok(Some(directory)) => {
                    let shown = directory
                        .entries
                        .iter()
                        .filter(|entry| entry.attr.is_some());
                    let shown = shown.count() as u64;
                    if writer.add(directory)?.is_ok() {
                        built.directories += 1;
                        built.names += shown;
                    } else {
                        built.left_out += 1;
                    }
                }
                Ok(None) => built.left_out += 1,
                Err(error) => {
                    tracing::debug!(%error, "a directory is not indexed");
                    built.left_out += 1;
                }
            }
            // What is below refers to it; what it listed is not needed any more.
            inode.dir()?.state.write().forget_index();
            self.inodes.forget(&inode, 1);
        }
        Ok((writer.finish()?, built))
    }

    /// Returns what a directory shows, unless that is not for an index; adds the directories in it to `left`.
    fn describe(
        &self,
        inode: &Arc<Inode<T>>,
        is_settled: &mut impl FnMut(&Attr) -> bool,
        left: &mut Vec<Arc<Inode<T>>>,
    ) -> Result<Option<NewDirectory>> {
        let members = inode.dir()?.state.read().members.clone();
        let mut fit = true;
        let mut before = Vec::with_capacity(members.len());
        for member in &members {
            let attr = attr_of(member)?;
            fit &= is_settled(&attr) && attr.dev == member.branch.dev;
            before.push(attr);
        }
        let names = self.with_index(inode, |index| {
            let each = index.each();
            each.map(|(name, seen)| (name.clone(), seen.to_vec()))
                .collect::<Vec<_>>()
        })?;
        let mut entries = Vec::with_capacity(names.len());
        for (name, sightings) in names {
            if let Resolution::Dir(_) = resolve(&sightings) {
                match self.find(inode, &name) {
                    Ok(Some((child, _))) if child.kind == Kind::Dir => left.push(child),
                    Ok(Some((child, _))) => self.inodes.forget(&child, 1),
                    Ok(None) => fit = false,
                    Err(error) => {
                        tracing::debug!(%name, %error, "what is below is not indexed");
                    }
                }
            }
            match self.entry(&members, name, sightings)? {
                Some(entry) => entries.push(entry),
                None => fit = false,
            }
        }
        for (member, before) in members.iter().zip(&before) {
            let after = attr_of(member)?;
            let same = |a: &Attr| (a.ino, a.mtime, a.ctime, a.nlink);
            // What is merged below follows records, which reading the directory does not show.
            fit &= same(before) == same(&after) && !self.has_records(member, Some(&after))?;
        }
        let member = |(member, attr): (&Arc<BranchDir<T>>, &Attr)| Member {
            layer: member.index().0,
            nlink: attr.nlink,
            ino: attr.ino,
            mtime: attr.mtime,
            ctime: attr.ctime,
        };
        let members = members.iter().zip(&before).map(member).collect();
        Ok(fit.then_some(NewDirectory { members, entries }))
    }

    /// Returns a name with what it shows; `None` when that cannot be kept.
    fn entry(
        &self,
        members: &[Arc<BranchDir<T>>],
        name: Name,
        sightings: Vec<Sighting>,
    ) -> Result<Option<NewEntry>> {
        let resolution = resolve(&sightings);
        let Some(branch) = resolution.branch() else {
            let attr = None;
            return Ok(Some(NewEntry {
                name,
                sightings,
                attr,
            }));
        };
        let member = members.iter().find(|member| member.index() == branch);
        let member = member.ok_or(Refusal::NotFound)?;
        let Some(attr) = member.tree().look(&*member.open()?, &name)? else {
            return Ok(None);
        };
        let is_dir = matches!(resolution, Resolution::Dir(_));
        let fits = attr.dev == member.branch.dev && is_dir == (attr.kind == Kind::Dir);
        Ok(fits.then_some(NewEntry {
            name,
            sightings,
            attr: Some(attr),
        }))
    }
}

fn attr_of<T: Tree>(member: &Arc<BranchDir<T>>) -> Result<Attr> {
    Ok(member.tree().attr(Object::Dir(&*member.open()?))?)
}
