//! `plywood completions`: what the shell needs to complete our command lines.

use clap::CommandFactory;

use crate::command_line::{CommandLine, Completions};
use crate::failure::Exit;

/// `plywood completions SHELL`
pub(crate) fn run(arguments: &Completions) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    let mut command = CommandLine::command();
    clap_complete::generate(arguments.shell, &mut command, "plywood", &mut script);
    crate::print_data(&script);
    Ok(Exit::SUCCESS)
}
