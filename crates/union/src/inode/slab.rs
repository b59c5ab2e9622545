//! Places for values that are found by number: a number is not given out again while anybody may remember it.

use std::collections::BTreeSet;

/// Values in pieces of memory that never move, so that growing costs no room beside what is there, and that are given back
/// when nothing is in them.
pub(crate) struct Slab<V> {
    chunks: Vec<Option<Box<Chunk<V>>>>,
    /// The chunks that have room; those come first that are at the front, so that others empty.
    roomy: BTreeSet<u32>,
    /// Every number that was given out in a chunk that is gone has a lower generation, or this one.
    past: u32,
    used: usize,
}

struct Chunk<V> {
    /// A bit for each place.
    used: u32,
    /// How often each place was given out; part of the number.
    generations: [u32; CHUNK],
    values: [Option<V>; CHUNK],
}

const CHUNK: usize = u32::BITS as usize;

/// Where a value is, and the how-manieth it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

impl<V> Slab<V> {
    pub(crate) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            roomy: BTreeSet::new(),
            past: 0,
            used: 0,
        }
    }

    /// Keeps the value that is made for a ticket; no ticket has generation 0.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Ticket) -> V) -> Ticket {
        let number = self.roomy.first().copied().unwrap_or_else(|| {
            self.chunks.push(None);
            self.roomy.insert((self.chunks.len() - 1) as u32);
            (self.chunks.len() - 1) as u32
        });
        let past = self.past;
        let chunk = self.chunks[number as usize].get_or_insert_with(|| Box::new(Chunk::new(past)));
        let at = chunk.used.trailing_ones() as usize;
        let ticket = Ticket {
            place: number * CHUNK as u32 + at as u32,
            generation: chunk.generations[at].wrapping_add(1).max(1),
        };
        chunk.generations[at] = ticket.generation;
        chunk.values[at] = Some(make(ticket));
        chunk.used |= 1 << at;
        if chunk.used == u32::MAX {
            self.roomy.remove(&number);
        }
        self.used += 1;
        ticket
    }

    pub(crate) fn get(&self, ticket: Ticket) -> Option<&V> {
        let (chunk, at) = split(ticket.place);
        let chunk = self.chunks.get(chunk)?.as_ref()?;
        let value = chunk.values[at].as_ref();
        value.filter(|_| chunk.generations[at] == ticket.generation)
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut V> {
        let (chunk, at) = split(ticket.place);
        let chunk = self.chunks.get_mut(chunk)?.as_mut()?;
        let current = chunk.generations[at] == ticket.generation;
        chunk.values[at].as_mut().filter(|_| current)
    }

    /// Puts another value in the place of one.
    pub(crate) fn turn(&mut self, ticket: Ticket, turn: impl FnOnce(V) -> V) {
        let (chunk, at) = split(ticket.place);
        if self.get(ticket).is_some()
            && let Some(chunk) = &mut self.chunks[chunk]
        {
            let value = &mut chunk.values[at];
            *value = value.take().map(turn);
        }
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<V> {
        self.get(ticket)?;
        let (number, at) = split(ticket.place);
        let chunk = self.chunks[number].as_mut()?;
        let value = chunk.values[at].take();
        chunk.used &= !(1 << at);
        if chunk.used == 0 {
            let last = chunk.generations.iter().copied().max();
            self.past = self.past.max(last.unwrap_or_default());
            self.chunks[number] = None;
        }
        self.roomy.insert(number as u32);
        self.used -= 1;
        value
    }

    /// Returns the value that is at a place now, with its ticket.
    pub(crate) fn at(&self, place: u32) -> Option<(Ticket, &V)> {
        let (chunk, at) = split(place);
        let chunk = self.chunks.get(chunk)?.as_ref()?;
        let generation = chunk.generations[at];
        let ticket = Ticket { place, generation };
        Some((ticket, chunk.values[at].as_ref()?))
    }

    pub(crate) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        let places = 0..(self.chunks.len() * CHUNK) as u32;
        places.filter_map(|place| self.at(place).map(|(ticket, _)| ticket))
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn memory(&self) -> usize {
        let chunks = self.chunks.iter().flatten().count() * size_of::<Chunk<V>>();
        chunks + self.chunks.capacity() * size_of::<usize>() + self.roomy.len() * size_of::<u32>()
    }
}

impl<V> Chunk<V> {
    fn new(past: u32) -> Self {
        Self {
            used: 0,
            generations: [past; CHUNK],
            values: [const { None }; CHUNK],
        }
    }
}

fn split(place: u32) -> (usize, usize) {
    (place as usize / CHUNK, place as usize % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_one_value() {
        let mut slab = Slab::new();
        let tickets: Vec<_> = (0..100).map(|value| slab.insert(|_| value)).collect();
        for (value, ticket) in tickets.iter().enumerate() {
            assert_eq!(slab.get(*ticket), Some(&value));
        }
        assert_eq!(slab.remove(tickets[40]), Some(40));
        let again = slab.insert(|_| 1000);
        assert_eq!(again.place, tickets[40].place);
        assert_eq!(slab.get(tickets[40]), None);
        assert_eq!(slab.get_mut(tickets[40]), None);
        assert_eq!(slab.remove(tickets[40]), None);
        assert_eq!(slab.get(again), Some(&1000));
        assert_eq!((slab.len(), slab.tickets().count()), (100, 100));
    }

    #[test]
    fn memory_that_nothing_is_in_is_given_back_and_no_ticket_is_given_out_again() {
        let mut slab = Slab::new();
        let mut given = std::collections::HashSet::new();
        for _ in 0..5 {
            let tickets: Vec<_> = (0..1000).map(|value| slab.insert(|_| value)).collect();
            for ticket in &tickets {
                assert!(given.insert((ticket.place, ticket.generation)));
            }
            let full = slab.memory();
            for ticket in tickets {
                slab.remove(ticket);
            }
            assert!(slab.memory() < full / 10, "{} of {full}", slab.memory());
        }
    }
}
