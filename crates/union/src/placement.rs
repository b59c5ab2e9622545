//! Where new entries go: what the policies in `rules` are told, and what is remembered between two entries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rules::lookup::{Seen, Sighting};
use rules::move_down::Way;
use rules::options::CreatePolicy;
use rules::policy::{self, Branches, Measured, Place, Rotation, Turn};
use rules::{BranchIndex, Errno};
use tree::Tree;

use crate::branch::BranchDir;
use crate::error::{Error, Refusal, Result};
use crate::inode::Inode;
use crate::union::Union;

/// What the policies remember.
pub(crate) struct Remembered {
    /// Whose turn it is, and in which policy.
    rotation: Mutex<(CreatePolicy, Rotation)>,
    measured: Mutex<Option<(Instant, Measured)>>,
}

impl Remembered {
    /// Returns what a new mount remembers: nothing.
    pub(crate) fn new(policy: CreatePolicy) -> Self {
        Self {
            rotation: Mutex::new((policy, Rotation::default())),
            measured: Mutex::default(),
        }
    }
}

/// A new entry to be.
pub(crate) struct NewEntry<'a, T: Tree> {
    union: &'a Union<T>,
    parent: &'a Arc<Inode<T>>,
    /// The topmost branch with a whiteout of its name.
    whiteout: Option<BranchIndex>,
    is_dir: bool,
}

impl<'a, T: Tree> NewEntry<'a, T> {
    /// Describes an entry whose name is not taken; `sightings` are what the branches have under it, nothing for an object
    /// without a name.
    pub(crate) fn new(
        union: &'a Union<T>,
        parent: &'a Arc<Inode<T>>,
        sightings: &[Sighting],
        is_dir: bool,
    ) -> Self {
        Self {
            union,
            parent,
            whiteout: sightings.first().map(|sighting| sighting.branch),
            is_dir,
        }
    }

    /// Chooses the branch for it; `EROFS` when there is none. Those in `full` had no space.
    pub(crate) fn branch(&self, full: &[BranchIndex]) -> Result<BranchIndex> {
        let settings = self.union.settings();
        let members = self.parent.dir()?.state.read().branches();
        let mut place = Place {
            branches: u16::try_from(self.union.roots().len()).unwrap_or(u16::MAX),
            members: &members,
            whiteout: self.whiteout,
            opaque: None,
            covered: None,
            is_dir: self.is_dir,
        };
        let chosen = if full.is_empty() {
            // The default goes up from the topmost member, above which nothing is opaque.
            if settings.create != CreatePolicy::TopDownParent {
                (place.opaque, place.covered) = self.opaque()?;
            }
            policy::choose(settings.create, settings.copy_up, &place, self)
        } else {
            policy::choose_other(full, &place, self)
        };
        let failing = || members.iter().any(|branch| self.union.is_failing(*branch));
        chosen
            .or_else(|| failing().then(|| policy::choose_other(full, &place, self))?)
            .ok_or_else(|| Refusal::ReadOnly.into())
    }

    /// Returns the branch on which the directory is opaque, and the topmost on which one that holds it is.
    fn opaque(&self) -> Result<(Option<BranchIndex>, Option<BranchIndex>)> {
        let own = self.opaque_member(self.parent)?;
        let (mut inode, mut covered) = (Arc::clone(self.parent), None);
        while let Some((above, _)) = inode.name() {
            covered = covered.into_iter().chain(self.opaque_member(&above)?).min();
            inode = above;
        }
        Ok((own, covered))
    }

    /// Only the last member can be opaque: it would be the last.
    fn opaque_member(&self, inode: &Inode<T>) -> Result<Option<BranchIndex>> {
        let last = inode.dir()?.state.read().members.last().cloned();
        match last {
            Some(last) if last.powers().whiteouts => match self.union.dialect.is_opaque(&last) {
                Err(error) if self.union.goes_on_without(&last, &error) => Ok(None),
                opaque => Ok(opaque?.then(|| last.index())),
            },
            _ => Ok(None),
        }
    }
}

impl<T: Tree> Branches for NewEntry<'_, T> {
    fn writable(&self, branch: BranchIndex) -> bool {
        self.union.writable(branch) && !self.union.is_failing(branch)
    }

    fn shows(&self, branch: BranchIndex) -> bool {
        !self.union.is_failing(branch)
            && self.whiteout.is_none_or(|whiteout| branch <= whiteout)
            && self.union.can_hold(self.parent, branch)
    }

    fn measured(&self, seconds: u32) -> Measured {
        self.union.measured(Duration::from_secs(u64::from(seconds)))
    }

    fn turn(&self, turn: Turn) -> u32 {
        let mut state = self.union.remembered.rotation.lock();
        match turn {
            Turn::Take => state.1.take(),
            Turn::Peek => state.1.peek(),
        }
    }
}

