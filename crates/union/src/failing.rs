//! Branches that stop answering, in unions that spread new entries over several: a pool outlives one of its disks.
//!
//! What such a branch has is missing while it fails, and is shown again when it answers. Nothing that it may have is
//! destroyed meanwhile: it counts as having each name that is removed above it, so that a whiteout stays, and a directory
//! that it may have a part of is neither removed nor renamed. Any other union says the error instead: there, a branch that
//! is missing would show what it hides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rules::lookup::{Seen, Sighting};
use rules::options::CreatePolicy;
use rules::{Attr, BranchIndex, Errno, Kind};
use tree::{Object, Tree};

use crate::branch::BranchDir;
use crate::error::{Error, Refusal, Result};
use crate::index::Sightings;
use crate::inode::Inode;
use crate::union::Union;

/// How long a branch that failed is not asked again where another can answer, and receives nothing new.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

/// The branches that could not be read when a directory was.
#[derive(Debug, Clone)]
pub(crate) struct Unread {
    pub(crate) branches: Vec<BranchIndex>,
    /// Whether the directory is known to be on one of them.
    pub(crate) is_part_missing: bool,
    since: Instant,
}

impl Unread {
    /// Notes which members of a directory did not answer, and on which branches it may be besides, because the directory above
    /// could not be read there.
    pub(crate) fn new(members: Vec<BranchIndex>, above: Vec<BranchIndex>) -> Option<Self> {
        let is_part_missing = !members.is_empty();
        let mut branches = members;
        branches.extend(above);
        branches.sort_unstable();
        branches.dedup();
        (!branches.is_empty()).then(|| Self {
            branches,
            is_part_missing,
            since: Instant::now(),
        })
    }

    /// Returns the same after branches got other numbers, or `None` for those that are gone.
    pub(crate) fn renumbered(
        mut self,
        number: impl Fn(BranchIndex) -> Option<BranchIndex>,
    ) -> Option<Self> {
        self.branches = self.branches.into_iter().filter_map(number).collect();
        self.branches.sort_unstable();
        (!self.branches.is_empty()).then_some(self)
    }

    /// Returns whether it is time to ask again.
    pub(crate) fn is_over(&self) -> bool {
        self.since.elapsed() >= PAUSE
    }

    /// Adds that these branches may have a name below what is known of it.
    pub(crate) fn complete(&self, sightings: &mut Sightings) {
        let Some(top) = sightings.first().map(|seen| seen.branch) else {
            return;
        };
        for branch in self.branches.iter().filter(|branch| **branch > top) {
            if let Err(at) = sightings.binary_search_by_key(branch, |seen| seen.branch) {
                let what = Seen::File;
                sightings.insert(
                    at,
                    Sighting {
                        branch: *branch,
                        what,
                    },
                );
            }
        }
    }
}

impl<T: Tree> Union<T> {
    /// Returns whether the union goes on without a branch that fails.
    pub(crate) fn is_pool(&self) -> bool {
        let settings = self.settings();
        settings.create != CreatePolicy::TopDownParent || settings.move_when_full
    }

    /// Returns whether an error is the fault of a branch that the union goes on without, and notes that.
    pub(crate) fn goes_on_without(&self, dir: &BranchDir<T>, error: &Error) -> bool {
        let Error::Branch(errno) = error else {
            return false;
        };
        if !self.is_pool() || !is_fault(*errno) {
            return false;
        }
        if dir.branch.failed.lock().replace(Instant::now()).is_none() {
            let branch = dir.index().0;
            tracing::warn!(branch, %errno, "a branch does not answer: what it has is missing until it does");
        }
        true
    }

    /// Notes it when a branch did not do what its open file was asked for.
    pub(crate) fn watched<R>(&self, branch: BranchIndex, done: Result<R>) -> Result<R> {
        if let Err(error) = &done
            && self.is_pool()
        {
            self.goes_on_without(&self.root_of(branch), error);
        }
        done
    }

    /// Returns whether a branch failed a moment ago.
    pub(crate) fn is_failing(&self, branch: BranchIndex) -> bool {
        let roots = self.roots();
        let failed = roots
            .get(branch.get())
            .and_then(|root| *root.branch.failed.lock());
        failed.is_some_and(|at| at.elapsed() < PAUSE)
    }

    /// Asks the topmost of the merged directories that answers.
    pub(crate) fn ask_top<R>(
        &self,
        inode: &Inode<T>,
        ask: impl Fn(&Arc<BranchDir<T>>) -> Result<R>,
    ) -> Result<R> {
        let members = inode.dir()?.state.read().members.clone();
        let mut failed = None;
        for member in &members {
            match ask(member) {
                Err(error) if self.goes_on_without(member, &error) => {
                    failed.get_or_insert(error);
                }
                answer => return answer,
            }
        }
        Err(failed.unwrap_or_else(|| Refusal::Gone.into()))
    }

    /// Returns the topmost of the merged directories that answers, and its attributes.
    pub(crate) fn top_with_attr(&self, inode: &Inode<T>) -> Result<(Arc<BranchDir<T>>, Attr)> {
        self.ask_top(inode, |member| {
            let attr = member.tree().attr(Object::Dir(&*member.open()?))?;
            Ok((Arc::clone(member), attr))
        })
    }

    /// Returns the branches that could not be read when a directory was.
    pub(crate) fn unread_in(&self, dir: &Inode<T>) -> Vec<BranchIndex> {
        let Ok(directory) = dir.dir() else {
            return Vec::new();
        };
        let state = directory.state.read();
        let unread = state.index.as_ref().and_then(|index| index.unread());
        unread.map_or_else(Vec::new, |unread| unread.branches.clone())
    }

    /// Refuses what needs all that is in a directory, when a part of it is missing.
    pub(crate) fn refuse_missing(&self, dir: &Arc<Inode<T>>) -> Result<()> {
        let missing = |unread: &Unread| unread.is_part_missing;
        if self.with_index(dir, |index| index.unread().is_some_and(missing))? {
            return Err(Errno::IO.into());
        }
        Ok(())
    }

    /// Refuses what needs to know all that may be in a directory, when a branch could not say.
    pub(crate) fn refuse_unread(&self, dir: &Arc<Inode<T>>) -> Result<()> {
        if dir.kind == Kind::Dir && self.with_index(dir, |index| index.unread().is_some())? {
            return Err(Errno::IO.into());
        }
        Ok(())
    }
}

/// Returns whether an error means that a branch as a whole is at fault, rather than what was asked of it.
pub(crate) fn is_fault(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::IO
            | Errno::NXIO
            | Errno::NODEV
            // What a filesystem says whose journal could not be written.
            | Errno::ROFS
            | Errno::UCLEAN
            | Errno::NOTCONN
            | Errno::SHUTDOWN
            | Errno::TIMEDOUT
            | Errno::HOSTDOWN
            | Errno::STALE
            | Errno::REMOTEIO
            | Errno::NOMEDIUM
    )
}
