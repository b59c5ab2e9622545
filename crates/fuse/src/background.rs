//! Work of the union that no request waits for: copies that become durable after they are shown.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tree::Tree;
use union::Union;

/// How long work waits after it was asked for.
const LATER: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// What is pending in the union.
    Pending,
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

    /// Asks for what is pending to be finished; returns whether it will be.
    pub(crate) fn ask(&self) -> bool {
        self.0.send(Work::Pending).is_ok()
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
        while let Ok(Work::Pending) = self.0.recv() {
            let due = Instant::now() + LATER;
            let ends = loop {
                match self
                    .0
                    .recv_timeout(due.saturating_duration_since(Instant::now()))
                {
                    Ok(Work::Pending) => {}
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
