//! Answering INIT, the kernel's first request.

use parking_lot::Mutex;
use rules::Errno;

use crate::negotiation::negotiate;
use crate::options::ServeOptions;
use crate::protocol::init::{self, InitReply, InitRequest, flag};
use crate::protocol::{Message, Opcode, Payload};
use crate::transport::{Answer, Handler, NoRing, Undo};

/// What the kernel offered, and the reply.
type Heard = (InitRequest, Result<InitReply, Errno>);

type MakeRing<'a, R> = &'a (dyn Fn() -> Result<R, Errno> + Sync);

/// Answers INIT, and nothing else.
pub(crate) struct Greeter<'a, R> {
    options: &'a ServeOptions,
    heard: Mutex<Option<Heard>>,
    make_ring: MakeRing<'a, R>,
    ring: Mutex<Result<R, NoRing>>,
}

impl<'a, R> Greeter<'a, R> {
    /// `make_ring` is called when the kernel offers io_uring: once that is taken, there must be one.
    pub(crate) fn new(options: &'a ServeOptions, make_ring: MakeRing<'a, R>) -> Self {
        Self {
            options,
            heard: Mutex::new(None),
            make_ring,
            ring: Mutex::new(Err(NoRing::Unwanted)),
        }
    }

    /// Returns the ring that was made, or why there is none.
    pub(crate) fn into_ring(self) -> Result<R, NoRing> {
        self.ring.into_inner()
    }

    /// Takes io_uring out of an offer that cannot be taken.
    fn with_ring_or_without(&self, mut offer: InitRequest) -> InitRequest {
        let offered = offer.flags & flag::OVER_IO_URING != 0;
        let ring = match (
            self.options.device_only || self.options.threads == 1,
            offered,
        ) {
            (true, _) => Err(NoRing::Unwanted),
            (false, false) => Err(NoRing::not_offered()),
            (false, true) => (self.make_ring)().map_err(NoRing::Impossible),
        };
        if ring.is_err() {
            offer.flags &= !flag::OVER_IO_URING;
        }
        *self.ring.lock() = ring;
        offer
    }

    /// Returns what was said last.
    pub(crate) fn heard(&self) -> Option<Heard> {
        *self.heard.lock()
    }
}

impl<R: Send> Handler for Greeter<'_, R> {
    fn answer(&self, message: &Message<'_>, payload: &mut Payload<'_>) -> Answer {
        if Opcode::from_raw(message.header.opcode) != Some(Opcode::Init) {
            return Answer::Error(Errno::IO);
        }
        let Ok(offer) = InitRequest::parse(message.arguments) else {
            return Answer::Error(Errno::INVAL);
        };
        let decided = negotiate(&self.with_ring_or_without(offer), self.options);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::header::tests::request;

    /// Returns whether io_uring is taken of an offer with or without it.
    fn taken(
        options: &ServeOptions,
        offered: bool,
        made: Result<u8, Errno>,
    ) -> (bool, Result<u8, NoRing>) {
        let make = move || made;
        let greeter = Greeter::new(options, &make);
        let high = if offered {
            (flag::OVER_IO_URING >> 32) as u32
        } else {
            0
        };
        let words = [7, 45, 4096, flag::INIT_EXT as u32, high];
        let body: Vec<u8> = words
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes())
            .collect();
        let bytes = request(Opcode::Init as u32, 0, 0, &body);
        let mut room = [0; 64];
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            greeter.answer(&message, &mut Payload::new(&mut room)),
            Answer::DONE
        );
        let reply = greeter.heard().unwrap().1.unwrap();
        (reply.flags & flag::OVER_IO_URING != 0, greeter.into_ring())
    }

    #[test]
    fn io_uring_is_taken_only_with_a_ring() {
        let options = ServeOptions::default();
        assert_eq!(taken(&options, true, Ok(1)), (true, Ok(1)));
        let refused = Err(NoRing::Impossible(Errno::PERM));
        assert_eq!(taken(&options, true, Err(Errno::PERM)), (false, refused));
        let (taken_unasked, why) = taken(&options, false, Ok(1));
        assert!(!taken_unasked && why.is_err());
    }

    #[test]
    fn io_uring_is_left_alone_where_it_is_not_wanted() {
        let device_only = ServeOptions {
            device_only: true,
            ..ServeOptions::default()
        };
        let one_thread = ServeOptions {
            threads: 1,
            ..ServeOptions::default()
        };
        for options in [device_only, one_thread] {
            assert_eq!(taken(&options, true, Ok(1)), (false, Err(NoRing::Unwanted)));
        }
    }
}
