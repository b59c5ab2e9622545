//! Attributes and changes to them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rules::{Changes, Errno, Kind, SetTime, Time};
use rustix::fs::{Gid, IFlags, Uid, ioctl_getflags, ioctl_setflags};
use tree::{Access, Object, Tree, XattrHow};

use crate::identity::as_server_without_fsetid;
use crate::processes::tests::start_sleeping;

use super::{Scratch, n, on_new_and_old_kernels, owned_by, owner};

#[test]
fn attributes_are_those_of_stat_for_every_kind_of_object() {
    let s = Scratch::new();
    let file = s.make("file");
    s.tree.write(&file, &[1; 5000], 0).unwrap();
    let dir = s.make_dir("dir");
    s.make_symlink("link", "dangling");
    let attrs = [
        ("file", s.tree.attr(Object::File(&file)), Kind::File),
        ("dir", s.tree.attr(Object::Dir(&dir)), Kind::Dir),
        (
            "link",
            s.tree.attr(Object::Entry(&s.root, &n("link"))),
            Kind::Symlink,
        ),
    ];
    for (name, attr, kind) in attrs {
        let attr = attr.unwrap();
        let meta = fs::symlink_metadata(s.path(name)).unwrap();
        assert_eq!((attr.kind, attr.mode()), (kind, meta.mode()));
        assert_eq!(
            (attr.dev, attr.ino, u64::from(attr.nlink)),
            (meta.dev(), meta.ino(), meta.nlink())
        );
        assert_eq!((attr.size, attr.blocks), (meta.size(), meta.blocks()));
        let mtime = Time {
            seconds: meta.mtime(),
            nanos: meta.mtime_nsec() as u32,
        };
        assert_eq!((attr.mtime, attr.btime.is_some()), (mtime, true));
        assert!(!attr.immutable);
    }
}

#[test]
fn an_immutable_file_is_known_as_one() {
    let s = Scratch::new();
    let file = s.make("file");
    let flags = ioctl_getflags(&file).unwrap();
    ioctl_setflags(&file, flags | IFlags::IMMUTABLE).unwrap();
    assert!(s.look("file").immutable);
    assert_eq!(s.tree.remove_file(&s.root, &n("file")), Err(Errno::PERM));
    ioctl_setflags(&file, flags).unwrap();
    assert!(!s.look("file").immutable);
}

#[test]
fn set_user_id_survives_an_owner_that_is_set_together_with_it() {
    on_new_and_old_kernels(|s| {
        s.make("file");
        let object = Object::Entry(&s.root, &n("file"));
        let owned = Changes {
            uid: Some(1000),
            gid: Some(1001),
            ..Changes::default()
        };
        let changes = Changes {
            perm: Some(0o6755),
            ..owned
        };
        s.tree.set_attr(object, &changes).unwrap();
        assert_eq!(
            (owner(&s.look("file")), s.look("file").perm),
            ((1000, 1001), 0o6755)
        );
        // The kernel clears it when the owner is set alone.
        s.tree.set_attr(object, &owned).unwrap();
        assert_eq!(s.look("file").perm, 0o755);
    });
}

#[test]
fn everything_is_set_on_directories_entries_and_open_files() {
    on_new_and_old_kernels(|s| {
        let dir = s.make_dir("dir");
        let file = s.make("file");
        s.make("entry");
        let time = |seconds| Some(SetTime::To(Time { seconds, nanos: 5 }));
        let changes = Changes {
            perm: Some(0o711),
            uid: Some(7),
            atime: time(1000),
            mtime: time(-2000),
            ..Changes::default()
        };
        let sized = Changes {
            size: Some(10),
            ..changes
        };
        s.tree.set_attr(Object::Dir(&dir), &changes).unwrap();
        s.tree.set_attr(Object::File(&file), &sized).unwrap();
        s.tree
            .set_attr(Object::Entry(&s.root, &n("entry")), &sized)
            .unwrap();
        for name in ["dir", "file", "entry"] {
            let attr = s.look(name);
            assert_eq!((attr.perm, owner(&attr)), (0o711, (7, 0)), "{name}");
            assert_eq!(
                attr.atime,
                Time {
                    seconds: 1000,
                    nanos: 5
                },
                "{name}"
            );
            assert_eq!(
                attr.mtime,
                Time {
                    seconds: -2000,
                    nanos: 5
                },
                "{name}"
            );
            assert!(attr.size == 10 || name == "dir");
        }
        assert_eq!(
            s.tree.set_attr(Object::Dir(&dir), &sized),
            Err(Errno::ISDIR)
        );
    });
}

