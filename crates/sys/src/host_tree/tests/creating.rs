//! New objects: their owner, their permissions, and files without a name.

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use rules::{Creation, Errno, Kind};
use rustix::fs::makedev;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tree::{Node, Object, Tree};

use super::{Scratch, n, on_new_and_old_kernels, owned_by, owner, set_default_acl};
use crate::notify::Notifier;

#[test]
fn every_new_object_belongs_to_its_owner_with_the_umask_taken_away() {
    on_new_and_old_kernels(|s| {
        let how = owned_by(1000, 1001, 0o666, 0o027);
        let file = s.tree.create_file(&s.root, &n("file"), &how).unwrap();
        assert_eq!(
            owner(&s.tree.attr(Object::File(&file)).unwrap()),
            (1000, 1001)
        );
        s.tree.make_dir(&s.root, &n("dir"), &how).unwrap();
        s.tree
            .make_node(&s.root, &n("node"), Node::File, &how)
            .unwrap();
        s.tree
            .make_node(&s.root, &n("fifo"), Node::Fifo, &how)
            .unwrap();
        s.tree
            .make_symlink(&s.root, &n("link"), b"target", &how)
            .unwrap();
        for name in ["file", "dir", "node", "fifo"] {
            let attr = s.look(name);
            assert_eq!((owner(&attr), attr.perm), ((1000, 1001), 0o640), "{name}");
        }
        assert_eq!(owner(&s.look("link")), (1000, 1001));
        // Without an owner it is the server's own again.
        s.tree
            .make_dir(&s.root, &n("own"), &Creation::exact(0o777))
            .unwrap();
        assert_eq!((owner(&s.look("own")), s.look("own").perm), ((0, 0), 0o777));
    });
}

#[test]
fn no_change_of_owner_follows_the_making() {
    let s = Scratch::new();
    let notifier = Notifier::new().unwrap();
    notifier.watch(s.root.as_fd()).unwrap();
    s.tree
        .make_dir(&s.root, &n("dir"), &owned_by(1000, 1000, 0o755, 0))
        .unwrap();
    assert_eq!(notifier.read().unwrap().len(), 1);
}

#[test]
fn a_default_acl_beats_the_umask() {
    let s = Scratch::new();
    let dir = s.make_dir("dir");
    set_default_acl(&s.path("dir"), "u::rwx,g::rwx,o::r-x");
    let how = owned_by(1000, 1000, 0o666, 0o077);
    s.tree.create_file(&dir, &n("file"), &how).unwrap();
    let attr = s.tree.look(&dir, &n("file")).unwrap().unwrap();
    assert_eq!(attr.perm, 0o664);
    s.tree.create_file(&s.root, &n("file"), &how).unwrap();
    assert_eq!(s.look("file").perm, 0o600);
}

#[test]
fn directory_permissions_do_not_refuse_a_server_that_is_root() {
    let s = Scratch::new();
    let dir = s.make_dir("dir");
    fs::set_permissions(s.path("dir"), Permissions::from_mode(0o000)).unwrap();
    s.tree
        .create_file(&dir, &n("file"), &owned_by(1000, 1000, 0o600, 0))
        .unwrap();
    assert_eq!(s.tree.list(&dir).unwrap().len(), 1);
}

#[test]
fn a_set_group_id_directory_hands_down_its_group() {
    let s = Scratch::new();
    let dir = s.make_dir("dir");
    rustix::fs::chown(s.path("dir"), None, Some(rustix::fs::Gid::from_raw(50))).unwrap();
    fs::set_permissions(s.path("dir"), Permissions::from_mode(0o2777)).unwrap();
    let how = owned_by(1000, 1000, 0o755, 0);
    s.tree.make_dir(&dir, &n("inner"), &how).unwrap();
    let attr = s.tree.look(&dir, &n("inner")).unwrap().unwrap();
    assert_eq!((owner(&attr), attr.perm), ((1000, 50), 0o2755));
}

#[test]
fn set_id_and_sticky_bits_are_kept() {
    let s = Scratch::new();
    s.tree
        .create_file(&s.root, &n("file"), &owned_by(1000, 1000, 0o6755, 0))
        .unwrap();
    s.tree
        .make_dir(&s.root, &n("dir"), &owned_by(1000, 1000, 0o1777, 0))
        .unwrap();
    assert_eq!((s.look("file").perm, s.look("dir").perm), (0o6755, 0o1777));
}

