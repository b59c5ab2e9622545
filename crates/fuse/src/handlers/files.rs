//! Opening and closing files.

use std::os::fd::AsFd;

use rules::Errno;
use tree::{SyncHow, Tree};
use union::{Entry, InodeId, OpenFlags, Opened};

use super::{FileHandle, Outcome, done, reply};
use crate::passthrough::Opening;
use crate::protocol::replies::open_out;
use crate::protocol::request::Permissions;
use crate::protocol::{Header, Payload};
use crate::session::Session;
use crate::transport::{Answer, Undo};

/// How a file is made and opened at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Create {
    pub(super) permissions: Permissions,
    pub(super) exclusive: bool,
    pub(super) flags: OpenFlags,
}

impl<T: Tree> Session<T>
where
    T::File: AsFd,
{
    pub(super) fn open(&self, id: InodeId, flags: OpenFlags, payload: &mut Payload<'_>) -> Outcome {
        if flags.truncate && !flags.write && self.executed.has(id) {
            return Err(Errno::TXTBSY.into());
        }
        if self.without_opens {
            // The kernel asks once, and does without from then on.
            return Ok(Answer::Error(Errno::NOSYS));
        }
        let opened = self.union.open(id, flags)?;
        let opening = Opening {
            write: flags.write,
            with_attributes: false,
            lent: opened.lent,
        };
        let attr = || self.union.attr(id).ok();
        let (open_flags, backing) = self
            .opened(id, opening, &opened, attr)
            .inspect_err(|_| self.union.release(id))?;
        if flags.execute {
            self.executed.begin(id);
        }
        let handle = FileHandle::encode(flags);
        reply(
            payload,
            &open_out(handle, open_flags, backing),
            Undo::File(id, handle),
        )
    }

    pub(super) fn create(
        &self,
        header: &Header,
        name: &[u8],
        how: Create,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let Create {
            permissions,
            exclusive,
            flags,
        } = how;
        let caller = self.caller(header, permissions.umask)?;
        let parent = InodeId(header.node);
        let created =
            self.union
                .create(&caller, parent, name, permissions.perm, exclusive, flags)?;
        self.created(&created, flags, payload)
    }

    pub(super) fn tmpfile(
        &self,
        header: &Header,
        permissions: Permissions,
        flags: OpenFlags,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let caller = self.caller(header, permissions.umask)?;
        let parent = InodeId(header.node);
        let created = self.union.unnamed_file(&caller, parent, permissions.perm)?;
        self.created(&created, flags, payload)
    }

    pub(super) fn release(&self, id: InodeId, handle: u64) -> Outcome {
        self.close(id, handle);
        Ok(Answer::DONE)
    }

    pub(super) fn fsync(&self, id: InodeId, handle: u64, how: SyncHow) -> Outcome {
        self.union
            .sync_file(id, FileHandle::is_for_writing(handle), how)
            .map(done)
    }

    /// Replies with a file and the file open.
    fn created(
        &self,
        (entry, opened): &(Entry, Opened<T>),
        flags: OpenFlags,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let opening = Opening {
            write: flags.write,
            with_attributes: true,
            lent: opened.lent,
        };
        let (open_flags, backing) = self
            .opened(entry.id, opening, opened, || Some(entry.attr))
            .inspect_err(|_| {
                self.union.release(entry.id);
                self.union.forget(entry.id, 1);
            })?;
        let handle = FileHandle::encode(flags);
        // After the open is counted: how long the attributes hold depends on it.
        payload
            .put(self.entry(entry).bytes())
            .map_err(Errno::from)?;
        let undo = Undo::ReferenceAndFile(entry.id, handle);
        reply(payload, &open_out(handle, open_flags, backing), undo)
    }
}
