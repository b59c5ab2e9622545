//! Running the tests and the suites, one after another, and adding up what they say.
//!
//! A runner that fails without having counted a failure counts as one.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::count::Count;

/// One runner: what people call it, how it starts, and whether only root can run it.
struct Step {
    name: &'static str,
    program: String,
    arguments: Vec<String>,
    root: bool,
}

impl Step {
    fn cargo(name: &'static str, arguments: &[&str]) -> Self {
        let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self {
            name,
            program,
            arguments,
            root: false,
        }
    }

    /// A test of what users do, which packages of the system suffice for.
    fn session(name: &'static str, program: &str) -> Self {
        Self {
            name,
            program: format!("tests/acceptance/{program}"),
            arguments: Vec::new(),
            root: true,
        }
    }

    fn suite(name: &'static str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self {
            name,
            program: format!("tests/conformance/{name}/run"),
            arguments,
            root: true,
        }
    }
}

/// Runs everything that the README's test command promises.
pub(crate) fn test(house: &Path, arguments: &[String]) -> anyhow::Result<bool> {
    let without_root = match arguments {
        [] => false,
        [only] if only == "--without-root" => true,
        _ => bail!("usage: cargo xtask test [--without-root]"),
    };
    let mut steps = vec![Step::cargo(
        "release build",
        &["build", "--release", "--package", "plywood"],
    )];
    if has_nextest() {
        steps.push(Step::cargo("tests", &["nextest", "run", "--workspace"]));
        steps.push(Step::cargo(
            "examples in documents",
            &["test", "--quiet", "--doc", "--workspace"],
        ));
    } else {
        steps.push(Step::cargo(
            "tests",
            &["test", "--workspace", "--no-fail-fast"],
        ));
    }
    steps.push(Step {
        name: "tools of the benchmark",
        program: "python3".into(),
        arguments: ["-m", "unittest", "discover", "-s", "bench"]
            .map(Into::into)
            .into(),
        root: false,
    });
    steps.extend([
        Step::suite("oracle", &[]),
        Step::suite("pjdfstest", &[]),
        Step::suite("crash", &["--rounds", "3"]),
        Step::suite("stress", &["--short"]),
        Step {
            name: "operation counts",
            program: "bench/opcount.py".into(),
            arguments: vec!["--check".into()],
            root: true,
        },
        Step::session("live session", "live"),
        Step::session("pool session", "pool"),
    ]);

    let mut total = Count::default();
    let mut lines = Vec::new();
    for step in steps {
        if step.root && without_root {
            lines.push(format!(
                "{:22} left out, as asked: it needs root",
                step.name
            ));
            continue;
        }
        let start = Instant::now();
        let count = run(house, &step)?;
        lines.push(format!(
            "{:22} {count} ({} s)",
            step.name,
            start.elapsed().as_secs()
        ));
        total += count;
        if step.name == "release build" && count.failed > 0 {
            break;
        }
    }
    println!("\n{}\n{total}", lines.join("\n"));
    Ok(total.failed == 0)
}

/// Builds the binary and runs one suite with the caller's arguments.
pub(crate) fn one(house: &Path, name: &str, arguments: &[String]) -> anyhow::Result<bool> {
    let build = Step::cargo(
        "release build",
        &["build", "--release", "--package", "plywood"],
    );
    if run(house, &build)?.failed > 0 {
        return Ok(false);
    }
    let program = house.join("tests/conformance").join(name).join("run");
    let status = Command::new(&program)
        .args(arguments)
        .current_dir(house)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(status.success())
}

/// Runs a step, passing its output on, and returns what it counted.
fn run(house: &Path, step: &Step) -> anyhow::Result<Count> {
    println!(
        "\n==> {}: {} {}",
        step.name,
        step.program,
        step.arguments.join(" ")
    );
    // One stream for both, so that a summary is found wherever the runner prints it.
    let (reader, writer) = std::io::pipe()?;
    let mut child = Command::new(&step.program)
        .args(&step.arguments)
        .current_dir(house)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot start {}", step.program))?;
    let mut count = Count::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(more) = Count::of_line(&line) {
            count += more;
        }
    }
    if !child.wait()?.success() && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}

fn has_nextest() -> bool {
    Command::new("cargo")
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
