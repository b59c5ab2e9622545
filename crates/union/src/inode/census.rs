//! All that the table holds: its size, and what of it can be less.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rules::Kind;
use tree::Tree;

use super::slab::Ticket;
use super::table::{Known, PARTS, Part, Table, id_of};
use super::{Inode, Key, Other};
use crate::api::InodeId;

/// What the table holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Objects of any kind.
    pub(crate) objects: usize,
    /// Those of which there is more than a note.
    pub(crate) awake: usize,
    /// Bytes of memory.
    pub(crate) bytes: usize,
}

impl<T: Tree> Table<T> {
    /// Returns all inodes, and makes those of which there were notes. `settle` undoes that.
    pub(crate) fn all(&self) -> Vec<Arc<Inode<T>>> {
        let mut all = Vec::with_capacity(self.held().objects);
        all.extend(self.root.get().cloned());
        for part in &self.parts {
            let mut part = part.write();
            let tickets: Vec<_> = part.objects.tickets().collect();
            let woken = tickets.into_iter();
            all.extend(woken.filter_map(|ticket| self.wake(&mut part, ticket)));
        }
        all
    }

    /// Returns the inodes of which there are not just notes: all directories, and all that is open.
    pub(crate) fn awake(&self) -> Vec<Arc<Inode<T>>> {
        let mut awake: Vec<_> = self.root.get().cloned().into_iter().collect();
        for part in &self.parts {
            let part = part.read();
            let known = part.objects.tickets();
            awake.extend(known.filter_map(|ticket| match part.objects.get(ticket) {
                Some(Known::Awake(inode)) => Some(Arc::clone(inode)),
                _ => None,
            }));
        }
        awake
    }

    /// Returns some of the objects, others than the last time; directories come last.
    pub(crate) fn some(&self, count: usize) -> Vec<InodeId> {
        let (mut some, mut directories) = (Vec::with_capacity(count), Vec::new());
        for _ in 0..PARTS {
            let number = self.hand.fetch_add(1, Ordering::Relaxed) % PARTS;
            let part = self.parts[number].read();
            for ticket in part.objects.tickets() {
                match part.objects.get(ticket) {
                    Some(Known::Awake(inode)) if inode.kind == Kind::Dir => {
                        directories.push(id_of(number, ticket));
                    }
                    _ => some.push(id_of(number, ticket)),
                }
            }
            if some.len() >= count {
                break;
            }
        }
        some.truncate(count);
        some.append(&mut directories);
        some
    }

    /// Notes down all inodes that nobody uses, and gives memory back.
    pub(crate) fn settle(&self) {
        for part in &self.parts {
            let mut part = part.write();
            let waiting = part.awake.len();
            self.note_down(&mut part, waiting, 0);
            part.awake.shrink_to_fit();
            let mut by_key = std::mem::take(&mut part.by_key);
            by_key.shrink_to_fit(|place| self.hash_at(&part, *place));
            part.by_key = by_key;
        }
    }

    /// Returns what is held.
    pub(crate) fn held(&self) -> Held {
        let mut held = Held::default();
        for part in &self.parts {
            let part = part.read();
            held.objects += part.objects.len();
            held.awake += part.awake.len();
            held.bytes += part.objects.memory()
                + part.by_key.allocation_size()
                + part.by_other_key.capacity() * size_of::<(Key, Arc<Inode<T>>)>()
                + part.awake.capacity() * size_of::<Ticket>();
        }
        let each = size_of::<Inode<T>>() + size_of::<Other<T>>() + 2 * size_of::<AtomicUsize>();
        held.bytes += held.awake * each;
        held.objects += usize::from(self.root.get().is_some());
        held
    }

    pub(super) fn note_down(&self, part: &mut Part<T>, tries: usize, may_wait: usize) {
        for _ in 0..tries {
            if part.awake.len() <= may_wait {
                break;
            }
            let Some(ticket) = part.awake.pop_front() else {
                break;
            };
            let Some(known) = part.objects.get_mut(ticket) else {
                continue;
            };
            let Known::Awake(inode) = known else { continue };
            match Arc::get_mut(inode).and_then(|inode| self.note_of(inode)) {
                Some(resting) => *known = Known::Resting(resting),
                None => part.awake.push_back(ticket),
            }
        }
    }
}
