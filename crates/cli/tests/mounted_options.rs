//! What the options of AUFS do, seen through a mount.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use support::{Bench, names};
use testkit::require_root_and_fuse;

const O_DIRECT: i32 = 0o40000;

#[track_caller]
fn mount(bench: &Bench, options: &str) {
    bench.plywood(&["mount", "-o", options, "m"]).silently();
}

#[track_caller]
fn unmount(bench: &Bench) {
    bench.plywood(&["umount", "m"]).silently();
}

#[track_caller]
fn set_xattr(bench: &Bench, path: &str, name: &str) {
    let words = ["-n", name, "-v", "value", path];
    bench.run("setfattr", &words).silently();
}

#[test]
fn opening_copies_up_what_the_branch_names() {
    if !require_root_and_fuse() {
        return;
    }
    for (attribute, directories) in [("coo_reg", false), ("coo_all", true)] {
        let bench = Bench::new();
        for name in ["a", "b", "c", "d/e/f"] {
            bench.write(&format!("b1/{name}"), "lower");
        }
        std::os::unix::fs::symlink("a", bench.path("b1/l")).unwrap();
        mount(&bench, &format!("br=b0=rw:b1=ro+{attribute}"));
        fs::metadata(bench.path("m/a")).unwrap();
        fs::read_link(bench.path("m/l")).unwrap();
        bench.run("test", &["-r", "m/b"]).silently();
        assert!(!bench.exists("b0/a") && !bench.exists("b0/l") && !bench.exists("b0/b"));
        let number = fs::metadata(bench.path("m/a")).unwrap().ino();
        assert_eq!(bench.read("m/a"), "lower");
        assert_eq!(bench.read("b0/a"), "lower");
        assert_eq!(fs::metadata(bench.path("m/a")).unwrap().ino(), number);
        File::open(bench.path("m/b")).unwrap();
        assert!(bench.exists("b0/b") && !bench.exists("b0/c"));
        assert_eq!(names(&bench.path("m/d/e")), ["f"]);
        assert_eq!(bench.exists("b0/d/e"), directories, "{attribute}");
        assert!(!bench.exists("b0/d/e/f"));
        unmount(&bench);
    }
}

#[test]
fn opening_moves_a_file_up_and_its_readers_and_writers_go_on() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.write("b1/d/f", "lower");
    bench.write("b1/g", "pair");
    fs::hard_link(bench.path("b1/g"), bench.path("b1/h")).unwrap();
    mount(&bench, "br=b0=rw:b1=rw+moo");
    let number = fs::metadata(bench.path("m/d/f")).unwrap().ino();
    let mut reader = File::open(bench.path("m/d/f")).unwrap();
    assert!(bench.exists("b0/d/f") && !bench.exists("b1/d/f"));
    let writer = OpenOptions::new().write(true).open(bench.path("m/d/f"));
    let writer = writer.unwrap();
    writer.write_all_at(b"LOW", 0).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "LOWer");
    assert_eq!(reader.metadata().unwrap().ino(), number);
    assert_eq!(bench.read("m/g"), "pair");
    assert!(bench.exists("b1/g") && bench.exists("b1/h"));
    drop((reader, writer));
    fs::write(bench.path("m/new"), "x").unwrap();
    assert_ne!(fs::metadata(bench.path("m/new")).unwrap().ino(), number);
    unmount(&bench);
    assert_eq!(bench.read("b0/d/f"), "LOWer");
    assert_eq!(names(&bench.path("b1/d")), [""; 0]);
}

