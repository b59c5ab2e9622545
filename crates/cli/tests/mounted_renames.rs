//! Directories that merge others from below, renamed through the kernel.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rules::Errno;
use support::{Bench, names};
use testkit::require_root_and_fuse;

fn bench() -> Option<Bench> {
    if !require_root_and_fuse() {
        return None;
    }
    let bench = Bench::new();
    for n in 0..60 {
        bench.write(&format!("b1/src/part{}/file{n}", n % 7), &format!("{n}\n"));
    }
    bench.write("b1/doc/read", "me\n");
    bench.write("b2/src/part0/below", "2\n");
    Some(bench)
}

#[track_caller]
fn mount(bench: &Bench, options: &str) {
    bench
        .plywood(&["mount", "-o", options, "none", "m"])
        .silently();
}

#[track_caller]
fn unmount(bench: &Bench) {
    bench.plywood(&["umount", "m"]).silently();
}

/// Renames as the system call does: nothing is copied when that fails.
#[track_caller]
fn rename(bench: &Bench, old: &str, new: &str) {
    fs::rename(bench.path("m").join(old), bench.path("m").join(new)).unwrap();
}

/// Returns all files below a directory with their contents.
fn files(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in names(dir) {
        let path = dir.join(&name);
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(rest, text)| (format!("{name}/{rest}"), text)));
        } else {
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

const ALL: [&str; 3] = ["udba=reval", "udba=none", "udba=notify"];

#[test]
fn a_lower_directory_is_renamed_and_stays_so_over_remounts() {
    for udba in ALL {
        let Some(bench) = bench() else { return };
        let options = format!("br=b0:b1:b2,{udba}");
        let lower = files(&bench.path("b1"));
        mount(&bench, &options);
        let whole = files(&bench.path("m/src"));
        let number = bench.path("m/src").metadata().unwrap().ino();
        let open = fs::File::open(bench.path("m/src/part0/below")).unwrap();
        rename(&bench, "src", "lib");
        assert_eq!(bench.path("m/lib").metadata().unwrap().ino(), number);
        rename(&bench, "lib", "doc/lib");
        rename(&bench, "doc/lib/part0", "part0");
        rename(&bench, "doc", "text");
        let mut byte = [0];
        open.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(byte, *b"2");
        drop(open);
        let check = || {
            assert_eq!(names(&bench.path("m")), ["part0", "text"], "{udba}");
            let mut moved = files(&bench.path("m/text/lib"));
            let rest = files(&bench.path("m/part0")).into_iter();
            moved.extend(rest.map(|(path, text)| (format!("part0/{path}"), text)));
            moved.sort();
            let mut whole = whole.clone();
            whole.sort();
            assert_eq!(moved, whole, "{udba}");
            let which = bench
                .plywood(&["which", "m/text/lib/part1/file1"])
                .silently();
            assert!(which.contains("b1/src/part1/file1"), "{which}");
        };
        check();
        unmount(&bench);
        mount(&bench, &options);
        check();
        rename(&bench, "part0", "text/lib/part0");
        rename(&bench, "text/lib", "src");
        rename(&bench, "text", "doc");
        assert_eq!(files(&bench.path("m/src")), whole, "{udba}");
        unmount(&bench);
        assert_eq!(files(&bench.path("b1")), lower, "{udba}");
        assert!(!bench.exists("b0/.wh..wh.hino"), "all is where it was");
        assert!(!bench.exists("b0/.wh.src") && !bench.exists("b0/.wh.doc"));
    }
}

#[test]
fn a_renamed_directory_is_found_over_copies_of_the_branches() {
    let Some(bench) = bench() else { return };
    mount(&bench, "br=b0:b1");
    rename(&bench, "src", "lib");
    bench.write("m/lib/new", "n\n");
    let whole = files(&bench.path("m"));
    unmount(&bench);
    bench
        .shell("cp -a b0 c0 && cp -a b1 c1 && rm -r b0 b1")
        .silently();
    mount(&bench, "br=c0:c1");
    assert_eq!(files(&bench.path("m")), whole);
    unmount(&bench);
}

#[test]
fn without_the_option_such_a_rename_is_refused_and_an_earlier_one_shows_its_own_part() {
    let Some(bench) = bench() else { return };
    for options in ["br=b0:b1,nodirren", "br=b0:b1,compat=aufs"] {
        mount(&bench, options);
        let refused = fs::rename(bench.path("m/src"), bench.path("m/lib")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::XDEV.raw()), "{options}");
        unmount(&bench);
    }
    mount(&bench, "br=b0:b1,compat=aufs,dirren");
    rename(&bench, "src", "lib");
    bench.write("m/lib/own", "own\n");
    unmount(&bench);
    mount(&bench, "br=b0:b1,nodirren");
    assert_eq!(names(&bench.path("m")), ["doc", "lib"]);
    assert_eq!(names(&bench.path("m/lib")), ["own"]);
    unmount(&bench);
    mount(&bench, "br=b0:b1");
    assert_eq!(bench.read("m/lib/part1/file1"), "1\n");
    unmount(&bench);
}

