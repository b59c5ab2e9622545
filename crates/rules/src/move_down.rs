//! Whether a file may move from its branch to one below, and to which.
//!
//! A moved file must show as it did: nothing between the two branches may have its name, and nothing may hide what is
//! below. Whoever has the file open, or knows it by another name, would lose it.

use crate::lookup::{Resolution, Seen, Sighting, resolve};
use crate::{BranchIndex, Kind, Powers};

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// The branch that is to lose the file; otherwise the one that shows it.
    pub from: Option<BranchIndex>,
    /// The branch that is to get it; otherwise the next writable one below.
    pub to: Option<BranchIndex>,
    /// The file stays where it is as well.
    pub keeps_upper: bool,
    /// What has the name on the lower branch is replaced.
    pub replaces_lower: bool,
    /// The upper branch may be one that is mounted read-only.
    pub from_read_only: bool,
    /// The lower branch may be one that is mounted read-only.
    pub to_read_only: bool,
}

/// What is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// What it is.
    pub kind: Kind,
    /// How many names it has.
    pub links: u32,
    /// Whether its names are kept together by a pseudo-link.
    pub pseudo_linked: bool,
    /// How often it is open.
    pub opens: u32,
}

/// What the directories on the way to a name are on a lower branch, and above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They are there, or can be made and will be merged.
    Free,
    /// One above is opaque.
    Opaque,
    /// One is hidden by a whiteout above.
    Whiteouted,
    /// Something else has the name of one.
    Taken,
}

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The branch that has the file.
    pub from: BranchIndex,
    /// The branch that gets it.
    pub to: BranchIndex,
}

/// Why a file stays. The first six are those that the kernel's AUFS tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A directory on the way is opaque, and hides what is below.
    Opaque,
    /// A whiteout between the branches would hide it.
    Whiteouted,
    /// Something has its name there or in between.
    Exists,
    /// It is on the lowest branch.
    Bottom,
    /// The branch that was named does not show it, or is read-only.
    NoUpper,
    /// No writable branch is below, or the one that was named is none.
    NoLower,
    /// It is no regular file.
    NotRegular,
    /// Somebody has it open, or is changing it.
    InUse,
    /// It has several names.
    HardLinked,
    /// Its names are kept together by a pseudo-link.
    PseudoLinked,
}

impl Refusal {
    /// Returns the reason as a fragment.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Opaque => "an opaque directory would hide it",
            Self::Whiteouted => "a whiteout would hide it",
            Self::Exists => "a lower branch has the name",
            Self::Bottom => "it is on the lowest branch",
            Self::NoUpper => "the upper branch does not show it or is read-only",
            Self::NoLower => "no writable branch is below",
            Self::NotRegular => "not a regular file",
            Self::InUse => "in use",
            Self::HardLinked => "it has several names",
            Self::PseudoLinked => "its names are not all on the branch yet",
        }
    }
}

