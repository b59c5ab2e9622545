//! Pseudo-links: hard links of a lower branch that stay one file after one of them was copied up.
//!
//! The copy gets one more name in the branch's store, `.wh..wh.plnk/LOWER.COPY` (both numbers decimal), and
//! all names of the lower file lead to it from then on. A name gets its own link on the copy's branch when
//! data or attributes are reached through it.

use std::collections::HashMap;
use std::sync::Arc;

use rules::{Attr, BranchIndex, Errno, Name, whiteout};
use tree::{Object, Tree};

use crate::branch::BranchDir;
use crate::error::Result;
use crate::inode::{Inode, Key, NewBody};
use crate::union::Union;

/// Lower files with several names that were copied up during this mount.
#[derive(Default)]
pub(crate) struct PseudoLinks {
    by_original: HashMap<Key, Record>,
    originals: HashMap<Key, Key>,
}

struct Record {
    branch: BranchIndex,
    stored: Name,
    /// Links as applications count them.
    links: u32,
}

impl<T: Tree> Union<T> {
    /// Returns attributes under whose key the inode is known: those of the original for a copy with several names.
    pub(crate) fn canonical(&self, attr: &Attr) -> Attr {
        let links = self.pseudo_links.read();
        match links.originals.get(&Key::of(attr)) {
            Some(original) => Attr {
                dev: original.dev,
                ino: original.ino,
                ..*attr
            },
            None => *attr,
        }
    }

    /// Returns where an object is that was copied up under another name.
    pub(crate) fn pseudo_linked_body(&self, canonical: &Attr) -> Option<NewBody<T>> {
        let links = self.pseudo_links.read();
        let record = links.by_original.get(&Key::of(canonical))?;
        let place = Some((self.store(record.branch), record.stored.clone()));
        Some(NewBody::Other {
            branch: record.branch,
            place,
            pseudo_linked: true,
        })
    }

    /// Keeps the names of a lower file together: `copy` in `dir` is what all of them mean from now on.
    pub(crate) fn keep_together(
        &self,
        inode: &Arc<Inode<T>>,
        original: &Attr,
        dir: &Arc<BranchDir<T>>,
        copy_name: &Name,
        copy: &Attr,
    ) -> Result<()> {
        let store = self.store(dir.index());
        let key = inode.key();
        let stored = Name::new(format!("{}.{}", inode.number, copy.ino).as_bytes())?;
        let handle = store.open()?;
        match dir.tree().link(&*dir.open()?, copy_name, &handle, &stored) {
            // An earlier mount may have left one of the same name.
            Err(Errno::EXIST) => {
                dir.tree().remove_file(&handle, &stored)?;
                dir.tree()
                    .link(&*dir.open()?, copy_name, &handle, &stored)?;
            }
            linked => linked?,
        }
        let mut links = self.pseudo_links.write();
        links.originals.insert(Key::of(copy), key);
        let record = Record {
            branch: dir.index(),
            stored,
            links: original.nlink,
        };
        links.by_original.insert(key, record);
        Ok(())
    }

    /// Returns the number of links that applications see for a pseudo-linked inode.
    pub(crate) fn links_of(&self, inode: &Inode<T>, on_branch: u32) -> u32 {
        let links = self.pseudo_links.read();
        links
            .by_original
            .get(&inode.key())
            .map_or(on_branch, |record| record.links)
    }

    /// Counts a link that came (`1`) or went (`-1`).
    pub(crate) fn count_link(&self, inode: &Inode<T>, change: i32) {
        if let Some(record) = self.pseudo_links.write().by_original.get_mut(&inode.key()) {
            record.links = record.links.saturating_add_signed(change);
        }
    }

    /// Returns where the store keeps an inode's copy.
    pub(crate) fn stored_place(&self, inode: &Inode<T>) -> Option<(Arc<BranchDir<T>>, Name)> {
        let links = self.pseudo_links.read();
        let record = links.by_original.get(&inode.key())?;
        Some((self.store(record.branch), record.stored.clone()))
    }

    /// Gives the name that was used last its own link on the copy's branch.
    pub(crate) fn link_used_name(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        let Ok(other) = inode.other() else {
            return Ok(());
        };
        let (branch, pseudo_linked) = {
            let state = other.state.read();
            (state.branch, state.pseudo_linked)
        };
        let Some((parent, name)) = inode.name().filter(|_| pseudo_linked) else {
            return Ok(());
        };
        let sightings = self.sightings(&parent, &name)?;
        if sightings.first().is_none_or(|top| top.branch <= branch) {
            return Ok(());
        }
        let target = self.directory_on(&parent, branch)?;
        let (from, stored) = self.place_of(inode)?;
        let change = parent.dir()?.change.lock();
        let handle = target.open()?;
        match target.tree().link(&*from.open()?, &stored, &handle, &name) {
            Ok(()) => {
                let attr = target.tree().attr(Object::Entry(&*handle, &name))?;
                self.note_entry(&parent, branch, &name, &attr)?;
            }
            // Somebody was faster.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        drop(change);
        Ok(())
    }

    fn store(&self, branch: BranchIndex) -> Arc<BranchDir<T>> {
        let name = Name::new(whiteout::PSEUDO_LINKS).expect("the format's names are names");
        self.root_of(branch).child(name)
    }
}
