//! Who uses a branch, so that it cannot be taken out of the stack.

use std::fmt;
use std::sync::Arc;

use rules::Name;
use tree::Tree;

use crate::api::{BranchId, InodeId};
use crate::branch::Placed;
use crate::inode::Inode;
use crate::union::Union;

/// Something that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTheWay {
    /// Where it is in the union, without a slash in front; empty for the root.
    pub path: Vec<u8>,
    /// What it is used for.
    pub what: Usage,
    /// Its inode number, if it is open.
    pub ino: Option<u64>,
}

/// What something is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// A file is open.
    OpenFile,
    /// A directory is open.
    OpenDirectory,
    /// A process has its working directory there, or holds it otherwise.
    Held,
    /// A file is open for writing, and what is written does not pass the union.
    Written,
    /// It is the last branch.
    LastBranch,
}

impl InTheWay {
    pub(crate) fn last_branch() -> Self {
        Self {
            path: Vec::new(),
            what: Usage::LastBranch,
            ino: None,
        }
    }
}

impl fmt::Display for InTheWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = String::from_utf8_lossy(&self.path);
        match self.what {
            Usage::OpenFile | Usage::Written if path.is_empty() => {
                f.write_str("a file without a name is open")
            }
            Usage::OpenFile => write!(f, "{path:?} is open"),
            Usage::OpenDirectory => write!(f, "directory {path:?} is open"),
            Usage::Held => write!(f, "{path:?} is held by a process"),
            Usage::Written => write!(f, "{path:?} is open for writing"),
            Usage::LastBranch => f.write_str("it is the last branch"),
        }
    }
}

impl<T: Tree> Union<T> {
    /// Returns what is in use on a branch, as [`Union::remove_branch`] would find it.
    pub fn users_of_branch(&self, id: BranchId, in_use: &[Vec<Name>]) -> Vec<InTheWay> {
        let roots = self.roots();
        let root = roots.iter().find(|root| root.branch.id == id);
        root.map_or_else(Vec::new, |root| self.users_of(&root.branch, in_use))
    }

    pub(crate) fn users_of(&self, branch: &Arc<Placed<T>>, in_use: &[Vec<Name>]) -> Vec<InTheWay> {
        let mut found = Vec::new();
        for inode in self.inodes.awake() {
            let what = if let Ok(other) = inode.other() {
                let state = other.state.read();
                let open = state.opens > 0 && state.branch == branch.index();
                open.then_some(Usage::OpenFile)
            } else if let Ok(directory) = inode.dir() {
                let state = directory.state.read();
                // The root is open all the time, and goes on without.
                let open = state.opens > 0 && inode.id != InodeId::ROOT;
                (open && state.member(branch.index()).is_some()).then_some(Usage::OpenDirectory)
            } else {
                None
            };
            if let Some(what) = what {
                let path = path_of(&inode);
                let ino = Some(inode.number);
                found.push(InTheWay { path, what, ino });
            }
        }
        let held = in_use.iter().filter(|path| self.is_only_on(branch, path));
        found.extend(held.map(|path| InTheWay {
            path: joined(path.iter()),
            what: Usage::Held,
            ino: None,
        }));
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// Returns which files of a branch are open for writing in a way that bypasses the union.
    pub(crate) fn bypassing_writers_of(&self, branch: &Arc<Placed<T>>) -> Vec<InTheWay> {
        let writes = |inode: &Arc<Inode<T>>| {
            inode.other().is_ok_and(|other| {
                let state = other.state.read();
                state.bypassed && state.written && state.branch == branch.index()
            })
        };
        let inodes = self.inodes.awake();
        let found = inodes.iter().filter(|inode| writes(inode));
        found
            .map(|inode| InTheWay {
                path: path_of(inode),
                what: Usage::Written,
                ino: Some(inode.number),
            })
            .collect()
    }

    /// Returns whether what a path names would go with a branch.
    fn is_only_on(&self, branch: &Placed<T>, path: &[Name]) -> bool {
        let Ok(mut inode) = self.inode(InodeId::ROOT) else {
            return false;
        };
        for name in path {
            let Ok(Some((next, _))) = self.find(&inode, name) else {
                return false;
            };
            self.inodes.forget(&next, 1);
            inode = next;
        }
        match (inode.dir(), inode.other()) {
            (Ok(directory), _) => {
                let state = directory.state.read();
                state
                    .members
                    .iter()
                    .all(|member| member.branch.id == branch.id)
            }
            (_, Ok(other)) => other.state.read().branch == branch.index(),
            _ => false,
        }
    }
}

/// Returns where an object is in the union, as far as is known.
pub(crate) fn path_of<T: Tree>(inode: &Arc<Inode<T>>) -> Vec<u8> {
    let mut names = Vec::new();
    let mut above = inode.name();
    while let Some((parent, name)) = above {
        names.push(name);
        above = parent.name();
    }
    joined(names.iter().rev())
}

fn joined<'a>(names: impl Iterator<Item = &'a Name>) -> Vec<u8> {
    names.map(Name::as_bytes).collect::<Vec<_>>().join(&b'/')
}
