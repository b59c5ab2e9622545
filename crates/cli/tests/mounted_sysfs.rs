//! What scripts find of a union: its line in the mount table, and a tree of the shape of AUFS's in /sys.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use support::{Bench, NOBODY, names, runs, wait_until};
use testkit::require_root_and_fuse;

/// Returns what the union's server shows, by the number that `status` tells.
#[track_caller]
fn shown(bench: &Bench) -> PathBuf {
    let told = bench.plywood(&["status", "--json", "m"]).silently();
    let si = told.split_once("\"si\": \"").unwrap().1;
    let si = si.split_once('"').unwrap().0;
    assert!(
        si.len() == 16 && si.bytes().all(|b| b.is_ascii_hexdigit()),
        "{si}"
    );
    Path::new("/run/aufs").join(format!("si_{si}"))
}

#[test]
fn a_union_shows_its_branches_as_in_sysfs_until_it_is_unmounted() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.write("b 3/f", "x");
    bench
        .shell("mount.aufs aufs m -o 'br=b0=rw:b1=ro+wh:b 3=rr'")
        .silently();
    let dir = shown(&bench);
    let files = [
        "br0", "br1", "br2", "brid0", "brid1", "brid2", "dev", "xi_path",
    ];
    assert_eq!(names(&dir), files);
    let here = bench.guard.path().display();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read("br0"), format!("{here}/b0=rw\n"));
    assert_eq!(read("br1"), format!("{here}/b1=ro+wh\n"));
    assert_eq!(read("br2"), format!("{here}/b\\0403=rr\n"));
    assert_eq!(read("xi_path"), "");
    let line = bench.mount_line().unwrap();
    let device = line.split(' ').nth(2).unwrap();
    assert_eq!(read("dev"), format!("{device}\n"));
    for name in names(&dir) {
        let mode = dir.join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o444);
    }
    bench.plywood(&["umount", "m"]).silently();
    assert!(!dir.exists());
}

#[test]
fn the_files_follow_the_branches_and_numbers_stay_with_them() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.plywood(&["mount", "b0:b1", "m"]).silently();
    let dir = shown(&bench);
    let here = bench.guard.path().display().to_string();
    let read = |name: &str| {
        fs::read_to_string(dir.join(name))
            .unwrap()
            .replace(&here, "@")
    };
    let stack = || {
        let found = names(&dir).into_iter();
        let files = found.filter(|name| name.starts_with("br") && !name.starts_with("brid"));
        let lines: Vec<_> = files.map(|name| read(&name)).collect();
        lines.concat()
    };
    let numbers = [read("brid0"), read("brid1")];
    for (change, expected) in [
        ("add m b2=ro --bottom", "@/b0=rw\n@/b1=ro\n@/b2=ro\n"),
        ("set m b2=rr", "@/b0=rw\n@/b1=ro\n@/b2=rr\n"),
        ("move m b2 0", "@/b2=rr\n@/b0=rw\n@/b1=ro\n"),
    ] {
        bench.shell(&format!("plywood branch {change}")).silently();
        assert_eq!(stack(), expected, "{change}");
        assert_eq!(names(&dir).len(), 8, "{change}");
    }
    assert_eq!([read("brid1"), read("brid2")], numbers);
    let told = bench.plywood(&["branch", "list", "--format", "aufs-sysfs", "m"]);
    let expected = "br0 @/b2=rr\nbr1 @/b0=rw\nbr2 @/b1=ro\n";
    assert_eq!(told.silently().replace(&here, "@"), expected);
    bench
        .shell("mount.aufs none m -o remount,del:b2")
        .silently();
    assert_eq!(stack(), "@/b0=rw\n@/b1=ro\n");
    assert_eq!([read("brid0"), read("brid1")], numbers);
    bench.plywood(&["umount", "m"]).silently();
    assert!(!dir.exists());
}

#[test]
fn what_a_killed_server_showed_goes_with_the_next_command() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.plywood(&["mount", "b0:b1", "m"]).silently();
    let (dir, server) = (shown(&bench), bench.server());
    assert!(dir.exists());
    bench.run("kill", &["-9", &server.to_string()]).silently();
    wait_until("the server ends", || !runs(server));
    bench.plywood(&["umount", "--stale", "m"]).silently();
    bench.plywood(&["status"]).silently();
    assert!(!dir.exists());
}

#[test]
fn a_users_tree_is_beside_what_his_servers_tell() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.bin();
    fs::create_dir(bench.path("xdg")).unwrap();
    bench.give_to(NOBODY);
    bench
        .run("chown", &[&format!("{NOBODY}"), "xdg"])
        .silently();
    let user = format!(
        "setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env XDG_RUNTIME_DIR=$PWD/xdg"
    );
    bench
        .shell(&format!("{user} plywood mount b0:b1 m"))
        .silently();
    let shown = names(&bench.path("xdg/aufs"));
    assert_eq!(shown.len(), 1, "{shown:?}");
    let dir = bench.path("xdg/aufs").join(&shown[0]);
    assert_eq!(dir.metadata().unwrap().uid(), NOBODY);
    let top = fs::read_to_string(dir.join("br0")).unwrap();
    assert_eq!(top, format!("{}=rw\n", bench.path("b0").display()));
    bench.shell(&format!("{user} plywood umount m")).silently();
    assert_eq!(names(&bench.path("xdg/aufs")), [""; 0]);
}

#[test]
fn the_mount_table_names_source_and_type_as_they_were_asked_for() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    for (line, source, fstype) in [
        ("mount.aufs unionfs m -o br=b0:b1", "unionfs", "fuse.aufs"),
        ("mount.aufs none m -o br=b0:b1", "none", "fuse.aufs"),
        (
            "mount.aufs none m -o br=b0:b1,fsname=aufs",
            "aufs",
            "fuse.aufs",
        ),
        ("plywood mount b0:b1 m", "plywood", "fuse.plywood"),
    ] {
        bench.shell(line).silently();
        let shown = bench.mount_line().unwrap();
        assert!(
            shown.contains(&format!(" - {fstype} {source} rw,")),
            "{line}: {shown}"
        );
        bench.plywood(&["umount", "m"]).silently();
    }
}
