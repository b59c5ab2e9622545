//! What an open file was opened for, kept in the number that the kernel hands back.

use union::OpenFlags;

const WRITE: u64 = 1 << 0;

/// The file handle of the protocol: there is no table behind it.
pub(super) struct FileHandle;

impl FileHandle {
    /// Returns the number for the kernel.
    pub(super) fn encode(flags: OpenFlags) -> u64 {
        if flags.write { WRITE } else { 0 }
    }

    /// Returns whether the file was opened for writing.
    pub(super) fn is_for_writing(handle: u64) -> bool {
        handle & WRITE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_remembers_writing() {
        for write in [false, true] {
            let flags = OpenFlags {
                write,
                truncate: true,
                drop_set_id: true,
            };
            assert_eq!(FileHandle::is_for_writing(FileHandle::encode(flags)), write);
        }
    }
}
