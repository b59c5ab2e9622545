//! How a command ends: exit codes, and errors of one line.

use std::fmt;

/// The exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    /// Done.
    pub(crate) const SUCCESS: Self = Self(0);
    /// Something differs, is missing, or could not be done.
    pub(crate) const FAILED: Self = Self(1);
    /// mount(8): wrong use of a helper, or missing permission.
    pub(crate) const MOUNT_USAGE: Self = Self(1);
    /// mount(8): the system lacks something.
    pub(crate) const MOUNT_SYSTEM: Self = Self(2);
    /// mount(8): the mount or unmount failed.
    pub(crate) const MOUNT_FAILED: Self = Self(32);
    /// The server itself is broken (`EX_SOFTWARE`).
    pub(crate) const SOFTWARE: Self = Self(70);
}

/// Why a command could not do what it was asked: what and where, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    hint: Option<String>,
}

impl Failure {
    /// Describes what failed, on which object, and why.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            hint: None,
        }
    }

    /// A mount or unmount that failed.
    pub(crate) fn mount(what: impl Into<String>) -> Self {
        Self::new(Exit::MOUNT_FAILED, what)
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Ends with another code.
    #[must_use]
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Returns the code that a command ends with for an error.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    error
        .downcast_ref::<Failure>()
        .map_or(Exit::FAILED, |failure| failure.exit)
}

/// Returns an error as one line, whatever its causes put into it.
pub(crate) fn line_of(error: &anyhow::Error) -> String {
    one_line(&format!("{error:#}"))
}

/// Returns a text with all that would break the line or the terminal made visible.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_is_one_line_with_its_hint_and_keeps_its_code() {
        let failure = Failure::mount("branch 2: \"/x\n\": missing").hint("make it");
        let error = Err::<(), _>(failure).context("cannot").unwrap_err();
        assert_eq!(exit_of(&error), Exit::MOUNT_FAILED);
        assert_eq!(
            line_of(&error),
            "cannot: branch 2: \"/x\\n\": missing; make it"
        );
    }
}
