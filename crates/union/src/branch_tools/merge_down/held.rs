//! What the source holds, read as the union reads a branch that an operation left in the middle.

use rules::whiteout::{self, Meaning, Purpose};
use rules::{Attr, Errno, Kind, Name};
use tree::{RenameHow, Tree};

use super::super::{Place, Stopped, at, remove_file, remove_tree, sorted};
use super::{Deed, Work};

/// An entry of the source.
pub(super) struct Entry {
    pub(super) name: Name,
    /// The name on disk, which differs where something that was moved away is only to be put back.
    pub(super) stored: Name,
    pub(super) attr: Attr,
}

/// What a directory of the source holds.
pub(super) struct Held {
    pub(super) entries: Vec<Entry>,
    pub(super) whiteouts: Vec<Name>,
}

impl<T: Tree> Work<'_, '_, T> {
    /// Reads a directory of the source as the union does, which puts right what is left over there.
    pub(super) fn held(&mut self, place: &Place, from: &T::Dir) -> Result<Held, Stopped> {
        let source = self.merge.source;
        let mut entries = Vec::new();
        let mut whiteouts = Vec::new();
        let mut temporaries = Vec::new();
        for (name, kind) in sorted(source, from).map_err(at(place))? {
            match whiteout::meaning(name.as_bytes()) {
                Meaning::Entry if self.spares(place, &name) => {}
                Meaning::Entry => entries.push((name.clone(), name)),
                Meaning::Whiteout(hidden) if kind == Kind::File => whiteouts.push(hidden),
                Meaning::Whiteout(_) => return Err(at(&place.child(&name))(Errno::IO)),
                Meaning::Temporary(temporary) => temporaries.push((name, temporary)),
                Meaning::Opaque | Meaning::Origin | Meaning::Own => {}
            }
        }
        for (name, temporary) in temporaries {
            self.tell_tidying(&place.child(&name));
            let back = temporary.name;
            let taken =
                entries.iter().any(|(known, _)| *known == back) || whiteouts.contains(&back);
            let returns = temporary.purpose == Purpose::MovedAway && !taken;
            if self.is_real() {
                let tidied = if returns {
                    source.rename(from, &name, from, &back, RenameHow::NoReplace)
                } else {
                    remove_tree(source, from, &name)
                };
                tidied.map_err(at(&place.child(&name)))?;
            }
            if returns {
                let stored = if self.is_real() { back.clone() } else { name };
                entries.push((back, stored));
            }
        }
        let mut held = Held {
            entries: Vec::new(),
            whiteouts: Vec::new(),
        };
        for hidden in whiteouts {
            if !entries.iter().any(|(name, _)| *name == hidden) {
                held.whiteouts.push(hidden);
                continue;
            }
            // An entry beside its whiteout counts.
            let mark = whiteout::of(&hidden);
            self.tell_tidying(&place.child(&mark));
            if self.is_real() {
                remove_file(source, from, &mark).map_err(at(&place.child(&mark)))?;
            }
        }
        for (name, stored) in entries {
            let attr = source
                .look(from, &stored)
                .map_err(at(&place.child(&name)))?;
            held.entries
                .extend(attr.map(|attr| Entry { name, stored, attr }));
        }
        Ok(held)
    }

    fn tell_tidying(&mut self, place: &Place) {
        if !self.quiet {
            (self.tell)(place, Deed::Tidy);
        }
    }
}
