//! What the caller asks for, whichever name and command line it came by.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rules::options::{self, BranchSpec, Compat, MountOptions, OptionError};

use crate::failure::Failure;

/// A mount that somebody asks for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What stands before `DIR`, if anything does.
    pub(crate) source: Option<OsString>,
    /// Where to mount.
    pub(crate) dir: PathBuf,
    /// All option strings, joined.
    pub(crate) options: OsString,
    /// The type behind `fuse.`.
    pub(crate) subtype: String,
    /// Whose defaults hold.
    pub(crate) compat: Compat,
    /// Serve without leaving the terminal.
    pub(crate) foreground: bool,
    /// Do everything but mount.
    pub(crate) fake: bool,
    /// Unknown options are let pass.
    pub(crate) sloppy: bool,
    /// Which warnings are told.
    pub(crate) warnings: Warnings,
}

/// Which warnings are told on success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warnings {
    /// All.
    All,
    /// Those about something that was probably meant otherwise.
    Serious,
    /// None: the caller compares what is printed.
    None,
}

impl Request {
    /// Reads the options; branches come from them or from the operand before `DIR`.
    pub(crate) fn parse(&self) -> anyhow::Result<MountOptions> {
        let mut parsed = self.parse_words()?;
        let named_by_options = !parsed.branches.is_empty() || !parsed.changes.is_empty();
        if let Some(list) = self
            .source
            .as_deref()
            .filter(|list| looks_like_branches(list))
            && !named_by_options
            && !parsed.generic.remount
        {
            parsed.branches = read_branches(list, &mut parsed.warnings)?;
        }
        Ok(parsed)
    }

    fn parse_words(&self) -> anyhow::Result<MountOptions> {
        let mut options = self.options.clone();
        loop {
            match options::parse_with(&options, self.compat) {
                Ok(parsed) => return Ok(parsed),
                Err(OptionError::Unknown { word, .. }) if self.sloppy => {
                    let Some(fewer) = without(&options, &word) else {
                        return Err(bad_option(&OptionError::Unknown {
                            word,
                            nearest: None,
                        }));
                    };
                    options = fewer;
                }
                Err(error) => return Err(bad_option(&error)),
            }
        }
    }

    /// Returns what the mount table shows as the source.
    pub(crate) fn source_name(&self, parsed: &MountOptions) -> OsString {
        // A list of branches is no name; it may be longer than the mount table shows.
        let operand = self.source.clone();
        let operand = operand.filter(|source| !looks_like_branches(source));
        let given = parsed.generic.source.clone().or(operand);
        given
            .filter(|source| !source.is_empty())
            .unwrap_or_else(|| self.subtype.clone().into())
    }
}

/// Tells whether a word of the options was written, whatever its value.
pub(crate) fn says(options: &OsStr, word: &str) -> bool {
    words(options).any(|given| given == word.as_bytes())
}

/// Tells whether a list of options gives one a value.
pub(crate) fn gives(options: &OsStr, key: &str) -> bool {
    words(options).any(|given| {
        let value = given.strip_prefix(key.as_bytes());
        value.is_some_and(|value| value.starts_with(b"="))
    })
}

fn bad_option(error: &OptionError) -> anyhow::Error {
    Failure::mount(error.to_string()).into()
}

fn read_branches(list: &OsStr, warnings: &mut Vec<String>) -> anyhow::Result<Vec<BranchSpec>> {
    options::branch::parse_list(list, warnings).map_err(|error| bad_option(&error))
}

/// Convention puts a word such as `none` or `aufs` there when the options name the branches.
fn looks_like_branches(source: &OsStr) -> bool {
    let marks = |byte: &u8| matches!(byte, b'/' | b':' | b'=');
    source.as_bytes().iter().any(marks) || std::path::Path::new(source).is_dir()
}

/// Cuts at commas that no backslash protects.
fn words(options: &OsStr) -> impl Iterator<Item = &[u8]> {
    let mut escaped = false;
    options.as_bytes().split(move |byte| {
        let protected = std::mem::take(&mut escaped);
        escaped = *byte == b'\\' && !protected;
        *byte == b',' && !protected
    })
}

fn without(options: &OsStr, unwanted: &str) -> Option<OsString> {
    let all: Vec<_> = words(options).collect();
    let kept: Vec<_> = all
        .iter()
        .filter(|word| String::from_utf8_lossy(word) != unwanted)
        .map(|word| OsStr::from_bytes(word))
        .collect();
    (kept.len() < all.len()).then(|| options::join(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_at_commas_that_are_not_protected() {
        let found: Vec<_> = words(r"br=/a\,b=rw,dirren,x\\,ro".as_ref()).collect();
        assert_eq!(found, [&br"br=/a\,b=rw"[..], b"dirren", br"x\\", b"ro"]);
        assert!(says("a,dirren".as_ref(), "dirren"));
        assert!(!says("br=dirren".as_ref(), "dirren"));
        assert!(gives("a,udba=none".as_ref(), "udba"));
        assert!(!gives("udba,br=udba=rw,udbax=1".as_ref(), "udba"));
    }

    #[test]
    fn sloppy_lets_unknown_words_pass() {
        let mut request = Request {
            source: Some("none".into()),
            dir: "/m".into(),
            options: "what,br=/a=rw,ever=1".into(),
            subtype: "aufs".into(),
            compat: Compat::Plywood,
            foreground: false,
            fake: false,
            sloppy: true,
            warnings: Warnings::None,
        };
        assert_eq!(request.parse().unwrap().branches.len(), 1);
        request.sloppy = false;
        let error = request.parse().unwrap_err().to_string();
        assert!(error.contains("unknown option \"what\""), "{error}");
    }
}
