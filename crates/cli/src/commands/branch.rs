//! `plywood branch`: the stack of a mounted union, and changing it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rules::options::{self, BranchMode, BranchSpec};

use crate::command_line::{Branch, BranchAdd, BranchList, BranchMove, BranchPaths, BranchVerb};
use crate::control::{self, Answer, Ask, Change};
use crate::failure::{Exit, Failure};
use crate::mounted_unions;
use crate::render::{branches, path_text};
use crate::run_state::RunState;

/// `plywood branch list|add|remove|set|move DIR ...`
pub(crate) fn run(arguments: &Branch) -> anyhow::Result<Exit> {
    match &arguments.verb {
        BranchVerb::List(arguments) => list(arguments),
        BranchVerb::Add(arguments) => add(arguments),
        BranchVerb::Remove(arguments) => remove(arguments),
        BranchVerb::Set(arguments) => set(arguments),
        BranchVerb::Move(arguments) => shift(arguments),
    }
}

fn list(arguments: &BranchList) -> anyhow::Result<Exit> {
    let (_, server) = mounted_unions::served_on(&arguments.dir)?;
    let text = branches::text(&server, arguments.format)?;
    crate::print_data(&text);
    Ok(Exit::SUCCESS)
}

fn add(arguments: &BranchAdd) -> anyhow::Result<Exit> {
    let (_, server) = mounted_unions::served_on(&arguments.dir)?;
    let specs = arguments.branches.iter().map(one);
    let specs = specs.collect::<anyhow::Result<Vec<_>>>()?;
    let mut index = arguments.at;
    let mut changes = Vec::with_capacity(specs.len());
    for spec in specs {
        let at = match index {
            _ if arguments.bottom => None,
            Some(index) => Some(index),
            None => Some(usual_place(&server, spec.mode)),
        };
        index = at.map(|at| at.saturating_add(1));
        changes.push(Change::Add {
            index: at,
            path: text_of(&spec.path)?,
            mode: spec.mode.map(|mode| mode.to_string()),
        });
    }
    order(&server, changes)
}

/// A writable branch goes on top, any other below the topmost writable one.
fn usual_place(server: &RunState, mode: Option<BranchMode>) -> usize {
    if mode.is_some_and(|mode| mode.is_writable()) {
        return 0;
    }
    let writable = |mode: &str| mode == "rw" || mode.starts_with("rw+");
    let topmost = server
        .branches
        .iter()
        .position(|known| writable(&known.mode));
    topmost.map_or(0, |at| at + 1)
}

fn remove(arguments: &BranchPaths) -> anyhow::Result<Exit> {
    let (_, server) = mounted_unions::served_on(&arguments.dir)?;
    let change = |path: &PathBuf| {
        Ok(Change::Remove {
            path: text_of(path)?,
        })
    };
    let changes = arguments.branches.iter().map(change);
    order(&server, changes.collect::<anyhow::Result<_>>()?)
}

fn set(arguments: &BranchPaths) -> anyhow::Result<Exit> {
    let (_, server) = mounted_unions::served_on(&arguments.dir)?;
    let change = |branch: &PathBuf| {
        let spec = one(branch.as_os_str())?;
        let mode = spec.mode.ok_or_else(|| {
            let what = format!("{branch:?}: no mode");
            Failure::new(Exit(2), what).hint("write PATH=MODE, such as /branch=ro+wh")
        })?;
        Ok(Change::Set {
            path: text_of(&spec.path)?,
            mode: mode.to_string(),
        })
    };
    let changes = arguments.branches.iter().map(change);
    order(&server, changes.collect::<anyhow::Result<_>>()?)
}

fn shift(arguments: &BranchMove) -> anyhow::Result<Exit> {
    let (_, server) = mounted_unions::served_on(&arguments.dir)?;
    let change = Change::Move {
        path: text_of(&arguments.branch)?,
        index: arguments.to,
    };
    order(&server, vec![change])
}

fn order(server: &RunState, changes: Vec<Change>) -> anyhow::Result<Exit> {
    if let Answer::Done(warnings) = control::order(server, &Ask::Change { changes })? {
        warnings
            .iter()
            .for_each(|warning| crate::print_warning(warning));
    }
    Ok(Exit::SUCCESS)
}

/// Reads `PATH[=MODE]`.
fn one(text: impl AsRef<OsStr>) -> anyhow::Result<BranchSpec> {
    let text = text.as_ref();
    let wrong = |why: String| Failure::new(Exit(2), format!("{text:?}: {why}"));
    let mut warnings = Vec::new();
    let list = options::branch::parse_list(text, &mut warnings)
        .map_err(|error| wrong(error.to_string()))?;
    if let Some(warning) = warnings.pop() {
        return Err(wrong(warning).into());
    }
    let [spec] = &list[..] else {
        return Err(wrong("not one branch".into())
            .hint("name each branch by itself; write a colon in a path as \\:")
            .into());
    };
    Ok(spec.clone())
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let absolute = std::path::absolute(path).with_context(|| format!("{path:?}"))?;
    Ok(path_text::write(&absolute))
}
