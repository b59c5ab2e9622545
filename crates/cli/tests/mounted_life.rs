//! Mounting, looking, unmounting, by every name and for every kind of user.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::{Bench, NOBODY, PLYWOOD, names, runs, wait_until};
use testkit::require_root_and_fuse;

fn bench() -> Option<Bench> {
    if !require_root_and_fuse() {
        return None;
    }
    let bench = Bench::new();
    bench.write("b1/d/one", "1");
    bench.write("b2/d/two", "2");
    bench.write("b2/d/one", "hidden");
    Some(bench)
}

/// Writes through the union and checks where it went.
#[track_caller]
fn use_and_unmount(bench: &Bench) {
    assert_eq!(bench.read("m/d/two"), "2");
    bench.write("m/d/new", "n");
    fs::remove_file(bench.path("m/d/two")).unwrap();
    assert_eq!(names(&bench.path("m/d")), ["new", "one"]);
    assert_eq!(bench.read("b0/d/new"), "n");
    let server = bench.server();
    bench.plywood(&["umount", "m"]).silently();
    assert!(!bench.is_mounted());
    assert!(!runs(server), "the server outlives the unmount");
    fs::remove_dir_all(bench.path("b0")).unwrap();
    bench.guard.make_dir("b0");
}

#[test]
fn each_way_of_naming_branches_works() {
    let Some(bench) = bench() else { return };
    for words in [
        &["-o", "br:./b0:./b1:./b2", "none", "m"][..],
        &["-o", "br=b0=rw:b1=ro:b2=rr", "none", "m"],
        &["-o", "dirs=b0:b1:b2", "none", "./m"],
        &["b0=rw:b1:b2=ro+wh", "m"],
        &["-o", "br=b0", "-o", "append:b1,append:b2", "m"],
        &["-o", "br=b2,prepend:b0,add:1:b1,mod:b2=ro", "m"],
        &["-o", "lowerdir=b1:b2,upperdir=b0,workdir=b0", "m"],
        &[
            "-o",
            "br=b0:b1:b2,xino=/dev/shm/x,trunc_xino,dio,dirwh=3,rdcache=1,noxino,verbose,nodirren",
            "m",
        ],
        &["-o", "compat=aufs,br=b0:b1:b2,nodirperm1,udba=notify", "m"],
        &[
            "-o",
            "br=b0:b1:b2,noatime,lazytime,nofail,_netdev,x-systemd.automount,udba=none",
            "m",
        ],
    ] {
        let words = [&["mount"], words].concat();
        bench.plywood(&words).silently();
        use_and_unmount(&bench);
    }
}

#[test]
fn colons_and_commas_in_paths_are_escaped() {
    let Some(bench) = bench() else { return };
    bench.write("a:b,c=d/f", "odd");
    let option = r"br=b0:a\:b\,c\=d=ro";
    bench
        .plywood(&["mount", "-o", option, "none", "m"])
        .silently();
    assert_eq!(bench.read("m/f"), "odd");
    let which = bench.plywood(&["which", "m/f"]).silently();
    assert!(which.contains("a:b,c=d/f"), "{which}");
    bench.plywood(&["umount", "m"]).silently();
    bench.plywood(&["mount", r"b0:a\:b\,c\=d", "m"]).silently();
    assert_eq!(bench.read("m/f"), "odd");
}

#[test]
fn helpers_answer_to_their_names_and_say_nothing() {
    let Some(bench) = bench() else { return };
    for (line, fstype) in [
        ("mount.aufs none m -o br=b0:b1:b2", "fuse.aufs none"),
        (
            "mount.aufs union m -nv -o rw,br:b0:b1:b2 -t aufs 2>/dev/null",
            "fuse.aufs union",
        ),
        (
            "mount.fuse.plywood b0:b1:b2 m -s -o rw,dev,suid,what",
            "fuse.plywood plywood",
        ),
        (
            "mount.plywood x m -o br=b0:b1:b2,fsname=name -t fuse.plywood",
            "fuse.plywood name",
        ),
        (
            "fuse-overlayfs -o lowerdir=b1:b2,upperdir=b0,workdir=b0,,volatile m",
            "fuse.fuse-overlayfs fuse-overlayfs",
        ),
    ] {
        assert_eq!(bench.shell(line).silently(), "", "{line}");
        let mounted = bench.mount_line().unwrap();
        assert!(
            mounted.contains(&format!(" - {fstype} ")),
            "{line}: {mounted}"
        );
        use_and_unmount(&bench);
    }
    bench.shell("mount.aufs none m -f -o br=b0:b1").silently();
    assert!(!bench.is_mounted());
    bench
        .shell("mount.aufs none m -o br=b0:b1 && umount.aufs m")
        .silently();
    assert!(!bench.is_mounted());
    let version = bench.shell("fuse-overlayfs --version").silently();
    assert!(version.starts_with("fuse-overlayfs"), "{version}");
}

