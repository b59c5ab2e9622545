//! Messages to the kernel that it did not ask for: what it caches is wrong now.

use union::InodeId;

use super::payload::Record;
use super::replies::out_header;

const NOTIFY_INVAL_INODE: i32 = 2;
const NOTIFY_INVAL_ENTRY: i32 = 3;
const NOTIFY_PRUNE: i32 = 9;

/// Builds a message that an object's attributes are no longer what they were.
pub fn attributes_invalid(id: InodeId) -> Record<40> {
    // A negative offset leaves the cached data alone.
    inode_invalid(id, -1)
}

/// Builds a message that an object's attributes and contents are no longer what they were.
pub fn contents_invalid(id: InodeId) -> Record<40> {
    inode_invalid(id, 0)
}

/// Builds the front of a message that a name means something else now; the name and a NUL follow.
pub fn entry_invalid(parent: InodeId, name: &[u8]) -> Record<32> {
    let length = 32 + name.len() + 1;
    Record::new()
        .record(0, &out_header(length, NOTIFY_INVAL_ENTRY, 0))
        .u64(16, parent.0)
        .u32(24, name.len() as u32)
}

/// Builds the front of a message that so many objects need not be remembered; their numbers follow.
pub fn unused(count: usize) -> Record<32> {
    Record::new()
        .record(0, &out_header(32 + 8 * count, NOTIFY_PRUNE, 0))
        .u32(16, count as u32)
}

fn inode_invalid(id: InodeId, offset: i64) -> Record<40> {
    Record::new()
        .record(0, &out_header(40, NOTIFY_INVAL_INODE, 0))
        .u64(16, id.0)
        .u64(24, offset.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longs(bytes: &[u8]) -> Vec<u64> {
        bytes
            .chunks(8)
            .map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn messages_carry_their_code_where_replies_carry_an_error() {
        let attributes = attributes_invalid(InodeId(5));
        assert_eq!(longs(attributes.bytes()), [2 << 32 | 40, 0, 5, u64::MAX, 0]);
        let contents = contents_invalid(InodeId(5));
        assert_eq!(longs(contents.bytes()), [2 << 32 | 40, 0, 5, 0, 0]);
        let entry = entry_invalid(InodeId(6), b"abc");
        assert_eq!(longs(entry.bytes()), [3 << 32 | 36, 0, 6, 3]);
        let unused = unused(2);
        assert_eq!(longs(unused.bytes()), [9 << 32 | 48, 0, 2, 0]);
    }
}
