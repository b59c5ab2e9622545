//! Inode numbers: one for each object, for as long as it lives.

use tree::RenameHow;
use union::InodeId;

use crate::client::Client;
use crate::operation::Op;
use crate::stack::{Mode, Plan};

fn plans() -> Vec<Plan> {
    let lower = "d/f \"x\"\ng \"y\"\nh = g\ns -> t\ne/";
    let plan = Plan::aufs(&[
        (Mode::Rw, "u \"upper\""),
        (Mode::Wh, lower),
        (Mode::Ro, "d/k"),
    ]);
    let one_disk = plan.clone().on_one_disk();
    let noticed = plan.clone().noticed();
    vec![plan, one_disk, noticed]
}

#[test]
fn a_number_stays_over_copy_up_rename_and_forgetting() {
    for plan in plans() {
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        let number = client.find("d/f").unwrap().attr.ino;
        client.apply(&Op::Chmod("d/f".into(), 0o600)).unwrap();
        assert_eq!(client.find("d/f").unwrap().attr.ino, number, "copied up");
        client.forget_all();
        assert_eq!(client.union.inodes_held(), 1);
        assert_eq!(client.find("d/f").unwrap().attr.ino, number, "forgotten");
        client
            .apply(&Op::Rename("d/f".into(), "n".into(), RenameHow::Replace))
            .unwrap();
        client.forget_all();
        assert_eq!(client.find("n").unwrap().attr.ino, number, "renamed");
    }
}

#[test]
fn a_directory_keeps_its_number_when_it_is_copied_up() {
    for plan in plans() {
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        for dir in ["d", "e"] {
            let number = client.find(dir).unwrap().attr.ino;
            client.apply(&Op::Create(format!("{dir}/new"))).unwrap();
            assert_eq!(client.find(dir).unwrap().attr.ino, number);
            client.forget_all();
            assert_eq!(client.find(dir).unwrap().attr.ino, number);
        }
    }
}

#[test]
fn names_of_one_file_share_its_number_before_and_after_a_copy_up() {
    for plan in plans() {
        for early_links in [true, false] {
            let plan = plan
                .clone()
                .with(|settings| settings.link_names_early = early_links);
            let stack = plan.build();
            let mut client = Client::new(stack.mount());
            let number = client.find("g").unwrap().attr.ino;
            assert_eq!(client.find("h").unwrap().attr.ino, number);
            client
                .apply(&Op::Write("h".into(), 0, "new".into()))
                .unwrap();
            client.forget_all();
            for name in ["g", "h"] {
                assert_eq!(client.find(name).unwrap().attr.ino, number);
                assert_eq!(client.find(name).unwrap().attr.nlink, 2);
                assert_eq!(client.read(name).unwrap(), b"new");
            }
        }
    }
}

#[test]
fn the_root_has_the_number_that_aufs_gives_it() {
    for plan in plans() {
        let client = Client::new(plan.build().mount());
        assert_eq!(client.union.attr(InodeId::ROOT).unwrap().ino, 2);
    }
}
