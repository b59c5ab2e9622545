//! `plywood balance`: the files of a pool spread over its branches.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rules::Errno;
use rules::balance::{Candidate, Space, choose};
use rules::options::BranchMode;
use sys::HostTree;
use sys::signals::Signals;
use tree::Tree;
use union::branch_tools::balance::{Group, Member, carry, survey};

use super::merge_down::refuse_overlaps;
use crate::command_line::Balance;
use crate::control::{self, Ask, MoveDown};
use crate::failure::{Exit, Failure, exit_of, line_of};
use crate::mounted_unions;
use crate::offline::{self, COULD_NOT, OfflineBranch};
use crate::progress::Progress;
use crate::render::path_text;
use crate::run_state::{self, RunState};

/// `plywood balance [--dry-run] [--percent N] UNION|BRANCHES`
pub(crate) fn run(arguments: &Balance) -> anyhow::Result<Exit> {
    let server = server_on(Path::new(&arguments.pool))?;
    let branches = match &server {
        Some(server) => enough(offline::open_stack(server)?)?,
        None => open(arguments)?,
    };
    let pool: Vec<_> = branches
        .iter()
        .map(|branch| Member {
            tree: &branch.tree,
            powers: branch.powers,
        })
        .collect();
    let mut groups = offline::deeply(|| survey(&pool))?
        .map_err(|stopped| Failure::new(COULD_NOT, stopped.to_string()))?;
    if server.is_some() {
        groups.iter_mut().for_each(only_downwards);
    }
    let mut work = Work {
        arguments,
        branches: &branches,
        pool: &pool,
        server: server.as_ref(),
        interrupted: match arguments.dry_run {
            true => Arc::default(),
            false => interruption()?,
        },
        moved: Moved::default(),
    };
    // What stays leaves room for others to move.
    while work.round(&mut groups)? {}
    crate::print_line(&work.moved.line(arguments.dry_run));
    Ok(if work.is_interrupted() {
        Exit(130)
    } else {
        Exit::SUCCESS
    })
}

struct Work<'a> {
    arguments: &'a Balance,
    branches: &'a [OfflineBranch],
    pool: &'a [Member<'a, HostTree>],
    server: Option<&'a RunState>,
    interrupted: Arc<AtomicBool>,
    moved: Moved,
}

impl Work<'_> {
    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Chooses and moves; returns whether something that was chosen stayed. What was tried is not chosen again.
    fn round(&mut self, groups: &mut [Group]) -> anyhow::Result<bool> {
        let filesystems = Filesystems::of(self.branches)?;
        let candidates = groups.iter().map(|group| filesystems.candidate(group));
        let candidates: Vec<_> = candidates.collect();
        let choices = choose(&filesystems.spaces, &candidates, self.arguments.percent);
        let mut progress = Progress::of(choices.len() as u64, !self.arguments.verbose);
        let mut stayed = false;
        for (at, to) in choices {
            if self.is_interrupted() {
                return Ok(false);
            }
            let group = &mut groups[at];
            progress.step();
            if self.arguments.dry_run || self.arguments.verbose {
                crate::print_line(&line(group, self.branches, to));
            }
            let why = match self.arguments.dry_run {
                true => None,
                false => self.carry(group, to)?,
            };
            group.to.clear();
            if let Some(why) = why {
                crate::print_warning(&format!("{}: {why}", group.names[0]));
                stayed = true;
                continue;
            }
            self.moved.files += 1;
            self.moved.bytes += group.size;
        }
        Ok(stayed)
    }

    /// Moves a file; returns why it stays if it does.
    fn carry(&self, group: &Group, to: usize) -> anyhow::Result<Option<String>> {
        if let Some(server) = self.server {
            return ask_to_carry(server, group, to);
        }
        match carry(self.pool, group, to) {
            Ok(()) => Ok(None),
            Err(stopped) if stopped.errno == Errno::BUSY => Ok(Some("in use".to_owned())),
            Err(stopped) => Err(self.branches[to].stopped(&stopped)),
        }
    }
}

/// Returns the server of the union that is mounted on a directory.
fn server_on(place: &Path) -> anyhow::Result<Option<RunState>> {
    let mounted = mounted_unions::mount_on(place).ok();
    let server = mounted.and_then(|mount| run_state::server_of(&mount));
    if server
        .as_ref()
        .is_some_and(|server| server.dialect != "aufs")
    {
        let what =
            format!("{place:?}: mounted in the format of overlayfs, which has one writable branch");
        return Err(Failure::new(COULD_NOT, what).into());
    }
    Ok(server)
}

/// Leaves what a server can do while others use the union: a file with one name moves down.
fn only_downwards(group: &mut Group) {
    let (from, several) = (group.from, group.names.len() > 1);
    group.to.retain(|to| !several && *to > from);
}

