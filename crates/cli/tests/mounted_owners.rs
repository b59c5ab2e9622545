//! Owners that are not those of the inodes: in an attribute, or one for all.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::process::{Command, Output, Stdio};

use support::{Bench, NOBODY, wait_until};
use testkit::require_root_and_fuse;

/// Runs a script as root of a user namespace that an ordinary user made, with more users in it than one.
#[track_caller]
fn in_user_namespace(bench: &Bench, script: &str) -> String {
    let path = format!(
        "{}:{}",
        bench.bin().display(),
        std::env::var("PATH").unwrap()
    );
    bench.give_to(NOBODY);
    // The second shell becomes root of the namespace: the first one was nobody's when it started.
    let wait = "read go && exec sh -ec \"$SCRIPT\"";
    let user = NOBODY.to_string();
    let mut child = Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .args(["unshare", "-U", "--mount", "sh", "-c", wait])
        .current_dir(bench.guard.path())
        .env("PATH", path)
        .env("SCRIPT", script)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let of = |pid: &str, what: &str| format!("/proc/{pid}/{what}");
    let pid = child.id().to_string();
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    wait_until("the namespace is there", || {
        fs::read_link(of(&pid, "ns/user")).is_ok_and(|theirs| theirs != own)
            && fs::read_to_string(of(&pid, "comm")).is_ok_and(|comm| comm == "sh\n")
    });
    for map in ["gid_map", "uid_map"] {
        fs::write(of(&pid, map), format!("0 {NOBODY} 1\n1 100000 1000\n")).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&stderr);
    assert!(status.success() && err.is_empty(), "{status}: {err}");
    String::from_utf8_lossy(&stdout).into_owned()
}

#[track_caller]
fn override_stat(bench: &Bench, path: &str) -> String {
    let name = "user.containers.override_stat";
    let words = ["--only-values", "-n", name, path];
    bench.run("getfattr", &words).silently()
}

#[test]
fn owners_and_permissions_live_in_an_attribute() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.write("b1/low", "lower");
    fs::set_permissions(bench.path("b1/low"), fs::Permissions::from_mode(0o640)).unwrap();
    let mount = "fuse-overlayfs -o lowerdir=b1,upperdir=b0,workdir=b2,xattr_permissions=2 m";
    let told = in_user_namespace(
        &bench,
        &format!(
            "umask 027; {mount}; cd m
            echo x > f; mkdir d; mkfifo p; ln -s f s; echo more >> low
            chown 5:6 f; chmod 4751 f; chown 9:10 d; chmod 2770 d; chown 7:8 low; chown 3:4 p
            chown -h 5:6 s
            setpriv --reuid 9 --regid 11 --clear-groups sh -c 'mkdir d/sub && echo y > d/sub/g'
            setpriv --reuid 7 --regid 8 --clear-groups sh -c 'echo no 2>/dev/null >> f || cat low'
            find . -type p; ln f g
            cd ..; umount m
            {mount}; cd m
            stat -c '%n %F %u:%g %a' d f low p s; stat -c '%n %u:%g %a' d/sub d/sub/g g
            getfattr -d f; cd ..; umount m"
        ),
    );
    let expected = "\
lowermore
./p
d directory 9:10 2770
f regular file 5:6 4751
low regular file 7:8 640
p fifo 3:4 640
s symbolic link 0:0 777
d/sub 9:10 2750
d/sub/g 9:10 640
g 5:6 4751
";
    assert_eq!(told, expected);
    for (path, value) in [
        ("b0/f", "5:6:4751"),
        ("b0/d", "9:10:2770"),
        ("b0/low", "7:8:0640"),
        ("b0/p", "3:4:0640:pipe"),
        ("b0/d/sub/g", "9:10:0640"),
    ] {
        assert_eq!(override_stat(&bench, path), value, "{path}");
        let stored = bench.path(path).symlink_metadata().unwrap();
        let (uid, mode) = (stored.uid(), stored.mode() & 0o7777);
        assert_eq!((uid, mode), (NOBODY, 0o755), "{path}");
    }
    assert_eq!(override_stat(&bench, "b0"), "0:0:0755");
    assert_eq!(bench.read("b1/low"), "lower");
}

