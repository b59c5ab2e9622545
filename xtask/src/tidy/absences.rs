//! What must not stand in a file: the absences that hold the house up, and a few habits.

use super::Finding;
use super::source::{Source, is_word, line_at};

/// Lines of code, without comments and tests, that one file may have.
const MAXIMUM: usize = 500;

/// Longer files, each with its reason.
const LONG: &[(&str, &str)] = &[];

/// Something that a file can contain.
#[derive(Debug, Clone, Copy)]
enum What {
    /// A word of the language, such as `unsafe`.
    Word(&'static str),
    /// A macro by its name.
    Macro(&'static str),
    /// A path from a crate's root, also inside `use a::{b, c}`.
    Path(&'static str),
    /// The end of a path, whatever its beginning.
    Tail(&'static str),
}

/// What is absent from some rooms, and why.
struct Absence {
    from: fn(&str) -> bool,
    what: &'static [What],
    why: &'static str,
}

const ABSENCES: &[Absence] = &[
    Absence {
        from: |room| room != "sys",
        what: &[
            What::Word("unsafe"),
            What::Path("libc"),
            What::Path("rustix"),
            What::Path("nix"),
        ],
        why: "system calls and `unsafe` stand in `sys` only",
    },
    Absence {
        from: |room| matches!(room, "rules" | "tree" | "images" | "union" | "archive"),
        what: &[
            What::Path("std::fs"),
            What::Path("std::net"),
            What::Path("std::thread"),
            What::Path("std::process"),
            What::Path("std::time::SystemTime"),
        ],
        why: "this room knows no files, threads or clock of the host; it asks a `Tree`",
    },
    Absence {
        from: |room| room == "rules",
        what: &[What::Path("std::time::Instant"), What::Path("std::io")],
        why: "`rules` is pure data and functions",
    },
    Absence {
        from: |room| !matches!(room, "cli" | "xtask" | "testkit"),
        what: &[
            What::Macro("print"),
            What::Macro("println"),
            What::Macro("eprint"),
            What::Macro("eprintln"),
            What::Path("std::env"),
            What::Tail("process::exit"),
        ],
        why: "only `cli` prints, reads the environment and chooses an exit code",
    },
];

/// Absent from tests as well.
const EVERYWHERE: Absence = Absence {
    from: |_| true,
    what: &[
        What::Macro("todo"),
        What::Macro("unimplemented"),
        What::Macro("dbg"),
    ],
    why: "finish it, or say in an issue what is missing",
};

/// Checks one file.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |text: &str, absence: &Absence| {
        for what in absence.what {
            for offset in what.find(text) {
                let message = format!("{}: {}", what.shown(), absence.why);
                findings.push(Finding::new(&source.path, line_at(text, offset), message));
            }
        }
    };
    for absence in ABSENCES
        .iter()
        .filter(|absence| (absence.from)(source.room()))
    {
        find(&source.live, absence);
    }
    find(&source.code, &EVERYWHERE);
    if let Some(offset) = source.code.find("#[ignore") {
        let message = "`#[ignore]`: a test that cannot run fails, unless skipping was asked for";
        findings.push(Finding::new(
            &source.path,
            line_at(&source.code, offset),
            message,
        ));
    }
    if !source.text.starts_with("//!") {
        findings.push(Finding::new(
            &source.path,
            1,
            "a file opens with a `//!` line that says what it promises",
        ));
    }
    let lines = source
        .live
        .lines()
        .filter(|line| !line.trim().is_empty())
        .count();
    let excused = LONG
        .iter()
        .any(|(path, _)| source.path.to_str() == Some(path));
    if lines > MAXIMUM && !excused {
        let message =
            format!("{lines} lines of code (of {MAXIMUM} at most): look for the second subject");
        findings.push(Finding::new(&source.path, 1, message));
    }
    findings
}

impl What {
    fn shown(self) -> String {
        match self {
            Self::Word(word) | Self::Path(word) | Self::Tail(word) => format!("`{word}`"),
            Self::Macro(word) => format!("`{word}!`"),
        }
    }

    /// Returns the places at which it occurs.
    fn find(self, code: &str) -> Vec<usize> {
        match self {
            Self::Word(word) => words(code, word).collect(),
            Self::Macro(word) => words(code, word)
                .filter(|at| code[at + word.len()..].starts_with('!'))
                .collect(),
            Self::Path(path) => {
                let root = path.split("::").next().unwrap_or(path);
                let starts_path =
                    |at: &usize| !code[..*at].ends_with("::") || code[..*at].ends_with(" ::");
                let of_a_crate = |at: &usize| {
                    code[at + root.len()..].starts_with("::")
                        || code[..*at].trim_end().ends_with("use")
                };
                words(code, root)
                    .filter(|at| starts_path(at) && of_a_crate(at))
                    .filter(|at| {
                        paths(&code[*at..])
                            .iter()
                            .any(|found| is_below(found, path))
                    })
                    .collect()
            }
            Self::Tail(tail) => {
                let (parent, name) = tail.split_once("::").unwrap_or((tail, ""));
                words(code, parent)
                    .filter(|at| {
                        paths(&code[*at..])
                            .iter()
                            .any(|found| is_below(found, &format!("{parent}::{name}")))
                    })
                    .collect()
            }
        }
    }
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Returns where `word` stands as a whole word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = at.checked_sub(1).map(|at| bytes[at]);
            let after = bytes.get(at + word.len()).copied();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
}

/// Spells out the path, or the tree of paths in braces, that `code` begins with.
fn paths(code: &str) -> Vec<String> {
    let word: String = code
        .chars()
        .take_while(|c| c.is_ascii() && is_word(*c as u8))
        .collect();
    let rest = code[word.len()..].trim_start();
    let Some(rest) = rest.strip_prefix("::") else {
        return vec![word];
    };
    let rest = rest.trim_start();
    let Some(tree) = rest.strip_prefix('{') else {
        return paths(rest)
            .into_iter()
            .map(|path| format!("{word}::{path}"))
            .collect();
    };
    let mut found = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, byte) in tree.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b',' | b'}' if depth == 0 => {
                found.extend(
                    paths(tree[start..at].trim_start())
                        .into_iter()
                        .map(|path| format!("{word}::{path}")),
                );
                start = at + 1;
                if byte == b'}' {
                    break;
                }
            }
            b'}' => depth -= 1,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, code: &str) -> usize {
        check(&Source::new(path.into(), format!("//! Promise.\n{code}\n"))).len()
    }

