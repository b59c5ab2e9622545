//! `plywood`: union filesystems for every stock Linux kernel.
//!
//! Only this room prints, reads the environment and chooses exit codes.

mod chain_index;
mod command_line;
mod commands;
mod control;
mod counters;
mod failure;
mod helper_arguments;
mod inspection;
mod logging;
mod mounted_unions;
mod mounting;
mod offline;
mod personality;
mod progress;
mod render;
mod run_dir;
mod run_state;
mod scan;
mod sysfs_tree;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use command_line::{CommandLine, Verb};
use failure::{Exit, exit_of, line_of, one_line};
use personality::Personality;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let ended = match Personality::of(&program) {
        Personality::Plywood => match command_line::plain_mount(words) {
            Some(arguments) => commands::mount::run(arguments),
            None => run(words_of_all()),
        },
        Personality::MountHelper { subtype } => commands::mount::run_helper(words, subtype),
        Personality::MountFront => commands::mount_front::run(words),
        Personality::FuseOverlayfs => commands::mount::run_fuse_overlayfs(words),
        Personality::Auchk => commands::check::run_auchk(words),
        Personality::Aumvdown => commands::mvdown::run_aumvdown(words),
        Personality::Aubrsync => commands::aubrsync::run(words),
        Personality::UmountHelper => commands::umount::run_helper(words),
        Personality::Auplink => commands::auplink::run(words),
        Personality::Aubusy => commands::busy::run_aubusy(words),
    };
    let exit = ended.unwrap_or_else(|error| {
        print_error(&line_of(&error));
        exit_of(&error)
    });
    ExitCode::from(exit.0)
}

/// Reads a command line of any verb. What that needs on the stack is not to be below a server for as long as it runs.
#[inline(never)]
fn words_of_all() -> Verb {
    CommandLine::parse().verb
}

#[inline(never)]
fn run(verb: Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Mount(arguments) => commands::mount::run(arguments),
        Verb::Umount(arguments) => commands::umount::run(&arguments),
        Verb::Branch(arguments) => commands::branch::run(&arguments),
        Verb::Busy(arguments) => commands::busy::run(&arguments),
        Verb::Which(arguments) => commands::which::run(&arguments),
        Verb::Status(arguments) => commands::status::run(&arguments),
        Verb::Index(arguments) => commands::index::run(&arguments),
        Verb::Check(arguments) => commands::check::run(&arguments),
        Verb::Mvdown(arguments) => commands::mvdown::run(&arguments),
        Verb::Balance(arguments) => commands::balance::run(&arguments),
        Verb::MergeDown(arguments) => commands::merge_down::run(&arguments),
        Verb::Doctor(arguments) => commands::doctor::run(&arguments),
        Verb::Completions(arguments) => commands::completions::run(&arguments),
        Verb::Man(arguments) => commands::man::run(&arguments),
        Verb::InstallHelpers(arguments) => commands::install_helpers::run(&arguments),
    }
}

/// Returns who speaks: the name we were called by, with the verb.
fn speaker() -> String {
    let mut words = std::env::args_os();
    let program: OsString = words.next().unwrap_or_default();
    let name = Path::new(&program)
        .file_name()
        .unwrap_or("plywood".as_ref());
    let name = name.to_string_lossy().into_owned();
    if Personality::of(&program) != Personality::Plywood {
        return name;
    }
    let verb = words.next().and_then(|verb| verb.into_string().ok());
    verb.map_or(name.clone(), |verb| format!("{name} {verb}"))
}

/// Prints a line of data.
fn print_line(line: &str) {
    print_data(format!("{line}\n").as_bytes());
}

/// Prints data; who does not read on gets no more.
fn print_data(data: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(data).and_then(|()| out.flush()).is_err() {
        std::process::exit(i32::from(Exit::FAILED.0));
    }
}

fn print_warning(warning: &str) {
    print_error(&format!("warning: {}", one_line(warning)));
}

fn print_error(line: &str) {
    // Nobody is left to be told of a standard error that is closed.
    drop(writeln!(std::io::stderr(), "{}: {line}", speaker()));
}
