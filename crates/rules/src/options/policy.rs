//! The names of the policies that pick a writable branch: `create=` and `cpup=`.
//!
//! Only the grammar is here. Seconds are kept as given, so that a policy prints as
//! it was written.

use std::fmt;

use super::error::OptionError;
use super::word::{Word, digits};

/// Where a new entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CreatePolicy {
    /// `tdp`: the topmost branch that has the parent directory, or a writable one above.
    #[default]
    TopDownParent,
    /// `rr`: the writable branches in turn.
    RoundRobin,
    /// `mfs[:SEC]`: the branch with the most free space.
    MostFreeSpace {
        /// How long a measurement holds.
        seconds: Option<u32>,
    },
    /// `mfsrr:LOW[:SEC]`: `mfs`, and `rr` once less than LOW bytes are free.
    MostFreeSpaceRoundRobin(Watermark),
    /// `tdmfs:LOW[:SEC]`: the topmost with more than LOW bytes free, else `mfs`.
    TopDownMostFreeSpace(Watermark),
    /// `pmfs[:SEC]`: of the branches that have the parent, that with the most free space.
    ParentMostFreeSpace {
        /// How long a measurement holds.
        seconds: Option<u32>,
    },
    /// `pmfsrr:LOW[:SEC]`: `pmfs`, and `mfsrr` once less than LOW bytes are free.
    ParentMostFreeSpaceRoundRobin(Watermark),
}

/// A limit of free space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// The limit in bytes.
    pub bytes: u64,
    /// How long a measurement holds.
    pub seconds: Option<u32>,
}

/// Where an existing entry is copied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyUpPolicy {
    /// `tdp`: the topmost writable branch that has the parent directory.
    #[default]
    TopDownParent,
    /// `bup`: the nearest writable branch above that has the parent directory.
    BottomUpParent,
    /// `bu`: the nearest writable branch above.
    BottomUp,
}

/// How long a measurement of free space holds when nothing is said.
pub const DEFAULT_MEASUREMENT_SECONDS: u32 = 30;

/// The longest that AUFS lets a measurement or a listing hold.
pub(super) const MAX_SECONDS: u32 = 3600;

const CREATE_POLICIES: &[&str] = &["tdp", "rr", "mfs", "mfsrr", "tdmfs", "pmfs", "pmfsrr"];

impl CreatePolicy {
    pub(super) fn parse(word: &Word<'_>) -> Result<Self, OptionError> {
        let value = word.value()?;
        let mut parts = value.split(|byte| *byte == b':');
        let name = parts.next().unwrap_or_default();
        let arguments: Vec<&[u8]> = parts.take(3).collect();
        let plain = |policy| match arguments[..] {
            [] => Ok(policy),
            _ => Err(word.bad("a policy without parameters")),
        };
        match name {
            b"tdp" | b"top-down-parent" => plain(Self::TopDownParent),
            b"rr" | b"round-robin" => plain(Self::RoundRobin),
            b"mfs" | b"most-free-space" => Ok(Self::MostFreeSpace {
                seconds: read_seconds(word, "mfs[:SECONDS]", &arguments)?,
            }),
            b"pmfs" => Ok(Self::ParentMostFreeSpace {
                seconds: read_seconds(word, "pmfs[:SECONDS]", &arguments)?,
            }),
            b"mfsrr" => read_watermark(word, "mfsrr:BYTES[:SECONDS]", &arguments)
                .map(Self::MostFreeSpaceRoundRobin),
            b"tdmfs" => read_watermark(word, "tdmfs:BYTES[:SECONDS]", &arguments)
                .map(Self::TopDownMostFreeSpace),
            b"pmfsrr" => read_watermark(word, "pmfsrr:BYTES[:SECONDS]", &arguments)
                .map(Self::ParentMostFreeSpaceRoundRobin),
            _ => match Self::of_mergerfs(word, name) {
                Some(policy) => policy.and_then(plain),
                None => Err(OptionError::NoSuchChoice {
                    word: word.shown(),
                    what: "policy",
                    known: CREATE_POLICIES.to_vec(),
                }),
            },
        }
    }

    /// Reads `category.create=`, which knows mergerfs's names only.
    pub(super) fn parse_category(word: &Word<'_>) -> Result<Self, OptionError> {
        let name = word.value()?;
        if name == b"mfs" {
            return Ok(Self::MostFreeSpace {
                seconds: MEASURED_ANEW,
            });
        }
        Self::of_mergerfs(word, name).unwrap_or_else(|| {
            Err(OptionError::NoSuchChoice {
                word: word.shown(),
                what: "policy",
                known: vec!["mfs", "epmfs"],
            })
        })
    }

