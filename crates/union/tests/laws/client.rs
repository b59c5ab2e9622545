//! A user of the union: goes by paths, holds references as the kernel does.

use rules::{Errno, Kind};
use tree::XattrHow;
use union::{Caller, Entry, Error, InodeId, OpenFlags, Refusal, Result};

use crate::operation::Op;
use crate::plain::{OWNER, UMASK, changes_of};
use crate::stack::MemoryUnion;

/// Looks paths up and keeps what it finds until it forgets all of it.
pub(crate) struct Client {
    pub(crate) union: MemoryUnion,
    held: Vec<InodeId>,
}

/// Who does everything.
pub(crate) const CALLER: Caller = Caller {
    owner: OWNER,
    umask: UMASK,
};

/// Opening for reading and writing.
pub(crate) const WRITE: OpenFlags = OpenFlags {
    write: true,
    truncate: false,
    drop_set_id: false,
    execute: false,
};

impl Client {
    pub(crate) fn new(union: MemoryUnion) -> Self {
        Self {
            union,
            held: Vec::new(),
        }
    }

    /// Gives every reference back.
    pub(crate) fn forget_all(&mut self) {
        for id in self.held.drain(..) {
            self.union.forget(id, 1);
        }
    }

    /// Leaves one reference to the caller.
    pub(crate) fn keep(&mut self, id: InodeId) {
        let at = self.held.iter().rposition(|held| *held == id);
        self.held.swap_remove(at.expect("it was found before"));
    }

    /// Finds what a path names.
    pub(crate) fn find(&mut self, path: &str) -> Result<Entry> {
        let (dir, last) = self.parent_of(path)?;
        let found = self.union.lookup(dir, last.as_bytes())?;
        let entry = found.ok_or(Refusal::NotFound)?;
        self.held.push(entry.id);
        Ok(entry)
    }

    pub(crate) fn parent_of<'p>(&mut self, path: &'p str) -> Result<(InodeId, &'p str)> {
        match path.rsplit_once('/') {
            Some((dir, last)) => {
                let dir = self.find(dir)?;
                if dir.attr.kind != Kind::Dir {
                    return Err(Refusal::NotDirectory.into());
                }
                Ok((dir.id, last))
            }
            None => Ok((InodeId::ROOT, path)),
        }
    }

    /// Reads a whole file.
    pub(crate) fn read(&mut self, path: &str) -> Result<Vec<u8>> {
        let id = self.find(path)?.id;
        read_all(&self.union, id)
    }

    /// Does an operation.
    pub(crate) fn apply(&mut self, op: &Op) -> Result<()> {
        if let Some((path, changes)) = changes_of(op) {
            let id = self.find(path)?.id;
            return self.union.set_attr(id, &changes).map(drop);
        }
        match op {
            Op::Create(path) => {
                let (dir, last) = self.parent_of(path)?;
                let (entry, _) =
                    self.union
                        .create(&CALLER, dir, last.as_bytes(), 0o666, true, WRITE)?;
                self.held.push(entry.id);
                self.union.release(entry.id);
            }
            Op::Mkdir(path) => {
                let (dir, last) = self.parent_of(path)?;
                let entry = self.union.make_dir(&CALLER, dir, last.as_bytes(), 0o777)?;
                self.held.push(entry.id);
            }
            Op::Mkfifo(path) => {
                let (dir, last) = self.parent_of(path)?;
                let entry =
                    self.union
                        .make_node(&CALLER, dir, last.as_bytes(), tree::Node::Fifo, 0o666)?;
                self.held.push(entry.id);
            }
            Op::Symlink(path) => {
                let (dir, last) = self.parent_of(path)?;
                let entry = self
                    .union
                    .make_symlink(&CALLER, dir, last.as_bytes(), b"new")?;
                self.held.push(entry.id);
            }
            Op::Link(old, new) => {
                let id = self.find(old)?.id;
                let (dir, last) = self.parent_of(new)?;
                let entry = self.union.link(id, dir, last.as_bytes())?;
                self.held.push(entry.id);
            }
            Op::Unlink(path) => {
                let (dir, last) = self.parent_of(path)?;
                self.union.unlink(dir, last.as_bytes())?;
            }
            Op::Rmdir(path) => {
                let (dir, last) = self.parent_of(path)?;
                self.union.rmdir(dir, last.as_bytes())?;
            }
            Op::Rename(old, new, how) => {
                let (from, old) = self.parent_of(old)?;
                let (to, new) = self.parent_of(new)?;
                self.union
                    .rename(from, old.as_bytes(), to, new.as_bytes(), *how)?;
            }
            Op::Write(path, offset, text) => {
                let id = self.find(path)?.id;
                self.union.open(id, WRITE)?;
                let written = self.union.write(id, text.as_bytes(), *offset, false);
                self.union.release(id);
                assert_eq!(written?, text.len(), "memory takes all bytes");
            }
            Op::OpenTruncate(path) => {
                let id = self.find(path)?.id;
                let flags = OpenFlags {
                    truncate: true,
                    ..WRITE
                };
                self.union.open(id, flags)?;
                self.union.release(id);
            }
            Op::SetXattr(path, value) => {
                let id = self.find(path)?.id;
                self.union
                    .set_xattr(id, b"user.k", value.as_bytes(), XattrHow::Set)?;
            }
            Op::RemoveXattr(path) => {
                let id = self.find(path)?.id;
                self.union.remove_xattr(id, b"user.k")?;
            }
            Op::Truncate(..) | Op::Chmod(..) | Op::Chown(..) | Op::Utimens(..) => {
                unreachable!("done above")
            }
        }
        Ok(())
    }
}

/// Reads a whole file that may or may not be open.
pub(crate) fn read_all(union: &MemoryUnion, id: InodeId) -> Result<Vec<u8>> {
    union.open(id, OpenFlags::default())?;
    let mut bytes = vec![0; 16 << 10];
    let count = union.read(id, &mut bytes, 0);
    union.release(id);
    bytes.truncate(count?);
    Ok(bytes)
}

/// Returns the errno of a result.
pub(crate) fn errno(result: &Result<()>) -> std::result::Result<(), Errno> {
    result.as_ref().copied().map_err(Error::errno)
}
