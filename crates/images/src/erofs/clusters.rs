//! The index of a compressed file: one entry for each cluster of its contents.

use rules::Errno;

use super::Erofs;
use super::inode::{Inode, Layout};
use crate::blocks;
use crate::bytes::{Bytes, product, sum};

/// In the advice: two bytes for an entry where possible; more than one block for a head of the first and the second kind.
const TWO_BYTES: u16 = 0x1;
const LARGE_FIRST: u16 = 0x2;
const LARGE_SECOND: u16 = 0x4;
/// What is not compressed is turned round to where it is in its block.
const TURNED: u16 = 0x10;
const KNOWN: u16 = TWO_BYTES | LARGE_FIRST | LARGE_SECOND | TURNED;

/// In an entry that is no head: it says how many blocks its head has.
const IS_COUNT: u16 = 0x800;
/// In an entry: only part of what it decompresses to is meant.
const IS_PART: u16 = 0x8000;
/// A pack of entries of four bytes, and one of two bytes.
const WIDE: Pack = Pack { count: 2, bits: 16 };
const NARROW: Pack = Pack {
    count: 16,
    bits: 14,
};
const NARROW_SIZE: u64 = 32;

/// How a head stores what it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Plain,
    /// Compressed, with a cluster of more than one block where `large`.
    Lz4 {
        large: bool,
    },
}

/// An entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cluster {
    /// Something new begins here.
    Head {
        stored: Stored,
        /// Where in the cluster it begins.
        offset: u32,
        /// The block where it is.
        block: u32,
    },
    /// What began before goes on.
    Rest {
        /// How many blocks it has, if that is said here.
        count: Option<u16>,
    },
}

/// How the clusters of a file are described.
pub(super) struct Index {
    pub(super) cluster_bits: u32,
    pub(super) count: u64,
    pub(super) turned: bool,
    advice: u16,
    start: u64,
    layout: Layout,
    /// Entries of four bytes before those of two, and these.
    wide: u64,
    narrow: u64,
}

/// Packed entries: so many of so many bits, and the number of a block.
#[derive(Clone, Copy)]
struct Pack {
    count: usize,
    bits: usize,
}

impl Pack {
    fn size(self) -> usize {
        self.count * self.bits / 8 + 4
    }
}

impl Erofs {
    /// Reads how the clusters of a compressed file are described.
    pub(super) fn index(&self, inode: &Inode) -> Result<Index, Errno> {
        let head = inode.end().next_multiple_of(8);
        let bytes = blocks::array::<8>(&*self.source, head)?;
        let mut fields = Bytes(&bytes);
        let _inline = fields.u32()?;
        let advice = fields.u16()?;
        let algorithms = fields.u8()?;
        let bits = fields.u8()?;
        let cluster_bits = u32::from(self.block_bits) + u32::from(bits & 0xf);
        if algorithms != 0 || bits & 0xf0 != 0 || advice & !KNOWN != 0 || cluster_bits > 14 {
            return Err(Errno::IO);
        }
        let count = inode.size.div_ceil(1 << cluster_bits);
        let mut index = Index {
            cluster_bits,
            count,
            turned: advice & TURNED != 0,
            advice,
            start: head + 8,
            layout: inode.layout,
            wide: count,
            narrow: 0,
        };
        match inode.layout {
            // Eight bytes are left free.
            Layout::Full => index.start += 8,
            _ if advice & TWO_BYTES != 0 => {
                let wide = (NARROW_SIZE - index.start % NARROW_SIZE) / 4 % (NARROW_SIZE / 4);
                if cluster_bits > 12 {
                    return Err(Errno::IO);
                }
                if wide < count {
                    index.wide = wide;
                    index.narrow = (count - wide) / 16 * 16;
                }
            }
            _ => {}
        }
        Ok(index)
    }

    /// Returns an entry.
    pub(super) fn cluster(&self, index: &Index, number: u64) -> Result<Cluster, Errno> {
        match index.layout {
            Layout::Full => self.full(index, number),
            _ => self.packed(index, number),
        }
    }

