//! What was written is read again; what was damaged is refused, and never a panic.

use std::io::Cursor;

use proptest::collection::vec;
use proptest::prelude::*;
use rules::lookup::{Seen, Sighting};
use rules::{Attr, BranchIndex, Kind, Name, Time};

use crate::bytes::Sum;
use crate::layout::{DIRECTORY, LAYER, header};
use crate::{
    ChainIndex, Layer, Member, NewDirectory, NewEntry, NotIndexed, Reading, Refused, Writer,
};

const LAYERS: u16 = 3;

fn layers() -> Vec<Layer> {
    let layer = |number: u16| Layer {
        fsid: 7,
        dev: 9,
        ino: u64::from(number),
        mtime: time(1),
        ctime: time(2),
        whiteouts: number > 0,
    };
    (0..LAYERS).map(layer).collect()
}

fn time(number: u64) -> Time {
    Time {
        seconds: number as i64 - 5,
        nanos: (number * 1000) as u32,
    }
}

fn attr(number: u64, kind: Kind) -> Attr {
    Attr {
        dev: 0,
        ino: number,
        kind,
        perm: 0o644,
        nlink: 1,
        uid: (number % 3) as u32,
        gid: 5,
        rdev: if kind == Kind::CharDevice { 0x103 } else { 0 },
        size: number * 100,
        blocks: number,
        block_size: 4096,
        atime: time(number),
        mtime: time(number + 1),
        ctime: time(number + 2),
        btime: (!number.is_multiple_of(2)).then(|| time(number)),
        immutable: number.is_multiple_of(5),
    }
}

fn any_entry() -> impl Strategy<Value = (u8, Vec<(u16, u8)>)> {
    (any::<u8>(), vec((0..LAYERS, 0..4u8), 1..4))
}

fn entry((number, seen): &(u8, Vec<(u16, u8)>)) -> NewEntry {
    let mut sightings: Vec<_> = seen
        .iter()
        .map(|(branch, what)| Sighting {
            branch: BranchIndex(*branch),
            what: [Seen::Dir, Seen::File, Seen::Whiteout, Seen::Damaged][usize::from(*what)],
        })
        .collect();
    sightings.sort_by_key(|seen| seen.branch);
    sightings.dedup_by_key(|seen| seen.branch);
    let kind = match sightings[0].what {
        Seen::Dir => Some(Kind::Dir),
        Seen::File if number % 4 == 0 => Some(Kind::CharDevice),
        Seen::File => Some(Kind::File),
        Seen::Whiteout | Seen::Damaged => None,
    };
    NewEntry {
        name: Name::new(format!("n{number}").as_bytes()).unwrap(),
        sightings,
        attr: kind.map(|kind| attr(u64::from(*number), kind)),
    }
}

fn any_directories() -> impl Strategy<Value = Vec<NewDirectory>> {
    let directory = vec(any_entry(), 0..6);
    vec(directory, 0..5).prop_map(|drawn| {
        let numbered = drawn.into_iter().zip(100u64..);
        numbered
            .map(|(drawn, ino)| {
                let mut entries: Vec<_> = drawn.iter().map(entry).collect();
                entries.sort_by(|one, two| one.name.cmp(&two.name));
                entries.dedup_by(|one, two| one.name == two.name);
                let member = |layer| Member {
                    layer,
                    nlink: 2,
                    ino: ino + u64::from(layer) * 50,
                    mtime: time(ino),
                    ctime: time(ino + 1),
                };
                let members = (ino as u16 % LAYERS..LAYERS).map(member).collect();
                NewDirectory { members, entries }
            })
            .collect()
    })
}

fn written(directories: &[NewDirectory]) -> Vec<u8> {
    let out = Cursor::new(Vec::new());
    let mut writer = Writer::new(out, Reading::Aufs, layers()).unwrap();
    for directory in directories {
        assert_eq!(writer.add(directory.clone()).unwrap(), Ok(()));
    }
    writer.finish().unwrap().into_inner()
}

/// Asks everything that can be asked.
fn read_all(bytes: &[u8]) -> Result<Vec<NewDirectory>, Refused> {
    let index = ChainIndex::open(bytes)?;
    index.layers()?;
    let mut found = Vec::new();
    for number in 0..index.len() {
        let directory = index.checked(number)?;
        let members = directory.members().collect::<Result<Vec<_>, _>>()?;
        let mut entries = Vec::new();
        for entry in directory.entries() {
            let entry = entry?;
            let name = entry.name()?;
            directory.find(name.as_bytes())?;
            entries.push(NewEntry {
                name,
                sightings: entry.sightings().collect::<Result<_, _>>()?,
                attr: entry.attr()?,
            });
        }
        if let Some(top) = members.first() {
            index.find(top.layer, top.ino)?;
        }
        found.push(NewDirectory { members, entries });
    }
    Ok(found)
}

