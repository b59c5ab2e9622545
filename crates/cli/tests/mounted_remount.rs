//! Changing a mount to read-only and back.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};

use support::{Bench, NOBODY};
use testkit::require_root_and_fuse;

#[track_caller]
fn writes(bench: &Bench) -> Result<(), i32> {
    let written = fs::write(bench.path("m/f"), "x");
    written.map_err(|error| error.raw_os_error().unwrap())
}

const READ_ONLY: Result<(), i32> = Err(30);

#[test]
fn a_mount_becomes_writable_and_read_only_again() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    let remount = |how: &str| bench.plywood(&["mount", "-o", &format!("remount,{how}"), "m"]);
    bench
        .plywood(&["mount", "-o", "ro", "b0=rw:b1", "m"])
        .silently();
    assert_eq!(writes(&bench), READ_ONLY);
    for _ in 0..2 {
        remount("rw,nodev").silently();
        assert_eq!(writes(&bench), Ok(()));
        let line = bench.mount_line().unwrap();
        let super_options = line.split_whitespace().last().unwrap();
        assert!(
            line.contains(" rw,nodev") && super_options.starts_with("rw,"),
            "{line}"
        );

        let open = File::create(bench.path("m/open")).unwrap();
        remount("ro").refused(32, &["open for writing"]);
        assert_eq!(writes(&bench), Ok(()));
        drop(open);
        remount("ro").silently();
        assert_eq!(writes(&bench), READ_ONLY);
        let line = bench.mount_line().unwrap();
        let super_options = line.split_whitespace().last().unwrap();
        assert!(
            !line.contains("nodev") && super_options.starts_with("ro,"),
            "{line}"
        );
    }
    bench.plywood(&["umount", "m"]).silently();
    assert_eq!(bench.read("b0/f"), "x");
}

#[test]
fn a_user_namespace_remounts_what_it_has_mounted() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    let path = format!("{}:/bin:/usr/bin", bench.bin().display());
    bench.give_to(NOBODY);
    let script = "plywood mount -o ro b0=rw:b1 m; echo x 2>/dev/null > m/f || echo ro; \
        plywood mount -o remount,rw m; echo y > m/f; \
        plywood mount -o remount,ro m; echo z 2>/dev/null > m/f || echo ro; plywood umount m";
    let user =
        format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env -u XDG_RUNTIME_DIR");
    // Redirections that fail are told by the shell itself.
    let line = format!("{user} unshare -Ur --mount sh -c 'PATH={path}; exec 2>&1; {script}'");
    let told = bench.shell(&line).silently();
    assert_eq!(told.matches("ro\n").count(), 2, "{told}");
    assert_eq!(bench.read("b0/f"), "y\n");
}

#[test]
fn a_mount_of_the_helper_is_remounted_by_root_only() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.bin();
    bench.give_to(NOBODY);
    let user =
        format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env -u XDG_RUNTIME_DIR");
    bench
        .shell(&format!("{user} plywood mount -o ro b0=rw:b1 m"))
        .silently();
    let words = "plywood mount -o remount,rw m";
    bench
        .shell(&format!("{user} {words}"))
        .refused(1, &["not permitted"]);
    bench.shell(words).silently();
    bench
        .shell(&format!("{user} sh -c 'echo x > m/f && plywood umount m'"))
        .silently();
    assert_eq!(bench.read("b0/f"), "x\n");
}

#[test]
fn who_writes_to_a_file_that_others_read_never_reaches_a_branch_that_is_read_only() {
    if !require_root_and_fuse() {
        return;
    }
    type Change = &'static [&'static str];
    let cases: [(&str, Change); 3] = [
        ("b0=rw:b1=rw", &["branch", "set", "m", "b1=ro"]),
        ("b0=rw:b1=rw", &["branch", "set", "m", "b1=ro+coo_reg"]),
        ("b1=ro", &["branch", "add", "--at", "0", "m", "b0=rw"]),
    ];
    for (branches, change) in cases {
        let bench = Bench::new();
        bench.write("b1/f", "old");
        bench.plywood(&["mount", branches, "m"]);
        let mut reader = File::open(bench.path("m/f")).unwrap();
        bench.plywood(change).silently();
        let another = File::open(bench.path("m/f")).unwrap();
        let appending = File::options().append(true).open(bench.path("m/f"));
        appending.unwrap().write_all(b" new").unwrap();
        assert_eq!(bench.read("b1/f"), "old", "{change:?}");
        assert_eq!(bench.read("b0/f"), "old new", "{change:?}");
        assert_eq!(bench.read("m/f"), "old new", "{change:?}");
        let mut seen = String::new();
        reader.read_to_string(&mut seen).unwrap();
        assert!(seen.starts_with("old"), "{seen:?}");
        drop((reader, another));
        bench.plywood(&["umount", "m"]).silently();
    }
}
