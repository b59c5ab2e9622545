//! Numbers in bytes, little-endian. What is not there is `EIO`.

use rules::Errno;

/// Bytes that are read from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(Errno::IO)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (front, rest) = self.0.split_first_chunk().ok_or(Errno::IO)?;
        self.0 = rest;
        Ok(*front)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Errno> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Errno> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Errno> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Errno> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Returns the bytes from an offset on.
pub(crate) fn from(bytes: &[u8], offset: usize) -> Result<Bytes<'_>, Errno> {
    bytes.get(offset..).map(Bytes).ok_or(Errno::IO)
}

/// Adds offsets that an image says.
pub(crate) fn sum(a: u64, b: u64) -> Result<u64, Errno> {
    a.checked_add(b).ok_or(Errno::IO)
}

/// Multiplies numbers that an image says.
pub(crate) fn product(a: u64, b: u64) -> Result<u64, Errno> {
    a.checked_mul(b).ok_or(Errno::IO)
}

/// Returns a length that an image says, if it is within what is allowed.
pub(crate) fn at_most(length: u64, limit: usize) -> Result<usize, Errno> {
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= limit)
        .ok_or(Errno::IO)
}
