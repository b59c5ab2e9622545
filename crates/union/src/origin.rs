//! Attributes that say where an object comes from. Nobody sets them and no listing names them, so that
//! nothing copies them; no branch is asked for them.
//!
//! `user.plywood.NAME` is there for files and directories, `trusted.plywood.NAME` for root and whatever
//! object: the kernel lets nobody ask a link or device for the former.
//!
//! | NAME | value |
//! |---|---|
//! | `branch` | the path of the branch that serves it |
//! | `branch_index` | its index in decimal, 0 for the topmost |
//! | `fullpath` | the path of the object on that branch |
//! | `allpaths` | that of all objects that the merged directories have under this name, topmost first, a NUL behind each but the last |

use std::sync::Arc;

use rules::Errno;
use tree::Tree;

use crate::api::InodeId;
use crate::branch::BranchDir;
use crate::error::{Refusal, Result};
use crate::inode::Inode;
use crate::union::Union;

const PREFIXES: [&[u8]; 2] = [b"user.plywood.", b"trusted.plywood."];

/// Returns the rest of an attribute's name, if it is one of these.
pub(crate) fn asked(name: &[u8]) -> Option<&[u8]> {
    PREFIXES
        .iter()
        .find_map(|prefix| name.strip_prefix(*prefix))
}

impl<T: Tree> Union<T> {
    /// Returns what an attribute says of an object. `ENODATA` for other names, and where there is no path to tell.
    pub(crate) fn origin(&self, id: InodeId, what: &[u8]) -> Result<Vec<u8>> {
        let inode = self.inode(id)?;
        let (dir, name) = match inode.other() {
            Ok(_) => {
                let (dir, name) = self.place_of(&inode)?;
                (dir, Some(name))
            }
            Err(_) => (self.top_of(&inode)?, None),
        };
        match what {
            b"branch" => {
                let root = self.root_of(dir.index());
                path(&root, None)
            }
            b"branch_index" => Ok(dir.index().get().to_string().into_bytes()),
            b"fullpath" => path(&dir, name.as_ref().map(rules::Name::as_bytes)),
            b"allpaths" => self.all_paths(&inode),
            _ => Err(Errno::NODATA.into()),
        }
    }

    fn all_paths(&self, inode: &Inode<T>) -> Result<Vec<u8>> {
        let (dirs, name) = match inode.dir() {
            Ok(dir) => (dir.state.read().members.clone(), None),
            Err(_) => {
                let (parent, name) = inode.name().ok_or(Refusal::Gone)?;
                (parent.dir()?.state.read().members.clone(), Some(name))
            }
        };
        let mut paths = Vec::new();
        for dir in dirs {
            if let Some(name) = &name {
                let found = dir.tree().look(&*dir.open()?, name)?;
                if !found.is_some_and(|attr| attr.kind == inode.kind) {
                    continue;
                }
            }
            paths.push(path(&dir, name.as_ref().map(rules::Name::as_bytes))?);
        }
        Ok(paths.join(&0))
    }
}

/// Returns the path of a directory on a branch, or of a name in it. In an image, it begins with that of the image.
fn path<T: Tree>(dir: &Arc<BranchDir<T>>, name: Option<&[u8]>) -> Result<Vec<u8>> {
    let mut root = Arc::clone(dir);
    while let Some((above, _)) = root.place() {
        root = above;
    }
    let mut path = root.tree().path_of(&*root.open()?).ok_or(Errno::NODATA)?;
    let names = dir.path();
    for part in names.iter().map(rules::Name::as_bytes).chain(name) {
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend(part);
    }
    Ok(path)
}
