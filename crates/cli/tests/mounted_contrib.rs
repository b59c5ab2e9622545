//! The shell functions in `contrib`, under the shells of live distributions.

mod support;

use std::path::Path;

use support::Bench;
use testkit::require_root_and_fuse;

const SHELLS: [&str; 3] = ["dash", "busybox sh", "bash --posix"];

/// Runs a script in each shell, with the functions sourced and the helper in /sbin.
fn each_shell(bench: &Bench, script: &str, mut check: impl FnMut(&str, String)) {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/aufs-compat.sh");
    bench.write(
        "script",
        &format!("set -u\n. {}\n{script}", functions.display()),
    );
    let bin = bench.bin().display().to_string();
    for shell in SHELLS {
        let line = format!(
            "sbin=$(readlink -f /sbin); mount -t overlay -o lowerdir={bin}:$sbin none $sbin && exec {shell} script"
        );
        let ran = bench.shell(&format!(
            "exec unshare --mount --propagation private sh -c '{line}'"
        ));
        check(shell, ran.silently());
    }
}

#[test]
fn functions_find_the_number_and_the_branches_of_a_union() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.write("b 3/d/f", "x");
    bench
        .shell("mount.aufs aufs m -o 'br=b0=rw:b1=ro+wh:b 3=rr'")
        .silently();
    let told = bench.plywood(&["status", "--json", "m"]).silently();
    let script = "aufs_si m && (cd m/d && aufs_si .) && aufs_branches m
        b3=$(aufs_branches m | sed -n 3p)
        aufs_unescape \"${b3%=*}\"; echo; aufs_unescape 'a\\134b\\\\101\\9'; echo
        aufs_si / 2>said || cat said; aufs_si none 2>said || cat said";
    let here = bench.guard.path().display().to_string();
    each_shell(&bench, script, |shell, out| {
        let (si, rest) = out.split_once('\n').unwrap();
        assert!(si.len() == 16 && told.contains(si), "{shell}: {out}");
        let expected = format!(
            "{si}\n{here}/b0=rw\n{here}/b1=ro+wh\n{here}/b\\0403=rr\n{here}/b 3\na\\b\\A\\9\n\
             aufs_dir: /: not in a union of Plywood\naufs_dir: none: no such directory\n"
        );
        assert_eq!(rest, expected, "{shell}");
    });
}

#[test]
fn with_the_shims_old_lines_find_what_they_look_for() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench
        .shell("mount.aufs aufs m -o br=b0=rw:b1=ro")
        .silently();
    let here = bench.guard.path().display().to_string();
    let script = "aufs_shims
        modprobe aufs && echo module
        grep -q aufs /proc/filesystems && echo type
        cat /proc/filesystems | grep aufs
        si=$(awk '$3 == \"aufs\" && $2 == \"'$PWD/m'\" { print $4 }' /proc/mounts | sed 's/.*si=//')
        [ \"$si\" = \"$(aufs_si m)\" ] && echo number
        cat /sys/fs/aufs/si_$si/br0
        cat /sys/fs/aufs/si_*/br1 | grep -c \"^$PWD/b1=ro\"
        grep -q 'proc /proc proc' /proc/mounts && echo others
        echo text >f; cat f; sed s/t/T/ f
        mount -no remount,ro aufs m; touch m/no 2>/dev/null || echo read-only
        mount -no remount,rw m; touch m/yes && echo writable";
    each_shell(&bench, script, |shell, out| {
        let expected = format!(
            "module\ntype\nnodev\taufs\nnumber\n{here}/b0=rw\n1\nothers\ntext\nText\nread-only\nwritable\n"
        );
        assert_eq!(out, expected, "{shell}");
    });
}
