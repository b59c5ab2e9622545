//! Mounted tests: what they need, and cleaning up after them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Asks for mounted tests to be skipped when it is `1`.
const SKIP: &str = "PLYWOOD_SKIP_MOUNTED";
/// How long a server may take to end after its mount is gone.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// Returns whether a mounted test can run; `false` only when `PLYWOOD_SKIP_MOUNTED=1` asked
/// for skipping.
///
/// # Panics
///
/// When the test is not run as root or `/dev/fuse` cannot be opened.
#[track_caller]
pub fn require_root_and_fuse() -> bool {
    let fuse = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map(drop);
    decide(is_skipped(), is_root(), Some(fuse)).unwrap_or_else(|reason| panic!("{reason}"))
}

/// Returns whether a test that needs root can run; like [`require_root_and_fuse`].
///
/// # Panics
///
/// When the test is not run as root.
#[track_caller]
pub fn require_root() -> bool {
    decide(is_skipped(), is_root(), None).unwrap_or_else(|reason| panic!("{reason}"))
}

pub(crate) fn is_skipped() -> bool {
    std::env::var_os(SKIP).is_some_and(|value| value == "1")
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

fn decide(skip: bool, root: bool, fuse: Option<std::io::Result<()>>) -> Result<bool, String> {
    let missing = match fuse {
        _ if skip => return Ok(false),
        _ if !root => "must run as root".to_owned(),
        Some(Err(error)) => format!("needs /dev/fuse, which cannot be opened: {error}"),
        Some(Ok(())) | None => return Ok(true),
    };
    Err(format!("this test {missing}; set {SKIP}=1 to skip it"))
}

/// Owns what a mounted test leaves behind: a temporary directory, mount points in it and the
/// servers behind them. All go when the guard does, also when the test panics.
#[derive(Debug)]
pub struct MountGuard {
    /// `None` only while the guard is dropped.
    dir: Option<TempDir>,
    points: Vec<PathBuf>,
    servers: Vec<Child>,
}

impl MountGuard {
    /// Makes the temporary directory.
    ///
    /// # Panics
    ///
    /// When there is no room for one.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("plywood-test-").tempdir();
        let dir = dir.expect("a temporary directory can be made");
        Self {
            dir: Some(dir),
            points: Vec::new(),
            servers: Vec::new(),
        }
    }

    /// Returns the path of the temporary directory.
    pub fn path(&self) -> &Path {
        self.dir.as_ref().expect("the guard is alive").path()
    }

    /// Makes a directory in the temporary one and returns its path.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(&path).expect("a directory can be made in the temporary one");
        path
    }

    /// Makes a directory that is unmounted, should something be mounted there, with the guard.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub fn mount_point(&mut self, name: &str) -> PathBuf {
        let path = self.make_dir(name);
        self.points.push(path.clone());
        path
    }

    /// Takes over a server: it may end by itself after unmounting, else it is killed.
    pub fn own_server(&mut self, server: Child) {
        self.servers.push(server);
    }

    /// Waits until something is mounted at a mount point.
    ///
    /// # Panics
    ///
    /// After five seconds, or when a server ended with a failure meanwhile.
    #[track_caller]
    pub fn wait_until_mounted(&mut self, point: &Path) {
        let start = Instant::now();
        while !is_mounted(point) {
            for server in &mut self.servers {
                if let Ok(Some(status)) = server.try_wait() {
                    assert!(status.success(), "the server of {point:?} ended: {status}");
                }
            }
            assert!(
                start.elapsed() < PATIENCE,
                "nothing was mounted at {point:?}"
            );
            sleep(PAUSE);
        }
    }

    /// Unmounts all mount points, later ones first, and waits for the servers, as a test
    /// does that looks at the branches afterwards. Returns what went wrong.
    pub fn unmount(&mut self) -> Result<(), String> {
        let mut complaints = Vec::new();
        for point in self.points.iter().rev() {
            // Mounts may be stacked.
            while is_mounted(point) {
                if umount(point, &[]) {
                    continue;
                }
                complaints.push(format!("{} was busy", point.display()));
                if !umount(point, &["-l"]) {
                    complaints.push(format!("{} cannot be unmounted", point.display()));
                    break;
                }
            }
        }
        for mut server in self.servers.drain(..) {
            complaints.extend(end(&mut server).err());
        }
        if complaints.is_empty() {
            Ok(())
        } else {
            Err(complaints.join("; "))
        }
    }
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        if let Err(complaints) = self.unmount() {
            eprintln!("cleaning up after a mounted test: {complaints}");
        }
        let Some(dir) = self.dir.take() else { return };
        // Removing the directory must never reach into a filesystem that is still mounted.
        if mounts().iter().any(|point| point.starts_with(dir.path())) {
            eprintln!(
                "left behind, as something is still mounted: {}",
                dir.keep().display()
            );
        } else if let Err(error) = dir.close() {
            eprintln!("a temporary directory is left behind: {error}");
        }
    }
}

