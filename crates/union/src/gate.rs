//! Who may be at work while the stack of branches changes: nobody.
//!
//! Every operation passes through a gate that is open nearly always. To change the stack is to close it and to wait until all
//! who passed have come back.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// More than threads that serve one mount usually; two that share a lane only share its counter.
const LANES: usize = 16;

/// Lanes lie apart, so that threads do not wait for each other's counter.
#[derive(Default)]
#[repr(align(128))]
struct Lane(RwLock<()>);

/// A gate for many threads.
#[derive(Default)]
pub(crate) struct Gate {
    lanes: [Lane; LANES],
}

/// Somebody is at work in the union: its stack stays as it is until this is dropped.
#[must_use]
pub struct Passage<'a>(#[expect(dead_code, reason = "held")] RwLockReadGuard<'a, ()>);

/// Nobody else is at work in the union.
pub(crate) struct Closed<'a>(#[expect(dead_code, reason = "held")] Vec<RwLockWriteGuard<'a, ()>>);

impl Gate {
    /// Waits until the gate is open.
    pub(crate) fn pass(&self) -> Passage<'_> {
        Passage(self.lanes[lane()].0.read())
    }

    /// Closes the gate and waits until nobody is behind it.
    pub(crate) fn close(&self) -> Closed<'_> {
        Closed(self.lanes.iter().map(|lane| lane.0.write()).collect())
    }
}

fn lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LANE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % LANES;
    }
    LANE.with(|lane| *lane)
}
