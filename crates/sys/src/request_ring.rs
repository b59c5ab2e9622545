//! Requests of the kernel to a FUSE server, over io_uring: one system call replies and waits for the next request.
//!
//! The kernel has a queue for each processor. A [`Slot`] is room for one request of a queue and for its reply. While the
//! kernel waits for something to put into a slot, a [`Ring`] has it; when a request has arrived the ring gives it back, and whoever has
//! the slot then replies, through any ring. A ring belongs to the thread that enabled it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use io_uring::squeue::Entry128;
use io_uring::{IoUring, cqueue, opcode, types};
use rules::Errno;

use crate::FuseDevice;
use crate::errno::IntoErrno;
use crate::pages::Pages;

/// `FUSE_IO_URING_CMD_REGISTER`.
const REGISTER: u32 = 1;
/// `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`.
const COMMIT_AND_FETCH: u32 = 2;

/// Bytes of `struct fuse_in_header`, and of `struct fuse_out_header`.
const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
/// `struct fuse_uring_req_header`: the headers, the structure of the operation, and then commit id and size of the payload.
const OPERATION: usize = 128;
const COMMIT_ID: usize = 264;
const PAYLOAD_SIZE: usize = 272;
const HEADER: usize = 288;
/// Where names and data lie in a slot: behind the headers in the same page, for most requests need no more.
const PAYLOAD: usize = 512;
/// Where `len` lies in `struct io_uring_sqe`.
const SQE_LEN: usize = 24;

/// Whether the kernel has FUSE over io_uring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It is older than Linux 6.14, or was built without.
    Absent,
    /// It has, but it is switched off (`enable_uring`).
    Off,
    /// Mounts that are made now may use it.
    On,
}

/// Returns whether the kernel has FUSE over io_uring.
pub fn support() -> Support {
    match std::fs::read_to_string("/sys/module/fuse/parameters/enable_uring") {
        Ok(text) if text.trim() == "Y" => Support::On,
        Ok(_) => Support::Off,
        Err(_) => Support::Absent,
    }
}

/// Tells whether this process may make a ring.
pub fn probe() -> Result<(), Errno> {
    build(1).map(drop)
}

/// Room for one request and its reply.
#[derive(Debug)]
pub struct Slot {
    memory: Pages,
    queue: u16,
}

/// A request in its slot.
#[derive(Debug)]
pub struct Parts<'a> {
    /// `struct fuse_in_header`.
    pub header: &'a [u8],
    /// The structure of the operation, and then bytes without a meaning.
    pub operation: &'a [u8],
    /// Room for names and data of the request, and after that for those of the reply.
    pub payload: &'a mut [u8],
    /// How much of it the request takes.
    pub filled: usize,
}

impl Slot {
    /// Makes a slot for requests of this queue with room for so many bytes of names or data.
    pub fn new(queue: u16, room: usize) -> Result<Self, Errno> {
        let memory = Pages::new(PAYLOAD + room)?;
        Ok(Self { memory, queue })
    }

    /// Returns the queue whose requests it takes.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Returns the request that has arrived.
    pub fn parts(&mut self) -> Parts<'_> {
        let filled = u32::from_ne_bytes(self.field(PAYLOAD_SIZE)) as usize;
        let (head, payload) = self.memory.split_at_mut(PAYLOAD);
        Parts {
            header: &head[..IN_HEADER],
            operation: &head[OPERATION..2 * OPERATION],
            filled: filled.min(payload.len()),
            payload,
        }
    }

    /// Takes `head` as the header of the reply, which goes with the first `length` bytes of the payload.
    pub fn reply(&mut self, head: &[u8; OUT_HEADER], length: usize) {
        let length = (length as u32).to_ne_bytes();
        self.memory[..OUT_HEADER].copy_from_slice(head);
        self.memory[PAYLOAD_SIZE..][..length.len()].copy_from_slice(&length);
    }

    /// Returns the first `length` bytes of the payload.
    pub fn payload(&self, length: usize) -> &[u8] {
        let payload = &self.memory[PAYLOAD..];
        &payload[..length.min(payload.len())]
    }

    /// Returns the number by which the kernel finds the request.
    pub fn commit_id(&self) -> u64 {
        u64::from_ne_bytes(self.field(COMMIT_ID))
    }

    fn field<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.memory[offset..offset + N]);
        bytes
    }
}

