//! The tools for branches that no union uses.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use support::{Bench, names};

fn damaged() -> Bench {
    let bench = Bench::new();
    bench.write("b0/f", "kept");
    for name in [".wh.f", ".wh..wh.x.0001", ".wh..wh.g.8001", "d/.wh.unseen"] {
        bench.write(&format!("b0/{name}"), "");
    }
    bench
}

#[test]
fn a_damaged_branch_is_told_of_and_put_right() {
    let bench = damaged();
    let told = bench.plywood(&["check", "b0"]);
    assert_eq!((told.code, told.err.as_str()), (Some(1), ""), "{told:?}");
    for line in [
        "b0/.wh.f: a whiteout beside its entry\n",
        "b0/.wh..wh.x.0001: was being built\n",
        "b0/.wh..wh.g.8001: was moved away, and its name is free\n",
        "b0: 3 problems\n",
    ] {
        assert!(told.out.contains(line), "{line}: {}", told.out);
    }
    let quiet = bench.plywood(&["check", "-q", "b0"]);
    assert_eq!((quiet.code, quiet.out.as_str()), (Some(1), ""));
    let told = bench.plywood(&["check", "--repair", "b0"]).silently();
    assert!(told.contains("b0/.wh.f: a whiteout beside its entry: remove the whiteout"));
    assert!(told.ends_with("b0: 3 problems, all repaired\n"), "{told}");
    assert_eq!(names(&bench.path("b0")), ["d", "f", "g"]);
    assert_eq!(bench.read("b0/f"), "kept");
    let told = bench.plywood(&["check", "b0", "b1"]).silently();
    assert_eq!(told, "b0: clean\nb1: clean\n");
}

#[test]
fn whiteouts_that_hide_nothing_are_told_where_the_branches_below_are_named() {
    let bench = damaged();
    bench.plywood(&["check", "--repair", "b0"]).silently();
    bench.write("b0/.wh.seen", "");
    bench.write("b1/seen", "");
    let told = bench.plywood(&["check", "--below", "b1:b2", "b0"]);
    assert_eq!(told.code, Some(1));
    assert!(
        told.out
            .starts_with("b0/d/.wh.unseen: a whiteout that hides nothing")
    );
    let json = bench.plywood(&["check", "--json", "--below=b1", "--repair", "b0"]);
    for part in [
        "\"schema\": 1",
        "\"hides_nothing\"",
        "\"repaired\": true",
        "d/.wh.unseen",
    ] {
        assert!(json.out.contains(part), "{part}: {json:?}");
    }
    assert!(bench.exists("b0/.wh.seen") && !bench.exists("b0/d/.wh.unseen"));
}

#[test]
fn auchk_repairs_unless_it_may_only_read() {
    let bench = damaged();
    let told = bench.shell("auchk -r b0 </dev/null");
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(bench.exists("b0/.wh.f"));
    let told = bench.shell("auchk -q b0 </dev/null");
    assert_eq!(told.silently(), "");
    assert!(!bench.exists("b0/.wh.f") && bench.exists("b0/f"));
    bench.shell("auchk").refused(2, &["no branch", "usage"]);
    bench.shell("auchk -Z b0").refused(2, &["-Z", "usage"]);
    bench
        .shell("auchk missing")
        .refused(2, &["missing", "no such file"]);
}

#[test]
fn a_branch_is_merged_into_the_one_below_with_all_that_files_have() {
    let bench = Bench::new();
    bench.write("b0/d/f", "upper");
    bench.write("b0/d/g", "twice");
    fs::hard_link(bench.path("b0/d/g"), bench.path("b0/h")).unwrap();
    symlink("nowhere", bench.path("b0/l")).unwrap();
    fs::set_permissions(bench.path("b0/d/f"), PermissionsExt::from_mode(0o4751)).unwrap();
    bench
        .shell("mkfifo b0/p; truncate -s 8M b0/sparse; touch -d 2001-02-03 b0/d/f b0/d")
        .silently();
    bench.write("b0/.wh.gone", "");
    bench.write("b0/o/.wh..wh..opq", "");
    bench.write("b0/.wh..wh.plnk/1.2", "");
    for name in ["gone", "d/f", "o/hidden", "kept"] {
        bench.write(&format!("b1/{name}"), "lower");
    }
    let dry = bench
        .plywood(&["merge-down", "--move", "-n", "b0", "b1"])
        .silently();
    for line in [
        "put d/f\n",
        "delete gone\n",
        "make directory o\n",
        "remove above h\n",
    ] {
        assert!(dry.contains(line), "{line}: {dry}");
    }
    assert!(bench.exists("b1/gone") && bench.read("b1/d/f") == "lower");
    let told = bench.plywood(&["merge-down", "b0", "b1"]).silently();
    assert_eq!(told.lines().count(), 1, "{told}");
    let metadata = |name: &str| bench.path(name).symlink_metadata().unwrap();
    for (round, file) in [("a copy", "b1/d/g"), ("the file itself", "b1/d/g")] {
        assert_eq!(bench.read("b1/d/f"), "upper", "{round}");
        assert_eq!(metadata("b1/d/f").mode() & 0o7777, 0o4751);
        assert_eq!(metadata("b1/d/f").mtime(), 981_158_400 + offset(&bench));
        assert_eq!(metadata("b1/d").mtime(), metadata("b1/d/f").mtime());
        assert_eq!(metadata(file).ino(), metadata("b1/h").ino());
        assert_eq!(metadata("b1/sparse").len(), 8 << 20);
        assert!(metadata("b1/sparse").blocks() < 100);
        assert_eq!(
            names(&bench.path("b1")),
            ["d", "h", "kept", "l", "o", "p", "sparse"]
        );
        assert!(names(&bench.path("b1/o")).is_empty());
        if round == "a copy" {
            assert_ne!(metadata("b0/d/g").ino(), metadata(file).ino());
            bench
                .plywood(&["merge-down", "--move", "b0", "b1"])
                .silently();
            assert_eq!(names(&bench.path("b0")), [".wh..wh.plnk"]);
            assert!(names(&bench.path("b0/.wh..wh.plnk")).is_empty());
        }
    }
}

