//! Open files: everybody sees one file, also when it moves to another branch or loses its name.

use rules::{Changes, Creation, Errno, Name};
use testkit::Faults;
use tree::Tree;
use union::{Error, InodeId, OpenFlags, Refusal};

use crate::client::{Client, WRITE, read_all};
use crate::operation::Op;
use crate::stack::{Mode, Plan, Stack};

fn stack(plan: fn(Plan) -> Plan) -> Stack {
    let branches = [
        (Mode::Rw, "u \"upper\""),
        (Mode::Wh, "d/f \"lower\"\nd/g \"other\""),
    ];
    plan(Plan::aufs(&branches)).build()
}

fn bytes(client: &Client, id: InodeId) -> Vec<u8> {
    let mut buffer = vec![0; 64];
    let count = client.union.read(id, &mut buffer, 0).unwrap();
    buffer.truncate(count);
    buffer
}

#[test]
fn a_reader_from_before_the_copy_up_sees_what_is_written_after_it() {
    let stack = stack(|plan| plan);
    let mut client = Client::new(stack.mount());
    let id = client.find("d/f").unwrap().id;
    client.union.open(id, OpenFlags::default()).unwrap();
    assert_eq!(bytes(&client, id), b"lower");
    client.union.open(id, WRITE).unwrap();
    assert_eq!(
        stack.faults.count(),
        3,
        "opening copies nothing: only the mount wrote"
    );
    client.union.write(id, b"NEW", 0, false).unwrap();
    assert_eq!(bytes(&client, id), b"NEWer");
    client.union.release(id);
    assert_eq!(bytes(&client, id), b"NEWer");
    client.union.release(id);
    assert_eq!(client.read("d/f").unwrap(), b"NEWer");
}

#[test]
fn in_the_manner_of_overlayfs_a_reader_keeps_the_original() {
    let stack = stack(|plan| plan.overlay());
    let mut client = Client::new(stack.mount());
    let reader = client.find("d/f").unwrap().id;
    client.union.open(reader, OpenFlags::default()).unwrap();
    assert_eq!(
        client.union.open(reader, WRITE).err(),
        Some(Error::Refused(Refusal::Gone))
    );
    client
        .apply(&Op::Write("d/f".into(), 0, "NEW".into()))
        .unwrap();
    assert_eq!(bytes(&client, reader), b"lower");
    assert_eq!(client.read("d/f").unwrap(), b"NEWer");
}

#[test]
fn open_files_go_on_after_their_name_is_gone() {
    for (path, size) in [("u", 5), ("d/f", 5)] {
        for write in [true, false] {
            let stack = stack(|plan| plan);
            let mut client = Client::new(stack.mount());
            let id = client.find(path).unwrap().id;
            client
                .union
                .open(id, if write { WRITE } else { OpenFlags::default() })
                .unwrap();
            client.apply(&Op::Unlink(path.into())).unwrap();
            assert!(client.find(path).is_err());
            assert_eq!(bytes(&client, id).len(), size);
            let chmod = Changes {
                perm: Some(0o600),
                ..Changes::default()
            };
            let attr = client.union.set_attr(id, &chmod).unwrap();
            assert_eq!((attr.perm, attr.nlink), (0o600, 0), "{path}");
            let cut = Changes {
                size: Some(2),
                ..Changes::default()
            };
            assert_eq!(client.union.set_attr(id, &cut).unwrap().size, 2);
            if write {
                client.union.write(id, b"xyz", 2, false).unwrap();
                assert_eq!(&bytes(&client, id)[2..], b"xyz");
            }
            client
                .union
                .set_xattr(id, b"user.k", b"v", tree::XattrHow::Set)
                .unwrap();
            assert_eq!(client.union.xattr(id, b"user.k").unwrap(), b"v");
            client.union.release(id);
            assert!(!stack.draw().contains("xyz"), "{}", stack.draw());
        }
    }
}

