//! What cannot be mounted is refused with one line and mount(8)'s exit code, and leaves nothing.

mod support;

use std::os::unix::fs::symlink;

use support::{Bench, NOBODY, names};
use testkit::{require_root, require_root_and_fuse};

/// Command line behind `plywood mount`, exit code, words of the complaint.
type Row = (&'static [&'static str], i32, &'static [&'static str]);

const TABLE: &[Row] = &[
    (
        &["-o", "br=b0:b1,bogus", "none", "m"],
        32,
        &["unknown option \"bogus\""],
    ),
    (
        &["-o", "br=b0:b1,udab=none", "none", "m"],
        32,
        &["did you mean \"udba\""],
    ),
    (
        &["-o", "br=b0,udba=maybe", "none", "m"],
        32,
        &["udba=maybe"],
    ),
    (
        &["b0:b1:gone", "m"],
        32,
        &["branch 2", "\"gone\"", "no such file", "make the directory"],
    ),
    (&["b0:file", "m"], 32, &["branch 1", "neither a directory"]),
    (
        &["b0:./b0", "m"],
        32,
        &["branch 1", "same directory as branch 0"],
    ),
    (
        &["b0:link", "m"],
        32,
        &["branch 1", "same directory as branch 0"],
    ),
    (&["b0:b0/inner", "m"], 32, &["branch 1", "inside branch 0"]),
    (
        &["b0/inner:b1:b0", "m"],
        32,
        &["branch 0", "inside branch 2"],
    ),
    (
        &["b0:m/in", "m"],
        32,
        &["branch 1", "inside the mount point"],
    ),
    (&["b0:b1", "b1/point"], 32, &["branch 1", "lies inside it"]),
    (&["none", "m"], 32, &["no branch", "br="]),
    (&["b0:/proc/self", "m"], 32, &["branch 1", "proc"]),
    (&["b0:b1", "gone"], 32, &["mount point", "no such file"]),
    (&["b0:b1", "file"], 32, &["mount point", "not a directory"]),
    (
        &["-o", "lowerdir=b1,upperdir=b0,workdir=gone", "m"],
        32,
        &["workdir", "gone"],
    ),
    (&["-o", "upperdir=b0,workdir=b2", "m"], 32, &["lowerdir="]),
    (
        &["-o", "lowerdir=b1,br=b0", "m"],
        32,
        &["use one of the two"],
    ),
    (&["-o", "br=b0,add:2:b1", "m"], 32, &["add:2"]),
    (
        &["-o", "br=b0:b1,category.create=ff", "m"],
        32,
        &["policy of mergerfs", "tdmfs"],
    ),
    (
        &["-o", "br=b0:b1,create=pmfsrr", "m"],
        32,
        &["pmfsrr:BYTES"],
    ),
    (
        &["-o", "br=b0:b1,xino=file", "m"],
        32,
        &["xino=", "the file exists"],
    ),
    (
        &["-o", "br=b0:b1,xino=m/table", "m"],
        32,
        &["inside the mount point"],
    ),
    (
        &["-o", "br=b0:b1,xino=gone/table", "m"],
        32,
        &["xino=", "no such file"],
    ),
    (
        &["-o", "br=b0:b1,trunc_xino=b2", "m"],
        32,
        &["trunc_xino=", "no such branch"],
    ),
    (
        &["-o", "br=b0:b1,itrunc_xino=2", "m"],
        32,
        &["there are 2 branches"],
    ),
    (
        &["-o", "remount,add:1:b2", "m"],
        32,
        &["\"m\"", "not mounted"],
    ),
    (&["-o", "remount,ro", "m"], 32, &["not mounted"]),
];

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("b0/inner/f", "x");
    bench.write("m/in/f", "x");
    bench.write("b1/point/f", "x");
    bench.write("file", "x");
    symlink("b0", bench.path("link")).unwrap();
    bench
}

#[test]
fn bad_input_gets_one_line_and_leaves_nothing() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = bench();
    for (words, code, complaint) in TABLE {
        let words = [&["mount"], *words].concat();
        bench.plywood(&words).refused(*code, complaint);
        assert!(!bench.is_mounted(), "{words:?}");
        assert_eq!(names(&bench.path("b0")), ["inner"], "{words:?}");
    }
}

#[test]
fn a_wrong_command_line_is_told_apart() {
    let bench = bench();
    assert_eq!(bench.plywood(&["mount"]).code, Some(2));
    assert_eq!(bench.plywood(&["mount", "--what", "m"]).code, Some(2));
    assert_eq!(bench.plywood(&["no-such-verb"]).code, Some(2));
    for line in [
        "mount.aufs",
        "mount.aufs none",
        "mount.aufs none m -Z",
        "mount.aufs none m -o",
        "umount.aufs",
        "fuse-overlayfs",
        "fuse-overlayfs --what m",
    ] {
        bench.shell(line).refused(1, &["usage"]);
    }
}

#[test]
fn a_mount_point_that_is_a_union_already_is_refused() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = bench();
    bench.plywood(&["mount", "b0:b2", "m"]).silently();
    let again = bench.plywood(&["mount", "b1:b2", "m"]);
    again.refused(32, &["already a mount"]);
    bench.plywood(&["umount", "m"]).silently();
    bench
        .plywood(&["umount", "m"])
        .refused(32, &["not mounted"]);
    assert!(!bench.is_mounted());
}

#[test]
fn a_writable_branch_on_a_read_only_filesystem_is_refused() {
    if !require_root() {
        return;
    }
    let bench = bench();
    // In a mount namespace of its own, so that nothing is left of it.
    let line = "mount -t tmpfs -o ro none b2 && plywood mount b2:b1 m";
    let refused = bench.shell(&format!("unshare -m sh -c '{line}'"));
    refused.refused(32, &["branch 0", "read-only", "=ro"]);
}

#[test]
fn a_missing_or_forbidden_device_is_told() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = bench();
    let hidden = "mount -t tmpfs none /dev && plywood mount b0:b1 m";
    let missing = bench.shell(&format!("unshare -m sh -c '{hidden}'"));
    missing.refused(2, &["/dev/fuse", "modprobe fuse"]);

    let closed = format!(
        "mount -t tmpfs none /dev && mknod -m 600 /dev/fuse c 10 229 && \
         setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups plywood mount b0:b1 m"
    );
    let forbidden = bench.shell(&format!("unshare -m sh -c '{closed}'"));
    forbidden.refused(1, &["/dev/fuse", "permission denied"]);
}

#[test]
fn a_user_is_told_what_is_not_allowed() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = bench();
    bench.bin();
    let user = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups");
    // Neither the branch nor the mount point is the user's.
    let refused = bench.shell(&format!("{user} plywood mount b0=ro:b1 m"));
    refused.refused(1, &["cannot mount", "no write access"]);
    let refused = bench.shell(&format!("{user} plywood mount b0:b1 m"));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    bench.give_to(NOBODY);
    let refused = bench.shell(&format!("{user} plywood mount -o allow_root b0:b1 m"));
    assert!(
        refused.code == Some(1) || refused.code == Some(32),
        "{refused:?}"
    );
    assert!(!bench.is_mounted());
}

#[test]
fn something_in_the_way_of_the_formats_own_names_is_told() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = bench();
    std::fs::create_dir(bench.path("b0/.wh..wh.aufs")).unwrap();
    let refused = bench.plywood(&["mount", "b0:b1", "m"]);
    refused.refused(32, &["branch 0", "damaged"]);
    assert!(!bench.is_mounted());
}