/// Returns how many seconds local time is behind UTC.
fn offset(bench: &Bench) -> i64 {
    let zone = bench.shell("date -d 2001-02-03 +%s").silently();
    zone.trim().parse::<i64>().unwrap() - 981_158_400
}

#[test]
fn a_deletion_stays_a_whiteout_where_a_branch_below_has_the_name() {
    let bench = Bench::new();
    for name in [".wh.a", ".wh.b"] {
        bench.write(&format!("b0/{name}"), "");
    }
    bench.write("b1/a", "");
    bench.write("b1/b", "");
    bench.write("b2/a", "");
    bench
        .plywood(&["merge-down", "--move", "--below", "b2", "b0", "b1"])
        .silently();
    assert_eq!(names(&bench.path("b1")), [".wh.a"]);
    assert!(names(&bench.path("b0")).is_empty());
    bench
        .plywood(&["merge-down", "--move-with-whiteouts", "b1", "b2"])
        .silently();
    assert_eq!(names(&bench.path("b2")), [".wh.a"]);
}

#[test]
fn branches_that_cannot_be_merged_are_refused_in_one_line() {
    let bench = Bench::new();
    bench.write("b0/in/f", "");
    for (words, expected) in [
        (&["b0", "b0"][..], &["lies in branch"][..]),
        (&["b0/in", "b0"], &["lies in branch"]),
        (&["b0", "missing"], &["missing", "no such file"]),
        (&["b0", "b1", "--below", "b1"], &["lies in branch"]),
    ] {
        let words = [&["merge-down"], words].concat();
        bench.plywood(&words).refused(2, expected);
    }
    let record = format!("adr\x01{}\x02\x01{}c", "\0".repeat(11), "\0".repeat(7));
    bench.write("b0/d/.wh..wh..dr.3_0701_2", &record);
    let refused = bench.plywood(&["merge-down", "b0", "b1"]);
    refused.refused(2, &["b0\": d: ", "it was renamed", "--below"]);
    bench.shell("rm -r b0/d; mkdir b0/.wh.x");
    bench
        .plywood(&["merge-down", "b0", "b1"])
        .refused(2, &["plywood check --repair"]);
}

#[test]
fn a_pool_is_named_by_two_writable_branches_at_least() {
    let bench = Bench::new();
    bench.write("b0/f", "x");
    bench
        .plywood(&["balance", "b0"])
        .refused(2, &["two writable branches"]);
    bench
        .plywood(&["balance", "b0:b1=ro"])
        .refused(2, &["two writable branches"]);
    bench
        .plywood(&["balance", "b0:b0"])
        .refused(2, &["lies in branch"]);
    bench
        .plywood(&["balance", "b0:missing"])
        .refused(2, &["missing"]);
    // One disk is as full as itself.
    let told = bench.plywood(&["balance", "b0:b1"]).silently();
    assert_eq!(told, "0 files of 0 KiB moved\n");
}

#[test]
fn directories_in_each_other_are_followed_as_deep_as_paths_lead() {
    let bench = Bench::new();
    let half = "d/".repeat(1500);
    bench.shell(&format!("mkdir -p b0/{half}")).silently();
    let told = bench
        .plywood(&["merge-down", "--move", "b0", "b1"])
        .silently();
    assert!(told.starts_with("1500 put"), "{told}");
    bench.plywood(&["check", "--below", "b2", "b1"]).silently();
    bench.shell("rm -r b1").silently();
    bench.guard.make_dir("b1");
    let deeper = format!("mkdir -p b0/{half} && cd -P b0/{half} && mkdir -p {half}");
    bench.shell(&deeper).silently();
    let refused = bench.plywood(&["merge-down", "--move", "b0", "b1"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.ends_with("file name too long\n"));
    bench.shell("rm -r b0 b1").silently();
}
