//! The records by which a renamed directory finds the parts of it that branches below hold (`dirren`).
//!
//! A directory that merges others from below is renamed on one branch only. For each branch below that holds a part
//! of it, the renamed directory has a file that tells where the part is, under AUFS's name and in its words:
//! the name that the part has in the directory that the union merges at the same place ([`Place::Beside`]). AUFS cannot
//! say more, and loses what is moved into another directory; for that there is a second form, which AUFS
//! does not look at: the path from the root of the branch ([`Place::Path`]). It counts where both are. While the part itself
//! is moved on its branch, the second form has both paths ([`Place::Moving`]).
//!
//! Source: the on-disk format of AUFS, drawn in `docs/formats/aufs.md`.

use std::fmt;
use std::sync::Arc;

use crate::Name;
use crate::whiteout::NAME_MAX;

/// What the name of every record begins with.
pub const PREFIX: &[u8] = b".wh..wh..dr.";
/// What follows in the name of a record of the second form.
const PATH: &[u8] = b"path_";
/// The file in a branch's root that lists the renamed directories on it.
pub const LIST: &[u8] = b".wh..wh.hino";
/// Permissions of the records and of the list.
pub const PERM: u32 = 0o600;
/// The longest record in bytes.
pub const LONGEST: usize = 64 << 10;

const HEADER: usize = 24;
const MAGIC: [u8; 4] = [0x61, 0x64, 0x72, 0x01];
/// `plyp`: a path.
const PATH_MAGIC: [u8; 4] = *b"plyp";

/// Which directory tree a record is about: a filesystem, and the inode that is the tree's root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TreeId(Arc<[u8]>);

impl TreeId {
    /// Names the tree whose root has this inode number. `fsid` is what the filesystem calls itself (first word in
    /// the low half), `dev` its device number as `st_dev` has it, which counts when the former is 0.
    pub fn new(fsid: u64, dev: u64, root: u64) -> Self {
        let text = if fsid == 0 {
            let (major, minor) = numbers(dev);
            if major < 256 && minor < 256 {
                format!("3_{major:02x}{minor:02x}_{root}")
            } else {
                format!("3_{major:03x}:{minor:05x}_{root}")
            }
        } else {
            let (first, second) = (fsid as u32, fsid >> 32);
            format!("2_{first:08x}-{second:08x}_{root}")
        };
        Self(text.as_bytes().into())
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0).escape_debug())
    }
}

/// Major and minor number, as glibc packs them.
fn numbers(dev: u64) -> (u64, u64) {
    let major = ((dev >> 8) & 0xfff) | ((dev >> 32) & !0xfff);
    let minor = (dev & 0xff) | ((dev >> 12) & 0xffff_ff00);
    (major, minor)
}

/// Where a branch below has its part of a renamed directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Under this name in the directory that is merged where the renamed directory is (AUFS's form).
    Beside(Name),
    /// At this path from the root of the branch; never empty.
    Path(Vec<Name>),
    /// At the first of these paths that leads to the inode: the part is moved, or was.
    Moving(Vec<Name>, Vec<Name>),
}

/// The two forms of a record, which have different names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// [`Place::Beside`]
    Beside,
    /// [`Place::Path`] and [`Place::Moving`]
    Path,
}

impl Place {
    /// Returns the form of a record that says this.
    pub fn form(&self) -> Form {
        match self {
            Self::Beside(_) => Form::Beside,
            Self::Path(_) | Self::Moving(..) => Form::Path,
        }
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Where the part is.
    pub place: Place,
    /// The inode number of the part.
    pub ino: u64,
}

impl Origin {
    /// Returns the bytes of the record, or `None` when a path is too long for one.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; HEADER];
        bytes[8..16].copy_from_slice(&self.ino.to_be_bytes());
        match &self.place {
            Place::Beside(name) => {
                bytes[..4].copy_from_slice(&MAGIC);
                bytes[16] = u8::try_from(name.len()).ok()?;
                bytes.extend_from_slice(name.as_bytes());
            }
            Place::Path(path) => put_paths(&mut bytes, path, &[])?,
            Place::Moving(from, to) => put_paths(&mut bytes, from, to)?,
        }
        (bytes.len() <= LONGEST).then_some(bytes)
    }

    /// Reads the bytes of a record; `None` when they are none of this form.
    pub fn decode(form: Form, bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let ino = u64::from_be_bytes(header[8..16].try_into().ok()?);
        let place = match form {
            Form::Beside => {
                let name = rest.get(..usize::from(header[16]))?;
                let sound = header[..4] == MAGIC && name.len() <= NAME_MAX;
                Place::Beside(users(name).filter(|_| sound)?)
            }
            Form::Path => {
                let length = |at| {
                    u32::from_be_bytes(header[at..at + 4].try_into().ok()?)
                        .try_into()
                        .ok()
                };
                let (path, rest) = rest.split_at_checked(length(16)?)?;
                let to = rest.get(..length(20)?)?;
                if header[..4] != PATH_MAGIC || bytes.len() > LONGEST {
                    return None;
                }
                let names = |path: &[u8]| {
                    path.split(|byte| *byte == b'/')
                        .map(users)
                        .collect::<Option<_>>()
                };
                match to.is_empty() {
                    true => Place::Path(names(path)?),
                    false => Place::Moving(names(path)?, names(to)?),
                }
            }
        };
        Some(Self { place, ino })
    }
}

