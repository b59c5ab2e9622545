//! Trees as text and as data.
//!
//! One line for each name, sorted by path. What is not written has its default:
//!
//! ```text
//! ./            0700                      the root itself, only when it is special
//! d/            0755 uid:gid              a directory
//! d/f           "contents\n" 0600         a regular file
//! d/g           "x" user.a=value          with an extended attribute
//! dev           c 1:3                     a character device; `b` for block devices
//! h             = d/f                     a hard link to what is written above
//! l             -> target                 a symbolic link
//! p             fifo
//! s             socket
//! ```
//!
//! Words after the path may come in any order. Defaults: owner `0:0`, permissions 0644, for
//! directories 0755, for symbolic links none. Bytes that are not printable, spaces, quotes
//! and backslashes are written `\xNN`; inside quotes also `\n`, `\t`, `\"` and `\\`.

mod draw;
mod plant;
mod words;

use std::collections::BTreeMap;

use rules::{Attr, Errno, Kind, Name};
use tree::{Access, Object, Tree};

pub use self::draw::draw;
pub use self::plant::plant;

/// One object of a tree, without times and inode numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is, with its contents.
    pub what: What,
    /// Permission bits.
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same object, for all its hard links but the first.
    pub same_as: Option<Vec<u8>>,
}

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A regular file with its bytes.
    File(Vec<u8>),
    /// A directory.
    Dir,
    /// A symbolic link with its target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device with its number.
    CharDevice(u64),
    /// A block device with its number.
    BlockDevice(u64),
}

impl What {
    /// Returns the permissions that need no word.
    fn default_perm(&self) -> u32 {
        match self {
            Self::Dir => 0o755,
            Self::Symlink(_) => 0o777,
            _ => 0o644,
        }
    }
}

/// Returns all objects of a tree by path. The root has the empty path, others have no slash
/// in front.
///
/// # Panics
///
/// When the tree cannot be read; the message says where.
#[track_caller]
pub fn contents<T: Tree>(tree: &T) -> BTreeMap<Vec<u8>, Node> {
    let mut nodes = BTreeMap::new();
    let mut walk = Walk {
        tree,
        nodes: &mut nodes,
        numbers: BTreeMap::new(),
    };
    if let Err((path, errno)) = walk.root() {
        panic!("cannot read {:?}: {errno}", String::from_utf8_lossy(&path));
    }
    let numbers = walk.numbers;
    for paths in numbers.into_values() {
        // Directories are walked in their own order: the first link is the first by path.
        let mut paths = paths.into_iter();
        let first = paths.next();
        for path in paths {
            if let Some(node) = nodes.get_mut(&path) {
                node.same_as = first.clone();
            }
        }
    }
    nodes
}

type Failure = (Vec<u8>, Errno);

struct Walk<'a, T: Tree> {
    tree: &'a T,
    nodes: &'a mut BTreeMap<Vec<u8>, Node>,
    /// Paths of what has several links, by device and inode number.
    numbers: BTreeMap<(u64, u64), std::collections::BTreeSet<Vec<u8>>>,
}

impl<T: Tree> Walk<'_, T> {
    fn root(&mut self) -> Result<(), Failure> {
        let root = self.tree.root().map_err(|errno| (Vec::new(), errno))?;
        let read = || {
            let attr = self.tree.attr(Object::Dir(&root))?;
            node(self.tree, Object::Dir(&root), &attr, What::Dir)
        };
        let node = read().map_err(|errno| (Vec::new(), errno))?;
        self.nodes.insert(Vec::new(), node);
        self.below(&root, &[])
    }

    fn below(&mut self, dir: &T::Dir, path: &[u8]) -> Result<(), Failure> {
        let list = self
            .tree
            .list(dir)
            .map_err(|errno| (path.to_vec(), errno))?;
        for entry in list {
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend(entry.name.as_bytes());
            let found = self
                .entry(dir, &entry.name)
                .map_err(|errno| (below.clone(), errno))?;
            let (attr, node, subdir) = found;
            if attr.kind != Kind::Dir && attr.nlink > 1 {
                self.numbers
                    .entry((attr.dev, attr.ino))
                    .or_default()
                    .insert(below.clone());
            }
            self.nodes.insert(below.clone(), node);
            if let Some(subdir) = subdir {
                self.below(&subdir, &below)?;
            }
        }
        Ok(())
    }

    fn entry(&self, dir: &T::Dir, name: &Name) -> Result<(Attr, Node, Option<T::Dir>), Errno> {
        let object = Object::Entry(dir, name);
        let attr = self.tree.attr(object)?;
        let what = match attr.kind {
            Kind::File => What::File(read_all(self.tree, dir, name)?),
            Kind::Dir => What::Dir,
            Kind::Symlink => What::Symlink(self.tree.read_link(dir, name)?),
            Kind::Fifo => What::Fifo,
            Kind::Socket => What::Socket,
            Kind::CharDevice => What::CharDevice(attr.rdev),
            Kind::BlockDevice => What::BlockDevice(attr.rdev),
        };
        let subdir = match attr.kind {
            Kind::Dir => Some(self.tree.open_dir(dir, name)?),
            _ => None,
        };
        Ok((attr, node(self.tree, object, &attr, what)?, subdir))
    }
}

fn node<T: Tree>(tree: &T, object: Object<'_, T>, attr: &Attr, what: What) -> Result<Node, Errno> {
    let mut xattrs = BTreeMap::new();
    for name in tree.xattr_names(object)? {
        let value = tree.xattr(object, &name)?;
        xattrs.insert(name, value);
    }
    Ok(Node {
        what,
        perm: attr.perm,
        uid: attr.uid,
        gid: attr.gid,
        xattrs,
        same_as: None,
    })
}

fn read_all<T: Tree>(tree: &T, dir: &T::Dir, name: &Name) -> Result<Vec<u8>, Errno> {
    let file = tree.open_file(dir, name, Access::ReadQuietly)?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match tree.read(&file, &mut buffer, bytes.len() as u64)? {
            0 => return Ok(bytes),
            count => bytes.extend(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests;
