//! A mount from INIT to its end.

use std::os::fd::AsFd;
use std::sync::Arc;

use rules::Errno;
use sys::FuseDevice;
use sys::request_ring::Ring;
use tree::Tree;
use union::{DirectChanges, Union};

use crate::background::Background;
use crate::control::Control;
use crate::counters::Counters;
use crate::directory_handles::Handles;
use crate::executed::Executed;
use crate::greeting::Greeter;
use crate::invalidation::Notifier;
use crate::observer::Watcher;
use crate::options::ServeOptions;
use crate::passthrough::Passthrough;
use crate::protocol::Dialect;
use crate::protocol::init::{self, InitReply, flag};
use crate::session::Session;
use crate::threads::{self, Tasks};
use crate::transport::device::Connection;
use crate::transport::ring::{Porter, Slots};
use crate::transport::{Equipment, NoRing, Way};

/// Why a mount cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The device does not deliver.
    #[error("read requests: {0}")]
    Read(#[source] Errno),
    /// The kernel does not speak this protocol.
    #[error("the kernel speaks FUSE {0}.{1}, which is not served; 7.31 is the oldest")]
    Version(u32, u32),
    /// It was unmounted before anything was asked.
    #[error("unmounted before it could be served")]
    Unmounted,
    /// There are no threads to be had.
    #[error("start thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Answers the kernel for one mount.
pub struct Server<T: Tree> {
    device: Arc<FuseDevice>,
    union: Arc<Union<T>>,
    options: ServeOptions,
    counters: Arc<Counters>,
    tasks: Tasks,
    control: Arc<Control<T>>,
    agreed: Option<InitReply>,
    ring: Result<Ring, NoRing>,
}

impl<T: Tree> Server<T>
where
    T::Dir: AsFd,
    T::File: AsFd,
{
    /// Prepares to serve `union` on an open device, and begins to watch it for changes that the
    /// kernel does not know of.
    pub fn new(device: FuseDevice, union: Arc<Union<T>>, options: ServeOptions) -> Self {
        let (notifier, notices) = Notifier::queue();
        let (background, worklist) = Background::queue();
        union.set_observer(Box::new(Watcher {
            notifier: notifier.clone(),
            background: background.clone(),
            may_forget: options.generation.is_none(),
        }));
        let control = Arc::new(Control::new(
            Arc::clone(&union),
            notifier.clone(),
            options.cache,
        ));
        if union.settings().direct_changes == DirectChanges::Watched {
            control.watch();
        }
        Self {
            device: Arc::new(device),
            union,
            options,
            counters: Arc::new(Counters::new()),
            tasks: Tasks {
                notifier,
                notices,
                background,
                worklist,
            },
            control,
            agreed: None,
            ring: Err(NoRing::Unwanted),
        }
    }

    /// Returns the counts of requests, which go on counting.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Returns a handle by which other threads ask the server for something.
    pub fn control(&self) -> Arc<Control<T>> {
        Arc::clone(&self.control)
    }

    /// Answers the kernel's first question. When it returns, the mount can be used: requests wait
    /// for [`Server::run`].
    pub fn initialize(&mut self) -> Result<(), ServeError> {
        let threads = self.options.thread_count();
        let make_ring = || Porter::ring(&self.device, Slots::of_machine(threads)?);
        let greeter = Greeter::new(&self.options, &make_ring);
        let mut connection = Connection::new(&self.device).map_err(ServeError::Read)?;
        loop {
            if !connection.exchange(&greeter).map_err(ServeError::Read)? {
                return Err(ServeError::Unmounted);
            }
            match greeter.heard() {
                Some((_, Ok(reply))) => {
                    tracing::debug!(?reply, "session agreed on");
                    let ring = greeter.into_ring();
                    (self.agreed, self.ring) = (Some(reply), ring);
                    return Ok(());
                }
                Some((offer, Err(_))) if offer.major <= init::MAJOR => {
                    return Err(ServeError::Version(offer.major, offer.minor));
                }
                // A newer kernel asks again in our words.
                Some(_) | None => {}
            }
        }
    }

    /// Serves until the mount is gone and then finishes what the union has pending.
    pub fn run(self) -> Result<(), ServeError> {
        self.run_and(|_| ())
    }

    /// As `run`; `serving` is called once requests are answered, and told how they travel.
    pub fn run_and(mut self, serving: impl FnOnce(Way) + Send) -> Result<(), ServeError> {
        let agreed = match self.agreed {
            Some(agreed) => agreed,
            None => {
                self.initialize()?;
                self.agreed.ok_or(ServeError::Unmounted)?
            }
        };
        let session = self.session(agreed);
        let equipment = Equipment {
            ring: self.ring,
            room: agreed.largest_payload(),
            threads: self.options.thread_count(),
        };
        let served = threads::serve(&session, &self.device, equipment, self.tasks, serving);
        self.union.close();
        served
    }

    fn session(&self, agreed: InitReply) -> Session<T> {
        let passthrough = agreed.flags & flag::PASSTHROUGH != 0;
        Session {
            union: Arc::clone(&self.union),
            control: Arc::clone(&self.control),
            ids: self.options.ids.clone(),
            generation: self.options.generation,
            dialect: Dialect {
                long_setxattr: agreed.flags & flag::SETXATTR_EXT != 0,
            },
            without_opens: self.options.without_opens,
            passthrough: Passthrough::new(Arc::clone(&self.device), passthrough),
            directories: Handles::new(),
            executed: Executed::default(),
            notifier: self.tasks.notifier.clone(),
            counters: Arc::clone(&self.counters),
        }
    }
}
