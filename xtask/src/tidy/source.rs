//! Rust text, seen without its comments, without what literals say, and without its tests.
//!
//! Byte positions and line breaks stay where they are, so every finding has its line.

use std::path::{Component, PathBuf};

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the house.
    pub(crate) path: PathBuf,
    /// The file as it is.
    pub(crate) text: String,
    /// Comments are blank, the contents of literals are underscores.
    pub(crate) code: String,
    /// `code` less what only tests compile.
    pub(crate) live: String,
}

impl Source {
    pub(crate) fn new(path: PathBuf, text: String) -> Self {
        let code = code_of(&text);
        let live = if is_test(&path) {
            String::new()
        } else {
            live_of(&code)
        };
        Self {
            path,
            text,
            code,
            live,
        }
    }

    /// Returns the crate's directory below `crates/`, or the first directory of the path.
    pub(crate) fn room(&self) -> &str {
        let mut parts = self.path.components().filter_map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        });
        match parts.next() {
            Some("crates") => parts.next().unwrap_or(""),
            top => top.unwrap_or(""),
        }
    }
}

/// Returns the line, from 1, in which the byte at `offset` stands.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

fn is_test(path: &std::path::Path) -> bool {
    path.components().any(|part| {
        matches!(
            part.as_os_str().to_str(),
            Some("tests" | "benches" | "examples" | "tests.rs")
        )
    })
}

/// Blanks comments and the contents of literals.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (end, fill) = if rest.starts_with(b"//") {
            (
                at + rest
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .unwrap_or(rest.len()),
                b' ',
            )
        } else if rest.starts_with(b"/*") {
            (at + block_comment(rest), b' ')
        } else if let Some(length) = raw_string(bytes, at) {
            (at + length, b'_')
        } else if rest[0] == b'"' {
            (at + quoted(rest), b'_')
        } else if rest[0] == b'\'' {
            (at + character(rest), b'_')
        } else {
            at += 1;
            continue;
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = fill;
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Returns the length of `r"..."`, `br#"..."#` and the like that starts at `at`.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let part_of_a_word = at > 0 && is_word(bytes[at - 1]);
    let rest = &bytes[at..];
    let prefix = [&b"br"[..], b"cr", b"r"]
        .into_iter()
        .find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let open = prefix.len() + hashes;
    if part_of_a_word || rest.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let body = &rest[open + 1..];
    let length = body.windows(close.len()).position(|window| window == close);
    Some(length.map_or(rest.len(), |length| open + 1 + length + close.len()))
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Returns the length of a character literal, or 1 for the quote of a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|byte| *byte == b'\'');
        return close.map_or(rest.len(), |close| close + 4);
    }
    // One character of up to four bytes, then the closing quote.
    let close = (2..=5).find(|at| rest.get(*at) == Some(&b'\''));
    match close {
        Some(close)
            if std::str::from_utf8(&rest[1..close]).is_ok_and(|s| s.chars().count() == 1) =>
        {
            close + 1
        }
        _ => 1,
    }
}

/// Blanks each item under `#[cfg(test)]`.
fn live_of(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut live = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let end = item_end(code.as_bytes(), start + MARK.len());
        for byte in &mut live[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&live).into_owned()
}

/// Returns where the item that begins at `at` ends: after its `;` or its closing brace.
fn item_end(code: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < code.len() {
        match code[at] {
            b'{' | b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    code.len()
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(text: &str) -> String {
        Source::new("crates/rules/src/name.rs".into(), text.into()).live
    }

    #[test]
    fn comments_and_literals_say_nothing() {
        for text in [
            "// unsafe\n",
            "/* a /* unsafe */ unsafe */",
            "let s = \"unsafe \\\" unsafe\";",
            "let s = r#\"unsafe \" unsafe\"#;",
            "let s = br\"unsafe\";",
            "let c = '\"'; let s = \"unsafe\";",
            "let c = '\\''; let s = \"unsafe\";",
            "let c = 'ö'; let s = \"unsafe\";",
            "//! unsafe",
        ] {
            assert!(!live(text).contains("unsafe"), "{text}: {}", live(text));
            assert_eq!(live(text).lines().count(), text.lines().count());
        }
    }

    #[test]
    fn code_between_literals_stays() {
        for text in [
            "fn f<'a>(x: &'a str) { unsafe {} }",
            "let s = \"a\"; unsafe {}",
            "let r = r; unsafe {} \"x\"",
            "let c = '{'; unsafe {}",
            "#[cfg(test)] use x::{a, b}; unsafe {}",
            "#[cfg(test)]\nmod tests { fn f() { } }\nunsafe {}",
            "#[cfg(test)]\nmod tests;\nunsafe {}",
        ] {
            assert!(live(text).contains("unsafe"), "{text}: {}", live(text));
        }
    }

    #[test]
    fn tests_are_not_live() {
        assert!(!live("#[cfg(test)]\nmod tests {\n fn f() { unsafe {} }\n}\n").contains("unsafe"));
        let file = Source::new("crates/union/tests/laws/main.rs".into(), "unsafe {}".into());
        assert!(file.live.is_empty() && file.code.contains("unsafe"));
    }

    #[test]
    fn the_room_is_the_crate() {
        let room = |path: &str| Source::new(path.into(), String::new()).room().to_owned();
        assert_eq!(room("crates/union/src/lib.rs"), "union");
        assert_eq!(room("xtask/src/main.rs"), "xtask");
        assert_eq!(room("tests/mounted/main.rs"), "tests");
    }
}
