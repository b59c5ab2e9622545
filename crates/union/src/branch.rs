//! Branches, and directories on them that are opened when needed.
//!
//! A directory is remembered as parent and name, and open only while a bounded cache has room for it:
//! the number of descriptors does not grow with the tree.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use rules::renamed::TreeId;
use rules::{Attr, BranchIndex, Errno, Name, Powers};
use tree::{Object, Tree};

use crate::api::BranchId;
use crate::renamed::RenamedDirs;

/// One directory tree of the union with what it may be used for.
pub struct Branch<T: Tree> {
    /// The tree.
    pub tree: T,
    /// What it may be used for.
    pub powers: Powers,
}

/// A branch in its place in the stack.
///
/// Place and powers change only while no operation runs, see `restack`.
pub(crate) struct Placed<T: Tree> {
    pub(crate) id: BranchId,
    index: AtomicU16,
    pub(crate) tree: T,
    powers: AtomicU32,
    /// The filesystem that its root is on.
    pub(crate) dev: u64,
    /// The inode number of its root.
    ino: u64,
    /// When it did not answer last.
    pub(crate) failed: Mutex<Option<Instant>>,
    /// How the records of renamed directories name it, once somebody asked.
    tree_id: OnceLock<TreeId>,
    /// Which of its directories have such records, once somebody asked: a mount asks nothing of a branch that can wait.
    renamed: OnceLock<RenamedDirs>,
    /// Whether its filesystem has files without names, as far as is known.
    nameless: AtomicBool,
    cache: Arc<HandleCache<T>>,
}

impl<T: Tree> Placed<T> {
    /// Returns whether copies may be built without a name.
    pub(crate) fn has_nameless(&self) -> bool {
        self.nameless.load(Ordering::Relaxed)
    }

    /// Notes that its filesystem knows no files without names.
    pub(crate) fn note_no_nameless(&self) {
        self.nameless.store(false, Ordering::Relaxed);
    }

    pub(crate) fn index(&self) -> BranchIndex {
        BranchIndex(self.index.load(Ordering::Relaxed))
    }

    pub(crate) fn powers(&self) -> Powers {
        Powers::from_bits(self.powers.load(Ordering::Relaxed))
    }

    /// Returns how the records of renamed directories name the branch.
    pub(crate) fn tree_id(&self) -> TreeId {
        if let Some(known) = self.tree_id.get() {
            return known.clone();
        }
        let stat = self.tree.root().and_then(|root| self.tree.stat_fs(&root));
        match stat {
            Ok(stat) => {
                let id = || TreeId::new(stat.fsid, self.dev, self.ino);
                self.tree_id.get_or_init(id).clone()
            }
            // Next time it may answer.
            Err(_) => TreeId::new(0, self.dev, self.ino),
        }
    }

    /// Returns which directories are renamed, as far as that is known; the first time reads the list of the branch.
    pub(crate) fn renamed(&self) -> &RenamedDirs {
        self.renamed.get_or_init(|| RenamedDirs::load(&self.tree))
    }

    /// The same, unless nobody needed it yet.
    pub(crate) fn renamed_if_known(&self) -> Option<&RenamedDirs> {
        self.renamed.get()
    }

    pub(crate) fn set_index(&self, index: BranchIndex) {
        self.index.store(index.0, Ordering::Relaxed);
    }

    pub(crate) fn set_powers(&self, powers: Powers) {
        self.powers.store(powers.bits(), Ordering::Relaxed);
    }
}

/// Open directories, oldest first, and how many there may be.
pub(crate) struct HandleCache<T: Tree> {
    open: Mutex<VecDeque<Weak<BranchDir<T>>>>,
    limit: usize,
}

