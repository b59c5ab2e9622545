//! Requests and replies over io_uring.
//!
//! The kernel has a queue for each processor, and puts a request into that slot of the queue which became free last. Each thread
//! has one slot only. So the thread that answered last, whose data is in the caches, answers the next request, on the
//! processor of the caller; while it is busy, or blocked by a slow disk, the kernel goes to another. No request waits behind another
//! as long as there is a thread, nobody watches, and no lock is shared.
//!
//! There are no threads before there is work. One, the *porter*, has all slots at first. Whatever request comes to it shows that
//! all other threads of the queue are busy: it hands the request and its slot over to a new thread, which replies through a ring of its own and
//! keeps the slot from then on. All slots are offered at the beginning: a slot that comes later does not get a request that waits already.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, Scope};

use rules::Errno;
use sys::FuseDevice;
use sys::request_ring::{Completed, Parts, Ring, Slot};

use super::{Handler, Undo, ask, staff};
use crate::protocol::replies::{OUT_HEADER_BYTES, out_header};
use crate::protocol::{Malformed, Message, Payload};

/// Names of requests, which are moved aside because the reply takes their place. The longest are two names of a rename.
/// Requests with more (data to be written, attributes, targets of links) have replies that are shorter than this.
const ASIDE: usize = 640;

/// The slots that no other thread has, and the thread that takes their requests.
pub struct Porter {
    ring: Ring,
    device: Arc<FuseDevice>,
}

/// How many slots there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// Queues: one for each processor that there can be.
    pub queues: usize,
    /// Slots, and so threads, of each queue.
    pub each: usize,
}

/// On machines with many processors each queue has fewer slots, down to this.
const FEWEST: usize = 2;
/// Slots of all queues, if none has too few.
const MOST: usize = 64;

impl Slots {
    /// Returns how many there are on this machine, when `threads` answer the requests of each processor at most.
    pub fn of_machine(threads: usize) -> Result<Self, Errno> {
        let queues = sys::processors::possible()?;
        let most = (MOST / queues).max(FEWEST);
        let each = threads.clamp(FEWEST, most);
        Ok(Self { queues, each })
    }
}

impl Porter {
    /// Makes a ring for so many slots.
    pub fn ring(device: &Arc<FuseDevice>, slots: Slots) -> Result<Ring, Errno> {
        Ring::new(Arc::clone(device), slots.queues * slots.each)
    }

    /// Offers all slots, with `room` for names and data of the largest request; after that the kernel sends requests here, or
    /// has refused and goes on using the device.
    pub fn new(
        mut ring: Ring,
        device: Arc<FuseDevice>,
        slots: Slots,
        room: usize,
    ) -> Result<Self, Errno> {
        ring.enable()?;
        for slot in 0..slots.queues * slots.each {
            let queue = u16::try_from(slot % slots.queues).map_err(|_| Errno::INVAL)?;
            ring.register(Slot::new(queue, room)?)?;
        }
        Ok(Self { ring, device })
    }

