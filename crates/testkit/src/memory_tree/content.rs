//! The bytes of a regular file: sparse, in blocks of 4096 bytes.
//!
//! A block that was never written is a hole and reads as zeros. Bytes past the size are
//! zero in every block, so that growing never shows what was cut off.

use std::collections::BTreeMap;

/// Size of a block; holes begin and end at multiples of it.
pub(crate) const BLOCK: u64 = 4096;

/// The largest size of a file, as ext4 has it.
pub(crate) const MAX_SIZE: u64 = (1 << 44) - BLOCK;

/// Sparse bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    size: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

/// A piece of a range that lies in one block.
struct Piece {
    block: u64,
    /// Where the piece begins in its block.
    start: usize,
    /// Where the piece begins in the range.
    at: usize,
    length: usize,
}

/// Cuts a range at block boundaries.
fn pieces(offset: u64, length: u64) -> impl Iterator<Item = Piece> {
    let end = offset + length;
    let mut position = offset;
    std::iter::from_fn(move || {
        let start = position % BLOCK;
        let length = (BLOCK - start).min(end - position);
        let piece = Piece {
            block: position / BLOCK,
            start: start as usize,
            at: (position - offset) as usize,
            length: length as usize,
        };
        position += length;
        (length > 0).then_some(piece)
    })
}

impl Content {
    /// Returns the size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns how many units of 512 bytes are taken.
    pub(crate) fn sectors(&self) -> u64 {
        self.blocks.len() as u64 * (BLOCK / 512)
    }