impl<T: Tree> HandleCache<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            open: Mutex::new(VecDeque::new()),
            limit: limit.max(16),
        }
    }

    /// Returns how many are open.
    pub(crate) fn len(&self) -> usize {
        let open = self.open.lock();
        open.iter().filter(|dir| dir.strong_count() > 0).count()
    }

    fn opened(&self, dir: &Arc<BranchDir<T>>) {
        let evicted = {
            let mut open = self.open.lock();
            open.push_back(Arc::downgrade(dir));
            if open.len() > self.limit {
                open.pop_front()
            } else {
                None
            }
        };
        if let Some(dir) = evicted.and_then(|dir| dir.upgrade()) {
            dir.close();
        }
    }
}

/// A directory on one branch.
pub(crate) struct BranchDir<T: Tree> {
    pub(crate) branch: Arc<Placed<T>>,
    state: Mutex<DirState<T>>,
}

struct DirState<T: Tree> {
    /// `None` for the root of the branch, which stays open.
    place: Option<(Arc<BranchDir<T>>, Name)>,
    handle: Option<Arc<T::Dir>>,
}

impl<T: Tree> BranchDir<T> {
    /// Opens the root of a branch, and says what it is.
    pub(crate) fn root(
        branch: Branch<T>,
        id: BranchId,
        index: BranchIndex,
        cache: &Arc<HandleCache<T>>,
    ) -> Result<(Arc<Self>, Attr), Errno> {
        let handle = Arc::new(branch.tree.root()?);
        let Branch { tree, powers } = branch;
        let attr = tree.attr(Object::Dir(&*handle))?;
        let branch = Arc::new(Placed {
            id,
            index: AtomicU16::new(index.0),
            tree,
            powers: AtomicU32::new(powers.bits()),
            dev: attr.dev,
            ino: attr.ino,
            failed: Mutex::default(),
            tree_id: OnceLock::new(),
            renamed: OnceLock::new(),
            nameless: AtomicBool::new(true),
            cache: Arc::clone(cache),
        });
        let state = DirState {
            place: None,
            handle: Some(handle),
        };
        let root = Self {
            branch,
            state: Mutex::new(state),
        };
        Ok((Arc::new(root), attr))
    }

    /// Remembers a subdirectory, which is opened when it is needed.
    pub(crate) fn child(self: &Arc<Self>, name: Name) -> Arc<Self> {
        let state = DirState {
            place: Some((Arc::clone(self), name)),
            handle: None,
        };
        Arc::new(Self {
            branch: Arc::clone(&self.branch),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn index(&self) -> BranchIndex {
        self.branch.index()
    }

    pub(crate) fn powers(&self) -> Powers {
        self.branch.powers()
    }

    pub(crate) fn tree(&self) -> &T {
        &self.branch.tree
    }

    /// Returns the open directory.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Arc<T::Dir>, Errno> {
        let place = {
            let state = self.state.lock();
            match (&state.handle, &state.place) {
                (Some(handle), _) => return Ok(Arc::clone(handle)),
                (None, Some(place)) => place.clone(),
                (None, None) => return Err(Errno::STALE),
            }
        };
        let (parent, name) = place;
        let handle = Arc::new(self.tree().open_dir(&*parent.open()?, &name)?);
        let mut state = self.state.lock();
        if let Some(already) = &state.handle {
            return Ok(Arc::clone(already));
        }
        state.handle = Some(Arc::clone(&handle));
        drop(state);
        self.branch.cache.opened(self);
        Ok(handle)
    }

    /// Returns where the directory is; `None` for the root of a branch.
    pub(crate) fn place(&self) -> Option<(Arc<Self>, Name)> {
        self.state.lock().place.clone()
    }

    /// Returns the names that lead from the root of the branch to the directory.
    pub(crate) fn path(&self) -> Vec<Name> {
        let mut names = Vec::new();
        let mut place = self.place();
        while let Some((parent, name)) = place {
            names.push(name);
            place = parent.place();
        }
        names.reverse();
        names
    }

    /// Notes that the directory has another place now.
    pub(crate) fn moved(&self, parent: &Arc<Self>, name: &Name) {
        self.state.lock().place = Some((Arc::clone(parent), name.clone()));
    }

    fn close(&self) {
        let mut state = self.state.lock();
        if state.place.is_some() {
            state.handle = None;
        }
    }
}
