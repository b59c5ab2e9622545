//! Directories of the source that were renamed while branches below held part of them (`dirren`).
//!
//! Before anything else is brought, the target's part of each moves to where the directory is: the same contents, by one
//! rename. A record that has both places leads to the part before and after that. Then what has one name in both branches
//! merges without a record; those about branches further below move on to the target's part.

use std::collections::{BTreeMap, HashSet};

use rules::renamed::{self, Form, Origin, TreeId};
use rules::whiteout::{self, Meaning};
use rules::{Attr, Creation, Errno, Kind, Name};
use tree::{Access, Object, RenameHow, Tree};

use super::super::{
    Below, Place, Stopped, at, free_temporary, is_opaque, keeping_time, leave, own, remove_file,
    sorted,
};
use super::{Deed, Ending, Found, Work, remove_mark, remove_shown};
use crate::renamed::{origins, records, tree_id};

/// What a name in the target's root begins with that has a part for a while whose way is not free yet. The source hides it.
const STAGE: &str = "plywood-moving.";

/// What the records of a directory say.
pub(super) struct Told {
    /// The target's part.
    pub(super) part: Option<Part>,
    /// What is said about branches below the target, or about none that is known.
    others: Vec<(TreeId, Origin)>,
}

/// The target's part of a renamed directory.
pub(super) struct Part {
    /// Where it is now; never empty.
    pub(super) path: Vec<Name>,
    ino: u64,
}

/// The renamed directories of the source.
pub(super) type Renamed = BTreeMap<Place, Told>;

/// How records name the branches.
struct Known {
    target: TreeId,
    below: Vec<TreeId>,
    lowest: bool,
}

/// A directory of the source on the way to a renamed one, or one itself.
struct One<'a, T: Tree> {
    place: &'a Place,
    name: &'a Name,
    dir: &'a T::Dir,
    opaque: bool,
    /// The target's directory that merges with the one above it.
    to: &'a T::Dir,
    /// What that has under the name.
    found: Found,
}

impl<T: Tree> Work<'_, '_, T> {
    /// Moves the target's parts of renamed directories to where these are, so that no record of the source is needed.
    /// Refuses what the records do not tell for sure, before anything is changed.
    pub(super) fn flatten(&mut self, from: &T::Dir, to: &T::Dir) -> Result<(), Stopped> {
        let merge = self.merge;
        let root = Place::root();
        let known = Known {
            target: tree_id(merge.target, to).map_err(at(&root))?,
            below: merge.below.ids().map_err(at(&root))?,
            lowest: matches!(merge.below, Below::Nothing),
        };
        let opaque = is_opaque(merge.source, from).map_err(at(&root))?;
        self.quiet = !self.is_real();
        let read = self.read_records(&root, from, (!opaque).then(Vec::new), &known);
        self.quiet = false;
        read?;
        let mut seen = HashSet::new();
        for (place, told) in &self.renamed {
            let again = told
                .part
                .as_ref()
                .is_some_and(|part| !seen.insert(part.ino));
            if opaque || again {
                return Err(at(place)(Errno::OPNOTSUPP));
            }
        }
        for (place, told) in &self.renamed {
            if told
                .part
                .as_ref()
                .is_some_and(|part| part.path != place.names())
            {
                (self.tell)(place, Deed::Carry);
            }
        }
        if !self.is_real() {
            return Ok(());
        }
        let target_opaque = is_opaque(merge.target, to).map_err(at(&root))?;
        if target_opaque {
            self.settle(&root, from, to, &Below::Covered)?;
        } else {
            self.settle(&root, from, to, &merge.below)?;
        }
        self.tidy(from, to).map_err(at(&root))
    }

    /// Returns whether an object of the target is its part of a renamed directory.
    pub(super) fn is_part(&self, attr: &Attr) -> bool {
        let mut parts = self.renamed.values().filter_map(|told| told.part.as_ref());
        attr.kind == Kind::Dir && parts.any(|part| part.ino == attr.ino)
    }

    /// Opens the target's part of a directory, where a dry pass leaves it.
    pub(super) fn part_at(&self, place: &Place) -> Result<Option<T::Dir>, Errno> {
        match self.renamed.get(place).and_then(|told| told.part.as_ref()) {
            Some(part) if !self.is_real() => open_path(self.merge.target, &part.path),
            _ => Ok(None),
        }
    }

