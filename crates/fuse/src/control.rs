//! What may be asked of a server while it serves.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tree::Tree;
use union::Union;

use crate::invalidation::{Notice, Notifier};
use crate::options::CachePolicy;
use crate::watching::Watching;

/// How long the kernel may take to hear what is wrong in its caches.
const PATIENCE: Duration = Duration::from_secs(10);

/// A handle to a server, for other threads than its own.
pub struct Control<T: Tree> {
    union: Arc<Union<T>>,
    notifier: Notifier,
    pub(crate) cache: ArcSwap<CachePolicy>,
    watching: Mutex<Option<Listening>>,
}

/// A watch on the branches and the thread that hears of changes.
struct Listening {
    watching: Arc<Watching>,
    thread: JoinHandle<()>,
}

impl<T: Tree> Control<T>
where
    T::Dir: AsFd,
{
    pub(crate) fn new(union: Arc<Union<T>>, notifier: Notifier, cache: CachePolicy) -> Self {
        Self {
            union,
            notifier,
            cache: ArcSwap::from_pointee(cache),
            watching: Mutex::new(None),
        }
    }

    /// Waits until the kernel has heard of everything that is wrong in its caches so far.
    pub fn settle(&self) {
        let (heard, hears) = sync_channel(1);
        self.notifier.note(Notice::Heard(heard));
        if hears.recv_timeout(PATIENCE).is_err() {
            tracing::warn!("the kernel takes long to drop what it has cached");
        }
    }

    /// Changes what the kernel may remember from now on.
    pub fn set_cache(&self, cache: CachePolicy) {
        self.cache.store(Arc::new(cache));
    }

    /// Begins to watch the branches, if nobody does. Where that is impossible the union looks at them again on each use.
    pub fn watch(&self) {
        let mut listening = self.watching.lock();
        if listening.is_some() {
            return;
        }
        let watching = match Watching::new() {
            Ok(watching) => Arc::new(watching),
            Err(errno) => {
                tracing::warn!(%errno, "the branches cannot be watched");
                return;
            }
        };
        self.union.set_watcher(Arc::<Watching>::clone(&watching));
        let (union, queue) = (Arc::clone(&self.union), Arc::clone(&watching));
        let thread = Builder::new().name("fuse-watch".into());
        match thread.spawn(move || queue.listen(&union)) {
            Ok(thread) => *listening = Some(Listening { watching, thread }),
            Err(error) => tracing::warn!(%error, "the branches cannot be watched"),
        }
    }

    /// Ends what [`Control::watch`] began.
    pub(crate) fn end(&self) {
        let Some(Listening { watching, thread }) = self.watching.lock().take() else {
            return;
        };
        watching.end();
        if thread.join().is_err() {
            tracing::warn!("hearing of direct changes ended in a panic");
        }
    }
}
