//! One path component.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// One path component: never empty, `.` or `..`, and free of `/` and NUL.
///
/// Cloning is cheap: the bytes are shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

/// Bytes that are no path component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidName;

impl Name {
    /// Checks the bytes and keeps them.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidName> {
        let bad = bytes.is_empty()
            || bytes == b"."
            || bytes == b".."
            || bytes.iter().any(|byte| matches!(byte, b'/' | 0));
        if bad {
            Err(InvalidName)
        } else {
            Ok(Self(bytes.into()))
        }
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the name as the operating system's string type.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// Returns the length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a name is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0).escape_debug())
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a path component")
    }
}

impl std::error::Error for InvalidName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
            assert_eq!(Name::new(bad), Err(InvalidName), "{bad:?}");
        }
        for good in [&b"a"[..], b"...", b".wh.", b"\xff", b" "] {
            assert_eq!(
                Name::new(good).map(|name| name.as_bytes().to_vec()),
                Ok(good.to_vec())
            );
        }
    }
}
