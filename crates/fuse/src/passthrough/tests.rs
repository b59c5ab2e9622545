//! The kernel's rule, on a register that only notes down what happens.

use std::fs::File;
use std::sync::Arc;

use super::*;

const ID: InodeId = InodeId(5);
const READ: Opening = Opening {
    write: false,
    with_attributes: false,
    lent: false,
};
const WRITE: Opening = Opening {
    write: true,
    with_attributes: false,
    lent: false,
};
const CREATE: Opening = Opening {
    write: true,
    with_attributes: true,
    lent: false,
};

/// Gives out numbers from 1 on, or an error.
struct Register {
    error: Option<Errno>,
    events: Mutex<Vec<String>>,
}

impl Register {
    fn table(error: Option<Errno>) -> Passthrough<Arc<Self>> {
        let events = Mutex::new(Vec::new());
        Passthrough::new(Arc::new(Self { error, events }), true)
    }
}

impl Backing for Arc<Register> {
    fn open(&self, _file: BorrowedFd<'_>, _set_id: SetId) -> Result<u32, Errno> {
        if let Some(errno) = self.error {
            return Err(errno);
        }
        let mut events = self.events.lock();
        events.push("open".into());
        Ok(events.iter().filter(|event| *event == "open").count() as u32)
    }

    fn close(&self, id: u32) {
        self.events.lock().push(format!("close {id}"));
    }
}

fn file() -> Option<Arc<OpenFile<File>>> {
    Some(OpenFile::new(File::open("/dev/null").unwrap()))
}

fn none() -> Option<Arc<OpenFile<File>>> {
    None
}

#[test]
fn the_first_open_decides_and_the_others_follow() {
    let table = Register::table(None);
    assert_eq!(table.open(ID, READ, file), Mode::Backing(1));
    assert_eq!(table.open(ID, READ, none), Mode::Backing(1));
    assert_eq!(table.open(InodeId(6), READ, none), Mode::Cached);
    assert_eq!(table.open(InodeId(6), READ, file), Mode::Cached);
    table.release(ID, false);
    assert_eq!(*table.backing.events.lock(), ["open"]);
    table.release(ID, false);
    assert_eq!(*table.backing.events.lock(), ["open", "close 1"]);
    assert_eq!(table.open(ID, READ, file), Mode::Backing(2));
    table.release(InodeId(6), false);
    table.release(InodeId(6), false);
    assert_eq!(table.open(InodeId(6), READ, file), Mode::Backing(3));
}

#[test]
fn without_privilege_it_is_tried_once() {
    let table = Register::table(Some(Errno::PERM));
    assert_eq!(table.open(ID, READ, file), Mode::Cached);
    let asked = || -> Option<Arc<OpenFile<File>>> { panic!("asked again") };
    assert_eq!(table.open(InodeId(6), READ, asked), Mode::Cached);
}

#[test]
fn another_error_is_about_one_file() {
    let mut table = Register::table(Some(Errno::LOOP));
    assert_eq!(table.open(ID, READ, file), Mode::Cached);
    table.backing = Register::table(None).backing.clone();
    assert_eq!(table.open(InodeId(6), READ, file), Mode::Backing(1));
}

#[test]
fn attributes_are_doubtful_while_and_after_a_file_is_written() {
    let table = Register::table(None);
    table.open(ID, READ, file);
    assert!(!table.is_written(ID));
    table.open(ID, WRITE, file);
    table.open(ID, WRITE, file);
    assert!(table.is_written(ID));
    assert!(!table.is_written(InodeId(6)));
    assert!(!table.release(ID, true), "one writer is left");
    assert!(table.release(ID, true), "the last writer is gone");
    assert!(!table.is_written(ID));
    assert!(!table.release(ID, false));
}

#[test]
fn a_reply_with_attributes_leaves_none_to_take_back() {
    let table = Register::table(None);
    table.open(ID, CREATE, file);
    assert!(table.is_written(ID));
    assert!(!table.release(ID, true));
}

#[test]
fn files_in_the_cache_are_written_before_our_eyes() {
    let table = Register::table(None);
    table.open(ID, WRITE, none);
    assert!(!table.is_written(ID));
    assert!(!table.release(ID, true));
}

#[test]
fn nothing_is_kept_when_it_was_not_agreed_on() {
    let table = Passthrough::new(Register::table(None).backing, false);
    assert_eq!(table.open(ID, WRITE, file), Mode::Cached);
    assert!(!table.is_written(ID));
    assert!(!table.release(ID, true));
}

#[test]
fn threads_that_open_and_close_agree_on_one_mode_at_a_time() {
    let table = Register::table(None);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    table.open(ID, WRITE, file);
                    table.release(ID, true);
                }
            });
        }
    });
    let events = table.backing.events.lock();
    for (open, close) in events.chunks(2).map(|pair| (&pair[0], &pair[1])) {
        assert!(
            open == "open" && close.starts_with("close"),
            "{open}, {close}"
        );
    }
    assert_eq!(table.writers.load(Ordering::Relaxed), 0);
}

#[test]
fn nobody_writes_to_a_lower_file_that_others_read() {
    let table = Register::table(None);
    let lent = Opening { lent: true, ..READ };
    assert_eq!(table.open(ID, lent, file), Mode::Backing(1));
    assert_eq!(table.open(ID, WRITE, file), Mode::Refused);
    assert!(!table.release(ID, false));
    assert_eq!(table.open(ID, WRITE, file), Mode::Backing(2));
}

#[test]
fn what_the_union_keeps_open_stays_registered() {
    let table = Register::table(None);
    let kept = file();
    for _ in 0..3 {
        assert_eq!(table.open(ID, READ, || kept.clone()), Mode::Backing(1));
        table.release(ID, false);
    }
    assert_eq!(*table.backing.events.lock(), ["open"]);
    drop(kept);
    assert_eq!(*table.backing.events.lock(), ["open", "close 1"]);
    assert_eq!(table.open(ID, READ, file), Mode::Backing(2));
}

#[test]
fn a_file_that_the_union_closes_stays_registered_while_it_is_open() {
    let table = Register::table(None);
    let mut kept = file();
    table.open(ID, READ, || kept.clone());
    kept = None;
    assert_eq!(table.open(ID, READ, || kept.clone()), Mode::Backing(1));
    table.release(ID, false);
    table.release(ID, false);
    assert_eq!(*table.backing.events.lock(), ["open", "close 1"]);
}
