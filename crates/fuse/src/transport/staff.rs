//! The threads of a mount that answer requests: one at first, others when there is work for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, Scope, scope};

use parking_lot::Mutex;
use rules::Errno;
use sys::FuseDevice;
use sys::request_ring::Ring;

use super::crew::Crew;
use super::ring::{Porter, Slots};
use super::{Handler, NoRing, Way, device};
use crate::server::ServeError;

/// What a mount is served with.
pub struct Equipment {
    /// The ring for the first slots, or why there is none.
    pub ring: Result<Ring, NoRing>,
    /// Bytes of names or data of the largest request.
    pub room: usize,
    /// How many threads answer at most: by io_uring, the requests of each processor.
    pub threads: usize,
}

/// Those who answer what comes through the device.
struct Staff<'scope, 'env, H> {
    scope: &'scope Scope<'scope, 'env>,
    device: &'scope FuseDevice,
    handler: &'scope H,
    desk: &'scope Desk,
    most: usize,
}

// Not derived: that would ask for copies of the handler.
impl<H> Clone for Staff<'_, '_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Staff<'_, '_, H> {}

/// What they share.
#[derive(Default)]
struct Desk {
    crew: Crew,
    hired: AtomicUsize,
    failed: Mutex<Option<Errno>>,
}

/// Answers requests until the filesystem is unmounted. `serving` is called once they are answered, and told how they travel.
pub fn serve<H: Handler>(
    device: &Arc<FuseDevice>,
    equipment: Equipment,
    handler: &H,
    serving: impl FnOnce(Way) + Send,
) -> Result<(), ServeError> {
    let Equipment {
        ring,
        room,
        threads,
    } = equipment;
    let desk = Desk::default();
    scope(|scope| {
        let staff = Staff {
            scope,
            device,
            handler,
            desk: &desk,
            most: threads.max(1),
        };
        // In any case: the kernel tells of what it forgets through the device, and of interruptions.
        staff.hire().map_err(ServeError::Thread)?;
        let porter = ring.and_then(|ring| {
            Slots::of_machine(threads)
                .and_then(|slots| Porter::new(ring, Arc::clone(device), slots, room))
                .map_err(NoRing::Refused)
        });
        match porter {
            Ok(porter) => {
                // Not by the porter, which never touches a path: what is done may lead through the mount itself, such as one over `/run`.
                scope.spawn(|| serving(Way::IoUring));
                if let Err(errno) = porter.serve(scope, handler) {
                    tracing::error!(%errno, "requests can no more be handed over");
                    desk.failed.lock().get_or_insert(errno);
                }
            }
            Err(why) => {
                serving(Way::Device(why));
                desk.crew.watch(|| staff.hire_one_more());
            }
        }
        Ok(())
    })?;
    desk.failed
        .into_inner()
        .map_or(Ok(()), |errno| Err(ServeError::Read(errno)))
}

impl<'scope, H: Handler> Staff<'scope, '_, H> {
    /// Starts a thread, unless there are enough.
    fn hire(self) -> std::io::Result<()> {
        let number = self.desk.hired.fetch_add(1, Ordering::Relaxed);
        if number >= self.most {
            self.desk.hired.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        let thread = Builder::new().name(format!("fuse-device-{number}"));
        thread
            .spawn_scoped(self.scope, move || self.work(number))
            .map(drop)
            .inspect_err(|_| {
                self.desk.hired.fetch_sub(1, Ordering::Relaxed);
            })
    }

    fn hire_one_more(self) {
        if let Err(error) = self.hire() {
            tracing::warn!(%error, "served by fewer threads");
        }
    }

    fn work(self, number: usize) {
        prepare_thread();
        let hire = || self.hire_one_more();
        let crew = &self.desk.crew;
        let served = match self.device.clone_session() {
            Ok(own) => device::serve(&own, self.handler, crew, number, hire),
            Err(errno) => {
                tracing::debug!(%errno, "device cannot be cloned: threads share it");
                device::serve(self.device, self.handler, crew, number, hire)
            }
        };
        if let Err(errno) = served {
            self.desk.failed.lock().get_or_insert(errno);
        }
    }
}

/// Lets this thread make objects in the name of others.
pub(super) fn prepare_thread() {
    if let Err(errno) = sys::identity::prepare_thread() {
        // Objects can still be made in the server's own name.
        tracing::warn!(%errno, "thread cannot act for others");
    }
}
