//! The verbs that need no mount.

mod support;

use std::os::unix::fs::symlink;

use support::{Bench, names};

#[test]
fn completions_and_manual_pages_come_from_the_command_line() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = bench.plywood(&["completions", shell]).silently();
        assert!(script.contains("install-helpers"), "{shell}");
    }
    bench.plywood(&["man", "pages"]).silently();
    let pages = names(&bench.path("pages"));
    for page in ["plywood.1", "plywood-mount.1", "plywood-which.1"] {
        assert!(pages.contains(&page.to_owned()), "{pages:?}");
    }
    assert!(bench.read("pages/plywood-mount.1").contains("lowerdir="));
}

#[test]
fn helpers_are_linked_and_removed_and_nothing_else_is_touched() {
    let bench = Bench::new();
    bench.write("p/sbin/mount.aufs", "somebody else's");
    let ran = bench.plywood(&["install-helpers", "--prefix", "p"]);
    ran.refused(1, &["mount.aufs", "not one of our links"]);
    assert_eq!(bench.read("p/sbin/mount.aufs"), "somebody else's");
    std::fs::remove_file(bench.path("p/sbin/mount.aufs")).unwrap();
    let told = bench
        .plywood(&["install-helpers", "--prefix", "p"])
        .silently();
    assert!(told.contains("p/sbin/mount.aufs ->"), "{told}");
    assert!(names(&bench.path("p/sbin")).contains(&"umount.fuse.aufs".to_owned()));
    assert_eq!(
        names(&bench.path("p/bin")),
        ["aubrsync", "auchk", "aumvdown", "plywood"]
    );
    // Again is fine.
    bench
        .plywood(&["install-helpers", "--prefix", "p", "--fuse-overlayfs"])
        .silently();
    assert!(names(&bench.path("p/bin")).contains(&"fuse-overlayfs".to_owned()));
    bench.write("p/sbin/mount.other", "x");
    bench
        .plywood(&["install-helpers", "--prefix", "p", "--remove"])
        .silently();
    assert_eq!(names(&bench.path("p/sbin")), ["mount.other"]);
    assert!(names(&bench.path("p/bin")).is_empty());
}

#[test]
fn the_doctor_looks_at_everything_and_scans() {
    let bench = Bench::new();
    let told = bench.plywood(&["doctor"]);
    for what in [
        "kernel",
        "/dev/fuse",
        "fusermount3",
        "passthrough",
        "mount helpers",
    ] {
        assert!(told.out.contains(what), "{what}: {told:?}");
    }
    bench.write("store/aufs/diff/x/f", "");
    bench.write("store/aufs/layers/x", "");
    bench.write("store/aufs/mnt/x/f", "");
    bench.write("store/branch/.wh..wh.aufs", "");
    let told = bench.plywood(&["doctor", "--scan", "store"]).silently();
    assert!(
        told.contains("store/aufs: aufs store of Docker, 1 layers"),
        "{told}"
    );
    assert!(
        told.contains("store/branch: writable branch of AUFS"),
        "{told}"
    );
}

#[test]
fn a_scan_finds_lines_that_would_do_nothing_and_says_what_to_write() {
    let bench = Bench::new();
    bench.write(
        "root/etc/rc.d/rc.local",
        "#!/bin/sh\nmount -t aufs -o br=/a:/b none /u\nmount -no remount,add:1:/m=rr aufs /u\n",
    );
    bench.write("root/etc/modules-load.d/live.conf", "aufs\n");
    bench.write("root/usr/share/doc/README", "modprobe aufs\n");
    bench.write("root/binary", "modprobe aufs\n\0");
    bench.write("outside/rc", "modprobe aufs\n");
    symlink("../outside", bench.path("root/linked")).unwrap();
    symlink("../outside/rc", bench.path("root/rc")).unwrap();
    let told = bench.plywood(&["doctor", "--scan", "root"]);
    assert_eq!((told.code, told.err.as_str()), (Some(1), ""), "{told:?}");
    let expected = "\
root/etc/modules-load.d/live.conf:1: fails: there is no module aufs, and none is needed but fuse
    is:      aufs
    instead: fuse
root/etc/rc.d/rc.local:3: silent: with two paths and no type, mount asks no helper: nothing happens, and nobody is told
    is:      mount -no remount,add:1:/m=rr aufs /u
    instead: mount -t aufs -no remount,add:1:/m=rr aufs /u
";
    assert_eq!(told.out, expected);
    let told = bench.plywood(&["doctor", "--json", "--scan", "root/etc/rc.d/rc.local"]);
    assert_eq!(told.code, Some(1), "{told:?}");
    for part in ["\"schema\": 1", "\"line\": 3", "\"effect\": \"silent\""] {
        assert!(told.out.contains(part), "{part}: {told:?}");
    }
    bench
        .plywood(&["doctor", "--scan", "outside/none"])
        .refused(1, &["cannot scan \"outside/none\"", "No such file"]);
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let bench = Bench::new();
    let told = bench.shell("plywood completions zsh | head -1; plywood --help | head -1");
    assert_eq!(told.err, "", "{told:?}");
}
