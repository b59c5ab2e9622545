//! Documents in step with the code: clauses name tests that exist, exclusions name scripts that exist.
//!
//! A clause of `docs/semantics.md` is a list item. It ends with the name of what settles it:
//! `[test: name, other_name]` (a Rust function), `[oracle: script, script]` (a script of the oracle)
//! or `[suite: pjdfstest]` (a directory of `tests/conformance`). A section whose heading is followed by
//! the line `<!-- no clauses -->` only explains. The rows of `docs/features.md` name what settles them in the same way.

mod features;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::Finding;
use super::source::{Source, is_word};

const SEMANTICS: &str = "docs/semantics.md";
const EXCLUSIONS: &str = "tests/conformance/oracle/exclusions.txt";
const CATEGORIES: &[&str] = &["fuse-limit", "aufs-bug", "improvement", "later"];

/// What a clause may call upon.
struct Evidence {
    tests: BTreeSet<String>,
    scripts: BTreeSet<String>,
    suites: BTreeSet<String>,
}

impl Evidence {
    /// Returns those of the names that do not exist.
    fn missing<'a>(&self, what: &str, named: &'a str) -> impl Iterator<Item = &'a str> {
        let known = match what {
            "test" => &self.tests,
            "oracle" => &self.scripts,
            _ => &self.suites,
        };
        let names = named.split(',').map(str::trim);
        names.filter(move |name| !known.contains(*name))
    }
}

/// Checks the documents that exist.
pub(crate) fn check(house: &Path, sources: &[Source]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let evidence = Evidence {
        tests: sources
            .iter()
            .flat_map(|source| functions(&source.code))
            .collect(),
        scripts: names(&house.join("tests/conformance/oracle/scripts"))?,
        suites: {
            let mut suites = names(&house.join("tests/conformance"))?;
            suites.extend(names(&house.join("tests/acceptance"))?);
            suites
        },
    };
    let read = |path: &str| fs::read_to_string(house.join(path)).ok();
    let semantics = read(SEMANTICS);
    if let Some(text) = &semantics {
        findings.extend(clauses(text, &evidence));
    }
    if let Some(text) = read(features::PATH) {
        findings.extend(features::check(&text, &evidence));
    }
    if let Some(text) = read(EXCLUSIONS) {
        findings.extend(exclusions(&text, semantics.as_deref(), &evidence.scripts));
    }
    match read("CHANGELOG.md") {
        Some(text) if text.contains("\n## [Unreleased]") => {}
        _ => findings.push(Finding::new(
            Path::new("CHANGELOG.md"),
            1,
            "has no section \"## [Unreleased]\"",
        )),
    }
    if let Some(text) = read("ARCHITECTURE.md") {
        for room in names(&house.join("crates"))? {
            if !text.contains(&format!("`{room}`")) {
                let message = format!("does not say what `{room}` is for");
                findings.push(Finding::new(Path::new("ARCHITECTURE.md"), 1, message));
            }
        }
    }
    Ok(findings)
}

/// Lists a directory, names without their extensions; an absent one is empty.
fn names(directory: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    if directory.is_dir() {
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.insert(name.trim_end_matches(".t").to_owned());
        }
    }
    Ok(names)
}

fn functions(code: &str) -> impl Iterator<Item = String> + '_ {
    code.match_indices("fn ").map(|(at, word)| {
        code[at + word.len()..]
            .chars()
            .take_while(|c| c.is_ascii() && is_word(*c as u8))
            .collect()
    })
}

fn clauses(text: &str, evidence: &Evidence) -> Vec<Finding> {
    let path = Path::new(SEMANTICS);
    let mut findings = Vec::new();
    for (line, clause) in items(text) {
        let Some((what, named)) = settled_by(&clause) else {
            let message =
                "a clause ends with `[test: name]`, `[oracle: script]` or `[suite: name]`";
            findings.push(Finding::new(path, line, message));
            continue;
        };
        for name in evidence.missing(what, named) {
            let message = format!("there is no {what} `{name}`");
            findings.push(Finding::new(path, line, message));
        }
    }
    findings
}

