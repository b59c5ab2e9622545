//! The short answers of the protocol, each one structure.

use rules::StatFs;

use super::payload::Record;

/// Bytes of `struct fuse_out_header`.
pub const OUT_HEADER_BYTES: usize = 16;

/// How an open file or directory is to be used: `FOPEN_*`.
pub mod open_flag {
    /// Each read and write is asked for, and none is cached.
    pub const DIRECT_IO: u32 = 1 << 0;
    /// Cached data from before stays.
    pub const KEEP_CACHE: u32 = 1 << 1;
    /// The listing may be cached.
    pub const CACHE_DIR: u32 = 1 << 3;
    /// Closing need not write anything back.
    pub const NOFLUSH: u32 = 1 << 5;
    /// Data goes to the backing file.
    pub const PASSTHROUGH: u32 = 1 << 7;
}

/// Builds `struct fuse_out_header`; `error` is 0, a negative errno, or the code of a notification.
pub fn out_header(length: usize, error: i32, unique: u64) -> Record<OUT_HEADER_BYTES> {
    Record::new()
        .u32(0, length as u32)
        .u32(4, error.cast_unsigned())
        .u64(8, unique)
}

/// Builds `struct fuse_open_out`; `backing` is 0 unless data is passed through.
pub fn open_out(handle: u64, flags: u32, backing: u32) -> Record<16> {
    Record::new().u64(0, handle).u32(8, flags).u32(12, backing)
}

/// Builds `struct fuse_write_out`, `fuse_getxattr_out`: a size.
pub fn size_out(size: u32) -> Record<8> {
    Record::new().u32(0, size)
}

/// Builds `struct fuse_lseek_out`, `fuse_copy_file_range_out`: a place or length in a file.
pub fn offset_out(offset: u64) -> Record<8> {
    Record::new().u64(0, offset)
}

/// Builds `struct fuse_statfs_out`.
pub fn statfs_out(stat: &StatFs) -> Record<80> {
    Record::new()
        .u64(0, stat.blocks)
        .u64(8, stat.blocks_free)
        .u64(16, stat.blocks_available)
        .u64(24, stat.files)
        .u64(32, stat.files_free)
        .u32(40, stat.block_size)
        .u32(44, stat.name_max)
        .u32(48, stat.fragment_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes
            .chunks(4)
            .map(|chunk| u32::from_ne_bytes(chunk.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn structures_lie_as_the_kernel_reads_them() {
        assert_eq!(
            words(out_header(16, -2, 7).bytes()),
            [16, -2_i32 as u32, 7, 0]
        );
        assert_eq!(words(open_out(1 << 32, 2, 3).bytes()), [0, 1, 2, 3]);
        assert_eq!(words(size_out(9).bytes()), [9, 0]);
        assert_eq!(words(offset_out(1 << 33).bytes()), [0, 2]);
        let stat = StatFs {
            dev: 99,
            fsid: 98,
            blocks: 1,
            blocks_free: 2,
            blocks_available: 3,
            files: 4,
            files_free: 5,
            block_size: 6,
            fragment_size: 7,
            name_max: 8,
        };
        let expected = [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 8, 7, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(words(statfs_out(&stat).bytes()), expected);
    }
}
