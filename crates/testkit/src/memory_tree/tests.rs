//! Corner cases of the tree in memory. What random calls can compare with the host's tree is
//! in `tests/honesty/`; here is what must hold on any machine, and between disks.

use rules::{Attr, Changes, Creation, Errno, Identity, Name, SetTime};
use tree::{Access, Node, Object, RenameHow, Seek, Tree, XattrHow};

use super::disk::MAX_LINKS;
use super::{Dir, MemoryDisk, MemoryTree};
use crate::notation::{draw, plant};

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn planted(text: &str) -> (MemoryTree, Dir) {
    let tree = MemoryTree::new();
    plant(&tree, text);
    let root = tree.root().unwrap();
    (tree, root)
}

fn look(tree: &MemoryTree, dir: &Dir, text: &str) -> Attr {
    tree.look(dir, &name(text)).unwrap().unwrap()
}

#[test]
fn trees_on_one_disk_link_and_rename_among_each_other() {
    let disk = MemoryDisk::new();
    let (upper, lower) = (disk.subtree("upper"), disk.subtree("lower"));
    plant(&lower, "f \"x\"\nd/g");
    let (from, to) = (lower.root().unwrap(), upper.root().unwrap());
    upper.link(&from, &name("f"), &to, &name("h")).unwrap();
    upper
        .rename(&from, &name("d"), &to, &name("e"), RenameHow::Replace)
        .unwrap();
    assert_eq!(
        draw(&disk.tree()),
        "lower/\nlower/f \"x\"\nupper/\nupper/e/\nupper/e/g\nupper/h = lower/f\n"
    );
    assert_eq!(look(&upper, &to, "h").nlink, 2);
    assert_eq!(look(&upper, &to, "h").dev, disk.dev());
}

#[test]
fn names_do_not_cross_disks_but_data_does() {
    let (tree, from) = planted("f \"data\"\nd/");
    let (other, to) = planted("taken");
    let (f, new) = (name("f"), name("new"));
    for (old, new, expected) in [
        ("f", "new", Errno::XDEV),
        ("d", "new", Errno::XDEV),
        ("missing", "new", Errno::NOENT),
        ("f", "taken", Errno::EXIST),
    ] {
        assert_eq!(
            other.link(&from, &name(old), &to, &name(new)),
            Err(expected),
            "{old} {new}"
        );
        let renamed = other.rename(&from, &name(old), &to, &name(new), RenameHow::Replace);
        assert_eq!(renamed, Err(Errno::XDEV), "{old} {new}");
    }
    let file = tree.open_file(&from, &f, Access::Read).unwrap();
    assert_eq!(other.link_file(&file, &to, &new), Err(Errno::XDEV));
    let copy = other
        .create_file(&to, &new, &Creation::exact(0o600))
        .unwrap();
    other.copy_data(&file, &copy, 4).unwrap();
    assert_eq!(draw(&other), "new \"data\" 0600\ntaken\n");
    assert_ne!(tree.disk().dev(), other.disk().dev());
}

#[test]
fn nothing_is_made_in_a_removed_directory() {
    let (tree, root) = planted("d/");
    let gone = tree.open_dir(&root, &name("d")).unwrap();
    tree.remove_dir(&root, &name("d")).unwrap();
    let how = Creation::exact(0o644);
    assert_eq!(
        tree.create_file(&gone, &name("f"), &how).map(drop),
        Err(Errno::NOENT)
    );
    assert_eq!(tree.make_dir(&gone, &name("f"), &how), Err(Errno::NOENT));
    assert_eq!(tree.list(&gone).map(drop), Err(Errno::NOENT));
    assert_eq!(tree.look(&gone, &name("f")), Ok(None));
    assert_eq!(tree.attr(Object::Dir(&gone)).unwrap().nlink, 0);
    let back = tree.rename(&root, &name("f"), &gone, &name("f"), RenameHow::Replace);
    assert_eq!(back, Err(Errno::NOENT));
}

#[test]
fn a_file_without_a_name_gets_its_first_one_and_only_then() {
    let (tree, root) = planted("");
    let file = tree.unnamed_file(&root, &Creation::exact(0o644)).unwrap();
    assert_eq!(tree.attr(Object::File(&file)).unwrap().nlink, 0);
    tree.link_file(&file, &root, &name("a")).unwrap();
    tree.remove_file(&root, &name("a")).unwrap();
    assert_eq!(tree.link_file(&file, &root, &name("b")), Err(Errno::NOENT));
}

#[test]
fn inode_numbers_are_never_reused() {
    let (tree, root) = planted("");
    let mut last = 0;
    for _ in 0..3 {
        tree.make_node(&root, &name("f"), Node::File, &Creation::exact(0o644))
            .unwrap();
        let ino = look(&tree, &root, "f").ino;
        assert!(ino > last);
        last = ino;
        tree.remove_file(&root, &name("f")).unwrap();
    }
}

#[test]
fn a_file_has_as_many_names_as_ext4_allows() {
    let (tree, root) = planted("f");
    let ino = look(&tree, &root, "f").ino;
    tree.disk().lock().inode_mut(ino).nlink = MAX_LINKS - 1;
    tree.link(&root, &name("f"), &root, &name("g")).unwrap();
    assert_eq!(
        tree.link(&root, &name("f"), &root, &name("h")),
        Err(Errno::MLINK)
    );
}

