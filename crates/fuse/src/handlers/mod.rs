//! One method per request: translate, call the union, phrase the answer.
//!
//! Errors of the union become errors of the reply in one place, here.

mod attributes;
mod data;
mod directories;
mod file_handle;
mod files;
mod filesystem;
mod names;
mod xattrs;

use std::os::fd::AsFd;

use rules::Errno;
use tree::Tree;
use union::InodeId;

use crate::protocol::payload::Record;
use crate::protocol::{Header, Malformed, Message, Opcode, Payload, Request, listing};
use crate::session::Session;
use crate::transport::{Answer, Handler, Undo};
use file_handle::FileHandle;

/// What a handler returns.
type Outcome = union::Result<Answer>;

impl<T: Tree> Handler for Session<T>
where
    T::File: AsFd,
{
    fn answer(&self, message: &Message<'_>, payload: &mut Payload<'_>) -> Answer {
        let header = &message.header;
        let Some(opcode) = Opcode::from_raw(header.opcode) else {
            tracing::debug!(opcode = header.opcode, "unknown request");
            return Answer::Error(Errno::NOSYS);
        };
        self.counters.count(opcode);
        let _passage = self.union.pass();
        let span = tracing::trace_span!("request", op = opcode.name(), node = header.node);
        let _entered = span.enter();
        let outcome = match Request::parse(opcode, message.arguments, self.dialect) {
            Ok(request) => {
                tracing::trace!(?request);
                self.dispatch(header, request, payload)
            }
            Err(Malformed) => Err(Errno::INVAL.into()),
        };
        outcome.unwrap_or_else(|error| self.refused(opcode, header, &error))
    }

    fn undelivered(&self, undo: Undo, payload: &[u8]) {
        let _passage = self.union.pass();
        match undo {
            Undo::Nothing => {}
            Undo::Reference(id) => self.union.forget(id, 1),
            Undo::Listing => {
                let forgotten = listing::for_each_object(payload, |id| self.union.forget(id, 1));
                debug_assert_eq!(forgotten, Ok(()));
            }
            Undo::File(id, handle) => self.close(id, handle),
            Undo::ReferenceAndFile(id, handle) => {
                self.close(id, handle);
                self.union.forget(id, 1);
            }
            Undo::Directory(handle) => drop(self.directories.remove(handle)),
        }
    }
}

impl<T: Tree> Session<T>
where
    T::File: AsFd,
{
    fn dispatch(
        &self,
        header: &Header,
        request: Request<'_>,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let id = InodeId(header.node);
        match request {
            Request::Lookup { name } => self.lookup(header, name, payload),
            Request::Forget { count } => self.forget(id, count),
            Request::BatchForget(forgotten) => self.batch_forget(forgotten),
            Request::GetAttr => self.get_attr(id, payload),
            Request::SetAttr { changes } => self.set_attr(id, &changes, payload),
            Request::StatX => self.statx(id, payload),
            Request::ReadLink => self.read_link(id, payload),
            Request::Symlink { name, target } => self.symlink(header, name, target, payload),
            Request::MkNod {
                name,
                node,
                permissions,
            } => self.mknod(header, name, node, permissions, payload),
            Request::MkDir { name, permissions } => self.mkdir(header, name, permissions, payload),
            Request::Unlink { name } => self.unlink(id, name),
            Request::RmDir { name } => self.rmdir(id, name),
            Request::Rename { name, to, new, how } => self.rename(id, name, to, new, how),
            Request::Link { target, name } => self.link(target, id, name, payload),
            Request::Open { flags } => self.open(id, flags, payload),
            Request::Create {
                name,
                permissions,
                exclusive,
                flags,
            } => {
                let how = files::Create {
                    permissions,
                    exclusive,
                    flags,
                };
                self.create(header, name, how, payload)
            }
            Request::TmpFile { permissions, flags } => {
                self.tmpfile(header, permissions, flags, payload)
            }
            Request::Release { handle } => self.release(id, handle),
            Request::FSync { handle, how } => self.fsync(id, handle, how),
            Request::Read { offset, size } => self.read(id, offset, size, payload),
            Request::Write {
                offset,
                data,
                drop_set_id,
            } => self.write(id, offset, data, drop_set_id, payload),
            Request::FAllocate {
                offset,
                length,
                mode,
            } => self.fallocate(header, mode, offset, length),
            Request::LSeek { offset, what } => self.lseek(id, offset, what, payload),
            Request::CopyFileRange {
                from_offset,
                to,
                to_offset,
                length,
            } => {
                let from = (id, from_offset);
                self.copy_file_range(header, from, (to, to_offset), length, payload)
            }
            Request::CopyFileRange64 {
                from_offset,
                to,
                to_offset,
                length,
            } => {
                let from = (id, from_offset);
                self.copy_file_range_64(header, from, (to, to_offset), length, payload)
            }
            Request::OpenDir => self.open_dir(header, payload),
            Request::ReadDir {
                handle,
                offset,
                size,
            } => self.read_dir(handle, offset, size, payload),
            Request::ReadDirPlus {
                handle,
                offset,
                size,
            } => self.read_dir_plus(handle, offset, size, payload),
            Request::ReleaseDir { handle } => self.release_dir(handle),
            Request::FSyncDir => self.fsync_dir(id),
            Request::SetXattr { name, value, how } => self.set_xattr(id, name, value, how),
            Request::GetXattr { name, size } => self.get_xattr(id, name, size, payload),
            Request::ListXattr { size } => self.list_xattr(id, size, payload),
            Request::RemoveXattr { name } => self.remove_xattr(id, name),
            Request::StatFs => self.statfs(payload),
            Request::SyncFs => self.syncfs(),
            Request::Destroy => Ok(Answer::DONE),
            Request::Notice => Ok(Answer::Silence),
            Request::Unsupported(errno) => Err(errno.into()),
        }
    }

    /// Turns an error into the reply's, and tells those who watch.
    fn refused(&self, opcode: Opcode, header: &Header, error: &union::Error) -> Answer {
        let errno = error.errno();
        if errno == Errno::IO {
            self.counters.count_failed();
            tracing::warn!(op = opcode.name(), node = header.node, %error, "request failed");
        } else {
            self.counters.count_refused();
            tracing::debug!(op = opcode.name(), node = header.node, ?errno, %error, "refused");
        }
        Answer::Error(errno)
    }

    /// Ends an open file.
    fn close(&self, id: InodeId, handle: u64) {
        if FileHandle::is_for_execution(handle) {
            self.executed.end(id);
        }
        self.released(id, FileHandle::is_for_writing(handle));
        self.union.release(id);
    }
}

/// Replies with one structure.
fn reply<const N: usize>(payload: &mut Payload<'_>, record: &Record<N>, undo: Undo) -> Outcome {
    payload.put(record.bytes()).map_err(Errno::from)?;
    Ok(Answer::Reply(undo))
}

/// Replies that it is done.
fn done(_: ()) -> Answer {
    Answer::DONE
}
