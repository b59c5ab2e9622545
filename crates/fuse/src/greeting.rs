//! Answering INIT, the kernel's first request.

use parking_lot::Mutex;
use rules::Errno;

use crate::negotiation::negotiate;
use crate::options::ServeOptions;
use crate::protocol::init::{self, InitReply, InitRequest};
use crate::protocol::{Message, Opcode, Payload};
use crate::transport::{Answer, Handler, Undo};

/// What the kernel offered, and the reply.
type Heard = (InitRequest, Result<InitReply, Errno>);

/// Answers INIT, and nothing else.
pub(crate) struct Greeter<'a> {
    options: &'a ServeOptions,
    heard: Mutex<Option<Heard>>,
}

impl<'a> Greeter<'a> {
    pub(crate) fn new(options: &'a ServeOptions) -> Self {
        Self {
            options,
            heard: Mutex::new(None),
        }
    }

    /// Returns what was said last.
    pub(crate) fn heard(&self) -> Option<Heard> {
        *self.heard.lock()
    }
}

impl Handler for Greeter<'_> {
    fn answer(&self, message: &Message<'_>, payload: &mut Payload<'_>) -> Answer {
        if Opcode::from_raw(message.header.opcode) != Some(Opcode::Init) {
            return Answer::Error(Errno::IO);
        }
        let Ok(offer) = InitRequest::parse(message.arguments) else {
            return Answer::Error(Errno::INVAL);
        };
        let decided = negotiate(&offer, self.options);
        *self.heard.lock() = Some((offer, decided));
        let record = match decided {
            Ok(reply) => reply.record(),
            Err(_) if offer.major > init::MAJOR => init::other_major(),
            Err(errno) => return Answer::Error(errno),
        };
        match payload.put(record.bytes()) {
            Ok(()) => Answer::DONE,
            Err(full) => Answer::Error(full.into()),
        }
    }

    fn undelivered(&self, _undo: Undo, _payload: &[u8]) {}
}
