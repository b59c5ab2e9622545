//! Who owns what: owners on disk and owners as the mount shows them.
//!
//! Without ranges every id is itself.

use rules::{Attr, Changes, Errno, Identity};

/// What stands for an owner that no range covers.
const OVERFLOW: u32 = 65534;

/// Ids that follow each other on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first id as the mount shows it.
    pub inside: u32,
    /// The first id as it is on disk.
    pub outside: u32,
    /// How many follow.
    pub count: u32,
}

/// One id for all, in place of ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Squash {
    /// The id that everything shows, whatever is on disk.
    pub shown: u32,
    /// The id on disk of what is made or changed: the same, unless the server may not act for it.
    pub stored: u32,
}

/// One kind of id, users or groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapping {
    /// The ranges; none: every id is itself.
    pub ranges: Vec<Range>,
    /// One id for all; the ranges say nothing then.
    pub squash: Option<Squash>,
}

/// How users and groups of the mount and of the disk belong together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap {
    /// Users.
    pub uid: Mapping,
    /// Groups.
    pub gid: Mapping,
}

impl Mapping {
    /// Returns the id that the mount shows for one on disk.
    pub fn shown(&self, outside: u32) -> u32 {
        if let Some(squash) = self.squash {
            return squash.shown;
        }
        if self.ranges.is_empty() {
            return outside;
        }
        let shown = self.ranges.iter().find_map(|range| {
            let distance = outside.checked_sub(range.outside)?;
            (distance < range.count).then(|| range.inside.wrapping_add(distance))
        });
        shown.unwrap_or(OVERFLOW)
    }

    /// Returns the id on disk for one of the mount, or `None` when no range covers it.
    pub fn stored(&self, inside: u32) -> Option<u32> {
        if let Some(squash) = self.squash {
            return Some(squash.stored);
        }
        if self.ranges.is_empty() {
            return Some(inside);
        }
        self.ranges.iter().find_map(|range| {
            let distance = inside.checked_sub(range.inside)?;
            (distance < range.count).then(|| range.outside.wrapping_add(distance))
        })
    }
}

impl IdMap {
    /// Returns attributes as the mount shows them.
    pub fn shown(&self, attr: &Attr) -> Attr {
        Attr {
            uid: self.uid.shown(attr.uid),
            gid: self.gid.shown(attr.gid),
            ..*attr
        }
    }

    /// Returns the owner on disk of what a caller makes; `EOVERFLOW` when there is none.
    pub fn owner(&self, uid: u32, gid: u32) -> Result<Identity, Errno> {
        let uid = self.uid.stored(uid).ok_or(Errno::OVERFLOW)?;
        let gid = self.gid.stored(gid).ok_or(Errno::OVERFLOW)?;
        Ok(Identity { uid, gid })
    }

    /// Returns changes with owners as they are on disk; `EINVAL` when there is none.
    pub fn stored(&self, changes: &Changes) -> Result<Changes, Errno> {
        let stored = |mapping: &Mapping, id: Option<u32>| {
            id.map(|id| mapping.stored(id).ok_or(Errno::INVAL))
                .transpose()
        };
        Ok(Changes {
            uid: stored(&self.uid, changes.uid)?,
            gid: stored(&self.gid, changes.gid)?,
            ..*changes
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_there_and_back() {
        let ranges = vec![
            Range {
                inside: 0,
                outside: 1000,
                count: 1,
            },
            Range {
                inside: 1,
                outside: 100_000,
                count: 10,
            },
        ];
        let mapping = Mapping {
            ranges,
            squash: None,
        };
        for (inside, outside) in [(0, 1000), (1, 100_000), (10, 100_009)] {
            assert_eq!(mapping.shown(outside), inside);
            assert_eq!(mapping.stored(inside), Some(outside));
        }
        assert_eq!(mapping.shown(0), OVERFLOW);
        assert_eq!(mapping.shown(100_010), OVERFLOW);
        assert_eq!(mapping.stored(11), None);
    }

    #[test]
    fn without_ranges_every_id_is_itself() {
        let mapping = Mapping::default();
        assert_eq!(mapping.shown(u32::MAX), u32::MAX);
        assert_eq!(mapping.stored(5), Some(5));
    }

    #[test]
    fn a_squashed_owner_is_shown_and_stored_by_no_range() {
        let mapping = Mapping {
            ranges: vec![Range {
                inside: 0,
                outside: 100_000,
                count: 10,
            }],
            squash: Some(Squash {
                shown: 7,
                stored: 8,
            }),
        };
        for id in [0, 5, 100_003, u32::MAX] {
            assert_eq!(mapping.shown(id), 7);
            assert_eq!(mapping.stored(id), Some(8));
        }
    }

    #[test]
    fn what_a_caller_makes_belongs_to_the_squashed_owner() {
        let squash = |id: Option<u32>| Mapping {
            ranges: Vec::new(),
            squash: id.map(|id| Squash {
                shown: id,
                stored: id,
            }),
        };
        let ids = IdMap {
            uid: squash(Some(3)),
            gid: squash(None),
        };
        assert_eq!(ids.owner(1000, 1001), Ok(Identity { uid: 3, gid: 1001 }));
        let changes = Changes {
            uid: Some(1000),
            gid: Some(1001),
            ..Changes::default()
        };
        let stored = ids.stored(&changes).unwrap();
        assert_eq!((stored.uid, stored.gid), (Some(3), Some(1001)));
        assert_eq!(ids.stored(&Changes::default()), Ok(Changes::default()));
    }
}
