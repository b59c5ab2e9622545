//! `cargo xtask tidy`: what the house promises about itself, checked on every file.
//!
//! Nothing is changed; each finding names a file, a line and the rule.

mod absences;
mod documents;
mod rooms;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use self::source::Source;

/// One place where the house does not keep its word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: PathBuf,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_path_buf(),
            line,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.message)
    }
}

/// Checks everything and prints the findings; returns whether there were none.
pub(crate) fn run(house: &Path) -> anyhow::Result<bool> {
    let mut sources = Vec::new();
    for top in ["crates", "xtask", "tests", "fuzz"] {
        read_sources(house, Path::new(top), &mut sources)?;
    }
    let mut findings = rooms::check(house)?;
    for source in &sources {
        findings.extend(absences::check(source));
    }
    findings.extend(documents::check(house, &sources)?);
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} files, {} findings", sources.len(), findings.len());
    Ok(findings.is_empty())
}

/// Reads every Rust file below `directory`, which is relative to the house.
fn read_sources(house: &Path, directory: &Path, sources: &mut Vec<Source>) -> anyhow::Result<()> {
    let absolute = house.join(directory);
    if !absolute.is_dir() {
        return Ok(());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&absolute).with_context(|| format!("{}", absolute.display()))? {
        names.push(entry?.file_name());
    }
    names.sort();
    for name in names {
        let path = directory.join(&name);
        if house.join(&path).is_dir() {
            if name != "target" {
                read_sources(house, &path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(house.join(&path))
                .with_context(|| format!("{}", path.display()))?;
            sources.push(Source::new(path, text));
        }
    }
    Ok(())
}
