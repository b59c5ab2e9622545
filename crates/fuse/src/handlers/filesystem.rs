//! The filesystem as a whole.

use std::os::fd::AsFd;

use tree::Tree;

use super::{Outcome, done, reply};
use crate::protocol::Payload;
use crate::protocol::replies::statfs_out;
use crate::session::Session;
use crate::transport::Undo;

impl<T: Tree> Session<T>
where
    T::File: AsFd,
{
    pub(super) fn statfs(&self, payload: &mut Payload<'_>) -> Outcome {
        let stat = self.union.stat_fs()?;
        reply(payload, &statfs_out(&stat), Undo::Nothing)
    }

    pub(super) fn syncfs(&self) -> Outcome {
        self.union.sync_all().map(done)
    }
}
