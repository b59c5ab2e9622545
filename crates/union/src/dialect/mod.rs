//! How whiteouts and opaque directories stand on disk.
//!
//! Both dialects share one way to make several changes one: a branch that has an entry *and* a whiteout
//! `.wh.NAME` beside it shows the entry. So a whiteout can be put in place before the rename or removal that
//! makes it count, and be taken away after the creation that makes it void; whatever stops in
//! between, the union shows the state before or after.

mod aufs;
pub(crate) mod overlay;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use rules::lookup::Seen;
use rules::whiteout::{self, Meaning, Purpose, Temporary};
use rules::{Creation, Errno, Kind, Name, Powers};
use tree::{DirEntry, Node, Object, RenameHow, Tree};

use crate::branch::BranchDir;
use crate::error::{Refusal, Result};
use crate::settings::DialectKind;

/// What reading a directory of a branch shows.
pub(crate) enum Found {
    /// An entry that users see.
    Entry(DirEntry),
    /// A whiteout, or something damaged in its place.
    Whiteout(Name, Seen),
    /// Left behind by an operation that did not finish.
    Temporary(Name, Temporary),
    /// A record of a renamed directory.
    Origin,
}

/// A format on disk.
pub(crate) struct Dialect {
    kind: DialectKind,
    next_temporary: AtomicU16,
}

impl Dialect {
    pub(crate) fn new(kind: DialectKind) -> Self {
        Self {
            kind,
            next_temporary: AtomicU16::new(0),
        }
    }

    /// Checks a name that a user says.
    pub(crate) fn check(&self, name: &[u8]) -> Result<Name> {
        if whiteout::is_reserved(name) {
            return Err(Refusal::Reserved.into());
        }
        if name.len() > self.name_max() {
            return Err(Refusal::NameTooLong.into());
        }
        Ok(Name::new(name)?)
    }

    /// Returns the length of the longest name in bytes.
    pub(crate) fn name_max(&self) -> usize {
        match self.kind {
            DialectKind::Aufs => whiteout::NAME_MAX,
            DialectKind::Overlay(_) => 255,
        }
    }

    /// Returns whether whiteouts of every branch count, also of those mounted without `+wh`.
    pub(crate) fn honours_all(&self) -> bool {
        matches!(self.kind, DialectKind::Overlay(_))
    }

    /// Returns what a branch may be used for in this format.
    pub(crate) fn effective(&self, powers: Powers) -> Powers {
        Powers {
            whiteouts: powers.whiteouts || powers.writable || self.honours_all(),
            ..powers
        }
    }

    /// Removes the format's own files from the root of a branch that stops being writable, as far as nothing is in them.
    pub(crate) fn retire<T: Tree>(&self, root: &Arc<BranchDir<T>>) {
        let retired = match self.kind {
            DialectKind::Aufs => aufs::retire(root),
            DialectKind::Overlay(_) => Ok(()),
        };
        if let Err(error) = retired {
            tracing::warn!(branch = root.index().0, %error, "some of AUFS's own files stay in the branch");
        }
    }

    /// Puts the format's own files into the root of a writable branch.
    pub(crate) fn prepare<T: Tree>(
        &self,
        root: &Arc<BranchDir<T>>,
        pseudo_links: bool,
    ) -> Result<()> {
        match self.kind {
            DialectKind::Aufs => aufs::prepare(root, pseudo_links),
            DialectKind::Overlay(_) => Ok(()),
        }
    }

    /// Reads a directory of a branch. Names that are the format's own are left out.
    pub(crate) fn read<T: Tree>(&self, dir: &Arc<BranchDir<T>>) -> Result<Vec<Found>> {
        let handle = dir.open()?;
        let mut found = Vec::new();
        for mut entry in dir.tree().list(&handle)? {
            match whiteout::meaning(entry.name.as_bytes()) {
                Meaning::Entry => {
                    if entry.kind.is_none() {
                        entry.kind = dir.tree().look(&handle, &entry.name)?.map(|attr| attr.kind);
                    }
                    if self.is_native_whiteout(dir.tree(), &handle, &entry)? {
                        found.push(Found::Whiteout(entry.name, Seen::Whiteout));
                    } else {
                        found.push(Found::Entry(entry));
                    }
                }
                Meaning::Whiteout(name) => {
                    let regular = matches!(entry.kind, None | Some(Kind::File));
                    let what = if regular {
                        Seen::Whiteout
                    } else {
                        Seen::Damaged
                    };
                    found.push(Found::Whiteout(name, what));
                }
                Meaning::Temporary(temporary) => {
                    found.push(Found::Temporary(entry.name, temporary))
                }
                Meaning::Origin => found.push(Found::Origin),
                Meaning::Opaque | Meaning::Own => {}
            }
        }
        Ok(found)
    }