#[test]
fn a_device_and_a_whiteout_are_told_apart_where_owners_live_in_an_attribute() {
    if !require_root_and_fuse() {
        return;
    }
    for (option, device) in [("2", "0:0:0644:char-5-1"), ("1", "")] {
        let bench = Bench::new();
        bench.write("b1/low", "lower");
        let mount = format!(
            "fuse-overlayfs -o lowerdir=b1,upperdir=b0,workdir=b2,xattr_permissions={option} m"
        );
        bench.shell(&mount).silently();
        bench
            .shell("mknod m/c c 5 1; rm m/low; ln -s c m/s; chown -h 5:6 m/s")
            .silently();
        bench.shell("umount m").silently();
        bench.shell(&mount).silently();
        let told = bench
            .shell("stat -c '%F %t,%T' m/c; ls -A m; stat -c %u:%g m/s")
            .silently();
        let link = if device.is_empty() { "5:6" } else { "0:0" };
        assert_eq!(told, format!("character special file 5,1\nc\ns\n{link}\n"));
        let gone = bench.path("b0/low").symlink_metadata().unwrap();
        assert_eq!((gone.rdev(), gone.mode() & 0o170_000), (0, 0o020_000));
        if device.is_empty() {
            let words = [
                "--only-values",
                "-n",
                "security.fuseoverlayfs.override_stat",
            ];
            let value = bench.run("getfattr", &[&words[..], &["b0/c"]].concat());
            assert_eq!(value.silently(), "0:0:0644");
        } else {
            assert_eq!(override_stat(&bench, "b0/c"), device);
        }
        bench.shell("umount m").silently();
    }
}

#[test]
fn a_branch_that_keeps_no_attribute_is_refused() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    let told = in_user_namespace(
        &bench,
        "fuse-overlayfs -o lowerdir=b1,upperdir=b0,workdir=b2,xattr_permissions=1 m 2>&1 || true",
    );
    assert!(
        told.contains("branch 0") && told.contains("xattr_permissions=2"),
        "{told}"
    );
    assert_eq!(told.matches('\n').count(), 1, "{told}");
}

#[test]
fn what_is_made_belongs_to_the_squashed_owner_on_disk() {
    if !require_root_and_fuse() {
        return;
    }
    for (option, uid, gid) in [
        ("squash_to_uid=5,squash_to_gid=6", 5, 6),
        ("squash_to_root", 0, 0),
        ("squash_to_uid=7", 7, NOBODY),
    ] {
        let bench = Bench::new();
        bench.write("b1/low", "lower");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(bench.path("b0"), open).unwrap();
        // Nobody must get there.
        bench.bin();
        bench
            .plywood(&["mount", "-o", option, "b0:b1", "m"])
            .silently();
        let user = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups");
        let script = "echo x > m/f; mkdir m/d; ln -s f m/s; mkfifo m/p";
        bench.shell(&format!("{user} sh -c '{script}'")).silently();
        for name in ["f", "d", "s", "p"] {
            for place in ["b0", "m"] {
                let path = format!("{place}/{name}");
                let attr = bench.path(&path).symlink_metadata().unwrap();
                assert_eq!((attr.uid(), attr.gid()), (uid, gid), "{option}: {path}");
            }
        }
        // A change of owner is one to the squashed owner, too.
        lchown(bench.path("m/f"), Some(1000), None).unwrap();
        assert_eq!(
            bench.path("b0/f").metadata().unwrap().uid(),
            uid,
            "{option}"
        );
        bench.plywood(&["umount", "m"]).silently();
    }
}

#[test]
fn a_server_that_may_not_act_for_the_squashed_owner_makes_its_own() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.bin();
    bench.give_to(NOBODY);
    let user =
        format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env -u XDG_RUNTIME_DIR");
    let option = "squash_to_root,squash_to_gid=9";
    let script = format!(
        "plywood mount -o {option} b0:b1 m && echo x > m/f && mkdir m/d && stat -c %u:%g m/f m/d"
    );
    // Root of everything is shown, so that only bits for others let the user in.
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(bench.path("b0"), open).unwrap();
    let told = bench.shell(&format!("{user} sh -c '{script}'")).silently();
    assert_eq!(told, "0:9\n0:9\n");
    for name in ["b0/f", "b0/d"] {
        let attr = bench.path(name).metadata().unwrap();
        assert_eq!((attr.uid(), attr.gid()), (NOBODY, NOBODY), "{name}");
    }
    bench.shell(&format!("{user} plywood umount m")).silently();
}
