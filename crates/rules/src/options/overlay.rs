//! The words of overlayfs and of fuse-overlayfs.
//!
//! Words that only tune the kernel's implementation are checked and forgotten; words
//! that ask for something we do not have are refused.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::branch::{BranchSpec, read_lower, read_one_lower};
use super::error::OptionError;
use super::ids;
use super::mode::BranchMode;
use super::settings::{Compat, Dialect, InodeTable, OverrideStat, Settings};
use super::word::Word;
use super::{MountOptions, parse_with};

/// Reads the options of a program called `fuse-overlayfs`.
pub fn parse(options: &OsStr) -> Result<MountOptions, OptionError> {
    parse_with(options, Compat::Overlay)
}

/// The words that [`apply`] knows.
pub(super) const WORDS: &[&str] = &[
    "lowerdir",
    "lowerdir+",
    "datadir+",
    "upperdir",
    "workdir",
    "uidmapping",
    "gidmapping",
    "squash_to_root",
    "squash_to_uid",
    "squash_to_gid",
    "xattr_permissions",
    "static_nlink",
    "volatile",
    "fsync",
    "redirect_dir",
    "userxattr",
    "index",
    "metacopy",
    "nfs_export",
    "xino",
    "uuid",
    "verity",
    "plugins",
    "fast_ino",
    "writeback",
    "noxattrs",
];

/// The directories of overlay's command line.
#[derive(Debug, Default)]
pub(super) struct Directories {
    lower: Vec<PathBuf>,
    upper: Option<PathBuf>,
    pub(super) work: Option<PathBuf>,
}

impl Directories {
    /// Tells whether a word names one of the directories.
    pub(super) fn named_by(key: &[u8]) -> bool {
        matches!(key, b"lowerdir" | b"lowerdir+" | b"upperdir" | b"workdir")
    }

    /// Tells whether any was named.
    pub(super) fn any(&self) -> bool {
        !self.lower.is_empty() || self.upper.is_some() || self.work.is_some()
    }

    /// Tells whether there is nothing to write to.
    pub(super) fn is_read_only(&self) -> bool {
        self.upper.is_none() && !self.lower.is_empty()
    }

    /// Returns the branches, topmost first. Overlay's lower whiteouts always count.
    pub(super) fn into_branches(self) -> Result<Vec<BranchSpec>, OptionError> {
        if let Some(upper) = self.upper.as_ref().filter(|_| self.lower.is_empty()) {
            return Err(OptionError::Refused {
                word: format!("upperdir={}", upper.display()),
                reason: "needs lowerdir= as well",
            });
        }
        let branch = |path, mode| BranchSpec {
            path,
            mode: Some(mode),
        };
        let upper = self
            .upper
            .into_iter()
            .map(|path| branch(path, BranchMode::RW));
        let lower = self
            .lower
            .into_iter()
            .map(|path| branch(path, BranchMode::RO_WH));
        Ok(upper.chain(lower).collect())
    }
}

/// Takes one word of overlay's; answers whether it was one.
pub(super) fn apply(
    word: &Word<'_>,
    dialect: Dialect,
    directories: &mut Directories,
    settings: &mut Settings,
) -> Result<bool, OptionError> {
    Ok(directory(word, directories)?
        || owner(word, settings)?
        || behaviour(word, settings)?
        || (dialect == Dialect::Overlay && inode_numbers(word, settings)?)
        || without_effect(word)?)
}

fn directory(word: &Word<'_>, directories: &mut Directories) -> Result<bool, OptionError> {
    match word.key {
        b"lowerdir" => directories.lower.append(&mut read_lower(word)?),
        b"lowerdir+" => directories.lower.push(read_one_lower(word)?),
        b"upperdir" => directories.upper = Some(word.path()?),
        b"workdir" => directories.work = Some(word.path()?),
        b"datadir+" => return Err(word.refused("data-only layers are not supported")),
        _ => return Ok(false),
    }
    Ok(true)
}

fn owner(word: &Word<'_>, settings: &mut Settings) -> Result<bool, OptionError> {
    let owners = &mut settings.owners;
    match word.key {
        b"uidmapping" => owners.users = ids::parse(word)?,
        b"gidmapping" => owners.groups = ids::parse(word)?,
        b"squash_to_uid" => owners.squash_to_uid = Some(word.number()?),
        b"squash_to_gid" => owners.squash_to_gid = Some(word.number()?),
        b"squash_to_root" => {
            word.switch()?;
            owners.squash_to_root = true;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn behaviour(word: &Word<'_>, settings: &mut Settings) -> Result<bool, OptionError> {
    match word.key {
        b"xattr_permissions" => settings.override_stat = override_stat(word)?,
        b"fsync" => settings.volatile = !word.one_zero()?,
        b"redirect_dir" => settings.rename_directories = redirects(word)?,
        b"volatile" | b"userxattr" | b"static_nlink" => {
            word.switch()?;
            match word.key {
                b"volatile" => settings.volatile = true,
                b"userxattr" => settings.user_xattr = true,
                _ => settings.static_link_count = true,
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn override_stat(word: &Word<'_>) -> Result<OverrideStat, OptionError> {
    let table = [
        ("0", OverrideStat::None),
        ("1", OverrideStat::Privileged),
        ("2", OverrideStat::User),
    ];
    word.choice("value", &table)
}

fn redirects(word: &Word<'_>) -> Result<bool, OptionError> {
    word.choice(
        "value",
        &[
            ("on", true),
            ("off", false),
            ("follow", false),
            ("nofollow", false),
        ],
    )
}

/// In the other dialect `xino=` takes a path.
fn inode_numbers(word: &Word<'_>, settings: &mut Settings) -> Result<bool, OptionError> {
    if word.key != b"xino" {
        return Ok(false);
    }
    let on = word.choice("value", &[("on", true), ("auto", true), ("off", false)])?;
    settings.inode_table = if on {
        InodeTable::Default
    } else {
        InodeTable::None
    };
    Ok(true)
}

fn without_effect(word: &Word<'_>) -> Result<bool, OptionError> {
    match word.key {
        b"index" | b"metacopy" | b"nfs_export" => drop(word.on_off()?),
        b"fast_ino" | b"writeback" | b"noxattrs" => drop(word.one_zero()?),
        b"uuid" => drop(word.value()?),
        b"verity" if word.value()? == b"off" => {}
        b"verity" => return Err(word.refused("fs-verity of lower files is not checked")),
        b"plugins" => return Err(word.refused("plugins of fuse-overlayfs are not supported")),
        _ => return Ok(false),
    }
    Ok(true)
}