#[test]
fn whiteouts_are_shown_where_it_is_asked_for() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.write("b0/.wh.gone", "");
    bench.write("b1/gone", "x");
    bench.write("b1/kept", "x");
    mount(&bench, "br=b0=ro+wh:b1=ro,ro,shwh");
    assert_eq!(names(&bench.path("m")), [".wh.gone", "kept"]);
    assert!(bench.exists("m/.wh.gone") && !bench.exists("m/gone"));
    assert!(fs::metadata(bench.path("m/.wh.gone")).unwrap().is_file());
    unmount(&bench);

    let told = bench.plywood(&["mount", "-v", "-o", "br=b0=rw:b1,shwh", "m"]);
    assert!(told.err.contains("shwh"), "{told:?}");
    fs::remove_file(bench.path("m/kept")).unwrap();
    let shown = names(&bench.path("m"));
    assert_eq!(
        shown,
        [
            ".wh..wh.aufs",
            ".wh..wh.orph",
            ".wh..wh.plnk",
            ".wh.gone",
            ".wh.kept"
        ]
    );
    for call in [
        fs::write(bench.path("m/.wh.new"), ""),
        fs::remove_file(bench.path("m/.wh.kept")),
        fs::rename(bench.path("m/.wh.kept"), bench.path("m/seen")),
    ] {
        assert_eq!(call.unwrap_err().raw_os_error(), Some(1));
    }
    unmount(&bench);
}

#[test]
fn a_copy_up_passes_over_attributes_of_the_named_classes_only() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    // A filesystem without attributes of users.
    bench
        .run("mount", &["-t", "ramfs", "none", "b0"])
        .silently();
    bench.write("b1/f", "lower");
    set_xattr(&bench, "b1/f", "user.a");
    for (attribute, copied) in [
        ("", false),
        ("+icexsec", false),
        ("+icexusr", true),
        ("+icex", true),
    ] {
        mount(&bench, &format!("br=b0=rw{attribute}:b1"));
        let written = fs::write(bench.path("m/f"), "new");
        let errno = written.map_err(|error| error.raw_os_error());
        let expected = if copied { Ok(()) } else { Err(Some(95)) };
        assert_eq!(errno, expected, "{attribute}");
        assert_eq!(bench.exists("b0/f"), copied, "{attribute}");
        unmount(&bench);
        if copied {
            fs::remove_file(bench.path("b0/f")).unwrap();
        }
    }
    bench.run("umount", &["b0"]).silently();
    assert_eq!(bench.read("b1/f"), "lower");
}

#[test]
fn files_are_opened_past_the_cache() {
    if !require_root_and_fuse() {
        return;
    }
    for options in [
        "br=b0=rw:b1",
        "br=b0=rw:b1,dio",
        "br=b0=rw:b1,compat=aufs",
        "br=b0=rw:b1,nodio",
    ] {
        let bench = Bench::new();
        bench.write("b1/lower", &"l".repeat(8192));
        mount(&bench, options);
        let layout = std::alloc::Layout::from_size_align(4096, 4096).unwrap();
        let mut buffer = vec![0u8; layout.size() + layout.align()];
        let start = buffer.as_ptr().align_offset(layout.align());
        let aligned = &mut buffer[start..start + 4096];
        for name in ["m/lower", "m/upper"] {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags(O_DIRECT)
                .open(bench.path(name))
                .unwrap();
            aligned.fill(b'd');
            file.write_all(aligned).unwrap();
            aligned.fill(0);
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_exact(aligned).unwrap();
            assert!(aligned.iter().all(|byte| *byte == b'd'), "{options} {name}");
        }
        unmount(&bench);
        assert_eq!(bench.read("b0/lower"), "d".repeat(4096) + &"l".repeat(4096));
    }
}

