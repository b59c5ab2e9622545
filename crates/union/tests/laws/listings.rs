//! Reading a directory while it changes.

use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use rules::Name;
use union::{DirStream, InodeId, Observer};

use crate::client::Client;
use crate::operation::Op;
use crate::stack::{MemoryUnion, Mode, Plan};

/// Many names on two branches, some of them hidden.
fn plan() -> Plan {
    let names = |range: std::ops::Range<u32>| range.map(|n| format!("f{n}\n")).collect::<String>();
    let upper = names(0..20) + ".wh.f35\n.wh.f36\n";
    Plan::aufs(&[(Mode::Rw, &upper), (Mode::Wh, &names(10..40))])
}

fn read(
    union: &MemoryUnion,
    stream: &DirStream<testkit::Faulty<testkit::MemoryTree>>,
    offset: u64,
    limit: usize,
) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut sink = |listed: union::Listed<'_>| {
        if found.len() == limit {
            return false;
        }
        found.push((
            String::from_utf8(listed.name.to_vec()).unwrap(),
            listed.next_offset,
        ));
        true
    };
    union.read_dir(stream, offset, false, &mut sink).unwrap();
    found
}

#[test]
fn removing_all_names_while_reading_misses_and_doubles_nothing() {
    for plan in [plan(), plan().noticed()] {
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        let stream = client.union.open_dir(InodeId::ROOT).unwrap();
        let (mut offset, mut seen) = (0, Vec::new());
        loop {
            let part = read(&client.union, &stream, offset, 3);
            let Some((_, next)) = part.last() else { break };
            offset = *next;
            for (name, _) in part.into_iter().filter(|(name, _)| !name.starts_with('.')) {
                client.apply(&Op::Unlink(name.clone())).unwrap();
                seen.push(name);
            }
        }
        seen.sort();
        let mut expected: Vec<_> = (0..40)
            .filter(|n| *n != 35 && *n != 36)
            .map(|n| format!("f{n}"))
            .collect();
        expected.sort();
        assert_eq!(seen, expected);
        client.apply(&Op::Mkdir("d".into())).unwrap();
        let again = client.union.open_dir(InodeId::ROOT).unwrap();
        assert_eq!(
            read(&client.union, &again, 0, 99).len(),
            3,
            "only d is left"
        );
    }
}

#[test]
fn a_rewound_stream_shows_what_came_and_a_running_one_does_not() {
    let stack = plan().build();
    let mut client = Client::new(stack.mount());
    let stream = client.union.open_dir(InodeId::ROOT).unwrap();
    let first = read(&client.union, &stream, 0, 5);
    client.apply(&Op::Create("new".into())).unwrap();
    let rest = read(&client.union, &stream, first[4].1, 99);
    assert_eq!(first.len() + rest.len(), 40);
    assert!(rest.iter().all(|(name, _)| name != "new"));
    let again = read(&client.union, &stream, 0, 99);
    assert!(again.iter().any(|(name, _)| name == "new"));
}

#[test]
fn the_root_lists_itself_by_the_number_it_has_everywhere_unless_aufs_is_asked_for() {
    for branch_number in [false, true] {
        let plan = plan().on_one_disk();
        let plan = plan.with(|settings| settings.root_lists_branch_number = branch_number);
        let client = Client::new(plan.build().mount());
        let stream = client.union.open_dir(InodeId::ROOT).unwrap();
        let mut own = None;
        let mut sink = |listed: union::Listed<'_>| {
            own.get_or_insert(listed.ino);
            true
        };
        client.union.read_dir(&stream, 0, false, &mut sink).unwrap();
        let root = client.union.attr(InodeId::ROOT).unwrap().ino;
        assert_eq!(own != Some(root), branch_number);
    }
}

#[test]
fn an_entry_that_is_not_taken_leaves_no_reference() {
    let stack = plan().build();
    let client = Client::new(stack.mount());
    let stream = client.union.open_dir(InodeId::ROOT).unwrap();
    let mut taken = Vec::new();
    let mut sink = |listed: union::Listed<'_>| match listed.entry {
        Some(entry) if taken.len() < 3 => {
            taken.push(entry.id);
            true
        }
        entry => entry.is_none(),
    };
    client.union.read_dir(&stream, 0, true, &mut sink).unwrap();
    assert_eq!(client.union.inodes_held(), 1 + 3);
    for id in taken {
        client.union.forget(id, 1);
    }
    assert_eq!(client.union.inodes_held(), 1);
}