    /// Reads mergerfs's name of a policy, `None` if it is none. Those that mean the same here are taken, the others are
    /// refused with the name of what comes nearest.
    fn of_mergerfs(word: &Word<'_>, name: &[u8]) -> Option<Result<Self, OptionError>> {
        let hint = match name {
            b"epmfs" => {
                return Some(Ok(Self::ParentMostFreeSpace {
                    seconds: MEASURED_ANEW,
                }));
            }
            b"epff" | b"newest" => "a policy of mergerfs; the nearest here is tdp",
            b"ff" | b"lfs" | b"lus" | b"eplfs" | b"eplus" => {
                "a policy of mergerfs; the nearest here is tdmfs:BYTES"
            }
            b"rand" | b"eprand" | b"all" | b"epall" => {
                "a policy of mergerfs; the nearest here is rr"
            }
            b"pfrd" => "a policy of mergerfs; the nearest here is mfs",
            b"eppfrd" => "a policy of mergerfs; the nearest here is pmfs",
            b"msplfs" | b"msplus" | b"mspmfs" | b"msppfrd" => {
                "a policy of mergerfs; the nearest here is pmfsrr:BYTES"
            }
            b"erofs" => "a policy of mergerfs; make the branches ro instead",
            _ => return None,
        };
        Some(Err(word.refused(hint)))
    }
}

/// mergerfs measures for every entry unless it is told otherwise.
const MEASURED_ANEW: Option<u32> = Some(0);

/// Reads `moveonenospc`, whose only policy here is the one that its meaning needs.
pub(super) fn move_when_full(word: &Word<'_>) -> Result<bool, OptionError> {
    if !word.has_value() {
        return Ok(true);
    }
    match word.value()? {
        b"true" | b"yes" | b"on" | b"1" | b"mfs" => Ok(true),
        b"false" | b"no" | b"off" | b"0" => Ok(false),
        _ => {
            Err(word.bad("true, false or mfs: a file moves to the branch with the most free space"))
        }
    }
}

fn read_seconds(
    word: &Word<'_>,
    form: &'static str,
    arguments: &[&[u8]],
) -> Result<Option<u32>, OptionError> {
    match arguments {
        [] => Ok(None),
        [seconds] => match digits(seconds) {
            Some(seconds) if seconds <= MAX_SECONDS => Ok(Some(seconds)),
            Some(_) => Err(word.bad("at most 3600 seconds")),
            None => Err(word.bad(form)),
        },
        _ => Err(word.bad(form)),
    }
}

fn read_watermark(
    word: &Word<'_>,
    form: &'static str,
    arguments: &[&[u8]],
) -> Result<Watermark, OptionError> {
    let (low, rest) = arguments.split_first().ok_or_else(|| word.bad(form))?;
    let bytes = digits(low).ok_or_else(|| word.bad(form))?;
    Ok(Watermark {
        bytes,
        seconds: read_seconds(word, form, rest)?,
    })
}

impl CopyUpPolicy {
    pub(super) fn parse(word: &Word<'_>) -> Result<Self, OptionError> {
        word.choice(
            "policy",
            &[
                ("tdp", Self::TopDownParent),
                ("bup", Self::BottomUpParent),
                ("bu", Self::BottomUp),
                ("top-down-parent", Self::TopDownParent),
                ("bottom-up-parent", Self::BottomUpParent),
                ("bottom-up", Self::BottomUp),
            ],
        )
    }
}

impl fmt::Display for CreatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes, seconds) = match self {
            Self::TopDownParent => ("tdp", None, None),
            Self::RoundRobin => ("rr", None, None),
            Self::MostFreeSpace { seconds } => ("mfs", None, *seconds),
            Self::ParentMostFreeSpace { seconds } => ("pmfs", None, *seconds),
            Self::MostFreeSpaceRoundRobin(low) => ("mfsrr", Some(low.bytes), low.seconds),
            Self::TopDownMostFreeSpace(low) => ("tdmfs", Some(low.bytes), low.seconds),
            Self::ParentMostFreeSpaceRoundRobin(low) => ("pmfsrr", Some(low.bytes), low.seconds),
        };
        f.write_str(name)?;
        bytes.map_or(Ok(()), |bytes| write!(f, ":{bytes}"))?;
        seconds.map_or(Ok(()), |seconds| write!(f, ":{seconds}"))
    }
}

impl fmt::Display for CopyUpPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TopDownParent => "tdp",
            Self::BottomUpParent => "bup",
            Self::BottomUp => "bu",
        })
    }
}
