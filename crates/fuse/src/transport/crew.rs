//! Who of a mount's threads waits for the next request.
//!
//! One thread at a time, the *leader*, reads requests, and answers them itself: the next request finds it awake
//! on a warm processor, and no other thread is woken for nothing. Before a request that takes long it passes the lead on. When
//! a request takes long unexpectedly, a watchdog passes the lead on for it: so one slow disk does not stop a mount.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;

/// How long a request may take before somebody else waits for the next one.
const PATIENCE: Duration = Duration::from_millis(2);
/// After so many looks without anything to see the watchdog sleeps.
const QUIET_LOOKS: u32 = 50;

const NOBODY: usize = usize::MAX;
const NOTHING: u64 = 0;

/// The threads of one mount.
pub struct Crew {
    /// The leader, changed under the lock of `idle`.
    leader: AtomicUsize,
    idle: Mutex<Vec<(usize, Thread)>>,
    /// The request that the leader is at.
    request: AtomicU64,
    served: AtomicU64,
    watchdog: OnceLock<Thread>,
    watchdog_sleeps: AtomicBool,
    ended: AtomicBool,
}

impl Default for Crew {
    fn default() -> Self {
        Self {
            leader: AtomicUsize::new(NOBODY),
            idle: Mutex::default(),
            request: AtomicU64::new(NOTHING),
            served: AtomicU64::new(0),
            watchdog: OnceLock::new(),
            watchdog_sleeps: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }
}

impl Crew {
    /// Waits until the thread of this number leads; `false` when there is nothing to wait for any more.
    pub fn lead(&self, number: usize) -> bool {
        if self.leader.load(Ordering::Acquire) != number {
            let mut idle = self.idle.lock();
            if self.leader.load(Ordering::Relaxed) == NOBODY {
                self.leader.store(number, Ordering::Release);
            } else {
                idle.push((number, thread::current()));
                drop(idle);
                while self.leader.load(Ordering::Acquire) != number && !self.has_ended() {
                    thread::park();
                }
            }
        }
        !self.has_ended()
    }

    /// Lets another thread lead, if this one still does. Returns whether nobody leads now, because there is no other.
    pub fn pass(&self, number: usize) -> bool {
        let mut idle = self.idle.lock();
        if self.leader.load(Ordering::Relaxed) != number {
            return false;
        }
        let next = idle.pop();
        let leader = next.as_ref().map_or(NOBODY, |(number, _)| *number);
        self.request.store(NOTHING, Ordering::Relaxed);
        self.leader.store(leader, Ordering::Release);
        drop(idle);
        let Some((_, thread)) = next else {
            return true;
        };
        thread.unpark();
        false
    }

    /// Notes that the leader begins with a request.
    pub fn begin(&self, unique: u64) {
        self.request.store(unique, Ordering::Relaxed);
        let served = self.served.load(Ordering::Relaxed);
        self.served.store(served.wrapping_add(1), Ordering::Relaxed);
        if self.watchdog_sleeps.load(Ordering::Relaxed)
            && let Some(watchdog) = self.watchdog.get()
        {
            watchdog.unpark();
        }
    }

    /// Notes that a thread has answered; it leads on unless somebody else does meanwhile.
    pub fn end(&self, number: usize) {
        if self.leader.load(Ordering::Relaxed) == number {
            self.request.store(NOTHING, Ordering::Relaxed);
        }
    }

    /// Sends all threads home.
    pub fn finish(&self) {
        self.ended.store(true, Ordering::Release);
        for (_, thread) in self.idle.lock().drain(..) {
            thread.unpark();
        }
        if let Some(watchdog) = self.watchdog.get() {
            watchdog.unpark();
        }
    }

    /// Passes the lead on when the leader is at one request for long, and calls `hire` when there is nobody to pass it to; returns at the end.
    pub fn watch(&self, hire: impl Fn()) {
        if self.watchdog.set(thread::current()).is_err() {
            return;
        }
        let (mut seen, mut quiet) = ((NOTHING, 0), 0);
        while !self.has_ended() {
            let leader = self.leader.load(Ordering::Acquire);
            let now = (
                self.request.load(Ordering::Relaxed),
                self.served.load(Ordering::Relaxed),
            );
            if now.0 != NOTHING && now == seen && self.pass(leader) {
                hire();
            }
            quiet = if now.0 == NOTHING && now == seen {
                quiet + 1
            } else {
                0
            };
            seen = now;
            if quiet > QUIET_LOOKS {
                self.sleep_until_something_comes(now.1);
                quiet = 0;
            } else {
                thread::park_timeout(PATIENCE);
            }
        }
    }

    fn sleep_until_something_comes(&self, served: u64) {
        self.watchdog_sleeps.store(true, Ordering::SeqCst);
        // What came before the leader could see that we sleep is seen here.
        if self.served.load(Ordering::SeqCst) == served && !self.has_ended() {
            thread::park_timeout(Duration::from_secs(1));
        }
        self.watchdog_sleeps.store(false, Ordering::Relaxed);
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_leads_until_it_passes() {
        let crew = Crew::default();
        assert!(crew.lead(0));
        assert!(crew.lead(0));
        assert!(crew.pass(0), "nobody else is there");
        assert!(crew.lead(1));
        assert!(!crew.pass(0));
        assert_eq!(
            crew.leader.load(Ordering::Relaxed),
            1,
            "only the leader passes"
        );
    }

    #[test]
    fn whoever_waits_gets_the_lead() {
        let crew = Crew::default();
        assert!(crew.lead(0));
        thread::scope(|scope| {
            let other = scope.spawn(|| crew.lead(1));
            while crew.idle.lock().is_empty() {
                thread::yield_now();
            }
            assert!(!crew.pass(0));
            assert!(other.join().unwrap());
        });
    }

    #[test]
    fn the_watchdog_lets_another_lead_when_a_request_takes_long() {
        let crew = Crew::default();
        assert!(crew.lead(0));
        thread::scope(|scope| {
            scope.spawn(|| crew.watch(|| ()));
            let other = scope.spawn(|| crew.lead(1));
            crew.begin(7);
            assert!(other.join().unwrap());
            crew.end(0);
            crew.finish();
        });
    }

    #[test]
    fn at_the_end_nobody_waits() {
        let crew = Crew::default();
        assert!(crew.lead(0));
        thread::scope(|scope| {
            let (watchdog, other) = (
                scope.spawn(|| crew.watch(|| ())),
                scope.spawn(|| crew.lead(1)),
            );
            while crew.idle.lock().is_empty() {
                thread::yield_now();
            }
            crew.finish();
            assert!(!other.join().unwrap());
            watchdog.join().unwrap();
        });
        assert!(!crew.lead(0));
    }
}
