//! Images as branches: mounted by the kernel, or read without it.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use support::{Bench, NOBODY, PLYWOOD};
use testkit::require_root_and_fuse;

/// How each kind is packed.
const PACKERS: [(&str, &str); 3] = [
    (
        "squashfs",
        "mksquashfs tree x.img -noappend -quiet -no-progress -comp xz",
    ),
    ("erofs", "mkfs.erofs --quiet -zlz4 x.img tree"),
    ("iso9660", "genisoimage -quiet -R -o x.img tree 2>/dev/null"),
];

/// Makes a bench with a tree to pack.
fn planted() -> Bench {
    let bench = Bench::new();
    bench.write("tree/dir/file", "of the image\n");
    bench.write("tree/dir/other", "unchanged");
    bench.write("tree/.wh.hidden", "");
    bench.write("tree/run", "#!/bin/sh\necho \"ran $1\"\n");
    bench.write("b1/hidden", "below");
    let runs = fs::Permissions::from_mode(0o755);
    fs::set_permissions(bench.path("tree/run"), runs).unwrap();
    fs::copy("/bin/true", bench.path("tree/true")).unwrap();
    bench
        .shell("ln -s dir/file tree/link; ln tree/dir/file tree/same")
        .silently();
    bench
}

#[track_caller]
fn pack(bench: &Bench, pack: &str) {
    bench
        .shell(&format!("rm -f x.img; timeout 30 {pack}; chmod 644 x.img"))
        .silently();
}

/// Runs a script as an ordinary user, who may mount through `fusermount3` only.
#[track_caller]
fn as_user(bench: &Bench, script: &str) -> String {
    bench.give_to(NOBODY);
    bench.bin();
    fs::write(bench.path("script"), format!("set -e\n{script}")).unwrap();
    let user = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups");
    bench
        .shell(&format!(
            "unset XDG_RUNTIME_DIR; timeout -s KILL 60 {user} sh script"
        ))
        .silently()
}

#[test]
fn a_user_takes_images_as_branches_without_the_kernel() {
    if !require_root_and_fuse() {
        return;
    }
    for (kind, packer) in PACKERS {
        let bench = planted();
        let owned = format!("chown -hR {NOBODY}:{NOBODY} tree");
        bench.shell(&owned).silently();
        pack(&bench, packer);
        let told = as_user(
            &bench,
            "plywood mount b0=rw:x.img=rr+wh:b1=ro m
            test \"$(getfattr --only-values -n user.plywood.fullpath m/dir/file)\" = \"$PWD/x.img/dir/file\"
            cat m/dir/file m/link; m/run it; m/true; ls m m/dir
            echo more >> m/dir/file; cat m/dir/file; rm m/dir/other; mv m/run m/moved; m/moved again
            ls m/dir; plywood umount m",
        );
        let expected = "of the image\nof the image\nran it\n\
            dir\nlink\nrun\nsame\ntrue\n\nm/dir:\nfile\nother\n";
        let told: Vec<_> = told.split("m:\n").collect();
        assert_eq!(told.len(), 2, "{kind}: {told:?}");
        let told = told.concat();
        let (before, after) = told.split_at(expected.len());
        assert_eq!(before, expected, "{kind}");
        assert_eq!(after, "of the image\nmore\nran again\nfile\n", "{kind}");
        assert_eq!(bench.read("b0/dir/file"), "of the image\nmore\n", "{kind}");
        assert!(
            bench.exists("b0/dir/.wh.other") && bench.exists("b0/.wh.run"),
            "{kind}"
        );
        assert_eq!(bench.read("b0/moved"), bench.read("tree/run"), "{kind}");
    }
}

