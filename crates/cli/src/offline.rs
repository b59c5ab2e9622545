//! Branches that are worked on directly, while no union uses them.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rules::options::{BranchMode, BranchSpec, branch};
use rules::{Name, Powers};
use sys::HostTree;
use union::branch_tools::{Layer, Stopped};

use crate::failure::{Exit, Failure};
use crate::mounting::place::errno_of;
use crate::run_state::{self, RunState};

/// A branch that was opened.
#[derive(Debug)]
pub(crate) struct OfflineBranch {
    /// Where it is, with all symbolic links followed.
    pub(crate) path: PathBuf,
    /// What it may be used for.
    pub(crate) powers: Powers,
    /// The tree.
    pub(crate) tree: HostTree,
}

/// A directory as the kernel knows it.
type Identity = (u64, u64);

impl OfflineBranch {
    /// Opens a branch, whether a union uses it or not.
    pub(crate) fn open(path: &Path, powers: Powers) -> Result<Self, Failure> {
        let said = |why: rules::Errno| Failure::new(COULD_NOT, format!("branch {path:?}: {why}"));
        let found = path
            .canonicalize()
            .map_err(|error| said(errno_of(&error)))?;
        let tree = HostTree::open(&found).map_err(said)?;
        Ok(Self {
            path: found,
            powers,
            tree,
        })
    }

    /// Opens a branch that is to be changed, if no union uses it.
    pub(crate) fn open_unused(path: &Path) -> Result<Self, Failure> {
        let branch = Self::open(path, Powers::WRITABLE)?;
        match user_of(&branch.path) {
            None => Ok(branch),
            Some(server) => Err(Failure::new(
                COULD_NOT,
                format!(
                    "branch {path:?}: in use by the union on {}",
                    server.mount_point
                ),
            )
            .hint("unmount it first")),
        }
    }

    /// Returns it as what lies below another branch.
    pub(crate) fn layer(&self) -> anyhow::Result<Layer<'_, HostTree>> {
        let layer = Layer::root(&self.tree, self.powers);
        layer.map_err(|errno| anyhow::anyhow!("branch {:?}: {errno}", self.path))
    }

    /// Returns the names in its root that belong to the filesystem and not to the branch.
    pub(crate) fn spared(&self) -> Vec<Name> {
        let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
        let above = self.path.parent().and_then(device);
        let is_root_of_filesystem = above != device(&self.path);
        let spared = is_root_of_filesystem.then(|| Name::new(b"lost+found"));
        spared.into_iter().flatten().collect()
    }

    /// Says where a tool stopped.
    pub(crate) fn stopped(&self, stopped: &Stopped) -> anyhow::Error {
        let Stopped { place, errno } = stopped;
        let last = place.names().last();
        let mark = last.is_some_and(|name| rules::whiteout::is_reserved(name.as_bytes()));
        let failure = Failure::new(COULD_NOT, format!("{:?}: {place}: {errno}", self.path));
        match *errno {
            rules::Errno::OPNOTSUPP => failure
                .hint("it was renamed, and its records lead to none of these branches for sure: name those below with --below, or give it another name in the mounted union")
                .into(),
            rules::Errno::IO if mark => failure
                .hint("not a proper whiteout: `plywood check --repair` replaces it")
                .into(),
            _ => failure.into(),
        }
    }
}

/// The exit code of a tool that could not do its work.
pub(crate) const COULD_NOT: Exit = Exit(2);

/// Returns the union that uses a directory as a branch.
pub(crate) fn user_of(path: &Path) -> Option<RunState> {
    let own = identity(path)?;
    run_state::all().into_iter().find(|server| {
        let mut paths = server.branches.iter().map(|b| run_state::path_of(&b.path));
        paths.any(|path| identity(&path) == Some(own))
    })
}

/// Tells whether two paths lead to one directory.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Reads a list of branches such as `A:B=ro+wh`.
pub(crate) fn read_list(list: &OsStr) -> anyhow::Result<Vec<BranchSpec>> {
    let mut warnings = Vec::new();
    let named = branch::parse_list(list, &mut warnings)
        .map_err(|error| Failure::new(COULD_NOT, error.to_string()))?;
    if let Some(warning) = warnings.first() {
        return Err(Failure::new(COULD_NOT, warning.clone())
            .hint("modes are rw, ro, ro+wh and rr")
            .into());
    }
    Ok(named)
}

/// Opens the branches of a list for looking; whiteouts count in those that say so.
pub(crate) fn open_list(list: &OsStr) -> anyhow::Result<Vec<OfflineBranch>> {
    let named = read_list(list)?;
    let opened = named.iter().map(|spec| {
        let mode = spec.mode.unwrap_or(BranchMode::RO);
        OfflineBranch::open(&spec.path, mode.powers())
    });
    Ok(opened.collect::<Result<_, _>>()?)
}

/// Opens the branches of a running union as they are mounted.
pub(crate) fn open_stack(server: &RunState) -> anyhow::Result<Vec<OfflineBranch>> {
    let opened = server.branches.iter().map(|branch| {
        let mode = BranchMode::parse(branch.mode.as_bytes(), &mut Vec::new());
        OfflineBranch::open(&run_state::path_of(&branch.path), mode.powers())
    });
    Ok(opened.collect::<Result<_, _>>()?)
}

/// Works where there is room for directories that lie deep in each other.
pub(crate) fn deeply<R: Send>(work: impl FnOnce() -> R + Send) -> anyhow::Result<R> {
    const ROOM: usize = 64 << 20;
    if let Err(errno) = sys::limits::raise_open_files() {
        tracing::debug!(%errno, "few files may be open");
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(ROOM);
        let worker = thread.spawn_scoped(scope, work).context("no thread")?;
        worker
            .join()
            .map_err(|_| anyhow::anyhow!("the work broke off"))
    })
}

/// Tells whether a person answers questions.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question; no answer means no.
pub(crate) fn ask(question: &str) -> anyhow::Result<bool> {
    write!(io::stderr(), "{question} [y/N] ").context("cannot ask")?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
