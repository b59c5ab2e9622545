//! A stored index answers for a chain of branches that nobody changes: the lowest of the stack, all read-only.
//!
//! It says what reading the branches would show, see [`chainindex`]. Each merged directory is compared with the branches before it is
//! used first: one that has other members or other times than when the index was made is read from the branches, and whoever gave the
//! index is told that it is out of date. Attributes of what is in a directory come from the index only on branches of which that was
//! said, for changing those leaves no trace in the directory.

mod build;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use chainindex::{ChainIndex, Directory, Layer, Member, Reading, Refused};
use rules::lookup::Seen;
use rules::{Attr, BranchIndex, Errno, Kind, Name};
use tree::{Object, Tree};

use crate::api::BranchId;
use crate::branch::BranchDir;
use crate::error::Result;
use crate::index::Index;
use crate::inode::{Inode, Key};
use crate::settings::{DialectKind, OverlayMarks};
use crate::union::Union;
pub use build::{BuildError, Built};

/// The bytes of an index, which stay the same while they are used.
pub trait IndexBytes: Send + Sync {
    /// Returns all bytes.
    fn bytes(&self) -> &[u8];
    /// Hears that what was read of them is not needed for a while.
    fn done_reading(&self);
}

/// Why an index does not fit the branches of a union.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is no index, or damaged.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It was made with other whiteouts in mind.
    #[error("made for another format of whiteouts")]
    Reading,
    /// There are fewer branches than it is about.
    #[error("made for {0} branches, which are more than there are")]
    TooFew(usize),
    /// A branch is not what it was.
    #[error("branch {0} is not what it was when the index was made")]
    Changed(usize),
    /// A branch can be written to.
    #[error("branch {0} is writable")]
    Writable(usize),
    /// A branch did not answer.
    #[error("branch {0}: {1}")]
    Branch(usize, Errno),
    /// The union looks at its branches again on each use.
    #[error("the branches may change (udba is not none)")]
    Changing,
}

/// An index in use.
pub(crate) struct Chain {
    /// Tells it from those that were used before.
    id: u32,
    index: ChainIndex<Bytes>,
    /// Topmost first; they are the lowest of the stack.
    branches: Vec<BranchId>,
    /// Whether nothing on a branch changes, attributes included.
    trusted: Vec<bool>,
    /// What is known of each directory.
    verdicts: Vec<AtomicU8>,
    told: AtomicBool,
    tell: Box<dyn Fn() + Send + Sync>,
}

struct Bytes(Arc<dyn IndexBytes>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Not compared with the branches yet.
const UNKNOWN: u8 = 0;
const FITS: u8 = 1;
const DIFFERS: u8 = 2;

/// A directory that an index answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    chain: u32,
    number: u32,
}

impl Chain {
    /// Returns which branch of the chain a branch is, in a stack of `height` branches.
    fn layer(&self, height: usize, branch: BranchIndex) -> Option<u16> {
        let base = height.checked_sub(self.branches.len())?;
        let layer = branch.get().checked_sub(base)?;
        u16::try_from(layer).ok()
    }

    fn verdict(&self, number: u32) -> u8 {
        let verdict = self.verdicts.get(number as usize);
        verdict.map_or(DIFFERS, |verdict| verdict.load(Ordering::Relaxed))
    }

    fn judge(&self, number: u32, verdict: u8) {
        if let Some(known) = self.verdicts.get(number as usize) {
            known.store(verdict, Ordering::Relaxed);
        }
        if verdict == DIFFERS && !self.told.swap(true, Ordering::Relaxed) {
            (self.tell)();
        }
    }

    /// Returns a directory that fits.
    fn directory(&self, number: u32) -> Option<Directory<'_>> {
        if self.verdict(number) != FITS {
            return None;
        }
        self.index.directory(number).ok()
    }
}

