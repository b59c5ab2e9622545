//! The command lines of mount(8)'s helpers and of `fuse-overlayfs`.
//!
//! They are older than our own and are read as their callers write them: short options in
//! bundles, before, between and behind the operands.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What a command line holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Short options without a value, and long ones by their name, in order.
    pub(crate) switches: Vec<String>,
    /// Short options with their values, in order.
    pub(crate) values: Vec<(char, OsString)>,
    /// All else.
    pub(crate) operands: Vec<OsString>,
}

impl Arguments {
    /// Reads words; `switches` and `valued` are the letters that are known, `long` the long names.
    pub(crate) fn read(
        words: impl IntoIterator<Item = OsString>,
        switches: &str,
        valued: &str,
        long: &[&str],
    ) -> Result<Self, String> {
        let mut read = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let bytes = word.as_bytes();
            if bytes == b"--" {
                read.operands.extend(words.by_ref());
            } else if let Some(name) = bytes.strip_prefix(b"--") {
                match long.iter().find(|known| known.as_bytes() == name) {
                    Some(known) => read.switches.push((*known).to_owned()),
                    None => return Err(format!("unknown option {word:?}")),
                }
            } else if bytes.len() > 1 && bytes[0] == b'-' {
                read.bundle(&bytes[1..], &mut words, switches, valued)?;
            } else {
                read.operands.push(word);
            }
        }
        Ok(read)
    }

    fn bundle(
        &mut self,
        mut letters: &[u8],
        words: &mut impl Iterator<Item = OsString>,
        switches: &str,
        valued: &str,
    ) -> Result<(), String> {
        while let Some((letter, rest)) = letters.split_first() {
            let letter = char::from(*letter);
            if valued.contains(letter) {
                let value = if rest.is_empty() {
                    words
                        .next()
                        .ok_or_else(|| format!("option -{letter} needs a value"))?
                } else {
                    OsString::from_vec(rest.to_vec())
                };
                self.values.push((letter, value));
                return Ok(());
            }
            if !switches.contains(letter) {
                return Err(format!("unknown option \"-{}\"", letter.escape_default()));
            }
            self.switches.push(letter.to_string());
            letters = rest;
        }
        Ok(())
    }

    /// Tells whether a switch was given, by any of its names.
    pub(crate) fn has(&self, names: &[&str]) -> bool {
        self.switches
            .iter()
            .any(|given| names.contains(&given.as_str()))
    }

    /// Returns all values of an option, in order.
    pub(crate) fn all(&self, letter: char) -> impl Iterator<Item = &OsStr> {
        self.values
            .iter()
            .filter(move |(given, _)| *given == letter)
            .map(|(_, value)| value.as_os_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        let words = line.split(' ').filter(|word| !word.is_empty());
        Arguments::read(words.map(OsString::from), "sfnvrw", "oNt", &["version"])
    }

    #[test]
    fn options_stand_anywhere_and_in_bundles() {
        let read = read("none /m -nv -obr=a -o ro --version -t fuse.aufs -- -x").unwrap();
        assert_eq!(read.operands, ["none", "/m", "-x"]);
        assert_eq!(read.switches, ["n", "v", "version"]);
        assert_eq!(read.all('o').collect::<Vec<_>>(), ["br=a", "ro"]);
        assert!(read.has(&["v"]) && !read.has(&["f"]));
    }

    #[test]
    fn what_is_unknown_or_incomplete_is_told() {
        for (line, expected) in [
            ("a b -o", "option -o needs a value"),
            ("a -Z b", "unknown option \"-Z\""),
            ("--wide", "unknown option \"--wide\""),
        ] {
            assert_eq!(read(line).unwrap_err(), expected);
        }
    }
}
