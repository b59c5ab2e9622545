//! Contents that are compressed: extents, each from one head to the next.

use rules::Errno;

use super::Erofs;
use super::clusters::{Cluster, Index, Stored};
use super::inode::Inode;
use crate::bytes::sum;
use crate::decompress::Method;
use crate::{Sink, blocks};

/// Longest extent that the format allows.
const EXTENT: u64 = 12 << 20;
/// Most bytes that one is compressed to.
const STORED: u64 = 1 << 20;

/// Where an extent begins.
struct Begin {
    at: u64,
    stored: Stored,
    block: u32,
    /// How many blocks it has, once that was said.
    count: u16,
}

impl Erofs {
    pub(super) fn hand_out_clusters(&self, inode: &Inode, sink: Sink<'_>) -> Result<(), Errno> {
        let index = self.index(inode)?;
        let mut current: Option<Begin> = None;
        for number in 0..index.count {
            match self.cluster(&index, number)? {
                Cluster::Head {
                    stored,
                    offset,
                    block,
                } => {
                    let at = sum(number << index.cluster_bits, offset.into())?;
                    if let Some(begin) = current {
                        self.extent(&index, &begin, at, sink)?;
                    } else if at != 0 {
                        return Err(Errno::IO);
                    }
                    current = Some(Begin {
                        at,
                        stored,
                        block,
                        count: 0,
                    });
                }
                Cluster::Rest { count } => {
                    let begin = current.as_mut().ok_or(Errno::IO)?;
                    let is_next = begin.at >> index.cluster_bits == number.wrapping_sub(1);
                    if let (true, Some(count)) = (is_next, count) {
                        begin.count = count;
                    }
                }
            }
        }
        match current {
            Some(begin) => self.extent(&index, &begin, inode.size, sink),
            None => Ok(()),
        }
    }

    fn extent(&self, index: &Index, begin: &Begin, end: u64, sink: Sink<'_>) -> Result<(), Errno> {
        let length = end.checked_sub(begin.at).ok_or(Errno::IO)?;
        if length == 0 {
            return Ok(());
        }
        if length > EXTENT {
            return Err(Errno::IO);
        }
        let start = self.block(begin.block)?;
        let mut size = 1u64 << index.cluster_bits;
        if begin.stored == (Stored::Lz4 { large: true }) && begin.count > 0 {
            size = u64::from(begin.count) << self.block_bits;
        }
        if size > STORED {
            return Err(Errno::IO);
        }
        let bytes = match begin.stored {
            Stored::Plain => {
                let mut bytes = blocks::read(&*self.source, start, size as usize)?;
                if length > size {
                    return Err(Errno::IO);
                }
                if index.turned {
                    bytes.rotate_left((begin.at % size) as usize);
                }
                bytes.truncate(length as usize);
                bytes
            }
            Stored::Lz4 { .. } => {
                let stored = blocks::read(&*self.source, start, size as usize)?;
                self.expand(&stored, length as usize)?
            }
        };
        sink(begin.at, &bytes)
    }

    fn expand(&self, stored: &[u8], length: usize) -> Result<Vec<u8>, Errno> {
        if !self.padded {
            // Before Linux 5.3: where what is compressed ends is not said.
            return Err(Errno::OPNOTSUPP);
        }
        let padding = stored.iter().take_while(|byte| **byte == 0).count();
        let bytes = Method::Lz4.decompress(&stored[padding..], length)?;
        if bytes.len() == length {
            Ok(bytes)
        } else {
            Err(Errno::IO)
        }
    }
}
