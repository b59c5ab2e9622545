//! Contents of files, where they do not bypass us.

use std::os::fd::AsFd;

use rules::{Changes, Errno};
use tree::{Seek, Tree};
use union::InodeId;

use super::{Outcome, done, reply};
use crate::protocol::replies::{offset_out, size_out};
use crate::protocol::{Header, Payload};
use crate::session::{SET_ID, Session};
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

    pub(super) fn fallocate(
        &self,
        header: &Header,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> Outcome {
        let id = InodeId(header.node);
        self.drop_set_id(header, id)?;
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
        header: &Header,
        from: (InodeId, u64),
        to: (InodeId, u64),
        length: u64,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let length = length.min(LONGEST_COPY);
        self.drop_set_id(header, to.0)?;
        let count = self.union.copy_range(from.0, from.1, to.0, to.1, length)?;
        reply(payload, &size_out(count as u32), Undo::Nothing)
    }

    pub(super) fn copy_file_range_64(
        &self,
        header: &Header,
        from: (InodeId, u64),
        to: (InodeId, u64),
        length: u64,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        self.drop_set_id(header, to.0)?;
        let count = self.union.copy_range(from.0, from.1, to.0, to.1, length)?;
        reply(payload, &offset_out(count), Undo::Nothing)
    }

    /// Takes set-id bits from a file that is about to be changed by somebody who may not keep them. Other than for writes, the
    /// kernel does not say who may (`CAP_FSETID`): here it is root.
    fn drop_set_id(&self, header: &Header, id: InodeId) -> Result<(), union::Error> {
        if header.uid == 0 || self.union.attr(id)?.perm & SET_ID == 0 {
            return Ok(());
        }
        let changes = Changes {
            drop_set_id: true,
            ..Changes::default()
        };
        self.union.set_attr(id, &changes).map(drop)
    }
}