#[test]
fn a_time_that_is_not_given_stays_and_now_is_now() {
    let s = Scratch::new();
    s.make("file");
    let object = Object::Entry(&s.root, &n("file"));
    let before = s.look("file");
    let old = Some(SetTime::To(Time {
        seconds: 1,
        nanos: 0,
    }));
    s.tree
        .set_attr(
            object,
            &Changes {
                atime: old,
                ..Changes::default()
            },
        )
        .unwrap();
    let attr = s.look("file");
    assert_eq!((attr.atime.seconds, attr.mtime), (1, before.mtime));
    let now = Some(SetTime::Now);
    s.tree
        .set_attr(
            object,
            &Changes {
                atime: now,
                ..Changes::default()
            },
        )
        .unwrap();
    assert!(s.look("file").atime >= before.atime);
}

#[test]
fn a_symbolic_link_has_owner_and_times_of_its_own_but_no_permissions() {
    on_new_and_old_kernels(|s| {
        s.make("file");
        s.make_symlink("link", "file");
        let object = Object::Entry(&s.root, &n("link"));
        let mtime = Some(SetTime::To(Time {
            seconds: 9,
            nanos: 0,
        }));
        let changes = Changes {
            uid: Some(1000),
            mtime,
            ..Changes::default()
        };
        s.tree.set_attr(object, &changes).unwrap();
        assert_eq!(
            (s.look("link").uid, s.look("link").mtime.seconds),
            (1000, 9)
        );
        let refused = s.tree.set_attr(
            object,
            &Changes {
                perm: Some(0o600),
                ..Changes::default()
            },
        );
        assert_eq!(refused, Err(Errno::OPNOTSUPP));
        let refused = s.tree.set_attr(
            object,
            &Changes {
                size: Some(0),
                ..Changes::default()
            },
        );
        assert_eq!(refused, Err(Errno::LOOP));
        let file = s.look("file");
        assert_eq!(
            (file.uid, file.perm, s.look("link").perm),
            (0, 0o644, 0o777)
        );
    });
}

#[test]
fn dropping_set_id_follows_the_rule_for_writes() {
    on_new_and_old_kernels(|s| {
        s.make("file");
        let drop = Changes {
            drop_set_id: true,
            ..Changes::default()
        };
        for (before, after) in [
            (0o6755, 0o755),
            (0o6745, 0o2745),
            (0o4644, 0o644),
            (0o1644, 0o1644),
            (0o600, 0o600),
        ] {
            fs::set_permissions(s.path("file"), Permissions::from_mode(before)).unwrap();
            s.tree
                .set_attr(Object::Entry(&s.root, &n("file")), &drop)
                .unwrap();
            assert_eq!(s.look("file").perm, after, "{before:o}");
        }
        let dir = s.make_dir("dir");
        fs::set_permissions(s.path("dir"), Permissions::from_mode(0o2775)).unwrap();
        s.tree.set_attr(Object::Dir(&dir), &drop).unwrap();
        assert_eq!(s.look("dir").perm, 0o2775);
    });
}

