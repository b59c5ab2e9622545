//! The threads of a mount: those that answer, one that delivers notices, one for work that
//! nobody waits for; `control` has one more that hears of direct changes of branches where they are watched.
//!
//! The mount is served as long as one thread answers. The others end after the last of
//! those, so nothing that a request left behind is lost.

use std::os::fd::AsFd;
use std::sync::mpsc::Receiver;
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};

use rules::Errno;
use sys::FuseDevice;
use tree::Tree;

use crate::background::{Background, Worklist};
use crate::invalidation::{Notice, Notifier, deliver};
use crate::server::ServeError;
use crate::session::Session;
use crate::transport::crew::Crew;
use crate::transport::device;

/// Both ends of the queues to the threads that do not answer requests.
pub(crate) struct Tasks {
    pub(crate) notifier: Notifier,
    pub(crate) notices: Receiver<Notice>,
    pub(crate) background: Background,
    pub(crate) worklist: Worklist,
}

/// Runs all threads of a session to their end; the first error is the one that is told. `serving` is called once they run.
pub(crate) fn serve<T: Tree>(
    session: &Session<T>,
    device: &FuseDevice,
    tasks: Tasks,
    count: usize,
    serving: impl FnOnce(),
) -> Result<(), ServeError>
where
    T::Dir: AsFd,
    T::File: AsFd,
{
    let Tasks {
        notifier,
        notices,
        background,
        worklist,
    } = tasks;
    let crew = Crew::default();
    scope(|scope| {
        let crew = &crew;
        // Those that answer come first: somebody may be waiting already.
        let workers = spawn_workers(scope, session, device, crew, count);
        let helpers = spawn(scope, "fuse-watchdog", || crew.watch()).and_then(|_| {
            spawn(scope, "fuse-notices", move || deliver(&notices, device))?;
            spawn(scope, "fuse-finish", move || worklist.work(&session.union))?;
            serving();
            Ok(())
        });
        if helpers.is_err() {
            // Nobody is there for what requests leave to others.
            crew.finish();
        }
        let served = workers.and_then(|workers| join(workers).map_err(ServeError::Read));
        let served = helpers.and(served);
        crew.finish();
        notifier.note(Notice::End);
        background.end();
        session.control.end();
        served
    })
}

type Worker<'scope> = ScopedJoinHandle<'scope, Result<(), Errno>>;

/// Starts as many threads as there are to be had.
fn spawn_workers<'scope, T: Tree>(
    scope: &'scope Scope<'scope, '_>,
    session: &'scope Session<T>,
    device: &'scope FuseDevice,
    crew: &'scope Crew,
    count: usize,
) -> Result<Vec<Worker<'scope>>, ServeError>
where
    T::File: AsFd,
{
    let mut workers = Vec::new();
    for number in 0..count.max(1) {
        match spawn(scope, &format!("fuse-{number}"), move || {
            work(session, device, crew, number)
        }) {
            Ok(worker) => workers.push(worker),
            Err(error) if workers.is_empty() => return Err(error),
            Err(error) => tracing::warn!(%error, number, "served by fewer threads"),
        }
    }
    Ok(workers)
}

fn spawn<'scope, R: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    task: impl FnOnce() -> R + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, R>, ServeError> {
    let thread = Builder::new().name(name.into());
    thread.spawn_scoped(scope, task).map_err(ServeError::Thread)
}

fn join(workers: Vec<Worker<'_>>) -> Result<(), Errno> {
    let mut served = Ok(());
    for worker in workers {
        served = served.and(worker.join().unwrap_or(Err(Errno::IO)));
    }
    served
}

fn work<T: Tree>(
    session: &Session<T>,
    device: &FuseDevice,
    crew: &Crew,
    number: usize,
) -> Result<(), Errno>
where
    T::File: AsFd,
{
    if let Err(errno) = sys::identity::prepare_thread() {
        // Objects can still be made in the server's own name.
        tracing::warn!(%errno, "thread cannot act for others");
    }
    match device.clone_session() {
        Ok(own) => device::serve(&own, session, crew, number),
        Err(errno) => {
            tracing::debug!(%errno, "device cannot be cloned: threads share it");
            device::serve(device, session, crew, number)
        }
    }
}