#[test]
fn mount_and_umount_of_the_system_find_the_helpers() {
    let Some(bench) = bench() else { return };
    // The directory of the helpers is replaced in a mount namespace of our own.
    let script = r#"set -e
        mkdir sbin; plywood install-helpers --prefix . >/dev/null
        mount --bind sbin "$(readlink -f /sbin)"
        mount -t aufs -o br=./b0:./b1:./b2 none ./m
        cat m/d/two; echo new > m/new
        mount -o remount,ro m
        touch m/x 2>/dev/null && echo writable
        mount -o remount,rw m
        touch m/x && rm m/x
        umount m
        echo "aufs $PWD/m aufs br:$PWD/b0=rw:$PWD/b1,nofail,_netdev 0 0" > fstab
        mount -T fstab "$PWD/m"; cat m/new; umount m
        mount -t fuse.plywood b0:b1 m; cat m/new; umount m"#;
    fs::write(bench.path("script"), script).unwrap();
    let ran = bench.shell("unshare -m sh script");
    assert_eq!(ran.silently(), "2new\nnew\n");
}

#[test]
fn generic_options_reach_the_mount() {
    let Some(bench) = bench() else { return };
    let options = "ro,nosuid,nodev,noexec,noatime";
    bench
        .plywood(&["mount", "-o", options, "b0:b1", "m"])
        .silently();
    let line = bench.mount_line().unwrap();
    for option in options.split(',') {
        assert!(line.contains(option), "{option}: {line}");
    }
    bench.plywood(&["umount", "m"]).silently();
    bench.plywood(&["mount", "b0:b1", "m"]).silently();
    let line = bench.mount_line().unwrap();
    assert!(
        line.contains("allow_other") && line.contains("default_permissions"),
        "{line}"
    );
    assert!(
        !line.contains("nosuid") && !line.contains("nodev"),
        "{line}"
    );
}

