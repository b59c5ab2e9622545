//! Without `dirperm1` every branch's directory decides who reads and searches it.

use rules::Identity;
use rules::access::{Subject, Wish};
use union::InodeId;

use crate::client::Client;
use crate::stack::Mode::{Ro, Rw};
use crate::stack::Plan;

fn subject(uid: u32, groups: &[u32]) -> Option<Subject> {
    Some(Subject {
        identity: Identity { uid, gid: uid },
        groups: groups.to_vec(),
    })
}

#[test]
fn a_directory_below_refuses_whom_its_permission_bits_do_not_grant_it() {
    let branches = [
        (Rw, "both/ 0700\nopen/ 0700"),
        (Ro, "both/ 0750 5:6\nopen/ 0755\nalone/ 0700"),
    ];
    let plan = Plan::aufs(&branches).with(|settings| settings.all_directories_decide = true);
    let mut client = Client::new(plan.build().mount());
    for (path, uid, groups, refused) in [
        ("both", 5, &[][..], false),
        ("both", 9, &[6], false),
        ("both", 9, &[7], true),
        ("open", 9, &[], false),
        // Its topmost directory is the front end's business.
        ("alone", 9, &[], false),
    ] {
        let id = client.find(path).unwrap().id;
        for wish in [Wish::Read, Wish::Search] {
            let told = client
                .union
                .is_refused_below(id, wish, || subject(uid, groups));
            assert_eq!(told, Ok(refused), "{path} {uid} {groups:?}");
            let told = client.union.is_refused_below(id, wish, || None);
            assert_eq!(told, Ok(false), "permission bits do not bind everybody");
        }
    }
    let id = client.find("open").unwrap().id;
    let asked = || unreachable!("all may go through it");
    assert_eq!(
        client.union.is_refused_below(id, Wish::Search, asked),
        Ok(false)
    );
}

#[test]
fn with_dirperm1_only_the_topmost_counts() {
    let plan = Plan::aufs(&[(Rw, "d/"), (Ro, "d/ 0700")]);
    let mut client = Client::new(plan.build().mount());
    let id = client.find("d").unwrap().id;
    let told = client
        .union
        .is_refused_below(id, Wish::Search, || subject(9, &[]));
    assert_eq!(told, Ok(false));
}

#[test]
fn a_directory_is_in_use_while_it_or_something_in_it_is_held() {
    let mut client = Client::new(Plan::aufs(&[(Rw, "d/e/f \"x\"")]).build().mount());
    let d = client
        .union
        .lookup(InodeId::ROOT, b"d")
        .unwrap()
        .unwrap()
        .id;
    assert!(!client.union.is_in_use(d));
    client.find("d/e").unwrap();
    assert!(client.union.is_in_use(d));
}
