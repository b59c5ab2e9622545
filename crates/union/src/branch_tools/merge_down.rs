//! Bringing what a branch holds into the branch below it, so that the lower one alone shows what both showed.
//!
//! First the lower branch (the target) gets all that the upper one (the source) holds, which hides every step of that: a
//! file hides what has its name below, an opaque directory all that is in it. Then, once the target is on disk, what is
//! left in the source hides nothing but what is the same below, and can go. Whatever stops in between, the source over
//! the target shows what it showed, and doing it again ends the same.

mod emptying;
mod flatten;
mod held;

use std::collections::HashMap;

use rules::whiteout::{self, Meaning, Purpose};
use rules::{Attr, Creation, Errno, Kind, Name, XattrClasses};
use tree::{Object, RenameHow, Tree};

use super::copying::Spot;
use super::{
    Below, Place, Stopped, at, free_temporary, is_marked, is_opaque, leave, own, refuse_deep,
    remove_file, remove_tree, sorted,
};
use crate::copy::copy_attributes;
use flatten::Renamed;
use held::Entry;

/// What becomes of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It stays as it is, but for the records of renamed directories.
    Copy,
    /// All but the format's base objects goes.
    Move,
    /// As `Move`; the target gets all whiteouts, also those that hide nothing.
    MoveWithWhiteouts,
}

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Changes are made.
    Real,
    /// Changes are only told.
    Dry,
}

/// A change, told before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// The target gets an object, and loses what it has there.
    Put(Kind),
    /// The target has the same already.
    Keep,
    /// The target loses an entry with all that is in it.
    Remove,
    /// The target gets a whiteout.
    Hide,
    /// The target's directory is made opaque.
    Opaque,
    /// The target's part of a renamed directory moves to this name.
    Carry,
    /// A whiteout of the source ends there: the target counts as the lowest branch.
    Forget,
    /// The source is put right first: something is left over there.
    Tidy,
    /// The source loses an object.
    Drop,
}

/// What to merge, and how.
pub struct Merge<'a, T: Tree> {
    /// The upper branch.
    pub source: &'a T,
    /// The lower branch, whose whiteouts count.
    pub target: &'a T,
    /// What lies below the target.
    pub below: Below<'a, T>,
    /// What becomes of the source.
    pub ending: Ending,
    /// Whether anything is written.
    pub pass: Pass,
    /// Names in the root of the source that are left alone, such as a filesystem's own `lost+found`.
    pub spared: Vec<Name>,
}

/// Merges; each change is told with its place.
///
/// # Errors
///
/// What a branch says; before anything is changed, `EOPNOTSUPP` with the place of a renamed directory of which it cannot be
/// told for sure where its parts are.
pub fn merge_down<T: Tree>(
    merge: &Merge<'_, T>,
    tell: &mut dyn FnMut(&Place, Deed),
) -> Result<(), Stopped> {
    let root = Place::root();
    let fail = at(&root);
    let (from, to) = (
        merge.source.root().map_err(&fail)?,
        merge.target.root().map_err(&fail)?,
    );
    let mut work = Work {
        merge,
        tell,
        brought: HashMap::new(),
        renamed: Renamed::new(),
        quiet: false,
    };
    work.flatten(&from, &to)?;
    let opaque = is_opaque(merge.source, &from).map_err(&fail)?;
    let target_opaque = is_opaque(merge.target, &to).map_err(&fail)?;
    if opaque {
        work.clear_root(&to, target_opaque).map_err(&fail)?;
    }
    if opaque || target_opaque {
        work.bring(&root, &from, Some(&to), &Below::Covered)?;
    } else {
        work.bring(&root, &from, Some(&to), &merge.below)?;
    }
    if merge.pass == Pass::Real {
        merge.target.sync_all(&to).map_err(&fail)?;
    }
    if merge.ending != Ending::Copy {
        work.drop_root(&from)?;
        if merge.pass == Pass::Real {
            merge.source.sync_all(&from).map_err(&fail)?;
        }
    }
    Ok(())
}

struct Work<'a, 'b, T: Tree> {
    merge: &'a Merge<'b, T>,
    tell: &'a mut dyn FnMut(&Place, Deed),
    /// Where the target has what has several names in the source, by device and inode number there.
    brought: HashMap<(u64, u64), Place>,
    /// Directories of the source that have records, and where the target has its part of them.
    renamed: Renamed,
    /// Whether what is found in the middle of something is not told.
    quiet: bool,
}

