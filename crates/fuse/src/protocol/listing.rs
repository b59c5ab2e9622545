//! Directory listings: `fuse_dirent` and `fuse_direntplus`, packed until they fill a request.

use rules::Kind;
use union::InodeId;

use super::arguments::{Arguments, Malformed};
use super::attributes::ENTRY_BYTES;
use super::payload::{Full, Payload, Record};

/// Bytes of `struct fuse_dirent` before the name.
const DIRENT_BYTES: usize = 24;
/// What stands for an inode number that nobody asked for; readers drop names with number 0.
const UNKNOWN_INO: u64 = 0xffff_ffff;

/// One name of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Dirent<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Inode number; 0 when it is not known.
    pub ino: u64,
    /// The kind, where it is known.
    pub kind: Option<Kind>,
    /// Where reading goes on after it.
    pub next_offset: u64,
}

/// Appends a name.
pub fn put_dirent(payload: &mut Payload<'_>, dirent: &Dirent<'_>) -> Result<(), Full> {
    payload.put_all(&[
        dirent_head(dirent).bytes(),
        dirent.name,
        padding(dirent.name),
    ])
}

/// Appends a name with its object; an entry of zeros says nothing about the object.
pub fn put_direntplus(
    payload: &mut Payload<'_>,
    entry: &Record<ENTRY_BYTES>,
    dirent: &Dirent<'_>,
) -> Result<(), Full> {
    let head = dirent_head(dirent);
    payload.put_all(&[
        entry.bytes(),
        head.bytes(),
        dirent.name,
        padding(dirent.name),
    ])
}

/// Calls `found` for each object in a listing of [`put_direntplus`].
pub fn for_each_object(listing: &[u8], mut found: impl FnMut(InodeId)) -> Result<(), Malformed> {
    let mut bytes = Arguments::new(listing);
    while let Ok(id) = bytes.u64() {
        bytes.skip(ENTRY_BYTES - 8 + 16)?;
        let length = bytes.u32()? as usize;
        bytes.skip(4 + length.next_multiple_of(8))?;
        if id != 0 {
            found(InodeId(id));
        }
    }
    Ok(())
}

fn dirent_head(dirent: &Dirent<'_>) -> Record<DIRENT_BYTES> {
    let ino = if dirent.ino == 0 {
        UNKNOWN_INO
    } else {
        dirent.ino
    };
    Record::new()
        .u64(0, ino)
        .u64(8, dirent.next_offset)
        .u32(16, dirent.name.len() as u32)
        .u32(
            20,
            dirent.kind.map_or(0, |kind| u32::from(kind.dirent_type())),
        )
}

fn padding(name: &[u8]) -> &'static [u8] {
    &[0; 8][..name.len().next_multiple_of(8) - name.len()]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::attributes::{Validity, entry, tests::sample};

    const NAME: Dirent<'_> = Dirent {
        name: b"abc",
        ino: 7,
        kind: Some(Kind::Dir),
        next_offset: 9,
    };

    #[test]
    fn a_name_is_padded_to_eight_bytes() {
        let mut room = [0xff; 100];
        let mut payload = Payload::new(&mut room);
        put_dirent(&mut payload, &NAME).unwrap();
        let mut expected = Vec::new();
        expected.extend(7_u64.to_ne_bytes());
        expected.extend(9_u64.to_ne_bytes());
        expected.extend(3_u32.to_ne_bytes());
        expected.extend(4_u32.to_ne_bytes());
        expected.extend(b"abc\0\0\0\0\0");
        assert_eq!(payload.filled(), expected);
        let unknown = Dirent {
            name: b"12345678",
            ino: 0,
            kind: None,
            next_offset: 0,
        };
        payload.clear();
        put_dirent(&mut payload, &unknown).unwrap();
        assert_eq!(payload.len(), 32);
        assert_eq!(payload.filled()[..8], UNKNOWN_INO.to_ne_bytes());
    }

    #[test]
    fn a_name_is_listed_whole_or_not_at_all() {
        let mut room = [0; 63];
        let mut payload = Payload::new(&mut room);
        assert_eq!(put_dirent(&mut payload, &NAME), Ok(()));
        assert_eq!(put_dirent(&mut payload, &NAME), Err(Full));
        assert_eq!(payload.len(), 32);
    }

    #[test]
    fn the_objects_of_a_listing_can_be_found_again() {
        let mut room = [0; 1024];
        let mut payload = Payload::new(&mut room);
        let validity = Validity {
            entry: Duration::ZERO,
            attr: Duration::ZERO,
        };
        put_direntplus(&mut payload, &Record::new(), &NAME).unwrap();
        for id in [5, 6] {
            let entry = entry(InodeId(id), &sample(), validity);
            put_direntplus(&mut payload, &entry, &NAME).unwrap();
        }
        assert_eq!(payload.len(), 3 * (ENTRY_BYTES + DIRENT_BYTES + 8));
        let mut found = Vec::new();
        for_each_object(payload.filled(), |id| found.push(id.0)).unwrap();
        assert_eq!(found, [5, 6]);
        assert_eq!(
            for_each_object(&payload.filled()[..100], |_| {}),
            Err(Malformed)
        );
    }
}
