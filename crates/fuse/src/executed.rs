//! Which files are being executed.
//!
//! The kernel refuses to open those for writing. It forgets to ask about one that is only opened to be truncated
//! (`O_RDONLY | O_TRUNC`): with `FUSE_ATOMIC_O_TRUNC` the contents would be gone before it says `ETXTBSY`.

use std::collections::HashMap;

use parking_lot::Mutex;
use union::InodeId;

/// Files that are open to be executed.
#[derive(Default)]
pub(crate) struct Executed(Mutex<HashMap<InodeId, u32>>);

impl Executed {
    /// Counts an open.
    pub(crate) fn begin(&self, id: InodeId) {
        *self.0.lock().entry(id).or_default() += 1;
    }

    /// Ends an open that was counted.
    pub(crate) fn end(&self, id: InodeId) {
        let mut executed = self.0.lock();
        if let Some(opens) = executed.get_mut(&id) {
            *opens -= 1;
            if *opens == 0 {
                executed.remove(&id);
            }
        }
    }

    /// Returns whether a file is being executed.
    pub(crate) fn has(&self, id: InodeId) -> bool {
        self.0.lock().contains_key(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_executed_until_the_last_one_ends() {
        let (executed, id) = (Executed::default(), InodeId(7));
        executed.begin(id);
        executed.begin(id);
        executed.end(id);
        assert!(executed.has(id));
        executed.end(id);
        executed.end(id);
        assert!(!executed.has(id));
    }
}