    fn full(&self, index: &Index, number: u64) -> Result<Cluster, Errno> {
        let place = sum(index.start, product(number, 8)?)?;
        let bytes = blocks::array::<8>(&*self.source, place)?;
        let mut fields = Bytes(&bytes);
        let advice = fields.u16()?;
        let offset = fields.u16()?;
        if advice & IS_PART != 0 {
            return Err(Errno::IO);
        }
        let value = fields.u32()?;
        match index.stored((advice & 3).into()) {
            Some(stored) => index.head(stored, offset.into(), value),
            None => Ok(rest(value as u16)),
        }
    }

    fn packed(&self, index: &Index, number: u64) -> Result<Cluster, Errno> {
        let (pack, before, number) = if number < index.wide {
            (WIDE, 0, number)
        } else if number < index.wide + index.narrow {
            (NARROW, index.wide * 4, number - index.wide)
        } else {
            let before = index.wide * 4 + index.narrow * 2;
            (WIDE, before, number - index.wide - index.narrow)
        };
        let at = (number % pack.count as u64) as usize;
        let packs = product(number / pack.count as u64, pack.size() as u64)?;
        let place = sum(sum(index.start, before)?, packs)?;
        let bytes = blocks::read(&*self.source, place, pack.size())?;
        let low_bits = index.cluster_bits.max(12);
        let entry = |at: usize| {
            let bit = at * pack.bits;
            let mut word = [0; 4];
            word.iter_mut()
                .zip(&bytes[bit / 8..])
                .for_each(|(to, from)| *to = *from);
            let value = u32::from_le_bytes(word) >> (bit % 8);
            (value & ((1 << low_bits) - 1), value >> low_bits & 3)
        };
        let (low, kind) = entry(at);
        let Some(stored) = index.stored(kind) else {
            // Of the last one, this is the distance to what follows, and no count.
            return Ok(rest(low as u16));
        };
        let base = crate::bytes::from(&bytes, pack.size() - 4)?.u32()?;
        let blocks = before_in_pack(at, index.is_large(), |at| {
            let (low, kind) = entry(at);
            index.stored(kind).is_none().then_some(low)
        })?;
        index.head(stored, low, base.checked_add(blocks).ok_or(Errno::IO)?)
    }
}

impl Index {
    fn is_large(&self) -> bool {
        self.advice & (LARGE_FIRST | LARGE_SECOND) != 0
    }

    /// Returns what a head of this type is; `None` for what is none.
    fn stored(&self, kind: u32) -> Option<Stored> {
        let large = |bit| self.advice & bit != 0;
        Some(match kind {
            0 => Stored::Plain,
            1 => Stored::Lz4 {
                large: large(LARGE_FIRST),
            },
            3 => Stored::Lz4 {
                large: large(LARGE_SECOND),
            },
            _ => return None,
        })
    }

    fn head(&self, stored: Stored, offset: u32, block: u32) -> Result<Cluster, Errno> {
        if offset >= 1 << self.cluster_bits {
            return Err(Errno::IO);
        }
        Ok(Cluster::Head {
            stored,
            offset,
            block,
        })
    }
}

fn rest(value: u16) -> Cluster {
    Cluster::Rest {
        count: (value & IS_COUNT != 0).then_some(value & !IS_COUNT),
    }
}

/// Counts the blocks from the base of a pack to that of a head in it. `distance` tells of an entry that is no head what it says.
fn before_in_pack(
    mut at: usize,
    large: bool,
    distance: impl Fn(usize) -> Option<u32>,
) -> Result<u32, Errno> {
    // The base is one before the first block where clusters are all of one block.
    let mut blocks = u32::from(!large);
    while at > 0 {
        at -= 1;
        let Some(low) = distance(at) else {
            blocks += 1;
            continue;
        };
        let back = low as usize;
        if !large {
            // To its head; one that began before the pack does not count.
            match at.checked_sub(back) {
                Some(head) => {
                    at = head;
                    blocks += 1;
                }
                None => return Ok(blocks),
            }
        } else if low & u32::from(IS_COUNT) != 0 {
            blocks += low & !u32::from(IS_COUNT);
            // Its head is just before it.
            at = at.saturating_sub(1);
        } else {
            // To the entry that has the count, which is the one after the head.
            at = match back.checked_sub(2) {
                Some(steps) => at.saturating_sub(steps),
                None => return Err(Errno::IO),
            };
        }
    }
    Ok(blocks)
}