impl<T: Tree> Work<'_, '_, T> {
    fn is_real(&self) -> bool {
        self.merge.pass == Pass::Real
    }

    fn spares(&self, place: &Place, name: &Name) -> bool {
        place.names().is_empty() && self.merge.spared.contains(name)
    }

    /// Brings what a directory of the source holds into the target's, which a dry pass may only imagine.
    fn bring(
        &mut self,
        place: &Place,
        from: &T::Dir,
        to: Option<&T::Dir>,
        below: &Below<'_, T>,
    ) -> Result<(), Stopped> {
        refuse_deep(place)?;
        if let Some(to) = to {
            self.clear_target(to).map_err(at(place))?;
        }
        let held = self.held(place, from)?;
        for hidden in &held.whiteouts {
            let place = place.child(hidden);
            self.bring_whiteout(&place, hidden, to, below)
                .map_err(at(&place))?;
        }
        for entry in &held.entries {
            let place = place.child(&entry.name);
            if entry.attr.kind == Kind::Dir {
                self.bring_dir(&place, entry, from, to, below)?;
            } else {
                self.bring_file(&place, entry, from, to)
                    .map_err(at(&place))?;
            }
        }
        if let (Some(to), true) = (to, self.is_real()) {
            let (source, target) = (self.merge.source, self.merge.target);
            let attr = source.attr(Object::Dir(from)).map_err(at(place))?;
            copy_attributes(
                source,
                Object::Dir(from),
                &attr,
                target,
                Object::Dir(to),
                XattrClasses::NONE,
            )
            .map_err(at(place))?;
        }
        Ok(())
    }

    /// Removes what an interrupted run was building in a directory of the target.
    fn clear_target(&self, to: &T::Dir) -> Result<(), Errno> {
        if !self.is_real() {
            return Ok(());
        }
        for (name, _) in sorted(self.merge.target, to)? {
            if let Meaning::Temporary(temporary) = whiteout::meaning(name.as_bytes())
                && temporary.purpose == Purpose::Building
            {
                remove_tree(self.merge.target, to, &name)?;
            }
        }
        Ok(())
    }

    fn bring_whiteout(
        &mut self,
        place: &Place,
        hidden: &Name,
        to: Option<&T::Dir>,
        below: &Below<'_, T>,
    ) -> Result<(), Errno> {
        let target = self.merge.target;
        let carried =
            self.merge.ending == Ending::MoveWithWhiteouts && !matches!(below, Below::Covered);
        let there = match to {
            Some(to) => target.look(to, hidden)?,
            None => None,
        };
        let mark = whiteout::of(hidden);
        let marked = match to {
            Some(to) => is_marked(target, to, &mark)?,
            None => false,
        };
        if !marked && (carried || below.shows(hidden)?) {
            (self.tell)(place, Deed::Hide);
            if let (Some(to), true) = (to, self.is_real()) {
                leave(target, to, &mark)?;
            }
        } else if !marked && matches!(below, Below::Nothing) {
            (self.tell)(place, Deed::Forget);
        }
        if let (Some(to), Some(there)) = (to, there) {
            if !self.is_real() && self.is_part(&there) {
                // It is to be moved away first.
                return Ok(());
            }
            (self.tell)(place, Deed::Remove);
            if self.is_real() {
                remove_shown(target, to, hidden)?;
            }
        }
        Ok(())
    }

    fn bring_file(
        &mut self,
        place: &Place,
        entry: &Entry,
        from: &T::Dir,
        to: Option<&T::Dir>,
    ) -> Result<(), Errno> {
        let (source, target) = (self.merge.source, self.merge.target);
        let spot = Spot {
            tree: source,
            dir: from,
            name: &entry.stored,
        };
        let Some(to) = to else {
            (self.tell)(place, Deed::Put(entry.attr.kind));
            return Ok(());
        };
        let there = target.look(to, &entry.name)?;
        let key = (entry.attr.dev, entry.attr.ino);
        let here = Spot {
            tree: target,
            dir: to,
            name: &entry.name,
        };
        let done = match &there {
            Some(there) => self.is_brought(entry, spot, here, there)?,
            None => false,
        };
        (self.tell)(
            place,
            if done {
                Deed::Keep
            } else {
                Deed::Put(entry.attr.kind)
            },
        );
        if !self.is_real() {
            return Ok(());
        }
        if !done {
            let temporary = free_temporary(target, to, &entry.name)?;
            self.build(spot, &entry.attr, to, &temporary)?;
            if there.is_some_and(|there| there.kind == Kind::Dir) {
                remove_shown(target, to, &entry.name)?;
            }
            target.rename(to, &temporary, to, &entry.name, RenameHow::Replace)?;
        }
        if entry.attr.nlink > 1 {
            self.brought.entry(key).or_insert_with(|| place.clone());
        }
        remove_mark(target, to, &whiteout::of(&entry.name))
    }

