//! Open directories, by the number that the kernel holds.
//!
//! A handle that nobody gave out finds nothing. Threads rarely meet: the table is in parts,
//! each with its own lock, and no lock is held while a directory is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

const PARTS: usize = 16;

/// Values by handle.
pub(crate) struct Handles<V> {
    parts: [Mutex<Slots<V>>; PARTS],
    next: AtomicUsize,
}

struct Slots<V> {
    values: Vec<Option<Arc<V>>>,
    free: Vec<usize>,
}

impl<V> Handles<V> {
    pub(crate) fn new() -> Self {
        let empty = || {
            Mutex::new(Slots {
                values: Vec::new(),
                free: Vec::new(),
            })
        };
        Self {
            parts: std::array::from_fn(|_| empty()),
            next: AtomicUsize::new(0),
        }
    }

    /// Keeps a value and returns its handle.
    pub(crate) fn insert(&self, value: Arc<V>) -> u64 {
        let part = self.next.fetch_add(1, Ordering::Relaxed) % PARTS;
        let mut slots = self.parts[part].lock();
        let index = match slots.free.pop() {
            Some(index) => {
                slots.values[index] = Some(value);
                index
            }
            None => {
                slots.values.push(Some(value));
                slots.values.len() - 1
            }
        };
        (index * PARTS + part) as u64
    }

    /// Returns the value of a handle.
    pub(crate) fn get(&self, handle: u64) -> Option<Arc<V>> {
        let (part, index) = place(handle);
        self.parts[part].lock().values.get(index)?.clone()
    }

    /// Lets go of a value.
    pub(crate) fn remove(&self, handle: u64) -> Option<Arc<V>> {
        let (part, index) = place(handle);
        let mut slots = self.parts[part].lock();
        let value = slots.values.get_mut(index)?.take()?;
        slots.free.push(index);
        Some(value)
    }
}

fn place(handle: u64) -> (usize, usize) {
    (handle as usize % PARTS, handle as usize / PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_finds_its_value_until_it_is_removed() {
        let handles = Handles::new();
        let given: Vec<u64> = (0..100)
            .map(|value| handles.insert(Arc::new(value)))
            .collect();
        for (value, handle) in given.iter().enumerate() {
            assert_eq!(handles.get(*handle).as_deref(), Some(&value));
        }
        assert_eq!(handles.remove(given[7]).as_deref(), Some(&7));
        assert!(handles.get(given[7]).is_none());
        assert!(handles.remove(given[7]).is_none());
        assert!(handles.get(1 << 40).is_none());
    }

    #[test]
    fn numbers_are_used_again() {
        let handles = Handles::new();
        for round in 0..1000 {
            let handle = handles.insert(Arc::new(round));
            assert!(handle < PARTS as u64);
            handles.remove(handle);
        }
    }
}
