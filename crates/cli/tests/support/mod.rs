//! Running the command, and a directory to do it in.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use testkit::MountGuard;

/// The program under test.
pub(crate) const PLYWOOD: &str = env!("CARGO_BIN_EXE_plywood");

/// A user who is not root.
pub(crate) const NOBODY: u32 = 65534;

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Checks that it succeeded without a word of complaint.
    #[track_caller]
    pub(crate) fn silently(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// Checks the exit code, and that there is one line of complaint with these words in it.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.err.matches('\n').count(), 1, "not one line: {self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is missing: {self:?}");
        }
    }
}

/// A temporary directory with branches and a mount point `m`.
pub(crate) struct Bench {
    pub(crate) guard: MountGuard,
}

impl Bench {
    /// Makes branches `b0` to `b2` and the mount point.
    pub(crate) fn new() -> Self {
        let mut guard = MountGuard::new();
        for name in ["b0", "b1", "b2"] {
            guard.make_dir(name);
        }
        guard.mount_point("m");
        Self { guard }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.guard.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// Runs a program in the directory.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, program: &str, words: &[S]) -> Ran {
        let mut command = Command::new(program);
        command.args(words);
        self.ran(command)
    }

    pub(crate) fn ran(&self, mut command: Command) -> Ran {
        command.current_dir(self.guard.path());
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        Ran {
            code: status.code(),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// Runs `plywood`.
    pub(crate) fn plywood(&self, words: &[&str]) -> Ran {
        self.run(PLYWOOD, words)
    }

    /// Runs a line of shell; `plywood` and the helper names are on its path.
    pub(crate) fn shell(&self, line: &str) -> Ran {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.bin().display());
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("PATH", path);
        self.ran(command)
    }

    /// Makes a directory that everybody reaches with a copy of the program and its names.
    pub(crate) fn bin(&self) -> PathBuf {
        let bin = self.path("bin");
        if !bin.exists() {
            fs::create_dir(&bin).unwrap();
            fs::copy(PLYWOOD, bin.join("plywood")).unwrap();
            for name in HELPERS {
                symlink("plywood", bin.join(name)).unwrap();
            }
            let open = Permissions::from_mode(0o755);
            fs::set_permissions(self.guard.path(), open).unwrap();
        }
        bin
    }

    pub(crate) fn is_mounted(&self) -> bool {
        self.mount_line().is_some()
    }

    /// Returns the line of the mount table.
    pub(crate) fn mount_line(&self) -> Option<String> {
        let point = format!(" {} ", self.path("m").display());
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table
            .lines()
            .find(|line| line.contains(&point))
            .map(str::to_owned)
    }

    /// Returns the process id of the server.
    #[track_caller]
    pub(crate) fn server(&self) -> u32 {
        let told = self.plywood(&["status", "--json", "m"]).silently();
        let line = told.lines().find(|line| line.contains("\"pid\"")).unwrap();
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    }

    /// Gives branches and mount point to a user, with all that is in them.
    pub(crate) fn give_to(&self, user: u32) {
        let owner = format!("{user}:{user}");
        self.run("chown", &["-R", &owner, "b0", "b1", "b2", "m"])
            .silently();
    }
}

/// Names that the program answers to.
const HELPERS: [&str; 10] = [
    "auchk",
    "aubusy",
    "auplink",
    "aumvdown",
    "aubrsync",
    "mount.aufs",
    "umount.aufs",
    "mount.fuse.plywood",
    "mount.plywood",
    "fuse-overlayfs",
];

/// Waits for something that happens soon.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Tells whether a process runs; one that has ended and was not waited for does not.
pub(crate) fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}

/// Returns the names in a directory, in order.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
