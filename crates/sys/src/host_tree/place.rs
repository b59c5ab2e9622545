//! Where an object is, as the `*at` system calls want to be told.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::AtFlags;
use tree::Object;

use super::HostTree;

/// A descriptor, a path that is one component or empty, and the flags that go with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) fd: BorrowedFd<'a>,
    pub(super) path: &'a OsStr,
    pub(super) flags: AtFlags,
}

impl<'a> Place<'a> {
    /// Returns the place of an object.
    pub(super) fn of(object: Object<'a, HostTree>) -> Self {
        match object {
            Object::Dir(dir) => Self::itself(dir.as_fd()),
            Object::File(file) => Self::itself(file.as_fd()),
            Object::Entry(dir, name) => Self {
                fd: dir.as_fd(),
                path: name.as_os_str(),
                flags: AtFlags::SYMLINK_NOFOLLOW,
            },
        }
    }

    /// Returns the place of what a descriptor has open.
    pub(super) fn itself(fd: BorrowedFd<'a>) -> Self {
        Self {
            fd,
            path: OsStr::new(""),
            flags: AtFlags::EMPTY_PATH,
        }
    }
}