#[test]
fn git_finds_nothing_changed_after_its_directories_moved_and_came_back() {
    let Some(bench) = bench() else { return };
    let git = "git -c user.name=n -c user.email=e -c safe.directory=*";
    bench
        .shell(&format!(
            "cd b1 && {git} init -q . && {git} add -A && {git} commit -qm all"
        ))
        .silently();
    mount(&bench, "br=b0:b1");
    let status = || {
        bench
            .shell(&format!("cd m && {git} status --porcelain"))
            .silently()
    };
    assert_eq!(status(), "");
    bench.shell(&format!("cd m && {git} mv src lib")).silently();
    let lines = status();
    assert!(!lines.is_empty());
    assert!(
        lines.lines().all(|line| line.starts_with("R  src/")),
        "{lines}"
    );
    fs::OpenOptions::new()
        .append(true)
        .open(bench.path("m/lib/part1/file1"))
        .and_then(|mut file| file.write_all(b"more\n"))
        .unwrap();
    bench
        .shell(&format!("cd m && {git} commit -qam moved"))
        .silently();
    bench
        .shell("mv m/lib m/doc/lib && mv m/doc/lib m/lib")
        .silently();
    assert_eq!(status(), "");
    unmount(&bench);
    mount(&bench, "br=b0:b1");
    assert_eq!(status(), "");
    bench
        .shell(&format!("cd m && {git} fsck --strict"))
        .silently();
    unmount(&bench);
}

#[test]
fn the_option_changes_while_mounted() {
    let Some(bench) = bench() else { return };
    mount(&bench, "br=b0:b1");
    rename(&bench, "src", "lib");
    bench.write("m/lib/own", "own\n");
    let remount = |options: &str| {
        let options = format!("remount,{options}");
        bench
            .plywood(&["mount", "-o", &options, "none", "m"])
            .silently();
    };
    remount("nodirren");
    assert_eq!(names(&bench.path("m/lib")), ["own"]);
    let refused = fs::rename(bench.path("m/doc"), bench.path("m/text")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::XDEV.raw()));
    remount("dirren");
    assert_eq!(bench.read("m/lib/part1/file1"), "1\n");
    rename(&bench, "doc", "lib/doc");
    assert_eq!(bench.read("m/lib/doc/read"), "me\n");
    let b2 = bench.path("b2").display().to_string();
    bench.write("b2/src/part1/file1", "above\n");
    remount(&format!("ins:1:{b2}=ro"));
    assert_eq!(
        bench.read("m/lib/part1/file1"),
        "1\n",
        "b1 is another branch now, and the same"
    );
    assert_eq!(bench.read("m/lib/doc/read"), "me\n");
    remount(&format!("del:{b2}"));
    assert_eq!(bench.read("m/lib/part1/file1"), "1\n");
    unmount(&bench);
}

fn merge_unmounted(bench: &Bench) {
    unmount(bench);
    let line = ["merge-down", "--move", "b0", "b1", "--below", "b2", "--yes"];
    let dry = bench
        .plywood(&[&line[..], &["--dry-run"]].concat())
        .silently();
    assert!(dry.contains("rename below to text/lib"), "{dry}");
    let told = bench.plywood(&line).silently();
    assert!(told.contains("3 renamed below"), "{told}");
    mount(bench, "br=b0:b1=rw:b2");
}

#[test]
fn renamed_directories_are_merged_down_also_while_mounted() {
    for (udba, mounted) in [
        ("udba=none", false),
        ("udba=none", true),
        ("udba=reval", true),
        ("udba=notify", true),
    ] {
        let Some(bench) = bench() else { return };
        mount(&bench, "br=b0:b1=ro:b2");
        rename(&bench, "src", "lib");
        bench.write("m/lib/new", "n\n");
        rename(&bench, "lib", "doc/lib");
        rename(&bench, "doc/lib/part0", "part0");
        rename(&bench, "doc", "text");
        unmount(&bench);
        mount(&bench, &format!("br=b0:b1=rw:b2,{udba}"));
        let whole = files(&bench.path("m"));
        if mounted {
            bench.shell("aubrsync move m b0 b1").silently();
        } else {
            merge_unmounted(&bench);
        }
        assert_eq!(files(&bench.path("m")), whole, "{udba}");
        let left = names(&bench.path("b0"));
        assert!(
            left.iter().all(|name| name.starts_with(".wh..wh.")),
            "{left:?}"
        );
        assert_eq!(names(&bench.path("b1/text")), ["lib", "read"], "{udba}");
        unmount(&bench);
        mount(&bench, "br=b1:b2");
        assert_eq!(files(&bench.path("m")), whole, "{udba}");
        unmount(&bench);
    }
}
