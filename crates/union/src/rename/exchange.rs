//! Two names that trade what they mean.

use tree::{Object, RenameHow, Tree};

use super::{Ends, Held};
use crate::error::Result;
use crate::union::Union;

impl<T: Tree> Union<T> {
    pub(super) fn exchange(
        &self,
        ends: &Ends<'_, T>,
        moving: &Held<'_, T>,
        replaced: &Held<'_, T>,
    ) -> Result<()> {
        let Ends {
            target,
            from,
            to,
            source,
            destination,
        } = ends;
        let (tree, root) = (from.tree(), self.root_of(*target));
        let (from_handle, to_handle) = (from.open()?, to.open()?);
        let both = [
            (&moving.inode, source, destination, &from_handle),
            (&replaced.inode, destination, source, &to_handle),
        ];
        let mut noted = Vec::new();
        for (inode, side, other, _) in both {
            noted.push(self.notes(inode, *target, &side.end(), &other.end())?);
        }
        let exchanged = (|| {
            for ((inode, side, other, handle), notes) in both.into_iter().zip(&noted) {
                let is_dir = inode.dir().is_ok();
                if let Some(notes) = notes {
                    self.put_notes(inode, notes)?;
                } else if self.plan(side, other, *target, is_dir).mark_opaque {
                    let dir = tree.open_dir(handle, side.name)?;
                    self.dialect.mark_opaque(&root, &dir)?;
                }
            }
            let how = RenameHow::Exchange;
            Ok(tree.rename(&from_handle, source.name, &to_handle, destination.name, how)?)
        })();
        if let Err(error) = exchanged {
            for ((inode, ..), notes) in both.into_iter().zip(&noted) {
                if let Some(notes) = notes {
                    self.take_notes_back(inode, notes);
                }
            }
            return Err(error);
        }
        let moved = tree.attr(Object::Entry(&*to_handle, destination.name))?;
        let other = tree.attr(Object::Entry(&*from_handle, source.name))?;
        let is_noted = |which: usize| noted[which].is_some();
        self.at_new_place(&moving.inode, source, destination, to, is_noted(0));
        self.at_new_place(&replaced.inode, destination, source, from, is_noted(1));
        self.note_entry(destination.parent, *target, destination.name, &moved)?;
        self.note_entry(source.parent, *target, source.name, &other)?;
        for ((inode, ..), notes) in both.into_iter().zip(&noted) {
            if let Some(notes) = notes {
                self.tidy_notes(inode, notes);
            }
        }
        Ok(())
    }
}
