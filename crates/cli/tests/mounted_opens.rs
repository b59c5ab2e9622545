//! Opening files: what stays open, and mounts on which nothing is opened.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};

use support::Bench;
use testkit::require_root_and_fuse;

const OVERLAY: &str = "lowerdir=b1:b2,upperdir=b0,workdir=w";
const AUFS: &str = "udba=none,br=b0=rw:b1=ro:b2=ro";

fn bench() -> Option<Bench> {
    if !require_root_and_fuse() {
        return None;
    }
    let bench = Bench::new();
    fs::create_dir(bench.path("w")).unwrap();
    bench.write("b1/f", "lower");
    bench.write("b1/g", "other");
    bench.write("b2/only/deep", "deep");
    Some(bench)
}

impl Bench {
    fn mount(&self, options: &str) {
        let words = ["mount", "-o", options, "none", "m"];
        self.plywood(&words).silently();
    }

    fn umount(&self) {
        self.plywood(&["umount", "m"]).silently();
    }

    /// Returns whether the server has a file of a branch open.
    fn server_has(&self, path: &str) -> bool {
        let wanted = self.path(path).canonicalize().unwrap();
        let open = fs::read_dir(format!("/proc/{}/fd", self.server())).unwrap();
        let mut targets = open.map(|fd| fs::read_link(fd.unwrap().path()));
        targets.any(|target| target.is_ok_and(|target| target == wanted))
    }

    /// Returns how often the kernel asked for something.
    fn asked_for(&self, request: &str) -> u64 {
        let told = self.plywood(&["status", "--json", "m"]).silently();
        let key = format!("\"{request}\":");
        let counts = told.lines().find_map(|line| line.trim().strip_prefix(&key));
        let digits = counts.map(|count| count.trim().trim_end_matches(',').to_owned());
        digits.map_or(0, |digits| digits.parse().unwrap())
    }
}

#[test]
fn a_lower_file_stays_open_until_it_is_something_else() {
    let Some(bench) = bench() else { return };
    type Change = fn(&Bench);
    let changes: [(&str, Change); 5] = [
        ("written", |bench| {
            let file = File::options().write(true).open(bench.path("m/f"));
            file.unwrap().write_all(b"NEWer").unwrap();
        }),
        ("cut", |bench| {
            fs::write(bench.path("m/f"), "NEWer").unwrap()
        }),
        ("replaced", |bench| {
            bench.write("m/n", "NEWer");
            fs::rename(bench.path("m/n"), bench.path("m/f")).unwrap();
        }),
        ("renamed", |bench| {
            fs::rename(bench.path("m/f"), bench.path("m/away")).unwrap();
            bench.write("m/f", "NEWer");
        }),
        ("unlinked", |bench| {
            fs::remove_file(bench.path("m/f")).unwrap();
            bench.write("m/f", "NEWer");
        }),
    ];
    for options in [OVERLAY, AUFS] {
        for (what, change) in &changes {
            bench.mount(options);
            for _ in 0..2 {
                assert_eq!(bench.read("m/f"), "lower", "{options} {what}");
                assert!(bench.server_has("b1/f"), "{options} {what}");
            }
            let reader = File::open(bench.path("m/f")).unwrap();
            change(&bench);
            assert_eq!(bench.read("m/f"), "NEWer", "{options} {what}");
            drop(reader);
            let closed = || bench.read("m/f") == "NEWer" && !bench.server_has("b1/f");
            support::wait_until("the original is closed", closed);
            assert_eq!(bench.read("b1/f"), "lower");
            bench.umount();
            bench.shell("rm -rf b0 w && mkdir b0 w").silently();
        }
    }
}

#[test]
fn a_branch_goes_although_its_files_stayed_open() {
    let Some(bench) = bench() else { return };
    for options in [OVERLAY, AUFS] {
        bench.mount(options);
        assert_eq!(bench.read("m/only/deep"), "deep");
        assert!(bench.server_has("b2/only/deep"));
        let remove = || bench.plywood(&["branch", "remove", "m", "b2"]);
        let reader = File::open(bench.path("m/only/deep")).unwrap();
        remove().refused(32, &["in use", "only/deep"]);
        drop(reader);
        // The kernel tells of the last close a moment later.
        support::wait_until("nobody uses it", || remove().code == Some(0));
        assert!(!bench.server_has("b2/only/deep"));
        assert!(!bench.exists("m/only"));
        bench.umount();
    }
}

