//! One object of the tree in memory.

use std::collections::BTreeMap;

use rules::{Attr, Kind, Name, Time};

use super::content::{BLOCK, Content};

/// Number of an inode on its disk; never used twice.
pub(crate) type Ino = u64;

/// An object: what it is and what is known about it.
#[derive(Debug, Clone)]
pub(crate) struct Inode {
    pub(crate) perm: u32,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) atime: Time,
    pub(crate) mtime: Time,
    pub(crate) ctime: Time,
    pub(crate) btime: Time,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether a first name may be given although there is none (`O_TMPFILE`).
    pub(crate) linkable: bool,
    pub(crate) body: Body,
}

/// What an object holds.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// A regular file.
    File(Content),
    /// A directory.
    Dir {
        /// Its names.
        names: BTreeMap<Name, Ino>,
        /// The directory that holds it; the root holds itself.
        parent: Ino,
    },
    /// A symbolic link with its target.
    Symlink(Box<[u8]>),
    /// A device, pipe or socket with its device number.
    Special(Kind, u64),
}

impl Body {
    /// Returns an empty directory.
    pub(crate) fn empty_dir(parent: Ino) -> Self {
        Self::Dir {
            names: BTreeMap::new(),
            parent,
        }
    }

    /// Returns the kind of an object that holds this.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Dir { .. } => Kind::Dir,
            Self::Symlink(_) => Kind::Symlink,
            Self::Special(kind, _) => *kind,
        }
    }
}

impl Inode {
    /// Returns the kind.
    pub(crate) fn kind(&self) -> Kind {
        self.body.kind()
    }

    /// Returns whether this is a directory.
    pub(crate) fn is_dir(&self) -> bool {
        self.kind() == Kind::Dir
    }

    /// Returns whether this is a directory that was removed.
    pub(crate) fn is_dead_dir(&self) -> bool {
        self.is_dir() && self.nlink == 0
    }

    /// Returns the bytes of a regular file; nothing for other kinds.
    pub(crate) fn content(&self) -> Option<&Content> {
        match &self.body {
            Body::File(content) => Some(content),
            _ => None,
        }
    }

    /// Returns the attributes.
    pub(crate) fn attr(&self, dev: u64, ino: Ino) -> Attr {
        let (size, blocks, rdev) = match &self.body {
            Body::File(content) => (content.size(), content.sectors(), 0),
            Body::Dir { .. } => (BLOCK, BLOCK / 512, 0),
            // ext4 keeps targets of up to 59 bytes in the inode.
            Body::Symlink(target) if target.len() < 60 => (target.len() as u64, 0, 0),
            Body::Symlink(target) => (target.len() as u64, BLOCK / 512, 0),
            Body::Special(_, rdev) => (0, 0, *rdev),
        };
        Attr {
            dev,
            ino,
            kind: self.kind(),
            perm: self.perm,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev,
            size,
            blocks,
            block_size: BLOCK as u32,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: Some(self.btime),
            immutable: false,
        }
    }

    /// Takes away what a change of contents or owner takes away: file capabilities.
    pub(crate) fn drop_capability(&mut self) {
        self.xattrs.remove(b"security.capability".as_slice());
    }

    /// Takes away set-user-id, and set-group-id where the group may execute.
    pub(crate) fn drop_set_id(&mut self) {
        self.perm &= !0o4000;
        if self.perm & 0o010 != 0 {
            self.perm &= !0o2000;
        }
    }
}
