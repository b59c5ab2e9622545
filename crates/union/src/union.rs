//! The union: its branches, its inodes, and how both are opened and closed.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use parking_lot::{Mutex, RwLock};
use rules::{Attr, BranchIndex, Kind, Name, Powers, StatFs};
use tree::{Object, Tree};

use crate::api::{BranchId, InodeId, Observer, Watcher};
use crate::branch::{Branch, BranchDir, HandleCache};
use crate::chain::Chain;
use crate::dialect::Dialect;
use crate::error::{Error, Refusal, Result};
use crate::gate::{Gate, Passage};
use crate::inode::{Inode, NewBody, Table};
use crate::memory::Account;
use crate::open_file::IdleFiles;
use crate::placement::Remembered;
use crate::pseudo_link::PseudoLinks;
use crate::settings::{DirectChanges, Settings};

/// Several directory trees, seen as one.
pub struct Union<T: Tree> {
    roots: ArcSwap<Vec<Arc<BranchDir<T>>>>,
    /// Closed while the stack changes.
    pub(crate) gate: Gate,
    cache: Arc<HandleCache<T>>,
    pub(crate) idle_files: IdleFiles,
    next_branch: AtomicU32,
    settings: ArcSwap<Settings>,
    /// Whether somebody else was allowed to change the branches at some time.
    distrusted: AtomicBool,
    pub(crate) dialect: Dialect,
    pub(crate) inodes: Table<T>,
    pub(crate) pseudo_links: RwLock<PseudoLinks>,
    /// Whether there ever was one.
    pub(crate) had_pseudo_links: AtomicBool,
    /// Temporary names that operations in progress use; all others are left over.
    pub(crate) in_progress: Mutex<HashSet<Name>>,
    /// Objects whose copies are not published yet, each with a reference.
    pub(crate) pending: Mutex<Vec<Arc<Inode<T>>>>,
    /// What the create policies remember.
    pub(crate) remembered: Remembered,
    observer: OnceLock<Box<dyn Observer>>,
    watcher: OnceLock<Arc<dyn Watcher<T>>>,
    /// What names and objects take.
    pub(crate) account: Account,
    /// Counts direct changes that may concern what other directories merge.
    pub(crate) generation: AtomicU64,
    /// A stored index of the lowest branches.
    pub(crate) chain: ArcSwapOption<Chain>,
    pub(crate) next_chain: AtomicU32,
}

/// Some tree of a union.
pub(crate) struct AnyTree<T: Tree>(Guard<Arc<Vec<Arc<BranchDir<T>>>>>);

impl<T: Tree> Deref for AnyTree<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0[0].tree()
    }
}

/// Why a union could not be made of its branches.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There was no branch at all.
    #[error("a union needs at least one branch")]
    NoBranch,
    /// A branch could not be used.
    #[error("branch {index}: {error}")]
    Branch {
        /// Position of the branch, topmost first, from 0.
        index: usize,
        /// What it said.
        error: Error,
    },
}