proptest! {
    #![proptest_config(crate::config(60))]

    #[test]
    fn offsets_lead_back_to_where_they_came_from(seeks in vec(0..40usize, 1..8), removed in vec(0..40u32, 0..8)) {
        let stack = plan().build();
        let mut client = Client::new(stack.mount());
        let stream = client.union.open_dir(InodeId::ROOT).unwrap();
        let all = read(&client.union, &stream, 0, 99);
        for n in removed {
            let _may_be_gone = client.apply(&Op::Unlink(format!("f{n}")));
        }
        for at in seeks {
            let from = all[at].1;
            prop_assert_eq!(&read(&client.union, &stream, from, 99)[..], &all[at + 1..]);
        }
    }
}

/// Directories whose cached listings are to be dropped.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<InodeId>>>);

impl Observer for Told {
    fn entry_changed(&self, _: InodeId, _: &Name) {}
    fn attributes_changed(&self, _: InodeId) {}
    fn contents_changed(&self, id: InodeId) {
        self.0.lock().unwrap().push(id);
    }
    fn work_is_pending(&self) -> bool {
        false
    }
}

/// Reads a directory to its end as a kernel does that asks for objects too; returns the names with whether their objects came.
/// `see` is told each part before the next one is asked for.
fn read_with_objects(
    union: &MemoryUnion,
    mut see: impl FnMut(&[(String, bool)]),
) -> Vec<(String, bool)> {
    let stream = union.open_dir(InodeId::ROOT).unwrap();
    let mut all = Vec::new();
    loop {
        let mut part = Vec::new();
        let mut sink = |listed: union::Listed<'_>| {
            if part.len() == 190 {
                return false;
            }
            let name = String::from_utf8(listed.name.to_vec()).unwrap();
            if let Some(entry) = &listed.entry {
                union.forget(entry.id, 1);
            }
            part.push((name, listed.entry.is_some()));
            true
        };
        // Offsets count names.
        let from = all.len() as u64;
        union.read_dir(&stream, from, true, &mut sink).unwrap();
        if part.is_empty() {
            return all;
        }
        see(&part);
        all.extend(part);
    }
}

#[test]
fn objects_of_a_large_directory_are_told_as_long_as_somebody_looks_at_them() {
    let names: String = (0..3_000).map(|n| format!("f{n}\n")).collect();
    let stack = Plan::aufs(&[(Mode::Rw, ""), (Mode::Ro, &names)]).build();
    let union = stack.mount();
    let objects = |all: &[(String, bool)]| all.iter().filter(|(_, object)| *object).count();

    let all = read_with_objects(&union, |_| ());
    assert_eq!(all.len(), 3_002, "every name, and each once");
    assert!((256..=1024).contains(&objects(&all)), "{}", objects(&all));

    let told = Told::default();
    union.set_observer(Box::new(told.clone()));
    // Who looks at each name before reading on is told what it would ask for.
    let look_up = |part: &[(String, bool)]| {
        for (name, _) in part
            .iter()
            .filter(|(name, object)| !object && name.starts_with('f'))
        {
            let found = union
                .lookup(InodeId::ROOT, name.as_bytes())
                .unwrap()
                .unwrap();
            union.forget(found.id, 1);
        }
    };
    let all = read_with_objects(&union, look_up);
    assert_eq!(all.len(), 3_002);
    assert!(objects(&all) > 2_950, "{}", objects(&all));
    let told = told.0.lock().unwrap();
    assert_eq!(
        told[..],
        [InodeId::ROOT],
        "a cached listing of names is dropped, once"
    );
}

#[test]
fn objects_of_an_ordinary_directory_are_told_at_once() {
    let names: String = (0..500).map(|n| format!("f{n}\n")).collect();
    let stack = Plan::aufs(&[(Mode::Rw, ""), (Mode::Ro, &names)]).build();
    let all = read_with_objects(&stack.mount(), |_| ());
    let without: Vec<_> = all.iter().filter(|(_, object)| !object).collect();
    assert_eq!((all.len(), without.len()), (502, 2), "{without:?}");
}