    /// Reads the records in a directory of the source. `merged` is where the target has the directory that merges with it.
    fn read_records(
        &mut self,
        place: &Place,
        from: &T::Dir,
        merged: Option<Vec<Name>>,
        known: &Known,
    ) -> Result<(), Stopped> {
        super::refuse_deep(place)?;
        let (source, target) = (self.merge.source, self.merge.target);
        for entry in self.held(place, from)?.entries {
            if entry.attr.kind != Kind::Dir {
                continue;
            }
            let place = place.child(&entry.name);
            let fail = at(&place);
            let dir = source.open_dir(from, &entry.stored).map_err(&fail)?;
            let named = merged.as_ref().map(|path| {
                let mut path = path.clone();
                path.push(entry.name.clone());
                path
            });
            let told = self.told(&dir, merged.as_deref(), known).map_err(&fail)?;
            let inside = match &told {
                Some(Told {
                    part: Some(part), ..
                }) => Some(part.path.clone()),
                _ if is_opaque(source, &dir).map_err(&fail)? => None,
                _ => match named {
                    Some(path) if ino_of(target, &path).map_err(&fail)?.is_some() => Some(path),
                    _ => None,
                },
            };
            if let Some(told) = told {
                self.renamed.insert(place.clone(), told);
            }
            self.read_records(&place, &dir, inside, known)?;
        }
        Ok(())
    }

    /// Returns what the records of a directory say; `EOPNOTSUPP` where it takes a guess.
    fn told(
        &self,
        dir: &T::Dir,
        merged: Option<&[Name]>,
        known: &Known,
    ) -> Result<Option<Told>, Errno> {
        let (source, target) = (self.merge.source, self.merge.target);
        if records(source, dir)?.is_empty() {
            return Ok(None);
        }
        let mut told = Told {
            part: None,
            others: Vec::new(),
        };
        for (id, origin) in origins(source, dir)? {
            if id != known.target {
                told.others.push((id, origin));
                continue;
            }
            let mut ways = Vec::new();
            match &origin.place {
                renamed::Place::Beside(name) => {
                    ways.extend(merged.map(|path| [path, std::slice::from_ref(name)].concat()));
                }
                renamed::Place::Path(path) => ways.push(path.clone()),
                renamed::Place::Moving(path, to) => ways.extend([to.clone(), path.clone()]),
            }
            for path in ways {
                if told.part.is_none() && ino_of(target, &path)? == Some(origin.ino) {
                    let ino = origin.ino;
                    told.part = Some(Part { path, ino });
                }
            }
            if told.part.is_none() {
                return Err(Errno::OPNOTSUPP);
            }
        }
        let guessed = |(id, _): &(TreeId, Origin)| !known.below.contains(id);
        if told.part.is_none() && told.others.iter().any(guessed) {
            return Err(Errno::OPNOTSUPP);
        }
        if known.lowest && self.merge.ending != Ending::MoveWithWhiteouts {
            // As with whiteouts: nothing is below.
            told.others.clear();
        }
        Ok(Some(told))
    }

    /// Brings renamed directories of a directory to one name in both branches; what is above them is so already.
    fn settle(
        &mut self,
        place: &Place,
        from: &T::Dir,
        to: &T::Dir,
        below: &Below<'_, T>,
    ) -> Result<(), Stopped> {
        let (source, target) = (self.merge.source, self.merge.target);
        let depth = place.names().len();
        let inside = self.renamed.keys().filter(|other| {
            other.names().len() > depth && other.names().starts_with(place.names())
        });
        let mut names: Vec<_> = inside.map(|other| other.names()[depth].clone()).collect();
        names.dedup();
        for name in &names {
            let place = place.child(name);
            let fail = at(&place);
            let dir = source.open_dir(from, name).map_err(&fail)?;
            let one = One {
                place: &place,
                name,
                opaque: is_opaque(source, &dir).map_err(&fail)?,
                found: Found::look(target, to, name).map_err(&fail)?,
                dir: &dir,
                to,
            };
            self.settle_one(&one, below).map_err(&fail)?;
            let inner = target.open_dir(to, name).map_err(&fail)?;
            let inside = below.inside_of(name, target, &inner).map_err(&fail)?;
            self.settle(&place, &dir, &inner, &inside)?;
        }
        Ok(())
    }

    fn settle_one(&mut self, one: &One<'_, T>, below: &Below<'_, T>) -> Result<(), Errno> {
        let target = self.merge.target;
        let told = self.renamed.get(one.place);
        let part = told.and_then(|told| told.part.as_ref());
        let part = part.map(|part| part.path.clone());
        let others = told.map_or_else(Vec::new, |told| told.others.clone());
        match part {
            Some(path) if path != one.place.names() => {
                self.move_part(one, path, &others, below)?;
            }
            Some(_) => {}
            None if one.opaque || one.found.kind != Some(Kind::Dir) => {
                let mark = self.needs_mark(one.name, one.opaque, &one.found, below)?;
                if one.found.kind.is_some() {
                    self.evacuate(one.place.names())?;
                }
                self.make_dir(one.to, one.name, &one.found, mark)?;
                self.note_others(&target.open_dir(one.to, one.name)?, &others)?;
            }
            None => {
                let inside = target.open_dir(one.to, one.name)?;
                keeping_time(target, &inside, || self.note_others(&inside, &others))?;
            }
        }
        self.forget(one.dir)
    }

