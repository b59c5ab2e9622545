//! `plywood which`: the branch that serves a path, and what that hides.

use rules::whiteout;

use crate::command_line::Which;
use crate::failure::{Exit, Failure};
use crate::inspection::{self, Role};
use crate::mounted_unions;
use crate::render::which;

/// `plywood which PATH`
pub(crate) fn run(arguments: &Which) -> anyhow::Result<Exit> {
    let (mount, server, way) = mounted_unions::around(&arguments.path)?;
    let path = &arguments.path;
    if let Some(name) = way
        .iter()
        .find(|name| whiteout::is_reserved(name.as_bytes()))
    {
        let what = format!("{path:?}: {name:?} is a name of the branches, not of the union");
        return Err(Failure::new(Exit::FAILED, what)
            .hint("ask for the name without .wh.")
            .into());
    }
    let findings = inspection::look(&server, &way)?;
    let exists = findings.iter().any(|finding| finding.role == Role::Serves);
    if arguments.json {
        let json = which::json(path, &mount.mount_point, &findings)?;
        crate::print_line(&json);
    } else {
        for line in which::lines(&findings) {
            crate::print_line(&line);
        }
    }
    if findings.is_empty() {
        return Err(Failure::new(Exit::FAILED, format!("{path:?}: no branch has it")).into());
    }
    Ok(if exists { Exit::SUCCESS } else { Exit::FAILED })
}