impl<T: Tree> Union<T> {
    /// Stacks branches, topmost first, and prepares the writable ones.
    pub fn new(
        branches: Vec<Branch<T>>,
        settings: Settings,
    ) -> std::result::Result<Self, OpenError> {
        let dialect = Dialect::new(settings.dialect);
        let cache = Arc::new(HandleCache::new(settings.open_dirs));
        let mut roots = Vec::with_capacity(branches.len());
        let mut attrs = Vec::with_capacity(branches.len());
        for (index, branch) in branches.into_iter().enumerate() {
            let at = |error| OpenError::Branch { index, error };
            let place = u16::try_from(index).map_err(|_| at(Refusal::Invalid.into()))?;
            let id = BranchId(u32::from(place));
            let opened = opened(&dialect, &settings, branch, id, BranchIndex(place), &cache);
            let (root, attr) = opened.map_err(at)?;
            roots.push(root);
            attrs.push(attr);
        }
        let next_branch = AtomicU32::new(roots.len() as u32);
        let inodes = Table::new();
        let first = roots.first().ok_or(OpenError::NoBranch)?;
        let attr = first
            .open()
            .and_then(|dir| first.tree().attr(Object::Dir(&*dir)))
            .map_err(|errno| OpenError::Branch {
                index: 0,
                error: errno.into(),
            })?;
        let members = merged(roots.iter().cloned(), |dir| dialect.is_opaque(dir))
            .map_err(|error| OpenError::Branch { index: 0, error })?;
        let below = attrs.iter().take(members.len()).skip(1);
        let links_below = below.fold(0_u32, |sum, attr| sum.saturating_add(links_in(attr)));
        let root = inodes.set_root(&attr, NewBody::Dir(members));
        let prepared = roots.iter().skip(1).any(|root| root.powers().writable);
        if settings.direct_changes == DirectChanges::None
            && !prepared
            && let Ok(root) = root.dir()
        {
            // What the branches just said, before anything was made in them, need not be asked again.
            root.state.write().links_below = Some(links_below);
        }
        Ok(Self {
            roots: ArcSwap::from_pointee(roots),
            remembered: Remembered::new(settings.create),
            distrusted: AtomicBool::new(settings.direct_changes != DirectChanges::None),
            settings: ArcSwap::from_pointee(settings),
            gate: Gate::default(),
            cache,
            idle_files: IdleFiles::default(),
            next_branch,
            dialect,
            inodes,
            pseudo_links: RwLock::default(),
            had_pseudo_links: AtomicBool::new(false),
            in_progress: Mutex::default(),
            pending: Mutex::default(),
            observer: OnceLock::new(),
            watcher: OnceLock::new(),
            account: Account::default(),
            generation: AtomicU64::new(0),
            chain: ArcSwapOption::empty(),
            next_chain: AtomicU32::new(0),
        })
    }

    /// Returns what was chosen at mount.
    pub fn settings(&self) -> impl Deref<Target = Arc<Settings>> + use<T> {
        self.settings.load()
    }

    pub(crate) fn set_settings(&self, settings: Settings) {
        let distrusts = settings.direct_changes != DirectChanges::None;
        self.distrusted.fetch_or(distrusts, Ordering::Relaxed);
        self.settings.store(Arc::new(settings));
    }

