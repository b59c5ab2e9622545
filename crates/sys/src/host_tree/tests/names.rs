//! Listing, opening directories, linking, renaming and removing.

use std::collections::BTreeSet;
use std::fs;

use rules::{Creation, Errno, Kind};
use tree::{Access, Node, RenameHow, Tree};

use super::{HostTree, Scratch, n, on_new_and_old_kernels};

#[test]
fn a_list_of_ten_thousand_entries_is_complete() {
    let s = Scratch::new();
    for i in 0..10_000 {
        fs::File::create(s.path(&format!("a name of some length, number {i}"))).unwrap();
    }
    let entries = s.tree.list(&s.root).unwrap();
    let names: BTreeSet<_> = entries.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!((entries.len(), names.len()), (10_000, 10_000));
    assert!(names.contains(&n("a name of some length, number 9999")));
}

#[test]
fn a_list_tells_kind_and_inode() {
    let s = Scratch::new();
    s.make("file");
    s.make_dir("dir");
    s.make_symlink("link", "file");
    let mut told: Vec<_> = s
        .tree
        .list(&s.root)
        .unwrap()
        .into_iter()
        .map(|e| (e.name, e.kind, e.ino))
        .collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("dir", Kind::Dir),
        ("file", Kind::File),
        ("link", Kind::Symlink),
    ];
    let expected = expected.map(|(name, kind)| (n(name), Some(kind), s.look(name).ino));
    assert_eq!(told, expected);
}

#[test]
fn a_removed_directory_has_no_entries_any_more() {
    let s = Scratch::new();
    let dir = s.make_dir("dir");
    s.tree
        .rename(&s.root, &n("dir"), &s.root, &n("moved"), RenameHow::Replace)
        .unwrap();
    assert_eq!(s.tree.list(&dir), Ok(vec![]));
    s.tree.remove_dir(&s.root, &n("moved")).unwrap();
    assert_eq!(s.tree.list(&dir), Err(Errno::NOENT));
    let made = s.tree.make_dir(&dir, &n("x"), &Creation::exact(0o755));
    assert_eq!(made, Err(Errno::NOENT));
}

#[test]
fn only_a_directory_opens_as_one() {
    on_new_and_old_kernels(|s| {
        s.make("file");
        assert_eq!(
            s.tree.open_dir(&s.root, &n("file")).err(),
            Some(Errno::NOTDIR)
        );
        assert_eq!(
            s.tree.open_dir(&s.root, &n("none")).err(),
            Some(Errno::NOENT)
        );
        let dir = s.make_dir("dir");
        assert_eq!(s.tree.look(&dir, &n("none")), Ok(None));
    });
}

#[test]
fn a_symbolic_link_swapped_in_for_a_directory_is_not_followed() {
    on_new_and_old_kernels(|s| {
        fs::create_dir(s.path("secret")).unwrap();
        fs::create_dir(s.path("dir")).unwrap();
        fs::rename(s.path("dir"), s.path("old")).unwrap();
        s.make_symlink("dir", "secret");
        let refused = s.tree.open_dir(&s.root, &n("dir")).unwrap_err();
        assert!(
            [Errno::NOTDIR, Errno::LOOP].contains(&refused),
            "{refused:?}"
        );
        s.make_symlink("up", "..");
        assert!(s.tree.open_dir(&s.root, &n("up")).is_err());
        assert_eq!(s.tree.read_link(&s.root, &n("up")), Ok(b"..".to_vec()));
    });
}

#[test]
fn a_symbolic_link_swapped_in_for_a_file_is_not_opened() {
    on_new_and_old_kernels(|s| {
        s.make("file");
        s.make_symlink("link", "file");
        for access in [Access::Read, Access::ReadQuietly, Access::ReadWrite] {
            let opened = s.tree.open_file(&s.root, &n("link"), access);
            assert_eq!(opened.err(), Some(Errno::LOOP));
        }
    });
}

