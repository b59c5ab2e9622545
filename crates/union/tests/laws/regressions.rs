//! Cases that broke a law once.

use rules::Errno;
use tree::RenameHow::Replace;

use crate::client::Client;
use crate::faults::try_faults;
use crate::listed;
use crate::operation::Op;
use crate::outcomes::try_outcome;
use crate::sequences::{Step, try_sequence};
use crate::stack::Mode::{Ro, Rw, Wh};
use crate::stack::{Mode, Plan};

fn outcome(branches: &[(Mode, &str)], op: &Op) {
    let plan = Plan::aufs(branches);
    for plan in [plan.clone(), plan.clone().noticed(), plan.overlay()] {
        try_outcome(&plan, op, false).unwrap();
        try_outcome(&plan, op, true).unwrap();
        try_faults(&plan, op, true).unwrap();
    }
}

fn path(text: &str) -> String {
    text.to_owned()
}

#[test]
fn a_taken_name_is_told_before_the_link_of_a_directory_is_refused() {
    outcome(&[(Rw, "d/x")], &Op::Link(path("d"), path("d/x")));
}

#[test]
fn a_directory_does_not_move_below_itself_even_over_something_there() {
    outcome(&[(Rw, "d/x")], &Op::Rename(path("d"), path("d/x"), Replace));
    outcome(&[(Rw, "d/x")], &Op::Rename(path("d/x"), path("d"), Replace));
}

#[test]
fn a_copied_up_directory_lists_the_numbers_that_its_entries_have() {
    outcome(&[(Rw, ""), (Wh, "d/lower")], &Op::Mkdir(path("d/new")));
}

#[test]
fn nothing_is_linked_where_an_opaque_directory_hides_it() {
    let branches = [(Wh, "a/.wh..wh..opq"), (Rw, "f \"x\"")];
    outcome(&branches, &Op::Link(path("f"), path("a/f")));
    outcome(&branches, &Op::Rename(path("f"), path("a/f"), Replace));
}

#[test]
fn a_branch_that_has_a_file_where_a_directory_is_needed_takes_no_change_below_it() {
    let branches = [(Ro, "a/x"), (Rw, "a -> hidden"), (Wh, "a/b/c \"lower\"")];
    outcome(&branches, &Op::Chown(path("a/b"), 1, 1));
    outcome(&branches, &Op::Create(path("a/b/new")));
    outcome(&branches, &Op::Unlink(path("a/b/c")));
    let branches = [(Rw, "a/x"), (Rw, "a -> hidden\nf \"second\"")];
    outcome(&branches, &Op::Rename(path("f"), path("a/f"), Replace));
    outcome(&branches, &Op::Link(path("f"), path("a/f")));
}

#[test]
fn a_removed_directory_does_not_come_back_when_its_whiteouts_could_not_be_cleaned_up() {
    let branches = [(Rw, "b/a/.wh.x"), (Wh, "b/a/x")];
    outcome(&branches, &Op::Rmdir(path("b/a")));
    outcome(&[(Rw, "b/a/.wh.x")], &Op::Rmdir(path("b/a")));
}

#[test]
fn a_replaced_directory_does_not_come_back_after_its_successor_is_gone() {
    let plan = Plan::aufs(&[(Rw, "new/\nd/.wh.x\nd/.wh.y")]);
    let rename = Op::Rename(path("new"), path("d"), Replace);
    for n in 1..10 {
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        stack
            .faults
            .replan(&testkit::Faults::fail_once_at(n, Errno::NOSPC));
        let renamed = client.apply(&rename);
        stack.faults.reset();
        if renamed.is_ok() {
            client.apply(&Op::Rmdir(path("d"))).unwrap();
            assert_eq!(listed(&stack.mount()), [""; 0], "write {n} failed");
        }
    }
}

#[test]
fn a_rename_is_done_once_the_name_has_moved() {
    outcome(
        &[(Rw, ""), (Wh, "c/a -> t")],
        &Op::Rename(path("c/a"), path("c/b"), Replace),
    );
}

#[test]
fn a_directory_stays_known_while_a_file_of_it_is_open() {
    let plan = Plan::aufs(&[(Rw, "b/c \"open\"")]);
    let steps = [
        Step::Open(path("b/c"), false),
        Step::Forget,
        Step::Do(Op::Unlink(path("b/c"))),
    ];
    try_sequence(&plan, &steps).unwrap();
}

#[test]
fn a_link_made_above_a_lower_file_can_be_renamed() {
    for early_links in [true, false] {
        let plan = Plan::aufs(&[(Rw, "a/"), (Wh, "c/c \"lower\"")]);
        let plan = plan.with(|settings| settings.link_names_early = early_links);
        let steps = [
            Step::Do(Op::Link(path("c/c"), path("a/a"))),
            Step::Do(Op::Rename(path("a/a"), path("b"), Replace)),
        ];
        try_sequence(&plan, &steps).unwrap();
    }
}

#[test]
fn a_link_above_a_second_writable_branch_takes_the_file_there() {
    outcome(
        &[(Rw, "c/"), (Wh, ""), (Rw, "b/b \"x\"")],
        &Op::Link(path("b/b"), path("c/a")),
    );
}

#[test]
fn a_file_that_somebody_else_renamed_is_found_where_it_is_now() {
    let stack = Plan::aufs(&[(Rw, "a \"x\"\nd/")]).noticed().build();
    let mut client = Client::new(stack.mount());
    client.find("a").unwrap();
    crate::plain::apply(
        &stack.trees[0],
        &Op::Rename(path("a"), path("d/b"), Replace),
    )
    .unwrap();
    assert!(client.find("a").is_err());
    assert_eq!(client.read("d/b").unwrap(), b"x");
}

#[test]
fn a_name_in_whose_way_a_file_is_on_the_copys_branch_goes_on_being_the_file() {
    let branches = [
        (Ro, "b/\nc/b \"0 c/b\""),
        (Rw, "b \"1 b\""),
        (Wh, "b/b \"2 b/b\""),
    ];
    for early_links in [false, true] {
        let plan = Plan::aufs(&branches);
        let plan = plan.with(|settings| settings.link_names_early = early_links);
        let mut client = Client::new(plan.build().mount());
        let link = Op::Link(path("b/b"), path("c/a"));
        client.apply(&link).unwrap();
        assert_eq!(client.read("b/b").unwrap(), b"2 b/b");
        assert_eq!(client.read("c/a").unwrap(), b"2 b/b");
        let numbers = ["b/b", "c/a"].map(|name| client.find(name).unwrap().attr.ino);
        assert_eq!(numbers[0], numbers[1]);
    }
}
