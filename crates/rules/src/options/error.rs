//! Why an option string is refused: one clear fragment each.

use std::borrow::Cow;
use std::fmt;

/// An option that cannot be accepted. The texts are the user's own, made printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionError {
    /// A word that no grammar knows.
    Unknown {
        /// The whole word, with its value.
        word: String,
        /// A known word so close that it was probably meant.
        nearest: Option<&'static str>,
    },
    /// A known word came without the value it needs.
    MissingValue {
        /// The word.
        word: String,
    },
    /// A switch came with a value.
    UnexpectedValue {
        /// The word with its value.
        word: String,
    },
    /// A value of the wrong form.
    BadValue {
        /// The word with its value.
        word: String,
        /// What would have been right.
        expected: Cow<'static, str>,
    },
    /// A value that names none of a fixed set.
    NoSuchChoice {
        /// The word with its value.
        word: String,
        /// What the set holds: "policy", "value".
        what: &'static str,
        /// The names of the set.
        known: Vec<&'static str>,
    },
    /// A branch that cannot be meant.
    Branch {
        /// The branch as it was written.
        branch: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A word that is understood and not supported.
    Refused {
        /// The word with its value.
        word: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// Two ways of naming the branches in one set of options.
    Mixed,
}

/// The longest text that a message repeats in full.
const SHOWN: usize = 300;

/// Quotes a text for a message, shortened when it is absurdly long.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
        }
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown {
                word,
                nearest: None,
            } => write!(f, "unknown option {}", Quoted(word)),
            Self::Unknown {
                word,
                nearest: Some(nearest),
            } => {
                write!(
                    f,
                    "unknown option {}; did you mean \"{nearest}\"?",
                    Quoted(word)
                )
            }
            Self::MissingValue { word } => write!(f, "{}: needs a value", Quoted(word)),
            Self::UnexpectedValue { word } => write!(f, "{}: takes no value", Quoted(word)),
            Self::BadValue { word, expected } => {
                write!(f, "{}: expected {expected}", Quoted(word))
            }
            Self::NoSuchChoice { word, what, known } => {
                write!(
                    f,
                    "{}: no such {what}; known: {}",
                    Quoted(word),
                    known.join(", ")
                )
            }
            Self::Branch { branch, reason } => write!(f, "branch {}: {reason}", Quoted(branch)),
            Self::Refused { word, reason } => write!(f, "{}: {reason}", Quoted(word)),
            Self::Mixed => f.write_str(
                "branches are named both by br= (or add, append, …) and by lowerdir=, upperdir=, \
                 workdir=: use one of the two",
            ),
        }
    }
}

impl std::error::Error for OptionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let word = "\n".repeat(100_000);
        let text = OptionError::Unknown {
            word,
            nearest: None,
        }
        .to_string();
        assert!(!text.contains('\n'));
        assert!(text.len() < 1000, "{}", text.len());
    }
}
