//! A tree of the shape of AUFS's `/sys/fs/aufs`, for scripts that look for branches there.
//!
//! Nobody but the kernel adds to `/sys`, so it is `/run/aufs`, or beside what a user's servers tell
//! about themselves. A directory `si_NUMBER` for each server takes the place of the one before it as a
//! whole, so that a reader who names it anew sees the branches of one moment.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rules::Name;
use sys::HostTree;
use tree::{RenameHow, Tree};

use crate::render::aufs_sysfs;
use crate::run_state::{self, RunState};

/// Shows a server's branches as they are now. A server that cannot works without.
pub(crate) fn write(state: &RunState) {
    if let Err(error) = try_write(&run_state::own_dir(), state) {
        tracing::debug!(%error, "the branches are not shown as in sysfs");
    }
}

/// Takes away what the server of a number showed; `dir` is where it told about itself.
pub(crate) fn remove(dir: &Path, si: &str) {
    let shown = place(dir);
    // As somebody else's, it might lead anywhere.
    if !run_state::is_safe(&shown) {
        return;
    }
    for name in [name_of(si), new_name_of(si)] {
        match fs::remove_dir_all(shown.join(&name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::debug!(%error, name, "not removed");
            }
            _ => {}
        }
    }
}

/// Returns where servers that tell about themselves in `dir` show their branches.
fn place(dir: &Path) -> PathBuf {
    match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) if name == "plywood" => parent.join("aufs"),
        _ => dir.join("aufs"),
    }
}

fn name_of(si: &str) -> String {
    format!("si_{si}")
}

fn new_name_of(si: &str) -> String {
    format!(".si_{si}.new")
}

fn try_write(dir: &Path, state: &RunState) -> anyhow::Result<()> {
    let shown = place(dir);
    run_state::make_dir(&shown)?;
    let si = state.si();
    let (name, new) = (name_of(&si), new_name_of(&si));
    let built = shown.join(&new);
    if built.exists() {
        fs::remove_dir_all(&built)?;
    }
    DirBuilder::new().mode(0o755).create(&built)?;
    for (name, content) in aufs_sysfs::files(state) {
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(built.join(name))?;
        file.write_all(&content)?;
    }
    if !shown.join(&name).exists() {
        return fs::rename(&built, shown.join(&name)).context("cannot publish");
    }
    let tree = HostTree::open(&shown)?;
    let root = tree.root()?;
    let (old, new) = (Name::new(name.as_bytes())?, Name::new(new.as_bytes())?);
    tree.rename(&root, &new, &root, &old, RenameHow::Exchange)?;
    Ok(fs::remove_dir_all(&built)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_users_tree_is_beside_what_his_servers_tell() {
        for (dir, expected) in [
            ("/run/plywood", "/run/aufs"),
            ("/run/user/7/plywood", "/run/user/7/aufs"),
            ("/tmp/plywood-7", "/tmp/plywood-7/aufs"),
        ] {
            assert_eq!(place(Path::new(dir)), Path::new(expected));
        }
    }
}
