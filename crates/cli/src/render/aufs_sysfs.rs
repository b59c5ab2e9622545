//! A union as AUFS shows it below `/sys/fs/aufs`: the files of one `si_` directory.
//!
//! `brN` holds `path=perm` of the branch of this index, `bridN` a number that stays with the branch
//! when its index changes, `xi_path` nothing, as with `noxino`. AUFS has no `dev`: the number of the
//! mounted filesystem, by which a mount finds its directory.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use rules::options::render;

use crate::run_state::{self, BranchState, RunState};

/// Returns the names and contents of all files.
pub(crate) fn files(state: &RunState) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        (
            "dev".to_owned(),
            line(state.device.as_deref().unwrap_or_default()),
        ),
        ("xi_path".to_owned(), Vec::new()),
    ];
    for (index, branch) in state.branches.iter().enumerate() {
        files.push((format!("br{index}"), branch_line(branch)));
        // A branch keeps its descriptor as long as it stays.
        files.push((format!("brid{index}"), line(branch.descriptor.to_string())));
    }
    files
}

/// Returns what the `brN` file of a branch holds: `path=perm` and the end of the line.
pub(crate) fn branch_line(branch: &BranchState) -> Vec<u8> {
    let path = run_state::path_of(&branch.path);
    line(render::branch_line(&path, &branch.mode))
}

fn line(text: impl Into<OsString>) -> Vec<u8> {
    let mut line = text.into().into_vec();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(path: &str, mode: &str) -> BranchState {
        BranchState {
            path: path.into(),
            mode: mode.into(),
            descriptor: 3,
        }
    }

    #[test]
    fn branches_show_as_in_sysfs() {
        for (path, mode, expected) in [
            ("/up", "rw", &b"/up=rw\n"[..]),
            (
                r"/a b\134c\377\177",
                "ro+wh",
                b"/a\\040b\\134c\xff\\177=ro+wh\n",
            ),
        ] {
            assert_eq!(branch_line(&branch(path, mode)), expected);
        }
    }
}
