//! What is known about an object: kind, attributes, and changes to them.

/// The kind of a filesystem object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// The bits of a mode that say the kind (`S_IFMT`).
pub const KIND_MASK: u32 = 0o170_000;

impl Kind {
    /// Returns the kind in a mode, or `None` when the bits name none.
    pub fn of_mode(mode: u32) -> Option<Self> {
        Some(match mode & KIND_MASK {
            0o100_000 => Self::File,
            0o040_000 => Self::Dir,
            0o120_000 => Self::Symlink,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }

    /// Returns the kind's bits of a mode (`S_IFREG`, ...).
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::File => 0o100_000,
            Self::Dir => 0o040_000,
            Self::Symlink => 0o120_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
        }
    }

    /// Returns the kind that `d_type` of a directory entry names; `None` for `DT_UNKNOWN`.
    pub fn of_dirent_type(d_type: u8) -> Option<Self> {
        Self::of_mode(u32::from(d_type) << 12)
    }

    /// Returns the kind as `d_type` of a directory entry has it.
    pub fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// A point in time: seconds since 1970 and nanoseconds below 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time {
    /// Whole seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds, below 10^9.
    pub nanos: u32,
}

/// Attributes of an object, as `statx` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Number of the filesystem that holds the object.
    pub dev: u64,
    /// Inode number on that filesystem.
    pub ino: u64,
    /// What the object is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits (`mode & 0o7777`).
    pub perm: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device that a device node names, as `makedev` packs it; 0 for others.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes that are allocated.
    pub blocks: u64,
    /// Preferred size of an I/O request in bytes.
    pub block_size: u32,
    /// Time of last access.
    pub atime: Time,
    /// Time of last modification.
    pub mtime: Time,
    /// Time of last status change.
    pub ctime: Time,
    /// Time of birth, where the filesystem keeps it.
    pub btime: Option<Time>,
    /// Whether the object cannot be changed (`STATX_ATTR_IMMUTABLE`).
    pub immutable: bool,
}

impl Attr {
    /// Returns kind and permissions as one mode.
    pub fn mode(&self) -> u32 {
        self.kind.mode_bits() | self.perm
    }
}

/// Who makes a new object: its owner on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Owner of what is made.
    pub uid: u32,
    /// Group of what is made, unless a set-group-id directory hands down its own.
    pub gid: u32,
}

impl Identity {
    /// The superuser, who owns whiteouts.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// How a new object is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Creation {
    /// Permission bits that were asked for (`mode & 0o7777`).
    pub perm: u32,
    /// Bits the caller's umask takes away, unless the directory has a default ACL.
    pub umask: u32,
    /// Whose object it becomes; `None`: the server's own.
    pub owner: Option<Identity>,
}

impl Creation {
    /// Returns a creation with exactly these bits, owned by the server.
    pub fn exact(perm: u32) -> Self {
        Self {
            perm,
            umask: 0,
            owner: None,
        }
    }
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The present, by the clock of the filesystem.
    Now,
    /// A given time.
    To(Time),
}

/// Changes to attributes; what is `None` stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// New permission, set-id and sticky bits.
    pub perm: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size in bytes.
    pub size: Option<u64>,
    /// New time of last access.
    pub atime: Option<SetTime>,
    /// New time of last modification.
    pub mtime: Option<SetTime>,
    /// Whether set-user-id and set-group-id go away first, as a write by somebody else does.
    pub drop_set_id: bool,
}

impl Changes {
    /// Returns whether nothing would change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Space and limits of a filesystem, as `statvfs` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatFs {
    /// Number of the filesystem, to count each one once.
    pub dev: u64,
    /// What the filesystem calls itself (`f_fsid`, its first word in the low half), 0 when it says nothing.
    pub fsid: u64,
    /// Blocks in all, in units of `fragment_size`.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for others than the superuser.
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Preferred size of a request in bytes.
    pub block_size: u32,
    /// Size of a block in bytes.
    pub fragment_size: u32,
    /// Longest name in bytes.
    pub name_max: u32,
}
