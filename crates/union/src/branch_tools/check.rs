//! Finding what does not belong in a writable branch, and putting it right.
//!
//! What an interrupted operation left is judged as the union judges it when it reads the directory: an entry beside
//! its whiteout counts, what was being built goes, what was moved away gets its name back if that is free. Each repair
//! can be interrupted and done again.

use std::collections::{BTreeMap, BTreeSet};

use rules::whiteout::{self, Meaning, Purpose};
use rules::{Errno, Kind, Name};
use tree::{RenameHow, Tree};

use super::{
    Below, Place, Stopped, at, free_temporary, is_marked, leave, own, refuse_deep, remove_file,
    remove_tree, sorted,
};

/// What is wrong with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A whiteout beside the entry that it names.
    Pair,
    /// A whiteout or opaque mark that is no regular file.
    NotRegular(Kind),
    /// Something that was being built.
    Unfinished,
    /// Something that was moved away; whether its name is taken.
    MovedAway {
        /// Whether an entry or a whiteout has the name.
        taken: bool,
    },
    /// A whiteout of a name that no branch below shows.
    HidesNothing,
    /// A name in the store of pseudo-links, which no later mount looks at.
    PseudoLink,
    /// A copy of a file whose directory is gone.
    Orphan,
    /// A base object of another kind than the format says.
    WrongKind(Kind),
}

/// Something that does not belong in a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub fault: Fault,
}

/// Who is told of problems and decides what becomes of them.
pub trait Inspector {
    /// Returns whether to repair a problem.
    fn repairs(&mut self, problem: &Problem) -> bool;
    /// Hears how a repair ended.
    fn repaired(&mut self, problem: &Problem, done: Result<(), Errno>);
}

/// Looks at every directory of a branch; `below` tells whether whiteouts hide something, if that is known.
pub fn check<T: Tree>(
    branch: &T,
    below: Option<&Below<'_, T>>,
    inspector: &mut dyn Inspector,
) -> Result<(), Stopped> {
    let root = Place::root();
    let dir = branch.root().map_err(at(&root))?;
    let mut check = Check { branch, inspector };
    check.base(&dir)?;
    check.directory(&root, &dir, below)
}

struct Check<'a, T: Tree> {
    branch: &'a T,
    inspector: &'a mut dyn Inspector,
}

/// The names of one directory by what they mean.
#[derive(Default)]
struct Names {
    entries: BTreeMap<Name, Kind>,
    whiteouts: BTreeMap<Name, Kind>,
    temporaries: Vec<(Name, whiteout::Temporary)>,
    opaque: Option<Kind>,
}

impl Names {
    fn read<T: Tree>(tree: &T, dir: &T::Dir) -> Result<Self, Errno> {
        let mut names = Self::default();
        for (name, kind) in sorted(tree, dir)? {
            match whiteout::meaning(name.as_bytes()) {
                Meaning::Entry => drop(names.entries.insert(name, kind)),
                Meaning::Whiteout(hidden) => drop(names.whiteouts.insert(hidden, kind)),
                Meaning::Temporary(temporary) => names.temporaries.push((name, temporary)),
                Meaning::Opaque => names.opaque = Some(kind),
                Meaning::Origin | Meaning::Own => {}
            }
        }
        Ok(names)
    }
}

