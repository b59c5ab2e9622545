//! Moving files between the writable branches of a pool, so that the union shows the same.
//!
//! A survey finds the files that show, with all their names, and the branches that could have them: nothing may hide them
//! there, and they may hide nothing. A file with several names moves with all of them or not at all. The copy is durable
//! before the original goes, and both are the same in between, whichever shows.

use std::collections::HashMap;

use rules::lookup::{Resolution, Seen, Sighting, dirs, resolve};
use rules::whiteout::{self, Meaning};
use rules::{Attr, BranchIndex, Creation, Errno, Kind, Name, Powers, XattrClasses};
use tree::{Object, RenameHow, SyncHow, Tree};

use super::copying::Spot;
use super::{Place, Stopped, at, free_temporary, is_opaque, keeping_time, refuse_deep, sorted};
use crate::copy::copy_attributes;

/// A branch of the pool.
pub struct Member<'a, T: Tree> {
    /// The tree.
    pub tree: &'a T,
    /// What it may be used for.
    pub powers: Powers,
}

/// A file that may move, with all its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The branch that has it.
    pub from: usize,
    /// Its names.
    pub names: Vec<Place>,
    /// The space it takes, in bytes.
    pub size: u64,
    /// The branches that could have it, topmost first.
    pub to: Vec<usize>,
}

/// Finds what may move. The branches are in their order, topmost first.
pub fn survey<T: Tree>(pool: &[Member<'_, T>]) -> Result<Vec<Group>, Stopped> {
    let place = Place::root();
    let mut survey = Survey {
        pool,
        found: HashMap::new(),
    };
    let mut merged = Merged {
        members: Vec::new(),
        free: pool.iter().map(|member| member.powers.writable).collect(),
    };
    for (index, member) in pool.iter().enumerate() {
        let dir = member.tree.root().map_err(at(&place))?;
        let ends = member.powers.whiteouts && is_opaque(member.tree, &dir).map_err(at(&place))?;
        merged.members.push((index, dir));
        if ends {
            merged.block_below(index);
            break;
        }
    }
    survey.directory(&place, &merged)?;
    let mut groups: Vec<_> = survey
        .found
        .into_values()
        .filter(|found| found.whole && found.group.names.len() as u64 == u64::from(found.links))
        .map(|found| found.group)
        .filter(|group| !group.to.is_empty())
        .collect();
    groups.sort_by(|a, b| (a.from, &a.names).cmp(&(b.from, &b.names)));
    Ok(groups)
}

/// A directory as the branches have it.
struct Merged<T: Tree> {
    /// What is merged, topmost first.
    members: Vec<(usize, T::Dir)>,
    /// The branches where something new in it would show.
    free: Vec<bool>,
}

impl<T: Tree> Merged<T> {
    fn block_below(&mut self, branch: usize) {
        self.free[branch + 1..].fill(false);
    }
}

/// A file as far as it was found.
struct Found {
    group: Group,
    links: u32,
    /// Whether all names that were found show.
    whole: bool,
}

struct Survey<'a, 'b, T: Tree> {
    pool: &'a [Member<'b, T>],
    found: HashMap<(u64, u64), Found>,
}

impl<T: Tree> Survey<'_, '_, T> {
    fn directory(&mut self, place: &Place, merged: &Merged<T>) -> Result<(), Stopped> {
        refuse_deep(place)?;
        for (name, sightings) in self.names(merged).map_err(at(place))? {
            let place = place.child(&name);
            match resolve(&sightings) {
                Resolution::Dir(_) => {
                    let inside = self.inside(merged, &name, &sightings).map_err(at(&place))?;
                    self.directory(&place, &inside)?;
                }
                Resolution::File(_) | Resolution::Absent | Resolution::Damaged => {}
            }
            self.files(&place, merged, &name, &sightings)
                .map_err(at(&place))?;
        }
        Ok(())
    }

