//! What the union lets us know, passed on to the threads whose business it is.

use rules::Name;
use union::{InodeId, Observer};

use crate::background::{Background, Work};
use crate::invalidation::{Notice, Notifier};

/// The union's observer: it notes everything down and does nothing itself.
pub(crate) struct Watcher {
    pub(crate) notifier: Notifier,
    pub(crate) background: Background,
    /// Whether objects go when the kernel forgets them.
    pub(crate) may_forget: bool,
}

impl Observer for Watcher {
    fn entry_changed(&self, parent: InodeId, name: &Name) {
        self.notifier.note(Notice::Entry(parent, name.clone()));
    }

    fn attributes_changed(&self, id: InodeId) {
        self.notifier.note(Notice::Attributes(id));
    }

    fn contents_changed(&self, id: InodeId) {
        self.notifier.note(Notice::Contents(id));
    }

    fn work_is_pending(&self) -> bool {
        self.background.ask(Work::Pending)
    }

    fn memory_is_short(&self) {
        if !self.background.ask(Work::Memory) {
            tracing::trace!("memory is short at the end of the session");
        }
    }

    fn unused(&self, ids: &[InodeId]) {
        if self.may_forget {
            self.notifier.note(Notice::Unused(ids.into()));
        }
    }
}
