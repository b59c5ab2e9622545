//! The names by which the AUFS format hides and marks things.
//!
//! Source: the on-disk format of AUFS (`.wh.NAME`, `.wh..wh..opq`, ...), which Docker's layers and
//! the OCI image format share. A reader that hides every name with the prefix hides all of them.

use crate::Name;

/// What every name of the format begins with.
pub const PREFIX: &[u8] = b".wh.";
/// What the format's own files and temporary names begin with.
pub const OWN_PREFIX: &[u8] = b".wh..wh.";
/// The file that makes a directory opaque.
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// The file in a branch's root that whiteouts are hard links to.
pub const BASE: &[u8] = b".wh..wh.aufs";
/// The directory in a branch's root that keeps hard links together.
pub const PSEUDO_LINKS: &[u8] = b".wh..wh.plnk";
/// The directory in a branch's root for copies of files whose directory is gone.
pub const ORPHANS: &[u8] = b".wh..wh.orph";
/// What follows [`OWN_PREFIX`] in the record of a renamed directory (`dirren`).
const RENAMED: &[u8] = b".dr.";
/// Longest name in bytes, so that `.wh..wh.NAME.hhhh` fits into 255.
pub const NAME_MAX: usize = 242;
/// Permissions of whiteouts and marks.
pub const PERM: u32 = 0o444;

/// What a name in a branch's directory means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// An entry that users see.
    Entry,
    /// Hides the name.
    Whiteout(Name),
    /// Makes its directory opaque.
    Opaque,
    /// Left behind by an operation that did not finish.
    Temporary(Temporary),
    /// Tells where a branch below has its part of the renamed directory, see [`crate::renamed`].
    Origin,
    /// The format's own, never shown.
    Own,
}

/// A temporary name, `.wh..wh.NAME.hhhh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Temporary {
    /// The name it stands in for.
    pub name: Name,
    /// What it is there for.
    pub purpose: Purpose,
}

/// Why a temporary name exists. The number in the name tells: below 0x8000 something is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It becomes the entry once it is complete.
    Building,
    /// It was the entry, and goes away once the operation is complete.
    MovedAway,
}

/// Returns what a name means in the AUFS format.
pub fn meaning(name: &[u8]) -> Meaning {
    let Some(hidden) = name.strip_prefix(PREFIX) else {
        return Meaning::Entry;
    };
    if name == OPAQUE {
        return Meaning::Opaque;
    }
    if name.starts_with(crate::renamed::PREFIX) {
        return Meaning::Origin;
    }
    if let Some(own) = name.strip_prefix(OWN_PREFIX) {
        return temporary(own).map_or(Meaning::Own, Meaning::Temporary);
    }
    Name::new(hidden).map_or(Meaning::Own, Meaning::Whiteout)
}

/// Returns whether users may not say this name.
pub fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// Returns the name that hides `name`.
pub fn of(name: &Name) -> Name {
    joined(&[PREFIX, name.as_bytes()])
}

/// Returns a temporary name for `name`; `number` tells several of them apart.
pub fn temporary_name(name: &Name, purpose: Purpose, number: u16) -> Name {
    let number = match purpose {
        Purpose::Building => number & 0x7fff,
        Purpose::MovedAway => number | 0x8000,
    };
    // The overlay dialect allows 255 bytes: what does not fit is cut, the number keeps it apart.
    let kept = &name.as_bytes()[..name.len().min(NAME_MAX)];
    joined(&[OWN_PREFIX, kept, format!(".{number:04x}").as_bytes()])
}

fn temporary(own: &[u8]) -> Option<Temporary> {
    let (name, suffix) = own.split_at_checked(own.len().checked_sub(5)?)?;
    let digits = suffix.strip_prefix(b".")?;
    if name.starts_with(RENAMED) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let number = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    let purpose = if number < 0x8000 {
        Purpose::Building
    } else {
        Purpose::MovedAway
    };
    Some(Temporary {
        name: Name::new(name).ok()?,
        purpose,
    })
}

fn joined(parts: &[&[u8]]) -> Name {
    Name::new(&parts.concat()).expect("parts of names make a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn each_name_has_one_meaning() {
        let temporary = |of: &str, purpose| {
            Meaning::Temporary(Temporary {
                name: name(of),
                purpose,
            })
        };
        for (text, expected) in [
            ("f", Meaning::Entry),
            (".wh", Meaning::Entry),
            (".whx", Meaning::Entry),
            (".wh.", Meaning::Own),
            (".wh.f", Meaning::Whiteout(name("f"))),
            (".wh..f", Meaning::Whiteout(name(".f"))),
            (".wh..", Meaning::Own),
            (".wh..wh..opq", Meaning::Opaque),
            (".wh..wh.aufs", Meaning::Own),
            (".wh..wh.plnk", Meaning::Own),
            (".wh..wh.hino", Meaning::Own),
            (".wh..wh..dr.2_0_1.0abc", Meaning::Origin),
            (".wh..wh.f.0001", temporary("f", Purpose::Building)),
            (".wh..wh.f.ffff", temporary("f", Purpose::MovedAway)),
            (".wh..wh.f.fffg", Meaning::Own),
            (".wh..wh..f.0001", temporary(".f", Purpose::Building)),
            (".wh..wh..opq.8001", temporary(".opq", Purpose::MovedAway)),
        ] {
            assert_eq!(meaning(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn temporary_names_are_recognised_and_fit() {
        let long = name(&"n".repeat(NAME_MAX));
        for purpose in [Purpose::Building, Purpose::MovedAway] {
            let made = temporary_name(&long, purpose, 0x1234);
            assert!(made.len() <= 255);
            let expected = Meaning::Temporary(Temporary {
                name: long.clone(),
                purpose,
            });
            assert_eq!(meaning(made.as_bytes()), expected);
        }
    }
}
