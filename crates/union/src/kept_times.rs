//! A directory of the union has a new time when a name in it came or went, and only then.
//!
//! A copy-up makes names on a branch, which gives the directory there a new time; in the union nothing has
//! come or gone. Overlayfs puts the time back, too; AUFS was meant to and does not (`compat=aufs`). What comes or
//! goes on a lower writable branch gives the directory there a new time, while the topmost one's is shown.

use std::sync::Arc;

use rules::{BranchIndex, Changes, SetTime};
use tree::{Object, Tree};

use crate::branch::BranchDir;
use crate::error::Result;
use crate::inode::Inode;
use crate::union::Union;

impl<T: Tree> Union<T> {
    /// Does something in a directory of a branch that the union does not show, and puts the directory's time back unless
    /// the settings say otherwise. The caller holds the `change` of the union's directory.
    pub(crate) fn keeping_time<R>(
        &self,
        dir: &Arc<BranchDir<T>>,
        deed: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        if self.settings().keep_directory_times {
            keeping_time(dir, deed)
        } else {
            deed()
        }
    }

    /// Gives a directory a new time after a name came or went in it on `branch`. The caller holds its `change`.
    pub(crate) fn show_change(&self, dir: &Inode<T>, branch: BranchIndex) {
        let Ok(top) = self.top_of(dir) else { return };
        if top.index() == branch || !top.powers().writable {
            return;
        }
        let time = Changes {
            mtime: Some(SetTime::Now),
            ..Changes::default()
        };
        let set = top.open().and_then(|handle| {
            let this = Object::Dir(&*handle);
            top.tree().set_attr(this, &time)
        });
        // The change itself is done: its time alone is no reason to say that it failed.
        if let Err(error) = set {
            tracing::debug!(%error, "a directory keeps the time from before a change below it");
        }
        self.touched(dir, top.index());
    }
}

/// Does something in a directory of a branch that the union does not show, and puts the directory's time back. The
/// caller holds the `change` of the union's directory, so that no other change loses its time.
fn keeping_time<T: Tree, R>(
    dir: &Arc<BranchDir<T>>,
    deed: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let handle = dir.open()?;
    let this = Object::Dir(&*handle);
    let before = dir.tree().attr(this)?;
    let done = deed()?;
    let time = Changes {
        mtime: Some(SetTime::To(before.mtime)),
        ..Changes::default()
    };
    // A directory of somebody else keeps the new time: that is no reason to fail a copy-up.
    if let Err(error) = dir.tree().set_attr(this, &time) {
        tracing::debug!(%error, "a directory's time could not be put back");
    }
    Ok(done)
}