/// Has the server move a file; returns why it stays if it does.
fn ask_to_carry(server: &RunState, group: &Group, to: usize) -> anyhow::Result<Option<String>> {
    let names = group.names.iter().flat_map(|place| place.names());
    let path: PathBuf = names.map(|name| name.as_os_str()).collect();
    let order = Ask::MoveDown(MoveDown {
        path: path_text::write(&path),
        from: Some(server.branches[group.from].path.clone()),
        to: Some(server.branches[to].path.clone()),
        keeps_upper: false,
        replaces_lower: false,
        from_read_only: false,
        to_read_only: false,
    });
    match control::order(server, &order) {
        Ok(_) => Ok(None),
        // The server told why; one that does not answer at all would not answer next time either.
        Err(error) if exit_of(&error) == Exit::FAILED => Ok(Some(line_of(&error))),
        Err(error) => Err(error),
    }
}

fn open(arguments: &Balance) -> anyhow::Result<Vec<OfflineBranch>> {
    let named = offline::read_list(&arguments.pool)?;
    let opened = named.iter().map(|spec| {
        let powers = spec.mode.unwrap_or(BranchMode::RW).powers();
        let branch = match powers.writable {
            true => OfflineBranch::open_unused(&spec.path)?,
            false => OfflineBranch::open(&spec.path, powers)?,
        };
        Ok(OfflineBranch { powers, ..branch })
    });
    let branches: Vec<_> = opened.collect::<Result<_, Failure>>()?;
    let paths: Vec<_> = branches.iter().map(|branch| &*branch.path).collect();
    refuse_overlaps(&paths)?;
    enough(branches)
}

fn enough(branches: Vec<OfflineBranch>) -> anyhow::Result<Vec<OfflineBranch>> {
    if branches
        .iter()
        .filter(|branch| branch.powers.writable)
        .count()
        < 2
    {
        return Err(
            Failure::new(COULD_NOT, "a pool has two writable branches at least")
                .hint("name all branches, topmost first: A:B:C")
                .into(),
        );
    }
    Ok(branches)
}

/// Lets the file that is moving arrive before the command ends.
fn interruption() -> anyhow::Result<Arc<AtomicBool>> {
    let signals = Signals::block().map_err(|errno| anyhow::anyhow!("signals: {errno}"))?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&interrupted);
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            note.store(true, Ordering::Relaxed);
        }
    });
    Ok(interrupted)
}

/// The filesystems of the writable branches.
struct Filesystems {
    spaces: Vec<Space>,
    /// Which one each branch is on.
    of_branch: Vec<usize>,
}

impl Filesystems {
    fn of(branches: &[OfflineBranch]) -> anyhow::Result<Self> {
        let mut known: Vec<u64> = Vec::new();
        let mut spaces = Vec::new();
        let mut of_branch = Vec::new();
        for branch in branches {
            if !branch.powers.writable {
                // No file comes or goes here.
                of_branch.push(usize::MAX);
                continue;
            }
            let space = stat(&branch.tree)
                .map_err(|errno| Failure::new(COULD_NOT, format!("{:?}: {errno}", branch.path)))?;
            let at = known.iter().position(|dev| *dev == space.0);
            of_branch.push(at.unwrap_or_else(|| {
                known.push(space.0);
                spaces.push(space.1);
                known.len() - 1
            }));
        }
        Ok(Self { spaces, of_branch })
    }

    fn candidate(&self, group: &Group) -> Candidate {
        let from = self.of_branch[group.from];
        let others = group.to.iter().map(|to| (*to, self.of_branch[*to]));
        Candidate {
            size: group.size,
            from,
            to: others.filter(|(_, at)| *at != from).collect(),
        }
    }
}

fn stat(tree: &HostTree) -> Result<(u64, Space), Errno> {
    let found = tree.stat_fs(&tree.root()?)?;
    let bytes = |blocks: u64| blocks.saturating_mul(u64::from(found.fragment_size));
    let space = Space {
        total: bytes(found.blocks),
        free: bytes(found.blocks_free),
    };
    Ok((found.dev, space))
}

fn line(group: &Group, branches: &[OfflineBranch], to: usize) -> String {
    let names = group.names.iter().map(|place| {
        let names = place.names().iter().map(|name| name.as_os_str());
        path_text::write(&names.collect::<PathBuf>())
    });
    let names: Vec<_> = names.collect();
    let path = |branch: usize| path_text::write(&branches[branch].path);
    format!(
        "move {}: {} -> {}",
        names.join(", "),
        path(group.from),
        path(to)
    )
}

#[derive(Debug, Default)]
struct Moved {
    files: u64,
    bytes: u64,
}

impl Moved {
    fn line(&self, dry_run: bool) -> String {
        let would = if dry_run { " would be" } else { "" };
        let files = if self.files == 1 { "file" } else { "files" };
        let kib = self.bytes / 1024;
        format!("{} {files} of {kib} KiB{would} moved", self.files)
    }
}
