//! Opening: one component at a time, never through a symbolic link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rules::{Attr, Errno, Kind, Name};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use tree::Access;

use super::attributes;
use super::new_calls::NewCalls;
use super::place::Place;
use crate::errno::{IntoErrno, uninterrupted};

/// How every name is resolved.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Opens what has this name. The flags get `O_NOFOLLOW` and `O_CLOEXEC`.
pub(super) fn entry(
    calls: NewCalls,
    dir: BorrowedFd<'_>,
    name: &Name,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = name.as_os_str();
    uninterrupted(|| {
        if calls.openat2 {
            rustix::fs::openat2(dir, name, flags, mode, RESOLVE).errno()
        } else {
            // One component cannot lead anywhere but through a symbolic link.
            rustix::fs::openat(dir, name, flags, mode).errno()
        }
    })
}

/// Opens a subdirectory by name, without the right to read it.
pub(super) fn dir(calls: NewCalls, dir: BorrowedFd<'_>, name: &Name) -> Result<OwnedFd, Errno> {
    entry(
        calls,
        dir,
        name,
        OFlags::PATH | OFlags::DIRECTORY,
        Mode::empty(),
    )
}

/// Opens an open directory again, so that it can be listed and synced; its time of last
/// access stays where the system allows that.
pub(super) fn dir_for_reading(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::openat(dir, ".", flags, Mode::empty()).errno();
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        done => done,
    }
}

/// Opens a regular file and returns its attributes as well.
pub(super) fn file(
    calls: NewCalls,
    dir: BorrowedFd<'_>,
    name: &Name,
    access: Access,
) -> Result<(OwnedFd, Attr), Errno> {
    let open = |flags| regular(calls, dir, name, flags);
    match access {
        Access::Read => open(OFlags::RDONLY),
        Access::ReadQuietly => match open(OFlags::RDONLY | OFlags::NOATIME) {
            Err(Errno::PERM) => open(OFlags::RDONLY),
            done => done,
        },
        Access::ReadWrite => match open(OFlags::RDWR) {
            Err(Errno::ACCES) => open(OFlags::WRONLY),
            done => done,
        },
    }
}

/// Opens a regular file with these flags, without waiting for whatever else has the name.
pub(super) fn regular(
    calls: NewCalls,
    dir: BorrowedFd<'_>,
    name: &Name,
    flags: OFlags,
) -> Result<(OwnedFd, Attr), Errno> {
    let opened = match entry(calls, dir, name, flags | OFlags::NONBLOCK, Mode::empty()) {
        // Somebody holds a lease, which only a blocking open waits for.
        Err(Errno::AGAIN) => entry(calls, dir, name, flags, Mode::empty()),
        done => done,
    }?;
    let attr = attributes::attr(Place::itself(opened.as_fd()))?;
    match attr.kind {
        Kind::File => Ok((opened, attr)),
        Kind::Dir => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}
