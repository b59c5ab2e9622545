//! The filesystem under one or several trees: inodes behind one lock, and a logical clock.
//!
//! Only one disk is ever locked at a time, so that two trees cannot wait for each other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rules::{Errno, Name, StatFs, Time, XattrClasses};

use super::content::BLOCK;
use super::inode::{Body, Ino, Inode};
use super::{Dir, MemoryTree};

/// Inode number of the root of a disk, as ext4 has it.
const ROOT: Ino = 2;
/// Longest name in bytes.
pub(crate) const NAME_MAX: usize = 255;
/// Most names that a file may have, as ext4 has it.
pub(crate) const MAX_LINKS: u32 = 65_000;
/// What the logical clock counts from, in seconds.
const EPOCH: i64 = 1_000_000_000;
/// How many blocks and inodes a disk has unless it is told otherwise.
const CAPACITY: u64 = 1 << 20;

/// A filesystem in memory. Clones are the same disk.
///
/// Trees on one disk link and rename among each other; between disks that is `EXDEV`.
#[derive(Clone)]
pub struct MemoryDisk(Arc<Shared>);

struct Shared {
    dev: u64,
    table: Mutex<Table>,
}

/// All inodes of a disk.
pub(crate) struct Table {
    inodes: BTreeMap<Ino, Inode>,
    next_ino: Ino,
    ticks: u64,
    pub(crate) refused_xattrs: XattrClasses,
    /// How many blocks there are for data.
    capacity: u64,
}