impl<T: Tree> Union<T> {
    /// Lets an index answer for the lowest branches, which it is about. `trusted` tells of which branches attributes are taken from it;
    /// `tell` is called once when a directory turns out to be another one than the index says.
    pub fn use_chain_index(
        &self,
        bytes: Arc<dyn IndexBytes>,
        trusted: impl Fn(BranchId) -> bool,
        tell: impl Fn() + Send + Sync + 'static,
    ) -> std::result::Result<(), Unfit> {
        let index = ChainIndex::open(Bytes(bytes))?;
        if !self.trusts_branches() {
            return Err(Unfit::Changing);
        }
        if index.reading() != self.reading() {
            return Err(Unfit::Reading);
        }
        let layers = index.layers()?;
        let roots = self.roots();
        let base = roots.len().checked_sub(layers.len());
        let base = base.ok_or(Unfit::TooFew(layers.len()))?;
        let mut branches = Vec::with_capacity(layers.len());
        for ((at, root), layer) in roots.iter().enumerate().skip(base).zip(&layers) {
            if root.powers().writable {
                return Err(Unfit::Writable(at));
            }
            let now = self
                .layer_now(root)
                .map_err(|errno| Unfit::Branch(at, errno))?;
            if !layer.is(&now) {
                return Err(Unfit::Changed(at));
            }
            branches.push(root.branch.id);
        }
        let chain = Chain {
            id: self.next_chain.fetch_add(1, Ordering::Relaxed),
            trusted: branches.iter().map(|id| trusted(*id)).collect(),
            verdicts: (0..index.len()).map(|_| AtomicU8::new(UNKNOWN)).collect(),
            index,
            branches,
            told: AtomicBool::new(false),
            tell: Box::new(tell),
        };
        self.chain.store(Some(Arc::new(chain)));
        Ok(())
    }

    /// Lets the branches answer for themselves again. What was read stays.
    pub fn forget_chain_index(&self) {
        self.chain.store(None);
    }

    /// Returns for how many branches an index answers.
    pub fn indexed_branches(&self) -> usize {
        let chain = self.chain.load();
        chain.as_ref().map_or(0, |chain| chain.branches.len())
    }

    /// Returns how many directories of the index were found as it says, and how many otherwise; the others were not asked for.
    pub fn compared_directories(&self) -> (usize, usize) {
        let chain = self.chain.load();
        let verdicts = chain.as_ref().map_or(&[][..], |chain| &chain.verdicts[..]);
        let count = |verdict: u8| {
            let known = verdicts.iter().map(|known| known.load(Ordering::Relaxed));
            known.filter(|known| *known == verdict).count()
        };
        (count(FITS), count(DIFFERS))
    }

    /// Lets go of the index when it is not about the lowest branches any more, or about one that changed. The stack does not
    /// change meanwhile.
    pub(crate) fn keep_chain_index(&self, changed: &[BranchId]) {
        let chain = self.chain.load();
        let Some(chain) = chain.as_ref() else { return };
        let roots = self.roots();
        let lowest = roots.iter().rev().map(|root| root.branch.id);
        let same = lowest
            .take(chain.branches.len())
            .eq(chain.branches.iter().rev().copied());
        if !same || chain.branches.iter().any(|id| changed.contains(id)) {
            self.forget_chain_index();
        }
    }

    fn reading(&self) -> Reading {
        match self.settings().dialect {
            DialectKind::Aufs => Reading::Aufs,
            DialectKind::Overlay(OverlayMarks::Trusted) => Reading::OverlayTrusted,
            DialectKind::Overlay(OverlayMarks::User) => Reading::OverlayUser,
        }
    }

    fn layer_now(&self, root: &Arc<BranchDir<T>>) -> std::result::Result<Layer, Errno> {
        let handle = root.open()?;
        let attr = root.tree().attr(Object::Dir(&*handle))?;
        Ok(Layer {
            fsid: root.tree().stat_fs(&*handle).map_or(0, |stat| stat.fsid),
            dev: attr.dev,
            ino: attr.ino,
            mtime: attr.mtime,
            ctime: attr.ctime,
            whiteouts: root.powers().whiteouts,
        })
    }

    fn chain_in_use(&self) -> Option<Arc<Chain>> {
        if !self.trusts_branches() {
            return None;
        }
        self.chain.load_full()
    }

    /// Fills an index with what the chain has in a directory, if the stored index knows it. `members` are those of its members
    /// that were not read yet, topmost first. The caller holds `change`.
    pub(crate) fn read_stored(
        &self,
        inode: &Inode<T>,
        index: &mut Index,
        members: &[Arc<BranchDir<T>>],
    ) -> Option<Stored> {
        let chain = self.chain_in_use()?;
        let height = self.roots().len();
        let top = members.first()?;
        let layer = chain.layer(height, top.index())?;
        let number = match self.known_to_fit(&chain, inode, members) {
            Some(number) => number,
            None => {
                let ino = now(top)?.ino;
                let number = chain.index.find(layer, ino).ok()??;
                self.compare_stored(&chain, number, members, members.len())?;
                number
            }
        };
        let filled = chain.directory(number).map(|directory| {
            let base = height - chain.branches.len();
            fill(index, directory, base)
        });
        if filled != Some(Ok(())) {
            chain.judge(number, DIFFERS);
            return None;
        }
        chain.index.source().0.done_reading();
        Some(Stored {
            chain: chain.id,
            number,
        })
    }

