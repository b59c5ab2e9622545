//! What all threads of a mount share, and how answers are phrased with it.

use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rules::access::{Subject, Wish};
use rules::{Attr, Errno};
use sys::{FuseDevice, processes};
use tree::Tree;
use union::{Caller, DirStream, Entry, InodeId, Opened, Union};

use crate::control::Control;
use crate::counters::Counters;
use crate::directory_handles::Handles;
use crate::executed::Executed;
use crate::id_map::IdMap;
use crate::invalidation::{Notice, Notifier};
use crate::passthrough::{Mode, Opening, Passthrough};
use crate::protocol::attributes::{self, ENTRY_BYTES, Validity};
use crate::protocol::payload::Record;
use crate::protocol::replies::open_flag;
use crate::protocol::{Dialect, Header};

/// Set-user-id and set-group-id.
pub(crate) const SET_ID: u32 = 0o6000;

/// As long as the clock that files are dated by stands still; the kernel rounds it up to a jiffy.
///
/// Not zero: the kernel looks at the attributes of a file that it has just made, and would ask
/// for them once more.
const TICK: Duration = Duration::from_millis(1);

/// A mount between INIT and its end.
pub(crate) struct Session<T: Tree> {
    pub(crate) union: Arc<Union<T>>,
    pub(crate) control: Arc<Control<T>>,
    pub(crate) ids: IdMap,
    pub(crate) generation: Option<NonZeroU32>,
    pub(crate) dialect: Dialect,
    pub(crate) without_opens: bool,
    pub(crate) passthrough: Passthrough<Arc<FuseDevice>>,
    pub(crate) directories: Handles<DirStream<T>>,
    pub(crate) executed: Executed,
    pub(crate) notifier: Notifier,
    pub(crate) counters: Arc<Counters>,
}

/// How an open file is answered: `open_flags` and `backing_id` of `struct fuse_open_out`.
pub(crate) type OpenAnswer = (u32, u32);

impl<T: Tree> Session<T>
where
    T::File: AsFd,
{
    /// Returns who makes an object, by the names of the disk.
    pub(crate) fn caller(&self, header: &Header, umask: u32) -> Result<Caller, Errno> {
        Ok(Caller {
            owner: self.ids.owner(header.uid, header.gid)?,
            umask,
        })
    }

    /// Tells whether a branch below the topmost one keeps the caller from the directory that a request is about.
    pub(crate) fn is_refused_below(&self, header: &Header, wish: Wish) -> union::Result<bool> {
        if header.uid == 0 {
            return Ok(false);
        }
        let dir = InodeId(header.node);
        self.union
            .is_refused_below(dir, wish, || self.subject(header))
    }

    /// Returns who asks, by the names of the disk; `None` for those whom permission bits do not bind, and where nobody knows.
    fn subject(&self, header: &Header) -> Option<Subject> {
        let standing = processes::standing(header.pid)?;
        if standing.overrides_permissions {
            return None;
        }
        let as_stored = |gid: &u32| self.ids.owner(header.uid, *gid).ok().map(|owner| owner.gid);
        let groups = standing.groups.iter().map(as_stored);
        Some(Subject {
            identity: self.ids.owner(header.uid, header.gid).ok()?,
            groups: groups.collect::<Option<_>>()?,
        })
    }

    /// Phrases an object that was found.
    pub(crate) fn entry(&self, entry: &Entry) -> Record<ENTRY_BYTES> {
        let validity = Validity {
            entry: self.name_validity(self.union.hears_names(entry.id)),
            attr: self.attr_validity(entry.id, &entry.attr),
        };
        let generation = self.generation.map_or(0, NonZeroU32::get);
        attributes::entry(entry.id, &self.ids.shown(&entry.attr), validity)
            .u64(8, u64::from(generation))
    }

    /// Phrases attributes.
    pub(crate) fn attr(&self, id: InodeId, attr: &Attr) -> Record<104> {
        attributes::attr_out(&self.ids.shown(attr), self.attr_validity(id, attr))
    }

    /// Returns how long a name may be relied on whose changes are heard of, or are not.
    pub(crate) fn name_validity(&self, heard: bool) -> Duration {
        if heard {
            self.control.cache.load().entry_timeout
        } else {
            self.control.cache.load().entry_timeout.min(TICK)
        }
    }

    /// Returns how long attributes may be relied on: no longer than a tick while somebody writes
    /// to the file without our hearing of it, because stores to mapped memory move its times, and while direct changes would not be
    /// heard of.
    pub(crate) fn attr_validity(&self, id: InodeId, attr: &Attr) -> Duration {
        // A write takes set-id bits away, of which the kernel does not hear (FUSE_HANDLE_KILLPRIV_V2).
        if attr.kind == rules::Kind::File && attr.perm & SET_ID != 0 {
            return Duration::ZERO;
        }
        if self.passthrough.is_written(id) || !self.union.hears(id) {
            self.control.cache.load().attr_timeout.min(TICK)
        } else {
            self.control.cache.load().attr_timeout
        }
    }

    /// Counts an open and says how data is to travel. `attr` tells the attributes of the file.
    pub(crate) fn opened(
        &self,
        id: InodeId,
        opening: Opening,
        opened: &Opened<T>,
        attr: impl FnOnce() -> Option<Attr>,
    ) -> Result<OpenAnswer, Errno> {
        let mode = self.passthrough.open(id, opening, || {
            let file = opened.settled.as_ref()?;
            // Backing files drop set-id bits at each write, whoever writes; nobody writes to what is lent.
            let passes = opened.lent || attr()?.perm & SET_ID == 0;
            passes.then(|| Arc::clone(file))
        });
        match mode {
            Mode::Backing(backing) => Ok((open_flag::PASSTHROUGH | open_flag::NOFLUSH, backing)),
            // Looked up again it is another inode.
            Mode::Refused => Err(Errno::STALE),
            Mode::Cached => {
                let keep = if opened.keep_cache {
                    open_flag::KEEP_CACHE
                } else {
                    0
                };
                // What was written through a mapping is waited for, so that close can fail.
                let flush = if opening.write { 0 } else { open_flag::NOFLUSH };
                // Of an empty file the kernel asks for no data otherwise.
                let direct = if opened.reads_matter {
                    open_flag::DIRECT_IO
                } else {
                    0
                };
                Ok((keep | flush | direct, 0))
            }
        }
    }

    /// Ends an open.
    pub(crate) fn released(&self, id: InodeId, write: bool) {
        if self.passthrough.release(id, write) {
            self.notifier.note(Notice::Attributes(id));
        }
    }
}