impl MemoryDisk {
    /// Makes an empty disk: a root directory with permissions 0755 that root owns.
    #[expect(clippy::new_without_default, reason = "each disk is a new device")]
    pub fn new() -> Self {
        static NEXT_DEV: AtomicU64 = AtomicU64::new(0x0700);
        let mut table = Table {
            inodes: BTreeMap::new(),
            next_ino: ROOT,
            ticks: 0,
            refused_xattrs: XattrClasses::NONE,
            capacity: CAPACITY,
        };
        table.add(Body::empty_dir(ROOT), 0o755, 0, 0);
        let dev = NEXT_DEV.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Shared {
            dev,
            table: Mutex::new(table),
        }))
    }

    /// Lets attributes of these classes be refused with `EOPNOTSUPP` from now on, as by a filesystem that does not know them.
    pub fn refuse_xattrs(&self, classes: XattrClasses) {
        self.lock().refused_xattrs = classes;
    }

    /// Returns the whole disk as a tree.
    pub fn tree(&self) -> MemoryTree {
        MemoryTree::at(Dir {
            disk: self.clone(),
            ino: ROOT,
        })
    }

    /// Returns a directory of the disk's root as a tree of its own, making it where needed.
    ///
    /// # Panics
    ///
    /// When the name is none, or taken by something that is no directory.
    pub fn subtree(&self, name: &str) -> MemoryTree {
        let name = Name::new(name.as_bytes()).expect("the name of a subtree is one component");
        let mut table = self.lock();
        let ino = table.lookup(ROOT, &name).unwrap_or_else(|_| {
            let ino = table.add(Body::empty_dir(ROOT), 0o755, 0, 0);
            table.insert_name(ROOT, &name, ino);
            ino
        });
        assert!(table.inode(ino).is_dir(), "{name} is no directory");
        drop(table);
        MemoryTree::at(Dir {
            disk: self.clone(),
            ino,
        })
    }

    /// Makes the disk as large as so many blocks of 4096 bytes. What does not fit any more is `ENOSPC`: data, and new
    /// objects once nothing is free.
    pub fn resize(&self, blocks: u64) {
        self.lock().capacity = blocks;
    }

    /// Returns the device number.
    pub fn dev(&self) -> u64 {
        self.0.dev
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        self.0
            .table
            .lock()
            .expect("no thread panicked while it changed this disk")
    }

    pub(crate) fn stat_fs(&self) -> StatFs {
        let table = self.lock();
        let linked = || table.inodes.values().filter(|inode| inode.nlink > 0);
        let free = table.free();
        StatFs {
            dev: self.dev(),
            fsid: self.dev() << 8,
            blocks: table.capacity,
            blocks_free: free,
            blocks_available: free,
            files: CAPACITY,
            files_free: CAPACITY.saturating_sub(linked().count() as u64),
            block_size: BLOCK as u32,
            fragment_size: BLOCK as u32,
            name_max: NAME_MAX as u32,
        }
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryDisk({:#x})", self.0.dev)
    }
}

impl Table {
    pub(crate) fn inode(&self, ino: Ino) -> &Inode {
        self.inodes.get(&ino).expect("inodes are never forgotten")
    }

    pub(crate) fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        self.inodes
            .get_mut(&ino)
            .expect("inodes are never forgotten")
    }

    /// Returns how many blocks are free.
    pub(crate) fn free(&self) -> u64 {
        let linked = self.inodes.values().filter(|inode| inode.nlink > 0);
        let sectors: u64 = linked.map(|inode| inode.attr(0, 0).blocks).sum();
        self.capacity.saturating_sub(sectors / (BLOCK / 512))
    }

    /// Advances the clock and returns the new present.
    pub(crate) fn tick(&mut self) -> Time {
        self.ticks += 1;
        let seconds = EPOCH + (self.ticks / 1_000_000_000) as i64;
        Time {
            seconds,
            nanos: (self.ticks % 1_000_000_000) as u32,
        }
    }

    /// Adds an object that has no name yet; a directory counts itself.
    pub(crate) fn add(&mut self, body: Body, perm: u32, uid: u32, gid: u32) -> Ino {
        let now = self.tick();
        let ino = self.next_ino;
        self.next_ino += 1;
        let inode = Inode {
            perm,
            nlink: if matches!(body, Body::Dir { .. }) {
                2
            } else {
                0
            },
            uid,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            xattrs: BTreeMap::new(),
            linkable: false,
            body,
        };
        self.inodes.insert(ino, inode);
        ino
    }

    /// Finds a name. `ENOENT` in a removed directory, `ENAMETOOLONG`, `ENOENT`.
    pub(crate) fn lookup(&self, dir: Ino, name: &Name) -> Result<Ino, Errno> {
        if self.inode(dir).is_dead_dir() {
            return Err(Errno::NOENT);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        self.names(dir).get(name).copied().ok_or(Errno::NOENT)
    }

    /// Makes sure that a name can be made here and is free (`EEXIST`).
    pub(crate) fn vacancy(&self, dir: Ino, name: &Name) -> Result<(), Errno> {
        match self.lookup(dir, name) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) if !self.inode(dir).is_dead_dir() => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Returns the names of a directory.
    pub(crate) fn names(&self, dir: Ino) -> &BTreeMap<Name, Ino> {
        match &self.inode(dir).body {
            Body::Dir { names, .. } => names,
            _ => unreachable!("a handle of a directory is of a directory"),
        }
    }

    fn names_mut(&mut self, dir: Ino) -> &mut BTreeMap<Name, Ino> {
        match &mut self.inode_mut(dir).body {
            Body::Dir { names, .. } => names,
            _ => unreachable!("a handle of a directory is of a directory"),
        }
    }

    /// Puts an object under a free name: counts the link and touches the directory.
    pub(crate) fn insert_name(&mut self, dir: Ino, name: &Name, ino: Ino) {
        self.names_mut(dir).insert(name.clone(), ino);
        if let Body::Dir { parent, .. } = &mut self.inode_mut(ino).body {
            *parent = dir;
            self.inode_mut(dir).nlink += 1;
        } else {
            self.inode_mut(ino).nlink += 1;
        }
        self.touch_dir(dir);
    }

    /// Takes an object from its name: uncounts the link and touches the directory.
    pub(crate) fn take_name(&mut self, dir: Ino, name: &Name) -> Ino {
        let ino = self
            .names_mut(dir)
            .remove(name)
            .expect("the name was looked up before");
        if self.inode(ino).is_dir() {
            self.inode_mut(dir).nlink -= 1;
        } else {
            self.inode_mut(ino).nlink -= 1;
        }
        self.touch_dir(dir);
        ino
    }

    /// Marks the names of a directory as changed now.
    fn touch_dir(&mut self, dir: Ino) {
        let now = self.tick();
        let inode = self.inode_mut(dir);
        inode.mtime = now;
        inode.ctime = now;
    }

    /// Marks an object's status as changed now.
    pub(crate) fn touch(&mut self, ino: Ino) {
        let now = self.tick();
        self.inode_mut(ino).ctime = now;
    }

    /// Returns whether `ino` is the directory `ancestor` or below it.
    pub(crate) fn is_within(&self, mut ino: Ino, ancestor: Ino) -> bool {
        loop {
            if ino == ancestor {
                return true;
            }
            match self.inode(ino).body {
                Body::Dir { parent, .. } if parent != ino => ino = parent,
                _ => return false,
            }
        }
    }
}
