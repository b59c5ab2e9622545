//! Naming branches, at mount and later: `br=A=rw:B`, `add:1:C=ro`, `del:D`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::error::OptionError;
use super::mode::BranchMode;
use super::word::{Word, digits, find, find_last, path, printable, split};

/// A branch as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchSpec {
    /// The directory.
    pub path: PathBuf,
    /// The mode, or `None` where [`BranchMode::default_for`] decides.
    pub mode: Option<BranchMode>,
}

/// One step of changing the list of branches, to be taken in the order written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BranchChange {
    /// `add`, `ins`: puts a branch at a position; those from there on move down.
    Insert {
        /// The position, not yet compared with the number of branches.
        index: usize,
        /// The branch.
        branch: BranchSpec,
    },
    /// `append`: puts a branch below all others.
    Append(BranchSpec),
    /// `prepend`: puts a branch above all others.
    Prepend(BranchSpec),
    /// `del`: takes a branch out.
    Delete(PathBuf),
    /// `mod`: gives a branch another mode.
    SetMode {
        /// The branch.
        path: PathBuf,
        /// Its new mode.
        mode: BranchMode,
    },
}

impl BranchChange {
    /// Returns the index to hand to [`BranchMode::default_for`] for an added branch.
    ///
    /// An appended branch is never writable by default, not even as the first one.
    pub fn index_for_default(&self) -> usize {
        match self {
            Self::Insert { index, .. } => *index,
            Self::Prepend(_) => 0,
            Self::Append(_) | Self::Delete(_) | Self::SetMode { .. } => 1,
        }
    }
}

/// Reads `A[=perm][:B[=perm]]…`. One colon at the end is forgiven, as AUFS does.
pub fn parse_list(
    list: &OsStr,
    warnings: &mut Vec<String>,
) -> Result<Vec<BranchSpec>, OptionError> {
    read_list(list.as_bytes(), warnings)
}

fn read_list(list: &[u8], warnings: &mut Vec<String>) -> Result<Vec<BranchSpec>, OptionError> {
    let mut branches = Vec::new();
    let mut pieces = split(list, b':').peekable();
    while let Some(piece) = pieces.next() {
        if piece.is_empty() && pieces.peek().is_none() && !branches.is_empty() {
            break;
        }
        branches.push(BranchSpec::parse(piece, warnings)?);
    }
    Ok(branches)
}

impl BranchSpec {
    /// Reads `PATH[=perm]`; nothing after the `=` means `ro`.
    fn parse(piece: &[u8], warnings: &mut Vec<String>) -> Result<Self, OptionError> {
        let (name, mode) = cut_mode(piece);
        let path = branch_path(name, piece)?;
        Ok(Self {
            path,
            mode: mode.map(|mode| BranchMode::parse(mode, warnings)),
        })
    }
}

/// Cuts at the last unprotected `=`, unless a slash behind it shows that it is part of the path.
fn cut_mode(piece: &[u8]) -> (&[u8], Option<&[u8]>) {
    match find_last(piece, b'=') {
        Some(at) if !piece[at..].contains(&b'/') => (&piece[..at], Some(&piece[at + 1..])),
        _ => (piece, None),
    }
}

fn branch_path(name: &[u8], shown: &[u8]) -> Result<PathBuf, OptionError> {
    path(name).map_err(|reason| OptionError::Branch {
        branch: printable(shown),
        reason,
    })
}

/// The words that [`apply`] knows.
pub(super) const WORDS: &[&str] = &[
    "br", "dirs", "add", "ins", "append", "prepend", "del", "mod",
];