#[test]
fn root_takes_images_whether_or_not_the_kernel_knows_them() {
    if !require_root_and_fuse() {
        return;
    }
    for (kind, packer) in PACKERS {
        let bench = planted();
        bench
            .shell("chown 12:34 tree/true; chmod 751 tree/true; mkfifo tree/pipe; mknod tree/null c 1 3")
            .silently();
        pack(&bench, packer);
        bench.plywood(&["mount", "b0=rw:x.img=rr", "m"]).silently();
        let attr = bench.path("m/true").metadata().unwrap();
        assert_eq!(
            (attr.uid(), attr.gid(), attr.mode()),
            (12, 34, 0o100_751),
            "{kind}"
        );
        let null = bench.path("m/null").metadata().unwrap();
        assert_eq!(
            null.rdev(),
            fs::metadata("/dev/null").unwrap().rdev(),
            "{kind}"
        );
        assert_eq!(bench.read("m/dir/file"), "of the image\n", "{kind}");
        bench.shell("m/true && m/run it").silently();
        // A change of attributes copies up: the copy has owner and contents.
        bench
            .shell("chmod 700 m/true && cmp b0/true tree/true")
            .silently();
        let copy = bench.path("b0/true").metadata().unwrap();
        assert_eq!((copy.uid(), copy.gid()), (12, 34), "{kind}");
        let status = bench.plywood(&["status", "m"]).silently();
        assert!(status.contains("x.img"), "{kind}: {status}");
        bench.plywood(&["umount", "m"]).silently();
    }
}

#[test]
fn images_come_and_go_while_the_union_is_used() {
    if !require_root_and_fuse() {
        return;
    }
    for (kind, packer) in PACKERS {
        let bench = planted();
        pack(&bench, packer);
        let told = as_user(
            &bench,
            "plywood mount b0=rw:b1=ro m
            cat m/hidden
            for round in 1 2 3 4 5 6 7 8 9 10; do
                plywood branch add m x.img=rr+wh --at 1
                cat m/dir/file > /dev/null
                test ! -e m/hidden
                plywood branch remove m x.img
                test ! -e m/dir
            done
            plywood branch add m x.img=rr+wh --at 1
            exec 3< m/dir/file
            plywood branch remove m x.img 2>&1 | grep -o 'in use'
            read line <&3; echo $line
            exec 3<&-
            plywood branch list m | grep -o x.img
            plywood which m/dir/file | grep -o x.img/dir/file
            plywood branch remove m x.img
            ls m; plywood umount m",
        );
        let expected = "belowin use\nof the image\nx.img\nx.img/dir/file\nhidden\n";
        assert_eq!(told, expected, "{kind}");
    }
}

#[test]
fn files_of_an_image_are_opened_also_where_nothing_can_be_written() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = planted();
    pack(&bench, PACKERS[0].1);
    let told = as_user(
        &bench,
        "plywood mount -o ro,udba=none,br=x.img=rr:b1=ro none m
        for round in 1 2 3; do cat m/dir/file > /dev/null; done
        plywood status --json m | grep -o '\"OPEN\": 3'
        plywood umount m
        plywood mount -o ro,udba=none,br=b1=ro none m
        for round in 1 2 3; do cat m/hidden > /dev/null; done
        plywood status --json m | grep -o '\"OPEN\": 1'
        plywood branch add m x.img=rr 2>&1 | grep -o 'needs its files opened'
        cat m/hidden; plywood umount m",
    );
    let expected = "\"OPEN\": 3\n\"OPEN\": 1\nneeds its files opened\nbelow";
    assert_eq!(told, expected);
}

#[test]
fn what_cannot_be_read_of_an_image_is_said_in_one_line() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = planted();
    pack(&bench, PACKERS[0].1);
    // The number of the compressor: lzo.
    bench
        .shell("printf '\\003' | dd of=x.img bs=1 seek=20 conv=notrunc status=none")
        .silently();
    bench.give_to(NOBODY);
    bench.bin();
    let user = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups");
    let refused = bench.shell(&format!("{user} plywood mount b0=rw:x.img=rr m"));
    refused.refused(32, &["branch 1", "x.img", "lzo", "only the kernel"]);
    fs::write(bench.path("x.img"), "hsqs and nothing else").unwrap();
    let refused = bench.run(PLYWOOD, &["mount", "b0=rw:x.img=rr", "m"]);
    refused.refused(32, &["branch 1", "x.img"]);
}
