//! `plywood merge-down`: what a branch holds goes into the branch below it.

use std::path::{Path, PathBuf};

use rules::Kind;
use sys::HostTree;
use union::branch_tools::merge_down::{Deed, Ending, Merge, Pass, merge_down};
use union::branch_tools::{Below, Place};

use crate::command_line::MergeDown;
use crate::failure::{Exit, Failure};
use crate::offline::{self, COULD_NOT, OfflineBranch};
use crate::progress::Progress;
use crate::render::path_text;

/// How a merge is told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Telling {
    /// Nothing is changed.
    pub(crate) dry_run: bool,
    /// A line for each change.
    pub(crate) verbose: bool,
    /// No line at the end.
    pub(crate) quiet: bool,
}

/// `plywood merge-down [--move|--move-with-whiteouts] SRC_BRANCH DST_BRANCH`
pub(crate) fn run(arguments: &MergeDown) -> anyhow::Result<Exit> {
    let source = OfflineBranch::open_unused(&arguments.source)?;
    let target = OfflineBranch::open_unused(&arguments.target)?;
    let below = match &arguments.below {
        Some(list) => offline::open_list(list)?,
        None => Vec::new(),
    };
    let mut all: Vec<&Path> = vec![&source.path, &target.path];
    all.extend(below.iter().map(|branch| &*branch.path));
    refuse_overlaps(&all)?;
    let ending = match (arguments.moves, arguments.move_with_whiteouts) {
        (_, true) => Ending::MoveWithWhiteouts,
        (true, _) => Ending::Move,
        _ => Ending::Copy,
    };
    let telling = Telling {
        dry_run: arguments.dry_run,
        verbose: arguments.verbose,
        quiet: false,
    };
    if !arguments.yes && !arguments.dry_run && offline::can_ask() {
        let loses = match ending {
            Ending::Copy => "",
            _ => ", and empty the first",
        };
        let question = format!(
            "Bring {:?} into {:?}{loses}?",
            arguments.source, arguments.target
        );
        if !offline::ask(&question)? {
            return Ok(Exit::FAILED);
        }
    }
    let below = match below.is_empty() {
        true => Below::Nothing,
        false => below_of(&below)?,
    };
    work(&source, &target, below, ending, telling)
}

/// Returns branches as what lies below another.
pub(crate) fn below_of(branches: &[OfflineBranch]) -> anyhow::Result<Below<'_, HostTree>> {
    let layers = branches.iter().map(OfflineBranch::layer);
    Ok(Below::Layers(layers.collect::<anyhow::Result<_>>()?))
}

/// Merges, and tells of it.
pub(crate) fn work(
    source: &OfflineBranch,
    target: &OfflineBranch,
    below: Below<'_, HostTree>,
    ending: Ending,
    telling: Telling,
) -> anyhow::Result<Exit> {
    let mut merge = Merge {
        source: &source.tree,
        target: &target.tree,
        below,
        ending,
        pass: Pass::Dry,
        spared: source.spared(),
    };
    let stopped = |stopped| {
        let both = [source, target];
        let at = both.into_iter().find(|branch| has(branch, &stopped));
        at.unwrap_or(target).stopped(&stopped)
    };
    let mut total = 0;
    if !telling.dry_run && !telling.verbose && Progress::is_seen() {
        offline::deeply(|| merge_down(&merge, &mut |_, _| total += 1))?.map_err(stopped)?;
    }
    if !telling.dry_run {
        merge.pass = Pass::Real;
    }
    let mut counts = Counts::default();
    let mut progress = Progress::of(total, !telling.quiet);
    let mut tell = |place: &Place, deed| {
        counts.count(deed);
        progress.step();
        if telling.dry_run || telling.verbose {
            crate::print_line(&line(place, deed));
        }
    };
    let done = offline::deeply(|| merge_down(&merge, &mut tell))?;
    drop(progress);
    done.map_err(stopped)?;
    if !telling.quiet {
        let ends = if telling.dry_run { "would be " } else { "" };
        crate::print_line(&format!("{ends}{}", counts.line()));
    }
    Ok(Exit::SUCCESS)
}

fn has(branch: &OfflineBranch, stopped: &union::branch_tools::Stopped) -> bool {
    let names = stopped.place.names().iter();
    let path: PathBuf = names.map(|name| name.as_os_str()).collect();
    branch.path.join(path).symlink_metadata().is_ok()
}

/// Refuses a branch that is another, or lies in it.
pub(crate) fn refuse_overlaps(paths: &[&Path]) -> Result<(), Failure> {
    for (index, one) in paths.iter().enumerate() {
        let mut others = paths.iter().enumerate().filter(|(at, _)| *at != index);
        if let Some((_, other)) = others.find(|(_, other)| one.starts_with(other)) {
            let what = format!("branch {one:?}: lies in branch {other:?}");
            return Err(Failure::new(COULD_NOT, what).hint("branches must not contain each other"));
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Counts {
    put: u64,
    same: u64,
    removed: u64,
    hidden: u64,
    forgotten: u64,
    dropped: u64,
    moved: u64,
}

impl Counts {
    fn count(&mut self, deed: Deed) {
        match deed {
            Deed::Put(_) => self.put += 1,
            Deed::Keep => self.same += 1,
            Deed::Remove => self.removed += 1,
            Deed::Hide | Deed::Opaque => self.hidden += 1,
            Deed::Drop => self.dropped += 1,
            Deed::Forget => self.forgotten += 1,
            Deed::Carry => self.moved += 1,
            Deed::Tidy => {}
        }
    }

    fn line(&self) -> String {
        let Self {
            put,
            same,
            removed,
            hidden,
            forgotten,
            dropped,
            moved,
        } = self;
        let mut line = format!(
            "{put} put, {same} the same, {removed} deleted, {hidden} hidden, {dropped} removed above"
        );
        if *moved > 0 {
            line.push_str(&format!(", {moved} renamed below"));
        }
        if *forgotten > 0 {
            // Whoever has branches further below wants to know.
            line.push_str(&format!("; {forgotten} whiteouts not kept (see --below)"));
        }
        line
    }
}

fn line(place: &Place, deed: Deed) -> String {
    let what = match deed {
        Deed::Put(Kind::Dir) => "make directory",
        Deed::Put(_) => "put",
        Deed::Keep => "the same",
        Deed::Remove => "delete",
        Deed::Hide => "hide",
        Deed::Opaque => "make opaque",
        Deed::Carry => "rename below to",
        Deed::Forget => "no whiteout for",
        Deed::Tidy => "tidy above",
        Deed::Drop => "remove above",
    };
    let names = place.names().iter();
    let path: PathBuf = names.map(|name| name.as_os_str()).collect();
    match path_text::write(&path) {
        path if path.is_empty() => format!("{what} ."),
        path => format!("{what} {path}"),
    }
}