#[test]
fn a_taken_name_is_refused_by_every_making() {
    on_new_and_old_kernels(|s| {
        s.make_symlink("taken", "nowhere");
        let how = owned_by(1000, 1000, 0o600, 0);
        let name = n("taken");
        let file = s.tree.create_file(&s.root, &name, &how);
        assert_eq!(file.err(), Some(Errno::EXIST));
        assert_eq!(s.tree.make_dir(&s.root, &name, &how), Err(Errno::EXIST));
        assert_eq!(
            s.tree.make_node(&s.root, &name, Node::File, &how),
            Err(Errno::EXIST)
        );
        assert_eq!(
            s.tree.make_symlink(&s.root, &name, b"x", &how),
            Err(Errno::EXIST)
        );
    });
}

#[test]
fn devices_keep_their_number() {
    let s = Scratch::new();
    let number = makedev(259, 70_000);
    let how = owned_by(1000, 1000, 0o600, 0);
    s.tree
        .make_node(&s.root, &n("char"), Node::CharDevice(number), &how)
        .unwrap();
    s.tree
        .make_node(&s.root, &n("block"), Node::BlockDevice(number), &how)
        .unwrap();
    s.tree
        .make_node(&s.root, &n("whiteout"), Node::CharDevice(0), &how)
        .unwrap();
    assert_eq!(
        (s.look("char").kind, s.look("char").rdev),
        (Kind::CharDevice, number)
    );
    assert_eq!(
        (s.look("block").kind, s.look("block").rdev),
        (Kind::BlockDevice, number)
    );
    assert_eq!(
        (s.look("whiteout").kind, s.look("whiteout").rdev),
        (Kind::CharDevice, 0)
    );
}

#[test]
fn a_file_without_a_name_gets_one() {
    let s = Scratch::new();
    let how = owned_by(1000, 1000, 0o666, 0o022);
    let file = s.tree.unnamed_file(&s.root, &how).unwrap();
    s.tree.write(&file, b"contents", 0).unwrap();
    assert_eq!(s.tree.list(&s.root), Ok(vec![]));
    s.tree.link_file(&file, &s.root, &n("named")).unwrap();
    assert_eq!(s.read("named"), b"contents");
    assert_eq!(
        (owner(&s.look("named")), s.look("named").perm),
        ((1000, 1000), 0o644)
    );
    s.tree.link_file(&file, &s.root, &n("again")).unwrap();
    assert_eq!(
        s.tree.link_file(&file, &s.root, &n("again")),
        Err(Errno::EXIST)
    );
}

#[test]
fn a_file_gets_a_name_without_privileges_too() {
    let s = Scratch::new();
    let file = s
        .tree
        .unnamed_file(&s.root, &Creation::exact(0o600))
        .unwrap();
    let mut fewer = capabilities(None).unwrap();
    fewer.effective.remove(CapabilitySet::DAC_READ_SEARCH);
    set_capabilities(None, fewer).unwrap();
    assert_eq!(s.tree.link_file(&file, &s.root, &n("named")), Ok(()));
    assert_eq!(s.look("named").nlink, 1);
}

#[test]
fn whiteouts_are_names_of_one_device_until_it_is_gone() {
    let s = Scratch::new();
    let leave = |name: &str| {
        let how = Creation::exact(0);
        s.tree
            .make_node(&s.root, &n(name), Node::CharDevice(0), &how)
    };
    for name in ["a", "b", "c"] {
        leave(name).unwrap();
        let made = s.look(name);
        assert_eq!((made.kind, made.rdev, made.perm), (Kind::CharDevice, 0, 0));
    }
    assert_eq!((s.look("a").ino, s.look("c").nlink), (s.look("b").ino, 3));
    assert_eq!(leave("b"), Err(Errno::EXIST));
    // Something else has the name now; it never becomes a whiteout.
    for name in ["a", "b", "c"] {
        s.tree.remove_file(&s.root, &n(name)).unwrap();
        s.make(name);
    }
    leave("d").unwrap();
    leave("e").unwrap();
    assert_eq!((s.look("d").kind, s.look("a").nlink), (Kind::CharDevice, 1));
    assert_eq!(s.look("d").ino, s.look("e").ino);
}
