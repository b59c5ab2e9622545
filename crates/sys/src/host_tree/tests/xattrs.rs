//! Extended attributes.

use rules::Errno;
use tree::{Object, Tree, XattrHow};

use super::{HostTree, Scratch, n, on_new_and_old_kernels};

/// Sets, reads, lists and removes one attribute of an object.
fn goes_round(tree: &HostTree, object: Object<'_, HostTree>, what: &str) {
    let name = b"trusted.plywood";
    assert_eq!(tree.xattr(object, name), Err(Errno::NODATA), "{what}");
    assert_eq!(
        tree.set_xattr(object, name, b"v\0w", XattrHow::Set),
        Ok(()),
        "{what}"
    );
    assert_eq!(tree.xattr(object, name), Ok(b"v\0w".to_vec()), "{what}");
    assert_eq!(
        tree.set_xattr(object, b"trusted.empty", b"", XattrHow::Create),
        Ok(())
    );
    assert_eq!(tree.xattr(object, b"trusted.empty"), Ok(vec![]));
    let mut names = tree.xattr_names(object).unwrap();
    names.sort();
    assert_eq!(names, [b"trusted.empty".to_vec(), name.to_vec()], "{what}");
    assert_eq!(tree.remove_xattr(object, name), Ok(()), "{what}");
    assert_eq!(
        tree.remove_xattr(object, name),
        Err(Errno::NODATA),
        "{what}"
    );
}

#[test]
fn attributes_go_round_on_every_kind_of_object() {
    on_new_and_old_kernels(|s| {
        let dir = s.make_dir("dir");
        let file = s.make("file");
        s.make("entry");
        s.make_dir("subdir");
        s.make_symlink("link", "file");
        goes_round(&s.tree, Object::Dir(&dir), "dir");
        goes_round(&s.tree, Object::File(&file), "file");
        goes_round(&s.tree, Object::Entry(&s.root, &n("entry")), "entry");
        goes_round(&s.tree, Object::Entry(&s.root, &n("subdir")), "subdir");
        goes_round(&s.tree, Object::Entry(&s.root, &n("link")), "link");
    });
}

#[test]
fn a_link_is_not_followed_to_the_attributes_of_its_target() {
    on_new_and_old_kernels(|s| {
        s.make("file");
        s.make_symlink("link", "file");
        let (file, link) = (n("file"), n("link"));
        let (file, link) = (Object::Entry(&s.root, &file), Object::Entry(&s.root, &link));
        s.tree
            .set_xattr(file, b"user.a", b"1", XattrHow::Set)
            .unwrap();
        assert_eq!(s.tree.xattr_names(link), Ok(vec![]));
        assert_eq!(
            s.tree.set_xattr(link, b"user.a", b"1", XattrHow::Set),
            Err(Errno::PERM)
        );
    });
}

#[test]
fn setting_creates_or_replaces_only_when_told_so() {
    on_new_and_old_kernels(|s| {
        let file = s.make("file");
        s.make("entry");
        let entry = n("entry");
        for object in [Object::File(&file), Object::Entry(&s.root, &entry)] {
            let set = |value: &[u8], how| s.tree.set_xattr(object, b"user.a", value, how);
            assert_eq!(set(b"1", XattrHow::Replace), Err(Errno::NODATA));
            assert_eq!(set(b"2", XattrHow::Create), Ok(()));
            assert_eq!(set(b"3", XattrHow::Create), Err(Errno::EXIST));
            assert_eq!(set(b"4", XattrHow::Replace), Ok(()));
            assert_eq!(s.tree.xattr(object, b"user.a"), Ok(b"4".to_vec()));
        }
    });
}

#[test]
fn long_values_and_many_names_are_read_whole() {
    let shm = || Scratch::under("/dev/shm".as_ref());
    for old in [false, true] {
        let mut s = shm();
        if old {
            s.tree.calls = super::NewCalls::NONE;
        }
        let file = s.make("file");
        let entry = n("file");
        let objects = [Object::File(&file), Object::Entry(&s.root, &entry)];
        // The kernel's limit of one value.
        let value = vec![7; 65_536];
        s.tree
            .set_xattr(objects[0], b"trusted.long", &value, XattrHow::Set)
            .unwrap();
        let name = |i| format!("trusted.a name of some length {i:03}").into_bytes();
        for i in 0..200 {
            s.tree
                .set_xattr(objects[1], &name(i), b"", XattrHow::Set)
                .unwrap();
        }
        for object in objects {
            assert_eq!(s.tree.xattr(object, b"trusted.long").as_ref(), Ok(&value));
            let names = s.tree.xattr_names(object).unwrap();
            assert_eq!(names.len(), 201);
            assert!(names.contains(&name(199)));
        }
        let longer = vec![7; 65_537];
        let refused = s
            .tree
            .set_xattr(objects[1], b"trusted.long", &longer, XattrHow::Set);
        assert_eq!(refused, Err(Errno::BIG));
    }
}

#[test]
fn a_filesystem_without_attributes_has_no_names() {
    let tree = HostTree::open("/proc/self".as_ref()).unwrap();
    let root = tree.root().unwrap();
    let status = n("status");
    let object = Object::Entry(&root, &status);
    assert_eq!(tree.xattr(object, b"user.a"), Err(Errno::OPNOTSUPP));
    assert!(tree.xattr_names(object).unwrap().is_empty());
}

#[test]
fn names_that_are_none_are_refused() {
    on_new_and_old_kernels(|s| {
        s.make("file");
        let (entry, none) = (n("file"), n("none"));
        let object = Object::Entry(&s.root, &entry);
        assert_eq!(s.tree.xattr(object, b"user.a\0b"), Err(Errno::INVAL));
        assert_eq!(s.tree.xattr(object, b"nonsense"), Err(Errno::OPNOTSUPP));
        assert_eq!(
            s.tree.xattr(Object::Entry(&s.root, &none), b"user.a"),
            Err(Errno::NOENT)
        );
    });
}
