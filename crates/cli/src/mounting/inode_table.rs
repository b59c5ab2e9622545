//! The options about AUFS's table of inode numbers (`xino` and its kin).
//!
//! There is no such table here: inode numbers are those of the branches. What AUFS refuses is refused all the same, because
//! a path that is taken or a branch that is not there is a mistake in the options.

use std::path::Path;

use rules::options::{InodeTable, MountOptions, Request};

use super::branches::OpenBranch;
use super::place::errno_of;
use crate::failure::Failure;

/// Refuses a table where AUFS could not make one, and compacting that of a branch that is not there.
pub(crate) fn check(
    parsed: &MountOptions,
    place: &Path,
    branches: &[OpenBranch],
) -> Result<(), Failure> {
    if let InodeTable::Path(path) = &parsed.settings.inode_table {
        check_path(path, place)?;
    }
    for request in &parsed.requests {
        match request {
            Request::CompactInodeTable(path) => {
                let known = path.canonicalize().ok();
                if !branches
                    .iter()
                    .any(|branch| Some(&branch.path) == known.as_ref())
                {
                    return Err(Failure::mount(format!(
                        "trunc_xino={path:?}: no such branch"
                    )));
                }
            }
            Request::CompactInodeTableAt(index) if *index >= branches.len() => {
                let what = format!("itrunc_xino={index}: there are {} branches", branches.len());
                return Err(Failure::mount(what).hint("the topmost one is 0"));
            }
            Request::CompactInodeTableAt(_) | Request::ListPseudoLinks => {}
        }
    }
    Ok(())
}

fn check_path(path: &Path, place: &Path) -> Result<(), Failure> {
    let no = |why: &str| Failure::mount(format!("xino={path:?}: {why}"));
    if path.symlink_metadata().is_ok() {
        return Err(no("the file exists").hint("name one that does not; nothing is left there"));
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let dir = dir
        .canonicalize()
        .map_err(|error| no(&format!("its directory: {}", errno_of(&error))))?;
    if dir.starts_with(place) {
        return Err(no("lies inside the mount point").hint("name a file elsewhere"));
    }
    Ok(())
}
