//! Work of the union that no request waits for: copies that become durable after they are shown, memory that is given back.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tree::Tree;
use union::Union;

/// How long work waits after it was asked for.
const LATER: Duration = Duration::from_secs(1);

/// So often the kernel is asked to forget more, when memory is short.
const ROUNDS: usize = 5;
/// How long it may take each time.
const BETWEEN: Duration = Duration::from_millis(40);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// What is pending in the union.
    Pending,
    /// Names and objects take more memory than they may.
    Memory,
    /// There will be no more work.
    End,
}

/// Where work is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Background(Sender<Work>);

/// Where work is waited for.
#[derive(Debug)]
pub(crate) struct Worklist(Receiver<Work>);

impl Background {
    /// Returns both ends of a queue.
    pub(crate) fn queue() -> (Self, Worklist) {
        let (sender, receiver) = channel();
        (Self(sender), Worklist(receiver))
    }

    /// Asks for work; returns whether it will be done.
    pub(crate) fn ask(&self, work: Work) -> bool {
        self.0.send(work).is_ok()
    }

    /// Says that nobody will ask any more.
    pub(crate) fn end(&self) {
        if self.0.send(Work::End).is_err() {
            tracing::trace!("background work has ended already");
        }
    }
}

impl Worklist {
    /// Does what is asked for until [`Background::end`].
    ///
    /// Not at once: whoever made a large copy is about to write to it, and a journal that is busy with the copy
    /// would make the writer wait for all of it.
    pub(crate) fn work<T: Tree>(&self, union: &Union<T>) {
        while let Ok(work @ (Work::Pending | Work::Memory)) = self.0.recv() {
            if work == Work::Memory {
                save_memory(union);
                continue;
            }
            let due = Instant::now() + LATER;
            let ends = loop {
                match self
                    .0
                    .recv_timeout(due.saturating_duration_since(Instant::now()))
                {
                    Ok(Work::Pending) => {}
                    Ok(Work::Memory) => save_memory(union),
                    Ok(Work::End) | Err(RecvTimeoutError::Disconnected) => break true,
                    Err(RecvTimeoutError::Timeout) => break false,
                }
            };
            let _passage = union.pass();
            if let Err(error) = union.finish_pending() {
                tracing::warn!(%error, "copy-up not made durable");
            }
            if ends {
                return;
            }
        }
    }
}

fn save_memory<T: Tree>(union: &Union<T>) {
    for _ in 0..ROUNDS {
        let passage = union.pass();
        let more = union.save_memory();
        drop(passage);
        if !more {
            return;
        }
        // Until the kernel has said what it forgot.
        std::thread::sleep(BETWEEN);
    }
}
