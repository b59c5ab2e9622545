//! Damaged images: errors, but no panic, no endless work and no more memory than allowed.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use proptest::prelude::*;
use rules::{Errno, Kind};

use crate::{Erofs, Filesystem, Iso9660, NodeId, Source, Squashfs, Unreadable};

/// An image in memory.
struct Memory(Vec<u8>);

impl Source for Memory {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Errno> {
        let start = usize::try_from(offset).map_err(|_| Errno::IO)?;
        let end = start.checked_add(buffer.len()).ok_or(Errno::IO)?;
        buffer.copy_from_slice(self.0.get(start..end).ok_or(Errno::IO)?);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

type Opened = Result<Box<dyn Filesystem>, Unreadable>;

fn open(kind: &str, bytes: Vec<u8>) -> Opened {
    let source = Box::new(Memory(bytes));
    Ok(match kind {
        "squashfs" => Box::new(Squashfs::open(source)?),
        "erofs" => Box::new(Erofs::open(source)?),
        _ => Box::new(Iso9660::open(source)?),
    })
}

/// Most that a damaged image may hand out here before the walk gives up.
const ENOUGH: u64 = 64 << 20;

/// Asks everything about everything that can be reached, to a depth and a number, whatever the answers; returns how many paths.
fn walk(image: &dyn Filesystem) -> usize {
    let mut todo = vec![(image.root(), 0)];
    let mut seen = 0;
    let mut bytes = 0;
    while let Some((node, depth)) = todo.pop() {
        seen += 1;
        if seen > 2000 {
            break;
        }
        let kind = image.attr(node).map(|attr| attr.kind);
        drop(image.xattrs(node));
        drop(image.link_target(node));
        let mut sink = |_: u64, piece: &[u8]| {
            bytes += piece.len() as u64;
            if bytes < ENOUGH {
                Ok(())
            } else {
                Err(Errno::FBIG)
            }
        };
        // That it answers at all is what counts.
        image.contents(node, &mut sink).unwrap_or_default();
        if kind == Ok(Kind::Dir) && depth < 8 {
            let entries = image.entries(node).unwrap_or_default();
            todo.extend(entries.into_iter().map(|entry| (entry.node, depth + 1)));
        }
    }
    seen
}

/// Names of images, and how to pack the directory `tree` into one.
const PACKERS: [(&str, &str); 7] = [
    (
        "squashfs",
        "mksquashfs tree image -noappend -quiet -no-progress -comp gzip",
    ),
    (
        "squashfs",
        "mksquashfs tree image -noappend -quiet -no-progress -comp zstd -noI",
    ),
    (
        "squashfs",
        "mksquashfs tree image -noappend -quiet -no-progress -comp xz -noD -noF -noX",
    ),
    (
        "squashfs",
        "mksquashfs tree image -noappend -quiet -no-progress -comp lz4 -noI -noX",
    ),
    ("erofs", "mkfs.erofs --quiet -zlz4 -C16384 image tree"),
    ("erofs", "mkfs.erofs --quiet --chunksize=4096 image tree"),
    ("iso", "genisoimage -quiet -R -o image tree 2>/dev/null"),
];

fn packed(which: usize) -> &'static (&'static str, Vec<u8>) {
    static IMAGES: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    &IMAGES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        plant(&dir.path().join("tree"));
        let images = PACKERS.map(|(kind, pack)| {
            let script = format!("rm -f image; {pack}");
            let mut shell = Command::new("sh");
            let done = shell.args(["-ec", &script]).current_dir(&dir).status();
            assert!(done.unwrap().success(), "{pack}");
            (kind, std::fs::read(dir.path().join("image")).unwrap())
        });
        images.into()
    })[which]
}

fn plant(top: &Path) {
    std::fs::create_dir_all(top.join("d/e")).unwrap();
    let text = "words and more words, again and again\n".repeat(3000);
    std::fs::write(top.join("text"), &text).unwrap();
    std::fs::write(top.join("d/small"), "small").unwrap();
    let mixed: Vec<u8> = (0..70_000u64).map(|n| ((n * n) >> 7) as u8).collect();
    std::fs::write(top.join("d/e/mixed"), [text.as_bytes(), &mixed].concat()).unwrap();
    std::os::unix::fs::symlink("d/small", top.join("link")).unwrap();
    for number in 0..40 {
        std::fs::write(top.join(format!("d/{number}")), "").unwrap();
    }
    let mut attribute = Command::new("setfattr");
    attribute.args(["-n", "user.a", "-v", "value", "d/small"]);
    assert!(attribute.current_dir(top).status().unwrap().success());
}

#[test]
fn everything_in_a_whole_image_can_be_read() {
    for (which, (_, pack)) in PACKERS.iter().enumerate() {
        let (kind, bytes) = packed(which);
        let image = open(kind, bytes.clone()).unwrap();
        // The root, two directories, the files, a link.
        assert_eq!(walk(&*image), 47, "{pack}");
    }
}

#[test]
fn a_directory_inside_itself_is_an_entry_and_no_loop() {
    let (kind, mut bytes) = packed(5).clone();
    // Every entry of this erofs image leads to the root: 64-bit numbers at the front of directory blocks.
    let root = u64::from(u16::from_le_bytes([bytes[1038], bytes[1039]]));
    let image = open(kind, bytes.clone()).unwrap();
    let first = image.entries(NodeId(root)).unwrap()[0].clone();
    let wanted = first.node.0.to_le_bytes();
    let at = bytes
        .windows(8)
        .position(|window| window == wanted)
        .unwrap();
    bytes[at..at + 8].copy_from_slice(&root.to_le_bytes());
    let image = open(kind, bytes).unwrap();
    let entries = image.entries(NodeId(root)).unwrap();
    assert!(entries.iter().any(|entry| entry.node == NodeId(root)));
}

#[test]
fn an_image_that_was_cut_off_is_an_error() {
    for (which, (_, pack)) in PACKERS.iter().enumerate() {
        let (kind, bytes) = packed(which);
        for length in [0, 64, 1500, 33_000, bytes.len() / 2] {
            if let Ok(image) = open(kind, bytes[..length.min(bytes.len() / 2)].to_vec()) {
                let damaged = walk(&*image);
                assert!(damaged <= 2000, "{pack}");
            }
        }
        assert!(open(kind, bytes[..96].to_vec()).is_err(), "{pack}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn damage_gives_errors_and_nothing_worse(
        which in 0..PACKERS.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..12),
    ) {
        let (kind, bytes) = packed(which);
        let mut bytes = bytes.clone();
        for (place, value, region) in damage {
            // Most of an image is contents, which say nothing: the ends are where its structure is.
            let at = match region {
                0 => place.index(bytes.len()),
                1 => place.index(bytes.len().min(2048)),
                _ => bytes.len() - 1 - place.index(bytes.len().min(8192)),
            };
            bytes[at] = value;
        }
        if let Ok(image) = open(kind, bytes) {
            prop_assert!(walk(&*image) > 0);
        }
    }
}