#[test]
fn without_a_writable_branch_the_union_is_read_only_with_a_warning() {
    let Some(bench) = bench() else { return };
    let ran = bench.plywood(&["mount", "b1=ro:b2=ro", "m"]);
    ran.refused(0, &["warning: first branch should be rw"]);
    let error = fs::write(bench.path("m/x"), "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(30));
    bench.plywood(&["umount", "m"]).silently();
    bench
        .plywood(&["mount", "-o", "ro", "b1:b2", "m"])
        .silently();
    bench.plywood(&["umount", "m"]).silently();
    assert!(!bench.exists("b1/.wh..wh.aufs"));
}

#[test]
fn which_tells_what_serves_and_what_is_hidden() {
    let Some(bench) = bench() else { return };
    bench.plywood(&["mount", "b0:b1:b2", "m"]).silently();
    let roles = |path: &str| -> Vec<String> {
        let told = bench.plywood(&["which", path]);
        let words = |line: &str| {
            let words: Vec<_> = line.split_whitespace().take(2).collect();
            words.join(" ")
        };
        told.out.lines().map(words).collect()
    };
    assert_eq!(roles("m"), ["serves 0", "merged 1", "merged 2"]);
    assert_eq!(roles("m/d"), ["serves 1", "merged 2"]);
    assert_eq!(roles("m/d/one"), ["serves 1", "hidden 2"]);
    fs::remove_file(bench.path("m/d/one")).unwrap();
    assert_eq!(roles("m/d/one"), ["whiteout 0", "hidden 1", "hidden 2"]);
    assert_eq!(bench.plywood(&["which", "m/d/one"]).code, Some(1));
    fs::remove_dir_all(bench.path("m/d")).unwrap();
    assert_eq!(roles("m/d/two"), ["hidden 2"]);
    assert_eq!(roles("m/d"), ["whiteout 0", "hidden 1", "hidden 2"]);
    fs::create_dir(bench.path("m/d")).unwrap();
    assert_eq!(roles("m/d"), ["serves 0", "hidden 1", "hidden 2"]);
    let json = bench.plywood(&["which", "--json", "m/d"]).silently();
    assert!(
        json.contains("\"schema\": 1") && json.contains("\"by\": \"opaque\""),
        "{json}"
    );
    bench
        .plywood(&["which", "m/nothing"])
        .refused(1, &["no branch has it"]);
    bench
        .plywood(&["which", "m/.wh.d"])
        .refused(1, &["a name of the branches"]);
    bench
        .plywood(&["which", "b0"])
        .refused(1, &["not in a mounted union"]);
}

#[test]
fn which_agrees_with_the_union_in_overlays_dialect() {
    let Some(bench) = bench() else { return };
    let option = "lowerdir=b1:b2,upperdir=b0,workdir=b0";
    bench.plywood(&["mount", "-o", option, "m"]).silently();
    fs::remove_file(bench.path("m/d/one")).unwrap();
    let told = bench.plywood(&["which", "m/d/one"]);
    assert!(told.out.starts_with("whiteout  0"), "{told:?}");
    fs::remove_dir_all(bench.path("m/d")).unwrap();
    fs::create_dir(bench.path("m/d")).unwrap();
    let told = bench.plywood(&["which", "m/d/two"]);
    assert!(told.out.contains("opaque directory"), "{told:?}");
    let told = bench.plywood(&["status", "m"]).silently();
    assert!(told.contains("overlay"), "{told}");
}

#[test]
fn status_lists_branches_and_server() {
    let Some(bench) = bench() else { return };
    bench
        .plywood(&["mount", "-o", "udba=notify,noplink", "b0:b1", "m"])
        .silently();
    let told = bench.plywood(&["status", "m"]).silently();
    for words in ["b0=rw", "b1=ro", "noplink", "notify", "process", "requests"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let all = bench.plywood(&["status"]).silently();
    assert!(
        all.contains(&told.lines().next().unwrap().to_owned()),
        "{all}"
    );
    let json = bench.plywood(&["status", "--json"]).silently();
    assert!(
        json.contains("\"schema\": 1") && json.contains("\"counters\""),
        "{json}"
    );
    bench
        .plywood(&["status", "b0"])
        .refused(1, &["not mounted"]);
}

#[test]
fn status_tells_how_requests_travel() {
    let Some(bench) = bench() else { return };
    let mount = |option: &str| {
        bench
            .plywood(&["mount", "-o", option, "b0:b1", "m"])
            .silently();
        let told = ["status", "--json"].map(|how| {
            let words: &[&str] = if how == "status" {
                &["status", "m"]
            } else {
                &["status", how]
            };
            bench.plywood(words).silently()
        });
        assert_eq!(bench.read("m/d/one"), bench.read("b1/d/one"));
        bench.plywood(&["umount", "m"]).silently();
        told
    };
    let Some([text, json]) = testkit::while_io_uring_is_offered(|| mount("udba=none")) else {
        return;
    };
    assert!(text.contains("  transport io_uring\n"), "{text}");
    assert!(json.contains("\"name\": \"io_uring\""), "{json}");
    // Offered or not.
    let [text, json] = mount("threaded=0");
    let words = "/dev/fuse (io_uring: one thread was asked for)";
    assert!(text.contains(words), "{text}");
    assert!(json.contains("\"obstacle\""), "{json}");
}

#[test]
fn a_union_may_be_mounted_over_its_own_branch() {
    let Some(bench) = bench() else { return };
    bench.write("m/own", "below");
    bench.plywood(&["mount", "b0:m", "m"]).silently();
    assert_eq!(bench.read("m/own"), "below");
    fs::write(bench.path("m/own"), "above").unwrap();
    let told = bench.plywood(&["which", "m/own"]).silently();
    assert!(
        told.contains("serves    0") && told.contains("hidden    1"),
        "{told}"
    );
    bench.plywood(&["umount", "m"]).silently();
    assert_eq!(bench.read("m/own"), "below");
}

#[test]
fn a_signal_unmounts_and_ends_the_server() {
    let Some(bench) = bench() else { return };
    for signal in ["-TERM", "-INT"] {
        bench.plywood(&["mount", "b0:b1", "m"]).silently();
        let server = bench.server();
        bench.run("kill", &["-HUP", &server.to_string()]).silently();
        bench.write("m/f", signal);
        bench.run("kill", &[signal, &server.to_string()]).silently();
        wait_until("the server ends", || !runs(server));
        assert!(!bench.is_mounted());
        assert_eq!(bench.read("b0/f"), signal);
    }
}

#[test]
fn a_signal_leaves_no_stale_mount_when_the_mount_is_in_use() {
    let Some(bench) = bench() else { return };
    bench.plywood(&["mount", "b0:b1", "m"]).silently();
    let server = bench.server();
    let open = fs::File::create(bench.path("m/f")).unwrap();
    bench.run("kill", &[&server.to_string()]).silently();
    wait_until("the mount goes", || !bench.is_mounted());
    // Whoever uses it may go on.
    std::io::Write::write_all(&mut &open, b"late").unwrap();
    assert!(runs(server));
    drop(open);
    wait_until("the server ends", || !runs(server));
    assert_eq!(bench.read("b0/f"), "late");
}

#[test]
fn a_second_signal_ends_a_server_that_is_still_used() {
    let Some(bench) = bench() else { return };
    bench.plywood(&["mount", "b0:b1", "m"]).silently();
    let server = bench.server();
    let open = fs::File::create(bench.path("m/f")).unwrap();
    bench.run("kill", &[&server.to_string()]).silently();
    wait_until("the mount goes", || !bench.is_mounted());
    bench.run("kill", &[&server.to_string()]).silently();
    wait_until("the server ends", || !runs(server));
    drop(open);
}

#[test]
fn a_busy_unmount_names_who_is_busy() {
    let Some(bench) = bench() else { return };
    bench.plywood(&["mount", "b0:b1", "m"]).silently();
    let mut user = Command::new("sleep")
        .arg("60")
        .current_dir(bench.path("m"))
        .spawn()
        .unwrap();
    let pid = format!("sleep (pid {}", user.id());
    wait_until("the process is there", || {
        bench.plywood(&["umount", "m"]).err.contains(&pid)
    });
    bench
        .plywood(&["umount", "m"])
        .refused(32, &["in use by", &pid]);
    assert!(bench.is_mounted());
    bench.plywood(&["umount", "-l", "m"]).silently();
    assert!(!bench.is_mounted());
    user.kill().unwrap();
    user.wait().unwrap();
}

#[test]
fn a_dead_mount_is_cleaned_up() {
    let Some(bench) = bench() else { return };
    bench.plywood(&["mount", "b0:b1", "m"]).silently();
    bench
        .plywood(&["umount", "--stale", "m"])
        .refused(32, &["alive"]);
    let server = bench.server();
    bench
        .run("kill", &["-KILL", &server.to_string()])
        .silently();
    wait_until("the server ends", || !runs(server));
    bench
        .plywood(&["mount", "b0:b1", "m"])
        .refused(32, &["umount --stale"]);
    let told = bench.plywood(&["status"]).silently();
    assert!(told.contains("dead"), "{told}");
    bench.plywood(&["umount", "--stale", "m"]).silently();
    assert!(!bench.is_mounted());
}

#[test]
fn in_the_foreground_it_serves_until_it_is_unmounted() {
    let Some(mut bench) = bench() else { return };
    let server = Command::new(PLYWOOD)
        .args(["mount", "-f", "b0:b1", "m"])
        .current_dir(bench.guard.path())
        .env("PLYWOOD_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let point = bench.path("m");
    bench.guard.wait_until_mounted(&point);
    bench.plywood(&["umount", "m"]).silently();
    let ended = server.wait_with_output().unwrap();
    assert!(ended.status.success());
    let log = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(log.contains("serving"), "{log}");
}

#[test]
fn a_user_mounts_through_the_helper() {
    let Some(bench) = bench() else { return };
    bench.give_to(NOBODY);
    bench.bin();
    let script = "plywood mount b0:b1 m && echo x > m/f && plywood which m/f && \
        plywood status m && plywood umount m && cat b0/f";
    let user =
        format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env -u XDG_RUNTIME_DIR");
    let told = bench.shell(&format!("{user} sh -c '{script}'")).silently();
    assert!(told.contains("serves") && told.ends_with("x\n"), "{told}");
    assert!(!bench.is_mounted());
    // A signal unmounts through the helper, too.
    bench
        .shell(&format!("{user} plywood mount b0:b1 m"))
        .silently();
    let server = bench.server();
    bench.run("kill", &[&server.to_string()]).silently();
    wait_until("the server ends", || !runs(server));
    assert!(!bench.is_mounted());
}

#[test]
fn a_user_namespace_needs_no_helper() {
    let Some(bench) = bench() else { return };
    let path = format!("{}:/bin", bench.bin().display());
    let script = "plywood mount b0:b1 m && echo x > m/f && rm -r m/d && plywood which m/f && \
        plywood umount m && cat b0/f && ls -A b0";
    let user =
        format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env -u XDG_RUNTIME_DIR");
    for who in ["", &user] {
        let line = format!("{who} unshare -Ur --mount sh -c 'PATH={path}; {script}'");
        let told = bench.shell(&line).silently();
        assert!(told.contains("serves") && told.contains(".wh.d"), "{told}");
        fs::remove_dir_all(bench.path("b0")).unwrap();
        bench.guard.make_dir("b0");
        bench.give_to(NOBODY);
    }
}

#[test]
fn a_thousand_branches_are_mounted() {
    let Some(bench) = bench() else { return };
    let mut list = "b0=rw".to_owned();
    for number in 0..1000 {
        bench.write(&format!("many/{number}/f{number}"), "x");
        list.push_str(&format!(":many/{number}"));
    }
    bench
        .plywood(&["mount", "-o", &format!("br={list}"), "none", "m"])
        .silently();
    assert_eq!(names(&bench.path("m")).len(), 1000);
    assert_eq!(bench.read("m/f999"), "x");
    let told = bench.plywood(&["which", "m/f999"]).silently();
    assert!(told.contains("serves    1000"), "{told}");
    use_nothing_more(&bench);
}

#[track_caller]
fn use_nothing_more(bench: &Bench) {
    bench.plywood(&["umount", "m"]).silently();
    assert!(!bench.is_mounted());
}