    fn is_native_whiteout<T: Tree>(
        &self,
        tree: &T,
        dir: &T::Dir,
        entry: &DirEntry,
    ) -> Result<bool> {
        if entry.kind != Some(Kind::CharDevice) || self.kind == DialectKind::Aufs {
            return Ok(false);
        }
        overlay::is_whiteout(tree, dir, &entry.name)
    }

    /// Returns whether a directory hides what lies below it.
    pub(crate) fn is_opaque<T: Tree>(&self, dir: &Arc<BranchDir<T>>) -> Result<bool> {
        let handle = dir.open()?;
        if let DialectKind::Overlay(marks) = self.kind
            && overlay::is_opaque(dir.tree(), &handle, marks)?
        {
            return Ok(true);
        }
        aufs::is_opaque(dir.tree(), &handle)
    }

    /// Makes a directory hide what lies below it. `root` is the root of its branch.
    pub(crate) fn mark_opaque<T: Tree>(
        &self,
        root: &Arc<BranchDir<T>>,
        handle: &T::Dir,
    ) -> Result<()> {
        if let DialectKind::Overlay(marks) = self.kind
            && overlay::mark_opaque(root.tree(), handle, marks)?
        {
            return Ok(());
        }
        aufs::leave(root, handle, &name(whiteout::OPAQUE))
    }

