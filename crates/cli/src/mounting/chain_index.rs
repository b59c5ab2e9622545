//! The index of the lowest branches that a mount was given (`chain_index=`): used if it fits, made if it does not.
//!
//! Making it takes a walk through all branches, so that a thread of its own does it, at most once for each mount: at the beginning when
//! there is none that fits, else when a directory turns out to have changed. Until then, and where no index can be written, the
//! branches answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rules::options::{DirectAccess, MountOptions, OverrideStat, Permission};
use tree::Tree;
use union::{Settings, Union};

use super::branches::OpenBranch;
use super::plan::Plan;
use crate::chain_index::{self, ChainBranch, Mapped};
use crate::failure::Failure;

/// Looks after the index of a mount.
pub(crate) struct IndexKeeper {
    path: PathBuf,
    /// The lowest branches, all that are read-only, topmost first.
    branches: Vec<ChainBranch>,
    /// Of all branches from the topmost on, which never change.
    trusted: Vec<bool>,
    settings: Settings,
    wanted: SyncSender<()>,
    asked: Receiver<()>,
}

/// Refuses an index that changes the branches it is about, and tells why one is not used.
pub(crate) fn check(
    parsed: &mut MountOptions,
    branches: &[OpenBranch],
    place: &Path,
) -> Result<(), Failure> {
    let settings = &mut parsed.settings;
    let Some(path) = &settings.chain_index else {
        return Ok(());
    };
    let no = |why: &str| Failure::mount(format!("chain_index={path:?}: {why}"));
    let absolute = chain_index::absolute(path).map_err(|errno| no(&errno.to_string()))?;
    let around = branches.iter().map(|branch| &*branch.path);
    let around = around.chain([place]);
    if let Some(branch) = chain_index::branch_around(&absolute, around) {
        return Err(no(&format!("lies inside {branch:?}"))
            .hint("name a file outside of the branches and the mount point"));
    }
    let why = if settings.direct_access != DirectAccess::None {
        Some("it needs udba=none")
    } else if settings.override_stat != OverrideStat::None {
        Some("not together with xattr_permissions")
    } else if branches
        .last()
        .is_none_or(|branch| branch.mode.is_writable())
    {
        Some("the lowest branch is writable")
    } else {
        None
    };
    settings.chain_index = match why {
        None => Some(absolute),
        Some(why) => {
            parsed
                .warnings
                .push(format!("ignored option chain_index: {why}"));
            None
        }
    };
    Ok(())
}

impl IndexKeeper {
    /// Remembers what the index of a mount is about, if it is given one.
    pub(crate) fn of(plan: &Plan) -> Option<Self> {
        let path = plan.parsed.settings.chain_index.clone()?;
        let writable = |branch: &OpenBranch| branch.mode.is_writable();
        let above = plan.branches.iter().rposition(writable);
        let chain = &plan.branches[above.map_or(0, |above| above + 1)..];
        let of = |branch: &OpenBranch| (branch.path.clone(), branch.mode);
        let real = |branch: &OpenBranch| branch.mode.permission == Permission::RealReadOnly;
        let (wanted, asked) = sync_channel(1);
        Some(Self {
            path,
            branches: chain.iter().map(of).collect(),
            trusted: plan.branches.iter().map(real).collect(),
            settings: plan.settings.clone(),
            wanted,
            asked,
        })
    }

    /// Uses the index, if it fits.
    pub(crate) fn begin<T: Tree>(&self, union: &Union<T>) {
        if let Err(why) = self.apply(union) {
            tracing::info!(index = %self.path.display(), %why, "the index is made anew");
            self.wanted.try_send(()).ok();
        }
    }

    fn apply<T: Tree>(&self, union: &Union<T>) -> anyhow::Result<()> {
        let mapped = Arc::new(Mapped::of(&self.path)?);
        // The stack stays as it is meanwhile.
        let _passage = union.pass();
        let stack = union.branches();
        let trusted = |id| {
            let at = stack.iter().position(|(known, _)| *known == id);
            // Branches that came above move those of the chain down.
            let at = at.and_then(|at| (at + self.trusted.len()).checked_sub(stack.len()));
            at.is_some_and(|at| self.trusted.get(at) == Some(&true))
        };
        let wanted = self.wanted.clone();
        let path = self.path.clone();
        let tell = move || {
            tracing::info!(index = %path.display(), "a directory changed since the index was made");
            wanted.try_send(()).ok();
        };
        union.use_chain_index(mapped, trusted, tell)?;
        Ok(())
    }

    /// Makes the index anew when it is wanted, while the union is served.
    pub(crate) fn tend<T: Tree>(self, union: Arc<Union<T>>) {
        let thread = std::thread::Builder::new().name("index".into());
        let work = move || {
            if self.asked.recv().is_err() {
                return;
            }
            let built = chain_index::build(&self.path, &self.branches, &self.settings);
            match built.and_then(|built| self.apply(&union).map(|()| built)) {
                Ok(built) => tracing::info!(
                    directories = built.directories,
                    left_out = built.left_out,
                    "an index of the branches was made"
                ),
                Err(error) => tracing::warn!(
                    index = %self.path.display(),
                    error = format!("{error:#}"),
                    "no index of the branches: they are read instead"
                ),
            }
        };
        if let Err(error) = thread.spawn(work) {
            tracing::warn!(%error, "the index is not made anew");
        }
    }
}
