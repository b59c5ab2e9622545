//! Owners and permissions in an attribute, over a tree in memory.

use rules::{Attr, Changes, Creation, Errno, Identity, Kind, Name, SetTime, Time};
use testkit::{Faults, Faulty, MemoryTree};
use tree::{Access, Node, Object, OverrideStat, Record, Tree, XattrHow};

const USER: &[u8] = b"user.containers.override_stat";
const OLD: &[u8] = b"user.fuseoverlayfs.override_stat";
const PRIVILEGED: &[u8] = b"security.fuseoverlayfs.override_stat";

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn creation(uid: u32, gid: u32, perm: u32) -> Creation {
    Creation {
        perm,
        umask: 0o022,
        owner: Some(Identity { uid, gid }),
    }
}

fn user() -> OverrideStat<MemoryTree> {
    OverrideStat::new(MemoryTree::new(), Record::User)
}

fn told(attr: &Attr) -> (Kind, u32, u32, u32) {
    (attr.kind, attr.uid, attr.gid, attr.perm)
}

/// What a tree shows of a name in its root.
fn shows<T: Tree>(tree: &T, entry: &str) -> Option<(Kind, u32, u32, u32)> {
    let found = tree.look(&tree.root().unwrap(), &name(entry)).unwrap();
    found.as_ref().map(told)
}

fn text<T: Tree>(tree: &T, entry: &str, attribute: &[u8]) -> Result<String, Errno> {
    let root = tree.root().unwrap();
    let value = tree.xattr(Object::Entry(&root, &name(entry)), attribute)?;
    Ok(String::from_utf8(value).unwrap())
}

fn change<T: Tree>(tree: &T, entry: &str, changes: Changes) -> Result<(), Errno> {
    let root = tree.root().unwrap();
    tree.set_attr(Object::Entry(&root, &name(entry)), &changes)
}

fn to_owner(uid: u32, gid: u32) -> Changes {
    Changes {
        uid: Some(uid),
        gid: Some(gid),
        ..Changes::default()
    }
}

fn to_perm(perm: u32) -> Changes {
    Changes {
        perm: Some(perm),
        ..Changes::default()
    }
}

#[test]
fn what_is_made_is_the_servers_and_shows_its_owner() {
    let tree = user();
    let root = tree.root().unwrap();
    let how = creation(1000, 1001, 0o4660);
    tree.create_file(&root, &name("file"), &how).unwrap();
    tree.make_dir(&root, &name("dir"), &creation(7, 8, 0o700))
        .unwrap();
    for (node, entry) in [
        (Node::File, "node"),
        (Node::Fifo, "pipe"),
        (Node::Socket, "socket"),
        (Node::CharDevice(0x501), "char"),
        (Node::BlockDevice(0x801), "block"),
    ] {
        tree.make_node(&root, &name(entry), node, &how).unwrap();
    }
    for (entry, kind, written) in [
        ("file", Kind::File, "1000:1001:4640"),
        ("node", Kind::File, "1000:1001:4640"),
        ("pipe", Kind::Fifo, "1000:1001:4640:pipe"),
        ("socket", Kind::Socket, "1000:1001:4640:socket"),
        ("char", Kind::CharDevice, "1000:1001:4640:char-5-1"),
        ("block", Kind::BlockDevice, "1000:1001:4640:block-8-1"),
    ] {
        assert_eq!(shows(&tree, entry), Some((kind, 1000, 1001, 0o4640)));
        assert_eq!(shows(tree.inner(), entry), Some((Kind::File, 0, 0, 0o755)));
        assert_eq!(text(tree.inner(), entry, USER).unwrap(), written);
    }
    assert_eq!(shows(&tree, "dir"), Some((Kind::Dir, 7, 8, 0o700)));
    assert_eq!(shows(tree.inner(), "dir"), Some((Kind::Dir, 0, 0, 0o755)));
    let device = tree.look(&root, &name("block")).unwrap().unwrap();
    assert_eq!(device.rdev, 0x801);
    let mut listed: Vec<_> = tree.list(&root).unwrap();
    listed.retain(|entry| entry.kind != shows(&tree, &entry.name.to_string()).map(|t| t.0));
    assert_eq!(listed, []);
    assert_eq!(
        tree.create_file(&root, &name("file"), &how).err(),
        Some(Errno::EXIST)
    );
}