    /// Takes the mark of an opaque directory away, as far as it is in AUFS's form; a missing one is fine.
    pub(crate) fn unmark_opaque<T: Tree>(&self, tree: &T, handle: &T::Dir) -> Result<()> {
        match tree.remove_file(handle, &name(whiteout::OPAQUE)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Puts a whiteout beside an entry that is about to go; it counts once the entry is gone.
    pub(crate) fn put_beside<T: Tree>(
        &self,
        root: &Arc<BranchDir<T>>,
        handle: &T::Dir,
        hidden: &Name,
    ) -> Result<()> {
        aufs::leave(root, handle, &whiteout::of(hidden))
    }

    /// Takes away a whiteout that stands beside a name; a missing one is fine.
    pub(crate) fn remove_beside<T: Tree>(
        &self,
        tree: &T,
        handle: &T::Dir,
        hidden: &Name,
    ) -> Result<()> {
        match tree.remove_file(handle, &whiteout::of(hidden)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Hides a name that this branch does not have.
    pub(crate) fn hide<T: Tree>(
        &self,
        root: &Arc<BranchDir<T>>,
        handle: &T::Dir,
        hidden: &Name,
    ) -> Result<()> {
        match self.kind {
            DialectKind::Overlay(_) if overlay::leave(root.tree(), handle, hidden)? => Ok(()),
            _ => self.put_beside(root, handle, hidden),
        }
    }

    /// Hides a name and removes the entry that this branch has, which is no directory.
    pub(crate) fn hide_and_remove<T: Tree>(
        &self,
        root: &Arc<BranchDir<T>>,
        handle: &T::Dir,
        hidden: &Name,
    ) -> Result<()> {
        let tree = root.tree();
        if matches!(self.kind, DialectKind::Overlay(_)) {
            // One rename puts the whiteout where the entry was.
            let temporary = self.temporary(hidden, Purpose::Building);
            if overlay::leave(tree, handle, &temporary)? {
                let placed = tree.rename(handle, &temporary, handle, hidden, RenameHow::Replace);
                return placed.or_else(|errno| self.undo(tree, handle, &temporary, errno));
            }
        }
        self.put_beside(root, handle, hidden)?;
        match tree.remove_file(handle, hidden) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                // The entry still shows; a whiteout beside it would only be in the way later.
                self.remove_beside(tree, handle, hidden).or(Err(errno))?;
                Err(errno.into())
            }
        }
    }

    /// Puts a whiteout in the place of a directory, which gets a temporary name, in one step; returns that name. `None` where the
    /// format or the filesystem has no such step.
    pub(crate) fn exchange_for_whiteout<T: Tree>(
        &self,
        tree: &T,
        handle: &T::Dir,
        hidden: &Name,
    ) -> Result<Option<Name>> {
        if self.kind == DialectKind::Aufs {
            return Ok(None);
        }
        // As something being built: whatever a crash leaves under this name goes away.
        let temporary = self.temporary(hidden, Purpose::Building);
        if !overlay::leave(tree, handle, &temporary)? {
            return Ok(None);
        }
        match tree.rename(handle, &temporary, handle, hidden, RenameHow::Exchange) {
            Ok(()) => Ok(Some(temporary)),
            Err(errno) => {
                let undone = self.undo(tree, handle, &temporary, errno);
                let unknown = matches!(errno, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP);
                if unknown {
                    Ok(None)
                } else {
                    undone.map(|()| None)
                }
            }
        }
    }

    /// Removes a whiteout in the form that this format leaves; `ENOENT` when it has another.
    pub(crate) fn remove_own_whiteout<T: Tree>(
        &self,
        tree: &T,
        handle: &T::Dir,
        hidden: &Name,
    ) -> std::result::Result<(), Errno> {
        match self.kind {
            DialectKind::Aufs => tree.remove_file(handle, &whiteout::of(hidden)),
            DialectKind::Overlay(_) => tree.remove_file(handle, hidden),
        }
    }

    /// Turns a whiteout beside a name into the dialect's own form, now that the entry is gone. It counts in either
    /// form, so that failing is fine.
    pub(crate) fn settle<T: Tree>(&self, tree: &T, handle: &T::Dir, hidden: &Name) {
        if self.kind == DialectKind::Aufs {
            return;
        }
        let settled = match overlay::leave(tree, handle, hidden) {
            Ok(true) => self.remove_beside(tree, handle, hidden),
            left => left.map(drop),
        };
        if let Err(error) = settled {
            tracing::debug!(name = %hidden, %error, "a whiteout stays in AUFS's form");
        }
    }

    /// Turns a whiteout into the form beside the name, so that the name is free for an entry.
    pub(crate) fn make_room<T: Tree>(
        &self,
        root: &Arc<BranchDir<T>>,
        handle: &T::Dir,
        hidden: &Name,
    ) -> Result<()> {
        let native =
            self.kind != DialectKind::Aufs && overlay::is_whiteout(root.tree(), handle, hidden)?;
        if native {
            self.put_beside(root, handle, hidden)?;
            root.tree().remove_file(handle, hidden)?;
        }
        Ok(())
    }

    /// Returns a new temporary name for `of`.
    pub(crate) fn temporary(&self, of: &Name, purpose: Purpose) -> Name {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        whiteout::temporary_name(of, purpose, number)
    }

    fn undo<T: Tree>(&self, tree: &T, handle: &T::Dir, made: &Name, errno: Errno) -> Result<()> {
        if let Err(left) = tree.remove_file(handle, made) {
            tracing::debug!(name = %made, %left, "a temporary name stays until the next mount");
        }
        Err(errno.into())
    }
}

/// Makes a file that hides or marks something.
fn make_mark<T: Tree>(tree: &T, handle: &T::Dir, mark: &Name) -> Result<()> {
    match tree.make_node(handle, mark, Node::File, &Creation::exact(whiteout::PERM)) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => already_marked(tree, handle, mark),
        Err(errno) => Err(errno.into()),
    }
}

fn already_marked<T: Tree>(tree: &T, handle: &T::Dir, mark: &Name) -> Result<()> {
    match tree.attr(Object::Entry(handle, mark))?.kind {
        Kind::File => Ok(()),
        _ => Err(Refusal::Damaged.into()),
    }
}

fn name(constant: &[u8]) -> Name {
    Name::new(constant).expect("the format's names are names")
}
