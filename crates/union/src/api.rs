//! The words in which a front end and the union talk.

use std::sync::Arc;

use rules::{Attr, Identity, Kind, Name};
use tree::Tree;

use crate::open_file::OpenFile;

/// The number by which a front end names an object while it holds references to it.
///
/// Never reused while the union lives; it is not the inode number that applications see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(pub u64);

impl InodeId {
    /// The root directory.
    pub const ROOT: Self = Self(1);
}

/// What a branch is called while it is in the stack, wherever that is. Never used again by the same union.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchId(pub u32);

/// An object found under a name. The front end owns one more reference to `id`, see `Union::forget`.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The object.
    pub id: InodeId,
    /// Its attributes; `ino` is the union's own number.
    pub attr: Attr,
}

/// Who asks for a new object.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Owner of what is made.
    pub owner: Identity,
    /// The caller's umask, to be applied unless a default ACL takes its place.
    pub umask: u32,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// Writing (also together with reading).
    pub write: bool,
    /// The contents go away at open (`O_TRUNC`).
    pub truncate: bool,
    /// Truncating takes set-id bits away (the caller lacks `CAP_FSETID`).
    pub drop_set_id: bool,
    /// Execution: while it lasts nobody writes.
    pub execute: bool,
}

/// How data of an open file travels.
pub struct Opened<T: Tree> {
    /// The branch's file, open for all that the branch allows, when the object cannot move to another
    /// branch any more: its data may bypass the union. `None` while a copy-up may still happen.
    pub settled: Option<Arc<OpenFile<T::File>>>,
    /// Whether that file is a lower one, which nobody may write to.
    pub lent: bool,
    /// Whether data cached from earlier opens is still right.
    pub keep_cache: bool,
    /// Whether every read should be asked for, even one of an empty file: a name gets its link by being read.
    pub reads_matter: bool,
}

/// One name of a directory listing.
pub struct Listed<'a> {
    /// The name as bytes; `.` and `..` included.
    pub name: &'a [u8],
    /// The kind, if it is known without asking the object.
    pub kind: Option<Kind>,
    /// The union's inode number; 0 when it is not known without asking the object.
    pub ino: u64,
    /// Where reading goes on after this name.
    pub next_offset: u64,
    /// The object itself, when it was asked for; never for `.` and `..`. The receiver owns the reference
    /// if it returns `true`.
    pub entry: Option<Entry>,
}

/// What a front end does when cached knowledge of it becomes wrong by something it did not ask for.
///
/// Calls may come while locks are held: an implementation must only note them down.
pub trait Observer: Send + Sync {
    /// A name means something else now, or is gone or new.
    fn entry_changed(&self, parent: InodeId, name: &Name);
    /// Attributes of an object changed.
    fn attributes_changed(&self, id: InodeId);
    /// Contents of a file or directory changed.
    fn contents_changed(&self, id: InodeId);
    /// Asks to call `Union::finish_pending` soon, from a thread of its own. `false`: nobody will.
    fn work_is_pending(&self) -> bool;
    /// Asks to call `Union::save_memory` soon, from a thread of its own.
    fn memory_is_short(&self) {}
    /// The union would like these objects to be forgotten, as far as nobody uses them.
    fn unused(&self, _ids: &[InodeId]) {}
}

/// Hears of changes that anybody makes in directories of branches, and tells them to `Union::branch_changed`.
///
/// Calls may come while locks are held: an implementation must not call the union from them.
pub trait Watcher<T: Tree>: Send + Sync {
    /// Watches what a directory has on a branch: each change after this call is told. `false`: it cannot be watched.
    /// Watching one again changes nothing.
    fn watch(&self, id: InodeId, branch: BranchId, dir: &T::Dir) -> bool;
    /// Ends all watches of a directory.
    fn unwatch(&self, id: InodeId);
}

/// What somebody changed in a directory of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DirectChange<'a> {
    /// What has this name there, or what that contains: it is new, gone, or another one.
    Name(&'a [u8]),
    /// Attributes of the directory itself.
    Attributes,
    /// Anything: changes were lost, or the watch ended.
    Lost,
}
