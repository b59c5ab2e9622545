//! Where in a branch something is, and where a tool stopped.

use std::fmt;

use rules::{Errno, Name};
use tree::Tree;

/// Names from the root of a branch; none for the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place(Vec<Name>);

impl Place {
    /// The root of a branch.
    pub fn root() -> Self {
        Self::default()
    }

    /// Returns the place of a name in this directory.
    #[must_use]
    pub fn child(&self, name: &Name) -> Self {
        let mut names = self.0.clone();
        names.push(name.clone());
        Self(names)
    }

    /// Returns the names, from the root.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// Returns the names with slashes between them; empty for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        let names: Vec<_> = self.0.iter().map(Name::as_bytes).collect();
        names.join(&b'/')
    }

    /// Opens the directory that has the last name, and returns both; `None` for the root.
    pub(super) fn open_parent<T: Tree>(&self, tree: &T) -> Result<Option<(T::Dir, Name)>, Errno> {
        let Some((last, way)) = self.0.split_last() else {
            return Ok(None);
        };
        let mut dir = tree.root()?;
        for name in way {
            dir = tree.open_dir(&dir, name)?;
        }
        Ok(Some((dir, last.clone())))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        let text = String::from_utf8_lossy(&self.to_bytes()).into_owned();
        write!(f, "{}", text.escape_debug())
    }
}

/// A branch said no; what was done before stays done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {errno}")]
pub struct Stopped {
    /// Where.
    pub place: Place,
    /// What the branch said; `EIO` where a whiteout or mark is none.
    pub errno: Errno,
}
