//! Requests as values, with names and data borrowed from the bytes they came in.

use rules::{Changes, Errno};
use tree::{Node, RenameHow, Seek, SyncHow, XattrHow};
use union::{InodeId, OpenFlags};

use super::arguments::{Arguments, Malformed};
use super::opcode::Opcode;
use super::set_attr;

mod fields;

/// What INIT settled about the shape of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// `SETXATTR` comes with its longer structure.
    pub long_setxattr: bool,
}

/// Permission bits that were asked for, and those that the caller's umask takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// `mode & 0o7777`.
    pub perm: u32,
    /// The umask.
    pub umask: u32,
}

/// A request about the object in the header, which is a directory where a name is given.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of the system calls")]
pub enum Request<'a> {
    Lookup {
        name: &'a [u8],
    },
    Forget {
        count: u64,
    },
    BatchForget(Forgotten<'a>),
    GetAttr,
    SetAttr {
        changes: Changes,
    },
    ReadLink,
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    MkNod {
        name: &'a [u8],
        node: Node,
        permissions: Permissions,
    },
    MkDir {
        name: &'a [u8],
        permissions: Permissions,
    },
    Unlink {
        name: &'a [u8],
    },
    RmDir {
        name: &'a [u8],
    },
    Rename {
        name: &'a [u8],
        to: InodeId,
        new: &'a [u8],
        how: RenameHow,
    },
    Link {
        target: InodeId,
        name: &'a [u8],
    },
    Open {
        flags: OpenFlags,
    },
    Create {
        name: &'a [u8],
        permissions: Permissions,
        exclusive: bool,
        flags: OpenFlags,
    },
    TmpFile {
        permissions: Permissions,
        flags: OpenFlags,
    },
    Read {
        offset: u64,
        size: u32,
    },
    Write {
        offset: u64,
        data: &'a [u8],
        drop_set_id: bool,
    },
    StatFs,
    Release {
        handle: u64,
    },
    FSync {
        handle: u64,
        how: SyncHow,
    },
    SetXattr {
        name: &'a [u8],
        value: &'a [u8],
        how: XattrHow,
    },
    GetXattr {
        name: &'a [u8],
        size: u32,
    },
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: &'a [u8],
    },
    OpenDir,
    ReadDir {
        handle: u64,
        offset: u64,
        size: u32,
    },
    ReadDirPlus {
        handle: u64,
        offset: u64,
        size: u32,
    },
    ReleaseDir {
        handle: u64,
    },
    FSyncDir,
    FAllocate {
        offset: u64,
        length: u64,
        mode: u32,
    },
    LSeek {
        offset: u64,
        what: Seek,
    },
    CopyFileRange {
        from_offset: u64,
        to: InodeId,
        to_offset: u64,
        length: u64,
    },
    CopyFileRange64 {
        from_offset: u64,
        to: InodeId,
        to_offset: u64,
        length: u64,
    },
    SyncFs,
    StatX,
    Destroy,
    /// No reply belongs to it, and nothing needs to be done.
    Notice,
    /// Always answered with this errno.
    Unsupported(Errno),
}

/// The references that `BATCH_FORGET` gives back.
#[derive(Debug, Clone, Copy)]
pub struct Forgotten<'a> {
    left: u32,
    pairs: Arguments<'a>,
}

impl Iterator for Forgotten<'_> {
    type Item = (InodeId, u64);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let id = self.pairs.u64().ok()?;
        Some((InodeId(id), self.pairs.u64().ok()?))
    }
}

