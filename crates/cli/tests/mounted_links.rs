//! Hard links of lower branches: one file in the union, and one on disk when they are flushed.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;

use support::{Bench, names};
use testkit::require_root_and_fuse;

/// Both sets of defaults: names get their links early, or late.
const DEFAULTS: [&str; 2] = ["plywood", "aufs"];

fn mounted(compat: &str, options: &str) -> Option<Bench> {
    if !require_root_and_fuse() {
        return None;
    }
    let bench = Bench::new();
    bench.write("b1/f", "1");
    bench.write("b1/d/other", "1");
    fs::hard_link(bench.path("b1/f"), bench.path("b1/d/g")).unwrap();
    mount(&bench, compat, options);
    Some(bench)
}

fn mount(bench: &Bench, compat: &str, options: &str) {
    let option = format!("compat={compat},br=b0=rw:b1=ro{options}");
    bench
        .plywood(&["mount", "-o", &option, "none", "m"])
        .silently();
}

fn append(bench: &Bench, name: &str, text: &str) {
    let file = OpenOptions::new().append(true).open(bench.path(name));
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

fn facts(bench: &Bench, name: &str) -> (u64, u64) {
    let metadata = bench.path(name).symlink_metadata().unwrap();
    (metadata.ino(), metadata.nlink())
}

fn store(bench: &Bench) -> Vec<String> {
    names(&bench.path("b0/.wh..wh.plnk"))
}

/// Checks that names are one file, and returns its number.
#[track_caller]
fn one_file(bench: &Bench, names: [&str; 2], links: u64, text: &str) -> u64 {
    let facts = names.map(|name| facts(bench, name));
    assert_eq!(facts[0], facts[1], "{names:?}");
    assert_eq!(facts[0].1, links, "{names:?}");
    for name in names {
        assert_eq!(bench.read(name), text, "{name}");
    }
    facts[0].0
}

const IN_UNION: [&str; 2] = ["m/f", "m/d/g"];
const ON_DISK: [&str; 2] = ["b0/f", "b0/d/g"];

#[test]
fn names_that_are_flushed_are_one_file_on_disk_and_go_on_being_one_in_the_union() {
    for compat in DEFAULTS {
        let Some(bench) = mounted(compat, "") else {
            return;
        };
        assert_eq!(bench.shell("auplink m list").silently(), "");
        append(&bench, "m/f", "2");
        let number = one_file(&bench, IN_UNION, 2, "12");
        assert_eq!(store(&bench).len(), 1);
        let point = bench.path("m").canonicalize().unwrap();
        let listed = bench.shell("auplink m list").silently();
        let mut listed: Vec<_> = listed.lines().collect();
        listed.sort_unstable();
        let line = |name: &str| format!("{number} {}/{name}", point.display());
        assert_eq!(listed, [line("d/g"), line("f")], "{compat}");

        bench.shell("auplink m cpup").silently();
        assert_eq!(store(&bench).len(), 1);
        one_file(&bench, ON_DISK, 3, "12");
        for _ in 0..2 {
            bench.shell("auplink m flush").silently();
            assert!(store(&bench).is_empty());
            one_file(&bench, ON_DISK, 2, "12");
            assert_eq!(one_file(&bench, IN_UNION, 2, "12"), number, "{compat}");
        }
        assert_eq!(bench.shell("auplink m list").silently(), "");
        append(&bench, "m/d/g", "3");
        one_file(&bench, ON_DISK, 2, "123");
        assert_eq!(one_file(&bench, IN_UNION, 2, "123"), number, "{compat}");
        fs::hard_link(bench.path("m/f"), bench.path("m/h")).unwrap();
        fs::remove_file(bench.path("m/f")).unwrap();
        assert_eq!(one_file(&bench, ["m/h", "m/d/g"], 2, "123"), number);
        bench.shell("umount.aufs m").silently();
        mount(&bench, compat, "");
        one_file(&bench, ["m/h", "m/d/g"], 2, "123");
        assert_eq!(bench.read("b1/f"), "1");
        bench.plywood(&["umount", "m"]).silently();
    }
}

#[test]
fn a_flush_keeps_what_is_open_and_has_lost_names() {
    for compat in DEFAULTS {
        let Some(bench) = mounted(compat, "") else {
            return;
        };
        let both = OpenOptions::new().read(true).append(true).clone();
        let mut open = both.open(bench.path("m/f")).unwrap();
        open.write_all(b"2").unwrap();
        let number = open.metadata().unwrap().ino();
        fs::remove_file(bench.path("m/f")).unwrap();
        let text = |open: &mut File| {
            let mut text = String::new();
            open.rewind().unwrap();
            open.read_to_string(&mut text).unwrap();
            text
        };
        for (name, left, links) in [("m/d/g", "12", 1), ("", "123", 0)] {
            bench.shell("auplink m flush").silently();
            assert!(store(&bench).is_empty(), "{:?}", store(&bench));
            assert_eq!(text(&mut open), left, "{compat}");
            let metadata = open.metadata().unwrap();
            assert_eq!(
                (metadata.ino(), metadata.nlink()),
                (number, links),
                "{compat}"
            );
            if !name.is_empty() {
                assert_eq!(facts(&bench, name), (number, 1));
                open.write_all(b"3").unwrap();
                assert_eq!(bench.read(name), "123");
                fs::remove_file(bench.path(name)).unwrap();
            }
        }
        open.write_all(b"4").unwrap();
        assert_eq!(text(&mut open), "1234");
        drop(open);
        assert!(names(&bench.path("m")).len() == 1 && !bench.exists("m/d/g"));
        bench.plywood(&["umount", "m"]).silently();
    }
}

#[test]
fn a_removed_pair_whose_copy_is_open_leaves_nothing_at_a_flush() {
    for compat in DEFAULTS {
        let Some(bench) = mounted(compat, "") else {
            return;
        };
        let mut open = OpenOptions::new()
            .append(true)
            .open(bench.path("m/f"))
            .unwrap();
        open.write_all(b"2").unwrap();
        fs::remove_file(bench.path("m/f")).unwrap();
        fs::remove_file(bench.path("m/d/g")).unwrap();
        bench.shell("auplink m flush").silently();
        open.write_all(b"3").unwrap();
        assert_eq!(open.metadata().unwrap().len(), 3, "{compat}");
        assert!(store(&bench).is_empty());
        drop(open);
        bench.plywood(&["umount", "m"]).silently();
    }
}

#[test]
fn a_lower_branch_that_goes_leaves_its_copied_names_together() {
    for compat in DEFAULTS {
        let Some(bench) = mounted(compat, "") else {
            return;
        };
        append(&bench, "m/f", "2");
        let number = one_file(&bench, IN_UNION, 2, "12");
        bench.plywood(&["branch", "remove", "m", "b1"]).silently();
        assert!(store(&bench).is_empty());
        assert_eq!(one_file(&bench, IN_UNION, 2, "12"), number, "{compat}");
        append(&bench, "m/d/g", "3");
        one_file(&bench, ON_DISK, 2, "123");
        assert_eq!(names(&bench.path("m/d")), ["g"]);
        bench.plywood(&["branch", "add", "m", "b1=ro"]).silently();
        assert_eq!(names(&bench.path("m/d")), ["g", "other"]);
        assert_eq!(one_file(&bench, IN_UNION, 2, "123"), number, "{compat}");
        bench.plywood(&["umount", "m"]).silently();
    }
}

const PAIRS: usize = 200;

#[test]
fn links_are_made_while_others_write() {
    for compat in DEFAULTS {
        let Some(bench) = mounted(compat, "") else {
            return;
        };
        bench.plywood(&["umount", "m"]).silently();
        bench.bin();
        for n in 0..PAIRS {
            bench.write(&format!("b1/p/{n}"), "1");
            let second = bench.path(&format!("b1/d/{n}"));
            fs::hard_link(bench.path(&format!("b1/p/{n}")), second).unwrap();
        }
        mount(&bench, compat, "");
        std::thread::scope(|scope| {
            let (one, two) = (&bench, &bench);
            let one =
                scope.spawn(move || (0..PAIRS).for_each(|n| append(one, &format!("m/p/{n}"), "2")));
            let two =
                scope.spawn(move || (0..PAIRS).for_each(|n| append(two, &format!("m/d/{n}"), "3")));
            while !(one.is_finished() && two.is_finished()) {
                bench.run("bin/auplink", &["m", "flush"]).silently();
            }
        });
        bench.shell("umount.aufs m").silently();
        assert!(store(&bench).is_empty());
        for n in 0..PAIRS {
            let pair = [format!("b0/p/{n}"), format!("b0/d/{n}")];
            let text = bench.read(&pair[0]);
            assert!(text == "123" || text == "132", "{compat} {n}: {text}");
            one_file(&bench, [&pair[0], &pair[1]], 2, &text);
        }
    }
}

#[test]
fn the_helper_flushes_before_it_unmounts() {
    for compat in DEFAULTS {
        let Some(bench) = mounted(compat, "") else {
            return;
        };
        append(&bench, "m/f", "2");
        bench.shell("umount.aufs m").silently();
        assert!(store(&bench).is_empty(), "{compat}");
        one_file(&bench, ON_DISK, 2, "12");
        assert!(!bench.is_mounted());
    }
}

#[test]
fn a_flush_that_fails_is_a_warning_and_the_mount_goes() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.write("b1/f", "1");
    bench.write("b1/d/x", "1");
    fs::hard_link(bench.path("b1/f"), bench.path("b1/d/g")).unwrap();
    // In a mount namespace of its own, so that nothing is left of it. The kernel tells the server of a close after it
    // returned: until then the branch is busy.
    let line = "mount -t tmpfs none b0 && mount.aufs none m -o br=b0=rw:b1=ro && echo 2 >> m/f && \
        for wait in $(seq 200); do mount -o remount,ro b0 2>/dev/null && break; sleep 0.02; done; \
        umount.aufs m && ! mountpoint -q m";
    let ran = bench.shell(&format!("unshare -m sh -c '{line}'"));
    ran.refused(0, &["warning: hard links stay", "read-only"]);
}

