//! A tree with the handles that a sequence of calls has opened.

use std::collections::BTreeSet;

use rules::{Attr, Errno, Kind, Name};
use tree::{Object, Seek, Tree};

use crate::calls::{About, Call, D, F, XATTRS, names, values};

/// What a call answers, as far as both trees must agree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Kinds(BTreeSet<(Name, u8)>),
    /// Mode, links, owner, group, device number, size.
    Attr(u32, u32, u32, u32, u64, u64),
    Bytes(Vec<u8>),
    XattrNames(BTreeSet<Vec<u8>>),
    Count(u64),
}

/// A tree with the handles that a sequence has opened.
pub(crate) struct World<T: Tree> {
    pub(crate) tree: T,
    dirs: Vec<T::Dir>,
    files: Vec<T::File>,
}

impl<T: Tree> World<T> {
    /// Opens the root.
    pub(crate) fn new(tree: T) -> Self {
        let root = tree.root().unwrap();
        Self {
            tree,
            dirs: vec![root],
            files: Vec::new(),
        }
    }

    /// Returns a directory handle.
    pub(crate) fn dir(&self, number: D) -> &T::Dir {
        &self.dirs[number % self.dirs.len()]
    }

    fn file(&self, number: F) -> Result<&T::File, Errno> {
        // Both worlds have equally many files, so both answer this alike.
        number
            .checked_rem(self.files.len())
            .map(|number| &self.files[number])
            .ok_or(Errno::BADF)
    }

    fn with<R>(
        &self,
        about: About,
        act: impl FnOnce(Object<'_, T>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        match about {
            About::Dir(dir) => act(Object::Dir(self.dir(dir))),
            About::Entry(dir, name) => act(Object::Entry(self.dir(dir), &names()[name])),
            About::File(file) => act(Object::File(self.file(file)?)),
        }
    }

    /// Makes a call.
    pub(crate) fn call(&mut self, call: &Call) -> Result<Answer, Errno> {
        self.change_names(call)
            .or_else(|| self.ask_and_change(call))
            .unwrap_or_else(|| self.use_file(call))
    }

    fn change_names(&mut self, call: &Call) -> Option<Result<Answer, Errno>> {
        let names = names();
        let tree = &self.tree;
        let done = match call {
            Call::CreateFile(dir, name, how) => {
                let file = tree.create_file(self.dir(*dir), &names[*name], how);
                file.map(|file| self.files.push(file))
            }
            Call::UnnamedFile(dir, how) => {
                let file = tree.unnamed_file(self.dir(*dir), how);
                file.map(|file| self.files.push(file))
            }
            Call::MakeDir(dir, name, how) => tree.make_dir(self.dir(*dir), &names[*name], how),
            Call::MakeNode(dir, name, node, how) => {
                tree.make_node(self.dir(*dir), &names[*name], *node, how)
            }
            Call::MakeSymlink(dir, name, target, how) => {
                tree.make_symlink(self.dir(*dir), &names[*name], target, how)
            }
            Call::Link(dir, name, to, new) => {
                tree.link(self.dir(*dir), &names[*name], self.dir(*to), &names[*new])
            }
            Call::LinkFile(file, to, new) => self
                .file(*file)
                .and_then(|file| tree.link_file(file, self.dir(*to), &names[*new])),
            Call::RemoveFile(dir, name) => tree.remove_file(self.dir(*dir), &names[*name]),
            Call::RemoveDir(dir, name) => tree.remove_dir(self.dir(*dir), &names[*name]),
            Call::Rename(dir, name, to, new, how) => tree.rename(
                self.dir(*dir),
                &names[*name],
                self.dir(*to),
                &names[*new],
                *how,
            ),
            Call::OpenDir(dir, name) => {
                let opened = tree.open_dir(self.dir(*dir), &names[*name]);
                opened.map(|dir| self.dirs.push(dir))
            }
            Call::OpenFile(dir, name, access) => {
                let opened = tree.open_file(self.dir(*dir), &names[*name], *access);
                opened.map(|file| self.files.push(file))
            }
            _ => return None,
        };
        Some(done.map(|()| Answer::Done))
    }