#[test]
fn a_new_file_of_the_old_name_is_another_file() {
    let stack = stack(|plan| plan);
    let mut client = Client::new(stack.mount());
    let id = client.find("d/f").unwrap().id;
    client.union.open(id, WRITE).unwrap();
    client.apply(&Op::Unlink("d/f".into())).unwrap();
    client.apply(&Op::Create("d/f".into())).unwrap();
    client.union.write(id, b"ghost", 0, false).unwrap();
    assert_eq!(client.read("d/f").unwrap(), b"");
    assert_ne!(client.find("d/f").unwrap().id, id);
    assert_eq!(bytes(&client, id), b"ghost");
}

#[test]
fn an_open_file_follows_a_rename() {
    let stack = stack(|plan| plan);
    let mut client = Client::new(stack.mount());
    let id = client.find("d/f").unwrap().id;
    client.union.open(id, WRITE).unwrap();
    let over = Op::Rename("d/f".into(), "d/g".into(), tree::RenameHow::Replace);
    client.apply(&over).unwrap();
    client.union.write(id, b"moved", 0, false).unwrap();
    assert_eq!(client.read("d/g").unwrap(), b"moved");
}

#[test]
fn a_file_replaced_by_a_rename_stays_open() {
    let stack = stack(|plan| plan);
    let mut client = Client::new(stack.mount());
    for path in ["d/g", "u"] {
        let id = client.find(path).unwrap().id;
        let old = read_all(&client.union, id).unwrap();
        client.union.open(id, WRITE).unwrap();
        client.apply(&Op::Create("n".into())).unwrap();
        let over = Op::Rename("n".into(), path.into(), tree::RenameHow::Replace);
        client.apply(&over).unwrap();
        assert_eq!(bytes(&client, id), old);
        client.union.write(id, b"still", 0, false).unwrap();
        assert_eq!(bytes(&client, id), b"still");
        assert_eq!(client.read(path).unwrap(), b"");
    }
}

#[test]
fn a_file_without_a_name_can_be_given_one() {
    let stack = stack(|plan| plan);
    let mut client = Client::new(stack.mount());
    let dir = client.find("d").unwrap().id;
    let (entry, _) = client
        .union
        .unnamed_file(&crate::client::CALLER, dir, 0o600)
        .unwrap();
    client.union.write(entry.id, b"hidden", 0, false).unwrap();
    assert_eq!(client.union.attr(entry.id).unwrap().nlink, 0);
    let linked = client.union.link(entry.id, dir, b"shown").unwrap();
    assert_eq!((linked.attr.nlink, linked.attr.ino), (1, entry.attr.ino));
    client.union.release(entry.id);
    assert_eq!(client.read("d/shown").unwrap(), b"hidden");
}

#[test]
fn syncing_a_directory_syncs_it_on_every_writable_branch() {
    let branches = [(Mode::Rw, "d/"), (Mode::Rw, "d/"), (Mode::Wh, "d/f")];
    let stack = Plan::aufs(&branches).build();
    let mut client = Client::new(stack.mount());
    let id = client.find("d").unwrap().id;
    stack.faults.replan(&Faults::none());
    client.union.sync_dir(id).unwrap();
    assert_eq!(stack.faults.count(), 2);
    for n in 1..=2 {
        stack.faults.replan(&Faults::fail_once_at(n, Errno::IO));
        client.union.sync_dir(id).unwrap_err();
        let (count, struck) = (stack.faults.count(), stack.faults.struck());
        assert_eq!((count, struck), (2, Some("sync_dir")), "the other one, too");
    }
}

#[test]
fn links_are_flushed_however_deep_directories_are() {
    const DEPTH: usize = 4000;
    let stack = Plan::aufs(&[(Mode::Rw, ""), (Mode::Ro, "x \"x\"\ny = x")]).build();
    let union = stack.mount();
    let (tree, name) = (&stack.trees[0], Name::new(b"d").unwrap());
    let mut dir = tree.root().unwrap();
    for _ in 0..DEPTH {
        let how = Creation::exact(0o755);
        tree.make_dir(&dir, &name, &how).unwrap();
        dir = tree.open_dir(&dir, &name).unwrap();
    }
    let found = union.lookup(InodeId::ROOT, b"x").unwrap().unwrap();
    union.open(found.id, WRITE).unwrap();
    union.write(found.id, b"y", 0, false).unwrap();
    union.release(found.id);
    let held = union.inodes_held();
    union.flush_links().unwrap();
    assert_eq!(union.inodes_held(), held);
    let mut later = Client::new(stack.mount());
    assert_eq!(later.read("x").unwrap(), b"y");
    assert_eq!(later.read("y").unwrap(), b"y");
}

