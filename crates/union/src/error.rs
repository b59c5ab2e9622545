//! Why an operation of the union did not succeed, and the errno an application sees.

use rules::{Errno, InvalidName};

/// Why the union itself says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such name.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("the name is taken")]
    Exists,
    /// A directory still has visible entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// A directory was not expected.
    #[error("is a directory")]
    IsDirectory,
    /// No branch may receive the change.
    #[error("no writable branch for this")]
    ReadOnly,
    /// A merged directory cannot move as a whole.
    #[error("the directory is merged from several branches")]
    CrossBranch,
    /// The name is one the dialect keeps for itself (`.wh.*`).
    #[error("the name is reserved for whiteouts")]
    Reserved,
    /// The name is longer than the dialect allows.
    #[error("the name is too long")]
    NameTooLong,
    /// Not a name, or a combination of arguments without a meaning.
    #[error("invalid argument")]
    Invalid,
    /// The root of the union cannot be removed or renamed.
    #[error("the object is in use")]
    Busy,
    /// The object lost its last name and left nothing open to reach it by.
    #[error("the object is gone")]
    Gone,
    /// A whiteout or mark on a branch is not what the format says.
    #[error("the branch is damaged")]
    Damaged,
    /// The branch or dialect cannot do this.
    #[error("not supported here")]
    NotSupported,
    /// The object is immutable, or the caller cannot be impersonated.
    #[error("not permitted")]
    NotPermitted,
}

/// An operation of the union that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A branch said no; its errno passes through untouched.
    #[error("branch: {0}")]
    Branch(#[from] Errno),
    /// The union said no; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Error {
    /// Returns the errno that the application gets.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Branch(errno) => *errno,
            Self::Refused(refusal) => match refusal {
                Refusal::NotFound => Errno::NOENT,
                Refusal::Exists => Errno::EXIST,
                Refusal::NotEmpty => Errno::NOTEMPTY,
                Refusal::NotDirectory => Errno::NOTDIR,
                Refusal::IsDirectory => Errno::ISDIR,
                Refusal::ReadOnly => Errno::ROFS,
                Refusal::CrossBranch => Errno::XDEV,
                Refusal::Reserved | Refusal::NotPermitted => Errno::PERM,
                Refusal::NameTooLong => Errno::NAMETOOLONG,
                Refusal::Invalid => Errno::INVAL,
                Refusal::Busy => Errno::BUSY,
                Refusal::Gone => Errno::STALE,
                Refusal::Damaged => Errno::IO,
                Refusal::NotSupported => Errno::OPNOTSUPP,
            },
        }
    }
}

impl From<InvalidName> for Error {
    fn from(_: InvalidName) -> Self {
        Self::Refused(Refusal::Invalid)
    }
}

/// What operations return.
pub type Result<T> = std::result::Result<T, Error>;