    fn ask_and_change(&self, call: &Call) -> Option<Result<Answer, Errno>> {
        let tree = &self.tree;
        let values = values();
        Some(match call {
            Call::List(dir) => tree.list(self.dir(*dir)).map(|list| {
                let kind = |kind: Option<Kind>| kind.map_or(0, Kind::dirent_type);
                Answer::Kinds(
                    list.into_iter()
                        .map(|entry| (entry.name, kind(entry.kind)))
                        .collect(),
                )
            }),
            Call::Attr(about) => self.with(*about, |object| tree.attr(object)).map(answer),
            Call::SetAttr(about, changes) => self
                .with(*about, |object| tree.set_attr(object, changes))
                .map(|()| Answer::Done),
            Call::ReadLink(dir, name) => tree
                .read_link(self.dir(*dir), &names()[*name])
                .map(Answer::Bytes),
            Call::Xattr(about, name) => self
                .with(*about, |object| tree.xattr(object, XATTRS[*name]))
                .map(Answer::Bytes),
            Call::XattrNames(about) => self
                .with(*about, |object| tree.xattr_names(object))
                .map(|names| Answer::XattrNames(names.into_iter().collect())),
            Call::SetXattr(about, name, value, how) => self
                .with(*about, |object| {
                    tree.set_xattr(object, XATTRS[*name], &values[*value], *how)
                })
                .map(|()| Answer::Done),
            Call::RemoveXattr(about, name) => self
                .with(*about, |object| tree.remove_xattr(object, XATTRS[*name]))
                .map(|()| Answer::Done),
            _ => return None,
        })
    }

    fn use_file(&self, call: &Call) -> Result<Answer, Errno> {
        let tree = &self.tree;
        match call {
            Call::Read(file, offset, length) => {
                let mut buffer = vec![0xaa; *length];
                let count = tree.read(self.file(*file)?, &mut buffer, *offset)?;
                buffer.truncate(count);
                Ok(Answer::Bytes(buffer))
            }
            Call::Write(file, offset, bytes) => {
                let count = tree.write(self.file(*file)?, bytes, *offset)?;
                Ok(Answer::Count(count as u64))
            }
            Call::Allocate(file, mode, offset, length) => tree
                .allocate(self.file(*file)?, *mode, *offset, *length)
                .map(|()| Answer::Done),
            Call::Seek(file, offset, what) => self.seek(self.file(*file)?, *offset, *what),
            Call::CopyRange(from, from_offset, to, to_offset, length) => {
                let (from, to) = (self.file(*from)?, self.file(*to)?);
                tree.copy_range(from, *from_offset, to, *to_offset, *length)
                    .map(Answer::Count)
            }
            Call::CopyData(from, to, length) => {
                let (from, to) = (self.file(*from)?, self.file(*to)?);
                // The contract is about an empty file that was opened for writing.
                if tree.attr(Object::File(to))?.size > 0 || tree.write(to, &[], 0).is_err() {
                    return Ok(Answer::Done);
                }
                tree.copy_data(from, to, *length).map(|()| Answer::Done)
            }
            Call::Sync(file, how) => tree
                .sync_file(self.file(*file)?, *how)
                .map(|()| Answer::Done),
            Call::SyncDir(dir) => tree.sync_dir(self.dir(*dir)).map(|()| Answer::Done),
            other => unreachable!("{other:?} was called before"),
        }
    }

    /// Filesystems may take zeros for data, so answers are only held against the contents.
    fn seek(&self, file: &T::File, offset: u64, what: Seek) -> Result<Answer, Errno> {
        let mut bytes = vec![0; self.tree.attr(Object::File(file))?.size as usize];
        self.tree.read(file, &mut bytes, 0)?;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let first_data = rest.iter().position(|byte| *byte != 0);
        match (what, self.tree.seek(file, offset, what)) {
            (Seek::Data, Ok(found)) => {
                let skipped = rest.get(..(found - offset) as usize);
                assert!(skipped.is_some_and(|skipped| skipped.iter().all(|byte| *byte == 0)));
            }
            (Seek::Data, Err(Errno::NXIO)) => assert_eq!(first_data, None),
            (Seek::Hole, Ok(found)) => {
                assert!((offset..=bytes.len() as u64).contains(&found));
                assert_eq!(bytes.get(found as usize).copied().unwrap_or(0), 0);
            }
            (Seek::Hole, Err(Errno::NXIO)) => assert!(rest.is_empty()),
            (_, Err(errno)) => return Err(errno),
        }
        Ok(Answer::Done)
    }
}

/// Directories have sizes of their own on each filesystem.
fn answer(attr: Attr) -> Answer {
    let size = if attr.kind == Kind::Dir { 0 } else { attr.size };
    Answer::Attr(attr.mode(), attr.nlink, attr.uid, attr.gid, attr.rdev, size)
}
