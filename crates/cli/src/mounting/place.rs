//! The directory to mount on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rules::Errno;
use sys::mount_table::{self, MountEntry};

use crate::failure::Failure;

/// Returns the directory with all symbolic links followed, if a union may be mounted there, and the mount table.
pub(crate) fn resolve(dir: &Path) -> Result<(PathBuf, Vec<MountEntry>), Failure> {
    let refused = |error: &io::Error| {
        let why = errno_of(error);
        let failure = Failure::mount(format!("mount point {dir:?}: {why}"));
        match why {
            Errno::NOENT => failure.hint("make the directory first"),
            // The second comes while the kernel cuts the server off.
            Errno::NOTCONN | Errno::CONNABORTED => failure.hint(CLEAN_UP),
            Errno::ACCES => failure.exit(crate::failure::Exit::MOUNT_USAGE),
            _ => failure,
        }
    };
    let place = dir.canonicalize().map_err(|error| refused(&error))?;
    let metadata = place.metadata().map_err(|error| refused(&error))?;
    if !metadata.is_dir() {
        return Err(Failure::mount(format!(
            "mount point {dir:?}: not a directory"
        )));
    }
    let mounts = mount_table::read()
        .map_err(|errno| Failure::mount(format!("cannot read the mount table: {errno}")))?;
    match mount_table::topmost(&mounts, &place) {
        Some(entry) if is_union(entry) => Err(taken(dir, entry)),
        _ => Ok((place, mounts)),
    }
}

fn taken(dir: &Path, entry: &MountEntry) -> Failure {
    if is_dead(&entry.mount_point) {
        return Failure::mount(format!("mount point {dir:?}: a dead mount")).hint(CLEAN_UP);
    }
    let what = format!("mount point {dir:?}: already a mount ({})", entry.fstype);
    Failure::mount(what).hint("unmount it first, or take another directory")
}

const CLEAN_UP: &str = "clean up with `plywood umount --stale`";

/// Tells whether nobody answers for a mount any more.
///
/// Attributes may be remembered by the kernel; opening asks the server.
pub(crate) fn is_dead(place: &Path) -> bool {
    // The last two while it is about to end: for what it has not read yet, and for what it read over io_uring.
    let dead = [Errno::NOTCONN, Errno::CONNABORTED, Errno::CANCELED];
    fs::read_dir(place).is_err_and(|error| dead.contains(&errno_of(&error)))
}

/// Tells whether a mount is one of ours by its type.
pub(crate) fn is_union(entry: &MountEntry) -> bool {
    matches!(entry.fstype.as_str(), "fuse.aufs" | "fuse.plywood")
}

/// Returns the errno of an error of the standard library.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw)
}
