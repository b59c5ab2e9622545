//! Attributes and names as the kernel caches them: `fuse_attr`, `fuse_entry_out`,
//! `fuse_attr_out`, `fuse_statx_out`.

use std::time::Duration;

use rules::{Attr, Time};
use union::InodeId;

use super::payload::Record;

/// Bytes of `struct fuse_attr`.
pub const ATTR_BYTES: usize = 88;
/// Bytes of `struct fuse_entry_out`.
pub const ENTRY_BYTES: usize = 40 + ATTR_BYTES;

/// `STATX_BASIC_STATS`: all that `stat` knows.
const STATX_BASIC_STATS: u32 = 0x7ff;
/// `STATX_BTIME`.
const STATX_BTIME: u32 = 0x800;
/// `STATX_ATTR_IMMUTABLE`.
const STATX_ATTR_IMMUTABLE: u64 = 0x10;

/// How long the kernel may rely on an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// That the name means this object, or nothing.
    pub entry: Duration,
    /// That the attributes are these.
    pub attr: Duration,
}

/// Builds `struct fuse_attr`.
pub fn attr(attr: &Attr) -> Record<ATTR_BYTES> {
    Record::new()
        .u64(0, attr.ino)
        .u64(8, attr.size)
        .u64(16, attr.blocks)
        .u64(24, attr.atime.seconds.cast_unsigned())
        .u64(32, attr.mtime.seconds.cast_unsigned())
        .u64(40, attr.ctime.seconds.cast_unsigned())
        .u32(48, attr.atime.nanos)
        .u32(52, attr.mtime.nanos)
        .u32(56, attr.ctime.nanos)
        .u32(60, attr.mode())
        .u32(64, attr.nlink)
        .u32(68, attr.uid)
        .u32(72, attr.gid)
        .u32(76, kernel_device(attr.rdev))
        .u32(80, attr.block_size)
}

/// Builds `struct fuse_entry_out` for an object that was found.
pub fn entry(id: InodeId, attributes: &Attr, validity: Validity) -> Record<ENTRY_BYTES> {
    // The generation may stay 0: an `InodeId` is never used twice while the mount lives.
    Record::new()
        .u64(0, id.0)
        .u64(16, validity.entry.as_secs())
        .u64(24, validity.attr.as_secs())
        .u32(32, validity.entry.subsec_nanos())
        .u32(36, validity.attr.subsec_nanos())
        .record(40, &attr(attributes))
}

/// Builds `struct fuse_entry_out` that says: no such name, and remember that.
pub fn absent(validity: Duration) -> Record<ENTRY_BYTES> {
    Record::new()
        .u64(16, validity.as_secs())
        .u32(32, validity.subsec_nanos())
}

/// Builds `struct fuse_attr_out`.
pub fn attr_out(attributes: &Attr, validity: Duration) -> Record<{ 16 + ATTR_BYTES }> {
    Record::new()
        .u64(0, validity.as_secs())
        .u32(8, validity.subsec_nanos())
        .record(16, &attr(attributes))
}

/// Builds `struct fuse_statx_out`, which alone can tell the time of birth.
pub fn statx_out(attr: &Attr, validity: Duration) -> Record<288> {
    let birth = if attr.btime.is_some() { STATX_BTIME } else { 0 };
    let immutable = if attr.immutable {
        STATX_ATTR_IMMUTABLE
    } else {
        0
    };
    let rdev = kernel_device(attr.rdev);
    Record::new()
        .u64(0, validity.as_secs())
        .u32(8, validity.subsec_nanos())
        // struct fuse_statx
        .u32(32, STATX_BASIC_STATS | birth)
        .u32(36, attr.block_size)
        .u64(40, immutable)
        .u32(48, attr.nlink)
        .u32(52, attr.uid)
        .u32(56, attr.gid)
        .u16(60, attr.mode() as u16)
        .u64(64, attr.ino)
        .u64(72, attr.size)
        .u64(80, attr.blocks)
        .u64(88, STATX_ATTR_IMMUTABLE)
        .record(96, &statx_time(attr.atime))
        .record(112, &statx_time(attr.btime.unwrap_or_default()))
        .record(128, &statx_time(attr.ctime))
        .record(144, &statx_time(attr.mtime))
        .u32(160, rdev >> 8 & 0xfff)
        .u32(164, rdev & 0xff | rdev >> 12 & 0xfff00)
}

fn statx_time(time: Time) -> Record<16> {
    Record::new()
        .u64(0, time.seconds.cast_unsigned())
        .u32(8, time.nanos)
}

/// Packs a device number as the kernel does: 12 bits of major, 20 of minor.
///
/// `makedev` puts exactly these bits in the same places and larger numbers above them.
fn kernel_device(rdev: u64) -> u32 {
    rdev as u32
}

#[cfg(test)]
pub(crate) mod tests {
    use rules::Kind;

    use super::*;

    /// Attributes in which every field differs.
    pub(crate) fn sample() -> Attr {
        Attr {
            dev: 1,
            ino: 2,
            kind: Kind::CharDevice,
            perm: 0o4755,
            nlink: 3,
            uid: 4,
            gid: 5,
            rdev: 0x0012_3abc,
            size: 6,
            blocks: 7,
            block_size: 8,
            atime: Time {
                seconds: -1,
                nanos: 9,
            },
            mtime: Time {
                seconds: 10,
                nanos: 11,
            },
            ctime: Time {
                seconds: 12,
                nanos: 13,
            },
            btime: Some(Time {
                seconds: 14,
                nanos: 15,
            }),
            immutable: true,
        }
    }

    fn longs(bytes: &[u8]) -> Vec<u64> {
        bytes
            .chunks(8)
            .map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap()))
            .collect()
    }

    fn pair(low: u32, high: u32) -> u64 {
        u64::from(high) << 32 | u64::from(low)
    }

    #[test]
    fn attributes_lie_where_the_kernel_looks() {
        let expected = [
            2,
            6,
            7,
            u64::MAX,
            10,
            12,
            pair(9, 11),
            pair(13, 0o024_755),
            pair(3, 4),
            pair(5, 0x0012_3abc),
            pair(8, 0),
        ];
        assert_eq!(longs(attr(&sample()).bytes()), expected);
    }

    #[test]
    fn an_entry_carries_both_timeouts() {
        let validity = Validity {
            entry: Duration::new(1, 2),
            attr: Duration::new(3, 4),
        };
        let record = entry(InodeId(9), &sample(), validity);
        assert_eq!(longs(&record.bytes()[..40]), [9, 0, 1, 3, pair(2, 4)]);
        assert_eq!(record.bytes()[40..], attr(&sample()).bytes()[..]);
        let nothing = absent(Duration::new(5, 6));
        assert_eq!(longs(&nothing.bytes()[..40]), [0, 0, 5, 0, pair(6, 0)]);
    }

    #[test]
    fn statx_tells_the_time_of_birth_and_splits_the_device() {
        let record = statx_out(&sample(), Duration::new(1, 2));
        let expected = [
            1,
            2,
            0,
            0,
            pair(0xfff, 8),
            0x10,
            pair(3, 4),
            pair(5, 0o024_755),
            2,
            6,
            7,
            0x10,
            u64::MAX,
            9,
            14,
            15,
            12,
            13,
            10,
            11,
            pair(0x23a, 0x1bc),
        ];
        assert_eq!(longs(record.bytes())[..21], expected);
    }
}