#[test]
fn changes_move_the_clock_where_the_kernel_would() {
    let (tree, root) = planted("d/\ne/\ne/f \"x\"\ng");
    let stamps = |text: &str| {
        let attr = look(&tree, &root, text);
        (attr.mtime, attr.ctime)
    };
    let (d, e, g) = (stamps("d"), stamps("e"), stamps("g"));
    let (from, to) = (name("e"), name("d"));
    let from = tree.open_dir(&root, &from).unwrap();
    let to = tree.open_dir(&root, &to).unwrap();
    tree.rename(&from, &name("f"), &to, &name("f"), RenameHow::Replace)
        .unwrap();
    assert!(stamps("d").0 > d.0 && stamps("d").1 > d.1);
    assert!(stamps("e").0 > e.0 && stamps("e").1 > e.1);
    assert_eq!(stamps("g"), g);
    let perm = Changes {
        perm: Some(0o600),
        ..Changes::default()
    };
    tree.set_attr(Object::Entry(&root, &name("g")), &perm)
        .unwrap();
    assert!(stamps("g").0 == g.0 && stamps("g").1 > g.1);
    let now = Changes {
        mtime: Some(SetTime::Now),
        ..Changes::default()
    };
    tree.set_attr(Object::Entry(&root, &name("g")), &now)
        .unwrap();
    assert_eq!(stamps("g").0, stamps("g").1);
}

#[test]
fn quiet_readers_leave_the_time_of_access_alone() {
    let (tree, root) = planted("f \"x\"");
    let before = look(&tree, &root, "f").atime;
    let mut buffer = [0; 1];
    let quiet = tree
        .open_file(&root, &name("f"), Access::ReadQuietly)
        .unwrap();
    tree.read(&quiet, &mut buffer, 0).unwrap();
    assert_eq!(look(&tree, &root, "f").atime, before);
    let loud = tree.open_file(&root, &name("f"), Access::Read).unwrap();
    tree.read(&loud, &mut buffer, 0).unwrap();
    assert!(look(&tree, &root, "f").atime > before);
}

#[test]
fn set_group_id_directories_hand_down_their_group() {
    let (tree, root) = planted("d/ 2750 0:50");
    let dir = tree.open_dir(&root, &name("d")).unwrap();
    let owner = Some(Identity { uid: 7, gid: 8 });
    let how = Creation {
        perm: 0o777,
        umask: 0o022,
        owner,
    };
    tree.make_dir(&dir, &name("sub"), &how).unwrap();
    tree.create_file(&dir, &name("file"), &how).unwrap();
    tree.make_symlink(&dir, &name("link"), b"x", &how).unwrap();
    tree.make_dir(&root, &name("plain"), &how).unwrap();
    assert_eq!(
        draw(&tree),
        "d/ 2750 0:50\nd/file 0755 7:50\nd/link -> x 7:50\nd/sub/ 2755 7:50\nplain/ 7:8\n"
    );
}

#[test]
fn a_handle_for_reading_writes_nothing() {
    let (tree, root) = planted("f \"x\"");
    let file = tree.open_file(&root, &name("f"), Access::Read).unwrap();
    assert_eq!(tree.write(&file, b"y", 0), Err(Errno::BADF));
    assert_eq!(tree.allocate(&file, 0, 0, 1), Err(Errno::BADF));
    assert_eq!(tree.copy_range(&file, 0, &file, 5, 1), Err(Errno::BADF));
    assert_eq!(tree.copy_data(&file, &file, 1), Err(Errno::BADF));
    let size = Changes {
        size: Some(0),
        ..Changes::default()
    };
    assert_eq!(tree.set_attr(Object::File(&file), &size), Err(Errno::INVAL));
    assert_eq!(draw(&tree), "f \"x\"\n");
}

#[test]
fn a_large_sparse_file_is_copied_with_its_holes() {
    let (tree, root) = planted("");
    let from = tree
        .create_file(&root, &name("from"), &Creation::exact(0o644))
        .unwrap();
    tree.write(&from, b"end", 1 << 40).unwrap();
    let to = tree
        .create_file(&root, &name("to"), &Creation::exact(0o644))
        .unwrap();
    tree.copy_data(&from, &to, (1 << 40) + 3).unwrap();
    assert_eq!(tree.seek(&to, 0, Seek::Data), Ok(1 << 40));
    assert_eq!(look(&tree, &root, "to").blocks, 8);
    tree.copy_data(&from, &to, 1 << 41).unwrap();
    assert_eq!(look(&tree, &root, "to").size, 1 << 41);
}

#[test]
fn extended_attributes_have_about_a_block_together() {
    let (tree, root) = planted("f");
    let f = name("f");
    let object = Object::Entry(&root, &f);
    let set = |name: &[u8], length| tree.set_xattr(object, name, &vec![1; length], XattrHow::Set);
    assert_eq!(set(b"user.big", 5000), Err(Errno::NOSPC));
    set(b"user.big", 3000).unwrap();
    assert_eq!(set(b"user.other", 3000), Err(Errno::NOSPC));
    set(b"user.big", 10).unwrap();
    set(b"user.other", 3000).unwrap();
}

#[test]
fn free_space_shrinks_with_what_has_names() {
    let (tree, root) = planted("");
    let before = tree.stat_fs(&root).unwrap();
    plant(&tree, "f \"x\"");
    let after = tree.stat_fs(&root).unwrap();
    assert_eq!(after.files_free, before.files_free - 1);
    assert_eq!(after.blocks_free, before.blocks_free - 1);
    tree.remove_file(&root, &name("f")).unwrap();
    assert_eq!(tree.stat_fs(&root), Ok(before));
}