/// What came of a slot.
#[derive(Debug)]
pub struct Completed {
    /// The slot.
    pub slot: Slot,
    /// A request has arrived, or why not: `ENOTCONN` once the mount is gone.
    pub result: Result<(), Errno>,
}

fn build(slots: usize) -> Result<IoUring<Entry128, cqueue::Entry>, Errno> {
    let completions = u32::try_from(slots.next_power_of_two() * 2).map_err(|_| Errno::INVAL)?;
    IoUring::<Entry128, cqueue::Entry>::builder()
        .setup_r_disabled()
        // The kernel works when its one thread asks it to, and interrupts it never.
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(completions)
        // One command at a time is handed over.
        .build(1)
        .errno()
}

/// An io_uring, and the slots that the kernel fills through it.
pub struct Ring {
    // Dropped first: the kernel closes it before slots are looked at.
    ring: IoUring<Entry128, cqueue::Entry>,
    device: Arc<FuseDevice>,
    /// By the number that the kernel hands back.
    awaited: Vec<Option<Slot>>,
    /// Numbers of slots that are to be handed out.
    completed: VecDeque<(usize, Result<(), Errno>)>,
}

impl Ring {
    /// Makes a ring for so many slots at a time. The thread that is to use it enables it.
    pub fn new(device: Arc<FuseDevice>, slots: usize) -> Result<Self, Errno> {
        let slots = slots.max(1);
        let ring = build(slots)?;
        let mut awaited = Vec::new();
        awaited.resize_with(slots, || None);
        Ok(Self {
            ring,
            device,
            awaited,
            completed: VecDeque::with_capacity(slots),
        })
    }

    /// Makes this thread the one that uses the ring.
    pub fn enable(&self) -> Result<(), Errno> {
        self.ring.submitter().register_enable_rings().errno()
    }

    /// Offers a new slot to the kernel.
    ///
    /// Any refusal makes the kernel use the device instead, for good, if not all queues have had a slot yet.
    pub fn register(&mut self, slot: Slot) -> Result<(), Errno> {
        let start = slot.memory.start().as_ptr();
        let parts = [
            libc::iovec {
                iov_base: start.cast(),
                iov_len: HEADER,
            },
            libc::iovec {
                iov_base: start.wrapping_add(PAYLOAD).cast(),
                iov_len: slot.memory.len() - PAYLOAD,
            },
        ];
        let entry = self
            .command(REGISTER, &slot, 0)
            .addr(Some(parts.as_ptr() as u64));
        let mut entry = entry.build();
        // SAFETY: `Entry128` is `struct io_uring_sqe` of the kernel followed by 64 bytes; `len` is a field of 32 bits at this
        // place, for which the library has no name in this operation.
        unsafe {
            (&raw mut entry)
                .cast::<u8>()
                .add(SQE_LEN)
                .cast::<u32>()
                .write_unaligned(parts.len() as u32);
        }
        // Within this call the kernel reads `parts`.
        self.submit(&entry, slot)
            .or_else(|completed| completed.result)
    }

    /// Delivers the reply in a slot without waiting; gives the slot back if the kernel does not take it.
    pub fn deliver(&mut self, slot: Slot) -> Result<(), Completed> {
        let commit_id = slot.commit_id();
        let entry = self.command(COMMIT_AND_FETCH, &slot, commit_id).build();
        self.submit(&entry, slot)
    }

    /// Delivers the reply in a slot, and waits until any slot is filled.
    pub fn exchange(&mut self, slot: Slot) -> Result<Completed, Errno> {
        let commit_id = slot.commit_id();
        let entry = self.command(COMMIT_AND_FETCH, &slot, commit_id).build();
        self.push(&entry, slot);
        self.collect();
        if !self.completed.is_empty() {
            // There is nothing to wait for, but the reply has to go.
            self.ring.submit().errno()?;
        }
        self.wait()
    }

