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
use crate::failure::{Exit, Failure};
use crate::mounted_unions;
use crate::offline::{self, COULD_NOT, OfflineBranch};
use crate::progress::Progress;
use crate::render::path_text;
use crate::run_state;

/// `plywood balance [--dry-run] [--percent N] UNION|BRANCHES`
pub(crate) fn run(arguments: &Balance) -> anyhow::Result<Exit> {
    refuse_mounted(Path::new(&arguments.pool))?;
    let branches = open(arguments)?;
    let filesystems = Filesystems::of(&branches)?;
    let pool: Vec<_> = branches
        .iter()
        .map(|branch| Member {
            tree: &branch.tree,
            powers: branch.powers,
        })
        .collect();
    let groups = offline::deeply(|| survey(&pool))?
        .map_err(|stopped| Failure::new(COULD_NOT, stopped.to_string()))?;
    let candidates: Vec<_> = groups
        .iter()
        .map(|group| filesystems.candidate(group))
        .collect();
    let choices = choose(&filesystems.spaces, &candidates, arguments.percent);
    let interrupted = if arguments.dry_run {
        Arc::default()
    } else {
        interruption()?
    };
    let mut progress = Progress::of(choices.len() as u64, !arguments.verbose);
    let mut moved = Moved::default();
    for (at, to) in choices {
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        let group = &groups[at];
        progress.step();
        if arguments.dry_run || arguments.verbose {
            crate::print_line(&line(group, &branches, to));
        }
        if !arguments.dry_run {
            match carry(&pool, group, to) {
                Ok(()) => {}
                Err(stopped) if stopped.errno == Errno::BUSY => {
                    crate::print_warning(&format!("{}: somebody writes to it", stopped.place));
                    continue;
                }
                Err(stopped) => {
                    drop(progress);
                    return Err(branches[to].stopped(&stopped));
                }
            }
        }
        moved.files += 1;
        moved.bytes += group.size;
    }
    drop(progress);
    crate::print_line(&moved.line(arguments.dry_run));
    Ok(if interrupted.load(Ordering::Relaxed) {
        Exit(130)
    } else {
        Exit::SUCCESS
    })
}

fn refuse_mounted(place: &Path) -> Result<(), Failure> {
    let mounted = mounted_unions::mount_on(place).ok();
    if mounted.is_some_and(|mount| run_state::server_of(&mount).is_some()) {
        let what = format!("{place:?}: a mounted union cannot be balanced");
        return Err(Failure::new(COULD_NOT, what)
            .hint("unmount it and name its branches, or move single files with `plywood mvdown`"));
    }
    Ok(())
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
