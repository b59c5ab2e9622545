//! The words of AUFS, but for those about branches, and mergerfs's about free space.
//!
//! Accepted, accepted with a warning or refused as AUFS 6 does it. Where its manual
//! and its code disagree, the code is followed.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::error::OptionError;
use super::policy::{self, CopyUpPolicy, CreatePolicy, MAX_SECONDS};
use super::settings::{Compat, DirectAccess, FreeSpace, InodeTable, Opacity, Settings};
use super::word::Word;
use super::{MountOptions, parse_with};

/// Reads the options of `mount -t aufs` or `plywood mount`.
pub fn parse(options: &OsStr) -> Result<MountOptions, OptionError> {
    parse_with(options, Compat::Plywood)
}

/// Something to do once, rather than to keep in mind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `trunc_xino=PATH`: compacts the inode table of the branch at a path.
    CompactInodeTable(PathBuf),
    /// `itrunc_xino=INDEX`: the same by position.
    CompactInodeTableAt(usize),
    /// `list_plink`: logs the pseudo-links.
    ListPseudoLinks,
}

/// The words that [`apply`] knows.
pub(super) const WORDS: &[&str] = &[
    "xino",
    "noxino",
    "trunc_xino",
    "notrunc_xino",
    "itrunc_xino",
    "trunc_xib",
    "notrunc_xib",
    "plink",
    "noplink",
    "list_plink",
    "clean_plink",
    "udba",
    "diropq",
    "warn_perm",
    "nowarn_perm",
    "dirperm1",
    "nodirperm1",
    "dio",
    "nodio",
    "dirren",
    "nodirren",
    "fhsm_sec",
    "shwh",
    "noshwh",
    "verbose",
    "v",
    "noverbose",
    "quiet",
    "q",
    "silent",
    "sum",
    "nosum",
    "wsum",
    "create",
    "create_policy",
    "cpup",
    "copyup",
    "copyup_policy",
    "category.create",
    "moveonenospc",
    "minfreespace",
    "dirwh",
    "rdcache",
    "rdblk",
    "rdhash",
    "acl",
    "noacl",
    "si",
    "nodlgt",
    "delete",
    "imap",
];

/// Takes one word of AUFS's; answers whether it was one.
pub(super) fn apply(
    word: &Word<'_>,
    settings: &mut Settings,
    requests: &mut Vec<Request>,
    warnings: &mut Vec<String>,
) -> Result<bool, OptionError> {
    Ok(switch(word, settings)?
        || choice(word, settings)?
        || number(word, settings)?
        || inode_table(word, settings, requests)?
        || historical(word, settings, requests, warnings)?)
}

fn switch(word: &Word<'_>, settings: &mut Settings) -> Result<bool, OptionError> {
    let (flag, on) = match word.key {
        b"plink" => (&mut settings.pseudo_links, true),
        b"noplink" => (&mut settings.pseudo_links, false),
        b"trunc_xino" if !word.has_value() => (&mut settings.compact_inode_table, true),
        b"notrunc_xino" => (&mut settings.compact_inode_table, false),
        b"trunc_xib" => (&mut settings.compact_inode_bitmap, true),
        b"notrunc_xib" => (&mut settings.compact_inode_bitmap, false),
        b"warn_perm" => (&mut settings.warn_permissions, true),
        b"nowarn_perm" => (&mut settings.warn_permissions, false),
        b"dirperm1" => (&mut settings.topmost_permissions, true),
        b"nodirperm1" => (&mut settings.topmost_permissions, false),
        b"dio" => (&mut settings.direct_io, true),
        b"nodio" => (&mut settings.direct_io, false),
        b"dirren" => (&mut settings.rename_directories, true),
        b"nodirren" => (&mut settings.rename_directories, false),
        b"shwh" => (&mut settings.show_whiteouts, true),
        b"noshwh" => (&mut settings.show_whiteouts, false),
        b"verbose" | b"v" => (&mut settings.verbose, true),
        b"noverbose" | b"quiet" | b"q" | b"silent" => (&mut settings.verbose, false),
        b"acl" => (&mut settings.acl, true),
        b"noacl" => (&mut settings.acl, false),
        _ => return Ok(false),
    };
    word.switch()?;
    *flag = on;
    Ok(true)
}

