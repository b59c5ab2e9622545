//! Reading what a request carries, front to back.
//!
//! The kernel's structures have no implicit padding, so a request is the sequence of its
//! fields. Whatever is missing is [`Malformed`].

use rules::Errno;

/// A request that is not what the protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed request")]
pub struct Malformed;

impl From<Malformed> for Errno {
    fn from(_: Malformed) -> Self {
        Errno::INVAL
    }
}

/// The arguments of a request that are still to be read.
///
/// They may come in two pieces, as io_uring delivers them: the fixed structure, and then
/// names or data. No field lies across the seam.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a> {
    current: &'a [u8],
    following: &'a [u8],
}

impl<'a> Arguments<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::in_two(bytes, &[])
    }

    /// Starts at the front of `fixed`, with names or data in `rest`.
    pub fn in_two(fixed: &'a [u8], rest: &'a [u8]) -> Self {
        Self {
            current: fixed,
            following: rest,
        }
    }

    /// Returns the next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        self.advance();
        let (taken, left) = self.current.split_at_checked(count).ok_or(Malformed)?;
        self.current = left;
        Ok(taken)
    }

    /// Leaves the next `count` bytes out.
    pub fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(|_| ())
    }

    /// Returns the next field of 16 bits.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    /// Returns the next field of 32 bits.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    /// Returns the next field of 64 bits.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    /// Returns the next string, which ends with a NUL that is not part of it and is not empty.
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        self.advance();
        let end = self
            .current
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(Malformed)?;
        let text = &self.current[..end];
        self.current = &self.current[end + 1..];
        if text.is_empty() {
            Err(Malformed)
        } else {
            Ok(text)
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn advance(&mut self) {
        if self.current.is_empty() {
            self.current = std::mem::take(&mut self.following);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_order_and_end_with_the_bytes() {
        let mut arguments = Arguments::in_two(&[1, 0, 0, 0, 2, 0], b"ab\0c");
        assert_eq!(arguments.u32(), Ok(1_u32.to_le()));
        assert_eq!(arguments.u16(), Ok(2_u16.to_le()));
        assert_eq!(arguments.string(), Ok(&b"ab"[..]));
        assert_eq!(arguments.string(), Err(Malformed), "no NUL");
        assert_eq!(arguments.take(1), Ok(&b"c"[..]));
        assert_eq!(arguments.take(1), Err(Malformed));
        assert_eq!(arguments.u64(), Err(Malformed));
    }

    #[test]
    fn an_empty_string_is_malformed() {
        assert_eq!(Arguments::new(b"\0").string(), Err(Malformed));
        assert_eq!(Arguments::new(b"").string(), Err(Malformed));
    }
}
