//! `plywood check` and aufs-util's `auchk`: what does not belong in a branch.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rules::{Errno, Kind};
use serde::Serialize;
use union::branch_tools::Below;
use union::branch_tools::check::{Fault, Inspector, Problem, check};

use crate::command_line::Check;
use crate::failure::{Exit, Failure};
use crate::helper_arguments::Arguments;
use crate::offline::{self, COULD_NOT, OfflineBranch};
use crate::render::path_text;

/// The version of the JSON's shape.
const SCHEMA: u32 = 1;

/// What becomes of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    No,
    Yes,
    Ask,
}

/// Where the findings go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    Lines,
    Json,
    Nothing,
}

/// `plywood check [-q] [--repair] [--json] [--below BRANCHES] BRANCH...`
pub(crate) fn run(arguments: &Check) -> anyhow::Result<Exit> {
    let below = match &arguments.below {
        Some(list) => Some(offline::open_list(list)?),
        None => None,
    };
    let telling = match (arguments.json, arguments.quiet) {
        (true, _) => Telling::Json,
        (false, true) => Telling::Nothing,
        (false, false) => Telling::Lines,
    };
    let repair = if arguments.repair {
        Repair::Yes
    } else {
        Repair::No
    };
    examine(&arguments.branches, below.as_deref(), repair, telling)
}

/// `auchk [-q] [-r] [-s] [-w] BRANCH...`
///
/// On a terminal each repair is asked for, elsewhere all are made, as its users expect. `-w` repairs without asking, `-r`
/// only reads; `-s` changes nothing: a summary always comes at the end.
pub(crate) fn run_auchk(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<Exit> {
    const USAGE: &str = "usage: [-q] [-r|-w] [-s] BRANCH...";
    let usage = |what: String| Failure::new(COULD_NOT, what).hint(USAGE);
    let long = ["quiet", "help"];
    let read = Arguments::read(words, "qwrsh", "", &long).map_err(usage)?;
    if read.has(&["h", "help"]) {
        crate::print_line(USAGE);
        return Ok(Exit::SUCCESS);
    }
    if read.operands.is_empty() {
        return Err(usage("no branch".to_owned()).into());
    }
    let repair = if read.has(&["r"]) {
        Repair::No
    } else if read.has(&["w"]) || !offline::can_ask() {
        Repair::Yes
    } else {
        Repair::Ask
    };
    let telling = if read.has(&["q", "quiet"]) {
        Telling::Nothing
    } else {
        Telling::Lines
    };
    let branches: Vec<_> = read.operands.iter().map(PathBuf::from).collect();
    examine(&branches, None, repair, telling)
}

fn examine(
    paths: &[PathBuf],
    below: Option<&[OfflineBranch]>,
    repair: Repair,
    telling: Telling,
) -> anyhow::Result<Exit> {
    let below = match below {
        Some(branches) => {
            let layers = branches.iter().map(OfflineBranch::layer);
            Some(Below::Layers(layers.collect::<anyhow::Result<_>>()?))
        }
        None => None,
    };
    let mut reports = Vec::new();
    let mut ended = Exit::SUCCESS;
    for path in paths {
        let mut findings = Findings {
            path,
            repair,
            telling,
            found: Vec::new(),
            failed: None,
        };
        let done = OfflineBranch::open_unused(path)
            .map_err(anyhow::Error::from)
            .and_then(|branch| {
                offline::deeply(|| check(&branch.tree, below.as_ref(), &mut findings))?
                    .map_err(|stopped| branch.stopped(&stopped))
            })
            .and_then(|()| findings.failed.take().map_or(Ok(()), Err));
        match done {
            Ok(()) if findings.left() == 0 => {}
            Ok(()) => ended = Exit(ended.0.max(1)),
            Err(error) => {
                crate::print_error(&crate::failure::line_of(&error));
                ended = COULD_NOT;
                continue;
            }
        }
        if telling == Telling::Lines {
            crate::print_line(&findings.summary());
        }
        reports.push(BranchReport {
            path: path_text::write(path),
            problems: findings.found,
        });
    }
    if telling == Telling::Json {
        let report = Report {
            schema: SCHEMA,
            branches: reports,
        };
        crate::print_line(&serde_json::to_string_pretty(&report)?);
    }
    Ok(ended)
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    branches: Vec<BranchReport>,
}

#[derive(Debug, Serialize)]
struct BranchReport {
    path: String,
    problems: Vec<ProblemReport>,
}

#[derive(Debug, Serialize)]
struct ProblemReport {
    /// From the branch's root.
    path: String,
    fault: &'static str,
    repaired: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What was found in one branch.
struct Findings<'a> {
    path: &'a Path,
    repair: Repair,
    telling: Telling,
    found: Vec<ProblemReport>,
    /// Nobody answers any more.
    failed: Option<anyhow::Error>,
}

impl Findings<'_> {
    fn left(&self) -> usize {
        self.found.iter().filter(|one| !one.repaired).count()
    }

    fn summary(&self) -> String {
        let path = path_text::write(self.path);
        match (self.found.len(), self.left()) {
            (0, _) => format!("{path}: clean"),
            (1, 0) => format!("{path}: 1 problem, repaired"),
            (all, 0) => format!("{path}: {all} problems, all repaired"),
            (1, _) => format!("{path}: 1 problem"),
            (all, left) if all == left => format!("{path}: {all} problems"),
            (all, left) => format!("{path}: {all} problems, {left} left"),
        }
    }

    fn line(&self, problem: &Problem) -> String {
        let path = self.path.join(path_of(problem));
        format!("{}: {}", path_text::write(&path), words(problem.fault).1)
    }

    fn tell(&self, line: &str) {
        if self.telling == Telling::Lines {
            crate::print_line(line);
        }
    }
}