impl<'a> Request<'a> {
    /// Reads what a request of this kind carries.
    pub fn parse(
        opcode: Opcode,
        mut arguments: Arguments<'a>,
        dialect: Dialect,
    ) -> Result<Self, Malformed> {
        let a = &mut arguments;
        Ok(match opcode {
            Opcode::Lookup => Self::Lookup { name: a.string()? },
            Opcode::Forget => Self::Forget { count: a.u64()? },
            Opcode::BatchForget => Self::BatchForget(fields::batch_forget(a)?),
            Opcode::GetAttr => Self::GetAttr,
            Opcode::SetAttr => Self::SetAttr {
                changes: set_attr::changes(a)?,
            },
            Opcode::ReadLink => Self::ReadLink,
            Opcode::Symlink => Self::Symlink {
                name: a.string()?,
                target: a.string()?,
            },
            Opcode::MkNod => fields::mknod(a)?,
            Opcode::MkDir => fields::mkdir(a)?,
            Opcode::Unlink => Self::Unlink { name: a.string()? },
            Opcode::RmDir => Self::RmDir { name: a.string()? },
            Opcode::Rename => fields::rename(a, false)?,
            Opcode::Rename2 => fields::rename(a, true)?,
            Opcode::Link => Self::Link {
                target: InodeId(a.u64()?),
                name: a.string()?,
            },
            Opcode::Open => {
                let flags = a.u32()?;
                Self::Open {
                    flags: fields::open_flags(flags, a.u32()?),
                }
            }
            Opcode::Create => fields::create(a)?,
            Opcode::TmpFile => fields::tmpfile(a)?,
            Opcode::Read => {
                let (_, offset, size) = fields::read(a)?;
                Self::Read { offset, size }
            }
            Opcode::Write => fields::write(a)?,
            Opcode::StatFs => Self::StatFs,
            Opcode::Release => Self::Release { handle: a.u64()? },
            Opcode::FSync => fields::fsync(a)?,
            Opcode::SetXattr => fields::set_xattr(a, dialect)?,
            Opcode::GetXattr => {
                let size = a.u32()?;
                a.skip(4)?;
                Self::GetXattr {
                    name: a.string()?,
                    size,
                }
            }
            Opcode::ListXattr => Self::ListXattr { size: a.u32()? },
            Opcode::RemoveXattr => Self::RemoveXattr { name: a.string()? },
            Opcode::OpenDir => Self::OpenDir,
            Opcode::ReadDir => {
                let (handle, offset, size) = fields::read(a)?;
                Self::ReadDir {
                    handle,
                    offset,
                    size,
                }
            }
            Opcode::ReadDirPlus => {
                let (handle, offset, size) = fields::read(a)?;
                Self::ReadDirPlus {
                    handle,
                    offset,
                    size,
                }
            }
            Opcode::ReleaseDir => Self::ReleaseDir { handle: a.u64()? },
            Opcode::FSyncDir => Self::FSyncDir,
            Opcode::FAllocate => {
                a.skip(8)?;
                Self::FAllocate {
                    offset: a.u64()?,
                    length: a.u64()?,
                    mode: a.u32()?,
                }
            }
            Opcode::LSeek => {
                a.skip(8)?;
                Self::LSeek {
                    offset: a.u64()?,
                    what: fields::whence(a.u32()?)?,
                }
            }
            Opcode::CopyFileRange => {
                let (from_offset, to, to_offset, length) = fields::copy_range(a)?;
                Self::CopyFileRange {
                    from_offset,
                    to,
                    to_offset,
                    length,
                }
            }
            Opcode::CopyFileRange64 => {
                let (from_offset, to, to_offset, length) = fields::copy_range(a)?;
                Self::CopyFileRange64 {
                    from_offset,
                    to,
                    to_offset,
                    length,
                }
            }
            Opcode::SyncFs => Self::SyncFs,
            Opcode::StatX => Self::StatX,
            Opcode::Destroy => Self::Destroy,
            // Replies are prompt, so an interrupted caller gets the one it waits for.
            Opcode::Interrupt | Opcode::NotifyReply => Self::Notice,
            Opcode::IoCtl => Self::Unsupported(Errno::NOTTY),
            // The kernel does these on its own once it has heard ENOSYS, and asks no more.
            Opcode::Flush | Opcode::Access | Opcode::BMap | Opcode::Poll => {
                Self::Unsupported(Errno::NOSYS)
            }
            Opcode::GetLock | Opcode::SetLock | Opcode::SetLockWait => {
                Self::Unsupported(Errno::NOSYS)
            }
            Opcode::SetupMapping | Opcode::RemoveMapping => Self::Unsupported(Errno::NOSYS),
            Opcode::Init => Self::Unsupported(Errno::IO),
        })
    }
}

#[cfg(test)]
mod tests;
