//! Reading and changing attributes.

use std::os::fd::AsFd;

use rules::Changes;
use tree::Tree;
use union::InodeId;

use super::{Outcome, reply};
use crate::protocol::Payload;
use crate::protocol::attributes::statx_out;
use crate::session::Session;
use crate::transport::Undo;

impl<T: Tree> Session<T>
where
    T::File: AsFd,
{
    pub(super) fn get_attr(&self, id: InodeId, payload: &mut Payload<'_>) -> Outcome {
        let attr = self.union.attr(id)?;
        reply(payload, &self.attr(id, &attr), Undo::Nothing)
    }

    pub(super) fn set_attr(
        &self,
        id: InodeId,
        changes: &Changes,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let attr = self.union.set_attr(id, &self.ids.stored(changes)?)?;
        reply(payload, &self.attr(id, &attr), Undo::Nothing)
    }

    pub(super) fn statx(&self, id: InodeId, payload: &mut Payload<'_>) -> Outcome {
        let attr = self.ids.shown(&self.union.attr(id)?);
        reply(
            payload,
            &statx_out(&attr, self.attr_validity(id, &attr)),
            Undo::Nothing,
        )
    }
}
