//! Attributes of objects and filesystems, and changes to them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rules::attr::KIND_MASK;
use rules::{Attr, Changes, Errno, Kind, SetTime, StatFs, Time};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, StatxAttributes, StatxFlags, StatxTimestamp, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, Uid, makedev,
};
use rustix::path::Arg;
use tree::Object;

use super::new_calls::{NewCalls, SYS_FCHMODAT2};
use super::place::Place;
use super::{HostTree, opening, xattrs};
use crate::errno::{IntoErrno, check, uninterrupted};
use crate::proc;

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;
const FILE_CAPABILITIES: &[u8] = b"security.capability";

/// Returns the attributes of an object.
pub(super) fn attr(place: Place<'_>) -> Result<Attr, Errno> {
    let flags = place.flags | AtFlags::NO_AUTOMOUNT;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = rustix::fs::statx(place.fd, place.path, flags, mask).errno()?;
    let mode = u32::from(stat.stx_mode);
    let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    Ok(Attr {
        dev: makedev(stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
        kind: Kind::of_mode(mode).ok_or(Errno::IO)?,
        perm: mode & !KIND_MASK,
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        block_size: stat.stx_blksize,
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        btime: has_birth.then(|| time(stat.stx_btime)),
        immutable: stat.stx_attributes.contains(StatxAttributes::IMMUTABLE),
    })
}

/// Returns space and limits of the filesystem that holds a directory.
pub(super) fn stat_fs(dir: BorrowedFd<'_>) -> Result<StatFs, Errno> {
    let told = rustix::fs::fstatvfs(dir).errno()?;
    Ok(StatFs {
        dev: attr(Place::itself(dir))?.dev,
        fsid: told.f_fsid,
        blocks: told.f_blocks,
        blocks_free: told.f_bfree,
        blocks_available: told.f_bavail,
        files: told.f_files,
        files_free: told.f_ffree,
        block_size: narrow(told.f_bsize),
        fragment_size: narrow(told.f_frsize),
        name_max: narrow(told.f_namemax),
    })
}

/// Changes attributes.
///
/// Set-id bits go first, as they would before a write. Permissions come after the
/// owner because a change of owner clears set-id bits, and times last because
/// changing the size sets them.
pub(super) fn set_attr(
    calls: NewCalls,
    object: Object<'_, HostTree>,
    changes: &Changes,
) -> Result<(), Errno> {
    if changes.drop_set_id {
        drop_set_id(calls, object)?;
    }
    if let Some(size) = changes.size {
        set_size(calls, object, size)?;
    }
    if changes.uid.is_some() || changes.gid.is_some() {
        set_owner(Place::of(object), changes.uid, changes.gid)?;
    }
    if let Some(perm) = changes.perm {
        set_perm(calls, object, perm)?;
    }
    if changes.atime.is_some() || changes.mtime.is_some() {
        set_times(Place::of(object), changes.atime, changes.mtime)?;
    }
    Ok(())
}

/// Takes away what a write by somebody without privileges takes away: set-user-id,
/// set-group-id of a program, and file capabilities.
fn drop_set_id(calls: NewCalls, object: Object<'_, HostTree>) -> Result<(), Errno> {
    let attr = attr(Place::of(object))?;
    if attr.kind != Kind::File {
        return Ok(());
    }
    let is_program = attr.perm & GROUP_EXECUTE != 0;
    let dropped = SET_USER_ID | if is_program { SET_GROUP_ID } else { 0 };
    if attr.perm & dropped != 0 {
        set_perm(calls, object, attr.perm & !dropped)?;
    }
    // Asked for first: removing needs privileges even where there is nothing to remove.
    match xattrs::get(calls, object, FILE_CAPABILITIES) {
        Ok(_) => xattrs::remove(calls, object, FILE_CAPABILITIES),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn set_size(calls: NewCalls, object: Object<'_, HostTree>, size: u64) -> Result<(), Errno> {
    let truncate =
        |file: BorrowedFd<'_>| uninterrupted(|| rustix::fs::ftruncate(file, size).errno());
    match object {
        Object::Dir(_) => Err(Errno::ISDIR),
        Object::File(file) => truncate(file.as_fd()),
        Object::Entry(dir, name) => {
            let (file, _) = opening::regular(calls, dir.as_fd(), name, OFlags::WRONLY)?;
            truncate(file.as_fd())
        }
    }
}

fn set_owner(place: Place<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    // To the kernel the highest number means "no change", which is not what was asked.
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Errno::INVAL);
    }
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    rustix::fs::chownat(place.fd, place.path, uid, gid, place.flags).errno()
}

fn set_perm(calls: NewCalls, object: Object<'_, HostTree>, perm: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(perm & 0o7777);
    match object {
        Object::File(file) => rustix::fs::fchmod(file, mode).errno(),
        _ if calls.fchmodat2 => fchmodat2(Place::of(object), mode),
        Object::Dir(dir) => rustix::fs::chmodat(dir, ".", mode, AtFlags::empty()).errno(),
        Object::Entry(dir, name) => {
            let entry = opening::entry(calls, dir.as_fd(), name, OFlags::PATH, Mode::empty())?;
            // Old kernels change the mode of a symbolic link here, or half do.
            if attr(Place::itself(entry.as_fd()))?.kind == Kind::Symlink {
                return Err(Errno::OPNOTSUPP);
            }
            let path = proc::path(&format!("self/fd/{}", entry.as_raw_fd()));
            rustix::fs::chmod(path, mode).errno()
        }
    }
}

fn fchmodat2(place: Place<'_>, mode: Mode) -> Result<(), Errno> {
    let flags = place.flags.bits();
    place
        .path
        .into_with_c_str(|path| {
            // SAFETY: the descriptor and the string live through the call; the rest are numbers.
            Ok(check(unsafe {
                libc::syscall(
                    SYS_FCHMODAT2,
                    place.fd.as_raw_fd(),
                    path.as_ptr(),
                    mode.bits(),
                    flags,
                )
            }))
        })
        .errno()?
        .map(drop)
}

fn set_times(
    place: Place<'_>,
    atime: Option<SetTime>,
    mtime: Option<SetTime>,
) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: timespec(atime),
        last_modification: timespec(mtime),
    };
    rustix::fs::utimensat(place.fd, place.path, &times, place.flags).errno()
}

fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        Some(SetTime::Now) => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        Some(SetTime::To(Time { seconds, nanos })) => Timespec {
            tv_sec: seconds,
            tv_nsec: nanos.into(),
        },
    }
}

fn time(told: StatxTimestamp) -> Time {
    Time {
        seconds: told.tv_sec,
        nanos: told.tv_nsec,
    }
}

fn narrow(number: u64) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}
