//! What a union knows takes little memory, and can be given up.

use std::sync::{Arc, Mutex};

use rules::Name;
use tree::RenameHow;
use union::{InodeId, Observer};

use crate::client::Client;
use crate::operation::Op;
use crate::stack::{MemoryUnion, Mode, Plan};
use crate::view::view;

/// What a union asks its front end for.
#[derive(Clone, Default)]
struct Wishes(Arc<Mutex<(usize, Vec<InodeId>)>>);

impl Observer for Wishes {
    fn entry_changed(&self, _: InodeId, _: &Name) {}
    fn attributes_changed(&self, _: InodeId) {}
    fn contents_changed(&self, _: InodeId) {}
    fn work_is_pending(&self) -> bool {
        false
    }
    fn memory_is_short(&self) {
        self.0.lock().unwrap().0 += 1;
    }
    fn unused(&self, ids: &[InodeId]) {
        self.0.lock().unwrap().1.extend(ids);
    }
}

const DIRS: usize = 20;
const FILES: usize = 100;

fn plan() -> Plan {
    let tree: String = (0..DIRS * FILES)
        .map(|n| format!("d{}/file_{n:05}.txt\n", n / FILES))
        .collect();
    Plan::aufs(&[(Mode::Rw, ""), (Mode::Ro, &tree)])
}

/// Lists everything, as a kernel does that remembers all of it.
fn walk(union: &MemoryUnion) {
    let mut waiting = vec![InodeId::ROOT];
    while let Some(dir) = waiting.pop() {
        let stream = union.open_dir(dir).unwrap();
        let mut sink = |listed: union::Listed<'_>| {
            let entry = listed
                .entry
                .filter(|entry| entry.attr.kind == rules::Kind::Dir);
            waiting.extend(entry.map(|entry| entry.id));
            true
        };
        union.read_dir(&stream, 0, true, &mut sink).unwrap();
    }
}

/// The measure that the size of a server follows from.
#[test]
fn a_file_that_was_looked_at_takes_less_than_a_hundred_and_twenty_bytes() {
    let stack = plan().build();
    let union = stack.mount();
    let before = union.memory();
    walk(&union);
    let after = union.memory();
    assert_eq!(after.objects, 1 + DIRS + DIRS * FILES);
    assert_eq!(
        (after.directories_indexed, after.names),
        (1 + DIRS, DIRS + DIRS * FILES)
    );
    let directories = DIRS * 2_000;
    let each = (after.bytes - before.bytes - directories) / (DIRS * FILES);
    assert!(each <= 120, "{each} bytes");
}

#[test]
fn beyond_the_limit_names_are_given_up_and_objects_are_asked_to_be_forgotten() {
    let limit = 60_000;
    let stack = plan()
        .with(|settings| settings.memory_limit = Some(limit))
        .build();
    let (union, wishes) = (stack.mount(), Wishes::default());
    union.set_observer(Box::new(wishes.clone()));
    walk(&union);
    assert!(
        wishes.0.lock().unwrap().0 > 0,
        "somebody is asked to save memory"
    );

    let before = union.memory();
    assert!(before.bytes > limit);
    union.save_memory();
    let after = union.memory();
    assert!(after.directories_indexed < before.directories_indexed);
    assert_eq!(
        after.objects, before.objects,
        "only the front end can forget them"
    );

    for _ in 0..4 {
        let unused = std::mem::take(&mut wishes.0.lock().unwrap().1);
        assert!(!unused.contains(&InodeId::ROOT));
        unused.iter().for_each(|id| union.forget(*id, 1));
        union.save_memory();
    }
    let after = union.memory();
    assert!(after.bytes < limit, "{after:?}");

    // All is still there.
    let client = Client::new(union);
    let seen = view(&client.union).unwrap();
    assert_eq!(seen, view(&stack.mount()).unwrap());
}

#[test]
fn what_is_open_or_changed_stays_what_it_is_when_memory_is_saved() {
    let stack = plan()
        .with(|settings| settings.memory_limit = Some(1))
        .build();
    let mut client = Client::new(stack.mount());
    let id = client.find("d3/file_00301.txt").unwrap().id;
    client.union.open(id, crate::client::WRITE).unwrap();
    client.union.write(id, b"new", 0, false).unwrap();
    let rename = Op::Rename("d3/file_00301.txt".into(), "x".into(), RenameHow::Replace);
    client.apply(&rename).unwrap();
    client.union.save_memory();
    let mut buffer = [0; 3];
    client.union.read(id, &mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"new");
    client.union.release(id);
    client.union.save_memory();
    assert_eq!(client.read("x").unwrap(), b"new");
    assert_eq!(client.find("x").unwrap().id, id);
}