    /// Reads what the members have under each name.
    fn names(&self, merged: &Merged<T>) -> Result<Vec<(Name, Vec<Sighting>)>, Errno> {
        let mut names: std::collections::BTreeMap<Name, Vec<Sighting>> = Default::default();
        for (index, dir) in &merged.members {
            let Member { tree, powers } = &self.pool[*index];
            let branch = BranchIndex(u16::try_from(*index).map_err(|_| Errno::INVAL)?);
            let mut see = |name: Name, what: Seen| {
                let seen = names.entry(name).or_default();
                match seen.last_mut() {
                    // An entry beside its whiteout: a read-only branch hides it, a writable one waits for a repair.
                    Some(last) if last.branch == branch => {
                        last.what = match powers.writable {
                            true => Seen::Damaged,
                            false => Seen::Whiteout,
                        };
                    }
                    _ => seen.push(Sighting { branch, what }),
                }
            };
            for (name, kind) in sorted(*tree, dir)? {
                match whiteout::meaning(name.as_bytes()) {
                    Meaning::Entry if kind == Kind::Dir => see(name, Seen::Dir),
                    Meaning::Entry => see(name, Seen::File),
                    Meaning::Whiteout(hidden) if powers.whiteouts => {
                        let what = match kind {
                            Kind::File => Seen::Whiteout,
                            _ => Seen::Damaged,
                        };
                        see(hidden, what);
                    }
                    Meaning::Temporary(left) if powers.writable => see(left.name, Seen::Damaged),
                    // Its parts below have other names: what moves there under this one would not show.
                    Meaning::Origin => return Ok(Vec::new()),
                    _ => {}
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    fn inside(
        &self,
        merged: &Merged<T>,
        name: &Name,
        sightings: &[Sighting],
    ) -> Result<Merged<T>, Errno> {
        let mut inside = Merged {
            members: Vec::new(),
            free: merged.free.clone(),
        };
        for sighting in sightings {
            let branch = sighting.branch.get();
            match sighting.what {
                Seen::Dir => {}
                Seen::File => inside.free[branch] = false,
                Seen::Whiteout | Seen::Damaged => {
                    inside.free[branch] = false;
                    inside.block_below(branch);
                }
            }
        }
        for branch in dirs(sightings) {
            let member = merged.members.iter().find(|(at, _)| *at == branch.get());
            let Some((index, dir)) = member else { continue };
            let Member { tree, powers } = &self.pool[*index];
            let dir = tree.open_dir(dir, name)?;
            let ends = powers.whiteouts && is_opaque(*tree, &dir)?;
            inside.members.push((*index, dir));
            if ends {
                inside.block_below(*index);
                break;
            }
        }
        Ok(inside)
    }

    /// Notes the regular files that the members have under a name; only the one that shows may move.
    fn files(
        &mut self,
        place: &Place,
        merged: &Merged<T>,
        name: &Name,
        sightings: &[Sighting],
    ) -> Result<(), Errno> {
        let shows = resolve(sightings).branch();
        for (index, dir) in &merged.members {
            let Member { tree, powers } = &self.pool[*index];
            let here = sightings.iter().find(|seen| seen.branch.get() == *index);
            if !powers.writable || here.is_none_or(|seen| seen.what != Seen::File) {
                continue;
            }
            let Some(attr) = tree.look(dir, name)?.filter(|attr| attr.kind == Kind::File) else {
                continue;
            };
            let shown = shows.is_some_and(|branch| branch.get() == *index);
            self.note(place, *index, &attr, shown, |to| {
                merged.free[to] && self.pool[to].powers.writable && {
                    let lower = sightings.iter().map(|seen| seen.branch.get());
                    !lower.into_iter().any(|seen| seen > *index && seen <= to)
                }
            });
        }
        Ok(())
    }

    fn note(
        &mut self,
        place: &Place,
        from: usize,
        attr: &Attr,
        shown: bool,
        fits: impl Fn(usize) -> bool,
    ) {
        let others = (0..self.pool.len()).filter(|to| *to != from && fits(*to));
        let others: Vec<_> = others.collect();
        let found = self
            .found
            .entry((attr.dev, attr.ino))
            .or_insert_with(|| Found {
                group: Group {
                    from,
                    names: Vec::new(),
                    size: attr.blocks.saturating_mul(512),
                    to: others.clone(),
                },
                links: attr.nlink,
                whole: true,
            });
        // One file may be in two branches of one filesystem.
        found.whole &= shown && found.group.from == from;
        found.group.to.retain(|to| others.contains(to));
        found.group.names.push(place.clone());
    }
}

/// Moves a file with all its names to another branch of the pool.
pub fn carry<T: Tree>(pool: &[Member<'_, T>], group: &Group, to: usize) -> Result<(), Stopped> {
    let (source, target) = (pool[group.from].tree, pool[to].tree);
    let mut first: Option<Place> = None;
    for place in &group.names {
        let fail = at(place);
        let Some((from, name)) = place.open_parent(source).map_err(&fail)? else {
            continue;
        };
        let dir = directory_on(pool, to, place)?;
        keeping_time(target, &dir, || {
            let temporary = free_temporary(target, &dir, &name)?;
            let built = match &first {
                Some(first) => link_to(target, first, &dir, &temporary),
                None => copy(source, &from, &name, target, &dir, &temporary),
            };
            let placed = built
                .and_then(|()| target.rename(&dir, &temporary, &dir, &name, RenameHow::NoReplace));
            if placed.is_err() {
                super::remove_file(target, &dir, &temporary)?;
            }
            placed?;
            target.sync_dir(&dir)
        })
        .map_err(&fail)?;
        first.get_or_insert_with(|| place.clone());
    }
    for place in &group.names {
        let fail = at(place);
        if let Some((from, name)) = place.open_parent(source).map_err(&fail)? {
            keeping_time(source, &from, || source.remove_file(&from, &name)).map_err(&fail)?;
        }
    }
    Ok(())
}

fn copy<T: Tree>(
    source: &T,
    from: &T::Dir,
    name: &Name,
    target: &T,
    dir: &T::Dir,
    temporary: &Name,
) -> Result<(), Errno> {
    let spot = Spot {
        tree: source,
        dir: from,
        name,
    };
    let original = source.attr(Object::Entry(from, name))?;
    let copy = Spot {
        tree: target,
        dir,
        name: temporary,
    };
    copy.become_copy_of(spot, &original)?;
    let file = target.open_file(dir, temporary, tree::Access::ReadQuietly)?;
    target.sync_file(&file, SyncHow::All)?;
    let now = source.attr(Object::Entry(from, name))?;
    if (now.ctime, now.size, now.mtime) == (original.ctime, original.size, original.mtime) {
        Ok(())
    } else {
        // Somebody is writing to it.
        Err(Errno::BUSY)
    }
}

fn link_to<T: Tree>(tree: &T, first: &Place, dir: &T::Dir, name: &Name) -> Result<(), Errno> {
    match first.open_parent(tree)? {
        Some((from, old)) => tree.link(&from, &old, dir, name),
        None => Err(Errno::INVAL),
    }
}

/// Opens the directory of a place on a branch, made like the one that shows where it is missing.
fn directory_on<T: Tree>(
    pool: &[Member<'_, T>],
    to: usize,
    place: &Place,
) -> Result<T::Dir, Stopped> {
    let tree = pool[to].tree;
    let names = place.names();
    let mut way = Place::root();
    let mut dir = tree.root().map_err(at(&way))?;
    for name in &names[..names.len().saturating_sub(1)] {
        way = way.child(name);
        let fail = at(&way);
        dir = match tree.open_dir(&dir, name) {
            Err(Errno::NOENT) => {
                make_dir(pool, to, &way, &dir, name).map_err(&fail)?;
                tree.open_dir(&dir, name)
            }
            opened => opened,
        }
        .map_err(&fail)?;
    }
    Ok(dir)
}

fn make_dir<T: Tree>(
    pool: &[Member<'_, T>],
    to: usize,
    way: &Place,
    dir: &T::Dir,
    name: &Name,
) -> Result<(), Errno> {
    let tree = pool[to].tree;
    let temporary = free_temporary(tree, dir, name)?;
    keeping_time(tree, dir, || {
        tree.make_dir(dir, &temporary, &Creation::exact(0o700))?;
        for member in pool {
            // The topmost that has it is the one that shows.
            let Ok(Some((above, last))) = way.open_parent(member.tree) else {
                continue;
            };
            let Ok(shown) = member.tree.open_dir(&above, &last) else {
                continue;
            };
            let attr = member.tree.attr(Object::Dir(&shown))?;
            let copy = Object::Entry(dir, &temporary);
            copy_attributes(
                member.tree,
                Object::Dir(&shown),
                &attr,
                tree,
                copy,
                XattrClasses::NONE,
            )?;
            break;
        }
        tree.rename(dir, &temporary, dir, name, RenameHow::NoReplace)?;
        tree.sync_dir(dir)
    })
}