/// Writes the second form: a path, and where the part moves from there (nothing if it does not).
fn put_paths(bytes: &mut Vec<u8>, path: &[Name], to: &[Name]) -> Option<()> {
    bytes[..4].copy_from_slice(&PATH_MAGIC);
    for (at, names) in [(16, path), (20, to)] {
        let names: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
        let path = names.join(&b'/');
        bytes[at..at + 4].copy_from_slice(&u32::try_from(path.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(&path);
    }
    Some(())
}

/// A record never leads to what users may not see.
fn users(name: &[u8]) -> Option<Name> {
    let reserved = crate::whiteout::is_reserved(name);
    Name::new(name).ok().filter(|_| !reserved)
}

/// Returns the name of the record about a tree.
pub fn record_name(form: Form, tree: &TreeId) -> Name {
    let form = match form {
        Form::Beside => &[][..],
        Form::Path => PATH,
    };
    Name::new(&[PREFIX, form, &tree.0].concat()).expect("parts of names make a name")
}

/// Returns what a record's name says; `None` when it is no record's.
pub fn parse_record_name(name: &[u8]) -> Option<(Form, TreeId)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (form, tree) = match rest.strip_prefix(PATH) {
        Some(tree) => (Form::Path, tree),
        None => (Form::Beside, rest),
    };
    (!tree.is_empty()).then(|| (form, TreeId(tree.into())))
}

/// Returns the bytes of the list of renamed directories.
pub fn encode_list(inodes: impl IntoIterator<Item = u64>) -> Vec<u8> {
    inodes.into_iter().flat_map(u64::to_be_bytes).collect()
}

/// Reads the list of renamed directories; what is left of a number at its end is ignored.
pub fn decode_list(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (numbers, _) = bytes.as_chunks();
    numbers.iter().map(|bytes| u64::from_be_bytes(*bytes))
}

/// How well a directory of a branch fits a record that is about another tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// There is none where the record says, or it is visible elsewhere.
    No,
    /// There is one.
    Place,
    /// There is one, and it has the inode number.
    Inode,
}