    /// Returns whether the target has an object of the source already: as an earlier name of it was brought, or by a run that
    /// was interrupted.
    fn is_brought(
        &self,
        entry: &Entry,
        spot: Spot<'_, T>,
        here: Spot<'_, T>,
        there: &Attr,
    ) -> Result<bool, Errno> {
        let same = |a: &Attr, b: &Attr| (a.dev, a.ino) == (b.dev, b.ino);
        if same(there, &entry.attr) {
            // A copy must not change together with the original.
            return Ok(self.merge.ending != Ending::Copy);
        }
        if let Some(first) = self.brought.get(&(entry.attr.dev, entry.attr.ino)) {
            let Some((dir, name)) = first.open_parent(self.merge.target)? else {
                return Ok(false);
            };
            let first = self.merge.target.look(&dir, &name)?;
            return Ok(first.is_some_and(|first| same(&first, there)));
        }
        spot.equals(&entry.attr, here, there)
    }

    /// Builds an object in the target: by a link where it is to leave the source anyway, or else as a copy.
    fn build(
        &self,
        spot: Spot<'_, T>,
        attr: &Attr,
        to: &T::Dir,
        temporary: &Name,
    ) -> Result<(), Errno> {
        let target = self.merge.target;
        if let Some(first) = self.brought.get(&(attr.dev, attr.ino))
            && let Some((dir, name)) = first.open_parent(target)?
        {
            return target.link(&dir, &name, to, temporary);
        }
        if self.merge.ending != Ending::Copy {
            match target.link(spot.dir, spot.name, to, temporary) {
                Err(Errno::XDEV | Errno::PERM | Errno::ACCES | Errno::OPNOTSUPP | Errno::MLINK) => {
                }
                linked => return linked,
            }
        }
        let copy = Spot {
            tree: target,
            dir: to,
            name: temporary,
        };
        copy.become_copy_of(spot, attr)
    }

    fn bring_dir(
        &mut self,
        place: &Place,
        entry: &Entry,
        from: &T::Dir,
        to: Option<&T::Dir>,
        below: &Below<'_, T>,
    ) -> Result<(), Stopped> {
        let fail = at(place);
        let (source, target) = (self.merge.source, self.merge.target);
        let dir = source.open_dir(from, &entry.stored).map_err(&fail)?;
        if let Some(part) = self.part_at(place).map_err(&fail)? {
            // A dry pass finds it where it still is.
            return self.bring(place, &dir, Some(&part), below);
        }
        let opaque = is_opaque(source, &dir).map_err(&fail)?;
        let found = match to {
            Some(to) => Found::look(target, to, &entry.name).map_err(&fail)?,
            None => Found::default(),
        };
        let new = found.kind != Some(Kind::Dir) || opaque;
        let mark = new
            && self
                .needs_mark(&entry.name, opaque, &found, below)
                .map_err(&fail)?;
        if new {
            (self.tell)(place, Deed::Put(Kind::Dir));
        }
        if mark {
            (self.tell)(place, Deed::Opaque);
        }
        if let (Some(to), true) = (to, self.is_real()) {
            let made = if new {
                self.make_dir(to, &entry.name, &found, mark)
            } else {
                remove_mark(target, to, &whiteout::of(&entry.name))
            };
            made.map_err(&fail)?;
        }
        let inner = match to {
            Some(to) if self.is_real() || !new => Some(target.open_dir(to, &entry.name)),
            _ => None,
        };
        let inner = inner.transpose().map_err(&fail)?;
        let inside = match &inner {
            _ if opaque || mark => Below::Covered,
            Some(inner) => below.inside_of(&entry.name, target, inner).map_err(&fail)?,
            None => below.inside(&entry.name).map_err(&fail)?,
        };
        self.bring(place, &dir, inner.as_ref(), &inside)
    }