#[test]
fn a_directory_with_set_group_id_hands_down_its_group() {
    let tree = user();
    let root = tree.root().unwrap();
    tree.make_dir(&root, &name("d"), &creation(1, 2, 0o755))
        .unwrap();
    change(&tree, "d", to_perm(0o2775)).unwrap();
    let dir = tree.open_dir(&root, &name("d")).unwrap();
    tree.make_dir(&dir, &name("sub"), &creation(5, 6, 0o755))
        .unwrap();
    tree.create_file(&dir, &name("f"), &creation(5, 6, 0o644))
        .unwrap();
    let shown = |entry| told(&tree.attr(Object::Entry(&dir, &name(entry))).unwrap());
    assert_eq!(shown("sub"), (Kind::Dir, 5, 2, 0o2755));
    assert_eq!(shown("f"), (Kind::File, 5, 2, 0o644));
}

#[test]
fn a_change_of_owner_takes_set_id_away_and_permissions_given_with_it_hold() {
    let tree = user();
    let root = tree.root().unwrap();
    let file = tree
        .create_file(&root, &name("f"), &creation(1, 1, 0o755))
        .unwrap();
    change(&tree, "f", to_perm(0o6755)).unwrap();
    change(&tree, "f", to_owner(5, 6)).unwrap();
    assert_eq!(shows(&tree, "f"), Some((Kind::File, 5, 6, 0o755)));
    let both = Changes {
        perm: Some(0o4711),
        ..to_owner(7, 8)
    };
    change(&tree, "f", both).unwrap();
    assert_eq!(shows(&tree, "f"), Some((Kind::File, 7, 8, 0o4711)));
    let cut = Changes {
        size: Some(3),
        drop_set_id: true,
        mtime: Some(SetTime::To(Time {
            seconds: 5,
            nanos: 0,
        })),
        ..Changes::default()
    };
    tree.set_attr(Object::File(&file), &cut).unwrap();
    let attr = tree.attr(Object::File(&file)).unwrap();
    assert_eq!(told(&attr), (Kind::File, 7, 8, 0o711));
    assert_eq!((attr.size, attr.mtime.seconds), (3, 5));
    assert_eq!(shows(tree.inner(), "f"), Some((Kind::File, 0, 0, 0o755)));
    assert_eq!(change(&tree, "f", to_owner(u32::MAX, 0)), Err(Errno::INVAL));
}

#[test]
fn what_has_no_attribute_shows_what_it_is_until_it_changes() {
    let tree = user();
    let root = tree.root().unwrap();
    let plain = tree.inner();
    plain
        .create_file(&root, &name("f"), &creation(3, 4, 0o640))
        .unwrap();
    plain
        .make_node(&root, &name("p"), Node::Fifo, &creation(3, 4, 0o640))
        .unwrap();
    assert_eq!(shows(&tree, "f"), Some((Kind::File, 3, 4, 0o640)));
    change(&tree, "f", to_perm(0o600)).unwrap();
    assert_eq!(shows(&tree, "f"), Some((Kind::File, 3, 4, 0o600)));
    assert_eq!(shows(plain, "f"), Some((Kind::File, 3, 4, 0o640)));
    assert_eq!(text(plain, "f", USER).unwrap(), "3:4:0600");
    // A pipe has no room for it, and changes itself.
    change(&tree, "p", to_owner(5, 6)).unwrap();
    assert_eq!(shows(plain, "p"), Some((Kind::Fifo, 5, 6, 0o640)));
}

#[test]
fn the_older_attribute_is_read_and_the_newer_one_is_stronger() {
    let tree = user();
    let root = tree.root().unwrap();
    let plain = tree.inner();
    let exact = Creation::exact(0o600);
    plain.create_file(&root, &name("f"), &exact).unwrap();
    let object = Object::Entry(&root, &name("f"));
    let put = |attribute, text: &[u8]| plain.set_xattr(object, attribute, text, XattrHow::Set);
    put(OLD, b"8:9:100644").unwrap();
    assert_eq!(shows(&tree, "f"), Some((Kind::File, 8, 9, 0o644)));
    change(&tree, "f", to_owner(1, 2)).unwrap();
    assert_eq!(shows(&tree, "f"), Some((Kind::File, 1, 2, 0o644)));
    put(USER, b"nonsense").unwrap();
    assert_eq!(shows(&tree, "f"), Some((Kind::File, 0, 0, 0o600)));
}