impl<T: Tree> Union<T> {
    /// Returns whether a branch can have a directory and show what is new in it: the branch is writable, and there is a way.
    pub(crate) fn can_hold(&self, inode: &Arc<Inode<T>>, branch: BranchIndex) -> bool {
        self.writable(branch) && self.way_to(inode, branch) == Way::Free
    }

    /// Returns whether a directory is on a branch, or would be merged if it were made there: nothing else has the name there of
    /// the directory or of one that holds it, and no opaque directory or whiteout above hides it.
    pub(crate) fn way_to(&self, directory: &Arc<Inode<T>>, branch: BranchIndex) -> Way {
        let mut inode = Arc::clone(directory);
        loop {
            let Ok(directory) = inode.dir() else {
                return Way::Taken;
            };
            let members = directory.state.read().members.clone();
            if members.iter().any(|member| member.index() == branch) {
                return Way::Free;
            }
            let mut above = members.iter().filter(|member| member.index() < branch);
            // What has records says itself where its parts below are.
            let closed = |member: &Arc<BranchDir<T>>| {
                let opaque = self.dialect.is_opaque(member)?;
                Ok::<_, Error>(opaque || self.has_records(member, None)?)
            };
            if above.any(|member| closed(member).unwrap_or(true)) {
                return Way::Opaque;
            }
            let Some((parent, name)) = inode.name() else {
                return Way::Free;
            };
            let Ok(sightings) = self.sightings(&parent, &name) else {
                return Way::Taken;
            };
            for sighting in sightings.iter().filter(|seen| seen.branch <= branch) {
                match sighting.what {
                    Seen::Whiteout if sighting.branch < branch => return Way::Whiteouted,
                    Seen::File | Seen::Damaged if sighting.branch == branch => return Way::Taken,
                    _ => {}
                }
            }
            inode = parent;
        }
    }

    /// Forgets what the create policies remember of the branches, after those or the policy changed. With another
    /// policy the turns begin at the bottommost writable branch, as in AUFS.
    pub(crate) fn reset_placement(&self) {
        *self.remembered.measured.lock() = None;
        let (policy, roots) = (self.settings().create, self.roots());
        let bottommost = roots.iter().rev().find(|root| root.powers().writable);
        let mut state = self.remembered.rotation.lock();
        if let Some(root) = bottommost
            && state.0 != policy
        {
            *state = (policy, Rotation::from(root.index()));
        }
    }

    /// Returns the branch with the most space that can take a copy of something on `source`, none of those in `full`.
    pub(crate) fn roomier_above(
        &self,
        source: BranchIndex,
        parent: &Arc<Inode<T>>,
        full: &[BranchIndex],
    ) -> Option<BranchIndex> {
        let measured = self.measured(Duration::ZERO);
        let above = (0..source.0).map(BranchIndex);
        above
            .filter(|branch| !full.contains(branch) && self.can_hold(parent, *branch))
            .max_by_key(|branch| measured.free(*branch))
    }

    /// Returns the free space of the branches, measured less than `age` ago.
    pub(crate) fn measured(&self, age: Duration) -> Measured {
        let known = self.remembered.measured.lock().clone();
        if let Some((at, measured)) = known
            && at.elapsed() < age
        {
            return measured;
        }
        let at = Instant::now();
        let measured = Measured::new(self.roots().iter().map(|root| free_space(root)));
        *self.remembered.measured.lock() = Some((at, measured.clone()));
        measured
    }
}

/// Returns the free bytes of a branch that takes changes. One that does not answer has none.
fn free_space<T: Tree>(root: &Arc<BranchDir<T>>) -> Option<u64> {
    if !root.powers().writable {
        return None;
    }
    let stat = root.open().and_then(|dir| root.tree().stat_fs(&*dir));
    match stat {
        Ok(stat) => Some(
            stat.blocks_available
                .saturating_mul(u64::from(stat.fragment_size)),
        ),
        Err(errno) => {
            tracing::warn!(branch = root.index().0, %errno, "a branch does not say how much space it has");
            None
        }
    }
}

/// Returns whether a branch said that it has no space.
pub(crate) fn is_full(error: &Error) -> bool {
    matches!(error, Error::Branch(Errno::NOSPC | Errno::DQUOT))
}
