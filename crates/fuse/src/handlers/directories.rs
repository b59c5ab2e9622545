//! Listing directories.

use std::os::fd::AsFd;
use std::sync::Arc;

use rules::Errno;
use rules::access::Wish;
use tree::Tree;
use union::{DirStream, InodeId, Listed};

use super::{Outcome, done, reply};
use crate::invalidation::Notice;
use crate::protocol::listing::{Dirent, put_dirent, put_direntplus};
use crate::protocol::payload::Record;
use crate::protocol::replies::{open_flag, open_out};
use crate::protocol::{Header, Payload};
use crate::session::Session;
use crate::transport::{Answer, Undo};

impl<T: Tree> Session<T>
where
    T::File: AsFd,
{
    pub(super) fn open_dir(&self, header: &Header, payload: &mut Payload<'_>) -> Outcome {
        let id = InodeId(header.node);
        if self.is_refused_below(header, Wish::Read)? {
            return Err(Errno::ACCES.into());
        }
        let handle = self.directories.insert(self.union.open_dir(id)?);
        let cached = open_flag::CACHE_DIR | open_flag::KEEP_CACHE;
        let flags = if self.control.cache.load().cache_dirs && self.union.hears(id) {
            cached
        } else {
            0
        };
        reply(
            payload,
            &open_out(handle, flags, 0),
            Undo::Directory(handle),
        )
    }

    pub(super) fn read_dir(
        &self,
        handle: u64,
        offset: u64,
        size: u32,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        payload.limit(size as usize);
        let stream = self.directory(handle)?;
        self.union.read_dir(&stream, offset, false, &mut |listed| {
            put_dirent(payload, &dirent(&listed)).is_ok()
        })?;
        Ok(Answer::DONE)
    }

    pub(super) fn read_dir_plus(
        &self,
        handle: u64,
        offset: u64,
        size: u32,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        payload.limit(size as usize);
        let stream = self.directory(handle)?;
        let listed = self.union.read_dir(&stream, offset, true, &mut |listed| {
            // Without an object the kernel takes just the name.
            let entry = listed
                .entry
                .as_ref()
                .map_or(Record::new(), |entry| self.entry(entry));
            put_direntplus(payload, &entry, &dirent(&listed)).is_ok()
        });
        match listed {
            Ok(()) => {}
            // What was listed so far holds references: it is delivered, and the error is met again
            // by the next request.
            Err(_) if !payload.is_empty() => {}
            Err(error) => return Err(error),
        }
        Ok(Answer::Reply(Undo::Listing))
    }

    pub(super) fn release_dir(&self, handle: u64) -> Outcome {
        let stream = self.directories.remove(handle);
        if let Some(id) = stream.and_then(|stream| self.union.outdated(&stream)) {
            self.notifier.note(Notice::Contents(id));
        }
        Ok(Answer::DONE)
    }

    pub(super) fn fsync_dir(&self, id: InodeId) -> Outcome {
        self.union.sync_dir(id).map(done)
    }

    fn directory(&self, handle: u64) -> Result<Arc<DirStream<T>>, Errno> {
        self.directories.get(handle).ok_or(Errno::BADF)
    }
}

fn dirent<'a>(listed: &Listed<'a>) -> Dirent<'a> {
    let attr = listed.entry.as_ref().map(|entry| entry.attr);
    Dirent {
        name: listed.name,
        ino: attr.map_or(listed.ino, |attr| attr.ino),
        kind: attr.map(|attr| attr.kind).or(listed.kind),
        next_offset: listed.next_offset,
    }
}