/// Decides. `stack` tells what the branches may be used for, topmost first, and `way` how the directory is on a branch.
pub fn decide(
    wish: &Wish,
    subject: &Subject,
    stack: &[Powers],
    sightings: &[Sighting],
    way: impl FnOnce(BranchIndex) -> Way,
) -> Result<Move, Refusal> {
    if subject.kind != Kind::File {
        return Err(Refusal::NotRegular);
    }
    let Resolution::File(from) = resolve(sightings) else {
        return Err(Refusal::NoUpper);
    };
    if from.get() + 1 >= stack.len() {
        return Err(Refusal::Bottom);
    }
    let named = wish.from.is_none_or(|named| named == from);
    if !named || !(stack[from.get()].writable || wish.from_read_only || wish.keeps_upper) {
        return Err(Refusal::NoUpper);
    }
    let takes = |at: &usize| stack[*at].writable || wish.to_read_only;
    let to = match wish.to {
        Some(to) => Some(to.get()).filter(|at| *at > from.get() && *at < stack.len() && takes(at)),
        None => (from.get() + 1..stack.len()).find(takes),
    };
    let to = to.and_then(|at| u16::try_from(at).ok()).map(BranchIndex);
    let to = to.ok_or(Refusal::NoLower)?;
    if subject.pseudo_linked {
        return Err(Refusal::PseudoLinked);
    }
    if subject.links > 1 {
        return Err(Refusal::HardLinked);
    }
    if subject.opens > 0 {
        return Err(Refusal::InUse);
    }
    let lower = sightings
        .iter()
        .filter(|s| s.branch > from && s.branch <= to);
    for sighting in lower {
        match sighting.what {
            Seen::Whiteout if sighting.branch < to => return Err(Refusal::Whiteouted),
            Seen::Whiteout => {}
            Seen::File if sighting.branch == to && wish.replaces_lower => {}
            Seen::File | Seen::Dir | Seen::Damaged => return Err(Refusal::Exists),
        }
    }
    match way(to) {
        Way::Free => Ok(Move { from, to }),
        Way::Opaque => Err(Refusal::Opaque),
        Way::Whiteouted => Err(Refusal::Whiteouted),
        Way::Taken => Err(Refusal::Exists),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Subject = Subject {
        kind: Kind::File,
        links: 1,
        pseudo_linked: false,
        opens: 0,
    };

    /// Decides about a stack such as `Wwr`: the modes, and under them what each branch has under the name.
    fn decided(wish: Wish, subject: Subject, modes: &str, names: &str, way: Way) -> String {
        let powers = |mode| match mode {
            'w' => Powers::WRITABLE,
            _ => Powers::LAYER,
        };
        let stack: Vec<_> = modes.chars().map(powers).collect();
        let seen = |letter| match letter {
            'f' => Some(Seen::File),
            'd' => Some(Seen::Dir),
            'x' => Some(Seen::Whiteout),
            _ => None,
        };
        let sightings: Vec<_> = names
            .chars()
            .enumerate()
            .filter_map(|(at, letter)| {
                Some(Sighting {
                    branch: BranchIndex(at as u16),
                    what: seen(letter)?,
                })
            })
            .collect();
        match decide(&wish, &subject, &stack, &sightings, |_| way) {
            Ok(Move { from, to }) => format!("{} to {}", from.0, to.0),
            Err(refusal) => format!("{refusal:?}"),
        }
    }

    #[test]
    fn a_file_moves_to_the_next_writable_branch_where_it_still_shows() {
        for (modes, names, expected) in [
            ("ww", "f-", "0 to 1"),
            ("wrw", "f--", "0 to 2"),
            ("rww", "-f-", "1 to 2"),
            ("ww", "-f", "Bottom"),
            ("wr", "f-", "NoLower"),
            ("rw", "f-", "NoUpper"),
            ("ww", "--", "NoUpper"),
            ("ww", "ff", "Exists"),
            ("wrw", "fd-", "Exists"),
            ("wrw", "fx-", "Whiteouted"),
            ("wrw", "f-x", "0 to 2"),
        ] {
            let found = decided(Wish::default(), FILE, modes, names, Way::Free);
            assert_eq!(found, expected, "{modes} {names}");
        }
    }

    #[test]
    fn the_way_to_it_counts_as_well() {
        for (way, expected) in [
            (Way::Opaque, "Opaque"),
            (Way::Whiteouted, "Whiteouted"),
            (Way::Taken, "Exists"),
        ] {
            assert_eq!(decided(Wish::default(), FILE, "ww", "f-", way), expected);
        }
    }

    #[test]
    fn who_would_lose_the_file_keeps_it() {
        for (subject, expected) in [
            (Subject { opens: 1, ..FILE }, "InUse"),
            (Subject { links: 2, ..FILE }, "HardLinked"),
            (
                Subject {
                    pseudo_linked: true,
                    ..FILE
                },
                "PseudoLinked",
            ),
            (
                Subject {
                    kind: Kind::Dir,
                    ..FILE
                },
                "NotRegular",
            ),
            (
                Subject {
                    kind: Kind::Symlink,
                    ..FILE
                },
                "NotRegular",
            ),
        ] {
            let found = decided(Wish::default(), subject, "ww", "f-", Way::Free);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn wishes_are_granted_where_they_make_sense() {
        let wish = Wish::default();
        let branch = |at| Some(BranchIndex(at));
        for (wish, modes, names, expected) in [
            (
                Wish {
                    to: branch(2),
                    ..wish
                },
                "www",
                "f--",
                "0 to 2",
            ),
            (
                Wish {
                    to: branch(0),
                    ..wish
                },
                "www",
                "f--",
                "NoLower",
            ),
            (
                Wish {
                    to: branch(9),
                    ..wish
                },
                "www",
                "f--",
                "NoLower",
            ),
            (
                Wish {
                    from: branch(1),
                    ..wish
                },
                "www",
                "f--",
                "NoUpper",
            ),
            (
                Wish {
                    replaces_lower: true,
                    ..wish
                },
                "ww",
                "ff",
                "0 to 1",
            ),
            (
                Wish {
                    replaces_lower: true,
                    ..wish
                },
                "ww",
                "fd",
                "Exists",
            ),
            (
                Wish {
                    to_read_only: true,
                    ..wish
                },
                "wr",
                "f-",
                "0 to 1",
            ),
            (
                Wish {
                    from_read_only: true,
                    ..wish
                },
                "rw",
                "f-",
                "0 to 1",
            ),
            (
                Wish {
                    keeps_upper: true,
                    ..wish
                },
                "rw",
                "f-",
                "0 to 1",
            ),
        ] {
            let found = decided(wish, FILE, modes, names, Way::Free);
            assert_eq!(found, expected, "{wish:?}");
        }
    }
}