    /// Returns how many of these directories of the chain, all that have a name in `parent`, are merged.
    fn merged_stored(
        &self,
        chain: &Chain,
        parent: &Inode<T>,
        name: &Name,
        candidates: &[Arc<BranchDir<T>>],
    ) -> Option<usize> {
        let top = chain.layer(self.roots().len(), candidates.first()?.index())?;
        let number = self.number_of(chain, parent, name, top)?;
        let count = chain.index.directory(number).ok()?.members().len();
        let members = candidates.get(..count)?;
        self.compare_stored(chain, number, members, count)?;
        Some(count)
    }

    /// Returns which of these directories, all that have a name in `parent`, are merged, topmost first. No records say otherwise.
    pub(crate) fn merged_natively(
        &self,
        parent: &Inode<T>,
        name: &Name,
        candidates: Vec<Arc<BranchDir<T>>>,
    ) -> Result<Vec<Arc<BranchDir<T>>>> {
        let Some(chain) = self.chain_in_use() else {
            return self.merged(candidates);
        };
        let height = self.roots().len();
        let of_chain = |dir: &Arc<BranchDir<T>>| chain.layer(height, dir.index()).is_some();
        let first = candidates.iter().position(of_chain);
        let known = first.and_then(|first| {
            let count = self.merged_stored(&chain, parent, name, &candidates[first..])?;
            Some((first, count))
        });
        let Some((first, count)) = known else {
            return self.merged(candidates);
        };
        // Those above may hide all of the chain.
        let mut members = self.merged(candidates[..=first].iter().cloned())?;
        if members.len() == first + 1 {
            members.extend(candidates.into_iter().skip(first + 1).take(count - 1));
        }
        Ok(members)
    }

    /// Returns the attributes of what a branch has under a name, if an index answers for that.
    pub(crate) fn stored_attr(
        &self,
        parent: &Inode<T>,
        name: &Name,
        branch: BranchIndex,
    ) -> Option<Attr> {
        let stored = stored_in(parent)?;
        let chain = self.chain.load();
        let chain = chain.as_ref().filter(|chain| chain.id == stored.chain)?;
        let roots = self.roots();
        let layer = chain.layer(roots.len(), branch)?;
        if !self.trusts_branches() || chain.trusted.get(usize::from(layer)) != Some(&true) {
            return None;
        }
        let entry = chain
            .directory(stored.number)?
            .find(name.as_bytes())
            .ok()??;
        let attr = entry.attr().ok()??;
        let dev = roots.get(branch.get())?.branch.dev;
        (entry.top().ok()?.branch.0 == layer).then_some(Attr { dev, ..attr })
    }

    /// Returns the attributes of what an object is on its branch, if an index answers for the directory that it is in.
    pub(crate) fn stored_attr_at(
        &self,
        inode: &Inode<T>,
        dir: &Arc<BranchDir<T>>,
        name: &Name,
    ) -> Option<Attr> {
        self.chain.load().as_ref()?;
        let (parent, called) = inode.name()?;
        let there = |known: &Arc<BranchDir<T>>| Arc::ptr_eq(known, dir);
        let branch = dir.index();
        if called != *name
            || !parent
                .dir()
                .ok()?
                .state
                .read()
                .member(branch)
                .is_some_and(there)
        {
            return None;
        }
        let attr = self.stored_attr(&parent, name, branch)?;
        (Key::of(&attr) == inode.key()).then_some(attr)
    }

    /// Returns how many links the members from the second on add, if they are all of the chain.
    pub(crate) fn stored_links(
        &self,
        inode: &Inode<T>,
        members: &[Arc<BranchDir<T>>],
    ) -> Option<(usize, u32)> {
        let chain = self.chain_in_use()?;
        let height = self.roots().len();
        let of_chain = |member: &Arc<BranchDir<T>>| chain.layer(height, member.index()).is_some();
        let first = members.iter().position(of_chain)?;
        let number = self.known_to_fit(&chain, inode, &members[first..])?;
        let recorded = chain.directory(number)?.members();
        let mut links = 0u32;
        for (at, member) in (first..).zip(recorded) {
            if at > 0 {
                links = links.saturating_add(member.ok()?.nlink.saturating_sub(2));
            }
        }
        Some((first, links))
    }

