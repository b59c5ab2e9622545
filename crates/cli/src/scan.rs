//! Finding what was made for AUFS: branches, layer stores, and lines of scripts that do not do on FUSE
//! what they did.

mod facts;
mod files;
mod mounts;
mod stores;
mod words;

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    schema: u32,
    /// Branches and stores, one line each.
    pub(crate) stores: Vec<String>,
    /// Lines to be changed.
    pub(crate) lines: Vec<FoundLine>,
}

/// A line of a file, and what is wrong with it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FoundLine {
    /// The file, as `path_text` writes paths.
    pub(crate) path: String,
    /// Its number, from 1.
    pub(crate) line: usize,
    /// The line itself, without blanks around it.
    pub(crate) text: String,
    #[serde(flatten)]
    pub(crate) trouble: Trouble,
}

/// Why a line does not do what it did with AUFS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Trouble {
    pub(crate) effect: Effect,
    /// What happens.
    pub(crate) what: &'static str,
    /// The line to write instead, where it can be derived.
    pub(crate) instead: Option<String>,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Effect {
    /// Nothing happens, and nobody is told.
    Silent,
    /// It fails.
    Fails,
    /// It says something else than with AUFS.
    Differs,
}

impl Trouble {
    fn new(effect: Effect, what: &'static str, instead: Option<String>) -> Self {
        Self {
            effect,
            what,
            instead,
        }
    }
}

/// The version of the JSON's shape.
const SCHEMA: u32 = 1;

/// Looks through directories. Symbolic links are not followed, other filesystems not entered.
pub(crate) fn scan(dirs: &[PathBuf]) -> anyhow::Result<Found> {
    for dir in dirs {
        dir.symlink_metadata()
            .with_context(|| format!("cannot scan {dir:?}"))?;
    }
    Ok(Found {
        schema: SCHEMA,
        stores: stores::lines(dirs),
        lines: dirs.iter().flat_map(|dir| files::scan(dir)).collect(),
    })
}

/// Returns what is wrong with the lines of a text, with their numbers from 1. A line that ends with
/// a backslash goes on in the next.
fn look(path: &Path, text: &str) -> Vec<(usize, String, Trouble)> {
    let about_aufs = text.contains("aufs");
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let mut line = first.to_owned();
        while line.ends_with('\\') {
            line.pop();
            match lines.next() {
                Some((_, more)) => line.push_str(more.trim_start()),
                None => break,
            }
        }
        let line = line.trim();
        if line.starts_with(['#', ';']) || line.starts_with("//") || line.is_empty() {
            continue;
        }
        let commands = words::commands(line);
        let mut troubles = Vec::new();
        if !facts::is_settings(path) {
            let mounts = commands.iter();
            troubles.extend(mounts.filter_map(|command| mounts::look(line, command)));
        }
        troubles.extend(facts::look(path, line, &commands, about_aufs));
        found.extend(
            troubles
                .into_iter()
                .map(|trouble| (index + 1, line.to_owned(), trouble)),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_joined_and_comments_left_out() {
        let text = "#!/bin/sh\n# mount -i -o remount,del:/m /u\n\nmount -t aufs \\\n  -i \\\n  -o remount,del:/m aufs /u\nmodprobe aufs\n";
        let found = look(Path::new("rc"), text);
        let numbers: Vec<_> = found.iter().map(|(number, ..)| *number).collect();
        assert_eq!(numbers, [4, 7]);
        assert_eq!(found[0].1, "mount -t aufs -i -o remount,del:/m aufs /u");
    }
}
