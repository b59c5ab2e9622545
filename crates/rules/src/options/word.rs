//! Cutting an option string into words, and a word into its key and value.
//!
//! `\,` `\:` `\=` and `\\` stand for the plain character wherever a text or a path
//! is expected; a backslash before anything else is itself. Everything is linear
//! in the length of the input and no input panics.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::error::OptionError;

/// The words whose value may follow a colon, as AUFS has it: `br:A=rw:B`.
const COLON_WORDS: [&[u8]; 7] = [b"br", b"add", b"ins", b"append", b"prepend", b"del", b"mod"];

/// The words whose quoted value may hold commas.
const QUOTED_WORDS: [&[u8]; 4] = [
    b"context=\"",
    b"fscontext=\"",
    b"defcontext=\"",
    b"rootcontext=\"",
];

/// One word of an option string, not yet unescaped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'a> {
    /// The word as written.
    pub(super) raw: &'a [u8],
    /// What stands before the first separator.
    pub(super) key: &'a [u8],
    value: Option<&'a [u8]>,
}

/// Cuts an option string at its commas; empty words are skipped.
pub(super) fn words(options: &[u8]) -> impl Iterator<Item = Word<'_>> {
    let mut rest = Some(options);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let start = quoted_prefix(bytes);
        let (word, tail) = match find(&bytes[start..], b',') {
            Some(comma) => (&bytes[..start + comma], Some(&bytes[start + comma + 1..])),
            None => (bytes, None),
        };
        rest = tail;
        Some(word)
    })
    .filter(|word| !word.is_empty())
    .map(Word::new)
}

/// Returns how many bytes belong to a quoted value at the start, or 0.
fn quoted_prefix(bytes: &[u8]) -> usize {
    let Some(opening) = QUOTED_WORDS.iter().find(|word| bytes.starts_with(word)) else {
        return 0;
    };
    let closing = bytes[opening.len()..].iter().position(|byte| *byte == b'"');
    closing.map_or(0, |at| opening.len() + at + 1)
}

/// Returns the position of the first `wanted` that no backslash protects.
pub(super) fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    positions(bytes, wanted).next()
}

/// Returns the position of the last `wanted` that no backslash protects.
pub(super) fn find_last(bytes: &[u8], wanted: u8) -> Option<usize> {
    positions(bytes, wanted).last()
}

fn positions(bytes: &[u8], wanted: u8) -> impl Iterator<Item = usize> {
    let mut escaped = false;
    bytes.iter().enumerate().filter_map(move |(at, byte)| {
        if escaped {
            escaped = false;
            return None;
        }
        escaped = *byte == b'\\';
        (*byte == wanted).then_some(at)
    })
}

/// Cuts at every unprotected `separator`; an empty input is one empty piece.
pub(super) fn split(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let cut = find(bytes, separator);
        rest = cut.map(|at| &bytes[at + 1..]);
        Some(&bytes[..cut.unwrap_or(bytes.len())])
    })
}

/// Takes the protecting backslashes away.
pub(super) fn unescape(bytes: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        rest = match (byte, tail.split_first()) {
            (b'\\', Some((protected @ (b',' | b':' | b'=' | b'\\'), after))) => {
                plain.push(*protected);
                after
            }
            _ => {
                plain.push(*byte);
                tail
            }
        };
    }
    OsString::from_vec(plain)
}

/// Returns the path that a piece stands for, or why it is none.
pub(super) fn path(piece: &[u8]) -> Result<PathBuf, &'static str> {
    if piece.is_empty() {
        return Err("empty path");
    }
    if piece.contains(&0) {
        return Err("NUL in a path");
    }
    Ok(PathBuf::from(unescape(piece)))
}

/// Makes bytes printable for a message.
pub(super) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads a number in plain digits.
pub(super) fn digits<T: FromStr>(bytes: &[u8]) -> Option<T> {
    let plain = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(bytes)
        .ok()
        .filter(|_| plain)?
        .parse()
        .ok()
}

impl<'a> Word<'a> {
    fn new(raw: &'a [u8]) -> Self {
        let colon = COLON_WORDS
            .iter()
            .map(|word| word.len())
            .find(|len| raw.get(*len) == Some(&b':') && COLON_WORDS.contains(&&raw[..*len]));
        let cut = colon.or_else(|| raw.iter().position(|byte| *byte == b'='));
        match cut {
            Some(at) => Self {
                raw,
                key: &raw[..at],
                value: Some(&raw[at + 1..]),
            },
            None => Self {
                raw,
                key: raw,
                value: None,
            },
        }
    }

    /// Returns the word as a message shows it.
    pub(super) fn shown(&self) -> String {
        printable(self.raw)
    }

    /// Tells whether a value follows, be it empty.
    pub(super) fn has_value(&self) -> bool {
        self.value.is_some()
    }

