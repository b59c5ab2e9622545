//! A copy-up fails where an attribute cannot be copied, unless its class is named for the branch (`icex`).

use rules::{Errno, Powers, XattrClasses};
use testkit::draw;
use union::Error;

use crate::client::Client;
use crate::operation::Op;
use crate::stack::Mode::{Ro, Rw};
use crate::stack::{Empower, Plan, Stack};

const LOWER: &str = "d/ user.d=v\nd/f \"lower\" user.a=v trusted.b=w";

fn stack(refused: XattrClasses, powers: Empower) -> (Stack, Client) {
    let stack = Plan::aufs(&[(Rw, ""), (Ro, LOWER)])
        .branch(0, powers)
        .build();
    stack.trees[0].disk().refuse_xattrs(refused);
    let client = Client::new(stack.mount());
    (stack, client)
}

fn write() -> Op {
    Op::Write("d/f".into(), 0, "new".into())
}

#[test]
fn a_branch_that_cannot_have_an_attribute_takes_no_copy() {
    for (refused, top) in [
        (XattrClasses::USER, ""),
        (XattrClasses::TRUSTED, "d/"),
        (XattrClasses::ALL, ""),
    ] {
        let (stack, mut client) = stack(refused, |powers| powers);
        assert_eq!(client.apply(&write()), Err(Error::Branch(Errno::OPNOTSUPP)));
        assert_eq!(
            client.apply(&Op::Chmod("d/f".into(), 0o600)),
            Err(Error::Branch(Errno::OPNOTSUPP))
        );
        let drawn = draw(&stack.trees[0]);
        assert!(!drawn.contains("f "), "{drawn}");
        assert_eq!(drawn.contains("d/"), !top.is_empty(), "{drawn}");
        assert_eq!(client.read("d/f").unwrap(), b"lower");
    }
}

#[test]
fn attributes_of_the_named_classes_stay_behind() {
    let user = |powers| Powers {
        ignored_xattrs: XattrClasses::USER,
        ..powers
    };
    let (tree, mut client) = stack(XattrClasses::USER, user);
    client.apply(&write()).unwrap();
    let drawn = draw(&tree.trees[0]);
    assert!(drawn.contains("d/f \"newer\" trusted.b=w"), "{drawn}");
    assert!(!drawn.contains("user."), "{drawn}");

    let (_, mut client) = stack(XattrClasses::ALL, user);
    assert_eq!(client.apply(&write()), Err(Error::Branch(Errno::OPNOTSUPP)));

    let all = |powers| Powers {
        ignored_xattrs: XattrClasses::ALL,
        ..powers
    };
    let (tree, mut client) = stack(XattrClasses::ALL, all);
    client.apply(&write()).unwrap();
    assert!(draw(&tree.trees[0]).contains("d/f \"newer\"\n"));
}

#[test]
fn the_classes_of_the_source_branch_do_not_matter() {
    let plan = Plan::aufs(&[(Rw, ""), (Ro, LOWER)]).branch(1, |powers| Powers {
        ignored_xattrs: XattrClasses::ALL,
        ..powers
    });
    let stack = plan.build();
    stack.trees[0].disk().refuse_xattrs(XattrClasses::USER);
    let mut client = Client::new(stack.mount());
    assert_eq!(client.apply(&write()), Err(Error::Branch(Errno::OPNOTSUPP)));
}

#[test]
fn what_a_branch_can_have_is_copied_whatever_is_excused() {
    let (tree, mut client) = stack(XattrClasses::NONE, |powers| Powers {
        ignored_xattrs: XattrClasses::ALL,
        ..powers
    });
    client.apply(&write()).unwrap();
    let drawn = draw(&tree.trees[0]);
    assert!(drawn.contains("trusted.b=w user.a=v"), "{drawn}");
}