    /// Waits until a slot is filled.
    pub fn wait(&mut self) -> Result<Completed, Errno> {
        loop {
            if let Some((index, result)) = self.completed.pop_front() {
                let slot = self.awaited[index].take().ok_or(Errno::IO)?;
                return Ok(Completed { slot, result });
            }
            match self.ring.submit_and_wait(1).errno() {
                Ok(_) | Err(Errno::INTR | Errno::AGAIN | Errno::BUSY) => self.collect(),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Returns how many slots the kernel has.
    pub fn awaited(&self) -> usize {
        self.awaited.iter().flatten().count()
    }

    fn command(&self, command: u32, slot: &Slot, commit_id: u64) -> opcode::UringCmd80 {
        // `struct fuse_uring_cmd_req`: flags, commit id, queue.
        let mut request = [0; 80];
        request[8..16].copy_from_slice(&commit_id.to_ne_bytes());
        request[16..18].copy_from_slice(&slot.queue.to_ne_bytes());
        let device = types::Fd(self.device.as_fd().as_raw_fd());
        opcode::UringCmd80::new(device, command).cmd(request)
    }

    /// Hands a command over, and hears at once if it is refused.
    fn submit(&mut self, entry: &Entry128, slot: Slot) -> Result<(), Completed> {
        let index = self.push(entry, slot);
        let submitted = self.ring.submit().errno();
        self.collect();
        let of_slot = |(number, result): &(usize, Result<(), Errno>)| {
            (*number == index && result.is_err()).then_some(*result)
        };
        let refused = self.completed.iter().find_map(of_slot);
        let Some(result) = refused.or(submitted.err().map(Err)) else {
            return Ok(());
        };
        self.completed
            .retain(|completed| of_slot(completed).is_none());
        match self.awaited[index].take() {
            Some(slot) => Err(Completed { slot, result }),
            None => Ok(()),
        }
    }

    fn push(&mut self, entry: &Entry128, slot: Slot) -> usize {
        let free = self.awaited.iter().position(Option::is_none);
        let index = free.unwrap_or(self.awaited.len());
        if index == self.awaited.len() {
            self.awaited.push(None);
        }
        self.awaited[index] = Some(slot);
        let entry = entry.clone().user_data(index as u64);
        // SAFETY: what the command points to is read when it is submitted, which the callers do, but for the memory of the slot:
        // that stays where it is until the command is completed, or for ever.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        debug_assert!(pushed.is_ok(), "each command is submitted before the next");
        index
    }

    /// Takes over what the kernel says is completed.
    fn collect(&mut self) {
        for completion in self.ring.completion() {
            let result = match completion.result() {
                code @ ..0 => Err(Errno::from_raw(-code)),
                _ => Ok(()),
            };
            self.completed
                .push_back((completion.user_data() as usize, result));
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.collect();
        for (index, _) in self.completed.drain(..) {
            self.awaited[index] = None;
        }
        for slot in self.awaited.drain(..).flatten() {
            // The kernel may still write there.
            std::mem::forget(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_reply_share_a_slot() {
        let mut slot = Slot::new(3, 1 << 20).unwrap();
        assert_eq!((slot.queue(), slot.commit_id()), (3, 0));
        let parts = slot.parts();
        assert_eq!((parts.header.len(), parts.operation.len()), (40, 128));
        assert_eq!((parts.payload.len(), parts.filled), (1 << 20, 0));
        parts.payload[..5].copy_from_slice(b"reply");
        slot.reply(&[7; 16], 5);
        assert_eq!(slot.payload(5), b"reply");
        let parts = slot.parts();
        assert_eq!(
            (&parts.header[..17], parts.filled),
            (&[&[7_u8; 16][..], &[0]].concat()[..], 5)
        );
    }

    #[test]
    fn a_device_without_a_mount_is_refused_and_the_slot_comes_back() {
        let device = Arc::new(FuseDevice::open().unwrap());
        let mut ring = Ring::new(device, 2).unwrap();
        ring.enable().unwrap();
        let slot = Slot::new(0, 1 << 16).unwrap();
        assert!(ring.register(slot).is_err());
        assert_eq!(ring.awaited(), 0);
    }

    #[test]
    fn a_ring_belongs_to_one_thread() {
        let device = Arc::new(FuseDevice::open().unwrap());
        let mut ring = Ring::new(device, 1).unwrap();
        ring.enable().unwrap();
        let elsewhere = std::thread::spawn(move || ring.register(Slot::new(0, 4096).unwrap()));
        assert!(elsewhere.join().unwrap().is_err());
    }
}