#[test]
fn settings_that_cannot_be_had_leave_those_that_were() {
    for n in 1.. {
        let lower = (Mode::Ro, "x \"x\"\ny = x");
        let stack = Plan::aufs(&[(Mode::Rw, ""), (Mode::Rw, ""), lower]).build();
        let mut client = Client::new(stack.mount());
        stack.faults.replan(&Faults::fail_once_at(n, Errno::NOSPC));
        let done = client
            .union
            .reconfigure(|settings| settings.pseudo_links = false, false);
        let struck = stack.faults.struck();
        stack.faults.reset();
        let Some(struck) = struck else { return };
        assert!(done.is_err(), "{struck}");
        assert!(client.union.settings().pseudo_links, "{struck}");
        client
            .apply(&Op::Write("x".to_owned(), 0, "new".to_owned()))
            .unwrap();
        assert_eq!(client.read("y").unwrap(), b"new", "{struck}");
    }
}

#[test]
fn a_copy_is_made_where_files_without_names_are_not_to_be_had() {
    let branches = [(Mode::Rw, "d/"), (Mode::Wh, "d/f \"lower\"")];
    for plan in [Plan::aufs(&branches), Plan::aufs(&branches).overlay()] {
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        let write = Op::Write("d/f".into(), 0, "NEW".into());
        stack
            .faults
            .replan(&Faults::fail_once_at(1, Errno::OPNOTSUPP));
        client.apply(&write).unwrap();
        assert_eq!(stack.faults.struck(), Some("unnamed_file"));
        assert_eq!(client.read("d/f").unwrap(), b"NEWer");
        assert!(stack.left_over().is_empty());
    }
}

#[test]
fn capabilities_are_told_as_soon_as_a_file_has_them() {
    const NAME: &[u8] = b"security.capability";
    for plan in [(|plan| plan) as fn(Plan) -> Plan, Plan::noticed] {
        let stack = stack(plan);
        let mut client = Client::new(stack.mount());
        client.apply(&Op::Create("d/new".into())).unwrap();
        client
            .apply(&Op::Write("d/f".into(), 0, "NEW".into()))
            .unwrap();
        for path in ["d/new", "d/f", "d/g"] {
            let id = client.find(path).unwrap().id;
            let none = Err(Error::Branch(Errno::NODATA));
            assert_eq!(client.union.xattr(id, NAME), none, "{path}");
            let how = tree::XattrHow::Set;
            client.union.set_xattr(id, NAME, b"v", how).unwrap();
            assert_eq!(client.union.xattr(id, NAME).unwrap(), b"v", "{path}");
            client.union.remove_xattr(id, NAME).unwrap();
            assert_eq!(client.union.xattr(id, NAME), none, "{path}");
        }
    }
}

#[test]
fn a_copy_keeps_the_capabilities_of_its_original() {
    const NAME: &[u8] = b"security.capability";
    let stack = stack(|plan| plan);
    let tree = &stack.trees[1];
    let dir = tree.open_dir(&tree.root().unwrap(), &name("d")).unwrap();
    let file = tree::Object::Entry(&dir, &name("f"));
    let how = tree::XattrHow::Set;
    tree.set_xattr(file, NAME, b"v", how).unwrap();
    let mut client = Client::new(stack.mount());
    let id = client.find("d/f").unwrap().id;
    let chmod = Changes {
        perm: Some(0o755),
        ..Changes::default()
    };
    client.union.set_attr(id, &chmod).unwrap();
    assert!(stack.draw().contains("755"), "{}", stack.draw());
    assert_eq!(client.union.xattr(id, NAME).unwrap(), b"v");
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}
