//! Moving requests and replies between the kernel and a [`Handler`].
//!
//! A transport brings the bytes of a request and room for the reply, and takes care of
//! delivery; the handler knows nothing of devices, rings or threads. Every request that
//! waits for a reply gets exactly one, whatever happens in the handler.

pub mod crew;
pub mod device;
pub mod ring;
mod staff;
mod way;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rules::Errno;
use union::InodeId;

use crate::protocol::{Message, Payload};

pub use staff::{Equipment, serve};
pub use way::{NoRing, Way};

/// Who answers requests.
pub trait Handler: Sync {
    /// Answers one; what belongs behind the header of the reply is put into `payload`.
    fn answer(&self, message: &Message<'_>, payload: &mut Payload<'_>) -> Answer;

    /// Takes back what an answer promised, because it did not arrive. `payload` is the answer's.
    fn undelivered(&self, undo: Undo, payload: &[u8]);
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The payload is the reply.
    Reply(Undo),
    /// There is no payload, only an error.
    Error(Errno),
    /// The request wants no reply.
    Silence,
}

impl Answer {
    /// A reply that promises nothing to the kernel.
    pub const DONE: Self = Self::Reply(Undo::Nothing);
}

/// What the kernel holds once a reply arrives, and does not hold if it never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// Nothing.
    Nothing,
    /// One reference to an object.
    Reference(InodeId),
    /// One reference to each object in the listing.
    Listing,
    /// An open file.
    File(InodeId, u64),
    /// One reference to a file, and the file open.
    ReferenceAndFile(InodeId, u64),
    /// An open directory.
    Directory(u64),
}

/// Asks the handler, and answers with `EIO` where it panics: one broken request must not stop a mount.
///
/// Returns the error for the header of the reply and what is to be undone if that does not arrive, or nothing if there is to be none.
fn ask<H: Handler>(
    handler: &H,
    message: &Message<'_>,
    payload: &mut Payload<'_>,
) -> Option<(i32, Undo)> {
    let answered = catch_unwind(AssertUnwindSafe(|| handler.answer(message, payload)));
    let answer = answered.unwrap_or_else(|_| {
        tracing::error!(opcode = message.header.opcode, "request panicked");
        Answer::Error(Errno::IO)
    });
    match answer {
        Answer::Reply(undo) => Some((0, undo)),
        Answer::Error(errno) => {
            payload.clear();
            Some((-errno.raw(), Undo::Nothing))
        }
        Answer::Silence => None,
    }
}
