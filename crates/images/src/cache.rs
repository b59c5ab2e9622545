//! What was read last, bounded in number.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rules::Errno;

/// The values that were used last, the latest at the front.
pub(crate) struct Cache<T> {
    latest: Mutex<VecDeque<(u64, Arc<T>)>>,
    size: usize,
}

impl<T> Cache<T> {
    /// Makes a cache of at most so many values.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            latest: Mutex::new(VecDeque::with_capacity(size)),
            size,
        }
    }

    /// Returns the value of a key, made now if it is not here. Nothing is locked while it is made.
    pub(crate) fn get(
        &self,
        key: u64,
        make: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<Arc<T>, Errno> {
        {
            let mut latest = self.latest.lock();
            if let Some(at) = latest.iter().position(|(known, _)| *known == key)
                && let Some(found) = latest.remove(at)
            {
                let value = Arc::clone(&found.1);
                latest.push_front(found);
                return Ok(value);
            }
        }
        let value = Arc::new(make()?);
        let mut latest = self.latest.lock();
        if latest.len() >= self.size {
            latest.pop_back();
        }
        latest.push_front((key, Arc::clone(&value)));
        Ok(value)
    }
}
