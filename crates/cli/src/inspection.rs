//! What the branches of a running union hold under a path.
//!
//! The branches are read directly, component by component from their roots, by the
//! rules of the union: nothing is asked of the server, so that a broken one can be examined too.

mod renamed;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rules::{Attr, Errno, Kind, Name, whiteout};
use sys::{BranchDir, BranchTree};
use tree::{Object, Tree};

use crate::mounting::image;
use crate::run_state::{BranchState, RunState, path_of};

/// A branch that was opened for looking.
struct Branch {
    tree: BranchTree,
    path: PathBuf,
    mode: String,
}

/// One thing that a branch holds under the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The branch, topmost first, from 0.
    pub(crate) branch: usize,
    /// The branch's mode.
    pub(crate) mode: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it is to the union.
    pub(crate) role: Role,
    /// What it is on the branch; `None` for a whiteout.
    pub(crate) kind: Option<Kind>,
    /// A directory that ends the merging.
    pub(crate) opaque: bool,
}

/// What something on a branch is to the union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is what the union shows; of a directory the one whose attributes count.
    Serves,
    /// A directory whose entries are shown too.
    Merged,
    /// It hides the name on the branches below.
    Whiteout,
    /// It is named like a whiteout and is none: the union answers `EIO`.
    Damaged,
    /// The union does not show it.
    Hidden(Cause),
}

/// Why something is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The branch that hides it.
    pub(crate) branch: usize,
    /// What hides it there.
    pub(crate) by: HiddenBy,
    /// Where that is.
    pub(crate) path: PathBuf,
}

/// What hides things on lower branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HiddenBy {
    /// Something of the same name.
    Entry,
    /// A whiteout.
    Whiteout,
    /// A directory with an opaque mark.
    Opaque,
    /// A directory of the same name, with which only directories merge.
    OtherKind,
}

/// A directory on the way, on one branch.
struct Standing {
    branch: usize,
    dir: BranchDir,
    path: PathBuf,
    hidden: Option<Cause>,
}

/// A branch could not be read.
#[derive(Debug, thiserror::Error)]
#[error("branch {branch}: {path:?}: {errno}")]
pub(crate) struct Unreadable {
    branch: usize,
    path: PathBuf,
    errno: Errno,
}

/// Looks a way up, from the root of the union.
pub(crate) fn look(server: &RunState, way: &[Name]) -> Result<Vec<Finding>, Unreadable> {
    let branches = server.branches.iter().enumerate();
    let branches = branches
        .map(|(index, branch)| open(server.pid, index, branch))
        .collect::<Result<Vec<_>, _>>()?;
    let view = View {
        branches,
        overlay: server.dialect == "overlay",
        user_marks: server.user_marks,
        renames: server.options.split(',').any(|word| word == "dirren"),
    };
    view.walk(way)
}

/// The server's own descriptor leads to the branch even where the mount hides its path.
fn open(pid: u32, index: usize, branch: &BranchState) -> Result<Branch, Unreadable> {
    let path = path_of(&branch.path);
    let descriptor = PathBuf::from(format!("/proc/{pid}/fd/{}", branch.descriptor));
    let tree = BranchTree::open(&descriptor)
        .or_else(|_| BranchTree::open(&path))
        .or_else(|errno| image::read(&descriptor).ok_or(errno));
    match tree {
        Ok(tree) => Ok(Branch {
            tree,
            path,
            mode: branch.mode.clone(),
        }),
        Err(errno) => Err(Unreadable {
            branch: index,
            path,
            errno,
        }),
    }
}

struct View {
    branches: Vec<Branch>,
    overlay: bool,
    user_marks: bool,
    /// The records of renamed directories are followed.
    renames: bool,
}

impl View {
    fn walk(&self, way: &[Name]) -> Result<Vec<Finding>, Unreadable> {
        let mut level = self.roots()?;
        for name in way {
            level = self.step(level.standing, name)?;
        }
        Ok(level.findings)
    }

    fn roots(&self) -> Result<Level, Unreadable> {
        let mut level = Level::default();
        for (index, branch) in self.branches.iter().enumerate() {
            let path = branch.path.clone();
            let dir = branch.tree.root().map_err(|errno| Unreadable {
                branch: index,
                path: path.clone(),
                errno,
            })?;
            let standing = Standing {
                branch: index,
                dir,
                path,
                hidden: None,
            };
            self.directory(&mut level, standing)?;
        }
        Ok(level)
    }

    fn step(&self, above: Vec<Standing>, name: &Name) -> Result<Level, Unreadable> {
        let mut level = Level::default();
        let mut told = BTreeMap::new();
        for index in 0..self.branches.len() {
            let parent = above.iter().find(|parent| parent.branch == index);
            let before = level.standing.len();
            match (told.remove(&index), parent) {
                (Some(part), _) => self.look_at_part(&mut level, index, parent, name, part)?,
                (None, Some(parent)) => self.look_in(&mut level, parent, name)?,
                (None, None) => {}
            }
            if let Some(found) = level.standing.get(before) {
                self.ask_records(&mut told, &above, found)?;
            }
        }
        Ok(level)
    }

