//! Hard links.

use std::sync::Arc;

use rules::lookup::resolve;
use tree::{Object, RenameHow, Tree};

use crate::api::{Entry, InodeId};
use crate::create::{Site, refuse_taken};
use crate::error::{Refusal, Result};
use crate::inode::Inode;
use crate::union::Union;

impl<T: Tree> Union<T> {
    /// Gives an object that is no directory one more name. `EEXIST`, `EPERM` for a directory, `EROFS`, `EMLINK`.
    pub fn link(&self, id: InodeId, parent: InodeId, name: &[u8]) -> Result<Entry> {
        let (parent, name) = (self.directory(parent)?, self.dialect.check(name)?);
        let inode = self.apart(self.inode(id)?)?;
        let sightings = self.sightings(&parent, &name)?;
        refuse_taken(resolve(&sightings))?;
        let Ok(other) = inode.other() else {
            return Err(Refusal::NotPermitted.into());
        };
        self.publish(&inode)?;
        let home = other.state.read().branch;
        // The same branch as the object, where that is possible and the new name is seen there.
        let above = sightings
            .first()
            .is_some_and(|sighting| sighting.branch < home);
        let branch = if self.can_hold(&parent, home) && !above {
            home
        } else {
            let top = sightings.first().map_or(home, |sighting| sighting.branch);
            self.branch_for(top.min(home), &parent)?
        };
        let moves = branch != home || !self.writable(home);
        let nameless = other.state.read().place.is_none();
        if moves && nameless {
            self.copy_up(&inode)?;
        } else if moves && !self.settings().pseudo_links {
            self.copy_up_to(&inode, branch)?;
        }
        let moving = other.moving.lock();
        let quiet = moves.then(|| other.changing.write());
        let brought = moves && !self.settings().pseudo_links;
        let expected = if brought { branch } else { home };
        if !nameless && other.state.read().branch != expected {
            // Somebody else has copied or moved it meanwhile.
            drop((quiet, moving));
            return self.link(id, parent.id, name.as_bytes());
        }
        let site = self.site_on(&parent, &name, branch)?;
        if moves && !nameless && self.settings().pseudo_links {
            self.copy_as(&inode, &site.target, &name)?;
        } else {
            self.link_on_branch(&inode, &site, &name)?;
        }
        self.settle_new(&parent, &name, &site)?;
        drop(site);
        drop((quiet, moving));
        self.count_link(&inode, 1);
        self.inodes.add_name(&inode, &parent, &name);
        inode.take_reference()?;
        Ok(Entry {
            id: inode.id,
            attr: self.attr_of(&inode)?,
        })
    }

    fn link_on_branch(
        &self,
        inode: &Arc<Inode<T>>,
        site: &Site<'_, T>,
        name: &rules::Name,
    ) -> Result<()> {
        let other = inode.other()?;
        let (place, data) = {
            let state = other.state.read();
            (state.place.clone(), state.data.clone())
        };
        let tree = site.target.tree();
        match (place, data) {
            (Some((dir, old)), _) => tree.link(&*dir.open()?, &old, &site.handle, name)?,
            (None, Some(data)) => {
                // A file without a name gets its first one under a temporary name, then its place.
                let mut build = self.begin(&site.target, name);
                tree.link_file(&data.file, &site.handle, &build.temporary)?;
                build.made = true;
                let how = RenameHow::NoReplace;
                tree.rename(&site.handle, &build.temporary, &site.handle, name, how)?;
                build.made = false;
                let attr = tree.attr(Object::Entry(&*site.handle, name))?;
                self.inodes.add_key(inode, &attr);
                let mut state = other.state.write();
                state.branch = site.target.index();
                state.place = Some((Arc::clone(&site.target), name.clone()));
                state.last = None;
            }
            (None, None) => return Err(Refusal::Gone.into()),
        }
        Ok(())
    }
}