/// Returns the kind and the names in the bracket that ends a clause.
fn settled_by(clause: &str) -> Option<(&str, &str)> {
    let (_, bracket) = clause.trim_end().strip_suffix(']')?.rsplit_once('[')?;
    let (what, named) = bracket.split_once(':')?;
    matches!(what, "test" | "oracle" | "suite").then_some((what, named))
}

/// Returns the list items that are clauses, each with the line on which it starts.
fn items(text: &str) -> Vec<(usize, String)> {
    let mut items: Vec<(usize, String)> = Vec::new();
    let (mut explains, mut open, mut fenced) = (false, false, false);
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.starts_with("```") {
            fenced = !fenced;
        }
        if fenced || trimmed.is_empty() || trimmed.starts_with('#') {
            open = false;
            explains &= !trimmed.starts_with('#');
        } else if trimmed == "<!-- no clauses -->" {
            explains = true;
        } else if explains {
        } else if trimmed.starts_with("- ") || trimmed.starts_with("* ") || is_numbered(trimmed) {
            items.push((index + 1, trimmed.to_owned()));
            open = true;
        } else if let (true, Some((_, item))) = (open, items.last_mut()) {
            item.push(' ');
            item.push_str(trimmed);
        }
    }
    items
}

fn is_numbered(line: &str) -> bool {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && line[digits..].starts_with(". ")
}

/// Checks the oracle's exclusions: `NAME CATEGORY CAUSE`, one on a line.
fn exclusions(text: &str, semantics: Option<&str>, scripts: &BTreeSet<String>) -> Vec<Finding> {
    let path = Path::new(EXCLUSIONS);
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next().filter(|name| !name.starts_with('#')) else {
            continue;
        };
        let mut find = |message: String| findings.push(Finding::new(path, index + 1, message));
        if !scripts.contains(name) {
            find(format!("there is no script `{name}`"));
        }
        if !words
            .next()
            .is_some_and(|category| CATEGORIES.contains(&category))
        {
            find(format!(
                "the second word is one of {}",
                CATEGORIES.join(", ")
            ));
        }
        if words.count() < 3 {
            find("the cause is a sentence".into());
        }
        if semantics.is_some_and(|text| !text.contains(name)) {
            find(format!(
                "{SEMANTICS} does not name `{name}` (tests/conformance/oracle/run --table prints the list)"
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        let set = |name: &str| BTreeSet::from([name.to_owned()]);
        Evidence {
            tests: set("hides"),
            scripts: set("unlink-01"),
            suites: set("pjdfstest"),
        }
    }

    #[test]
    fn a_clause_names_what_settles_it() {
        for (text, expected) in [
            ("- A name hides. [test: hides]", 0),
            ("- A name hides\n  what is below. [test: hides]", 0),
            ("1. A name hides. [oracle: unlink-01]", 0),
            ("- POSIX. [suite: pjdfstest]", 0),
            ("- A name hides.", 1),
            ("- A name hides. [test: shows]", 1),
            ("- A name hides. [test: hides, shows]", 1),
            ("- A name hides. [oracle: unlink-02]", 1),
            ("- See [this](that).", 1),
            ("Plain words.\n\n```\n- code\n```", 0),
            (
                "## Limits\n<!-- no clauses -->\n- Words.\n## More\n- Clause.",
                1,
            ),
        ] {
            assert_eq!(clauses(text, &evidence()).len(), expected, "{text}");
        }
    }

    #[test]
    fn an_exclusion_has_a_script_a_category_and_a_cause() {
        let scripts = evidence().scripts;
        for (line, expected) in [
            ("# words", 0),
            ("", 0),
            ("unlink-01 later The option comes later.", 0),
            ("unlink-02 later The option comes later.", 1),
            ("unlink-01 someday The option comes later.", 1),
            ("unlink-01 later Later.", 1),
        ] {
            assert_eq!(exclusions(line, None, &scripts).len(), expected, "{line}");
        }
        let line = "unlink-01 later The option comes later.";
        assert_eq!(exclusions(line, Some("nothing"), &scripts).len(), 1);
        assert_eq!(exclusions(line, Some("`unlink-01`"), &scripts).len(), 0);
    }

    #[test]
    fn functions_are_found_by_name() {
        let found: Vec<_> = functions("pub fn one() {} fn two<T>(t: T) {}").collect();
        assert_eq!(found, ["one", "two"]);
    }
}
