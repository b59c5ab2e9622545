//! AUFS: a file `.wh.NAME` hides NAME, a file `.wh..wh..opq` makes its directory opaque.
//!
//! Whiteouts are hard links to one empty file in the branch's root where the filesystem allows that.

use std::sync::Arc;

use rules::{Creation, Errno, Kind, Name, whiteout};
use tree::{Object, Tree};

use super::{already_marked, make_mark, name};
use crate::branch::BranchDir;
use crate::error::{Refusal, Result};

/// Permissions of the format's directories in a branch's root.
const PRIVATE_DIR: u32 = 0o700;

pub(super) fn prepare<T: Tree>(root: &Arc<BranchDir<T>>, pseudo_links: bool) -> Result<()> {
    let handle = root.open()?;
    let tree = root.tree();
    let base = name(whiteout::BASE);
    if root.powers().linked_whiteouts {
        make_mark(tree, &handle, &base)?;
    } else {
        absent(tree.remove_file(&handle, &base))?;
    }
    if pseudo_links {
        make_private_dir(tree, &handle, whiteout::PSEUDO_LINKS)?;
    } else {
        match tree.remove_dir(&handle, &name(whiteout::PSEUDO_LINKS)) {
            // What an earlier mount kept together is worth more than a tidy root.
            Err(Errno::NOTEMPTY) => {}
            removed => absent(removed)?,
        }
    }
    make_private_dir(tree, &handle, whiteout::ORPHANS)
}

pub(super) fn retire<T: Tree>(root: &Arc<BranchDir<T>>) -> Result<()> {
    let (handle, tree) = (root.open()?, root.tree());
    absent(tree.remove_file(&handle, &name(whiteout::BASE)))?;
    absent(tree.remove_dir(&handle, &name(whiteout::PSEUDO_LINKS)))?;
    absent(tree.remove_dir(&handle, &name(whiteout::ORPHANS)))
}

fn make_private_dir<T: Tree>(tree: &T, root: &T::Dir, constant: &[u8]) -> Result<()> {
    let name = name(constant);
    match tree.make_dir(root, &name, &Creation::exact(PRIVATE_DIR)) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => match tree.attr(Object::Entry(root, &name))?.kind {
            Kind::Dir => Ok(()),
            _ => Err(Refusal::Damaged.into()),
        },
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn is_opaque<T: Tree>(tree: &T, dir: &T::Dir) -> Result<bool> {
    match tree.look(dir, &name(whiteout::OPAQUE))? {
        None => Ok(false),
        Some(mark) if mark.kind == Kind::File => Ok(true),
        Some(_) => Err(Refusal::Damaged.into()),
    }
}

/// Leaves a mark in a directory: a link to the branch's base file, or a file of its own.
pub(super) fn leave<T: Tree>(root: &Arc<BranchDir<T>>, dir: &T::Dir, mark: &Name) -> Result<()> {
    let tree = root.tree();
    if !root.powers().linked_whiteouts {
        return make_mark(tree, dir, mark);
    }
    let base = name(whiteout::BASE);
    let top = root.open()?;
    match tree.link(&top, &base, dir, mark) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => already_marked(tree, dir, mark),
        Err(Errno::MLINK) => {
            // The base is full: later whiteouts link to a fresh one.
            make_mark(tree, dir, mark)?;
            absent(tree.remove_file(&top, &base))?;
            make_mark(tree, &top, &base)
        }
        // The base was removed by hand, or the directory is on another filesystem.
        Err(Errno::NOENT | Errno::XDEV | Errno::PERM) => make_mark(tree, dir, mark),
        Err(errno) => Err(errno.into()),
    }
}

fn absent(removed: std::result::Result<(), Errno>) -> Result<()> {
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