fn choice(word: &Word<'_>, settings: &mut Settings) -> Result<bool, OptionError> {
    match word.key {
        b"udba" => settings.direct_access = direct_access(word)?,
        b"diropq" => settings.opacity = opacity(word)?,
        b"create" | b"create_policy" => settings.create = CreatePolicy::parse(word)?,
        b"category.create" => settings.create = CreatePolicy::parse_category(word)?,
        b"moveonenospc" => settings.move_when_full = policy::move_when_full(word)?,
        b"minfreespace" => {
            return Err(
                word.refused("the policy says it: create=tdmfs:BYTES, mfsrr:BYTES or pmfsrr:BYTES")
            );
        }
        b"cpup" | b"copyup" | b"copyup_policy" => settings.copy_up = CopyUpPolicy::parse(word)?,
        b"sum" | b"nosum" => {
            word.switch()?;
            let sum = word.key == b"sum";
            settings.free_space = if sum {
                FreeSpace::Sum
            } else {
                FreeSpace::Topmost
            };
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn direct_access(word: &Word<'_>) -> Result<DirectAccess, OptionError> {
    let table = [
        ("none", DirectAccess::None),
        ("reval", DirectAccess::Revalidate),
        ("notify", DirectAccess::Notify),
        ("fsnotify", DirectAccess::Notify),
    ];
    word.choice("value", &table)
}

fn opacity(word: &Word<'_>) -> Result<Opacity, OptionError> {
    let table = [
        ("a", Opacity::Always),
        ("w", Opacity::Whiteouted),
        ("always", Opacity::Always),
        ("whiteouted", Opacity::Whiteouted),
    ];
    word.choice("value", &table)
}

/// AUFS's estimates need at least this much room for one name.
const MIN_LISTING_BLOCK: u32 = 255;

fn number(word: &Word<'_>, settings: &mut Settings) -> Result<bool, OptionError> {
    match word.key {
        b"dirwh" => settings.whiteouts_removed_at_once = word.number()?,
        b"fhsm_sec" => settings.fhsm_seconds = word.number()?,
        b"rdcache" => match word.number()? {
            seconds if seconds <= MAX_SECONDS => settings.listing_seconds = seconds,
            _ => return Err(word.bad("at most 3600 seconds")),
        },
        b"rdblk" => match number_or(word, 512)? {
            1..MIN_LISTING_BLOCK => return Err(word.bad("0, or at least 255 bytes")),
            bytes => settings.listing_block = bytes,
        },
        b"rdhash" => settings.listing_hash = number_or(word, 32)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn number_or(word: &Word<'_>, default: u32) -> Result<u32, OptionError> {
    match word.value()? {
        b"def" => Ok(default),
        _ => word.number(),
    }
}

fn inode_table(
    word: &Word<'_>,
    settings: &mut Settings,
    requests: &mut Vec<Request>,
) -> Result<bool, OptionError> {
    match word.key {
        b"xino" => settings.inode_table = InodeTable::Path(word.path()?),
        b"noxino" => {
            word.switch()?;
            settings.inode_table = InodeTable::None;
        }
        b"trunc_xino" => requests.push(Request::CompactInodeTable(word.path()?)),
        b"itrunc_xino" => requests.push(Request::CompactInodeTableAt(word.number()?)),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Words that AUFS once had, or has for its developers.
fn historical(
    word: &Word<'_>,
    settings: &mut Settings,
    requests: &mut Vec<Request>,
    warnings: &mut Vec<String>,
) -> Result<bool, OptionError> {
    match word.key {
        b"si" => drop(word.value()?),
        b"nodlgt" => word.switch()?,
        b"list_plink" => {
            word.switch()?;
            requests.push(Request::ListPseudoLinks);
        }
        b"clean_plink" => {
            word.switch()?;
            warnings.push("ignored option clean_plink: use auplink MNT flush".into());
        }
        b"wsum" => {
            word.switch()?;
            settings.free_space = FreeSpace::Topmost;
            warnings.push("ignored option wsum: it was never implemented".into());
        }
        b"delete" | b"imap" | b"debug" if word.has_value() => {
            warnings.push(format!("ignored option {}", word.shown()));
        }
        b"delete" | b"imap" => drop(word.value()?),
        _ => return Ok(false),
    }
    Ok(true)
}