    /// Lets the stack stay as it is until the passage is dropped. A front end holds one around each call that is not about the
    /// stack itself; whoever holds one must not ask for another, and must not change the stack.
    pub fn pass(&self) -> Passage<'_> {
        self.gate.pass()
    }

    /// Returns the branches, topmost first.
    pub fn branches(&self) -> Vec<(BranchId, Powers)> {
        let roots = self.roots();
        let branches = roots.iter().map(|root| (root.branch.id, root.powers()));
        branches.collect()
    }

    /// Returns where a branch is in the stack, if it is.
    pub(crate) fn index_of(&self, id: BranchId) -> Option<BranchIndex> {
        let roots = self.roots();
        let root = roots.iter().find(|root| root.branch.id == id)?;
        Some(root.index())
    }

    /// Opens the root of one more branch.
    pub(crate) fn open_root(&self, branch: Branch<T>, index: usize) -> Result<Arc<BranchDir<T>>> {
        let id = BranchId(self.next_branch.fetch_add(1, Ordering::Relaxed));
        let place = BranchIndex(u16::try_from(index).map_err(|_| Refusal::Invalid)?);
        let settings = self.settings();
        let opened = opened(&self.dialect, &settings, branch, id, place, &self.cache);
        opened.map(|(root, _)| root)
    }

    pub(crate) fn set_roots(&self, roots: Vec<Arc<BranchDir<T>>>) {
        self.roots.store(Arc::new(roots));
    }

    /// Returns the roots of the branches, topmost first.
    pub(crate) fn roots(&self) -> Guard<Arc<Vec<Arc<BranchDir<T>>>>> {
        self.roots.load()
    }

    /// Returns a tree for calls about open files, which any tree of a union answers.
    pub(crate) fn tree(&self) -> AnyTree<T> {
        AnyTree(self.roots())
    }

    /// Tells a front end from now on what changes without its doing. Only the first one is told.
    pub fn set_observer(&self, observer: Box<dyn Observer>) {
        if self.observer.set(observer).is_err() {
            tracing::warn!("a second observer is not told anything");
        }
    }

    pub(crate) fn observer(&self) -> Option<&dyn Observer> {
        self.observer.get().map(|observer| &**observer)
    }

    /// Lets directories be watched from now on, for [`DirectChanges::Watched`]. Only the first watcher is asked.
    pub fn set_watcher(&self, watcher: Arc<dyn Watcher<T>>) {
        let ending = Arc::clone(&watcher);
        if self.watcher.set(watcher).is_err() {
            tracing::warn!("a second watcher is not asked anything");
            return;
        }
        self.inodes.when_dropped(move |id| ending.unwatch(id));
    }

    pub(crate) fn watcher(&self) -> Option<&dyn Watcher<T>> {
        self.watcher.get().map(|watcher| &**watcher)
    }

    /// Returns whether every branch is read-only, so that nothing can ever change through the union.
    pub fn is_read_only(&self) -> bool {
        !self.roots().iter().any(|root| root.powers().writable)
    }

    /// Returns how many directories of branches are open.
    pub(crate) fn open_directories(&self) -> usize {
        self.cache.len() + self.roots().len()
    }

    /// Returns how many objects the front end holds.
    pub fn inodes_held(&self) -> usize {
        self.inodes.held().objects
    }

    /// Gives back references that replies handed out.
    pub fn forget(&self, id: InodeId, count: u64) {
        self.inodes.forget_by_id(id, count);
    }

    /// Returns space and limits: those of the topmost branch, or of all filesystems together.
    pub fn stat_fs(&self) -> Result<StatFs> {
        let mut sum: Option<StatFs> = None;
        let mut counted = Vec::new();
        for root in self.roots().iter() {
            let stat = root.open().and_then(|dir| root.tree().stat_fs(&*dir));
            let next = match stat.map_err(Error::from) {
                Err(error) if self.goes_on_without(root, &error) => continue,
                stat => stat?,
            };
            if counted.contains(&next.dev) {
                continue;
            }
            counted.push(next.dev);
            sum = Some(sum.map_or(next, |sum| added(&sum, &next)));
            if !self.settings().sum_space {
                break;
            }
        }
        let mut all = sum.unwrap_or_default();
        all.name_max = all.name_max.min(self.dialect.name_max() as u32);
        Ok(all)
    }

    /// Makes everything on the writable branches durable.
    pub fn sync_all(&self) -> Result<()> {
        self.finish_pending()?;
        // The others are made durable even when one cannot be.
        let mut done = Ok(());
        for root in self.roots().iter().filter(|root| root.powers().writable) {
            let synced = root.open().and_then(|dir| root.tree().sync_all(&*dir));
            done = done.and(synced.map_err(Error::from));
        }
        done
    }

    /// Finishes what is pending; the union serves nothing afterwards.
    pub fn close(&self) {
        // The stack may be about to change: whoever does that comes first, or not any more.
        let _closed = self.gate.close();
        if let Err(error) = self.finish_pending() {
            tracing::warn!(%error, "changes to large files of lower branches are lost");
        }
        self.save_renamed();
        if self.settings().link_names_early
            && let Err(error) = self.flush_pseudo_links()
        {
            tracing::warn!(%error, "hard links of lower branches fall apart at the next mount");
        }
    }

    pub(crate) fn writable(&self, branch: BranchIndex) -> bool {
        let roots = self.roots();
        roots
            .get(branch.get())
            .is_some_and(|root| root.powers().writable)
    }

    pub(crate) fn root_of(&self, branch: BranchIndex) -> Arc<BranchDir<T>> {
        Arc::clone(&self.roots()[branch.get()])
    }

    /// Returns whether what was read from a branch stays right until the union changes it.
    pub(crate) fn trusts_branches(&self) -> bool {
        self.settings().direct_changes == DirectChanges::None
    }

    /// Returns whether nobody else may have changed the branches since the union began.
    pub(crate) fn always_trusted(&self) -> bool {
        !self.distrusted.load(Ordering::Relaxed)
    }

    /// Returns whether changes of the branches are heard of, where they can be.
    pub(crate) fn watches(&self) -> bool {
        self.settings().direct_changes == DirectChanges::Watched
    }

    /// Returns an inode that the front end holds, or what took its place.
    pub(crate) fn inode(&self, id: InodeId) -> Result<Arc<Inode<T>>> {
        let mut inode = self.inodes.get(id)?;
        while let Some(successor) = inode.successor() {
            inode = Arc::clone(successor);
        }
        Ok(inode)
    }

    /// Returns which of these directories of the same name, topmost first, are merged.
    pub(crate) fn merged(
        &self,
        dirs: impl IntoIterator<Item = Arc<BranchDir<T>>>,
    ) -> Result<Vec<Arc<BranchDir<T>>>> {
        merged(dirs, |dir| match self.dialect.is_opaque(dir) {
            Err(error) if self.goes_on_without(dir, &error) => Ok(false),
            opaque => opaque,
        })
    }

    pub(crate) fn directory(&self, id: InodeId) -> Result<Arc<Inode<T>>> {
        let inode = self.inodes.get(id)?;
        if inode.kind == Kind::Dir {
            Ok(inode)
        } else {
            Err(Refusal::NotDirectory.into())
        }
    }
}