    /// Reads into the buffer and returns how many bytes there were.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let length = self.size.saturating_sub(offset).min(buffer.len() as u64);
        for piece in pieces(offset, length) {
            let target = &mut buffer[piece.at..piece.at + piece.length];
            match self.blocks.get(&piece.block) {
                Some(block) => {
                    target.copy_from_slice(&block[piece.start..piece.start + piece.length]);
                }
                None => target.fill(0),
            }
        }
        length as usize
    }

    /// Writes the bytes, growing the file where they reach past its end.
    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) {
        for piece in pieces(offset, bytes.len() as u64) {
            let block = self
                .blocks
                .entry(piece.block)
                .or_insert_with(|| vec![0; BLOCK as usize].into_boxed_slice());
            block[piece.start..piece.start + piece.length]
                .copy_from_slice(&bytes[piece.at..piece.at + piece.length]);
        }
        if !bytes.is_empty() {
            self.size = self.size.max(offset + bytes.len() as u64);
        }
    }

    /// Cuts or grows to the size.
    pub(crate) fn resize(&mut self, size: u64) {
        if size < self.size {
            drop(self.blocks.split_off(&size.div_ceil(BLOCK)));
            if let Some(block) = self.blocks.get_mut(&(size / BLOCK)) {
                block[(size % BLOCK) as usize..].fill(0);
            }
        }
        self.size = size;
    }

    /// Turns whole blocks of the range into holes and the rest of it into zeros.
    pub(crate) fn punch(&mut self, offset: u64, length: u64) {
        let end = offset + length;
        let touched: Vec<u64> = self
            .blocks
            .range(offset / BLOCK..end.div_ceil(BLOCK))
            .map(|(index, _)| *index)
            .collect();
        for index in touched {
            let (start, stop) = (index * BLOCK, (index + 1) * BLOCK);
            if offset <= start && stop <= end {
                self.blocks.remove(&index);
            } else if let Some(block) = self.blocks.get_mut(&index) {
                let from = offset.max(start) - start;
                let to = end.min(stop) - start;
                block[from as usize..to as usize].fill(0);
            }
        }
    }

    /// Takes whole blocks out; what follows moves down.
    pub(crate) fn collapse(&mut self, offset: u64, length: u64) {
        self.punch(offset, length);
        let after = self.blocks.split_off(&((offset + length) / BLOCK));
        self.blocks.extend(
            after
                .into_iter()
                .map(|(index, block)| (index - length / BLOCK, block)),
        );
        self.size -= length;
    }

    /// Puts whole empty blocks in; what follows moves up.
    pub(crate) fn insert(&mut self, offset: u64, length: u64) {
        let after = self.blocks.split_off(&(offset / BLOCK));
        self.blocks.extend(
            after
                .into_iter()
                .map(|(index, block)| (index + length / BLOCK, block)),
        );
        self.size += length;
    }

    /// Returns where data is at or after the offset, if there is any.
    pub(crate) fn next_data(&self, offset: u64) -> Option<u64> {
        let (index, _) = self.blocks.range(offset / BLOCK..).next()?;
        let found = (index * BLOCK).max(offset);
        (found < self.size).then_some(found)
    }

    /// Returns where a hole or the end is at or after the offset; nothing past the end.
    pub(crate) fn next_hole(&self, offset: u64) -> Option<u64> {
        let mut index = offset / BLOCK;
        while self.blocks.contains_key(&index) {
            index += 1;
        }
        (offset < self.size).then(|| (index * BLOCK).max(offset).min(self.size))
    }

    /// Copies a range of other bytes to the offset, keeping its holes.
    pub(crate) fn copy_from(&mut self, from: &Self, from_offset: u64, offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        self.punch(offset, length);
        self.size = self.size.max(offset + length);
        let end = from_offset + length;
        let mut buffer = vec![0; BLOCK as usize];
        let mut position = from_offset;
        while let Some(data) = from.next_data(position).filter(|data| *data < end) {
            let stop = (data / BLOCK + 1) * BLOCK;
            let piece = &mut buffer[..(stop.min(end) - data) as usize];
            let count = from.read(piece, data);
            self.write(&piece[..count], offset + (data - from_offset));
            position = stop;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut buffer = vec![0xff; content.size() as usize];
        assert_eq!(content.read(&mut buffer, 0), buffer.len());
        buffer
    }

    #[test]
    fn holes_read_as_zeros_and_take_no_space() {
        let mut content = Content::default();
        content.write(b"end", 1 << 40);
        assert_eq!(content.size(), (1 << 40) + 3);
        assert_eq!(content.sectors(), 8);
        let mut buffer = [1; 4];
        assert_eq!(content.read(&mut buffer, 10), 4);
        assert_eq!(buffer, [0; 4]);
        assert_eq!(content.read(&mut buffer, (1 << 40) + 1), 2);
        assert_eq!(&buffer[..2], b"nd");
        assert_eq!(content.next_data(0), Some(1 << 40));
        assert_eq!(content.next_hole(0), Some(0));
        assert_eq!(content.next_hole(1 << 40), Some((1 << 40) + 3));
        assert_eq!(content.next_hole((1 << 40) + 3), None);
    }

    #[test]
    fn growing_never_shows_what_was_cut_off() {
        let mut content = Content::default();
        content.write(&[7; 5000], 0);
        content.resize(10);
        content.resize(5000);
        let mut expected = vec![0; 5000];
        expected[..10].fill(7);
        assert_eq!(bytes(&content), expected);
    }

    #[test]
    fn blocks_are_punched_taken_out_and_put_in() {
        let mut content = Content::default();
        for block in 0..4 {
            content.write(&[block as u8 + 1; BLOCK as usize], block * BLOCK);
        }
        content.punch(BLOCK - 1, BLOCK + 2);
        assert_eq!(content.next_hole(0), Some(BLOCK));
        assert_eq!(content.next_data(BLOCK), Some(2 * BLOCK));
        let all = bytes(&content);
        assert_eq!((all[4094], all[4095], all[8192], all[8193]), (1, 0, 0, 3));
        content.collapse(BLOCK, BLOCK);
        assert_eq!(content.size(), 3 * BLOCK);
        assert_eq!(bytes(&content)[4097], 3);
        content.insert(0, BLOCK);
        assert_eq!(bytes(&content)[..4097], [vec![0; 4096], vec![1]].concat());
        assert_eq!(content.size(), 4 * BLOCK);
    }

    #[test]
    fn a_copy_keeps_the_holes() {
        let mut from = Content::default();
        from.write(b"head", 0);
        from.write(b"tail", 10 * BLOCK + 5);
        let mut to = Content::default();
        to.copy_from(&from, 0, 0, from.size());
        assert_eq!(bytes(&to), bytes(&from));
        assert_eq!(to.sectors(), from.sectors());
        to.copy_from(&from, 2, 1, 3);
        assert_eq!(&bytes(&to)[..5], b"had\0\0");
    }
}
