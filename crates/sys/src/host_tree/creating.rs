//! Making new objects, each in the name of its owner.
//!
//! Owner, umask and default ACL are the kernel's business: see [`crate::identity`]. An
//! object never exists under another owner than the one that was asked for.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rules::{Creation, Errno, Name};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use tree::Node;

use super::new_calls::NewCalls;
use super::opening;
use crate::errno::IntoErrno;
use crate::identity::create_as;
use crate::proc;

/// Makes a regular file and opens it for reading and writing.
pub(super) fn file(
    calls: NewCalls,
    dir: BorrowedFd<'_>,
    name: &Name,
    how: &Creation,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
    create_as(how, || opening::entry(calls, dir, name, flags, mode(how)))
}

/// Makes a file without a name, open for reading and writing.
pub(super) fn unnamed_file(dir: BorrowedFd<'_>, how: &Creation) -> Result<OwnedFd, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    create_as(how, || {
        rustix::fs::openat(dir, ".", flags, mode(how)).errno()
    })
}

/// Makes a directory.
pub(super) fn dir(dir: BorrowedFd<'_>, name: &Name, how: &Creation) -> Result<(), Errno> {
    create_as(how, || {
        rustix::fs::mkdirat(dir, name.as_os_str(), mode(how)).errno()
    })
}

/// Makes a device, pipe, socket or empty file.
pub(super) fn node(
    dir: BorrowedFd<'_>,
    name: &Name,
    node: Node,
    how: &Creation,
) -> Result<(), Errno> {
    let (kind, device) = match node {
        Node::File => (FileType::RegularFile, 0),
        Node::Fifo => (FileType::Fifo, 0),
        Node::Socket => (FileType::Socket, 0),
        Node::CharDevice(number) => (FileType::CharacterDevice, number),
        Node::BlockDevice(number) => (FileType::BlockDevice, number),
    };
    create_as(how, || {
        rustix::fs::mknodat(dir, name.as_os_str(), kind, mode(how), device).errno()
    })
}

/// Makes a symbolic link.
pub(super) fn symlink(
    dir: BorrowedFd<'_>,
    name: &Name,
    target: &[u8],
    how: &Creation,
) -> Result<(), Errno> {
    let target = OsStr::from_bytes(target);
    create_as(how, || {
        rustix::fs::symlinkat(target, dir, name.as_os_str()).errno()
    })
}

/// Gives an open file a name.
pub(super) fn link_open_file(
    file: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    new: &Name,
) -> Result<(), Errno> {
    let new = new.as_os_str();
    match rustix::fs::linkat(file, "", to, new, AtFlags::EMPTY_PATH).errno() {
        // Linking by descriptor needs CAP_DAC_READ_SEARCH; through /proc it needs nothing.
        // If something else is missing, that call says so too.
        Err(Errno::NOENT) => {
            let path = proc::path(&format!("self/fd/{}", file.as_raw_fd()));
            rustix::fs::linkat(CWD, path, to, new, AtFlags::SYMLINK_FOLLOW).errno()
        }
        done => done,
    }
}

fn mode(how: &Creation) -> Mode {
    Mode::from_raw_mode(how.perm & 0o7777)
}