/// Takes one word about branches; answers whether it was one.
pub(super) fn apply(
    word: &Word<'_>,
    branches: &mut Vec<BranchSpec>,
    changes: &mut Vec<BranchChange>,
    warnings: &mut Vec<String>,
) -> Result<bool, OptionError> {
    match word.key {
        b"br" | b"dirs" => branches.append(&mut read_list(word.value()?, warnings)?),
        b"add" | b"ins" => changes.push(read_insert(word, warnings)?),
        b"append" => {
            changes.push(BranchChange::Append(BranchSpec::parse(
                word.value()?,
                warnings,
            )?));
        }
        b"prepend" => {
            changes.push(BranchChange::Prepend(BranchSpec::parse(
                word.value()?,
                warnings,
            )?));
        }
        b"del" => {
            let value = word.value()?;
            changes.push(BranchChange::Delete(branch_path(value, value)?));
        }
        b"mod" => changes.push(read_set_mode(word, warnings)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn read_insert(word: &Word<'_>, warnings: &mut Vec<String>) -> Result<BranchChange, OptionError> {
    let value = word.value()?;
    let form = || word.bad("INDEX:PATH[=permission]");
    let at = find(value, b':').ok_or_else(form)?;
    let index = digits(&value[..at]).ok_or_else(form)?;
    let branch = BranchSpec::parse(&value[at + 1..], warnings)?;
    Ok(BranchChange::Insert { index, branch })
}

fn read_set_mode(word: &Word<'_>, warnings: &mut Vec<String>) -> Result<BranchChange, OptionError> {
    let value = word.value()?;
    let (name, Some(mode)) = cut_mode(value) else {
        return Err(word.bad("PATH=permission"));
    };
    let path = branch_path(name, value)?;
    Ok(BranchChange::SetMode {
        path,
        mode: BranchMode::parse(mode, warnings),
    })
}

/// Reads `lowerdir=A:B:C`, topmost first.
pub(super) fn read_lower(word: &Word<'_>) -> Result<Vec<PathBuf>, OptionError> {
    let value = word.value()?;
    let mut pieces = split(value, b':').peekable();
    let mut paths = Vec::new();
    while let Some(piece) = pieces.next() {
        if piece.is_empty() && !paths.is_empty() && pieces.peek().is_some() {
            return Err(word.refused("data-only layers (\"::\") are not supported"));
        }
        paths.push(path(piece).map_err(|reason| OptionError::Branch {
            branch: printable(&[b"lowerdir=", value].concat()),
            reason,
        })?);
    }
    Ok(paths)
}

/// Reads the single path of `lowerdir+=A`, where a colon is a colon.
pub(super) fn read_one_lower(word: &Word<'_>) -> Result<PathBuf, OptionError> {
    let value = word.value()?;
    branch_path(value, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Vec<(String, String)>, String> {
        let mut warnings = Vec::new();
        let branches = parse_list(OsStr::new(text), &mut warnings).map_err(|e| e.to_string())?;
        let shown = |spec: BranchSpec| {
            let mode = spec.mode.map_or("-".into(), |mode| mode.to_string());
            (spec.path.to_string_lossy().into_owned(), mode)
        };
        Ok(branches.into_iter().map(shown).collect())
    }

    #[test]
    fn a_list_names_paths_with_and_without_modes() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("/a", &[("/a", "-")]),
            ("/a=rw:/b", &[("/a", "rw"), ("/b", "-")]),
            ("/a=:/b=ro+wh:", &[("/a", "ro"), ("/b", "ro+wh")]),
            (r"/a\:b\,c\\=rw", &[(r"/a:b,c\", "rw")]),
            ("/k=v/w", &[("/k=v/w", "-")]),
            ("/k=v/w=rr", &[("/k=v/w", "rr")]),
            (r"k\=v", &[("k=v", "-")]),
            ("./Branch-0:.", &[("./Branch-0", "-"), (".", "-")]),
        ];
        for (text, expected) in table {
            let expected: Vec<_> = expected
                .iter()
                .map(|(path, mode)| (path.to_string(), mode.to_string()))
                .collect();
            assert_eq!(list(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_empty_path_is_no_branch() {
        for text in ["", ":", "=rw", "/a::/b", ":/a", "/a:=ro"] {
            let error = list(text).unwrap_err();
            assert!(
                error.starts_with("branch \"") && error.ends_with("\": empty path"),
                "{error}"
            );
        }
        assert_eq!(list("a\0b").unwrap_err(), r#"branch "a\0b": NUL in a path"#);
    }
}