fn umount(point: &Path, options: &[&str]) -> bool {
    let mut command = Command::new("umount");
    command
        .args(options)
        .arg(point)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Waits for a server and kills it when it does not end.
fn end(server: &mut Child) -> Result<(), String> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match server.try_wait() {
            Ok(None) => sleep(PAUSE),
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("a server ended: {status}")),
            Err(error) => return Err(format!("a server cannot be waited for: {error}")),
        }
    }
    let killed = server.kill().and_then(|()| server.wait());
    Err(match killed {
        Ok(_) => "a server did not end and was killed".to_owned(),
        Err(error) => format!("a server did not end and cannot be killed: {error}"),
    })
}

fn is_mounted(point: &Path) -> bool {
    mounts().iter().any(|mount| mount == point)
}

/// Returns all mount points of this process.
fn mounts() -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").expect("/proc is mounted");
    let lines = table.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points
        .map(|point| PathBuf::from(std::ffi::OsString::from_vec(unescaped(point))))
        .collect()
}

/// Reads the octal escapes of the mount table.
fn unescaped(point: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = point;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\');
        let digits = digits.and_then(|digits| OsStr::from_bytes(digits).to_str());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_cannot_run_fails_unless_skipping_was_asked_for() {
        let broken = || Some(Err(std::io::ErrorKind::NotFound.into()));
        assert_eq!(decide(true, false, broken()), Ok(false));
        assert_eq!(decide(true, true, Some(Ok(()))), Ok(false));
        assert_eq!(decide(false, true, Some(Ok(()))), Ok(true));
        assert_eq!(decide(false, true, None), Ok(true));
        assert!(decide(false, false, Some(Ok(()))).is_err_and(|why| why.contains("as root")));
        assert!(decide(false, true, broken()).is_err_and(|why| why.contains("/dev/fuse")));
    }

    #[test]
    fn escapes_of_the_mount_table_are_read() {
        assert_eq!(unescaped(br"/a\040b\134c\0"), b"/a b\\c\\0");
    }

    #[test]
    fn the_directory_goes_even_when_the_test_panics() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let test = std::thread::spawn(move || {
            let mut guard = MountGuard::new();
            let point = guard.mount_point("mnt");
            fs::write(point.join("f"), "x").unwrap();
            guard.own_server(Command::new("true").spawn().unwrap());
            sender.send(guard.path().to_owned()).unwrap();
            std::panic::resume_unwind(Box::new("the test fails here"));
        });
        assert!(test.join().is_err());
        assert!(!receiver.recv().unwrap().exists());
    }

    #[test]
    fn mounts_go_before_the_directory_does() {
        if !require_root() {
            return;
        }
        let mut guard = MountGuard::new();
        let point = guard.mount_point("mount point");
        for _ in 0..2 {
            let options = ["-t", "tmpfs", "none"];
            let mounted = Command::new("mount").args(options).arg(&point).status();
            assert!(mounted.is_ok_and(|status| status.success()));
        }
        guard.wait_until_mounted(&point);
        // An open directory keeps the mount busy, so that only a lazy unmount works.
        let busy = File::open(&point).unwrap();
        assert!(guard.unmount().is_err_and(|why| why.contains("busy")));
        assert!(!is_mounted(&point));
        drop(busy);
        let path = guard.path().to_owned();
        drop(guard);
        assert!(!path.exists());
    }
}