    /// Decides whether a directory that the target does not have yet, or anew, has to be opaque.
    fn needs_mark(
        &self,
        name: &Name,
        opaque: bool,
        found: &Found,
        below: &Below<'_, T>,
    ) -> Result<bool, Errno> {
        let hidden = found.kind.is_none() && found.whiteout;
        match below {
            Below::Covered => Ok(false),
            Below::Layers(_) | Below::Unknown if opaque || hidden => below.merges(name),
            Below::Layers(_) | Below::Unknown => Ok(false),
            // The target's own marks are there for a reason that is not known.
            Below::Nothing => {
                let carried = self.merge.ending == Ending::MoveWithWhiteouts && opaque;
                Ok(carried || hidden || (opaque && (found.whiteout || found.opaque)))
            }
        }
    }

    /// Makes a directory in the place of whatever the target has, which the source hides or, if it is no directory, leaves
    /// out when directories merge.
    fn make_dir(&self, to: &T::Dir, name: &Name, found: &Found, mark: bool) -> Result<(), Errno> {
        let target = self.merge.target;
        let temporary = free_temporary(target, to, name)?;
        target.make_dir(to, &temporary, &Creation::exact(0o700))?;
        if mark {
            let inside = target.open_dir(to, &temporary)?;
            leave(target, &inside, &own(whiteout::OPAQUE))?;
        }
        if found.kind.is_some() {
            // Before the entry beside it goes: alone it would hide what is merged from below.
            remove_mark(target, to, &whiteout::of(name))?;
            remove_shown(target, to, name)?;
        }
        target.rename(to, &temporary, to, name, RenameHow::Replace)?;
        remove_mark(target, to, &whiteout::of(name))
    }

    /// Empties the target's root, which an opaque root of the source hides.
    fn clear_root(&mut self, to: &T::Dir, marked: bool) -> Result<(), Errno> {
        let target = self.merge.target;
        let root = Place::root();
        let lowest = matches!(self.merge.below, Below::Nothing)
            && self.merge.ending != Ending::MoveWithWhiteouts;
        if !marked && !lowest {
            (self.tell)(&root, Deed::Opaque);
            if self.is_real() {
                leave(target, to, &own(whiteout::OPAQUE))?;
            }
        }
        for (name, _) in sorted(target, to)? {
            match whiteout::meaning(name.as_bytes()) {
                Meaning::Entry => (self.tell)(&root.child(&name), Deed::Remove),
                Meaning::Whiteout(_) => {}
                _ => continue,
            }
            if self.is_real() {
                remove_tree(target, to, &name)?;
            }
        }
        Ok(())
    }
}

/// What the target has under a name.
#[derive(Default)]
struct Found {
    kind: Option<Kind>,
    whiteout: bool,
    /// Whether it is an opaque directory.
    opaque: bool,
}

impl Found {
    fn look<T: Tree>(tree: &T, dir: &T::Dir, name: &Name) -> Result<Self, Errno> {
        let kind = tree.look(dir, name)?.map(|attr| attr.kind);
        let whiteout = is_marked(tree, dir, &whiteout::of(name))?;
        let opaque = match kind {
            Some(Kind::Dir) => is_opaque(tree, &tree.open_dir(dir, name)?)?,
            _ => false,
        };
        Ok(Self {
            kind,
            whiteout,
            opaque,
        })
    }
}

/// Removes an entry that something above hides: a directory leaves in one step, and is taken apart afterwards.
fn remove_shown<T: Tree>(tree: &T, dir: &T::Dir, name: &Name) -> Result<(), Errno> {
    match tree.look(dir, name)? {
        None => Ok(()),
        Some(attr) if attr.kind != Kind::Dir => remove_file(tree, dir, name),
        Some(_) => {
            let away = free_temporary(tree, dir, name)?;
            tree.rename(dir, name, dir, &away, RenameHow::Replace)?;
            remove_tree(tree, dir, &away)
        }
    }
}

/// Removes a whiteout; the name may be too long to have one.
fn remove_mark<T: Tree>(tree: &T, dir: &T::Dir, mark: &Name) -> Result<(), Errno> {
    match remove_file(tree, dir, mark) {
        Err(Errno::NAMETOOLONG) => Ok(()),
        removed => removed,
    }
}