    /// Moves the target's part of a directory, which is at a path, to the directory's own name.
    fn move_part(
        &mut self,
        one: &One<'_, T>,
        path: Vec<Name>,
        others: &[(TreeId, Origin)],
        below: &Below<'_, T>,
    ) -> Result<(), Errno> {
        let (source, target) = (self.merge.source, self.merge.target);
        let One {
            place,
            name,
            dir,
            to,
            ..
        } = *one;
        let found = &one.found;
        // What the target has there now may hide what has the name further below.
        let cuts = found.kind.map_or(found.whiteout, |kind| kind != Kind::Dir);
        let mark = (one.opaque || cuts) && self.part_needs_mark(name, found, below)?;
        let inside = open_path(target, &path)?.ok_or(Errno::NOENT)?;
        keeping_time(target, &inside, || {
            self.note_others(&inside, others)?;
            match mark {
                true => leave(target, &inside, &own(whiteout::OPAQUE)),
                false => Ok(()),
            }
        })?;
        if cuts && !one.opaque {
            // Until the part is there, and hides the same.
            keeping_time(source, dir, || leave(source, dir, &own(whiteout::OPAQUE)))?;
        }
        self.evacuate(place.names())?;
        if found.kind.is_some() {
            remove_mark(target, to, &whiteout::of(name))?;
            remove_shown(target, to, name)?;
        }
        let part = self.renamed.get(place).and_then(|told| told.part.as_ref());
        let now = part.map_or(path, |part| part.path.clone());
        self.relocate(&now, place.names())?;
        remove_mark(target, to, &whiteout::of(name))
    }

    /// Takes from a directory of the source the mark and the records, which the target does not need any more.
    fn forget(&self, dir: &T::Dir) -> Result<(), Errno> {
        let (source, target) = (self.merge.source, self.merge.target);
        let had = records(source, dir)?;
        let opaque = is_opaque(source, dir)?;
        if had.is_empty() && !opaque {
            return Ok(());
        }
        target.sync_all(&target.root()?)?;
        keeping_time(source, dir, || {
            remove_file(source, dir, &own(whiteout::OPAQUE))?;
            for (form, id) in &had {
                remove_file(source, dir, &renamed::record_name(*form, id))?;
            }
            Ok(())
        })
    }

    fn part_needs_mark(
        &self,
        name: &Name,
        found: &Found,
        below: &Below<'_, T>,
    ) -> Result<bool, Errno> {
        match below {
            Below::Covered => Ok(false),
            Below::Nothing => Ok(found.whiteout || self.merge.ending == Ending::MoveWithWhiteouts),
            Below::Layers(_) | Below::Unknown => below.merges(name),
        }
    }

    /// Lets a directory of the target tell what that of the source tells about branches further below.
    fn note_others(&self, dir: &T::Dir, others: &[(TreeId, Origin)]) -> Result<(), Errno> {
        let target = self.merge.target;
        if others.is_empty() {
            return Ok(());
        }
        list_renamed(target, target.attr(Object::Dir(dir))?.ino)?;
        for (id, origin) in others {
            put_record(target, dir, id, origin)?;
            let other = match origin.place.form() {
                Form::Beside => Form::Path,
                Form::Path => Form::Beside,
            };
            remove_file(target, dir, &renamed::record_name(other, id))?;
        }
        Ok(())
    }

    /// Moves parts that are at a path of the target, or below it, to names in its root which the source hides.
    fn evacuate(&mut self, path: &[Name]) -> Result<(), Errno> {
        loop {
            let parts = self.renamed.values().filter_map(|told| told.part.as_ref());
            let Some(next) = parts
                .filter(|part| part.path.starts_with(path))
                .map(|part| part.path.clone())
                .min_by_key(Vec::len)
            else {
                return Ok(());
            };
            let stage = self.free_stage()?;
            self.relocate(&next, &[stage])?;
        }
    }

    /// Returns a name in the root that nothing has, and lets the source hide it.
    fn free_stage(&self) -> Result<Name, Errno> {
        let (source, target) = (self.merge.source, self.merge.target);
        let (from, to) = (source.root()?, target.root()?);
        for number in 0..u32::MAX {
            let name =
                Name::new(format!("{STAGE}{number}").as_bytes()).map_err(|_| Errno::INVAL)?;
            let taken = source.look(&from, &name)?.is_some()
                || target.look(&to, &name)?.is_some()
                || self.merge.below.shows(&name)?;
            if !taken {
                leave(source, &from, &whiteout::of(&name))?;
                return Ok(name);
            }
        }
        Err(Errno::EXIST)
    }

