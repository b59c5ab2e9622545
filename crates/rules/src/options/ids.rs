//! Changing owners on the way through the union: `uidmapping=` and `squash_to_…`.

use super::error::OptionError;
use super::word::{Word, digits};

/// A range of ids that the union shows as another range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first id, as stored in the branches.
    pub from: u32,
    /// The id that the union shows for it.
    pub to: u32,
    /// How many ids are mapped; at least one, and none of them passes `u32::MAX`.
    pub count: u32,
}

/// How owners are shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// `uidmapping=`; empty means that users are shown as stored.
    pub users: Vec<IdRange>,
    /// `gidmapping=`; empty means that groups are shown as stored.
    pub groups: Vec<IdRange>,
    /// `squash_to_root`: everything belongs to 0:0.
    pub squash_to_root: bool,
    /// `squash_to_uid=`, stronger than `squash_to_root`.
    pub squash_to_uid: Option<u32>,
    /// `squash_to_gid=`, stronger than `squash_to_root`.
    pub squash_to_gid: Option<u32>,
}

/// Reads `from:to:count[:from:to:count]…`.
pub(super) fn parse(word: &Word<'_>) -> Result<Vec<IdRange>, OptionError> {
    let form = || word.bad("FROM:TO:COUNT, repeated");
    let mut numbers = word.value()?.split(|byte| *byte == b':').map(digits::<u32>);
    let mut ranges = Vec::new();
    while let Some(from) = numbers.next() {
        let mut number = || numbers.next().flatten().ok_or_else(form);
        let range = IdRange {
            from: from.ok_or_else(form)?,
            to: number()?,
            count: number()?,
        };
        let fits = |first: u32| first.checked_add(range.count.wrapping_sub(1)).is_some();
        if range.count == 0 || !fits(range.from) || !fits(range.to) {
            return Err(word.bad("ranges of at least one id, up to 4294967295"));
        }
        ranges.push(range);
    }
    Ok(ranges)
}