    /// Hands requests over until the mount is gone, or no slot is left.
    pub fn serve<'scope, H: Handler>(
        mut self,
        scope: &'scope Scope<'scope, '_>,
        handler: &'scope H,
    ) -> Result<(), Errno> {
        while self.ring.awaited() > 0 {
            let Completed { slot, result } = self.ring.wait()?;
            match result {
                Ok(()) => self.hand_over(scope, handler, slot),
                Err(errno) if is_end(errno) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn hand_over<'scope, H: Handler>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        handler: &'scope H,
        slot: Slot,
    ) {
        let queue = slot.queue();
        let (give, take) = sync_channel(1);
        let thread = Builder::new().name(format!("fuse-{queue}"));
        let hired = Ring::new(Arc::clone(&self.device), 1).and_then(|ring| {
            let hired = thread.spawn_scoped(scope, move || {
                if let Ok((ring, slot)) = take.recv() {
                    work(ring, slot, handler);
                }
            });
            hired.map(|_| ring).map_err(|_| Errno::AGAIN)
        });
        match hired {
            Ok(ring) => {
                if give.send((ring, slot)).is_err() {
                    tracing::error!(queue, "a thread ended before it began");
                }
            }
            Err(errno) => {
                tracing::warn!(queue, %errno, "served by fewer threads");
                self.stand_in(handler, slot);
            }
        }
    }

    /// Answers a request, where there is no thread for it.
    fn stand_in<H: Handler>(&mut self, handler: &H, mut slot: Slot) {
        let reply = answer(handler, &mut slot);
        if let Err(Completed { slot, result }) = self.ring.deliver(slot) {
            undeliver(handler, reply, &slot, result);
        }
    }
}

/// Answers the request in a slot and those that follow in it, as a new thread.
fn work<H: Handler>(mut ring: Ring, slot: Slot, handler: &H) {
    staff::prepare_thread();
    let queue = slot.queue();
    if let Err(errno) = sys::processors::stay_on(usize::from(queue)) {
        // Callers on that processor wait a little longer.
        tracing::debug!(queue, %errno, "thread runs anywhere");
    }
    if let Err(errno) = ring.enable().and_then(|()| go_on(&mut ring, slot, handler)) {
        tracing::error!(queue, %errno, "a thread cannot go on");
    }
}

fn go_on<H: Handler>(ring: &mut Ring, mut slot: Slot, handler: &H) -> Result<(), Errno> {
    loop {
        let reply = answer(handler, &mut slot);
        let completed = ring.exchange(slot)?;
        slot = match completed.result {
            Ok(()) => completed.slot,
            // Whether before the reply or after it nobody knows. Nothing is to be undone for a mount that is gone.
            Err(errno) if is_end(errno) => return Ok(()),
            Err(_) => {
                undeliver(handler, reply, &completed.slot, completed.result);
                ring.register(completed.slot)?;
                let Completed { slot, result } = ring.wait()?;
                match result {
                    Ok(()) => slot,
                    Err(errno) if is_end(errno) => return Ok(()),
                    Err(errno) => return Err(errno),
                }
            }
        };
    }
}

/// A reply in its slot: the length of the payload, and what is to be undone if it does not arrive.
type Reply = (usize, Undo);

fn undeliver<H: Handler>(handler: &H, reply: Reply, slot: &Slot, refused: Result<(), Errno>) {
    let (length, undo) = reply;
    handler.undelivered(undo, slot.payload(length));
    tracing::warn!(
        queue = slot.queue(),
        ?refused,
        "reply refused by the kernel"
    );
}

/// Puts the reply in the place of the request.
fn answer<H: Handler>(handler: &H, slot: &mut Slot) -> Reply {
    let unique = slot.commit_id();
    let Parts {
        header,
        operation,
        payload,
        filled,
    } = slot.parts();
    let mut aside = [0; ASIDE];
    let (error, length, undo) = if let Some(names) = aside.get_mut(..filled) {
        names.copy_from_slice(&payload[..filled]);
        let message = Message::in_pieces(header, operation, names);
        reply(handler, message, payload)
    } else {
        // The data stays where it is.
        let message = Message::in_pieces(header, operation, &payload[..filled]);
        let (error, length, undo) = reply(handler, message, &mut aside);
        payload[..length].copy_from_slice(&aside[..length]);
        (error, length, undo)
    };
    let head = out_header(OUT_HEADER_BYTES + length, error, unique);
    slot.reply(head.bytes(), length);
    (length, undo)
}

fn reply<H: Handler>(
    handler: &H,
    message: Result<Message<'_>, Malformed>,
    room: &mut [u8],
) -> (i32, usize, Undo) {
    let message = match message {
        Ok(message) => message,
        Err(malformed) => {
            tracing::warn!(%malformed, "request refused");
            return (-Errno::IO.raw(), 0, Undo::Nothing);
        }
    };
    let mut payload = Payload::new(room);
    // A slot without a reply would be lost, so there is always one.
    let (error, undo) = ask(handler, &message, &mut payload).unwrap_or((0, Undo::Nothing));
    (error, payload.len(), undo)
}

/// Tells whether a slot comes back because the mount, or its server, is about to go.
fn is_end(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOTCONN | Errno::CONNABORTED | Errno::CANCELED | Errno::NODEV
    )
}
