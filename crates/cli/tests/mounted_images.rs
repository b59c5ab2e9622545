//! Image files as branches: nothing of them is left when they go.

mod support;

use std::fs::{self, File};

use support::{Bench, names, wait_until};
use testkit::require_root_and_fuse;

/// What makes an image of the directory `b2`, and the image.
const MAKERS: [(&str, &str); 2] = [
    (
        "mksquashfs b2 'module 1.sfs' -quiet -no-progress",
        "module 1.sfs",
    ),
    ("mkfs.erofs --quiet module.erofs b2", "module.erofs"),
];

fn bench() -> Option<Bench> {
    if !require_root_and_fuse() {
        return None;
    }
    let bench = Bench::new();
    bench.write("b1/d/one", "1");
    bench.write("b2/d/two", "2");
    bench.write("b2/.wh.covered", "");
    bench.write("b1/covered", "1");
    for (maker, _) in MAKERS {
        bench
            .shell(&format!("{maker} >log 2>&1 || cat log >&2"))
            .silently();
    }
    Some(bench)
}

/// Returns how many loop devices hold files of the bench.
fn loops(bench: &Bench) -> usize {
    let place = bench.path("").canonicalize().unwrap();
    let holds = |entry: &std::io::Result<fs::DirEntry>| {
        let file = entry.as_ref().unwrap().path().join("loop/backing_file");
        let backing = fs::read_to_string(file).unwrap_or_default();
        backing.starts_with(place.to_str().unwrap())
    };
    let all = fs::read_dir("/sys/block").unwrap();
    all.filter(|entry| holds(entry)).count()
}

#[track_caller]
fn shows(bench: &Bench) {
    assert_eq!(names(&bench.path("m/d")), ["one", "two"]);
    assert_eq!(bench.read("m/d/two"), "2");
    assert!(!bench.exists("m/covered"));
    let told = bench.plywood(&["which", "m/d/two"]).silently();
    assert!(told.contains("serves"), "{told}");
}

#[test]
fn an_image_is_a_branch_from_the_mount_to_the_unmount() {
    let Some(bench) = bench() else { return };
    for (_, image) in MAKERS {
        let option = format!("br=b0=rw:{image}=rr+wh:b1=ro");
        bench
            .plywood(&["mount", "-o", &option, "none", "m"])
            .silently();
        assert_eq!(loops(&bench), 1);
        shows(&bench);
        bench.write("m/d/two", "new");
        assert_eq!(bench.read("b0/d/two"), "new");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = bench.path("").canonicalize().unwrap();
        let ours = mounts.matches(place.to_str().unwrap()).count();
        assert_eq!(ours, 1, "only the union is mounted");
        bench.plywood(&["umount", "m"]).silently();
        wait_until("the image is free", || loops(&bench) == 0);
        fs::remove_dir_all(bench.path("b0/d")).unwrap();
    }
}

#[test]
fn images_come_and_go_live() {
    let Some(bench) = bench() else { return };
    bench.plywood(&["mount", "b0=rw:b1", "m"]).silently();
    for round in 0..10 {
        let (_, image) = MAKERS[round % 2];
        let branch = format!("{image}=rr+wh");
        if round % 4 < 2 {
            let words = ["branch", "add", "m", &branch];
            bench.plywood(&words).silently();
        } else {
            let option = format!("remount,add:1:{branch}");
            bench.plywood(&["mount", "-o", &option, "m"]).silently();
        }
        shows(&bench);
        assert_eq!(loops(&bench), 1);
        bench
            .plywood(&["branch", "add", "m", &branch])
            .refused(32, &["already"]);
        let open = File::open(bench.path("m/d/two")).unwrap();
        let words = ["branch", "remove", "m", image];
        bench.plywood(&words).refused(32, &["in use", "d/two"]);
        assert_eq!(std::io::read_to_string(&open).unwrap(), "2");
        drop(open);
        bench.plywood(&words).silently();
        assert_eq!(names(&bench.path("m/d")), ["one"]);
        assert!(bench.exists("m/covered"));
        wait_until("the image is free", || loops(&bench) == 0);
    }
    bench.plywood(&["umount", "m"]).silently();
}

#[test]
fn an_image_is_free_when_its_server_is_killed() {
    let Some(bench) = bench() else { return };
    let (_, image) = MAKERS[0];
    let option = format!("br=b0=rw:{image}");
    bench
        .plywood(&["mount", "-o", &option, "none", "m"])
        .silently();
    bench
        .plywood(&["branch", "add", "m", MAKERS[1].1])
        .silently();
    assert_eq!(bench.read("m/d/two"), "2");
    assert_eq!(loops(&bench), 2);
    let server = bench.server().to_string();
    bench.run("kill", &["-9", &server]).silently();
    wait_until("the images are free", || loops(&bench) == 0);
    bench.plywood(&["umount", "--stale", "m"]).silently();
    assert!(!bench.is_mounted());
}

#[test]
fn what_is_no_image_or_cannot_be_one_is_refused_and_leaves_nothing() {
    let Some(bench) = bench() else { return };
    bench.write("text.sfs", "just text");
    let mut damaged = vec![0; 64 << 10];
    damaged[..4].copy_from_slice(b"hsqs");
    fs::write(bench.path("damaged.sfs"), &damaged).unwrap();
    let (_, image) = MAKERS[0];
    bench.plywood(&["mount", "b0=rw:b1", "m"]).silently();
    let writable = format!("{image}=rw");
    for (branch, words) in [
        ("text.sfs", &["text.sfs", "neither a directory nor"][..]),
        ("damaged.sfs", &["damaged.sfs"]),
        (&writable, &["module 1.sfs", "cannot be written to"]),
    ] {
        bench
            .plywood(&["branch", "add", "m", branch])
            .refused(32, words);
        let option = format!("remount,append:{branch}");
        bench
            .plywood(&["mount", "-o", &option, "m"])
            .refused(32, words);
    }
    bench.plywood(&["branch", "add", "m", image]).silently();
    bench
        .plywood(&["branch", "set", "m", &writable])
        .refused(32, &["cannot be written to"]);
    let list = bench.plywood(&["branch", "list", "m"]).silently();
    assert!(list.contains("rr"), "{list}");
    bench.plywood(&["branch", "remove", "m", image]).silently();
    wait_until("the image is free", || loops(&bench) == 0);
    bench.plywood(&["umount", "m"]).silently();
    for branch in ["text.sfs", "damaged.sfs", &writable] {
        let option = format!("br=b0=rw:{branch}");
        bench
            .plywood(&["mount", "-o", &option, "none", "m"])
            .refused(32, &["branch 1"]);
        assert!(!bench.is_mounted());
    }
    assert_eq!(loops(&bench), 0);
}
