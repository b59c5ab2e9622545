//! A union served to the running kernel. Needs `/dev/fuse` and the right to mount.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use fuse::{CachePolicy, Counters, MAX_DATA, ServeError, ServeOptions, Server, Way};
use rules::Powers;
use sys::mounting::{FuseMount, MountFlags, UnmountHow, mount_fuse, unmount};
use sys::{FuseDevice, HostTree};
use tempfile::TempDir;
use union::{Branch, DialectKind, Settings, Union};

/// A writable branch over a read-only one, served until dropped.
struct Mounted {
    home: TempDir,
    counters: Arc<Counters>,
    server: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Mounted {
    fn new(options: ServeOptions, prepare: impl FnOnce(&Path)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for name in ["upper", "lower", "mount"] {
            fs::create_dir(at(name)).unwrap();
        }
        prepare(&at("lower"));
        let branch = |name: &str, powers| {
            let tree = HostTree::open(&at(name)).unwrap();
            Branch { tree, powers }
        };
        let branches = vec![
            branch("upper", Powers::WRITABLE),
            branch("lower", Powers::LAYER),
        ];
        let union = Union::new(branches, Settings::new(DialectKind::Aufs)).unwrap();

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
        let device_only = options.device_only;
        let begin = || {
            mount_fuse(&device, &mount).unwrap();
            let mut server = Server::new(device, Arc::new(union), options);
            server.initialize().unwrap();
            server
        };
        let server = if device_only {
            begin()
        } else {
            testkit::while_io_uring_is_offered(begin).unwrap()
        };
        let counters = server.counters();
        let (tell, told) = sync_channel(1);
        let server = std::thread::spawn(move || server.run_and(|way| tell.send(way).unwrap()));
        assert_eq!(told.recv().unwrap() == Way::IoUring, !device_only);
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

    fn requests(&self, name: &str) -> u64 {
        self.counters
            .requests()
            .find(|(known, _)| *known == name)
            .map_or(0, |(_, count)| count)
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

/// The ways of serving that differ for the kernel.
fn ways() -> impl Iterator<Item = ServeOptions> {
    let caches = [
        CachePolicy::forever(),
        CachePolicy::default(),
        CachePolicy::exact(),
    ];
    let each = [(true, true), (true, false), (false, true), (false, false)];
    caches.into_iter().flat_map(move |cache| {
        each.map(|(passthrough, device_only)| ServeOptions {
            cache,
            passthrough,
            acl: true,
            device_only,
            ..ServeOptions::default()
        })
    })
}

/// Data in which a piece at the wrong place is noticed.
fn data(length: usize) -> Vec<u8> {
    let words = 0..length as u32 / 4;
    words
        .flat_map(|word| word.wrapping_mul(0x9e37_79b1).to_ne_bytes())
        .collect()
}

#[test]
fn long_reads_and_writes_are_whole() {
    for options in ways().filter(|options| !options.passthrough) {
        let below = data(5 << 20);
        let mounted = Mounted::new(options, |lower| {
            fs::write(lower.join("lower"), &below).unwrap();
        });
        let writes = ["WRITE", "READ"].map(|name| mounted.requests(name));
        let upper = data(3 << 20);
        // One request each for a MiB, and some that are no whole pages.
        fs::write(mounted.at("upper"), &upper).unwrap();
        let file = OpenOptions::new()
            .write(true)
            .open(mounted.at("lower"))
            .unwrap();
        file.write_all_at(&upper[..70_001], 4097).unwrap();
        drop(file);
        let mut expected = below;
        expected[4097..4097 + 70_001].copy_from_slice(&upper[..70_001]);
        for (name, expected) in [("upper", &upper), ("lower", &expected)] {
            assert!(fs::read(mounted.at(name)).unwrap() == *expected, "{name}");
        }
        assert!(fs::read(mounted.upper("upper")).unwrap() == upper);
        let moved = ["WRITE", "READ"].map(|name| mounted.requests(name));
        assert!(moved[0] > writes[0] && moved[1] > writes[1], "{moved:?}");
    }
}

#[test]
fn files_can_be_read_changed_and_removed() {
    for options in ways() {
        let mounted = Mounted::new(options, |lower| {
            fs::write(lower.join("old"), "below").unwrap()
        });
        assert_eq!(fs::read_to_string(mounted.at("old")).unwrap(), "below");
        let mut file = OpenOptions::new()
            .append(true)
            .open(mounted.at("old"))
            .unwrap();
        file.write_all(b" and above").unwrap();
        drop(file);
        assert_eq!(
            fs::read_to_string(mounted.at("old")).unwrap(),
            "below and above"
        );
        assert_eq!(
            fs::read_to_string(mounted.upper("old")).unwrap(),
            "below and above"
        );
        fs::remove_file(mounted.at("old")).unwrap();
        assert!(!mounted.at("old").exists());
        assert!(mounted.upper(".wh.old").exists());
        fs::write(mounted.at("old"), "again").unwrap();
        assert_eq!(fs::read_to_string(mounted.at("old")).unwrap(), "again");
    }
}

#[test]
fn a_reader_sees_what_is_written_while_it_reads() {
    for options in ways() {
        let mounted = Mounted::new(options, |lower| {
            fs::write(lower.join("file"), "below").unwrap()
        });
        let reader = File::open(mounted.at("file")).unwrap();
        let mut bytes = [0; 5];
        reader.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"below");
        let writer = OpenOptions::new()
            .write(true)
            .open(mounted.at("file"))
            .unwrap();
        writer.write_all_at(b"above", 0).unwrap();
        reader.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"above");
    }
}

#[test]
fn a_removed_file_lives_while_it_is_open() {
    for options in ways() {
        let mounted = Mounted::new(options, |_| {});
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(mounted.at("file"))
            .unwrap();
        file.write_all(b"data").unwrap();
        fs::remove_file(mounted.at("file")).unwrap();
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(
            (text.as_str(), file.metadata().unwrap().nlink()),
            ("data", 0)
        );
    }
}

#[test]
fn long_listings_are_complete_and_without_repetition() {
    for options in ways() {
        let mounted = Mounted::new(options, |lower| {
            for number in 0..2000 {
                fs::write(lower.join(format!("lower-{number}")), "").unwrap();
            }
        });
        let mut expected: BTreeSet<_> = (0..2000).map(|n| format!("lower-{n}")).collect();
        for number in 0..100 {
            fs::write(mounted.at(&format!("upper-{number}")), "").unwrap();
            fs::remove_file(mounted.at(&format!("lower-{number}"))).unwrap();
            expected.insert(format!("upper-{number}"));
            expected.remove(&format!("lower-{number}"));
        }
        for _ in 0..2 {
            let names: Vec<String> = fs::read_dir(mounted.at(""))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            assert_eq!(names.len(), expected.len());
            assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }
}

#[test]
fn names_move_and_link() {
    for options in ways() {
        let mounted = Mounted::new(options, |_| {});
        fs::create_dir(mounted.at("dir")).unwrap();
        fs::write(mounted.at("dir/file"), "data").unwrap();
        fs::rename(mounted.at("dir"), mounted.at("moved")).unwrap();
        fs::hard_link(mounted.at("moved/file"), mounted.at("hard")).unwrap();
        symlink("moved/file", mounted.at("soft")).unwrap();
        assert_eq!(fs::read_to_string(mounted.at("soft")).unwrap(), "data");
        let (one, other) = (mounted.at("hard"), mounted.at("moved/file"));
        assert_eq!(
            one.metadata().unwrap().ino(),
            other.metadata().unwrap().ino()
        );
        assert_eq!(one.metadata().unwrap().nlink(), 2);
        fs::set_permissions(&one, PermissionsExt::from_mode(0o4711)).unwrap();
        assert_eq!(other.metadata().unwrap().mode(), 0o104_711);
        let full = fs::remove_dir(mounted.at("moved")).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::DirectoryNotEmpty);
    }
}

#[test]
fn what_lasts_is_asked_once() {
    let cache = CachePolicy::forever();
    let options = ServeOptions {
        cache,
        device_only: true,
        ..ServeOptions::default()
    };
    let mounted = Mounted::new(options, |lower| fs::write(lower.join("file"), "").unwrap());
    for _ in 0..10 {
        assert!(mounted.at("file").exists());
        assert!(!mounted.at("missing").exists());
        assert_eq!(fs::read_dir(mounted.at("")).unwrap().count(), 1);
    }
    assert_eq!(mounted.requests("LOOKUP"), 2);
    assert!(mounted.requests("READDIRPLUS") <= 2);
}

#[test]
fn passed_through_data_makes_no_requests() {
    let options = ServeOptions {
        passthrough: true,
        device_only: true,
        ..ServeOptions::default()
    };
    let mounted = Mounted::new(options, |_| {});
    fs::write(mounted.at("file"), vec![1; 1 << 20]).unwrap();
    assert_eq!(fs::read(mounted.at("file")).unwrap().len(), 1 << 20);
    assert_eq!(
        (mounted.requests("READ"), mounted.requests("WRITE")),
        (0, 0)
    );
    assert_eq!(mounted.at("file").metadata().unwrap().len(), 1 << 20);
}

#[test]
fn the_time_of_birth_is_told() {
    let options = ways().next().unwrap();
    let mounted = Mounted::new(options, |_| {});
    fs::write(mounted.at("file"), "").unwrap();
    let inside = mounted.at("file").metadata().unwrap().created().unwrap();
    let outside = mounted.upper("file").metadata().unwrap().created().unwrap();
    assert_eq!(inside, outside);
}
