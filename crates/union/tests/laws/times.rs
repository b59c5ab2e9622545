//! A directory's time of change tells when a name in it came, went or moved, and nothing else.

use rules::Time;
use tree::RenameHow;
use union::InodeId;

use crate::client::Client;
use crate::operation::Op;
use crate::stack::Mode::{Ro, Rw};
use crate::stack::Plan;

const DIRECTORIES: [&str; 4] = ["a", "a/b", "a/b/c", "b"];

fn times(client: &mut Client) -> Vec<(&'static str, Time)> {
    let root = client.union.attr(InodeId::ROOT).unwrap().mtime;
    let mut times = vec![("", root)];
    for path in DIRECTORIES {
        times.push((path, client.find(path).unwrap().attr.mtime));
    }
    times
}

#[test]
fn a_copy_up_leaves_the_times_of_directories_alone() {
    let lower = "a/b/c/f \"x\"\na/b/l -> t\na/b/c/g \"y\"\nb/h = a/b/c/g";
    let plan = Plan::aufs(&[(Rw, ""), (Ro, lower)]);
    let path = |text: &str| text.to_owned();
    let early = plan
        .clone()
        .with(|settings| settings.link_names_early = true);
    for plan in [plan.clone(), plan.clone().noticed(), early, plan.overlay()] {
        for op in [
            Op::Write(path("a/b/c/f"), 0, path("new")),
            Op::OpenTruncate(path("a/b/c/f")),
            Op::Chmod(path("a/b/c"), 0o700),
            Op::Chown(path("a/b/l"), 1, 1),
            Op::Write(path("b/h"), 0, path("new")),
        ] {
            let stack = plan.build();
            let mut client = Client::new(stack.mount());
            let before = times(&mut client);
            client.apply(&op).unwrap();
            assert_eq!(times(&mut client), before, "{plan:?}: {op:?}");
            client.union.flush_pseudo_links().unwrap();
            drop(client);
            let mut client = Client::new(stack.mount());
            assert_eq!(
                times(&mut client),
                before,
                "mounted again: {plan:?}: {op:?}"
            );
        }
    }
}

#[test]
fn a_name_that_comes_or_goes_on_a_lower_writable_branch_gives_its_directory_a_new_time() {
    let lower = "a/f \"x\"\na/g\na/s/\na/b/c/x\nb/h = a/f";
    let plan = Plan::aufs(&[(Rw, "a/\nb/"), (Rw, lower), (Ro, "a/below")]);
    let path = |text: &str| text.to_owned();
    for plan in [plan.clone(), plan.noticed()] {
        for (op, changed) in [
            (Op::Unlink(path("a/g")), &["a"][..]),
            (Op::Rmdir(path("a/s")), &["a"]),
            (
                Op::Rename(path("a/g"), path("a/n"), RenameHow::Replace),
                &["a"],
            ),
            (
                Op::Rename(path("a/g"), path("b/g"), RenameHow::Replace),
                &["a", "b"],
            ),
            (Op::Link(path("a/g"), path("b/g")), &["b"]),
            (Op::Chmod(path("a/f"), 0o600), &[]),
        ] {
            let stack = plan.build();
            let mut client = Client::new(stack.mount());
            let before = times(&mut client);
            client.apply(&op).unwrap();
            for (was, is) in before.into_iter().zip(times(&mut client)) {
                let expected = changed.contains(&was.0);
                assert_eq!(was.1 < is.1, expected, "{plan:?}: {op:?}: {}", was.0);
            }
        }
    }
}
