//! How much memory the union's knowledge of names takes, and what it gives up beyond a limit.
//!
//! Indexes of directories that nobody asked lately go first: they are read again when they are needed. Notes of objects
//! stay as long as the kernel remembers the objects, so the front end is asked to let it forget some. What is in use, and
//! what changes of watched directories are compared with, stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rules::Kind;
use tree::Tree;

use crate::index::Index;
use crate::inode::Inode;
use crate::union::Union;

/// What the union knows of the names in its branches, and what that takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Objects that the front end holds.
    pub objects: usize,
    /// Directories whose names are known.
    pub directories_indexed: usize,
    /// Names in those.
    pub names: usize,
    /// Directories of branches that are open.
    pub directories_open: usize,
    /// Bytes that all this takes, without what the allocator adds.
    pub bytes: usize,
}

/// How much memory is used, as far as nobody counted since.
#[derive(Default)]
pub(crate) struct Account {
    /// Bytes of indexes.
    indexes: AtomicUsize,
    /// Moves on each time something was given up: who was asked since is used.
    round: AtomicU64,
    asked: AtomicU32,
    last: Mutex<Option<Instant>>,
}

/// So many lookups share one look at the account.
const SAMPLE: u32 = 64;
/// What is needed again at once is not given up again at once.
const PAUSE: Duration = Duration::from_millis(200);
/// The most objects that the front end is asked to forget at a time.
const MOST_FORGOTTEN: usize = 1 << 16;

impl Account {
    /// Returns the mark of what is used now.
    pub(crate) fn round(&self) -> u64 {
        self.round.load(Ordering::Relaxed)
    }
}

impl<T: Tree> Union<T> {
    /// Counts what is known. It takes the time of a look at every directory.
    pub fn memory(&self) -> Memory {
        let held = self.inodes.held();
        let mut memory = Memory {
            objects: held.objects,
            bytes: held.bytes,
            directories_open: self.open_directories(),
            ..Memory::default()
        };
        for inode in self.inodes.awake() {
            let Ok(directory) = inode.dir() else { continue };
            let state = directory.state.read();
            if let Some(index) = &state.index {
                memory.directories_indexed += 1;
                memory.names += index.len();
                memory.bytes += index.memory();
            }
            memory.bytes += state.memory();
        }
        memory
    }

    /// Notes that an index was read.
    pub(crate) fn count_index(&self, index: &Index) {
        let bytes = index.memory();
        self.account.indexes.fetch_add(bytes, Ordering::Relaxed);
        self.mind_limit();
    }

    /// As `mind_limit`, for what happens all the time.
    pub(crate) fn mind_limit_sometimes(&self) {
        if self.settings().memory_limit.is_none() {
            return;
        }
        let asked = self.account.asked.fetch_add(1, Ordering::Relaxed);
        if asked.is_multiple_of(SAMPLE) {
            self.mind_limit();
        }
    }

    /// Asks for [`Union::save_memory`] when there is more than there may be.
    fn mind_limit(&self) {
        let Some(limit) = self.settings().memory_limit else {
            return;
        };
        let indexes = self.account.indexes.load(Ordering::Relaxed);
        if indexes + self.inodes.held().bytes <= limit {
            return;
        }
        let now = Instant::now();
        let mut last = self.account.last.lock();
        if last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            return;
        }
        *last = Some(now);
        drop(last);
        if let Some(observer) = self.observer() {
            observer.memory_is_short();
        }
    }

    /// Gives up what was not used lately until the limit is kept, as far as it can be. Returns whether the front end was asked
    /// to forget something, after which there may be more to do.
    pub fn save_memory(&self) -> bool {
        let Some(limit) = self.settings().memory_limit else {
            return false;
        };
        self.inodes.settle();
        let before = self.memory();
        // A little less, so that the next name does not begin it all again.
        let target = limit - limit / 8;
        let mut now = before;
        if before.bytes > limit && self.drop_indexes(before.bytes - target) > 0 {
            now = self.memory();
        }
        let mut forgotten = 0;
        if now.bytes > limit
            && let Some(observer) = self.observer()
        {
            let of_each = self.inodes.held().bytes / now.objects.max(1);
            let count = (now.bytes - target).div_ceil(of_each.max(1));
            let some = self.inodes.some(count.min(MOST_FORGOTTEN));
            forgotten = some.len();
            observer.unused(&some);
        }
        self.account.round.fetch_add(1, Ordering::Relaxed);
        let indexes = now.bytes - self.inodes.held().bytes.min(now.bytes);
        self.account.indexes.store(indexes, Ordering::Relaxed);
        tracing::debug!(
            limit,
            before = before.bytes,
            after = now.bytes,
            indexes = now.directories_indexed,
            forgotten,
            "gave up what was not used lately"
        );
        forgotten > 0
    }

    /// Drops indexes until so many bytes are free, those first that were not asked for long; returns how many bytes are.
    fn drop_indexes(&self, enough: usize) -> usize {
        let mut indexed: Vec<(u64, Arc<Inode<T>>)> = Vec::new();
        for inode in self
            .inodes
            .awake()
            .into_iter()
            .filter(|i| i.kind == Kind::Dir)
        {
            if let Ok(directory) = inode.dir()
                && directory.state.read().index.is_some()
            {
                let used = directory.used.load(Ordering::Relaxed);
                indexed.push((used, inode));
            }
        }
        indexed.sort_by_key(|(used, _)| *used);
        let mut freed = 0;
        for (_, inode) in indexed {
            if freed >= enough {
                break;
            }
            if let Ok(directory) = inode.dir() {
                let mut state = directory.state.write();
                if let Some(index) = state.index.take_if(|index| index.may_be_read_again()) {
                    freed += index.memory();
                }
            }
        }
        freed
    }
}