/// Decides which branch is meant by each record whose tree is in no branch: `fits` has a row for each record and a column for each
/// branch that no other record is about. Numbers of filesystems change from mount to mount, and inode numbers with a
/// copy. So either an inode number tells which one it is, or all that can be meant are: there are no more of them
/// than records that say the same place, and no other record can mean one.
pub fn assign(records: &[Origin], fits: &[Vec<Fit>]) -> Vec<Option<usize>> {
    let mut assigned = vec![None; fits.len()];
    let mean = |rows: &[usize], column: usize, fit: Fit| {
        let mut meaning = rows.iter().filter(|row| fits[**row][column] >= fit);
        (meaning.next().copied(), meaning.next().is_none())
    };
    let rows: Vec<_> = (0..fits.len()).collect();
    let columns = fits.first().map_or(0, Vec::len);
    for row in &rows {
        let mut fitting = (0..columns).filter(|column| fits[*row][*column] == Fit::Inode);
        if let (Some(column), None) = (fitting.next(), fitting.next())
            && mean(&rows, column, Fit::Inode) == (Some(*row), true)
        {
            assigned[*row] = Some(column);
        }
    }
    let left: Vec<_> = rows
        .into_iter()
        .filter(|row| assigned[*row].is_none())
        .collect();
    for row in &left {
        let same = |other: &usize| records[*other].place == records[*row].place;
        let (group, others): (Vec<_>, Vec<_>) = left.iter().copied().partition(same);
        let free = (0..columns).filter(|column| {
            let taken = assigned.contains(&Some(*column))
                && !group.iter().any(|row| assigned[*row] == Some(*column));
            !taken && fits[*row][*column] >= Fit::Place
        });
        let free: Vec<_> = free.collect();
        let contested = |column: &usize| mean(&others, *column, Fit::Place).0.is_some();
        if free.len() <= group.len() && !free.iter().any(contested) {
            let at = group.iter().position(|other| other == row);
            assigned[*row] = at.and_then(|at| free.get(at)).copied();
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_record_has_the_name_and_the_bytes_that_aufs_gives_it() {
        let tree = TreeId::new(0x89ab_cdef_0123_4567, 0x801, 2);
        let record = record_name(Form::Beside, &tree);
        assert_eq!(record.as_bytes(), b".wh..wh..dr.2_01234567-89abcdef_2");
        let origin = Origin {
            place: Place::Beside(name("old")),
            ino: 0x0102,
        };
        let expected = b"\x61\x64\x72\x01\0\0\0\0\0\0\0\0\0\0\x01\x02\x03\0\0\0\0\0\0\0old";
        assert_eq!(origin.encode().unwrap(), expected);
        assert_eq!(encode_list([0x0102]), [0, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn a_filesystem_without_a_number_goes_by_its_device() {
        for (dev, expected) in [
            (0x0801, ".wh..wh..dr.3_0801_7"),
            (0x10_3401, ".wh..wh..dr.3_034:00101_7"),
        ] {
            let record = record_name(Form::Beside, &TreeId::new(0, dev, 7));
            assert_eq!(record.to_string(), expected, "{dev:#x}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let tree = TreeId::new(1, 2, 3);
        for place in [
            Place::Beside(name("n")),
            Place::Path(vec![name("a")]),
            Place::Path(vec![name("a"), name("b c"), name("\u{fc}")]),
            Place::Moving(vec![name("a"), name("b")], vec![name("c")]),
        ] {
            let origin = Origin {
                place,
                ino: 1 << 63,
            };
            let form = origin.place.form();
            let bytes = origin.encode().unwrap();
            assert_eq!(Origin::decode(form, &bytes), Some(origin));
            let found = parse_record_name(record_name(form, &tree).as_bytes());
            assert_eq!(found, Some((form, tree.clone())));
        }
        let inodes = [0, 1, u64::MAX];
        let list = encode_list(inodes);
        assert!(decode_list(&list).eq(inodes));
        assert!(decode_list(&list[..20]).eq([0, 1]));
    }

    #[test]
    fn damaged_records_say_nothing() {
        let beside = Origin {
            place: Place::Beside(name("old")),
            ino: 1,
        };
        let path = Origin {
            place: Place::Path(vec![name("a"), name("b")]),
            ino: 1,
        };
        let moving = Origin {
            place: Place::Moving(vec![name("a")], vec![name("b"), name("c")]),
            ino: 1,
        };
        for whole in [&beside, &path, &moving] {
            let form = whole.place.form();
            let bytes = whole.encode().unwrap();
            for length in 0..bytes.len() {
                assert_eq!(Origin::decode(form, &bytes[..length]), None, "{length}");
            }
            for at in 0..4 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1;
                assert_eq!(Origin::decode(form, &bytes), None, "{at}");
            }
        }
        let replaced = |form, bytes: &[u8], by: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.truncate(HEADER);
            bytes.extend_from_slice(by);
            Origin::decode(form, &bytes)
        };
        let bytes = beside.encode().unwrap();
        for hostile in ["a/b", "x\0y", ".wh"] {
            let found = replaced(Form::Beside, &bytes, hostile.as_bytes());
            assert_eq!(found.is_some(), hostile == ".wh", "{hostile:?}");
        }
        let bytes = path.encode().unwrap();
        for hostile in ["/ab", "a//", "../", "./a", "a/."] {
            assert_eq!(replaced(Form::Path, &bytes, hostile.as_bytes()), None);
        }
        let hidden = Place::Path(vec![name(".wh..wh.plnk")]);
        let bytes = Origin {
            place: hidden,
            ino: 1,
        };
        assert_eq!(Origin::decode(Form::Path, &bytes.encode().unwrap()), None);
    }

    #[test]
    fn a_path_that_no_record_can_hold_is_refused() {
        let place = Place::Path(vec![name(&"n".repeat(255)); 300]);
        assert_eq!(Origin { place, ino: 1 }.encode(), None);
    }

    #[test]
    fn a_record_of_an_unknown_tree_is_followed_only_if_nothing_else_can_be_meant() {
        use Fit::{Inode, No, Place as There};
        for (places, fits, expected) in [
            ("a", vec![vec![There]], vec![Some(0)]),
            ("a", vec![vec![No]], vec![None]),
            ("a", vec![vec![]], vec![None]),
            ("a", vec![vec![There, There]], vec![None]),
            ("a", vec![vec![There, Inode]], vec![Some(1)]),
            ("a", vec![vec![Inode, Inode]], vec![None]),
            ("ab", vec![vec![There], vec![There]], vec![None, None]),
            (
                "ab",
                vec![vec![There, No], vec![No, There]],
                vec![Some(0), Some(1)],
            ),
            (
                "ab",
                vec![vec![There, No], vec![There, There]],
                vec![None, None],
            ),
            ("aa", vec![vec![There], vec![There]], vec![Some(0), None]),
            (
                "aa",
                vec![vec![There, There], vec![There, There]],
                vec![Some(0), Some(1)],
            ),
            (
                "aa",
                vec![vec![There, Inode], vec![There, There]],
                vec![Some(1), Some(0)],
            ),
        ] {
            let records = places.chars().map(|letter| Origin {
                place: Place::Beside(name(&letter.to_string())),
                ino: 1,
            });
            let records: Vec<_> = records.collect();
            assert_eq!(assign(&records, &fits), expected, "{places} {fits:?}");
        }
    }
}