impl<T: Tree> Check<'_, T> {
    /// Tells of a problem; returns whether it is gone now.
    fn problem(
        &mut self,
        place: Place,
        fault: Fault,
        repair: impl FnOnce(&T) -> Result<(), Errno>,
    ) -> bool {
        let problem = Problem { place, fault };
        if !self.inspector.repairs(&problem) {
            return false;
        }
        let done = repair(self.branch);
        self.inspector.repaired(&problem, done);
        done.is_ok()
    }

    /// Looks at the format's own objects in the root.
    fn base(&mut self, root: &T::Dir) -> Result<(), Stopped> {
        let top = Place::root();
        for (constant, right) in [
            (whiteout::BASE, Kind::File),
            (whiteout::PSEUDO_LINKS, Kind::Dir),
            (whiteout::ORPHANS, Kind::Dir),
        ] {
            let name = own(constant);
            let place = top.child(&name);
            let attr = self.branch.look(root, &name).map_err(at(&place))?;
            let Some(attr) = attr else { continue };
            if attr.kind != right {
                // The next mount makes it anew.
                self.problem(place, Fault::WrongKind(attr.kind), |tree| {
                    remove_one(tree, root, &name, attr.kind)
                });
            } else if attr.kind == Kind::Dir {
                let fault = if constant == whiteout::ORPHANS {
                    Fault::Orphan
                } else {
                    Fault::PseudoLink
                };
                self.store(&place, root, &name, fault)?;
            }
        }
        Ok(())
    }

    /// Looks at a directory that is empty between two mounts.
    fn store(
        &mut self,
        place: &Place,
        root: &T::Dir,
        name: &Name,
        fault: Fault,
    ) -> Result<(), Stopped> {
        let dir = self.branch.open_dir(root, name).map_err(at(place))?;
        for (left, _) in sorted(self.branch, &dir).map_err(at(place))? {
            self.problem(place.child(&left), fault, |tree| {
                remove_tree(tree, &dir, &left)
            });
        }
        Ok(())
    }

    fn directory(
        &mut self,
        place: &Place,
        dir: &T::Dir,
        below: Option<&Below<'_, T>>,
    ) -> Result<(), Stopped> {
        refuse_deep(place)?;
        let mut names = Names::read(self.branch, dir).map_err(at(place))?;
        self.temporaries(place, dir, &mut names);
        let opaque = self.opaque_mark(place, dir, names.opaque);
        let below = match below {
            Some(_) if opaque => Some(&Below::Covered),
            below => below,
        };
        self.whiteouts(place, dir, &names, below)?;
        let dirs = names.entries.iter().filter(|(_, kind)| **kind == Kind::Dir);
        for (name, _) in dirs {
            let place = place.child(name);
            let inside = self.branch.open_dir(dir, name).map_err(at(&place))?;
            let below = below.map(|below| below.inside(name)).transpose();
            let below = below.map_err(at(&place))?;
            self.directory(&place, &inside, below.as_ref())?;
        }
        Ok(())
    }

    fn temporaries(&mut self, place: &Place, dir: &T::Dir, names: &mut Names) {
        for (name, temporary) in std::mem::take(&mut names.temporaries) {
            let place = place.child(&name);
            let back = temporary.name;
            if temporary.purpose == Purpose::Building {
                self.problem(place, Fault::Unfinished, |tree| {
                    remove_tree(tree, dir, &name)
                });
                continue;
            }
            let taken = names.entries.contains_key(&back) || names.whiteouts.contains_key(&back);
            let gone = self.problem(place, Fault::MovedAway { taken }, |tree| {
                if taken {
                    remove_tree(tree, dir, &name)
                } else {
                    tree.rename(dir, &name, dir, &back, RenameHow::NoReplace)
                }
            });
            if gone
                && !taken
                && let Ok(Some(attr)) = self.branch.look(dir, &back)
            {
                names.entries.insert(back, attr.kind);
            }
        }
    }

    /// Looks at a directory's opaque mark; returns whether the directory is opaque.
    fn opaque_mark(&mut self, place: &Place, dir: &T::Dir, mark: Option<Kind>) -> bool {
        match mark {
            None => false,
            Some(Kind::File) => true,
            Some(kind) => {
                let name = own(whiteout::OPAQUE);
                self.problem(place.child(&name), Fault::NotRegular(kind), |tree| {
                    make_regular(tree, dir, &name, kind)
                })
            }
        }
    }

    fn whiteouts(
        &mut self,
        place: &Place,
        dir: &T::Dir,
        names: &Names,
        below: Option<&Below<'_, T>>,
    ) -> Result<(), Stopped> {
        let known: BTreeSet<_> = names.entries.keys().collect();
        for (hidden, kind) in &names.whiteouts {
            let mark = whiteout::of(hidden);
            let place = place.child(&mark);
            if known.contains(hidden) {
                self.problem(place, Fault::Pair, |tree| {
                    remove_one(tree, dir, &mark, *kind)
                });
                continue;
            }
            if *kind != Kind::File {
                let regular = self.problem(place.clone(), Fault::NotRegular(*kind), |tree| {
                    make_regular(tree, dir, &mark, *kind)
                });
                if !regular {
                    continue;
                }
            }
            if let Some(below) = below
                && !below.shows(hidden).map_err(at(&place))?
            {
                self.problem(place, Fault::HidesNothing, |tree| {
                    remove_file(tree, dir, &mark)
                });
            }
        }
        Ok(())
    }
}

/// Removes one object; a directory only if it is empty, for it holds what somebody may miss.
fn remove_one<T: Tree>(tree: &T, dir: &T::Dir, name: &Name, kind: Kind) -> Result<(), Errno> {
    if kind == Kind::Dir {
        tree.remove_dir(dir, name)
    } else {
        remove_file(tree, dir, name)
    }
}

/// Puts a proper mark in the place of one that is none: who made it meant to hide something.
fn make_regular<T: Tree>(tree: &T, dir: &T::Dir, mark: &Name, kind: Kind) -> Result<(), Errno> {
    if kind == Kind::Dir {
        tree.remove_dir(dir, mark)?;
        return leave(tree, dir, mark);
    }
    let temporary = free_temporary(tree, dir, &own(b"mark"))?;
    leave(tree, dir, &temporary)?;
    tree.rename(dir, &temporary, dir, mark, RenameHow::Replace)?;
    // A mark that was a link to the same base already.
    remove_file(tree, dir, &temporary)?;
    is_marked(tree, dir, mark)?.then_some(()).ok_or(Errno::IO)
}
