//! An index of the lowest branches: what a mount shows with one, and that nobody has to look after it.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant, SystemTime};

use support::Bench;
use testkit::require_root_and_fuse;

const BRANCHES: &str = "b1=rr+wh:b2=rr";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("b1/d/f", "one");
    bench.write("b1/d/.wh.hidden", "");
    bench.write("b1/top", "top");
    bench.write("b2/d/hidden", "hidden");
    bench.write("b2/d/e/g", "two");
    fs::hard_link(bench.path("b2/d/e/g"), bench.path("b2/link")).unwrap();
    bench
}

fn mount(bench: &Bench) -> support::Ran {
    let options = format!("udba=none,chain_index=index,br=b0=rw:{BRANCHES}");
    bench.plywood(&["mount", "-o", &options, "none", "m"])
}

fn unmount(bench: &Bench) {
    bench.plywood(&["umount", "m"]).silently();
}

/// Names with all that `stat` tells.
fn shown(bench: &Bench) -> String {
    bench
        .shell("find m -mindepth 1 -printf '%P %y %m %U %G %n %s %b %T@ %C@ %i\\n' | sort")
        .silently()
}

#[track_caller]
fn is_soon(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "not soon: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn check(bench: &Bench) -> support::Ran {
    bench.plywood(&["index", "check", "index", BRANCHES])
}

#[test]
fn a_mount_with_an_index_shows_what_it_shows_without() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = bench();
    let options = format!("udba=none,br=b0=rw:{BRANCHES}");
    bench
        .plywood(&["mount", "-o", &options, "none", "m"])
        .silently();
    let without = shown(&bench);
    unmount(&bench);
    let built = bench
        .plywood(&["index", "build", "index", BRANCHES])
        .silently();
    assert_eq!(built, "index: 2 branches, 3 directories, 6 names\n");
    mount(&bench).silently();
    assert_eq!(shown(&bench), without);
    assert_eq!(bench.read("m/d/e/g"), "two");
    // Changes go where they always go, over what the index says.
    bench.write("m/d/f", "changed");
    bench.write("m/d/e/new", "new");
    fs::remove_file(bench.path("m/link")).unwrap();
    fs::rename(bench.path("m/top"), bench.path("m/d/moved")).unwrap();
    assert_eq!(bench.read("m/d/f"), "changed");
    assert_eq!(bench.read("m/d/moved"), "top");
    unmount(&bench);
    bench
        .plywood(&["mount", "-o", &options, "none", "m"])
        .silently();
    let after = shown(&bench);
    unmount(&bench);
    mount(&bench).silently();
    assert_eq!(shown(&bench), after, "mounted again");
    unmount(&bench);
    assert!(check(&bench).silently().ends_with("fits\n"));
}

#[test]
fn an_index_is_made_when_there_is_none_that_fits() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = bench();
    let fits = || check(&bench).code == Some(0);
    mount(&bench).silently();
    is_soon("there is one", fits);
    unmount(&bench);
    // One that is damaged, one that others may write to, something else.
    let damage: [&dyn Fn(); 3] = [
        &|| {
            let mut bytes = fs::read(bench.path("index")).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(bench.path("other"), bytes).unwrap();
            fs::rename(bench.path("other"), bench.path("index")).unwrap();
        },
        &|| fs::set_permissions(bench.path("index"), Permissions::from_mode(0o666)).unwrap(),
        &|| fs::write(bench.path("index"), "text").unwrap(),
    ];
    for damage in damage {
        damage();
        assert_ne!(check(&bench).code, Some(0));
        mount(&bench).silently();
        assert_eq!(bench.read("m/d/f"), "one");
        is_soon("there is another", fits);
        unmount(&bench);
    }
    // A directory that changed shows as it is, and the index is made anew while it is used.
    bench.write("b2/d/e/late", "late");
    let told = check(&bench);
    assert_eq!(
        (told.code, &*told.out),
        (Some(1), "index: 1 of 3 directories changed\n")
    );
    mount(&bench).silently();
    assert_eq!(bench.read("m/d/e/late"), "late");
    is_soon("it is made anew", fits);
    unmount(&bench);
    let left: Vec<_> = fs::read_dir(bench.guard.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("index"))
        .collect();
    assert_eq!(left, ["index"]);
}

#[test]
fn where_no_index_can_be_written_the_branches_answer() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = bench();
    fs::create_dir(bench.path("ro")).unwrap();
    let bind = "mount -t tmpfs -o ro none ro";
    bench.shell(bind).silently();
    let options = format!("udba=none,chain_index=ro/index,br=b0=rw:{BRANCHES}");
    bench
        .plywood(&["mount", "-o", &options, "none", "m"])
        .silently();
    assert_eq!(bench.read("m/d/f"), "one");
    unmount(&bench);
    bench.shell("umount ro").silently();
}

