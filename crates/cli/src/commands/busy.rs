//! `plywood busy` and `aubusy`: who keeps a union, or one of its branches, in use.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context;
use sys::busy::{self, Busy};

use crate::command_line;
use crate::control::{self, Answer, Ask, InUse};
use crate::failure::{Exit, Failure};
use crate::helper_arguments::Arguments;
use crate::mounted_unions;
use crate::render::busy::use_of;
use crate::render::path_text;
use crate::run_state::{self, RunState};

/// `plywood busy DIR [BRANCH]`
pub(crate) fn run(arguments: &command_line::Busy) -> anyhow::Result<Exit> {
    let (mount, server) = mounted_unions::served_on(&arguments.dir)?;
    let users = busy::users_of(&mount)?;
    let Some(branch) = &arguments.branch else {
        for user in &users {
            crate::print_line(&line(user));
        }
        return Ok(found(!users.is_empty()));
    };
    let in_use = in_use_on(&server, branch)?;
    for used in &in_use {
        let keepers: Vec<_> = keepers(used, &users, &mount.mount_point).collect();
        for user in &keepers {
            crate::print_line(&line(user));
        }
        if keepers.is_empty() {
            let path = mount.mount_point.join(run_state::path_of(&used.path));
            let path = path_text::write(&path);
            crate::print_line(&format!("-\t-\t{}\t{path}", used.what));
        }
    }
    Ok(found(!in_use.is_empty()))
}

/// `aubusy [-v] MNT BRANCH`: one process id a line; with `-v` what it uses, too.
pub(crate) fn run_aubusy(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<Exit> {
    const USAGE: &str = "usage: aubusy [-v] MNT BRANCH";
    let usage = |what: String| Failure::new(Exit(2), what).hint(USAGE);
    let read = Arguments::read(words, "vh", "", &["help", "version"]).map_err(usage)?;
    if read.has(&["h", "help"]) {
        crate::print_line(USAGE);
        return Ok(Exit::SUCCESS);
    }
    let [dir, branch] = &read.operands[..] else {
        return Err(usage(format!("{} operands", read.operands.len())).into());
    };
    let (mount, server) = mounted_unions::served_on(Path::new(dir))?;
    let users = busy::users_of(&mount)?;
    let in_use = in_use_on(&server, Path::new(branch))?;
    let mut keeping: Vec<&Busy> = in_use
        .iter()
        .flat_map(|used| keepers(used, &users, &mount.mount_point))
        .collect();
    keeping.sort_by_key(|user| user.pid);
    if read.has(&["v"]) {
        keeping
            .iter()
            .for_each(|user| crate::print_line(&line(user)));
    } else {
        keeping.dedup_by_key(|user| user.pid);
        let pids = keeping.iter().map(|user| user.pid.to_string());
        pids.for_each(|pid| crate::print_line(&pid));
    }
    Ok(Exit::SUCCESS)
}

fn found(any: bool) -> Exit {
    if any { Exit::FAILED } else { Exit::SUCCESS }
}

fn in_use_on(server: &RunState, branch: &Path) -> anyhow::Result<Vec<InUse>> {
    let absolute = std::path::absolute(branch).with_context(|| format!("{branch:?}"))?;
    let branch = path_text::write(&absolute);
    match control::order(server, &Ask::Users { branch })? {
        Answer::Users(users) => Ok(users),
        other => anyhow::bail!("the server answered {other:?}"),
    }
}

/// Returns the processes that use something.
fn keepers<'a>(
    used: &InUse,
    users: &'a [Busy],
    place: &Path,
) -> impl Iterator<Item = &'a Busy> + use<'a> {
    let path = place.join(run_state::path_of(&used.path));
    let ino = used.ino;
    users.iter().filter(move |user| match (ino, user.ino) {
        // Paths of what lost its name, or has several, do not agree.
        (Some(used), Some(known)) => used == known,
        _ => use_of(user).1 == path,
    })
}

fn line(user: &Busy) -> String {
    let (what, path) = use_of(user);
    let path = path_text::write(path);
    format!("{}\t{}\t{what}\t{path}", user.pid, user.command)
}
