//! `plywood man`: a manual page for each verb, made from the command line's definition.

use anyhow::Context;
use clap::CommandFactory;

use crate::command_line::{CommandLine, Man};
use crate::failure::Exit;

/// `plywood man DIR`
pub(crate) fn run(arguments: &Man) -> anyhow::Result<Exit> {
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("{dir:?}"))?;
    clap_mangen::generate_to(CommandLine::command(), dir).with_context(|| format!("{dir:?}"))?;
    Ok(Exit::SUCCESS)
}
