//! The structures of requests that carry more than a name or a number.

use rules::Kind;
use tree::{Node, RenameHow, Seek, SyncHow, XattrHow};
use union::{InodeId, OpenFlags};

use super::{Dialect, Forgotten, Permissions, Request};
use crate::protocol::arguments::{Arguments, Malformed};

const O_ACCMODE: u32 = 0o3;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
/// `__FMODE_EXEC` of the kernel, which it leaves among the flags.
const EXEC: u32 = 0x20;
const OPEN_KILL_SUIDGID: u32 = 1 << 0;
const WRITE_KILL_SUIDGID: u32 = 1 << 2;
const FSYNC_FDATASYNC: u32 = 1 << 0;

pub(super) fn open_flags(flags: u32, fuse_flags: u32) -> OpenFlags {
    OpenFlags {
        write: flags & O_ACCMODE != 0,
        truncate: flags & O_TRUNC != 0,
        drop_set_id: fuse_flags & OPEN_KILL_SUIDGID != 0,
        execute: flags & EXEC != 0,
    }
}

pub(super) fn batch_forget<'a>(a: &mut Arguments<'a>) -> Result<Forgotten<'a>, Malformed> {
    let left = a.u32()?;
    a.skip(4)?;
    Ok(Forgotten { left, pairs: *a })
}

pub(super) fn mknod<'a>(a: &mut Arguments<'a>) -> Result<Request<'a>, Malformed> {
    let mode = a.u32()?;
    let device = u64::from(a.u32()?);
    let umask = a.u32()?;
    a.skip(4)?;
    let node = match Kind::of_mode(mode) {
        Some(Kind::File) => Node::File,
        Some(Kind::Fifo) => Node::Fifo,
        Some(Kind::Socket) => Node::Socket,
        Some(Kind::CharDevice) => Node::CharDevice(device),
        Some(Kind::BlockDevice) => Node::BlockDevice(device),
        Some(Kind::Dir | Kind::Symlink) | None => return Err(Malformed),
    };
    let permissions = Permissions {
        perm: mode & 0o7777,
        umask,
    };
    Ok(Request::MkNod {
        name: a.string()?,
        node,
        permissions,
    })
}

pub(super) fn mkdir<'a>(a: &mut Arguments<'a>) -> Result<Request<'a>, Malformed> {
    let permissions = Permissions {
        perm: a.u32()? & 0o7777,
        umask: a.u32()?,
    };
    Ok(Request::MkDir {
        name: a.string()?,
        permissions,
    })
}

pub(super) fn rename<'a>(
    a: &mut Arguments<'a>,
    with_flags: bool,
) -> Result<Request<'a>, Malformed> {
    let to = InodeId(a.u64()?);
    let mut flags = 0;
    if with_flags {
        flags = a.u32()?;
        a.skip(4)?;
    }
    // RENAME_NOREPLACE and RENAME_EXCHANGE; RENAME_WHITEOUT is for filesystems below a union.
    let how = match flags {
        0 => RenameHow::Replace,
        1 => RenameHow::NoReplace,
        2 => RenameHow::Exchange,
        _ => return Err(Malformed),
    };
    Ok(Request::Rename {
        to,
        name: a.string()?,
        new: a.string()?,
        how,
    })
}

fn create_in(a: &mut Arguments<'_>) -> Result<(u32, Permissions, OpenFlags), Malformed> {
    let flags = a.u32()?;
    let permissions = Permissions {
        perm: a.u32()? & 0o7777,
        umask: a.u32()?,
    };
    Ok((flags, permissions, open_flags(flags, a.u32()?)))
}

pub(super) fn create<'a>(a: &mut Arguments<'a>) -> Result<Request<'a>, Malformed> {
    let (raw, permissions, flags) = create_in(a)?;
    let exclusive = raw & O_EXCL != 0;
    Ok(Request::Create {
        name: a.string()?,
        permissions,
        exclusive,
        flags,
    })
}

pub(super) fn tmpfile<'a>(a: &mut Arguments<'a>) -> Result<Request<'a>, Malformed> {
    let (_, permissions, flags) = create_in(a)?;
    Ok(Request::TmpFile { permissions, flags })
}

pub(super) fn read(a: &mut Arguments<'_>) -> Result<(u64, u64, u32), Malformed> {
    Ok((a.u64()?, a.u64()?, a.u32()?))
}

pub(super) fn write<'a>(a: &mut Arguments<'a>) -> Result<Request<'a>, Malformed> {
    a.skip(8)?;
    let offset = a.u64()?;
    let size = a.u32()? as usize;
    let drop_set_id = a.u32()? & WRITE_KILL_SUIDGID != 0;
    a.skip(16)?;
    Ok(Request::Write {
        offset,
        data: a.take(size)?,
        drop_set_id,
    })
}

pub(super) fn fsync<'a>(a: &mut Arguments<'a>) -> Result<Request<'a>, Malformed> {
    let handle = a.u64()?;
    let data_only = a.u32()? & FSYNC_FDATASYNC != 0;
    Ok(Request::FSync {
        handle,
        how: if data_only {
            SyncHow::Data
        } else {
            SyncHow::All
        },
    })
}

pub(super) fn set_xattr<'a>(
    a: &mut Arguments<'a>,
    dialect: Dialect,
) -> Result<Request<'a>, Malformed> {
    let size = a.u32()? as usize;
    // XATTR_CREATE and XATTR_REPLACE.
    let how = match a.u32()? {
        0 => XattrHow::Set,
        1 => XattrHow::Create,
        2 => XattrHow::Replace,
        _ => return Err(Malformed),
    };
    a.skip(if dialect.long_setxattr { 8 } else { 0 })?;
    Ok(Request::SetXattr {
        name: a.string()?,
        value: a.take(size)?,
        how,
    })
}

pub(super) fn whence(raw: u32) -> Result<Seek, Malformed> {
    match raw {
        3 => Ok(Seek::Data),
        4 => Ok(Seek::Hole),
        _ => Err(Malformed),
    }
}

pub(super) fn copy_range(a: &mut Arguments<'_>) -> Result<(u64, InodeId, u64, u64), Malformed> {
    a.skip(8)?;
    let from_offset = a.u64()?;
    let to = InodeId(a.u64()?);
    a.skip(8)?;
    Ok((from_offset, to, a.u64()?, a.u64()?))
}
