//! A union that becomes the root of the system, as in live distributions: the server stays behind in the
//! initramfs, whose /proc and /run move on without it.

mod support;

use std::fs;
use std::process::Command;

use support::{Bench, Ran};
use testkit::require_root_and_fuse;

/// Makes an initramfs, mounts a union in it and moves that to the root. Then `/run/after` is run.
const BOOT: &str = r"
set -eu
mount -t tmpfs initramfs initramfs
cd initramfs
mkdir -p usr dev proc run union changes base/usr base/dev base/proc base/run base/tmp
for link in bin sbin lib lib64; do ln -s usr/$link $link; ln -s usr/$link base/$link; done
cp $(command -v busybox) busybox
cp busybox base/busybox
echo base >base/file
echo gone >base/removed
mount --bind /usr usr
mount --bind /dev dev
mount -t proc proc proc
mount -t tmpfs run run
mkdir run/names run/module run/save
cp ../bin/plywood run/names/plywood
for name in mount.aufs mount.fuse.aufs; do ln -s plywood run/names/$name; done
mount -t overlay -o lowerdir=run/names:usr/sbin names usr/sbin
echo module >run/module/module
cp ../after run/after
exec chroot . /busybox sh -ec '
    export PATH=/usr/bin:/usr/sbin
    mount -t aufs -o xino=/.xino,trunc_xino,br=/changes=rw:/base=ro aufs /union
    for dir in dev proc run; do /busybox mount --move /$dir /union/$dir; done
    # stays here too: busybox may need its libraries
    /busybox mount --rbind /usr /union/usr
    cd /union
    /busybox mount --move . /
    exec /busybox chroot . /bin/sh -eu /run/after'
";

fn boot(bench: &Bench, after: &str) -> Ran {
    bench.write("initramfs/.keep", "");
    bench.write("after", after);
    bench.bin();
    let mut command = Command::new("unshare");
    // With a process namespace, so that the server goes with the system.
    let words = ["--mount", "--propagation", "private", "--pid", "--fork"];
    command.args(words).args(["sh", "-c", BOOT]);
    bench.ran(command)
}

#[test]
fn a_union_that_has_become_the_root_is_found_and_says_who_serves_what() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    let after = "cat /file; echo new >/new; rm /removed
        getfattr --absolute-names --only-values -n user.plywood.fullpath /file; echo
        getfattr --absolute-names --only-values -n user.plywood.branch /new; echo
        plywood which /file
        findmnt -n -o SOURCE,FSTYPE /
        cat /run/aufs/si_*/br0 /run/aufs/si_*/br1
        ls -A /run/plywood | sed 's/.*[.]//'";
    let told = boot(&bench, after).silently();
    let expected = "base\n/base/file\n/changes\nserves    1  ro  /base/file\naufs   fuse.aufs\n/changes=rw\n/base=ro\njson\nsock\n";
    assert_eq!(told, expected);
    assert!(fs::read_dir(bench.path("initramfs")).is_ok());
}

#[test]
fn a_union_that_has_become_the_root_keeps_attributes() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    let after = "setfattr -n user.k -v v /file; getfattr --absolute-names --only-values -n user.k /file; echo
        setfattr -h -n trusted.k -v link /bin; getfattr -h --absolute-names --only-values -n trusted.k /bin; echo
        echo x >/acl; setfacl -m u:7:rw /acl; getfacl -p -c /acl | grep :7:
        chmod 4711 /acl; stat -c %a /acl
        ln /file /linked; mv /linked /moved; cat /moved";
    let told = boot(&bench, after).silently();
    assert_eq!(told, "v\nlink\nuser:7:rw-\n4711\nbase\n");
}

#[test]
fn a_union_that_has_become_the_root_takes_branches_where_the_caller_sees_them() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    let after = "mount -t aufs -o remount,add:1:/run/module=rr+wh aufs /; cat /module
        cd /run; plywood branch add / save=rw; echo new >/new; cat /run/save/new
        plywood branch list / | tr -s ' '
        mount -o remount,mod:/changes=ro,del:/run/module /; [ ! -e /module ]
        cut -d= -f2 /run/aufs/si_*/br[0-9]
        plywood branch remove / save 2>/run/said || sed 's/.*: in use/in use/' /run/said; echo $?
        exec 9</file; plywood branch set / /base=ro+wh; plywood branch list / --format options";
    let told = boot(&bench, after).silently();
    let expected = "module\nnew\n 0 rw /run/save\n 1 rw /changes\n 2 rr+wh /run/module\n 3 ro /base\nrw\nro\nro\n0\nbr=/changes=ro:/base=ro+wh\n";
    assert_eq!(told, expected);
}

#[test]
fn each_caller_names_branches_by_paths_below_its_own_root() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.write("jail/.keep", "");
    bench.write("b1/same", "outside");
    let here = bench.guard.path().display().to_string();
    bench.bin();
    let script = format!(
        "set -e; plywood mount b0 m; mount --rbind / jail; mount -t tmpfs none jail{here}/b1; \
         echo inside >jail{here}/b1/same; chroot jail plywood branch add {here}/m {here}/b1=ro; \
         cat m/same; chroot jail plywood branch remove {here}/m {here}/b1; \
         plywood branch add m b1=ro; cat m/same; plywood umount m"
    );
    let line = format!("unshare --mount --propagation private sh -c '{script}'");
    assert_eq!(bench.shell(&line).silently(), "inside\noutside");
}
