//! Telling the kernel that what it caches is wrong.
//!
//! Notices are only noted down where they arise, because there locks may be held and the
//! kernel may be waiting for a reply; one thread of its own delivers them.

use std::io::IoSlice;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};

use rules::{Errno, Name};
use sys::FuseDevice;
use union::InodeId;

use crate::protocol::notification;

/// What is not as the kernel believes.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A name.
    Entry(InodeId, Name),
    /// Attributes of an object.
    Attributes(InodeId),
    /// Attributes and contents of an object.
    Contents(InodeId),
    /// Objects need not be remembered if nobody uses them.
    Unused(Vec<InodeId>),
    /// Somebody waits until all before this are delivered.
    Heard(SyncSender<()>),
    /// There will be no more notices.
    End,
}

/// Where notices are left.
#[derive(Debug, Clone)]
pub(crate) struct Notifier(Sender<Notice>);

impl Notifier {
    /// Returns both ends of a queue.
    pub(crate) fn queue() -> (Self, Receiver<Notice>) {
        let (sender, receiver) = channel();
        (Self(sender), receiver)
    }

    /// Notes one down.
    pub(crate) fn note(&self, notice: Notice) {
        if self.0.send(notice).is_err() {
            tracing::trace!("notice after the end of the session");
        }
    }
}

/// So many objects are named in one message.
const MOST_UNUSED: usize = 512;

/// Delivers notices until [`Notice::End`].
pub(crate) fn deliver(notices: &Receiver<Notice>, device: &FuseDevice) {
    for notice in notices {
        let delivered = match &notice {
            Notice::Entry(parent, name) => {
                let head = notification::entry_invalid(*parent, name.as_bytes());
                write(device, &[head.bytes(), name.as_bytes(), b"\0"])
            }
            Notice::Attributes(id) => {
                write(device, &[notification::attributes_invalid(*id).bytes()])
            }
            Notice::Contents(id) => write(device, &[notification::contents_invalid(*id).bytes()]),
            Notice::Unused(ids) => ids.chunks(MOST_UNUSED).try_for_each(|ids| {
                let head = notification::unused(ids.len());
                let ids: Vec<u8> = ids.iter().flat_map(|id| id.0.to_ne_bytes()).collect();
                write(device, &[head.bytes(), &ids])
            }),
            Notice::Heard(waiting) => {
                if waiting.try_send(()).is_err() {
                    tracing::debug!("nobody waits for notices any more");
                }
                continue;
            }
            Notice::End => return,
        };
        match delivered {
            // What the kernel does not have it need not forget.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) if matches!(notice, Notice::Unused(_)) => {
                tracing::debug!(%errno, "the kernel, older than 6.18, forgets nothing on request");
            }
            Err(errno) => tracing::debug!(?notice, %errno, "notice not delivered"),
        }
    }
}

fn write(device: &FuseDevice, pieces: &[&[u8]]) -> Result<(), Errno> {
    let mut slices = [IoSlice::new(&[]); 3];
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = IoSlice::new(piece);
    }
    device.write_vectored(&slices[..pieces.len()]).map(|_| ())
}
