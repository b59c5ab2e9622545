//! Requests by `read` and replies by `write` on `/dev/fuse`.
//!
//! Each thread has a device of its own on the same session, and buffers that it uses for
//! every request.

use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rules::Errno;
use sys::FuseDevice;

use super::{Answer, Handler, Undo};
use crate::negotiation::MAX_DATA;
use crate::protocol::replies::{OUT_HEADER_BYTES, out_header};
use crate::protocol::{Message, Payload};

/// Room for what comes with the data of the largest request: headers, names, attributes.
const EXTRA: usize = 1 << 16;
/// The kernel refuses to fill less than its largest request.
const BUFFER: usize = MAX_DATA as usize + EXTRA;

/// Answers requests of a device until the filesystem is unmounted.
pub fn serve<H: Handler>(device: &FuseDevice, handler: &H) -> Result<(), Errno> {
    let mut connection = Connection::new(device);
    while connection.exchange(handler)? {}
    Ok(())
}

/// A device with the buffers of one thread.
pub struct Connection<'a> {
    device: &'a FuseDevice,
    // Zeros cost no memory until they are written over.
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl<'a> Connection<'a> {
    /// Makes the buffers.
    pub fn new(device: &'a FuseDevice) -> Self {
        Self {
            device,
            request: vec![0; BUFFER],
            reply: vec![0; BUFFER],
        }
    }

    /// Waits for a request and answers it; returns `false` when none will come any more.
    pub fn exchange<H: Handler>(&mut self, handler: &H) -> Result<bool, Errno> {
        let length = match self.device.read(&mut self.request) {
            Ok(length) => length,
            Err(Errno::NODEV) => return Ok(false),
            // ENOENT: the request was interrupted before it was read.
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => return Ok(true),
            Err(errno) => return Err(errno),
        };
        match Message::parse(&self.request[..length]) {
            Ok(message) => answer(self.device, handler, &message, &mut self.reply),
            // Without a header there is nobody to answer to.
            Err(malformed) => tracing::warn!(length, %malformed, "request dropped"),
        }
        Ok(true)
    }
}

fn answer<H: Handler>(device: &FuseDevice, handler: &H, message: &Message<'_>, reply: &mut [u8]) {
    let (head, room) = reply.split_at_mut(OUT_HEADER_BYTES);
    let mut payload = Payload::new(room);
    let unique = message.header.unique;
    let (error, undo) = match guarded(handler, message, &mut payload) {
        Answer::Reply(undo) => (0, undo),
        Answer::Error(errno) => {
            payload.clear();
            (-errno.raw(), Undo::Nothing)
        }
        Answer::Silence => return,
    };
    let length = OUT_HEADER_BYTES + payload.len();
    head.copy_from_slice(out_header(length, error, unique).bytes());
    let Err(errno) = device.write_vectored(&[IoSlice::new(head), IoSlice::new(payload.filled())])
    else {
        return;
    };
    handler.undelivered(undo, payload.filled());
    // ENOENT: nobody waits any more. ENODEV: unmounted meanwhile.
    if !matches!(errno, Errno::NOENT | Errno::NODEV) {
        tracing::warn!(unique, %errno, "reply refused by the kernel");
        refuse(device, unique);
    }
}

/// Ends a request whose reply the kernel did not take, so that its caller does not wait forever.
fn refuse(device: &FuseDevice, unique: u64) {
    let head = out_header(OUT_HEADER_BYTES, -Errno::IO.raw(), unique);
    if let Err(errno) = device.write_vectored(&[IoSlice::new(head.bytes())]) {
        tracing::warn!(unique, %errno, "request cannot be ended");
    }
}

/// Answers with `EIO` where the handler panics: one broken request must not stop a mount.
fn guarded<H: Handler>(handler: &H, message: &Message<'_>, payload: &mut Payload<'_>) -> Answer {
    let answered = catch_unwind(AssertUnwindSafe(|| handler.answer(message, payload)));
    answered.unwrap_or_else(|_| {
        tracing::error!(opcode = message.header.opcode, "request panicked");
        Answer::Error(Errno::IO)
    })
}
