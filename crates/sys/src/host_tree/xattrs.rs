//! Extended attributes of directories, entries and open files.
//!
//! Descriptors of directories are `O_PATH`, which the older calls do not take. Linux 6.13
//! has calls that name an entry of a directory; before it, the path leads through
//! `/proc/self/fd`, where the last component is still never followed.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rules::Errno;
use rustix::fs::XattrFlags;
use tree::{Object, XattrHow};

use super::HostTree;
use super::new_calls::{
    NewCalls, SYS_GETXATTRAT, SYS_LISTXATTRAT, SYS_REMOVEXATTRAT, SYS_SETXATTRAT,
};
use crate::errno::{IntoErrno, check};
use crate::proc;

/// The most that a value or a list of names takes (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const LONGEST: usize = 64 * 1024;
/// What nearly all values and lists fit in.
const USUAL: usize = 1024;

/// `struct xattr_args` of the kernel.
#[repr(C, align(8))]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// How an object is told to the kernel.
enum Target<'a> {
    /// By descriptor, as an open file can be.
    Open(BorrowedFd<'a>),
    /// By directory and component, with the younger calls.
    At(BorrowedFd<'a>, CString),
    /// By a path through `/proc`.
    Proc(OsString),
}

impl<'a> Target<'a> {
    fn of(calls: NewCalls, object: Object<'a, HostTree>) -> Result<Self, Errno> {
        let (dir, name) = match object {
            Object::File(file) => return Ok(Self::Open(file.as_fd())),
            Object::Dir(dir) => (dir, OsStr::new(".")),
            Object::Entry(dir, name) => (dir, name.as_os_str()),
        };
        if calls.xattrat {
            return Ok(Self::At(dir.as_fd(), c_string(name.as_bytes())?));
        }
        let mut path = OsString::from(proc::path(&format!("self/fd/{}/", dir.as_fd().as_raw_fd())));
        path.push(name);
        Ok(Self::Proc(path))
    }
}

/// Returns the value of an attribute.
pub(super) fn get(
    calls: NewCalls,
    object: Object<'_, HostTree>,
    name: &[u8],
) -> Result<Vec<u8>, Errno> {
    let target = Target::of(calls, object)?;
    let name = c_string(name)?;
    grown(|buffer| match &target {
        Target::Open(file) => rustix::fs::fgetxattr(file, &name, buffer).errno(),
        Target::Proc(path) => rustix::fs::lgetxattr(path, &name, buffer).errno(),
        Target::At(dir, entry) => {
            let args = XattrArgs {
                value: buffer.as_mut_ptr() as u64,
                size: length(buffer)?,
                flags: 0,
            };
            // SAFETY: the strings end in NUL and live through the call, as does `args` with
            // its size; it tells pointer and length of one buffer that may be written.
            check(unsafe {
                libc::syscall(
                    SYS_GETXATTRAT,
                    dir.as_raw_fd(),
                    entry.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                    name.as_ptr(),
                    &raw const args,
                    size_of::<XattrArgs>(),
                )
            })
        }
    })
}

/// Returns the names of all attributes; none where the filesystem keeps none.
pub(super) fn names(calls: NewCalls, object: Object<'_, HostTree>) -> Result<Vec<Vec<u8>>, Errno> {
    let target = Target::of(calls, object)?;
    let list = grown(|buffer| match &target {
        Target::Open(file) => rustix::fs::flistxattr(file, buffer).errno(),
        Target::Proc(path) => rustix::fs::llistxattr(path, buffer).errno(),
        Target::At(dir, entry) => {
            // SAFETY: the string ends in NUL and lives through the call; pointer and
            // length are those of one buffer that may be written.
            check(unsafe {
                libc::syscall(
                    SYS_LISTXATTRAT,
                    dir.as_raw_fd(),
                    entry.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                    buffer.as_mut_ptr(),
                    buffer.len(),
                )
            })
        }
    });
    match list {
        Ok(list) => {
            let names = list
                .split(|byte| *byte == 0)
                .filter(|name| !name.is_empty());
            Ok(names.map(<[u8]>::to_vec).collect())
        }
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

/// Sets an attribute.
pub(super) fn set(
    calls: NewCalls,
    object: Object<'_, HostTree>,
    name: &[u8],
    value: &[u8],
    how: XattrHow,
) -> Result<(), Errno> {
    let flags = match how {
        XattrHow::Set => XattrFlags::empty(),
        XattrHow::Create => XattrFlags::CREATE,
        XattrHow::Replace => XattrFlags::REPLACE,
    };
    let name = c_string(name)?;
    match Target::of(calls, object)? {
        Target::Open(file) => rustix::fs::fsetxattr(file, &name, value, flags).errno(),
        Target::Proc(path) => rustix::fs::lsetxattr(path, &name, value, flags).errno(),
        Target::At(dir, entry) => {
            let args = XattrArgs {
                value: value.as_ptr() as u64,
                size: length(value)?,
                flags: flags.bits(),
            };
            // SAFETY: the strings end in NUL and live through the call, as does `args` with
            // its size; it tells pointer and length of the value, which is only read.
            check(unsafe {
                libc::syscall(
                    SYS_SETXATTRAT,
                    dir.as_raw_fd(),
                    entry.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                    name.as_ptr(),
                    &raw const args,
                    size_of::<XattrArgs>(),
                )
            })
            .map(drop)
        }
    }
}

/// Removes an attribute.
pub(super) fn remove(
    calls: NewCalls,
    object: Object<'_, HostTree>,
    name: &[u8],
) -> Result<(), Errno> {
    let name = c_string(name)?;
    match Target::of(calls, object)? {
        Target::Open(file) => rustix::fs::fremovexattr(file, &name).errno(),
        Target::Proc(path) => rustix::fs::lremovexattr(path, &name).errno(),
        Target::At(dir, entry) => {
            // SAFETY: the strings end in NUL and live through the call.
            check(unsafe {
                libc::syscall(
                    SYS_REMOVEXATTRAT,
                    dir.as_raw_fd(),
                    entry.as_ptr(),
                    libc::AT_SYMLINK_NOFOLLOW,
                    name.as_ptr(),
                )
            })
            .map(drop)
        }
    }
}

/// Reads into a buffer of the usual length, then into the longest there can be.
fn grown(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut usual = [0; USUAL];
    match read(&mut usual) {
        Ok(length) => Ok(usual[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut longest = vec![0; LONGEST];
            let length = read(&mut longest)?;
            longest.truncate(length);
            Ok(longest)
        }
        Err(errno) => Err(errno),
    }
}

/// A name with a NUL inside is no name of an attribute.
fn c_string(bytes: &[u8]) -> Result<CString, Errno> {
    CString::new(bytes).map_err(|_| Errno::INVAL)
}

fn length(bytes: &[u8]) -> Result<u32, Errno> {
    bytes.len().try_into().map_err(|_| Errno::BIG)
}
