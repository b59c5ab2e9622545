//! The room for an answer, filled from front to back.

/// The part of a reply behind its header, in memory of the transport.
///
/// What does not fit is refused and leaves the contents alone.
#[derive(Debug)]
pub struct Payload<'a> {
    room: &'a mut [u8],
    filled: usize,
    end: usize,
}

/// There is no room for this much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("reply too long")]
pub struct Full;

impl From<Full> for rules::Errno {
    fn from(_: Full) -> Self {
        Self::RANGE
    }
}

impl<'a> Payload<'a> {
    /// Starts with nothing in `room`.
    pub fn new(room: &'a mut [u8]) -> Self {
        let end = room.len();
        Self {
            room,
            filled: 0,
            end,
        }
    }

    /// Returns how many bytes are filled.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Returns whether nothing is filled yet.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Returns what is filled.
    pub fn filled(&self) -> &[u8] {
        &self.room[..self.filled]
    }

    /// Takes everything back.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Leaves room for `bytes` more at most, as the kernel has asked.
    pub fn limit(&mut self, bytes: usize) {
        self.end = self.end.min(self.filled.saturating_add(bytes));
    }

    /// Returns room for exactly `bytes`; those that are filled are counted by [`Payload::advance`].
    pub fn spare(&mut self, bytes: usize) -> Result<&mut [u8], Full> {
        let end = self.filled.checked_add(bytes).ok_or(Full)?;
        self.room[..self.end].get_mut(self.filled..end).ok_or(Full)
    }

    /// Counts the first `count` bytes of [`Payload::spare`] as filled.
    pub fn advance(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.end);
    }

    /// Appends bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.spare(bytes.len())?.copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// Appends a structure of the kernel, given as its bytes.
    pub fn put_all(&mut self, pieces: &[&[u8]]) -> Result<(), Full> {
        let start = self.filled;
        for piece in pieces {
            if let Err(full) = self.put(piece) {
                self.filled = start;
                return Err(full);
            }
        }
        Ok(())
    }
}

/// A structure of the kernel under construction: `N` bytes, zero unless set.
#[derive(Debug, Clone, Copy)]
pub struct Record<const N: usize>([u8; N]);

impl<const N: usize> Record<N> {
    /// A record of zeros.
    pub const fn new() -> Self {
        Self([0; N])
    }

    /// Sets a field of 16 bits; `offset` is a constant of the format.
    pub fn u16(mut self, offset: usize, value: u16) -> Self {
        self.0[offset..offset + 2].copy_from_slice(&value.to_ne_bytes());
        self
    }

    /// Sets a field of 32 bits; `offset` is a constant of the format.
    pub fn u32(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    /// Sets a field of 64 bits; `offset` is a constant of the format.
    pub fn u64(mut self, offset: usize, value: u64) -> Self {
        self.0[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    /// Sets an inner structure; `offset` is a constant of the format.
    pub fn record<const M: usize>(mut self, offset: usize, inner: &Record<M>) -> Self {
        self.0[offset..offset + M].copy_from_slice(&inner.0);
        self
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Default for Record<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut room = [0; 5];
        let mut payload = Payload::new(&mut room);
        payload.put(b"abc").unwrap();
        assert_eq!(payload.put(b"xyz"), Err(Full));
        assert_eq!(payload.put_all(&[b"x", b"yz"]), Err(Full));
        assert_eq!(payload.filled(), b"abc");
        assert_eq!(payload.spare(3), Err(Full));
        assert_eq!(payload.spare(2).map(|room| room.len()), Ok(2));
        payload.limit(1);
        assert_eq!(payload.put(b"xy"), Err(Full));
        payload.advance(100);
        assert_eq!(payload.len(), 4);
    }
}
