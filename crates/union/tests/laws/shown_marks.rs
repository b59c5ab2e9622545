//! With `shwh` whiteouts and the format's own files can be seen, and nothing else is different.

use rules::{Errno, Kind};
use tree::RenameHow;
use union::InodeId;

use crate::client::Client;
use crate::listed;
use crate::operation::Op;
use crate::stack::Mode::{Ro, Rw, Wh};
use crate::stack::{Plan, Stack};

fn stack(upper: (crate::stack::Mode, &str)) -> Stack {
    let lower = (Ro, "gone \"g\"\nkept \"k\"\nd/x \"x\"");
    let plan = Plan::aufs(&[upper, lower]);
    plan.with(|settings| settings.show_whiteouts = true).build()
}

const UPPER: &str = ".wh.gone 0444\nd/.wh..wh..opq 0444";

#[test]
fn marks_are_listed_as_unknown_and_found_as_what_they_are() {
    let stack = stack((Wh, UPPER));
    let mut client = Client::new(stack.mount());
    let mut names = listed(&client.union);
    names.sort();
    assert_eq!(names, [".wh.gone", "d", "kept"]);
    let found = client.find(".wh.gone").unwrap().attr;
    assert_eq!((found.kind, found.perm, found.size), (Kind::File, 0o444, 0));
    assert_eq!(client.read(".wh.gone").unwrap(), b"");
    assert!(client.find("gone").is_err());
    assert!(client.find(".wh.other").is_err());
    assert!(client.find("d/.wh..wh..opq").is_ok());
    assert!(client.find("d/x").is_err(), "the mark still counts");

    let root = client.union.open_dir(InodeId::ROOT).unwrap();
    for with_entries in [false, true] {
        let mut kinds = Vec::new();
        let mut sink = |listed: union::Listed<'_>| {
            kinds.push((listed.name.to_vec(), listed.kind, listed.entry.is_some()));
            true
        };
        client
            .union
            .read_dir(&root, 0, with_entries, &mut sink)
            .unwrap();
        let mark = kinds.iter().find(|(name, ..)| name == b".wh.gone").unwrap();
        assert_eq!((mark.1, mark.2), (None, false));
    }
}

#[test]
fn a_writable_root_shows_the_formats_own_files() {
    let stack = stack((Rw, UPPER));
    let mut client = Client::new(stack.mount());
    let mut names = listed(&client.union);
    names.sort();
    let expected = [
        ".wh..wh.aufs",
        ".wh..wh.orph",
        ".wh..wh.plnk",
        ".wh.gone",
        "d",
        "kept",
    ];
    assert_eq!(names, expected);
    assert_eq!(client.find(".wh..wh.plnk").unwrap().attr.kind, Kind::Dir);
    client.apply(&Op::Unlink("kept".into())).unwrap();
    let names = listed(&client.union);
    assert!(
        names.contains(&".wh.kept".into()) && !names.contains(&"kept".into()),
        "{names:?}"
    );
    assert!(client.find(".wh.kept").is_ok());
}

#[test]
fn no_mark_is_made_removed_or_moved_by_its_name() {
    let stack = stack((Rw, UPPER));
    let mut client = Client::new(stack.mount());
    let path = |text: &str| text.to_owned();
    for op in [
        Op::Create(path(".wh.new")),
        Op::Mkdir(path("d/.wh.new")),
        Op::Unlink(path(".wh.gone")),
        Op::Rmdir(path(".wh..wh.plnk")),
        Op::Rename(path(".wh.gone"), path("moved"), RenameHow::Replace),
        Op::Rename(path("kept"), path(".wh.kept"), RenameHow::Replace),
        Op::Link(path("kept"), path(".wh.link")),
    ] {
        let done = client.apply(&op).map_err(|error| error.errno());
        assert_eq!(done, Err(Errno::PERM), "{op:?}");
    }
    let layered = self::stack((Rw, "")).plan.clone();
    let stack = Plan::aufs(&[(Rw, ""), (Wh, UPPER)])
        .with(|settings| *settings = layered.settings)
        .build();
    let mut client = Client::new(stack.mount());
    let done = client.apply(&Op::Chmod(path(".wh.gone"), 0o600));
    assert_eq!(done.map_err(|error| error.errno()), Err(Errno::PERM));
    assert_eq!(stack.touched_read_only_branch(), None);
}

#[test]
fn without_the_option_no_mark_can_be_named() {
    let plan = Plan::aufs(&[(Wh, UPPER), (Ro, "gone \"g\"")]);
    let mut client = Client::new(plan.build().mount());
    let found = client.find(".wh.gone").map_err(|error| error.errno());
    assert_eq!(found.map(drop), Err(Errno::PERM));
    assert_eq!(listed(&client.union), ["d"]);
}