    /// Removes the list, and the whiteouts of names that parts had for a while, also for a run that was interrupted.
    fn tidy(&self, from: &T::Dir, to: &T::Dir) -> Result<(), Errno> {
        let (source, target) = (self.merge.source, self.merge.target);
        for (name, _) in sorted(source, from)? {
            if name.as_bytes() == renamed::LIST {
                remove_file(source, from, &name)?;
            }
            if let Meaning::Whiteout(hidden) = whiteout::meaning(name.as_bytes())
                && hidden.as_bytes().starts_with(STAGE.as_bytes())
                && target.look(to, &hidden)?.is_none()
                && !self.merge.below.shows(&hidden)?
            {
                remove_file(source, from, &name)?;
            }
        }
        Ok(())
    }

    /// Renames a directory of the target, in which parts are. Their records lead to the old path and to the new one.
    fn relocate(&mut self, path: &[Name], to: &[Name]) -> Result<(), Errno> {
        let (source, target) = (self.merge.source, self.merge.target);
        let id = tree_id(target, &target.root()?)?;
        for (place, told) in &mut self.renamed {
            let Some(part) = &mut told.part else { continue };
            let Some(rest) = part.path.strip_prefix(path) else {
                continue;
            };
            let next = [to, rest].concat();
            let origin = Origin {
                place: renamed::Place::Moving(part.path.clone(), next.clone()),
                ino: part.ino,
            };
            let dir = open_path(source, place.names())?.ok_or(Errno::NOENT)?;
            keeping_time(source, &dir, || put_record(source, &dir, &id, &origin))?;
            part.path = next;
        }
        let root = source.root()?;
        source.sync_all(&root)?;
        let (Some((name, way)), Some((new, goal))) = (path.split_last(), to.split_last()) else {
            return Err(Errno::INVAL);
        };
        let away = open_path(target, way)?.ok_or(Errno::NOENT)?;
        let goal = open_path(target, goal)?.ok_or(Errno::NOENT)?;
        target.rename(&away, name, &goal, new, RenameHow::NoReplace)?;
        target.sync_all(&target.root()?)
    }
}

/// Opens a directory by its path; `None` where there is none.
fn open_path<T: Tree>(tree: &T, path: &[Name]) -> Result<Option<T::Dir>, Errno> {
    let mut dir = tree.root()?;
    for name in path {
        dir = match tree.open_dir(&dir, name) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            opened => opened?,
        };
    }
    Ok(Some(dir))
}

fn ino_of<T: Tree>(tree: &T, path: &[Name]) -> Result<Option<u64>, Errno> {
    match open_path(tree, path)? {
        Some(dir) => Ok(Some(tree.attr(Object::Dir(&dir))?.ino)),
        None => Ok(None),
    }
}

/// Writes a record, in the place of another about the same tree.
fn put_record<T: Tree>(tree: &T, dir: &T::Dir, id: &TreeId, origin: &Origin) -> Result<(), Errno> {
    let bytes = origin.encode().ok_or(Errno::NAMETOOLONG)?;
    let temporary = free_temporary(tree, dir, &own(b"record"))?;
    let file = tree.create_file(dir, &temporary, &Creation::exact(renamed::PERM))?;
    let mut written = 0;
    while written < bytes.len() {
        match tree.write(&file, &bytes[written..], written as u64)? {
            0 => return Err(Errno::IO),
            count => written += count,
        }
    }
    let name = renamed::record_name(origin.place.form(), id);
    tree.rename(dir, &temporary, dir, &name, RenameHow::Replace)
}

/// Adds a directory to a branch's list of renamed ones, as AUFS needs it.
fn list_renamed<T: Tree>(tree: &T, ino: u64) -> Result<(), Errno> {
    let (root, name) = (tree.root()?, own(renamed::LIST));
    let file = match tree.open_file(&root, &name, Access::ReadWrite) {
        Err(Errno::NOENT) => tree.create_file(&root, &name, &Creation::exact(renamed::PERM))?,
        file => file?,
    };
    let size = tree.attr(Object::File(&file))?.size & !7;
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| Errno::FBIG)?];
    let count = tree.read(&file, &mut bytes, 0)?;
    if renamed::decode_list(&bytes[..count]).any(|listed| listed == ino) {
        return Ok(());
    }
    match tree.write(&file, &renamed::encode_list([ino]), size)? {
        8 => Ok(()),
        _ => Err(Errno::IO),
    }
}
