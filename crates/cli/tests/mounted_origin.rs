//! Attributes that say which branch serves a file.

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use support::{Bench, NOBODY};
use testkit::require_root_and_fuse;

/// Returns the value of an attribute, NUL bytes as blanks, or the complaint.
fn value(bench: &Bench, name: &str, file: &str) -> String {
    let line = format!(
        "getfattr -h --absolute-names --only-values -n {name} '{file}' 2>&1 | tr '\\0' ' '"
    );
    bench.shell(&line).silently()
}

#[test]
fn every_object_says_which_branch_serves_it() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.write("b1/d/f", "lower");
    bench.write("b2/d/f", "lowest");
    bench.write("b2/d/only", "x");
    symlink("f", bench.path("b1/d/link")).unwrap();
    bench.plywood(&["mount", "b0:b1:b2", "m"]).silently();
    let here = bench.guard.path().display().to_string();
    let told = |name: &str, file: &str| value(&bench, name, file).replace(&here, "@");
    for (name, file, expected) in [
        ("user.plywood.branch", "m/d/f", "@/b1"),
        ("user.plywood.branch_index", "m/d/f", "1"),
        ("user.plywood.fullpath", "m/d/f", "@/b1/d/f"),
        ("user.plywood.allpaths", "m/d/f", "@/b1/d/f @/b2/d/f"),
        ("user.plywood.branch", "m/d/only", "@/b2"),
        ("user.plywood.branch", "m/d", "@/b1"),
        ("user.plywood.allpaths", "m/d", "@/b1/d @/b2/d"),
        ("user.plywood.fullpath", "m", "@/b0"),
        ("trusted.plywood.fullpath", "m/d/link", "@/b1/d/link"),
    ] {
        assert_eq!(told(name, file), expected, "{name} of {file}");
    }
    for (name, file) in [
        ("user.plywood.branch", "m/d/link"),
        ("user.plywood.what", "m/d/f"),
    ] {
        assert!(told(name, file).contains("No such attribute"), "{name}");
    }
    fs::write(bench.path("m/d/f"), "new").unwrap();
    assert_eq!(told("user.plywood.branch_index", "m/d/f"), "0");
    assert_eq!(
        told("user.plywood.allpaths", "m/d/f"),
        "@/b0/d/f @/b1/d/f @/b2/d/f"
    );
    let open = fs::File::open(bench.path("m/d/only")).unwrap();
    fs::rename(bench.path("m/d/only"), bench.path("m/moved")).unwrap();
    assert_eq!(told("user.plywood.fullpath", "m/moved"), "@/b0/moved");
    drop(open);
    bench.plywood(&["umount", "m"]).silently();
}

#[test]
fn nobody_sets_lists_or_copies_what_says_where_a_file_is() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.write("b0/f", "x");
    bench.write("b1/g", "x");
    // What a branch has under these names stays its own.
    bench
        .shell("setfattr -n user.plywood.branch -v lie b0/f && setfattr -n user.k -v v b0/f")
        .silently();
    bench.plywood(&["mount", "b0:b1", "m"]).silently();
    let here = bench.guard.path().display().to_string();
    assert_eq!(
        value(&bench, "user.plywood.branch", "m/f"),
        format!("{here}/b0")
    );
    for line in [
        "setfattr -n user.plywood.branch -v x m/f",
        "setfattr -x user.plywood.branch m/f",
        "setfattr -n user.plywood.new -v x m/g",
        "setfattr -n trusted.plywood.branch -v x m/g",
    ] {
        bench.shell(line).refused(1, &["not permitted"]);
    }
    assert!(!bench.exists("b0/g"));
    let listed = bench.shell("getfattr -d -m - m/f m/g").silently();
    assert!(
        listed.contains("user.k=\"v\"") && !listed.contains("plywood"),
        "{listed}"
    );
    bench
        .shell("cp -a m/f copy && ! getfattr -n user.plywood.branch copy 2>/dev/null")
        .silently();
    let user = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups");
    bench.bin();
    let told = bench.shell(&format!(
        "{user} getfattr --only-values -n user.plywood.branch_index m/g; \
         ! {user} getfattr -n trusted.plywood.branch m/g 2>/dev/null"
    ));
    assert_eq!(told.silently(), "1");
    bench.plywood(&["umount", "m"]).silently();
}
