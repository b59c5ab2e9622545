//! What the kernel may ask: the numbers and names of its requests.

macro_rules! opcodes {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        /// The kind of a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Opcode {
            $(#[doc = concat!("`FUSE_", $text, "`.")] $name = $value,)*
        }

        impl Opcode {
            /// All kinds, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the kind of a number, or `None` for one that came after 7.45.
            pub fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns the name as the kernel's header has it, without `FUSE_`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

opcodes! {
    Lookup = 1, "LOOKUP";
    Forget = 2, "FORGET";
    GetAttr = 3, "GETATTR";
    SetAttr = 4, "SETATTR";
    ReadLink = 5, "READLINK";
    Symlink = 6, "SYMLINK";
    MkNod = 8, "MKNOD";
    MkDir = 9, "MKDIR";
    Unlink = 10, "UNLINK";
    RmDir = 11, "RMDIR";
    Rename = 12, "RENAME";
    Link = 13, "LINK";
    Open = 14, "OPEN";
    Read = 15, "READ";
    Write = 16, "WRITE";
    StatFs = 17, "STATFS";
    Release = 18, "RELEASE";
    FSync = 20, "FSYNC";
    SetXattr = 21, "SETXATTR";
    GetXattr = 22, "GETXATTR";
    ListXattr = 23, "LISTXATTR";
    RemoveXattr = 24, "REMOVEXATTR";
    Flush = 25, "FLUSH";
    Init = 26, "INIT";
    OpenDir = 27, "OPENDIR";
    ReadDir = 28, "READDIR";
    ReleaseDir = 29, "RELEASEDIR";
    FSyncDir = 30, "FSYNCDIR";
    GetLock = 31, "GETLK";
    SetLock = 32, "SETLK";
    SetLockWait = 33, "SETLKW";
    Access = 34, "ACCESS";
    Create = 35, "CREATE";
    Interrupt = 36, "INTERRUPT";
    BMap = 37, "BMAP";
    Destroy = 38, "DESTROY";
    IoCtl = 39, "IOCTL";
    Poll = 40, "POLL";
    NotifyReply = 41, "NOTIFY_REPLY";
    BatchForget = 42, "BATCH_FORGET";
    FAllocate = 43, "FALLOCATE";
    ReadDirPlus = 44, "READDIRPLUS";
    Rename2 = 45, "RENAME2";
    LSeek = 46, "LSEEK";
    CopyFileRange = 47, "COPY_FILE_RANGE";
    SetupMapping = 48, "SETUPMAPPING";
    RemoveMapping = 49, "REMOVEMAPPING";
    SyncFs = 50, "SYNCFS";
    TmpFile = 51, "TMPFILE";
    StatX = 52, "STATX";
    CopyFileRange64 = 53, "COPY_FILE_RANGE_64";
}

impl Opcode {
    /// One more than the largest number.
    pub const END: usize = Self::CopyFileRange64 as usize + 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_kinds_belong_together() {
        for &opcode in Opcode::ALL {
            assert_eq!(Opcode::from_raw(opcode as u32), Some(opcode));
            assert!((opcode as usize) < Opcode::END);
        }
        for unknown in [0, 7, 19, 54, 4096, u32::MAX] {
            assert_eq!(Opcode::from_raw(unknown), None);
        }
    }
}
