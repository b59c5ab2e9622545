//! The command lines of live distributions and Docker: each does what it says or fails loudly.

mod corpus;
mod support;

use std::fs;
use std::process::Command;

use corpus::remounts::REMOUNTS;
use corpus::{DIRS, Fate, Line, MOUNTS};
use support::{Bench, Ran};
use testkit::require_root_and_fuse;

/// Which `mount` a script finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The system's, with our helpers in /sbin.
    System,
    /// Ours before the system's.
    Front,
}

fn world() -> Bench {
    let bench = Bench::new();
    for dir in DIRS {
        let name = dir.rsplit('/').next().unwrap();
        if dir == "union" {
            fs::create_dir(bench.path(dir)).unwrap();
        } else {
            bench.write(&format!("{dir}/{name}"), name);
        }
    }
    bench
}

/// Runs shell commands in a mount namespace where /sbin has our helpers.
fn run(bench: &Bench, found: Found, script: &str) -> Ran {
    let here = bench.guard.path().display().to_string();
    let front = bench.path("front");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", bench.bin().display());
    let path = match found {
        Found::System => path,
        Found::Front => format!("{}:{path}", front.display()),
    };
    let plywood = bench.bin().join("plywood").display().to_string();
    let script = format!(
        "set -e; sbin=$(readlink -f /sbin); \
         {plywood} install-helpers --prefix @/prefix --mount-front @/front >/dev/null; \
         mount -t overlay -o lowerdir=@/prefix/sbin:$sbin none $sbin; export PATH={path}; \
         finish() {{ cd /; {plywood} umount --lazy @/union 2>/dev/null || true; }}; trap finish EXIT; {script}"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg(script.replace('@', &here));
    bench.ran(command)
}

/// Tries a line; what became of it otherwise than foretold is the error.
fn check(line: &Line, found: Found) -> Result<(), String> {
    let Line {
        from,
        before,
        line: words,
        shows,
        fate,
    } = line;
    let bench = world();
    let before = if before.is_empty() { ":" } else { before };
    // What is printed is the line's alone.
    let script = format!(
        "{{ {before}; }} >/dev/null 2>@/before; rc=0; {{ {words}; }} || rc=$?; echo $rc >@/rc; \
         if {shows}; then echo yes >@/shows; fi 2>@/after"
    );
    let ran = run(&bench, found, &script);
    let read = |name: &str| fs::read_to_string(bench.path(name)).unwrap_or_default();
    let told = format!(
        "{from}: {words} ({found:?})\n{ran:?}\nbefore: {}\nafter: {}",
        read("before"),
        read("after")
    );
    let (status, shows) = (read("rc"), read("shows") == "yes\n");
    let fate = match (fate, found) {
        (Fate::WorksInFront, Found::Front) => &Fate::Works,
        (Fate::WorksInFront, Found::System) => &Fate::PassesSilently,
        _ => fate,
    };
    let as_said = match fate {
        Fate::Fails(words) | Fate::Refused(words) => {
            !status.is_empty() && status != "0\n" && ran.err.contains(words) && !shows
        }
        Fate::PassesSilently => status == "0\n" && !shows,
        Fate::Works | Fate::WorksInFront => status == "0\n" && shows,
    };
    if !as_said {
        return Err(told);
    }
    if found == Found::Front {
        return Ok(());
    }
    // Whoever runs the scan is warned of exactly the lines that do not work.
    bench.write("script", &format!("#!/bin/sh\n# aufs\n{words}\n"));
    let scanned = bench.plywood(&["doctor", "--scan", "script"]);
    let warned = matches!(fate, Fate::Fails(_) | Fate::PassesSilently);
    if scanned.code == Some(i32::from(warned)) {
        Ok(())
    } else {
        Err(format!("{told}\n{}", scanned.out))
    }
}

/// Tries lines with either `mount`.
#[track_caller]
fn check_all(lines: &[Line]) {
    let tries = lines
        .iter()
        .flat_map(|line| [(line, Found::System), (line, Found::Front)]);
    let wrong: Vec<_> = tries
        .filter_map(|(line, found)| check(line, found).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn lines_in_the_wild_mount_what_they_say() {
    if !require_root_and_fuse() {
        return;
    }
    check_all(MOUNTS);
}

#[test]
fn lines_in_the_wild_change_what_they_say() {
    if !require_root_and_fuse() {
        return;
    }
    check_all(REMOUNTS);
}