/// Lets every checksum be right, as somebody who means harm would.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let number = |bytes: &[u8], at: usize| -> Option<usize> {
        let word = bytes.get(at..at.checked_add(8)?)?;
        usize::try_from(u64::from_le_bytes(word.try_into().ok()?)).ok()
    };
    let Some(tables) = number(&bytes, header::TABLES) else {
        return bytes;
    };
    let layers = u32::from_le_bytes(bytes[header::LAYERS..][..4].try_into().unwrap()) as usize;
    let count = u32::from_le_bytes(bytes[header::DIRECTORIES..][..4].try_into().unwrap()) as usize;
    for directory in 0..count.min(10) {
        let record = layers
            .checked_mul(LAYER)
            .and_then(|at| at.checked_add(tables))
            .and_then(|at| at.checked_add(directory * DIRECTORY));
        let Some(record) = record else { break };
        let block = number(&bytes, record.saturating_add(16))
            .zip(number(&bytes, record.saturating_add(24)))
            .and_then(|(at, length)| bytes.get(at..at.checked_add(length)?));
        if let Some(block) = block {
            let sum = Sum::new().add(block).value();
            if let Some(place) = bytes.get_mut(record + 32..record + 40) {
                place.copy_from_slice(&sum.to_le_bytes());
            }
        }
    }
    let end = bytes.get(tables..).map(<[u8]>::to_vec);
    let sum = Sum::new()
        .add(&bytes[..header::SUM])
        .add(&end.unwrap_or_default());
    bytes[header::SUM..][..8].copy_from_slice(&sum.value().to_le_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(directories in any_directories()) {
        let bytes = written(&directories);
        prop_assert_eq!(&bytes, &written(&directories), "the same input, other bytes");
        let mut expected = directories;
        expected.sort_by_key(|directory| (directory.members[0].layer, directory.members[0].ino));
        let found = read_all(&bytes).unwrap();
        prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        let index = ChainIndex::open(&bytes[..]).unwrap();
        prop_assert_eq!(index.layers().unwrap(), layers());
        for (number, directory) in expected.iter().enumerate() {
            let top = directory.members[0];
            prop_assert_eq!(index.find(top.layer, top.ino), Ok(Some(number as u32)));
            let read = index.checked(number as u32).unwrap();
            for entry in &directory.entries {
                let name = entry.name.as_bytes();
                let found = read.find(name).unwrap().unwrap();
                prop_assert_eq!(found.attr(), Ok(entry.attr));
            }
            prop_assert!(read.find(b"missing").unwrap().is_none());
        }
    }

    #[test]
    fn a_change_of_any_byte_is_found(directories in any_directories(), bit in 0..8u32) {
        let bytes = written(&directories);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            prop_assert!(read_all(&damaged).is_err(), "byte {} of {}", at, bytes.len());
        }
        for length in 0..bytes.len() {
            prop_assert!(read_all(&bytes[..length]).is_err(), "cut to {length}");
        }
        let longer = [&bytes[..], b"x"].concat();
        prop_assert!(read_all(&longer).is_err());
    }

    #[test]
    fn what_somebody_forged_does_no_harm(
        directories in any_directories(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        at in any::<prop::sample::Index>(),
        value in prop_oneof![Just(u32::MAX), Just(1 << 31), any::<u32>()],
    ) {
        let mut bytes = written(&directories);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let at = at.index(bytes.len() / 4) * 4;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        // It says something else, or is refused: it does not panic, and what is read is no more than there is.
        if let Ok(found) = read_all(&sealed(bytes.clone())) {
            prop_assert!(found.len() <= bytes.len());
        }
    }
}

#[test]
fn what_the_format_cannot_say_is_not_indexed() {
    let mut writer = Writer::new(Cursor::new(Vec::new()), Reading::Aufs, layers()).unwrap();
    let mut directory = NewDirectory {
        members: vec![Member {
            layer: 1,
            nlink: 2,
            ino: 5,
            mtime: time(1),
            ctime: time(1),
        }],
        entries: vec![entry(&(1, vec![(1, 1)]))],
    };
    if let Some(attr) = &mut directory.entries[0].attr {
        attr.mtime.seconds = i64::MAX;
    }
    let added =
        |writer: &mut Writer<_>, directory: &NewDirectory| writer.add(directory.clone()).unwrap();
    assert_eq!(added(&mut writer, &directory), Err(NotIndexed::TooLarge));
    directory.entries.clear();
    assert_eq!(added(&mut writer, &directory), Ok(()));
    assert_eq!(added(&mut writer, &directory), Err(NotIndexed::Twice));
    let bytes = writer.finish().unwrap().into_inner();
    assert_eq!(read_all(&bytes).unwrap().len(), 1);
}

#[test]
fn reasons_are_told_apart() {
    let bytes = written(&[]);
    assert_eq!(read_all(b"").unwrap_err(), Refused::NotAnIndex);
    assert_eq!(read_all(&bytes[..20]).unwrap_err(), Refused::Length(20));
    let mut newer = bytes.clone();
    newer[header::VERSION] = 2;
    assert_eq!(read_all(&newer).unwrap_err(), Refused::Version(2));
    let mut unfinished = bytes;
    unfinished[..64].fill(0);
    assert_eq!(read_all(&unfinished).unwrap_err(), Refused::NotAnIndex);
}
