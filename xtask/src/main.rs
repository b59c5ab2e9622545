//! `cargo xtask COMMAND`: the checks of the house and the suites.
//!
//! A command ends with status 0 exactly if everything it looked at is well.

mod count;
mod suites;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;

const USAGE: &str = "\
usage: cargo xtask COMMAND [ARGUMENTS]

  tidy                    the house rules: dependency directions, absences, documents in step
  test [--without-root]   all tests: unit, laws, mounted, oracle, and a round of each suite
  oracle [-v] [GLOB...]   replay the recorded behaviour of the real AUFS
  pjdfstest [ARGS]        the POSIX suite on root's and on a user's mount
  crash [ARGS]            kill -9 and power cuts in the middle of operations
  stress [ARGS]           stress-ng, fsx, many writers and readers at once

The suites build the release binary first; `tests/conformance/SUITE/run --help` tells their arguments.
";

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let house = house();
    let well = match command.as_str() {
        "tidy" => tidy::run(&house)?,
        "test" => suites::test(&house, &rest)?,
        "oracle" | "pjdfstest" | "crash" | "stress" => suites::one(&house, &command, &rest)?,
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            true
        }
        _ => bail!("unknown command {command:?}\n\n{USAGE}"),
    };
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns the root of the workspace.
fn house() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}
