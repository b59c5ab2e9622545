//! Reading pieces of a source.

use rules::Errno;

use crate::bytes::sum;
use crate::{Sink, Source};

/// Room for what one step of copying moves.
const STEP: u64 = 256 * 1024;

/// Reads so many bytes, which the caller has bounded, or that are in the image.
pub(crate) fn read(source: &dyn Source, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
    inside(source, offset, length as u64)?;
    let mut bytes = vec![0; length];
    source.read_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Reads a piece of fixed size.
pub(crate) fn array<const N: usize>(source: &dyn Source, offset: u64) -> Result<[u8; N], Errno> {
    inside(source, offset, N as u64)?;
    let mut bytes = [0; N];
    source.read_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Hands out a range of the image as contents from `at` on.
pub(crate) fn copy(
    source: &dyn Source,
    offset: u64,
    length: u64,
    at: u64,
    sink: Sink<'_>,
) -> Result<(), Errno> {
    inside(source, offset, length)?;
    let mut done = 0;
    while done < length {
        let step = STEP.min(length - done);
        let bytes = read(source, offset + done, step as usize)?;
        sink(sum(at, done)?, &bytes)?;
        done += step;
    }
    Ok(())
}

fn inside(source: &dyn Source, offset: u64, length: u64) -> Result<(), Errno> {
    if sum(offset, length)? <= source.size() {
        Ok(())
    } else {
        Err(Errno::IO)
    }
}