    /// Returns the number of a directory that was compared with just these members where it is.
    fn known_to_fit(
        &self,
        chain: &Chain,
        inode: &Inode<T>,
        members: &[Arc<BranchDir<T>>],
    ) -> Option<u32> {
        let (parent, name) = inode.name()?;
        let height = self.roots().len();
        let top = chain.layer(height, members.first()?.index())?;
        let number = self.number_of(chain, &parent, &name, top)?;
        let recorded = chain.directory(number)?.members();
        let above = &parent.dir().ok()?.state.read().members;
        let fits = |(member, recorded): (&Arc<BranchDir<T>>, std::result::Result<Member, _>)| {
            let layer = chain.layer(height, member.index());
            let here = member.place().is_some_and(|(dir, called)| {
                called == name && above.iter().any(|known| Arc::ptr_eq(known, &dir))
            });
            here && recorded.is_ok_and(|recorded| Some(recorded.layer) == layer)
        };
        let same = recorded.len() == members.len() && members.iter().zip(recorded).all(fits);
        same.then_some(number)
    }

    /// Returns the number of the directory that has a name in another one, topmost on a branch of the chain.
    fn number_of(&self, chain: &Chain, parent: &Inode<T>, name: &Name, top: u16) -> Option<u32> {
        let stored = stored_in(parent)?;
        if stored.chain != chain.id {
            return None;
        }
        let entry = chain
            .directory(stored.number)?
            .find(name.as_bytes())
            .ok()??;
        let attr = entry.attr().ok()??;
        if attr.kind != Kind::Dir || entry.top().ok()?.branch.0 != top {
            return None;
        }
        chain.index.find(top, attr.ino).ok()?
    }

    /// Compares a directory with what the branches have now.
    fn compare_stored(
        &self,
        chain: &Chain,
        number: u32,
        members: &[Arc<BranchDir<T>>],
        count: usize,
    ) -> Option<()> {
        if chain.verdict(number) == DIFFERS {
            return None;
        }
        let height = self.roots().len();
        let Ok(directory) = chain.index.checked(number) else {
            chain.judge(number, DIFFERS);
            return None;
        };
        let recorded = directory.members();
        if recorded.len() != count || members.len() != count {
            // Something above lets other directories be merged.
            return None;
        }
        for (member, recorded) in members.iter().zip(recorded) {
            let Ok(recorded) = recorded else {
                chain.judge(number, DIFFERS);
                return None;
            };
            if chain.layer(height, member.index()) != Some(recorded.layer) {
                return None;
            }
            let now = now(member)?;
            if now.ino != recorded.ino {
                return None;
            }
            if now.kind != Kind::Dir || (now.mtime, now.ctime) != (recorded.mtime, recorded.ctime) {
                chain.judge(number, DIFFERS);
                return None;
            }
        }
        chain.judge(number, FITS);
        Some(())
    }
}

/// Returns what an index said when a directory was read.
fn stored_in<T: Tree>(dir: &Inode<T>) -> Option<Stored> {
    dir.dir().ok()?.state.read().index.as_ref()?.stored
}

/// Returns the attributes that a directory has on its branch now.
fn now<T: Tree>(member: &Arc<BranchDir<T>>) -> Option<Attr> {
    let attr = match member.place() {
        Some((above, name)) => member.tree().look(&*above.open().ok()?, &name).ok()??,
        None => member
            .tree()
            .attr(Object::Dir(&*member.open().ok()?))
            .ok()?,
    };
    (attr.dev == member.branch.dev).then_some(attr)
}

fn fill(
    index: &mut Index,
    directory: Directory<'_>,
    base: usize,
) -> std::result::Result<(), Refused> {
    // All or nothing: an error half way would leave names that are read once more.
    for entry in directory.entries() {
        let entry = entry?;
        let known = (entry.name()?, entry.top()?, entry.attr()?);
        drop(known);
        entry.sightings().try_for_each(|seen| seen.map(drop))?;
    }
    for entry in directory.entries() {
        let entry = entry?;
        let (name, attr) = (entry.name()?, entry.attr()?);
        for (at, seen) in entry.sightings().enumerate() {
            let seen = seen?;
            let branch = BranchIndex((base + seen.branch.get()) as u16);
            let shown = attr.filter(|_| at == 0);
            let (kind, ino) = shown.map_or((None, 0), |attr| (Some(attr.kind), attr.ino));
            match seen.what {
                Seen::Dir => index.found(branch, &name, Some(Kind::Dir), ino),
                Seen::File => index.found(branch, &name, kind.or(Some(Kind::File)), ino),
                what => {
                    index.found_whiteout(branch, &name, what, true);
                }
            }
        }
    }
    Ok(())
}