#[test]
fn attributes_come_from_the_index_only_where_nothing_ever_changes() {
    if !require_root_and_fuse() {
        return;
    }
    for (mode, expected) in [("ro", 0o600), ("rr", 0o644)] {
        let bench = bench();
        fs::set_permissions(bench.path("b1/top"), Permissions::from_mode(0o644)).unwrap();
        let branches = format!("b1={mode}+wh:b2={mode}");
        bench
            .plywood(&["index", "build", "index", &branches])
            .silently();
        // Leaves no trace in the directory.
        fs::set_permissions(bench.path("b1/top"), Permissions::from_mode(0o600)).unwrap();
        let options = format!("udba=none,chain_index=index,br=b0=rw:{branches}");
        bench
            .plywood(&["mount", "-o", &options, "none", "m"])
            .silently();
        let shown = bench.path("m/top").metadata().unwrap().mode() & 0o777;
        assert_eq!(shown, expected, "{mode}");
        unmount(&bench);
    }
}

#[test]
fn an_index_of_branches_that_come_and_go_is_used_as_long_as_it_fits() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = bench();
    bench
        .plywood(&["index", "build", "index", BRANCHES])
        .silently();
    bench.write("more/d/more", "more");
    bench.write("more/top", "other");
    mount(&bench).silently();
    shown(&bench);
    for at in ["0", "1", "2", "3"] {
        bench
            .plywood(&["branch", "add", "--at", at, "m", "more=ro+wh"])
            .silently();
        let top = if at < "2" { "other" } else { "top" };
        assert_eq!(bench.read("m/top"), top, "at {at}");
        assert_eq!(bench.read("m/d/more"), "more", "at {at}");
        assert_eq!(bench.read("m/d/e/g"), "two", "at {at}");
        bench.plywood(&["branch", "remove", "m", "more"]).silently();
        assert!(!bench.exists("m/d/more"), "at {at}");
    }
    unmount(&bench);
}

#[test]
fn what_makes_no_sense_is_refused_or_told() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = bench();
    let refused = |words: &[&str], code, told: &[&str]| bench.plywood(words).refused(code, told);
    let inside = format!("udba=none,chain_index=b1/index,br=b0=rw:{BRANCHES}");
    refused(
        &["mount", "-o", &inside, "none", "m"],
        32,
        &["chain_index", "lies inside"],
    );
    refused(
        &["index", "build", "b2/d/index", BRANCHES],
        2,
        &["lies inside branch"],
    );
    refused(&["index", "build", "index", "b0=rw:b1"], 2, &["writable"]);
    refused(
        &["index", "build", "no/index", BRANCHES],
        2,
        &["no such file"],
    );
    refused(&["index", "show", "index"], 2, &["no such file"]);
    bench.write(
        "text",
        "text, and more of it than an index has in its header, which is not much",
    );
    refused(&["index", "show", "text"], 2, &["not an index"]);
    let told = bench.plywood(&[
        "mount",
        "-v",
        "-o",
        "chain_index=index,br=b0:b1",
        "none",
        "m",
    ]);
    assert!(
        told.err.contains("chain_index: it needs udba=none"),
        "{told:?}"
    );
    let told = bench.plywood(&["mount", "-v", "-o", "remount,chain_index=other", "m"]);
    assert!(told.err.contains("ignored option chain_index"), "{told:?}");
    unmount(&bench);
    bench
        .plywood(&["index", "build", "index", BRANCHES])
        .silently();
    let json = bench
        .plywood(&["index", "show", "--json", "index"])
        .silently();
    for part in ["\"directories\": 3", "\"names\": 6", "\"format\": \"aufs\""] {
        assert!(json.contains(part), "{json}");
    }
    let fewer = bench.plywood(&["index", "check", "index", &format!("b0=ro:{BRANCHES}")]);
    assert_eq!(
        (fewer.code, &*fewer.out),
        (Some(1), "index: fits the lowest 2 branches only\n")
    );
    let others = bench.plywood(&["index", "check", "--format", "overlay", "index", BRANCHES]);
    assert_eq!(others.code, Some(1), "{others:?}");
}

#[test]
fn a_directory_that_just_changed_is_waited_for() {
    let bench = bench();
    let start = SystemTime::now();
    for number in 0..20 {
        bench.write(&format!("b1/n{number}/f"), "f");
    }
    bench
        .plywood(&["index", "build", "index", BRANCHES])
        .silently();
    assert!(start.elapsed().unwrap() >= Duration::from_millis(20));
    // A change right after it gives the directory another time.
    bench.write("b1/n7/g", "g");
    let told = check(&bench);
    assert_eq!(
        (told.code, &*told.out),
        (Some(1), "index: 1 of 23 directories changed\n")
    );
}
