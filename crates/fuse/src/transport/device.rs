//! Requests by `read` and replies by `write` on `/dev/fuse`.
//!
//! Each thread has a device of its own on the same session, and buffers that it uses for
//! every request.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use rules::Errno;
use sys::FuseDevice;
use sys::pages::Pages;

use super::crew::Crew;
use super::{Handler, ask};
use crate::negotiation::MAX_DATA;
use crate::protocol::arguments::Arguments;
use crate::protocol::replies::{OUT_HEADER_BYTES, out_header};
use crate::protocol::{Message, Opcode, Payload};

/// Room for what comes with the data of the largest request: headers, names, attributes.
const EXTRA: usize = 1 << 16;
/// The kernel refuses to fill less than its largest request.
const BUFFER: usize = MAX_DATA as usize + EXTRA;

/// How long the leader looks for the next request before it sleeps: about what a client needs between two requests.
/// Waking up again would take longer.
const LOOKS_ON: Duration = Duration::from_micros(30);
/// Requests that move this many bytes are left to another thread than the leader.
const MUCH_DATA: usize = 64 << 10;

/// Answers requests of a device until the filesystem is unmounted, as the thread of this number in a crew. `hire` is called when
/// no other thread is there to lead.
pub fn serve<H: Handler>(
    device: &FuseDevice,
    handler: &H,
    crew: &Crew,
    number: usize,
    hire: impl Fn(),
) -> Result<(), Errno> {
    let served = device
        .set_nonblocking()
        .and_then(|()| Connection::new(device)?.work(handler, crew, number, hire));
    // Also after an error: nobody else would hear of the end.
    crew.finish();
    served
}

/// A device with the buffers of one thread.
pub struct Connection<'a> {
    device: &'a FuseDevice,
    request: Pages,
    reply: Pages,
}

impl<'a> Connection<'a> {
    /// Makes the buffers.
    pub fn new(device: &'a FuseDevice) -> Result<Self, Errno> {
        Ok(Self {
            device,
            request: Pages::new(BUFFER)?,
            reply: Pages::new(BUFFER)?,
        })
    }

    fn work<H: Handler>(
        &mut self,
        handler: &H,
        crew: &Crew,
        number: usize,
        hire: impl Fn(),
    ) -> Result<(), Errno> {
        while crew.lead(number) {
            let Some(length) = self.next()? else {
                return Ok(());
            };
            let Some(message) = parse(&self.request[..length]) else {
                continue;
            };
            if takes_long(&message, length) {
                if crew.pass(number) {
                    hire();
                }
            } else {
                crew.begin(message.header.unique);
            }
            answer(self.device, handler, &message, &mut self.reply);
            crew.end(number);
        }
        Ok(())
    }

    /// Waits for a request and returns its length; `None` when none will come any more.
    fn next(&mut self) -> Result<Option<usize>, Errno> {
        let start = Instant::now();
        loop {
            match self.device.read(&mut self.request) {
                Ok(length) => return Ok(Some(length)),
                Err(Errno::NODEV) => return Ok(None),
                Err(Errno::AGAIN) if start.elapsed() < LOOKS_ON => std::thread::yield_now(),
                Err(Errno::AGAIN) => {
                    self.device.wait_readable(None)?;
                }
                // ENOENT: the request was interrupted before it was read.
                Err(Errno::INTR | Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Waits for a request and answers it; returns `false` when none will come any more.
    pub fn exchange<H: Handler>(&mut self, handler: &H) -> Result<bool, Errno> {
        let Some(length) = self.next()? else {
            return Ok(false);
        };
        if let Some(message) = parse(&self.request[..length]) {
            answer(self.device, handler, &message, &mut self.reply);
        }
        Ok(true)
    }
}

fn parse(request: &[u8]) -> Option<Message<'_>> {
    Message::parse(request)
        // Without a header there is nobody to answer to.
        .inspect_err(|malformed| {
            let length = request.len();
            tracing::warn!(length, %malformed, "request dropped");
        })
        .ok()
}

/// Returns whether a request is known to wait for a disk or to move much data.
fn takes_long(message: &Message<'_>, length: usize) -> bool {
    let asks_for = |mut arguments: Arguments<'_>| {
        // The size stands behind the handle and the offset.
        arguments
            .skip(16)
            .and_then(|()| arguments.u32())
            .unwrap_or(0) as usize
    };
    match Opcode::from_raw(message.header.opcode) {
        Some(Opcode::FSync | Opcode::FSyncDir | Opcode::SyncFs) => true,
        Some(Opcode::FAllocate | Opcode::CopyFileRange | Opcode::CopyFileRange64) => true,
        Some(Opcode::Read) => asks_for(message.arguments) >= MUCH_DATA,
        _ => length >= MUCH_DATA,
    }
}

fn answer<H: Handler>(device: &FuseDevice, handler: &H, message: &Message<'_>, reply: &mut [u8]) {
    let (head, room) = reply.split_at_mut(OUT_HEADER_BYTES);
    let mut payload = Payload::new(room);
    let unique = message.header.unique;
    let Some((error, undo)) = ask(handler, message, &mut payload) else {
        return;
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
