//! `SETATTR`: which attributes change, and to what.

use rules::{Changes, SetTime, Time};

use super::arguments::{Arguments, Malformed};

const MODE: u32 = 1 << 0;
const UID: u32 = 1 << 1;
const GID: u32 = 1 << 2;
const SIZE: u32 = 1 << 3;
const ATIME: u32 = 1 << 4;
const MTIME: u32 = 1 << 5;
const ATIME_NOW: u32 = 1 << 7;
const MTIME_NOW: u32 = 1 << 8;
const KILL_SUIDGID: u32 = 1 << 11;

/// Reads `struct fuse_setattr_in`.
///
/// The time of status change is the branch's business: the kernel's wish is not heard.
pub(super) fn changes(arguments: &mut Arguments<'_>) -> Result<Changes, Malformed> {
    let valid = arguments.u32()?;
    arguments.skip(4 + 8)?;
    let size = arguments.u64()?;
    arguments.skip(8)?;
    let atime_seconds = arguments.u64()?.cast_signed();
    let mtime_seconds = arguments.u64()?.cast_signed();
    arguments.skip(8)?;
    let atime = Time {
        seconds: atime_seconds,
        nanos: arguments.u32()?,
    };
    let mtime = Time {
        seconds: mtime_seconds,
        nanos: arguments.u32()?,
    };
    arguments.skip(4)?;
    let mode = arguments.u32()?;
    arguments.skip(4)?;
    let uid = arguments.u32()?;
    let gid = arguments.u32()?;
    let has = |bit| valid & bit != 0;
    let time = |set, now, time| {
        has(set).then_some(if has(now) {
            SetTime::Now
        } else {
            SetTime::To(time)
        })
    };
    Ok(Changes {
        perm: has(MODE).then_some(mode & 0o7777),
        uid: has(UID).then_some(uid),
        gid: has(GID).then_some(gid),
        size: has(SIZE).then_some(size),
        atime: time(ATIME, ATIME_NOW, atime),
        mtime: time(MTIME, MTIME_NOW, mtime),
        drop_set_id: has(KILL_SUIDGID),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(valid: u32) -> Changes {
        let mut bytes = Vec::new();
        bytes.extend(valid.to_ne_bytes());
        bytes.extend([0; 4]);
        for long in [1_u64, 2, 3, -4_i64 as u64, 5, 6] {
            bytes.extend(long.to_ne_bytes());
        }
        for word in [7_u32, 8, 9, 0o104_755, 10, 11, 12, 13] {
            bytes.extend(word.to_ne_bytes());
        }
        assert_eq!(bytes.len(), 88);
        changes(&mut Arguments::new(&bytes)).unwrap()
    }

    #[test]
    fn only_what_is_marked_changes() {
        let none = Changes::default();
        let atime = SetTime::To(Time {
            seconds: -4,
            nanos: 7,
        });
        let mtime = SetTime::To(Time {
            seconds: 5,
            nanos: 8,
        });
        for (valid, expected) in [
            (0, none),
            (
                MODE,
                Changes {
                    perm: Some(0o4755),
                    ..none
                },
            ),
            (
                UID | GID,
                Changes {
                    uid: Some(11),
                    gid: Some(12),
                    ..none
                },
            ),
            (
                SIZE | 1 << 9,
                Changes {
                    size: Some(2),
                    ..none
                },
            ),
            (
                ATIME | MTIME,
                Changes {
                    atime: Some(atime),
                    mtime: Some(mtime),
                    ..none
                },
            ),
            (
                ATIME | ATIME_NOW,
                Changes {
                    atime: Some(SetTime::Now),
                    ..none
                },
            ),
            (
                MTIME | MTIME_NOW,
                Changes {
                    mtime: Some(SetTime::Now),
                    ..none
                },
            ),
            (1 << 10, none),
            (
                KILL_SUIDGID,
                Changes {
                    drop_set_id: true,
                    ..none
                },
            ),
        ] {
            assert_eq!(parse(valid), expected, "{valid:#x}");
        }
    }
}
