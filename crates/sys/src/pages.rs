//! Memory for large buffers, which costs nothing before it is used.
//!
//! The allocator may take such memory from where it was used before, and fill it with zeros: pages that an idle server holds for nothing.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use rules::Errno;

use crate::errno::last;

/// Pages of its own: zeros until they are written to.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the value alone, as that of a `Vec` does.
unsafe impl Send for Pages {}

impl Pages {
    /// Takes so many bytes; `EINVAL` for none.
    pub fn new(length: usize) -> Result<Self, Errno> {
        // SAFETY: asks for new memory anywhere, which nobody else knows of.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(last());
        }
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, length })
    }

    /// Returns where they begin, for those with whom the memory is shared from time to time.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped and initialized, and nobody changes them while `self` is borrowed.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else reads them.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, of which no reference is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_and_keep_what_is_written() {
        let mut pages = Pages::new(10_000).unwrap();
        assert!(pages.len() == 10_000 && pages.iter().all(|byte| *byte == 0));
        pages[9_999] = 7;
        let pages = std::thread::spawn(move || pages).join().unwrap();
        assert_eq!(pages[9_998..], [0, 7]);
        assert_eq!(Pages::new(0).unwrap_err(), Errno::INVAL);
    }
}