    #[test]
    fn each_absence_is_noticed_in_its_rooms() {
        for (room, code, expected) in [
            ("union", "fn f() { unsafe { g() } }", 1),
            ("sys", "fn f() { unsafe { g() } }", 0),
            ("fuse", "use rustix::fs::openat2;", 1),
            ("fuse", "use libc;", 1),
            ("fuse", "fn libc() {} let libc = 1;", 0),
            ("sys", "use std::{fs, io};", 0),
            ("union", "use std::{collections::{self, BTreeMap}, fs};", 1),
            ("union", "let x = std::fs::read(p);", 1),
            ("union", "use std::time::{Duration, SystemTime};", 1),
            ("union", "use std::time::Duration; use std::fmt;", 0),
            ("union", "use crate::std_fs;", 0),
            ("rules", "use std::time::Instant;", 1),
            ("tree", "println!(\"x\");", 1),
            (
                "cli",
                "println!(\"x\"); std::process::exit(2); std::env::args();",
                0,
            ),
            ("fuse", "use std::process; process::exit(1);", 1),
            ("fuse", "use std::process; process::id();", 0),
            ("fuse", "let home = std::env::var(\"HOME\");", 1),
            ("fuse", "const V: &str = env!(\"CARGO_PKG_VERSION\");", 0),
            ("cli", "fn f() { todo!() }", 1),
            ("cli", "#[test]\n#[ignore]\nfn f() {}", 1),
        ] {
            assert_eq!(
                findings(&format!("crates/{room}/src/lib.rs"), code),
                expected,
                "{room}: {code}"
            );
        }
    }

    #[test]
    fn tests_may_touch_the_host_but_not_stay_unfinished() {
        let host =
            "#[cfg(test)]\nmod tests {\n use std::fs;\n fn f() { unsafe {} println!(); }\n}\n";
        assert_eq!(findings("crates/union/src/lib.rs", host), 0);
        assert_eq!(
            findings(
                "crates/union/tests/laws/main.rs",
                "use std::fs; use rustix::fs;"
            ),
            0
        );
        assert_eq!(
            findings(
                "crates/union/tests/laws/main.rs",
                "fn f() { unimplemented!() }"
            ),
            1
        );
    }

    #[test]
    fn a_file_says_its_promise_and_has_one_subject() {
        assert_eq!(
            check(&Source::new(
                "crates/cli/src/a.rs".into(),
                "fn f() {}\n".into()
            ))
            .len(),
            1
        );
        let line = "fn f() {}\n";
        assert_eq!(findings("crates/cli/src/a.rs", &line.repeat(MAXIMUM)), 0);
        assert_eq!(
            findings("crates/cli/src/a.rs", &line.repeat(MAXIMUM + 1)),
            1
        );
        assert_eq!(
            findings("crates/cli/src/a.rs", &"// words\n".repeat(MAXIMUM + 1)),
            0
        );
    }
}