    /// Checks that the word is a plain switch.
    pub(super) fn switch(&self) -> Result<(), OptionError> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(OptionError::UnexpectedValue { word: self.shown() }),
        }
    }

    /// Returns the value as written; it is not empty.
    pub(super) fn value(&self) -> Result<&'a [u8], OptionError> {
        self.value
            .filter(|value| !value.is_empty())
            .ok_or_else(|| OptionError::MissingValue { word: self.shown() })
    }

    /// Returns the value as text.
    pub(super) fn text(&self) -> Result<OsString, OptionError> {
        self.value().map(unescape)
    }

    /// Returns the value as a path.
    pub(super) fn path(&self) -> Result<PathBuf, OptionError> {
        path(self.value()?).map_err(|reason| self.refused(reason))
    }

    /// Returns the value as a number.
    pub(super) fn number<T: FromStr>(&self) -> Result<T, OptionError> {
        digits(self.value()?).ok_or_else(|| self.bad("a number"))
    }

    /// Returns the value as a number of bytes, which may be given in K, M or G of 1024.
    pub(super) fn size(&self) -> Result<u64, OptionError> {
        let value = self.value()?;
        let (number, unit) = match value.split_last() {
            Some((b'k' | b'K', number)) => (number, 10),
            Some((b'm' | b'M', number)) => (number, 20),
            Some((b'g' | b'G', number)) => (number, 30),
            _ => (value, 0),
        };
        let bytes = digits::<u64>(number).and_then(|number| number.checked_mul(1 << unit));
        bytes.ok_or_else(|| self.bad("a number of bytes, or of K, M or G"))
    }

    /// Returns the value as a number of seconds, which may have decimals.
    pub(super) fn seconds(&self) -> Result<Duration, OptionError> {
        std::str::from_utf8(self.value()?)
            .ok()
            .and_then(|text| text.parse().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| self.bad("a number of seconds"))
    }

    /// Returns what the value names in a table.
    pub(super) fn choice<T: Copy>(
        &self,
        what: &'static str,
        table: &[(&'static str, T)],
    ) -> Result<T, OptionError> {
        let value = self.value()?;
        let found = table.iter().find(|(name, _)| name.as_bytes() == value);
        found
            .map(|(_, choice)| *choice)
            .ok_or_else(|| OptionError::NoSuchChoice {
                word: self.shown(),
                what,
                known: table.iter().map(|(name, _)| *name).collect(),
            })
    }

    /// Returns the value of an `on` or `off` word.
    pub(super) fn on_off(&self) -> Result<bool, OptionError> {
        self.choice("value", &[("on", true), ("off", false)])
    }

    /// Returns the value of a `1` or `0` word.
    pub(super) fn one_zero(&self) -> Result<bool, OptionError> {
        self.choice("value", &[("1", true), ("0", false)])
    }

    /// Says that the value has the wrong form.
    pub(super) fn bad(&self, expected: &'static str) -> OptionError {
        OptionError::BadValue {
            word: self.shown(),
            expected: expected.into(),
        }
    }

    /// Says that the word is understood and not supported.
    pub(super) fn refused(&self, reason: &'static str) -> OptionError {
        OptionError::Refused {
            word: self.shown(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair<'a> = (&'a str, Option<&'a str>);

    fn cut(options: &str) -> Vec<(String, Option<String>)> {
        words(options.as_bytes())
            .map(|word| (printable(word.key), word.value.map(printable)))
            .collect()
    }

    #[test]
    fn words_end_at_unprotected_commas_and_empty_ones_are_skipped() {
        let table: &[(&str, &[Pair<'_>])] = &[
            ("", &[]),
            (",,,", &[]),
            ("a,,b", &[("a", None), ("b", None)]),
            (r"a=x\,y,b", &[("a", Some(r"x\,y")), ("b", None)]),
            (r"a=x\\,b", &[("a", Some(r"x\\")), ("b", None)]),
            (r"a\", &[(r"a\", None)]),
            ("=", &[("", Some(""))]),
            ("br:/a=rw:/b", &[("br", Some("/a=rw:/b"))]),
            ("add:1:/a=rw", &[("add", Some("1:/a=rw"))]),
            ("x-a:b=c", &[("x-a:b", Some("c"))]),
            (
                "context=\"u:r:t:s0:c1,c2\",ro",
                &[("context", Some("\"u:r:t:s0:c1,c2\"")), ("ro", None)],
            ),
            ("context=\"u,ro", &[("context", Some("\"u")), ("ro", None)]),
        ];
        for (options, expected) in table {
            let expected: Vec<_> = expected
                .iter()
                .map(|(key, value)| (key.to_string(), value.map(str::to_string)))
                .collect();
            assert_eq!(cut(options), expected, "{options}");
        }
    }

    #[test]
    fn a_backslash_protects_separators_and_itself_only() {
        let table = [
            (r"a\:b", "a:b"),
            (r"a\,b", "a,b"),
            (r"a\=b", "a=b"),
            (r"a\\:b", r"a\:b"),
            (r"a\nb\", r"a\nb\"),
        ];
        for (escaped, plain) in table {
            assert_eq!(unescape(escaped.as_bytes()), plain, "{escaped}");
        }
    }
}