#[test]
fn without_pseudo_links_a_copy_stands_for_one_name() {
    let Some(bench) = mounted("plywood", ",noplink") else {
        return;
    };
    append(&bench, "m/f", "2");
    assert_eq!(
        (bench.read("m/f"), bench.read("m/d/g")),
        ("12".into(), "1".into())
    );
    append(&bench, "m/d/g", "3");
    assert_eq!(
        (bench.read("m/f"), bench.read("m/d/g")),
        ("12".into(), "13".into())
    );
    bench.shell("auplink m flush").silently();
    bench.plywood(&["umount", "m"]).silently();
}

#[test]
fn a_new_name_of_a_lower_file_is_the_same_file() {
    for compat in DEFAULTS {
        let Some(bench) = mounted(compat, "") else {
            return;
        };
        fs::hard_link(bench.path("m/d/other"), bench.path("m/new")).unwrap();
        let number = one_file(&bench, ["m/d/other", "m/new"], 2, "1");
        bench.shell("auplink m flush").silently();
        assert_eq!(one_file(&bench, ["m/d/other", "m/new"], 2, "1"), number);
        append(&bench, "m/new", "2");
        assert_eq!(one_file(&bench, ["m/d/other", "m/new"], 2, "12"), number);
        bench.shell("umount.aufs m").silently();
        one_file(&bench, ["b0/d/other", "b0/new"], 2, "12");
        assert_eq!(bench.read("b1/d/other"), "1");
    }
}