#[test]
fn only_a_regular_file_opens_as_one_and_a_pipe_does_not_block() {
    on_new_and_old_kernels(|s| {
        s.make_dir("dir");
        s.tree
            .make_node(&s.root, &n("fifo"), Node::Fifo, &Creation::exact(0o600))
            .unwrap();
        s.tree
            .make_node(&s.root, &n("socket"), Node::Socket, &Creation::exact(0o600))
            .unwrap();
        let opened = |name, access| s.tree.open_file(&s.root, &n(name), access).err();
        for access in [Access::Read, Access::ReadWrite] {
            assert_eq!(opened("dir", access), Some(Errno::ISDIR));
            assert_eq!(opened("fifo", access), Some(Errno::INVAL));
            assert_eq!(opened("socket", access), Some(Errno::NXIO));
            assert_eq!(opened("none", access), Some(Errno::NOENT));
        }
    });
}

#[test]
fn renaming_replaces_refuses_or_exchanges() {
    let s = Scratch::new();
    let (a, b) = (s.make("a"), s.make("b"));
    s.tree.write(&a, b"a", 0).unwrap();
    s.tree.write(&b, b"b", 0).unwrap();
    let rename = |how| s.tree.rename(&s.root, &n("a"), &s.root, &n("b"), how);
    assert_eq!(rename(RenameHow::NoReplace), Err(Errno::EXIST));
    assert_eq!(rename(RenameHow::Exchange), Ok(()));
    assert_eq!((s.read("a"), s.read("b")), (b"b".to_vec(), b"a".to_vec()));
    assert_eq!(rename(RenameHow::Replace), Ok(()));
    assert_eq!(s.read("b"), b"b");
    assert_eq!(rename(RenameHow::Replace), Err(Errno::NOENT));
}

#[test]
fn links_and_renames_to_another_filesystem_are_refused() {
    let s = Scratch::new();
    let other = Scratch::under("/dev/shm".as_ref());
    let file = s.make("file");
    let linked = s.tree.link(&s.root, &n("file"), &other.root, &n("file"));
    assert_eq!(linked, Err(Errno::XDEV));
    assert_eq!(
        s.tree.link_file(&file, &other.root, &n("file")),
        Err(Errno::XDEV)
    );
    let renamed = s.tree.rename(
        &s.root,
        &n("file"),
        &other.root,
        &n("file"),
        RenameHow::Replace,
    );
    assert_eq!(renamed, Err(Errno::XDEV));
}

#[test]
fn a_link_is_a_second_name_and_never_follows() {
    let s = Scratch::new();
    s.make("file");
    s.make_symlink("symlink", "file");
    s.tree
        .link(&s.root, &n("file"), &s.root, &n("second"))
        .unwrap();
    assert_eq!(
        (s.look("second").ino, s.look("file").nlink),
        (s.look("file").ino, 2)
    );
    s.tree
        .link(&s.root, &n("symlink"), &s.root, &n("third"))
        .unwrap();
    assert_eq!(s.look("third").kind, Kind::Symlink);
    let again = s.tree.link(&s.root, &n("file"), &s.root, &n("second"));
    assert_eq!(again, Err(Errno::EXIST));
}

#[test]
fn removing_tells_directories_from_files() {
    let s = Scratch::new();
    let dir = s.make_dir("dir");
    s.make("file");
    s.tree
        .create_file(&dir, &n("inner"), &Creation::exact(0o600))
        .unwrap();
    let (remove_file, remove_dir) = (HostTree::remove_file, HostTree::remove_dir);
    assert_eq!(remove_file(&s.tree, &s.root, &n("dir")), Err(Errno::ISDIR));
    assert_eq!(remove_dir(&s.tree, &s.root, &n("file")), Err(Errno::NOTDIR));
    assert_eq!(
        remove_dir(&s.tree, &s.root, &n("dir")),
        Err(Errno::NOTEMPTY)
    );
    assert_eq!(remove_file(&s.tree, &dir, &n("inner")), Ok(()));
    assert_eq!(remove_dir(&s.tree, &s.root, &n("dir")), Ok(()));
    assert_eq!(remove_file(&s.tree, &s.root, &n("dir")), Err(Errno::NOENT));
}

#[test]
fn directories_and_filesystems_are_synced_and_measured() {
    let s = Scratch::new();
    let dir = s.make_dir("dir");
    assert_eq!(s.tree.sync_dir(&dir), Ok(()));
    assert_eq!(s.tree.sync_all(&dir), Ok(()));
    let told = s.tree.stat_fs(&dir).unwrap();
    assert_eq!(told.dev, s.look("dir").dev);
    assert!(told.blocks >= told.blocks_free && told.blocks_free >= told.blocks_available);
    assert!(told.fragment_size >= 512 && told.name_max == 255);
}
