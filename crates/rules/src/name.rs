//! One path component.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// One path component: never empty, `.` or `..`, and free of `/` and NUL.
///
/// Cloning is cheap: short names, which are most, are in the value itself, and the bytes of others are shared.
#[derive(Clone)]
pub struct Name(Bytes);

/// Names are kept by the hundred thousand, so that each byte of this counts.
#[derive(Clone)]
enum Bytes {
    Short {
        len: u8,
        bytes: [u8; SHORT],
    },
    /// In one piece of memory with its count of references.
    Middle(Arc<Middle>),
    Long(Arc<Box<[u8]>>),
}

struct Middle {
    len: u8,
    bytes: [u8; MIDDLE],
}

const SHORT: usize = 14;
const MIDDLE: usize = 39;

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
            Ok(Self(Bytes::of(bytes)))
        }
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short { len, bytes } => &bytes[..usize::from(*len)],
            Bytes::Middle(middle) => &middle.bytes[..usize::from(middle.len)],
            Bytes::Long(bytes) => bytes,
        }
    }

    /// Returns the name as the operating system's string type.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(self.as_bytes())
    }

    /// Returns the length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a name is never empty")]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Returns how many bytes of memory a name takes beside the value itself, which its clones share.
    pub fn shared_memory(&self) -> usize {
        // Two counts of references stand before what is shared.
        let counted = 2 * size_of::<usize>();
        match &self.0 {
            Bytes::Short { .. } => 0,
            Bytes::Middle(_) => counted + size_of::<Middle>(),
            Bytes::Long(bytes) => counted + size_of::<Box<[u8]>>() + bytes.len(),
        }
    }
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        match bytes.len() {
            len @ 0..=SHORT => Self::Short {
                len: len as u8,
                bytes: padded(bytes),
            },
            len @ 0..=MIDDLE => Self::Middle(Arc::new(Middle {
                len: len as u8,
                bytes: padded(bytes),
            })),
            _ => Self::Long(Arc::new(bytes.into())),
        }
    }
}

fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut padded = [0; N];
    padded[..bytes.len()].copy_from_slice(bytes);
    padded
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}",
            String::from_utf8_lossy(self.as_bytes()).escape_debug()
        )
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

    #[test]
    fn names_of_all_lengths_are_kept_in_two_words() {
        assert_eq!(size_of::<Name>(), 16);
        let longest = [b'n'; 300];
        let mut before: Option<Name> = None;
        for len in 1..=longest.len() {
            let name = Name::new(&longest[..len]).unwrap();
            assert_eq!(name.as_bytes(), &longest[..len]);
            assert_eq!((name.len(), &name.clone()), (len, &name));
            assert!(before.is_none_or(|before| before < name));
            before = Some(name);
        }
    }
}