#[test]
fn words_that_only_tune_aufs_are_accepted_and_leave_nothing_behind() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.write("b1/f", "lower");
    let words = "xino=table,trunc_xino,trunc_xib,notrunc_xib,notrunc_xino,itrunc_xino=1,trunc_xino=b1,\
        dirwh=3,rdcache=10,rdblk=def,rdhash=0,fhsm_sec=30,warn_perm,nowarn_perm,verbose,quiet,dirperm1,\
        si=1a2b,nodlgt,relatime,nosum,noshwh,dio,plink,udba=reval";
    mount(&bench, &format!("br=b0=rw:b1,{words}"));
    assert_eq!(bench.read("m/f"), "lower");
    assert!(!bench.exists("table"));
    unmount(&bench);
    mount(&bench, "br=b0=rw:b1,noxino");
    assert_eq!(bench.read("m/f"), "lower");
    unmount(&bench);
    for (option, told) in [
        ("delete=1", "delete=1"),
        ("imap=x", "imap=x"),
        ("debug=1", "debug=1"),
        ("wsum", "wsum"),
        ("clean_plink", "auplink"),
        ("nodio", "nodio"),
    ] {
        let options = format!("br=b0=rw:b1,{option}");
        let ran = bench.plywood(&["mount", "-v", "-o", &options, "m"]);
        assert!(ran.code == Some(0) && ran.err.contains(told), "{ran:?}");
        unmount(&bench);
    }
    let ran = bench.plywood(&["mount", "-o", "br=b0=rw+fhsm:b1=ro+fhsm", "m"]);
    assert!(ran.code == Some(0) && ran.err.contains("fhsm"), "{ran:?}");
    unmount(&bench);
    let ran = bench.plywood(&["mount", "-o", "br=b0:b1,shwhh", "m"]);
    ran.refused(32, &["shwhh", "shwh"]);
}

#[test]
fn a_security_context_is_the_kernels_business() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    let options = "br=b0=rw:b1,context=\"system_u:object_r:container_file_t:s0:c1,c2\"";
    let ran = bench.plywood(&["mount", "-o", options, "m"]);
    if fs::metadata("/sys/fs/selinux/enforce").is_ok() {
        ran.silently();
        unmount(&bench);
    } else {
        ran.refused(32, &["security context", "context="]);
        assert!(!bench.is_mounted());
    }
}

/// Runs a line of shell as a user with one more group, and returns what it printed.
#[track_caller]
fn as_user(bench: &Bench, group: u32, line: &str) -> String {
    let ids = ["--reuid", "4242", "--regid", "4242"];
    let group = format!("--groups={group}");
    let words = [&ids[..], &[&group, "sh", "-c", line]].concat();
    bench.run("setpriv", &words).out
}

#[test]
fn without_dirperm1_every_branch_decides_who_searches_a_directory() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.bin();
    for name in ["b0/d/upper", "b1/d/lower", "b1/d/sub/x", "b1/only/y"] {
        bench.write(name, "x");
    }
    bench.run("chmod", &["0755", "b0/d"]).silently();
    bench.run("chmod", &["0750", "b1/d", "b1/only"]).silently();
    bench.run("chown", &["0:77", "b1/d"]).silently();
    let reads = "cd m; for f in d/upper d/lower d/gone; do cat $f 2>&1; done; ls d 2>&1 | wc -w";
    let refused = |told: &str| told.matches("Permission denied").count();
    let lists = |told: &str| told.trim_end().ends_with("\n3");

    mount(&bench, "br=b0=rw:b1,nodirperm1");
    let told = as_user(&bench, 4242, reads);
    assert!(refused(&told) == 3 && !lists(&told), "{told}");
    let told = as_user(&bench, 77, reads);
    assert!(refused(&told) == 0 && lists(&told), "the group may: {told}");
    assert_eq!(bench.read("m/d/lower"), "x", "root may");
    // What somebody uses is not taken away by somebody else who may not.
    let under = bench.path("m/d/sub");
    bench
        .run("mount", &["-t", "tmpfs", "none", "m/d/sub"])
        .silently();
    as_user(&bench, 4242, "cat m/d/sub/x; ls m/d/sub; stat m/d/sub");
    assert_eq!(names(&under), [""; 0], "still mounted");
    bench.run("umount", &["m/d/sub"]).silently();
    unmount(&bench);

    bench
        .run("setfacl", &["-m", "u:4242:rx", "b1/d"])
        .silently();
    mount(&bench, "br=b0=rw:b1,compat=aufs");
    let told = as_user(&bench, 4242, reads);
    assert!(
        refused(&told) == 0 && lists(&told),
        "the list may grant it: {told}"
    );
    unmount(&bench);
    bench.run("setfacl", &["-b", "b1/d"]).silently();

    mount(&bench, "br=b0=rw:b1,dirperm1");
    let told = as_user(&bench, 4242, reads);
    assert!(refused(&told) == 0 && lists(&told), "{told}");
    unmount(&bench);
}
