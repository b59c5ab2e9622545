//! Taking away what the source holds, once the target has the same.

use rules::Kind;
use rules::whiteout::{self, Meaning};
use tree::Tree;

use super::super::{Place, Stopped, at, is_opaque, own, remove_file, remove_tree, sorted};
use super::{Deed, Work};

impl<T: Tree> Work<'_, '_, T> {
    /// Empties the source, but for the format's base objects.
    pub(super) fn drop_root(&mut self, from: &T::Dir) -> Result<(), Stopped> {
        let source = self.merge.source;
        let root = Place::root();
        for constant in [whiteout::PSEUDO_LINKS, whiteout::ORPHANS] {
            let name = own(constant);
            let place = root.child(&name);
            let attr = source.look(from, &name).map_err(at(&place))?;
            if attr.is_some_and(|attr| attr.kind == Kind::Dir) && self.is_real() {
                let dir = source.open_dir(from, &name).map_err(at(&place))?;
                for (left, _) in sorted(source, &dir).map_err(at(&place))? {
                    remove_tree(source, &dir, &left).map_err(at(&place))?;
                }
            }
        }
        if self.is_real() {
            self.unmark_all(&root, from)?;
            source.sync_all(from).map_err(at(&root))?;
        }
        self.drop_all(&root, from)
    }

    /// Removes all opaque marks before anything else goes. Below is the same now: what goes would be missed while a mark
    /// hides that, and a run that begins anew would bring an opaque directory as a whole, apart from names that went.
    fn unmark_all(&mut self, place: &Place, from: &T::Dir) -> Result<(), Stopped> {
        let source = self.merge.source;
        if is_opaque(source, from).map_err(at(place))? {
            self.drop_whiteouts(place, from)?;
        }
        remove_file(source, from, &own(whiteout::OPAQUE)).map_err(at(place))?;
        for (name, kind) in sorted(source, from).map_err(at(place))? {
            let shown = !whiteout::is_reserved(name.as_bytes()) && !self.spares(place, &name);
            if shown && kind == Kind::Dir {
                let place = place.child(&name);
                let inside = source.open_dir(from, &name).map_err(at(&place))?;
                self.unmark_all(&place, &inside)?;
            }
        }
        Ok(())
    }

    /// Removes the whiteouts of an opaque directory, which hide nothing there: without the mark, a later run would bring them.
    fn drop_whiteouts(&mut self, place: &Place, from: &T::Dir) -> Result<(), Stopped> {
        let source = self.merge.source;
        for (name, kind) in sorted(source, from).map_err(at(place))? {
            let child = place.child(&name);
            match (whiteout::meaning(name.as_bytes()), kind) {
                (Meaning::Whiteout(_), Kind::File) => {
                    remove_file(source, from, &name).map_err(at(&child))?;
                }
                (Meaning::Entry, Kind::Dir) if !self.spares(place, &name) => {
                    let inside = source.open_dir(from, &name).map_err(at(&child))?;
                    self.drop_whiteouts(&child, &inside)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what a directory of the source holds.
    fn drop_all(&mut self, place: &Place, from: &T::Dir) -> Result<(), Stopped> {
        let source = self.merge.source;
        let top = place.names().is_empty();
        for (name, kind) in sorted(source, from).map_err(at(place))? {
            let base = top && whiteout::meaning(name.as_bytes()) == Meaning::Own;
            if base || self.spares(place, &name) {
                continue;
            }
            let place = place.child(&name);
            if !whiteout::is_reserved(name.as_bytes()) {
                (self.tell)(&place, Deed::Drop);
            }
            if kind == Kind::Dir {
                let inside = source.open_dir(from, &name).map_err(at(&place))?;
                self.drop_all(&place, &inside)?;
                if self.is_real() {
                    source.remove_dir(from, &name).map_err(at(&place))?;
                }
            } else if self.is_real() {
                remove_file(source, from, &name).map_err(at(&place))?;
            }
        }
        Ok(())
    }
}
