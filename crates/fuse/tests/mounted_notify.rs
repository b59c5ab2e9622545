//! Branches that are watched, served to the running kernel, which caches for ever. Needs
//! `/dev/fuse` and the right to mount.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuse::{CachePolicy, Counters, MAX_DATA, ServeError, ServeOptions, Server};
use rules::Powers;
use sys::mounting::{FuseMount, MountFlags, UnmountHow, mount_fuse, unmount};
use sys::{FuseDevice, HostTree};
use tempfile::TempDir;
use union::{Branch, DialectKind, DirectChanges, Settings, Union};

/// A writable branch over a read-only one, watched, served until dropped.
struct Mounted {
    home: TempDir,
    counters: Arc<Counters>,
    server: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Mounted {
    fn new(passthrough: bool, prepare: impl FnOnce(&Path)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for name in ["upper", "lower", "mount"] {
            fs::create_dir(at(name)).unwrap();
        }
        prepare(home.path());
        let branch = |name: &str, powers| {
            let tree = HostTree::open(&at(name)).unwrap();
            Branch { tree, powers }
        };
        let branches = vec![
            branch("upper", Powers::WRITABLE),
            branch("lower", Powers::LAYER),
        ];
        let settings = Settings {
            direct_changes: DirectChanges::Watched,
            ..Settings::new(DialectKind::Aufs)
        };
        let union = Union::new(branches, settings).unwrap();
        let device = FuseDevice::open().unwrap();
        let mount = FuseMount {
            source: "test".as_ref(),
            target: &at("mount"),
            subtype: "plywood",
            flags: MountFlags::empty(),
            server: (sys::capabilities::euid(), sys::capabilities::egid()),
            default_permissions: true,
            allow_other: true,
            max_read: Some(MAX_DATA),
            security: &[],
        };
        let options = ServeOptions {
            cache: CachePolicy::forever(),
            passthrough,
            ..ServeOptions::default()
        };
        let begin = || {
            mount_fuse(&device, &mount).unwrap();
            let mut server = Server::new(device, Arc::new(union), options);
            server.initialize().unwrap();
            server
        };
        // Both transports: notices go through the device in either case.
        let server = if passthrough {
            testkit::while_io_uring_is_offered(begin).unwrap()
        } else {
            begin()
        };
        let counters = server.counters();
        let server = std::thread::spawn(move || server.run());
        Self {
            home,
            counters,
            server: Some(server),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join("mount").join(name)
    }

    fn upper(&self, name: &str) -> PathBuf {
        self.home.path().join("upper").join(name)
    }

    fn lower(&self, name: &str) -> PathBuf {
        self.home.path().join("lower").join(name)
    }

    fn requests(&self) -> u64 {
        self.counters.requests().map(|(_, count)| count).sum()
    }

    /// All paths with the contents of files, as the mount shows them.
    fn shown(&self) -> BTreeSet<(PathBuf, String)> {
        let mut shown = BTreeSet::new();
        read_below(&self.at(""), Path::new(""), &mut shown);
        shown
    }

    /// Asks for everything there is and for names that are missing, so that all of it is cached.
    fn remember(&self) {
        for _ in 0..2 {
            for (path, _) in self.shown() {
                assert!(self.home.path().join("mount").join(&path).exists());
            }
            for missing in ["new", "dir/new", "dir/sub/new", "fresh"] {
                assert!(!self.at(missing).exists(), "{missing}");
            }
        }
    }

    /// Waits until the mount shows exactly this, at most a second.
    fn soon_shows(&self, expected: &[(&str, &str)]) {
        let expected: BTreeSet<_> = expected
            .iter()
            .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
            .collect();
        let start = Instant::now();
        while self.shown() != expected {
            if start.elapsed() > PATIENCE {
                assert_eq!(self.shown(), expected, "after a second");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn read_below(root: &Path, path: &Path, shown: &mut BTreeSet<(PathBuf, String)>) {
    let Ok(names) = fs::read_dir(root.join(path)) else {
        shown.insert((path.to_owned(), "unreadable".into()));
        return;
    };
    for name in names {
        let below = path.join(name.unwrap().file_name());
        match fs::symlink_metadata(root.join(&below)) {
            Ok(meta) if meta.is_dir() => {
                shown.insert((below.clone(), "/".into()));
                read_below(root, &below, shown);
            }
            Ok(meta) => {
                let text = fs::read_to_string(root.join(&below)).unwrap_or("unreadable".into());
                let right = meta.len() == text.len() as u64;
                shown.insert((below, if right { text } else { "size".into() }));
            }
            Err(_) => {
                shown.insert((below, "listed and missing".into()));
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = unmount(&self.home.path().join("mount"), UnmountHow::Lazy);
        let served = self.server.take().map(|server| server.join().unwrap());
        if !std::thread::panicking() {
            assert_eq!(unmounted, Ok(()));
            assert!(matches!(served, Some(Ok(()))), "{served:?}");
        }
    }
}

fn write(path: PathBuf, text: &str) {
    fs::write(path, text).unwrap();
}

/// A merged directory with a merged one in it, and files of both branches.
fn plant(home: &Path) {
    for dir in ["upper/dir", "lower/dir/sub"] {
        fs::create_dir_all(home.join(dir)).unwrap();
    }
    write(home.join("upper/dir/high"), "high");
    write(home.join("lower/dir/low"), "low");
    write(home.join("lower/dir/sub/deep"), "deep");
    write(home.join("lower/top"), "top");
}

/// How long a change may take to show on a machine that does other things as well; alone it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

const PLANTED: [(&str, &str); 6] = [
    ("dir", "/"),
    ("dir/high", "high"),
    ("dir/low", "low"),
    ("dir/sub", "/"),
    ("dir/sub/deep", "deep"),
    ("top", "top"),
];

/// Makes a change to the planted branches, which are all cached, and expects what was planted with other names gone,
/// new or changed.
fn changed(change: impl Fn(&Mounted), gone: &[&str], new: &[(&'static str, &'static str)]) {
    for passthrough in [true, false] {
        let mounted = Mounted::new(passthrough, plant);
        mounted.remember();
        mounted.soon_shows(&PLANTED);
        change(&mounted);
        let is_left = |(path, _): &&(&str, &str)| {
            !gone.contains(path) && !new.iter().any(|(new, _)| new == path)
        };
        let mut expected: Vec<_> = PLANTED.iter().filter(is_left).copied().collect();
        expected.extend(new);
        mounted.soon_shows(&expected);
    }
}

#[test]
fn a_name_made_directly_appears() {
    let make = |mounted: &Mounted| {
        write(mounted.upper("new"), "1");
        write(mounted.upper("dir/new"), "2");
        write(mounted.lower("dir/sub/new"), "3");
    };
    let new = [("new", "1"), ("dir/new", "2"), ("dir/sub/new", "3")];
    changed(make, &[], &new);
}

#[test]
fn a_name_removed_directly_disappears() {
    let remove = |mounted: &Mounted| {
        fs::remove_file(mounted.upper("dir/high")).unwrap();
        fs::remove_dir_all(mounted.lower("dir/sub")).unwrap();
    };
    changed(remove, &["dir/high", "dir/sub", "dir/sub/deep"], &[]);
}

#[test]
fn a_file_renamed_directly_moves() {
    let rename = |mounted: &Mounted| {
        fs::rename(mounted.lower("dir/low"), mounted.lower("new")).unwrap();
        fs::rename(mounted.upper("dir/high"), mounted.upper("top")).unwrap();
    };
    let new = [("new", "low"), ("top", "high")];
    changed(rename, &["dir/low", "dir/high"], &new);
}

#[test]
fn a_directory_renamed_directly_moves() {
    let rename = |mounted: &Mounted| {
        fs::rename(mounted.lower("dir"), mounted.lower("fresh")).unwrap();
    };
    let new = [
        ("fresh", "/"),
        ("fresh/low", "low"),
        ("fresh/sub", "/"),
        ("fresh/sub/deep", "deep"),
    ];
    changed(rename, &["dir/low", "dir/sub", "dir/sub/deep"], &new);
}

#[test]
fn contents_changed_directly_are_read() {
    let change = |mounted: &Mounted| {
        // In place and of the same size, in place and longer, and another file under the name.
        write(mounted.lower("top"), "TOP");
        let mut file = OpenOptions::new()
            .append(true)
            .open(mounted.lower("dir/sub/deep"))
            .unwrap();
        file.write_all(b"er").unwrap();
        write(mounted.upper("replacement"), "HIGH");
        fs::rename(mounted.upper("replacement"), mounted.upper("dir/high")).unwrap();
    };
    let new = [
        ("top", "TOP"),
        ("dir/sub/deep", "deeper"),
        ("dir/high", "HIGH"),
    ];
    changed(change, &[], &new);
}

#[test]
fn a_directory_made_directly_appears_with_what_is_in_it() {
    let make = |mounted: &Mounted| {
        fs::create_dir_all(mounted.upper("dir/sub/new")).unwrap();
        write(mounted.upper("dir/sub/new/file"), "new");
        fs::create_dir(mounted.lower("fresh")).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        write(mounted.lower("fresh/file"), "fresh");
    };
    let new = [
        ("dir/sub/new", "/"),
        ("dir/sub/new/file", "new"),
        ("fresh", "/"),
        ("fresh/file", "fresh"),
    ];
    changed(make, &[], &new);
}

#[test]
fn a_whiteout_made_by_hand_hides_and_reveals() {
    let hide = |mounted: &Mounted| {
        for hidden in [".wh.top", "dir/.wh.sub", "dir/.wh.low"] {
            write(mounted.upper(hidden), "");
        }
        let without = [("dir", "/"), ("dir/high", "high")];
        mounted.soon_shows(&without);
        fs::remove_file(mounted.upper("dir/.wh.sub")).unwrap();
    };
    changed(hide, &["top", "dir/low"], &[]);
}

#[test]
fn an_opaque_mark_made_by_hand_hides_what_is_below_and_reveals() {
    let hide = |mounted: &Mounted| write(mounted.upper("dir/.wh..wh..opq"), "");
    changed(hide, &["dir/low", "dir/sub", "dir/sub/deep"], &[]);
    let hide_and_reveal = |mounted: &Mounted| {
        hide(mounted);
        mounted.soon_shows(&[("dir", "/"), ("dir/high", "high"), ("top", "top")]);
        fs::remove_file(mounted.upper("dir/.wh..wh..opq")).unwrap();
    };
    changed(hide_and_reveal, &[], &[]);
    let hide_all = |mounted: &Mounted| write(mounted.upper(".wh..wh..opq"), "");
    let below = ["dir/low", "dir/sub", "dir/sub/deep", "top"];
    changed(hide_all, &below, &[]);
}

#[test]
fn attributes_changed_directly_are_told() {
    let mounted = Mounted::new(true, plant);
    mounted.remember();
    let chmod = |path: PathBuf, mode| {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    chmod(mounted.lower("top"), 0o600);
    chmod(mounted.upper("dir"), 0o711);
    let start = Instant::now();
    let modes = || ["top", "dir"].map(|path| mounted.at(path).metadata().unwrap().mode() & 0o777);
    while modes() != [0o600, 0o711] {
        assert!(start.elapsed() < PATIENCE, "{:?}", modes());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_nobody_changes_is_asked_once() {
    let mounted = Mounted::new(true, plant);
    mounted.remember();
    let look = || {
        for path in ["dir", "dir/high", "dir/low", "dir/sub/deep", "top"] {
            mounted.at(path).metadata().unwrap();
        }
        assert!(!mounted.at("dir/new").exists());
    };
    look();
    let before = mounted.requests();
    (0..100).for_each(|_| look());
    assert_eq!(mounted.requests(), before);
}

#[test]
fn own_changes_are_not_taken_for_others() {
    let mounted = Mounted::new(true, plant);
    for number in 0..1000 {
        write(mounted.at(&format!("dir/own-{number}")), "own");
    }
    std::thread::sleep(Duration::from_millis(200));
    let look = || {
        for number in 0..1000 {
            let meta = mounted.at(&format!("dir/own-{number}")).metadata().unwrap();
            assert_eq!(meta.len(), 3);
        }
    };
    look();
    let before = mounted.requests();
    look();
    assert_eq!(mounted.requests(), before, "nothing was forgotten");
    assert_eq!(fs::read_dir(mounted.at("dir")).unwrap().count(), 1003);
}

#[test]
fn changes_inside_and_outside_meet() {
    let mounted = Mounted::new(true, plant);
    mounted.remember();
    for round in 0..50 {
        let (inside, outside) = (format!("dir/in-{round}"), format!("dir/out-{round}"));
        write(mounted.at(&inside), "in");
        write(mounted.upper(&outside), "out");
        fs::rename(mounted.at(&inside), mounted.at(&format!("dir/in'-{round}"))).unwrap();
        if round % 2 == 0 {
            fs::remove_file(mounted.upper(&outside)).unwrap();
        }
    }
    let mut expected: BTreeSet<_> = PLANTED
        .iter()
        .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
        .collect();
    for round in 0..50 {
        expected.insert((format!("dir/in'-{round}").into(), "in".into()));
        if round % 2 == 1 {
            expected.insert((format!("dir/out-{round}").into(), "out".into()));
        }
    }
    let start = Instant::now();
    while mounted.shown() != expected && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(mounted.shown(), expected);
}