/// Opens the root of a branch and prepares it for changes if it is writable.
fn opened<T: Tree>(
    dialect: &Dialect,
    settings: &Settings,
    branch: Branch<T>,
    id: BranchId,
    index: BranchIndex,
    cache: &Arc<HandleCache<T>>,
) -> Result<(Arc<BranchDir<T>>, Attr)> {
    let powers = dialect.effective(branch.powers);
    let (root, attr) = BranchDir::root(Branch { powers, ..branch }, id, index, cache)?;
    if powers.writable {
        dialect.prepare(&root, settings.pseudo_links)?;
    }
    Ok((root, attr))
}

/// Returns how many subdirectories a directory has by its count of links. Some filesystems do not count them and say 1.
pub(crate) fn links_in(attr: &Attr) -> u32 {
    attr.nlink.saturating_sub(2)
}

/// Takes directories of the same name, topmost first, until one is opaque.
pub(crate) fn merged<T: Tree>(
    dirs: impl IntoIterator<Item = Arc<BranchDir<T>>>,
    is_opaque: impl Fn(&Arc<BranchDir<T>>) -> Result<bool>,
) -> Result<Vec<Arc<BranchDir<T>>>> {
    let mut members: Vec<Arc<BranchDir<T>>> = Vec::new();
    for dir in dirs {
        // A mark matters only when something follows, so it is looked for when something does.
        if let Some(above) = members.last()
            && above.powers().whiteouts
            && is_opaque(above)?
        {
            break;
        }
        members.push(dir);
    }
    Ok(members)
}

fn added(sum: &StatFs, next: &StatFs) -> StatFs {
    // In units of the smaller fragments, so that nothing is lost by division.
    let fragment_size = sum.fragment_size.min(next.fragment_size).max(1);
    let scaled = |blocks: u64, size: u32| blocks.saturating_mul(u64::from(size / fragment_size));
    let blocks = |of: fn(&StatFs) -> u64| {
        scaled(of(sum), sum.fragment_size).saturating_add(scaled(of(next), next.fragment_size))
    };
    StatFs {
        dev: sum.dev,
        fsid: sum.fsid,
        blocks: blocks(|fs| fs.blocks),
        blocks_free: blocks(|fs| fs.blocks_free),
        blocks_available: blocks(|fs| fs.blocks_available),
        files: sum.files.saturating_add(next.files),
        files_free: sum.files_free.saturating_add(next.files_free),
        block_size: sum.block_size.min(next.block_size),
        fragment_size,
        name_max: sum.name_max.min(next.name_max),
    }
}
