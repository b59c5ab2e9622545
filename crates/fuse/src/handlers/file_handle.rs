//! What an open file was opened for, kept in the number that the kernel hands back.

use union::OpenFlags;

const WRITE: u64 = 1 << 0;
const EXECUTE: u64 = 1 << 1;

/// The file handle of the protocol: there is no table behind it.
pub(super) struct FileHandle;

impl FileHandle {
    /// Returns the number for the kernel.
    pub(super) fn encode(flags: OpenFlags) -> u64 {
        let when = |set: bool, bit: u64| if set { bit } else { 0 };
        when(flags.write, WRITE) | when(flags.execute, EXECUTE)
    }

    /// Returns whether the file was opened for writing.
    pub(super) fn is_for_writing(handle: u64) -> bool {
        handle & WRITE != 0
    }

    /// Returns whether the file was opened to be executed.
    pub(super) fn is_for_execution(handle: u64) -> bool {
        handle & EXECUTE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_remembers_what_it_is_for() {
        for (write, execute) in [(false, false), (true, false), (false, true)] {
            let flags = OpenFlags {
                write,
                truncate: true,
                drop_set_id: true,
                execute,
            };
            let handle = FileHandle::encode(flags);
            assert_eq!(FileHandle::is_for_writing(handle), write);
            assert_eq!(FileHandle::is_for_execution(handle), execute);
        }
    }
}
