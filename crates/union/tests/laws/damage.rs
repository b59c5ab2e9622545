//! What the union refuses on its own account: reserved and long names, damaged branches, read-only stacks.

use rules::Errno;
use tree::RenameHow;
use union::{Error, InodeId, Refusal};

use crate::client::{CALLER, Client, WRITE};
use crate::operation::Op;
use crate::stack::{Mode, Plan};
use crate::view::view;

#[test]
fn reserved_names_are_refused_by_every_operation() {
    let plan = Plan::aufs(&[(Mode::Rw, "f \"x\""), (Mode::Wh, ".wh.g\nd/")]);
    for plan in [plan.clone(), plan.overlay()] {
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        let before = view(&client.union).unwrap();
        for name in [".wh.f", ".wh.g", ".wh.", ".wh..wh.plnk", ".wh..wh..opq"] {
            let root = InodeId::ROOT;
            let reserved = Some(Error::Refused(Refusal::Reserved));
            assert_eq!(client.union.lookup(root, name.as_bytes()).err(), reserved);
            let renamed =
                client
                    .union
                    .rename(root, b"f", root, name.as_bytes(), RenameHow::Replace);
            assert_eq!(renamed.err(), reserved);
            for op in [
                Op::Create(name.into()),
                Op::Mkdir(name.into()),
                Op::Symlink(name.into()),
                Op::Link("f".into(), name.into()),
                Op::Unlink(name.into()),
                Op::Rmdir(name.into()),
            ] {
                assert_eq!(client.apply(&op).err(), reserved, "{op:?}");
            }
        }
        assert_eq!(view(&client.union).unwrap(), before);
    }
}

#[test]
fn names_beyond_the_limit_of_the_format_are_refused() {
    let long = "n".repeat(243);
    let plan = Plan::aufs(&[(Mode::Rw, ""), (Mode::Ro, &long)]);
    let stack = plan.build();
    let mut client = Client::new(stack.mount());
    let found = client.union.lookup(InodeId::ROOT, long.as_bytes());
    assert_eq!(
        found.err().map(|error| error.errno()),
        Some(Errno::NAMETOOLONG)
    );
    let mut fits = "n".repeat(242);
    client.apply(&Op::Mkdir(fits.clone())).unwrap();
    client.apply(&Op::Rmdir(fits.clone())).unwrap();
    fits.push('n');
    let made = client.apply(&Op::Create(fits));
    assert_eq!(made, Err(Error::Refused(Refusal::NameTooLong)));
}

#[test]
fn a_whiteout_that_is_a_directory_is_an_io_error_and_harms_no_other_name() {
    let plan = Plan::aufs(&[(Mode::Rw, ".wh.f/x"), (Mode::Wh, "f \"lower\"\ng \"fine\"")]);
    let stack = plan.build();
    let mut client = Client::new(stack.mount());
    assert_eq!(
        client.find("f").err().map(|error| error.errno()),
        Some(Errno::IO)
    );
    for op in [
        Op::Create("f".into()),
        Op::Unlink("f".into()),
        Op::Rename("g".into(), "f".into(), RenameHow::Replace),
    ] {
        assert_eq!(
            client.apply(&op),
            Err(Error::Refused(Refusal::Damaged)),
            "{op:?}"
        );
    }
    assert_eq!(client.read("g").unwrap(), b"fine");
}

#[test]
fn a_stack_without_a_writable_branch_refuses_every_change() {
    let plan = Plan::aufs(&[(Mode::Wh, "f \"x\"\nd/e"), (Mode::Ro, "g")]);
    for plan in [plan.clone(), plan.clone().noticed(), plan.overlay()] {
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        for op in [
            Op::Create("n".into()),
            Op::Mkdir("d/n".into()),
            Op::Symlink("n".into()),
            Op::Link("f".into(), "n".into()),
            Op::Unlink("f".into()),
            Op::Rename("f".into(), "n".into(), RenameHow::Replace),
            Op::Truncate("f".into(), 0),
            Op::Write("f".into(), 0, "y".into()),
            Op::OpenTruncate("f".into()),
            Op::Chmod("d".into(), 0o700),
            Op::Chown("f".into(), 1, 1),
            Op::SetXattr("f".into(), "v".into()),
            Op::RemoveXattr("f".into()),
        ] {
            assert_eq!(
                client.apply(&op),
                Err(Error::Refused(Refusal::ReadOnly)),
                "{op:?}"
            );
        }
        let exclusive = client
            .union
            .create(&CALLER, InodeId::ROOT, b"f", 0o644, true, WRITE);
        assert_eq!(exclusive.err(), Some(Error::Refused(Refusal::Exists)));
        assert_eq!(stack.faults.count(), 0, "nothing was even tried");
    }
}
