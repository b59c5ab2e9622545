//! The tools for branches, beside a union that uses them.

mod support;

use std::fs::{self, File};

use support::{Bench, names};
use testkit::require_root_and_fuse;

fn mounted(options: &str) -> Option<Bench> {
    if !require_root_and_fuse() {
        return None;
    }
    let bench = Bench::new();
    bench.write("b1/gone", "1");
    bench.write("b1/f", "1");
    bench.write("b0/f", "0");
    bench.write("b2/gone", "2");
    let option = format!("br=b0=rw:b1=rw:b2=ro{options}");
    bench
        .plywood(&["mount", "-o", &option, "none", "m"])
        .silently();
    bench.write("m/new/g", "0");
    fs::remove_file(bench.path("m/gone")).unwrap();
    Some(bench)
}

#[test]
fn a_branch_in_use_is_left_alone() {
    let Some(bench) = mounted("") else { return };
    for words in [
        &["check", "b0"][..],
        &["check", "--repair", "b2"],
        &["merge-down", "b0", "b1"],
        &["merge-down", "/tmp", "b1"],
    ] {
        let place = bench.path("m");
        let place = place.to_str().unwrap();
        bench
            .plywood(words)
            .refused(2, &["in use by the union on", place, "unmount"]);
    }
    bench.plywood(&["umount", "m"]).silently();
    bench.plywood(&["check", "b0"]).silently();
}

#[test]
fn aubrsync_moves_a_branch_down_while_the_union_shows_the_same() {
    for udba in ["none", "reval", "notify"] {
        move_while_mounted(udba);
    }
}

fn move_while_mounted(udba: &str) {
    let Some(bench) = mounted(&format!(",nodev,udba={udba}")) else {
        return;
    };
    let open = File::create(bench.path("m/open")).unwrap();
    bench
        .shell("aubrsync move m b0 b1")
        .refused(2, &["close the files"]);
    drop(open);
    fs::remove_file(bench.path("m/open")).unwrap();
    bench.shell("aubrsync -n move m b0 b1 -v").silently();
    assert_eq!(bench.read("b1/f"), "1");
    bench
        .shell("aubrsync copy m b0 b1 -aHSx --delete")
        .silently();
    assert_eq!(
        (bench.read("b0/f"), bench.read("b1/f")),
        ("0".into(), "0".into())
    );
    bench.shell("aubrsync -i move m b0 b1").silently();
    assert_eq!(names(&bench.path("b1/new")), ["g"]);
    // Below the branch the name would show again.
    assert!(bench.exists("b1/.wh.gone") && !bench.exists("b1/gone"));
    let left = names(&bench.path("b0"));
    assert!(
        left.iter().all(|name| name.starts_with(".wh..wh.")),
        "{left:?}"
    );
    let line = bench.mount_line().unwrap();
    assert!(line.contains(" rw,nodev"), "{line}");
    assert_eq!(names(&bench.path("m")), ["f", "new"]);
    assert_eq!(bench.read("m/f"), "0");
    bench.write("m/f", "again");
    assert_eq!(bench.read("b1/f"), "again");
    bench.plywood(&["umount", "m"]).silently();
}

#[test]
fn aubrsync_refuses_what_it_cannot_do_safely() {
    let Some(bench) = mounted(",udba=none") else {
        return;
    };
    for (line, expected) in [
        (
            "aubrsync copy m b0 b2",
            &["branch 0", "branch 2", "next one below"][..],
        ),
        ("aubrsync copy m b1 b2", &["not writable"]),
        ("aubrsync copy m b0 /tmp", &["not a branch of"]),
        ("aubrsync m rsync -a m/ b1", &["running a command"]),
        (
            "aubrsync copy m b0 b1 --rsh=x",
            &["rsync does not run here", "usage"],
        ),
    ] {
        bench.shell(line).refused(2, expected);
    }
    assert_eq!(bench.read("b1/f"), "1");
    bench.plywood(&["umount", "m"]).silently();
}

