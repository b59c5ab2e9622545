//! Operations on paths, as values that print and can be tried on anything.

use std::fmt;

use proptest::prelude::*;
use tree::RenameHow;

/// One changing operation.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Create(String),
    Mkdir(String),
    Mkfifo(String),
    Symlink(String),
    Link(String, String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String, RenameHow),
    Truncate(String, u64),
    Write(String, u64, String),
    OpenTruncate(String),
    Chmod(String, u32),
    Chown(String, u32, u32),
    Utimens(String, i64),
    SetXattr(String, String),
    RemoveXattr(String),
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(path) => write!(f, "create {path}"),
            Self::Mkdir(path) => write!(f, "mkdir {path}"),
            Self::Mkfifo(path) => write!(f, "mkfifo {path}"),
            Self::Symlink(path) => write!(f, "symlink {path}"),
            Self::Link(old, new) => write!(f, "link {old} {new}"),
            Self::Unlink(path) => write!(f, "unlink {path}"),
            Self::Rmdir(path) => write!(f, "rmdir {path}"),
            Self::Rename(old, new, how) => write!(f, "rename {old} {new} {how:?}"),
            Self::Truncate(path, size) => write!(f, "truncate {path} {size}"),
            Self::Write(path, offset, text) => write!(f, "write {path} at {offset} {text:?}"),
            Self::OpenTruncate(path) => write!(f, "open O_TRUNC {path}"),
            Self::Chmod(path, perm) => write!(f, "chmod {path} {perm:04o}"),
            Self::Chown(path, uid, gid) => write!(f, "chown {path} {uid}:{gid}"),
            Self::Utimens(path, seconds) => write!(f, "utimens {path} {seconds}"),
            Self::SetXattr(path, value) => write!(f, "setxattr {path} user.k={value}"),
            Self::RemoveXattr(path) => write!(f, "removexattr {path} user.k"),
        }
    }
}

/// Returns paths of one to three names, few enough to meet again.
pub(crate) fn any_path() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]",
        5 => "[a-c]/[a-c]",
        2 => "[a-b]/[a-b]/[a-c]",
    ]
}

/// Returns any operation.
pub(crate) fn any_op() -> impl Strategy<Value = Op> {
    let how = prop_oneof![
        4 => Just(RenameHow::Replace),
        1 => Just(RenameHow::NoReplace),
        2 => Just(RenameHow::Exchange),
    ];
    let perm = prop_oneof![Just(0o644), Just(0o700), Just(0o4755), Just(0o2775)];
    prop_oneof![
        2 => any_path().prop_map(Op::Create),
        3 => any_path().prop_map(Op::Mkdir),
        1 => any_path().prop_map(Op::Mkfifo),
        1 => any_path().prop_map(Op::Symlink),
        3 => (any_path(), any_path()).prop_map(|(old, new)| Op::Link(old, new)),
        5 => any_path().prop_map(Op::Unlink),
        4 => any_path().prop_map(Op::Rmdir),
        12 => (any_path(), any_path(), how).prop_map(|(old, new, how)| Op::Rename(old, new, how)),
        1 => (any_path(), 0..9u64).prop_map(|(path, size)| Op::Truncate(path, size)),
        2 => (any_path(), 0..4u64, "[x-z]{1,3}").prop_map(|(path, at, text)| Op::Write(path, at, text)),
        1 => any_path().prop_map(Op::OpenTruncate),
        1 => (any_path(), perm).prop_map(|(path, perm)| Op::Chmod(path, perm)),
        1 => (any_path(), 1..4u32, 1..4u32).prop_map(|(path, uid, gid)| Op::Chown(path, uid, gid)),
        1 => (any_path(), 1..99i64).prop_map(|(path, seconds)| Op::Utimens(path, seconds)),
        1 => (any_path(), "[u-w]").prop_map(|(path, value)| Op::SetXattr(path, value)),
        1 => any_path().prop_map(Op::RemoveXattr),
    ]
}
