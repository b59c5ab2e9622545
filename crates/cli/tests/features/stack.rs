//! Branches from the tree notation, a union of them, and what the branches hold afterwards.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use rules::Name;
use sys::HostTree;
use testkit::require_root_and_fuse;
use testkit::{draw, plant};
use tree::{RenameHow, Tree};

use crate::support::{Bench, NOBODY, Ran};

pub(crate) const PERM: i32 = 1;
pub(crate) const NO_ENTRY: i32 = 2;
pub(crate) const IO: i32 = 5;
pub(crate) const EXISTS: i32 = 17;
pub(crate) const CROSS_DEVICE: i32 = 18;
pub(crate) const NO_SPACE: i32 = 28;
pub(crate) const READ_ONLY: i32 = 30;
pub(crate) const NAME_TOO_LONG: i32 = 36;
pub(crate) const NOT_EMPTY: i32 = 39;

/// A stack of branches `b0`, `b1`, ..., topmost first, and the point `m` where it is mounted.
pub(crate) struct Stack {
    pub(crate) bench: Bench,
    modes: Vec<String>,
    planted: Vec<String>,
}

impl Stack {
    /// Plants branches, each a mode and a tree in the notation of `testkit`, without mounting them.
    pub(crate) fn planted(branches: &[(&str, &str)]) -> Option<Self> {
        Self::on_disks(&[], branches)
    }

    /// Plants branches, the first ones on filesystems of their own with so many mebibytes.
    pub(crate) fn on_disks(sizes: &[u32], branches: &[(&str, &str)]) -> Option<Self> {
        if !require_root_and_fuse() {
            return None;
        }
        let mut stack = Self {
            bench: Bench::new(),
            modes: Vec::new(),
            planted: Vec::new(),
        };
        for (index, (mode, text)) in branches.iter().enumerate() {
            let name = format!("b{index}");
            let path = stack.bench.guard.make_dir(&name);
            if let Some(size) = sizes.get(index) {
                stack.bench.guard.mount_point(&name);
                stack.run(&format!("mount -t tmpfs -o size={size}m none {name}"));
            }
            plant(&HostTree::open(&path).unwrap(), text);
            stack.modes.push((*mode).to_owned());
            stack.planted.push(stack.holds(index));
        }
        Some(stack)
    }

    /// Plants branches and mounts them with the default options.
    pub(crate) fn of(branches: &[(&str, &str)]) -> Option<Self> {
        Self::with("", branches)
    }

    /// Plants branches and mounts them with options.
    pub(crate) fn with(options: &str, branches: &[(&str, &str)]) -> Option<Self> {
        let stack = Self::planted(branches)?;
        stack.mount(options);
        Some(stack)
    }

    /// The usual two: an upper branch that can be written over a lower one that cannot.
    pub(crate) fn over(upper: &str, lower: &str) -> Option<Self> {
        Self::of(&[("rw", upper), ("ro", lower)])
    }

    #[track_caller]
    pub(crate) fn mount(&self, options: &str) {
        let ran = self.try_mount(options);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    pub(crate) fn try_mount(&self, options: &str) -> Ran {
        let modes = self.modes.iter().enumerate();
        let list: Vec<_> = modes.map(|(at, mode)| format!("b{at}={mode}")).collect();
        let mut option = format!("br={}", list.join(":"));
        if !options.is_empty() {
            option = format!("{option},{options}");
        }
        self.bench.plywood(&["mount", "-o", &option, "none", "m"])
    }

    #[track_caller]
    pub(crate) fn unmount(&self) {
        self.bench.plywood(&["umount", "m"]).silently();
    }

    /// Returns the path of a name in the union.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.bench.path("m").join(name)
    }

    /// Returns the path of a name on a branch.
    pub(crate) fn on(&self, branch: usize, name: &str) -> PathBuf {
        self.bench.path(&format!("b{branch}")).join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    /// Writes a file from its start; a new one is 0644, whatever the umask of most people.
    #[track_caller]
    pub(crate) fn write(&self, name: &str, text: &str) {
        let mut how = OpenOptions::new();
        how.write(true).create(true).truncate(true).mode(0o644);
        let mut file = how.open(self.at(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    pub(crate) fn make_dir(&self, name: &str) {
        fs::DirBuilder::new()
            .mode(0o755)
            .create(self.at(name))
            .unwrap();
    }

    /// Opens a file for reading and writing, as it is.
    #[track_caller]
    pub(crate) fn open(&self, name: &str) -> File {
        let mut how = OpenOptions::new();
        how.read(true).write(true).open(self.at(name)).unwrap()
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        crate::support::names(&self.at(name))
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    /// Renames a name in the root by `renameat2`.
    pub(crate) fn rename_as(&self, how: RenameHow, from: &str, to: &str) -> Result<(), i32> {
        let union = HostTree::open(&self.bench.path("m")).unwrap();
        let root = union.root().unwrap();
        let name = |text: &str| Name::new(text.as_bytes()).unwrap();
        let done = union.rename(&root, &name(from), &root, &name(to), how);
        done.map_err(rules::Errno::raw)
    }

    /// Draws a branch without the three base objects of its root; a link to their base is drawn as the whiteout that it is.
    #[track_caller]
    pub(crate) fn holds(&self, branch: usize) -> String {
        let drawn = draw(&HostTree::open(&self.on(branch, "")).unwrap());
        let lines = drawn.lines().filter(|line| {
            !line.starts_with("./ ")
                && ![".wh..wh.aufs", ".wh..wh.plnk/", ".wh..wh.orph/"]
                    .iter()
                    .any(|base| line.split(' ').next() == Some(base))
        });
        let lines: Vec<_> = lines
            .map(|line| line.replace(" = .wh..wh.aufs", " 0444"))
            .collect();
        lines.join("\n")
    }

    /// Checks what a branch holds, line by line.
    #[track_caller]
    pub(crate) fn left(&self, branch: usize, expected: &[&str]) {
        let held = self.holds(branch);
        assert_eq!(held.lines().collect::<Vec<_>>(), expected, "b{branch}");
    }

    /// Checks that nothing changed on a branch.
    #[track_caller]
    pub(crate) fn unchanged(&self, branch: usize) {
        assert_eq!(self.holds(branch), self.planted[branch], "b{branch}");
    }

    /// Runs a line of shell beside the mount point, as a user who is not root.
    pub(crate) fn as_nobody(&self, line: &str) -> Ran {
        self.bench.bin();
        let user = NOBODY.to_string();
        let words = [
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
            "sh",
            "-c",
            line,
        ];
        self.bench.run("setpriv", &words)
    }

    /// Runs a command that has to succeed silently, beside the mount point.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> String {
        self.bench.shell(line).silently()
    }
}

/// Checks that an operation failed with an errno.
#[track_caller]
pub(crate) fn refused<T>(done: io::Result<T>, errno: i32) {
    let error = done.err().map(|error| error.raw_os_error());
    assert_eq!(error, Some(Some(errno)));
}
