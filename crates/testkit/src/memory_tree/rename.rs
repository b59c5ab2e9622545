//! Renaming, in the order of checks that `renameat2` has.

use rules::{Errno, Name};
use tree::RenameHow;

use super::disk::Table;
use super::inode::Ino;

impl Table {
    /// Renames `name` in `dir` to `new` in `to`.
    pub(crate) fn rename(
        &mut self,
        (dir, name): (Ino, &Name),
        (to, new): (Ino, &Name),
        how: RenameHow,
    ) -> Result<(), Errno> {
        let source = self.lookup(dir, name)?;
        let target = match self.lookup(to, new) {
            Ok(_) if how == RenameHow::NoReplace => return Err(Errno::EXIST),
            Ok(target) => Some(target),
            Err(errno) => {
                if how != RenameHow::Exchange {
                    self.vacancy(to, new)?;
                    None
                } else {
                    return Err(errno);
                }
            }
        };
        if self.is_within(to, source) {
            return Err(Errno::INVAL);
        }
        if target.is_some_and(|target| self.is_within(dir, target)) {
            let exchange = how == RenameHow::Exchange;
            return Err(if exchange {
                Errno::INVAL
            } else {
                Errno::NOTEMPTY
            });
        }
        match target {
            // Two names of one object: nothing happens, and both names stay.
            Some(target) if target == source => Ok(()),
            Some(_) if how == RenameHow::Exchange => {
                self.exchange((dir, name), (to, new));
                Ok(())
            }
            Some(target) => {
                self.replace((dir, name), (to, new), source, target)?;
                Ok(())
            }
            None => {
                self.move_name((dir, name), (to, new));
                Ok(())
            }
        }
    }

    fn replace(
        &mut self,
        from: (Ino, &Name),
        (to, new): (Ino, &Name),
        source: Ino,
        target: Ino,
    ) -> Result<(), Errno> {
        if self.inode(source).is_dir() {
            self.expect_empty_dir(target)?;
            self.take_name(to, new);
            self.bury(target);
        } else if self.inode(target).is_dir() {
            return Err(Errno::ISDIR);
        } else {
            self.take_name(to, new);
            self.touch(target);
        }
        self.move_name(from, (to, new));
        Ok(())
    }

    fn move_name(&mut self, (dir, name): (Ino, &Name), (to, new): (Ino, &Name)) {
        let ino = self.take_name(dir, name);
        self.insert_name(to, new, ino);
        self.touch(ino);
    }

    fn exchange(&mut self, (dir, name): (Ino, &Name), (to, new): (Ino, &Name)) {
        let source = self.take_name(dir, name);
        let target = self.take_name(to, new);
        self.insert_name(dir, name, target);
        self.insert_name(to, new, source);
        self.touch(source);
        self.touch(target);
    }
}