#[test]
fn where_branches_may_be_changed_nothing_stays_open() {
    let Some(bench) = bench() else { return };
    for udba in ["reval", "notify"] {
        bench.mount(&AUFS.replace("none", udba));
        assert_eq!(bench.read("m/f"), "lower");
        support::wait_until("it is closed", || !bench.server_has("b1/f"));
        bench.umount();
    }
    bench.mount(AUFS);
    assert_eq!(bench.read("m/f"), "lower");
    assert!(bench.server_has("b1/f"));
    bench
        .plywood(&["mount", "-o", "remount,udba=reval", "m"])
        .silently();
    support::wait_until("it is closed", || !bench.server_has("b1/f"));
    bench.umount();
}

#[test]
fn files_of_a_mount_that_is_read_only_for_good_are_not_opened() {
    let Some(bench) = bench() else { return };
    bench.write("b1/run", "#!/bin/sh\necho ran\n");
    let runs = fs::Permissions::from_mode(0o755);
    fs::set_permissions(bench.path("b1/run"), runs).unwrap();
    bench.write("b1/empty", "");
    for options in ["ro,lowerdir=b1:b2", "ro,udba=none,br=b1=ro:b2=rr"] {
        bench.mount(options);
        for _ in 0..3 {
            assert_eq!(bench.read("m/f"), "lower");
            assert_eq!(bench.read("m/only/deep"), "deep");
            assert_eq!(bench.read("m/empty"), "");
        }
        assert_eq!(bench.run("m/run", &[""; 0]).silently(), "ran\n");
        let mapped = "import mmap; f = open('m/f', 'rb'); print(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:])";
        let told = bench.run("python3", &["-c", mapped]).silently();
        assert_eq!(told, "b'lower'\n");
        assert_eq!(
            (bench.asked_for("OPEN"), bench.asked_for("RELEASE")),
            (1, 0)
        );
        let refused = File::options().write(true).open(bench.path("m/f"));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(30));

        let words = ["read-only for good"];
        for how in [
            "remount,rw",
            "remount,ro,udba=reval",
            "remount,ro,add:0:b0=rw",
        ] {
            bench
                .plywood(&["mount", "-o", how, "m"])
                .refused(32, &words);
        }
        bench
            .plywood(&["branch", "set", "m", "b1=rw"])
            .refused(32, &words);
        bench
            .plywood(&["branch", "add", "m", "b0=rw"])
            .refused(32, &words);
        assert_eq!(bench.read("m/f"), "lower");
        bench.umount();
    }
}

#[test]
fn branches_of_a_mount_that_is_read_only_for_good_come_and_go() {
    let Some(bench) = bench() else { return };
    bench.write("b0/f", "above");
    bench.mount("ro,lowerdir=b1:b2");
    assert_eq!(bench.read("m/f"), "lower");
    let reader = File::open(bench.path("m/f")).unwrap();
    bench
        .plywood(&["branch", "add", "--at", "0", "m", "b0=ro"])
        .silently();
    assert_eq!(bench.read("m/f"), "above");
    let mut bytes = [0; 5];
    reader.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"lower");
    drop(reader);
    let mut open = File::open(bench.path("m/only/deep")).unwrap();
    let remove = |branch| bench.plywood(&["branch", "remove", "m", branch]);
    remove("b2").refused(32, &["in use", "only/deep"]);
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "deep");
    drop(open);
    remove("b2").silently();
    assert!(!bench.exists("m/only"));
    remove("b0").silently();
    assert_eq!(bench.read("m/f"), "lower");
    bench.umount();
}

#[test]
fn set_id_bits_stay_on_files_that_were_passed_through() {
    let Some(bench) = bench() else { return };
    bench.mount(OVERLAY);
    let path = bench.path("m/new");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    for _ in 0..3 {
        bench.write("m/new", "by the kernel");
        // A group that the server is not in.
        std::os::unix::fs::chown(&path, Some(1000), Some(1234)).unwrap();
        set(0o6755);
        assert_eq!(mode(), 0o6755);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(3)
            .unwrap();
        assert_eq!(mode(), 0o6755, "root may keep them");
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b" by the server").unwrap();
        assert_eq!(mode(), 0o6755);
        drop(file);
        fs::remove_file(&path).unwrap();
    }
    bench.umount();
}