#[test]
fn symbolic_links_keep_the_owner_of_their_inode() {
    let tree = user();
    let root = tree.root().unwrap();
    tree.make_symlink(&root, &name("l"), b"target", &creation(5, 6, 0o777))
        .unwrap();
    assert_eq!(shows(&tree, "l"), Some((Kind::Symlink, 0, 0, 0o777)));
    change(&tree, "l", to_owner(7, 8)).unwrap();
    assert_eq!(shows(&tree, "l"), Some((Kind::Symlink, 0, 0, 0o777)));
    assert_eq!(change(&tree, "l", to_perm(0o700)), Err(Errno::OPNOTSUPP));
    assert_eq!(tree.read_link(&root, &name("l")).unwrap(), b"target");
    // One that somebody stored as a file.
    let file = tree
        .inner()
        .create_file(&root, &name("s"), &Creation::exact(0o755))
        .unwrap();
    tree.inner().write(&file, b"somewhere", 0).unwrap();
    let value = b"5:6:777:symlink";
    tree.inner()
        .set_xattr(Object::File(&file), USER, value, XattrHow::Set)
        .unwrap();
    assert_eq!(shows(&tree, "s"), Some((Kind::Symlink, 5, 6, 0o777)));
    assert_eq!(tree.read_link(&root, &name("s")).unwrap(), b"somewhere");
    let opened = tree.open_file(&root, &name("s"), Access::Read);
    assert_eq!(opened.err(), Some(Errno::LOOP));
}

#[test]
fn the_privileged_attribute_stands_on_everything() {
    let tree = OverrideStat::new(MemoryTree::new(), Record::Privileged);
    let root = tree.root().unwrap();
    let how = creation(5, 6, 0o640);
    tree.make_symlink(&root, &name("l"), b"t", &how).unwrap();
    tree.make_node(&root, &name("p"), Node::Fifo, &how).unwrap();
    tree.make_node(&root, &name("c"), Node::CharDevice(0x501), &how)
        .unwrap();
    for (entry, kind, perm) in [
        ("l", Kind::Symlink, 0o777),
        ("p", Kind::Fifo, 0o640),
        ("c", Kind::CharDevice, 0o640),
    ] {
        assert_eq!(shows(&tree, entry), Some((kind, 5, 6, perm)));
        let (real, uid, ..) = shows(tree.inner(), entry).unwrap();
        assert_eq!((real, uid), (kind, 0));
        let written = format!("5:6:{perm:04o}");
        assert_eq!(text(tree.inner(), entry, PRIVILEGED).unwrap(), written);
    }
    change(&tree, "l", to_owner(7, 8)).unwrap();
    assert_eq!(shows(&tree, "l"), Some((Kind::Symlink, 7, 8, 0o777)));
}

#[test]
fn whiteouts_and_marks_are_made_as_asked() {
    let tree = user();
    let root = tree.root().unwrap();
    let exact = Creation::exact(0o444);
    tree.make_node(&root, &name("mark"), Node::File, &exact)
        .unwrap();
    tree.make_node(&root, &name("gone"), Node::CharDevice(0), &exact)
        .unwrap();
    assert_eq!(shows(tree.inner(), "mark"), Some((Kind::File, 0, 0, 0o444)));
    assert_eq!(
        shows(tree.inner(), "gone"),
        Some((Kind::CharDevice, 0, 0, 0o444))
    );
    assert_eq!(text(tree.inner(), "mark", USER), Err(Errno::NODATA));
}

