//! How often the kernel asked for what.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::Opcode;

/// Counts of a mount since it was made. Reading them disturbs nobody.
#[derive(Debug)]
pub struct Counters {
    requests: [AtomicU64; Opcode::END],
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; Opcode::END],
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Returns the kinds of requests that came, by name, and how many of each.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Opcode::ALL.iter().filter_map(|&opcode| {
            let count = self.requests[opcode as usize].load(Ordering::Relaxed);
            (count > 0).then_some((opcode.name(), count))
        })
    }

    /// Returns how many requests were answered with an error that is part of normal life.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns how many requests failed because something is wrong.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, opcode: Opcode) {
        self.requests[opcode as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}
