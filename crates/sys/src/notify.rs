//! Hearing of changes to directories that others make (`inotify`).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rules::{Errno, Name};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{
    self, CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, remove_watch,
};

use crate::errno::{IntoErrno, uninterrupted};
use crate::proc;

/// A directory that is watched.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watch(i32);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// A name came: made, linked or moved here.
    Appeared,
    /// A name went: removed or moved away.
    Disappeared,
    /// Attributes of an entry or of the directory changed.
    Attributes,
    /// Contents of an entry changed.
    Contents,
    /// The directory itself was removed, moved or unmounted.
    DirGone,
    /// The watch is over; its number may come again.
    Unwatched,
    /// Events were lost, of any watch.
    Overflow,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where; of no meaning for [`What::Overflow`].
    pub watch: Watch,
    /// The entry it is about; `None` when it is about the directory.
    pub name: Option<Name>,
    /// What happened.
    pub what: What,
}

/// A queue of changes to all watched directories. Readable when there is one.
#[derive(Debug)]
pub struct Notifier {
    queue: OwnedFd,
    /// Readable once nobody is to wait any more.
    ended: OwnedFd,
}

impl Notifier {
    /// Makes an empty queue. `EMFILE` when the user has too many.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            queue: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).errno()?,
            ended: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).errno()?,
        })
    }

    /// Waits until something happened; `false` after [`Notifier::end`].
    pub fn wait(&self) -> Result<bool, Errno> {
        uninterrupted(|| {
            let mut waiting = [
                PollFd::new(&self.queue, PollFlags::IN),
                PollFd::new(&self.ended, PollFlags::IN),
            ];
            poll(&mut waiting, None).errno()?;
            Ok(waiting[1].revents().is_empty())
        })
    }

    /// Lets everybody who waits return, now and later.
    pub fn end(&self) -> Result<(), Errno> {
        rustix::io::write(&self.ended, &1u64.to_ne_bytes())
            .errno()
            .map(drop)
    }

    /// Watches an open directory; watching one again gives the same watch. `ENOSPC` when the
    /// user has too many.
    pub fn watch(&self, dir: BorrowedFd<'_>) -> Result<Watch, Errno> {
        let events = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::ATTRIB
            | WatchFlags::MODIFY
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        // The path ends in `.`, so it names a directory, and whatever is open stays meant.
        let path = proc::path(&format!("self/fd/{}/.", dir.as_raw_fd()));
        add_watch(&self.queue, path, events | WatchFlags::ONLYDIR)
            .errno()
            .map(Watch)
    }

    /// Stops watching. `EINVAL` when the watch is over already.
    pub fn unwatch(&self, watch: Watch) -> Result<(), Errno> {
        remove_watch(&self.queue, watch.0).errno()
    }

    /// Returns what has happened since the last call, oldest first; never waits.
    pub fn read(&self) -> Result<Vec<Event>, Errno> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        let mut events = Vec::new();
        loop {
            let record = match reader.next().errno() {
                Ok(record) => record,
                Err(Errno::AGAIN) => return Ok(events),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            let Some(what) = what(record.events()) else {
                continue;
            };
            let name = record
                .file_name()
                .and_then(|name| Name::new(name.to_bytes()).ok());
            events.push(Event {
                watch: Watch(record.wd()),
                name,
                what,
            });
        }
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

fn what(told: ReadFlags) -> Option<What> {
    let table = [
        (ReadFlags::QUEUE_OVERFLOW, What::Overflow),
        (ReadFlags::IGNORED, What::Unwatched),
        (ReadFlags::DELETE_SELF, What::DirGone),
        (ReadFlags::MOVE_SELF, What::DirGone),
        (ReadFlags::UNMOUNT, What::DirGone),
        (ReadFlags::CREATE, What::Appeared),
        (ReadFlags::MOVED_TO, What::Appeared),
        (ReadFlags::DELETE, What::Disappeared),
        (ReadFlags::MOVED_FROM, What::Disappeared),
        (ReadFlags::ATTRIB, What::Attributes),
        (ReadFlags::MODIFY, What::Contents),
    ];
    table
        .into_iter()
        .find(|(bits, _)| told.intersects(*bits))
        .map(|(_, what)| what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostTree;
    use std::fs;
    use tree::Tree;

    #[test]
    fn changes_are_heard_with_their_names_until_unwatched() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostTree::open(dir.path()).unwrap().root().unwrap();
        let notifier = Notifier::new().unwrap();
        let watch = notifier.watch(root.as_fd()).unwrap();
        assert_eq!(notifier.read(), Ok(vec![]));

        fs::create_dir(dir.path().join("a")).unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        fs::remove_dir(dir.path().join("b")).unwrap();
        let event = |name: &[u8], what| Event {
            watch,
            name: Name::new(name).ok(),
            what,
        };
        let expected = vec![
            event(b"a", What::Appeared),
            event(b"a", What::Disappeared),
            event(b"b", What::Appeared),
            event(b"b", What::Disappeared),
        ];
        assert_eq!(notifier.read(), Ok(expected));

        notifier.unwatch(watch).unwrap();
        assert_eq!(notifier.read(), Ok(vec![event(b"", What::Unwatched)]));
        assert_eq!(notifier.unwatch(watch), Err(Errno::INVAL));
    }

    #[test]
    fn nobody_waits_after_the_end() {
        let notifier = Notifier::new().unwrap();
        notifier.end().unwrap();
        assert_eq!([notifier.wait(), notifier.wait()], [Ok(false), Ok(false)]);
    }
}