impl Inspector for Findings<'_> {
    fn repairs(&mut self, problem: &Problem) -> bool {
        let report = ProblemReport {
            path: path_text::write(&path_of(problem)),
            fault: words(problem.fault).0,
            repaired: false,
            error: None,
        };
        self.found.push(report);
        let line = self.line(problem);
        match self.repair {
            Repair::No => self.tell(&line),
            Repair::Yes => return true,
            Repair::Ask if self.failed.is_none() => {
                match offline::ask(&format!("{line}; {}?", words(problem.fault).2)) {
                    Ok(answer) => return answer,
                    Err(error) => self.failed = Some(error),
                }
            }
            Repair::Ask => {}
        }
        false
    }

    fn repaired(&mut self, problem: &Problem, done: Result<(), Errno>) {
        let line = self.line(problem);
        if let Some(report) = self.found.last_mut() {
            report.repaired = done.is_ok();
            report.error = done.err().map(|errno| errno.to_string());
        }
        match done {
            Ok(()) => self.tell(&format!("{line}: {}", words(problem.fault).2)),
            Err(errno) => self.tell(&format!("{line}: not repaired: {errno}")),
        }
    }
}

fn path_of(problem: &Problem) -> PathBuf {
    let names = problem.place.names().iter();
    names.map(|name| name.as_os_str()).collect()
}

/// Returns a fault for programs and for people, and what repairs it.
fn words(fault: Fault) -> (&'static str, &'static str, &'static str) {
    match fault {
        Fault::Pair => ("pair", "a whiteout beside its entry", "remove the whiteout"),
        Fault::NotRegular(Kind::Dir) => (
            "not_regular",
            "a directory in the place of a whiteout",
            "replace it if it is empty",
        ),
        Fault::NotRegular(_) => (
            "not_regular",
            "no regular file in the place of a whiteout",
            "replace it",
        ),
        Fault::Unfinished => ("unfinished", "was being built", "remove it"),
        Fault::MovedAway { taken: false } => (
            "moved_away",
            "was moved away, and its name is free",
            "give it its name back",
        ),
        Fault::MovedAway { taken: true } => (
            "moved_away",
            "was moved away, and its name is taken",
            "remove it",
        ),
        Fault::HidesNothing => (
            "hides_nothing",
            "a whiteout that hides nothing",
            "remove it",
        ),
        Fault::PseudoLink => (
            "pseudo_link",
            "a link that kept the names of a file together",
            "remove it",
        ),
        Fault::Orphan => (
            "orphan",
            "a copy of a file whose directory is gone",
            "remove it",
        ),
        Fault::WrongKind(_) => (
            "wrong_kind",
            "has a name of the format and another kind",
            "remove it",
        ),
    }
}
