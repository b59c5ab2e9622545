//! The option strings of mount(8), AUFS, overlayfs and fuse-overlayfs.
//!
//! One grammar holds all words, so that `br=` and `lowerdir=` command lines work
//! unchanged under any name. What is read is plain data: no path is looked at. The
//! cost is linear in the length of the string, and there is no limit to it.
//!
//! ```
//! use rules::options::{self, Dialect};
//! let aufs = options::aufs::parse("br=/top:/low=ro+wh,noplink,nosuid".as_ref())?;
//! assert_eq!(aufs.branches.len(), 2);
//! assert!(!aufs.settings.pseudo_links && aufs.generic.no_suid);
//! let overlay = options::aufs::parse("lowerdir=/low,upperdir=/up,workdir=/work".as_ref())?;
//! assert_eq!(overlay.dialect, Dialect::Overlay);
//! # Ok::<(), options::OptionError>(())
//! ```

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub mod aufs;
pub mod branch;
mod error;
pub mod generic;
pub mod ids;
mod mode;
pub mod overlay;
pub mod policy;
pub mod render;
mod settings;
mod suggest;
mod word;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod wild;

pub use aufs::Request;
pub use branch::{BranchChange, BranchSpec};
pub use error::OptionError;
pub use generic::{AccessTimes, Generic, Timeouts};
pub use ids::{IdRange, Owners};
pub use mode::{BranchMode, CopyUpOnOpen, Permission, XattrClasses};
pub use policy::{CopyUpPolicy, CreatePolicy, Watermark};
pub use settings::{
    Compat, Dialect, DirectAccess, FreeSpace, InodeTable, Opacity, OverrideStat, Settings,
};

use overlay::Directories;
use word::{Word, words};

/// Everything that the options of one mount or remount say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// How whiteouts are written.
    pub dialect: Dialect,
    /// The branches, topmost first; none when the options name none.
    pub branches: Vec<BranchSpec>,
    /// Changes to make to the branches, in this order; at a mount, after the branches.
    pub changes: Vec<BranchChange>,
    /// Overlay's `workdir=`.
    pub work: Option<PathBuf>,
    /// Things to do once.
    pub requests: Vec<Request>,
    /// How the union behaves.
    pub settings: Settings,
    /// What the mount itself is given.
    pub generic: Generic,
    /// What was accepted and should be told to the user, a fragment each.
    pub warnings: Vec<String>,
}

/// Joins the strings of several `-o` into one.
pub fn join<'a>(strings: impl IntoIterator<Item = &'a OsStr>) -> OsString {
    strings
        .into_iter()
        .collect::<Vec<_>>()
        .join(OsStr::new(","))
}

/// Reads an option string, with `base` for whose defaults hold if the options do not say.
pub fn parse_with(options: &OsStr, base: Compat) -> Result<MountOptions, OptionError> {
    let (compat, dialect) = find_compat(options.as_bytes(), base)?;
    parse_from(options.as_bytes(), dialect, Settings::new(compat, dialect))
}

/// Reads the options of a remount: whatever they do not say stays as it is. `compat=` says nothing new then.
pub fn parse_remount(
    options: &OsStr,
    dialect: Dialect,
    settings: &Settings,
) -> Result<MountOptions, OptionError> {
    parse_from(options.as_bytes(), dialect, settings.clone())
}

fn parse_from(
    options: &[u8],
    dialect: Dialect,
    settings: Settings,
) -> Result<MountOptions, OptionError> {
    let mut parsed = MountOptions {
        dialect,
        branches: Vec::new(),
        changes: Vec::new(),
        work: None,
        requests: Vec::new(),
        settings,
        generic: Generic::default(),
        warnings: Vec::new(),
    };
    let mut directories = Directories::default();
    for word in words(options) {
        if !parsed.take(&word, &mut directories)? {
            return Err(unknown(&word));
        }
    }
    parsed.finish(directories)
}

/// Finds out whose defaults hold, before any word is applied to them.
///
/// An explicit `compat=` decides alone. Overlay's words for directories make the
/// mount overlay's otherwise.
fn find_compat(options: &[u8], base: Compat) -> Result<(Compat, Dialect), OptionError> {
    let mut explicit = None;
    let mut overlay_words = false;
    for word in words(options) {
        overlay_words |= Directories::named_by(word.key);
        if word.key == b"compat" {
            explicit = Some(read_compat(&word)?);
        }
    }
    let overlay = match explicit {
        None => overlay_words || base == Compat::Overlay,
        Some(Compat::Plywood) => overlay_words,
        Some(compat) => compat == Compat::Overlay,
    };
    let compat = explicit.unwrap_or(if overlay { Compat::Overlay } else { base });
    Ok((
        compat,
        if overlay {
            Dialect::Overlay
        } else {
            Dialect::Aufs
        },
    ))
}

fn read_compat(word: &Word<'_>) -> Result<Compat, OptionError> {
    let table = [
        ("aufs", Compat::Aufs),
        ("overlay", Compat::Overlay),
        ("plywood", Compat::Plywood),
    ];
    word.choice("value", &table)
}

impl MountOptions {
    fn take(
        &mut self,
        word: &Word<'_>,
        directories: &mut Directories,
    ) -> Result<bool, OptionError> {
        let Self {
            branches,
            changes,
            requests,
            settings,
            generic,
            warnings,
            ..
        } = self;
        if word.key == b"chain_index" {
            settings.chain_index = Some(word.path()?);
            return Ok(true);
        }
        Ok(word.key == b"compat"
            || branch::apply(word, branches, changes, warnings)?
            || overlay::apply(word, self.dialect, directories, settings)?
            || aufs::apply(word, settings, requests, warnings)?
            || generic::apply(word, generic)?)
    }

    fn finish(mut self, mut directories: Directories) -> Result<Self, OptionError> {
        if directories.any() {
            if !self.branches.is_empty() || !self.changes.is_empty() {
                return Err(OptionError::Mixed);
            }
            self.work = directories.work.take();
            if directories.is_read_only() {
                self.generic.read_only = true;
                if self.work.take().is_some() {
                    self.warnings
                        .push("ignored option workdir: there is no upperdir".into());
                }
            }
            self.branches = directories.into_branches()?;
        }
        if self.settings.show_whiteouts && !self.generic.read_only {
            self.warnings.push("shwh should be used with ro".into());
        }
        Ok(self)
    }
}

/// Our own words.
const WORDS: &[&str] = &["compat", "chain_index"];

fn unknown(word: &Word<'_>) -> OptionError {
    let known = [
        WORDS,
        branch::WORDS,
        aufs::WORDS,
        overlay::WORDS,
        generic::WORDS,
        generic::IGNORED,
    ];
    OptionError::Unknown {
        word: word.shown(),
        nearest: suggest::nearest(word.key, known.into_iter().flatten()),
    }
}
