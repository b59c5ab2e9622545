//! The threads of a mount: those that answer (`transport`), one that delivers notices, one for work that
//! nobody waits for; `control` has one more that hears of direct changes of branches where they are watched.
//!
//! The mount is served as long as one thread answers. The others end after the last of
//! those, so nothing that a request left behind is lost.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};

use sys::FuseDevice;
use tree::Tree;

use crate::background::{Background, Worklist};
use crate::invalidation::{Notice, Notifier, deliver};
use crate::server::ServeError;
use crate::session::Session;
use crate::transport::{self, Equipment, Way};

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
    device: &Arc<FuseDevice>,
    equipment: Equipment,
    tasks: Tasks,
    serving: impl FnOnce(Way) + Send,
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
    scope(|scope| {
        let helpers = spawn(scope, "fuse-notices", move || deliver(&notices, device))
            .and_then(|_| spawn(scope, "fuse-finish", move || worklist.work(&session.union)));
        // Without them nobody is there for what requests leave to others.
        let served = helpers.and_then(|_| transport::serve(device, equipment, session, serving));
        notifier.note(Notice::End);
        background.end();
        session.control.end();
        served
    })
}

fn spawn<'scope, R: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    task: impl FnOnce() -> R + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, R>, ServeError> {
    let thread = Builder::new().name(name.into());
    thread.spawn_scoped(scope, task).map_err(ServeError::Thread)
}