#[test]
fn dropping_set_id_takes_file_capabilities_away() {
    on_new_and_old_kernels(|s| {
        let file = s.make("file");
        // Version 2, one permitted capability.
        let value = [0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let object = Object::Entry(&s.root, &n("file"));
        let set = s
            .tree
            .set_xattr(object, b"security.capability", &value, XattrHow::Set);
        assert_eq!(set, Ok(()));
        let drop = Changes {
            drop_set_id: true,
            ..Changes::default()
        };
        s.tree.set_attr(Object::File(&file), &drop).unwrap();
        assert_eq!(
            s.tree.xattr(object, b"security.capability"),
            Err(Errno::NODATA)
        );
        assert_eq!(s.tree.set_attr(object, &drop), Ok(()));
    });
}

#[test]
fn an_owner_that_means_no_change_to_the_kernel_is_refused() {
    let s = Scratch::new();
    s.make("file");
    let changes = Changes {
        uid: Some(u32::MAX),
        ..Changes::default()
    };
    let refused = s
        .tree
        .set_attr(Object::Entry(&s.root, &n("file")), &changes);
    assert_eq!(refused, Err(Errno::INVAL));
}

#[test]
fn a_running_program_is_not_truncated() {
    let s = Scratch::new();
    fs::copy("/bin/sleep", s.path("program")).unwrap();
    let mut child = start_sleeping(&s.path("program"), s.dir.path());
    let changes = Changes {
        size: Some(0),
        ..Changes::default()
    };
    let refused = s
        .tree
        .set_attr(Object::Entry(&s.root, &n("program")), &changes);
    let opened = s.tree.open_file(&s.root, &n("program"), Access::ReadWrite);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        (refused, opened.err()),
        (Err(Errno::TXTBSY), Some(Errno::TXTBSY))
    );
}

#[test]
fn the_own_identity_reads_what_another_left_behind() {
    let s = Scratch::new();
    s.make("file");
    rustix::fs::chown(
        s.path("file"),
        Some(Uid::from_raw(5)),
        Some(Gid::from_raw(5)),
    )
    .unwrap();
    fs::set_permissions(s.path("file"), Permissions::from_mode(0o000)).unwrap();
    let how = super::owned_by(1000, 1000, 0o600, 0);
    s.tree.create_file(&s.root, &n("other"), &how).unwrap();
    assert!(
        s.tree
            .open_file(&s.root, &n("file"), Access::ReadQuietly)
            .is_ok()
    );
    assert!(
        s.tree
            .open_file(&s.root, &n("file"), Access::ReadWrite)
            .is_ok()
    );
}

#[test]
fn a_thread_that_registered_files_keeps_set_id_bits_where_others_do() {
    const SET_ID: u32 = 0o6755;
    on_new_and_old_kernels(|s| {
        let file = s.make("file");
        let set_id = Changes {
            uid: Some(1000),
            gid: Some(1000),
            perm: Some(SET_ID),
            ..Changes::default()
        };
        let call = |call: &dyn Fn()| {
            as_server_without_fsetid(|| Ok(())).unwrap();
            call();
            assert_eq!(s.look("file").perm, SET_ID);
        };
        let object = Object::File(&file);
        call(&|| s.tree.set_attr(object, &set_id).unwrap());
        call(&|| assert_eq!(s.tree.write(&file, &[1; 9000], 0), Ok(9000)));
        call(&|| s.tree.allocate(&file, 0, 0, 10_000).unwrap());
        call(&|| assert_eq!(s.tree.copy_range(&file, 0, &file, 20_000, 9), Ok(9)));
        let cut = Changes {
            size: Some(5),
            ..Changes::default()
        };
        call(&|| s.tree.set_attr(object, &cut).unwrap());
        as_server_without_fsetid(|| Ok(())).unwrap();
        let made = owned_by(1000, 1001, SET_ID, 0);
        s.tree.create_file(&s.root, &n("made"), &made).unwrap();
        assert_eq!(s.look("made").perm, SET_ID);
    });
}