    /// Notes what one branch has. A whiteout beside an entry gives way to it where changes are
    /// made, for it is left over there, and hides it elsewhere.
    fn look_in(&self, level: &mut Level, parent: &Standing, name: &Name) -> Result<(), Unreadable> {
        let branch = &self.branches[parent.branch];
        let path = parent.path.join(name.as_os_str());
        let at = |errno| Unreadable {
            branch: parent.branch,
            path: path.clone(),
            errno,
        };
        let there = branch.tree.look(&parent.dir, name).map_err(at)?;
        let is_native = there.is_some_and(|attr| self.is_native_whiteout(&attr));
        let entry = there.filter(|_| !is_native);
        let mark_name = whiteout::of(name);
        let mark = branch.tree.look(&parent.dir, &mark_name).map_err(at)?;
        let gives_way = branch.mode.starts_with("rw") && entry.is_some();
        if is_native {
            self.whiteout(level, parent, path.clone(), Role::Whiteout);
        } else if let Some(mark) = mark.filter(|_| self.counts(branch) && !gives_way) {
            let role = match mark.kind {
                Kind::File => Role::Whiteout,
                _ => Role::Damaged,
            };
            self.whiteout(level, parent, parent.path.join(mark_name.as_os_str()), role);
        }
        let hidden = parent.hidden.clone().or_else(|| level.cut.clone());
        match entry {
            None => Ok(()),
            Some(attr) if attr.kind == Kind::Dir => {
                let dir = branch.tree.open_dir(&parent.dir, name).map_err(at)?;
                let found = Standing {
                    branch: parent.branch,
                    dir,
                    path,
                    hidden,
                };
                self.directory(level, found)
            }
            Some(attr) => {
                self.other(level, parent.branch, path, hidden, attr.kind);
                Ok(())
            }
        }
    }

    fn whiteout(&self, level: &mut Level, parent: &Standing, path: PathBuf, role: Role) {
        // A second one, or one in a directory that does not count, changes nothing.
        if parent.hidden.is_some() || level.cut.is_some() {
            return;
        }
        level.cut = Some(Cause {
            branch: parent.branch,
            by: HiddenBy::Whiteout,
            path: path.clone(),
        });
        let finding = self.finding(parent.branch, path, role, None);
        level.findings.push(finding);
    }

    fn directory(&self, level: &mut Level, mut found: Standing) -> Result<(), Unreadable> {
        let branch = &self.branches[found.branch];
        let opaque = self
            .is_opaque(branch, &found.dir)
            .map_err(|errno| Unreadable {
                branch: found.branch,
                path: found.path.clone(),
                errno,
            })?;
        let hidden = found.hidden.clone().or_else(|| level.cut.clone());
        let role = match &hidden {
            Some(cause) => Role::Hidden(cause.clone()),
            None if level.serves => Role::Merged,
            None => Role::Serves,
        };
        if hidden.is_none() {
            level.serves = true;
            level.top = level.top.clone().or_else(|| {
                Some(Cause {
                    branch: found.branch,
                    by: HiddenBy::OtherKind,
                    path: found.path.clone(),
                })
            });
            if opaque {
                level.cut = Some(Cause {
                    branch: found.branch,
                    by: HiddenBy::Opaque,
                    path: found.path.clone(),
                });
            }
        }
        let mut finding = self.finding(found.branch, found.path.clone(), role, Some(Kind::Dir));
        finding.opaque = opaque;
        level.findings.push(finding);
        found.hidden = hidden;
        level.standing.push(found);
        Ok(())
    }

    fn other(
        &self,
        level: &mut Level,
        branch: usize,
        path: PathBuf,
        hidden: Option<Cause>,
        kind: Kind,
    ) {
        // Below a directory it is passed over.
        let role = match hidden.or_else(|| level.top.clone()) {
            Some(cause) => Role::Hidden(cause),
            None => {
                level.serves = true;
                level.cut = Some(Cause {
                    branch,
                    by: HiddenBy::Entry,
                    path: path.clone(),
                });
                Role::Serves
            }
        };
        let finding = self.finding(branch, path, role, Some(kind));
        level.findings.push(finding);
    }

    fn finding(&self, branch: usize, path: PathBuf, role: Role, kind: Option<Kind>) -> Finding {
        Finding {
            branch,
            mode: self.branches[branch].mode.clone(),
            path,
            role,
            kind,
            opaque: false,
        }
    }

    /// Tells whether whiteouts and marks of a branch count.
    fn counts(&self, branch: &Branch) -> bool {
        let has_wh = branch.mode.split('+').any(|attribute| attribute == "wh");
        self.overlay || has_wh || branch.mode.starts_with("rw")
    }

    fn is_native_whiteout(&self, attr: &Attr) -> bool {
        self.overlay && attr.kind == Kind::CharDevice && attr.rdev == 0
    }

    fn is_opaque(&self, branch: &Branch, dir: &BranchDir) -> Result<bool, Errno> {
        if !self.counts(branch) {
            return Ok(false);
        }
        if self.overlay {
            for attribute in OPAQUE_ATTRIBUTES {
                if self.user_marks && attribute.starts_with(b"trusted.") {
                    continue;
                }
                match branch.tree.xattr(Object::Dir(dir), attribute) {
                    Ok(value) if value == b"y" => return Ok(true),
                    Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        let mark = Name::new(whiteout::OPAQUE).map_err(|_| Errno::INVAL)?;
        let mark = branch.tree.look(dir, &mark)?;
        Ok(mark.is_some_and(|mark| mark.kind == Kind::File))
    }
}

/// By these, overlay's directories say that they hide what is below.
const OPAQUE_ATTRIBUTES: [&[u8]; 3] = [
    b"trusted.overlay.opaque",
    b"user.overlay.opaque",
    b"user.fuseoverlayfs.opaque",
];

/// What all branches have under one name, as far as they have been asked.
#[derive(Default)]
struct Level {
    findings: Vec<Finding>,
    standing: Vec<Standing>,
    /// Something is shown.
    serves: bool,
    /// The directory that is shown.
    top: Option<Cause>,
    /// From here on nothing counts.
    cut: Option<Cause>,
}
