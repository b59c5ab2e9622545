//! Operations on a plain directory: what POSIX says should happen.

use rules::{Changes, Creation, Errno, Identity, Kind, Name, SetTime, Time};
use testkit::MemoryTree;
use tree::{Access, Node, Object, Tree, XattrHow};

use crate::operation::Op;

/// Who does everything.
pub(crate) const OWNER: Identity = Identity {
    uid: 1000,
    gid: 1000,
};
/// The umask of whoever does it.
pub(crate) const UMASK: u32 = 0o022;

type Dir = <MemoryTree as Tree>::Dir;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("paths in tests are made of names")
}

/// Finds the directory that holds a path.
pub(crate) fn parent_of(tree: &MemoryTree, path: &str) -> Result<(Dir, Name), Errno> {
    let (dirs, last) = path
        .rsplit_once('/')
        .map_or(("", path), |(dirs, last)| (dirs, last));
    let mut dir = tree.root()?;
    for part in dirs.split('/').filter(|part| !part.is_empty()) {
        dir = tree.open_dir(&dir, &name(part))?;
    }
    Ok((dir, name(last)))
}

/// The changes that an operation makes to attributes, if that is what it does.
pub(crate) fn changes_of(op: &Op) -> Option<(&str, Changes)> {
    let none = Changes::default();
    Some(match op {
        Op::Truncate(path, size) => (
            path,
            Changes {
                size: Some(*size),
                ..none
            },
        ),
        Op::Chmod(path, perm) => (
            path,
            Changes {
                perm: Some(*perm),
                ..none
            },
        ),
        Op::Chown(path, uid, gid) => (
            path,
            Changes {
                uid: Some(*uid),
                gid: Some(*gid),
                ..none
            },
        ),
        Op::Utimens(path, seconds) => {
            let time = Some(SetTime::To(Time {
                seconds: *seconds,
                nanos: 1,
            }));
            (
                path,
                Changes {
                    mtime: time,
                    atime: time,
                    ..none
                },
            )
        }
        _ => return None,
    })
}

/// Does an operation.
pub(crate) fn apply(tree: &MemoryTree, op: &Op) -> Result<(), Errno> {
    let how = |perm| Creation {
        perm,
        umask: UMASK,
        owner: Some(OWNER),
    };
    if let Some((path, changes)) = changes_of(op) {
        if changes.size.is_some() {
            expect_file(tree, path)?;
        }
        let (dir, last) = parent_of(tree, path)?;
        return tree.set_attr(Object::Entry(&dir, &last), &changes);
    }
    match op {
        Op::Create(path) => {
            let (dir, last) = parent_of(tree, path)?;
            tree.create_file(&dir, &last, &how(0o666)).map(drop)
        }
        Op::Mkdir(path) => {
            let (dir, last) = parent_of(tree, path)?;
            tree.make_dir(&dir, &last, &how(0o777))
        }
        Op::Mkfifo(path) => {
            let (dir, last) = parent_of(tree, path)?;
            tree.make_node(&dir, &last, Node::Fifo, &how(0o666))
        }
        Op::Symlink(path) => {
            let (dir, last) = parent_of(tree, path)?;
            tree.make_symlink(&dir, &last, b"new", &how(0o777))
        }
        Op::Link(old, new) => {
            let (from, old) = parent_of(tree, old)?;
            tree.attr(Object::Entry(&from, &old))?;
            let (to, new) = parent_of(tree, new)?;
            tree.link(&from, &old, &to, &new)
        }
        Op::Unlink(path) => {
            let (dir, last) = parent_of(tree, path)?;
            tree.remove_file(&dir, &last)
        }
        Op::Rmdir(path) => {
            let (dir, last) = parent_of(tree, path)?;
            tree.remove_dir(&dir, &last)
        }
        Op::Rename(old, new, how) => {
            let (from, old) = parent_of(tree, old)?;
            let (to, new) = parent_of(tree, new)?;
            tree.rename(&from, &old, &to, &new, *how)
        }
        Op::Write(path, offset, text) => {
            expect_file(tree, path)?;
            let (dir, last) = parent_of(tree, path)?;
            let file = tree.open_file(&dir, &last, Access::ReadWrite)?;
            tree.write(&file, text.as_bytes(), *offset).map(drop)
        }
        Op::OpenTruncate(path) => {
            expect_file(tree, path)?;
            let (dir, last) = parent_of(tree, path)?;
            let file = tree.open_file(&dir, &last, Access::ReadWrite)?;
            let changes = Changes {
                size: Some(0),
                ..Changes::default()
            };
            tree.set_attr(Object::File(&file), &changes)
        }
        Op::SetXattr(path, value) => {
            let (dir, last) = parent_of(tree, path)?;
            tree.set_xattr(
                Object::Entry(&dir, &last),
                b"user.k",
                value.as_bytes(),
                XattrHow::Set,
            )
        }
        Op::RemoveXattr(path) => {
            let (dir, last) = parent_of(tree, path)?;
            tree.remove_xattr(Object::Entry(&dir, &last), b"user.k")
        }
        Op::Truncate(..) | Op::Chmod(..) | Op::Chown(..) | Op::Utimens(..) => {
            unreachable!("done above")
        }
    }
}

/// The kernel says no to data of what is no file before it asks anybody.
fn expect_file(tree: &MemoryTree, path: &str) -> Result<(), Errno> {
    let (dir, last) = parent_of(tree, path)?;
    match tree.attr(Object::Entry(&dir, &last))?.kind {
        Kind::File => Ok(()),
        Kind::Dir => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}
