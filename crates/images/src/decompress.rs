//! Compressed blocks of bounded size.

use std::io::Read;

use flate2::{Decompress, FlushDecompress, Status};
use rules::Errno;
use ruzstd::decoding::FrameDecoder;

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// zlib
    Zlib,
    /// xz streams
    Xz,
    /// An LZ4 block
    Lz4,
    /// Zstandard frames
    Zstd,
}

/// Memory for the decoder of xz in KiB: the kernel's squashfs has a dictionary of a block, 1 MiB at most.
const XZ_MEMORY: u32 = 16 << 10;
/// The window of Zstandard in bytes, which is the kernel's size of a block as well.
const ZSTD_WINDOW: u64 = 8 << 20;

impl Method {
    /// Returns the block that is at most `limit` bytes long. `EIO` when it is longer, or damaged.
    pub(crate) fn decompress(self, input: &[u8], limit: usize) -> Result<Vec<u8>, Errno> {
        let mut output = vec![0; limit];
        let length = match self {
            Self::Zlib => zlib(input, &mut output),
            Self::Xz => xz(input, &mut output),
            Self::Lz4 => lz4_flex::block::decompress_into(input, &mut output).ok(),
            Self::Zstd => zstd(input, &mut output),
        };
        output.truncate(length.ok_or(Errno::IO)?);
        Ok(output)
    }
}

fn zlib(input: &[u8], output: &mut [u8]) -> Option<usize> {
    let mut decoder = Decompress::new(true);
    let status = decoder.decompress(input, output, FlushDecompress::Finish);
    (status.ok()? == Status::StreamEnd)
        .then(|| usize::try_from(decoder.total_out()).ok())
        .flatten()
}

fn xz(input: &[u8], output: &mut [u8]) -> Option<usize> {
    let mut reader = lzma_rust2::XzReader::new_mem_limit(input, false, XZ_MEMORY);
    let mut length = 0;
    while length < output.len() {
        match reader.read(&mut output[length..]).ok()? {
            0 => return Some(length),
            count => length += count,
        }
    }
    (reader.read(&mut [0]).ok()? == 0).then_some(length)
}

fn zstd(input: &[u8], output: &mut [u8]) -> Option<usize> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW);
    decoder.decode_all(input, output).ok()
}
