//! A tree of the shape of AUFS's `/sys/fs/aufs`, for scripts that look for branches there.
//!
//! Nobody but the kernel adds to `/sys`, so it is `/run/aufs`, or beside what a user's servers tell
//! about themselves. A directory `si_NUMBER` for each server takes the place of the one before it as a
//! whole, so that a reader who names it anew sees the branches of one moment.

use std::path::{Path, PathBuf};

use crate::render::aufs_sysfs;
use crate::run_dir::RunDir;
use crate::run_state::RunState;

/// Returns where servers that tell about themselves in `dir` show their branches.
pub(crate) fn place(dir: &Path) -> PathBuf {
    match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) if name == "plywood" => parent.join("aufs"),
        _ => dir.join("aufs"),
    }
}

/// Shows a server's branches as they are now.
pub(crate) fn write(shown: &RunDir, state: &RunState) -> anyhow::Result<()> {
    shown.replace_dir(&name_of(state), &aufs_sysfs::files(state), 0o444)
}

/// Takes away what a server showed.
pub(crate) fn remove(shown: &RunDir, state: &RunState) {
    shown.remove(&name_of(state));
}

fn name_of(state: &RunState) -> String {
    format!("si_{}", state.si())
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