#[test]
fn a_pool_of_several_disks_becomes_equally_full() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    let _disks = Disks::mount(&bench, &["b0", "b1", "b2"]);
    for n in 0..12 {
        bench
            .shell(&format!("head -c 2M /dev/urandom > b0/f{n}"))
            .silently();
    }
    bench
        .shell("mkdir -m 750 b0/d; head -c 3M /dev/urandom > b0/d/one; ln b0/d/one b0/two")
        .silently();
    let sums = bench.shell("cat b0/f* b0/d/one | sha256sum").silently();
    let dry = bench
        .plywood(&["balance", "--dry-run", "b0:b1:b2"])
        .silently();
    assert!(
        dry.contains("move d/one, two: ") && dry.contains("would be moved"),
        "{dry}"
    );
    assert!(names(&bench.path("b1")).is_empty());
    let told = bench
        .plywood(&["balance", "--percent", "3", "b0:b1:b2"])
        .silently();
    assert!(told.ends_with(" moved\n"), "{told}");
    let shares = ["b0", "b1", "b2"].map(|branch| {
        let free = bench
            .shell(&format!("stat -f -c '%f %b' {branch}"))
            .silently();
        let mut numbers = free.split_whitespace().map(|n| n.parse::<u64>().unwrap());
        numbers.next().unwrap() * 100 / numbers.next().unwrap()
    });
    let spread = shares.iter().max().unwrap() - shares.iter().min().unwrap();
    assert!(spread <= 8, "{shares:?}");
    let ids = |name: &str| bench.shell(&format!("stat -c %i b?/{name}")).silently();
    assert_eq!(ids("d/one"), ids("two"));
    bench
        .plywood(&["mount", "-o", "br=b0=rw:b1=rw:b2=rw", "none", "m"])
        .silently();
    assert_eq!(bench.shell("cat m/f* m/d/one | sha256sum").silently(), sums);
    assert_eq!(bench.shell("stat -c %a m/d").silently(), "750\n");
    bench.plywood(&["balance", "b0:b1"]).refused(2, &["in use"]);
    bench.plywood(&["umount", "m"]).silently();
}

#[test]
fn a_mounted_pool_is_balanced_downwards_around_open_files() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    let _disks = Disks::mount(&bench, &["b0", "b1", "b2"]);
    let option = "br=b0=rw:b1=rw:b2=rw";
    bench
        .plywood(&["mount", "-o", option, "none", "m"])
        .silently();
    bench
        .shell("mkdir m/d; for n in 1 2 3 4 5 6 7 8; do head -c 3M /dev/urandom > m/d/f$n; done")
        .silently();
    bench
        .shell("head -c 4M /dev/urandom > m/open; ln m/d/f1 m/linked")
        .silently();
    let sums = bench.shell("cat m/d/f* m/open | sha256sum").silently();
    let open = File::open(bench.path("m/open")).unwrap();
    let told = bench.plywood(&["balance", "--percent", "1", "m"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(
        told.err.contains("open: stays where it is: in use"),
        "{told:?}"
    );
    assert_eq!(names(&bench.path("b0/d")).len(), 2, "{told:?}");
    assert!(bench.exists("b0/d/f1") && bench.exists("b0/open"));
    let below = names(&bench.path("b1/d")).len() + names(&bench.path("b2/d")).len();
    assert_eq!(below, 6);
    assert_eq!(
        bench.shell("cat m/d/f* m/open | sha256sum").silently(),
        sums
    );
    drop(open);
    bench.plywood(&["umount", "m"]).silently();
}

/// Filesystems in memory on directories of the bench, unmounted at the end.
struct Disks(Vec<std::path::PathBuf>);

impl Disks {
    fn mount(bench: &Bench, names: &[&str]) -> Self {
        let mut disks = Self(Vec::new());
        for name in names {
            let line = format!("mount -t tmpfs -o size=40m none {name}");
            bench.shell(&line).silently();
            disks.0.push(bench.path(name));
        }
        disks
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for disk in &self.0 {
            let ended = std::process::Command::new("umount")
                .arg("-l")
                .arg(disk)
                .status();
            assert!(ended.is_ok(), "{disk:?} stays mounted");
        }
    }
}

#[test]
fn files_move_down_in_a_mounted_union() {
    let Some(bench) = mounted("") else { return };
    bench.write("m/new/h", "h");
    let verbose = bench.plywood(&["mvdown", "-v", "m/new/g"]).silently();
    let path = |name: &str| bench.path(name).display().to_string();
    assert_eq!(
        verbose,
        format!("m/new/g: {} -> {}\n", path("b0"), path("b1"))
    );
    assert_eq!(
        (bench.read("b1/new/g"), bench.read("m/new/g")),
        ("0".into(), "0".into())
    );
    assert!(!bench.exists("b0/new/g"));
    let open = File::open(bench.path("m/new/h")).unwrap();
    bench
        .plywood(&["mvdown", "m/new/h"])
        .refused(1, &["m/new/h", "in use"]);
    drop(open);
    bench.shell("aumvdown -b 1 -B b0 m/new/h").silently();
    assert!(bench.exists("b1/new/h") && !bench.exists("b0/new/h"));
    for (line, expected) in [
        ("aumvdown m/f", "a lower branch has the name"),
        ("aumvdown m/new", "not a regular file"),
        ("aumvdown m/missing", "no such file"),
        ("aumvdown m/new/g", "no writable branch is below"),
        ("aumvdown -b 7 m/f", "no branch 7"),
    ] {
        bench.shell(line).refused(1, &[expected]);
    }
    bench
        .shell("aumvdown /etc/passwd")
        .refused(1, &["not in a mounted union"]);
    bench.shell("aumvdown").refused(2, &["no file", "usage"]);
    bench.shell("aumvdown --keep-upper -o m/f").silently();
    assert_eq!(
        (bench.read("b0/f"), bench.read("b1/f")),
        ("0".into(), "0".into())
    );
    bench.plywood(&["umount", "m"]).silently();
}
