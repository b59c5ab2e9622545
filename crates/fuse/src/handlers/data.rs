//! Contents of files, where they do not bypass us.

use std::os::fd::AsFd;

use rules::Errno;
use tree::{Seek, Tree};
use union::InodeId;

use super::{Outcome, done, reply};
use crate::protocol::Payload;
use crate::protocol::replies::{offset_out, size_out};
use crate::session::Session;
use crate::transport::{Answer, Undo};

/// The longest copy whose length fits the reply of the older request, in whole pages.
const LONGEST_COPY: u64 = 0xffff_0000;

impl<T: Tree> Session<T>
where
    T::File: AsFd,
{
    pub(super) fn read(
        &self,
        id: InodeId,
        offset: u64,
        size: u32,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        // The branch fills the reply itself. A shorter one would mean the end of the file.
        let room = payload.spare(size as usize).map_err(|_| Errno::INVAL)?;
        let count = if self.without_opens {
            self.union.read_once(id, room, offset)?
        } else {
            self.union.read(id, room, offset)?
        };
        payload.advance(count);
        Ok(Answer::DONE)
    }

    pub(super) fn write(
        &self,
        id: InodeId,
        offset: u64,
        data: &[u8],
        drop_set_id: bool,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let count = self.union.write(id, data, offset, drop_set_id)?;
        reply(payload, &size_out(count as u32), Undo::Nothing)
    }

    pub(super) fn fallocate(&self, id: InodeId, mode: u32, offset: u64, length: u64) -> Outcome {
        self.union.allocate(id, mode, offset, length).map(done)
    }

    pub(super) fn lseek(
        &self,
        id: InodeId,
        offset: u64,
        what: Seek,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let found = self.union.seek(id, offset, what)?;
        reply(payload, &offset_out(found), Undo::Nothing)
    }

    pub(super) fn copy_file_range(
        &self,
        from: (InodeId, u64),
        to: (InodeId, u64),
        length: u64,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let length = length.min(LONGEST_COPY);
        let count = self.union.copy_range(from.0, from.1, to.0, to.1, length)?;
        reply(payload, &size_out(count as u32), Undo::Nothing)
    }

    pub(super) fn copy_file_range_64(
        &self,
        from: (InodeId, u64),
        to: (InodeId, u64),
        length: u64,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let count = self.union.copy_range(from.0, from.1, to.0, to.1, length)?;
        reply(payload, &offset_out(count), Undo::Nothing)
    }
}