#[test]
fn the_attribute_and_acls_are_hidden() {
    let tree = user();
    let root = tree.root().unwrap();
    tree.create_file(&root, &name("f"), &creation(1, 2, 0o600))
        .unwrap();
    let object = Object::Entry(&root, &name("f"));
    tree.set_xattr(object, b"user.own", b"x", XattrHow::Set)
        .unwrap();
    assert_eq!(tree.xattr_names(object).unwrap(), [b"user.own".to_vec()]);
    for attribute in [USER, OLD, PRIVILEGED] {
        assert_eq!(tree.xattr(object, attribute), Err(Errno::NODATA));
        let set = tree.set_xattr(object, attribute, b"0:0:4755", XattrHow::Set);
        assert_eq!(set, Err(Errno::PERM));
        assert_eq!(tree.remove_xattr(object, attribute), Err(Errno::PERM));
    }
    let list = b"system.posix_acl_access";
    assert_eq!(tree.xattr(object, list), Err(Errno::OPNOTSUPP));
    let set = tree.set_xattr(object, list, b"", XattrHow::Set);
    assert_eq!(set, Err(Errno::OPNOTSUPP));
}

#[test]
fn what_stands_for_a_device_is_neither_opened_nor_cut() {
    let tree = user();
    let root = tree.root().unwrap();
    let how = creation(1, 2, 0o666);
    tree.make_node(&root, &name("c"), Node::CharDevice(0x103), &how)
        .unwrap();
    let opened = tree.open_file(&root, &name("c"), Access::ReadWrite);
    assert_eq!(opened.err(), Some(Errno::NXIO));
    let cut = Changes {
        size: Some(1),
        ..Changes::default()
    };
    assert_eq!(change(&tree, "c", cut), Err(Errno::NXIO));
    change(&tree, "c", to_owner(3, 4)).unwrap();
    assert_eq!(text(tree.inner(), "c", USER).unwrap(), "3:4:0644:char-1-3");
}

#[test]
fn the_root_is_marked_once() {
    let tree = user();
    let root = tree.root().unwrap();
    tree.mark_root().unwrap();
    tree.set_attr(Object::Dir(&root), &to_owner(5, 6)).unwrap();
    tree.mark_root().unwrap();
    let value = tree.inner().xattr(Object::Dir(&root), USER).unwrap();
    assert_eq!(value, b"5:6:0755");
}

/// Makes something on a tree that stops at the n-th write, and tells what is left on disk.
#[track_caller]
fn stopped(
    make: impl Fn(&OverrideStat<Faulty<MemoryTree>>) -> Result<(), Errno>,
    expected: &[&str],
) {
    let faults = Faults::none();
    let tree = OverrideStat::new(Faulty::new(MemoryTree::new(), &faults), Record::User);
    make(&tree).unwrap();
    let count = faults.count();
    let mut seen = Vec::new();
    for n in 1..=count {
        let faults = Faults::stop_at(n);
        let tree = OverrideStat::new(Faulty::new(MemoryTree::new(), &faults), Record::User);
        make(&tree).unwrap_err();
        seen.push(format!("{:?}", shows(&tree, "x")));
        // Where it fails but once, it is made or it is not.
        let faults = Faults::fail_once_at(n, Errno::NOSPC);
        let tree = OverrideStat::new(Faulty::new(MemoryTree::new(), &faults), Record::User);
        let whole = match make(&tree) {
            Ok(()) => shows(&tree, "x").is_some_and(|shown| shown.1 == 5),
            Err(_) => shows(&tree, "x").is_none(),
        };
        assert!(whole, "fault at write {n}");
    }
    assert_eq!(seen, expected);
}

#[test]
fn a_file_shows_its_owner_whenever_it_shows() {
    let make = |tree: &OverrideStat<Faulty<MemoryTree>>| {
        let root = tree.root()?;
        tree.create_file(&root, &name("x"), &creation(5, 6, 0o600))
            .map(drop)
    };
    stopped(make, &["None"; 3]);
}

#[test]
fn a_directory_is_the_servers_until_it_has_its_attribute() {
    let make = |tree: &OverrideStat<Faulty<MemoryTree>>| {
        tree.make_dir(&tree.root()?, &name("x"), &creation(5, 6, 0o700))
    };
    stopped(make, &["None", "Some((Dir, 0, 0, 493))"]);
}
