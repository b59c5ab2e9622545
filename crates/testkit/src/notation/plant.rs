//! A tree from text.

use std::error::Error;

use rules::{Changes, Creation, Errno, Name};
use tree::{Node, Object, Tree, XattrHow};

use super::words::{bytes, device, pair, split};

type Done<T> = Result<T, Box<dyn Error>>;

/// Plants what the text draws, line after line; see [the notation](super).
///
/// Directories on the way to a path are made where they are missing, and a directory may be
/// there already: then only the words of its line are changed. Empty lines and lines that
/// begin with `#` are skipped.
///
/// # Panics
///
/// When a line is malformed or the tree refuses it; the message shows the line.
#[track_caller]
pub fn plant<T: Tree>(tree: &T, text: &str) {
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Err(error) = read(line).and_then(|line| plant_line(tree, &line)) {
            panic!("cannot plant {line:?}: {error}");
        }
    }
}

enum Deed {
    Root,
    Dir,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Node(Node),
    Link(Vec<u8>),
}

struct Line {
    path: Vec<u8>,
    deed: Deed,
    perm: Option<u32>,
    owner: Option<(u32, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn read(text: &str) -> Done<Line> {
    let mut words = split(text).into_iter();
    let first = words.next().ok_or("there is no path")?;
    let (path, deed) = match first.strip_suffix('/') {
        Some(".") => ("", Deed::Root),
        Some(path) => (path, Deed::Dir),
        None => (first, Deed::File(Vec::new())),
    };
    let path = bytes(path).ok_or("malformed path")?;
    let mut line = Line {
        path,
        deed,
        perm: None,
        owner: None,
        xattrs: Vec::new(),
    };
    while let Some(word) = words.next() {
        let mut argument = || words.next().ok_or(format!("nothing follows {word:?}"));
        match word {
            "->" => line.deed = Deed::Symlink(bytes(argument()?).ok_or("malformed target")?),
            "=" => line.deed = Deed::Link(bytes(argument()?).ok_or("malformed path")?),
            "fifo" => line.deed = Deed::Node(Node::Fifo),
            "socket" => line.deed = Deed::Node(Node::Socket),
            "c" | "b" => {
                let rdev = device(argument()?).ok_or("malformed device number")?;
                let character = word == "c";
                line.deed = Deed::Node(if character {
                    Node::CharDevice(rdev)
                } else {
                    Node::BlockDevice(rdev)
                });
            }
            _ if word.starts_with('"') => {
                line.deed = Deed::File(bytes(word).ok_or("malformed contents")?);
            }
            _ => line.read_attribute(word)?,
        }
    }
    Ok(line)
}

impl Line {
    fn read_attribute(&mut self, word: &str) -> Done<()> {
        if let Some((name, value)) = word.split_once('=') {
            let name = bytes(name).ok_or("malformed attribute")?;
            let value = bytes(value).ok_or("malformed value")?;
            self.xattrs.push((name, value));
        } else if word.contains(':') {
            self.owner = Some(pair(word).ok_or(format!("malformed owner {word:?}"))?);
        } else {
            let perm = u32::from_str_radix(word, 8)
                .ok()
                .filter(|perm| *perm <= 0o7777);
            self.perm = Some(perm.ok_or(format!("unknown word {word:?}"))?);
        }
        Ok(())
    }
}

fn plant_line<T: Tree>(tree: &T, line: &Line) -> Done<()> {
    if let Deed::Root = line.deed {
        return set_all(tree, Object::Dir(&tree.root()?), line, None);
    }
    let (dir, name) = walk_to(tree, &line.path)?;
    let object = Object::Entry(&dir, &name);
    let perm = line.perm.unwrap_or(0o644);
    match &line.deed {
        Deed::Root => {}
        Deed::Dir => {
            let made = match tree.make_dir(&dir, &name, &Creation::exact(0o755)) {
                Ok(()) => Some(0o755),
                Err(Errno::EXIST) => None,
                Err(errno) => return Err(errno.into()),
            };
            return set_all(tree, object, line, line.perm.or(made));
        }
        Deed::File(bytes) => {
            let file = tree.create_file(&dir, &name, &Creation::exact(perm))?;
            write_all(tree, &file, bytes)?;
        }
        Deed::Symlink(target) => {
            tree.make_symlink(&dir, &name, target, &Creation::exact(0o777))?;
            return set_all(tree, object, line, None);
        }
        Deed::Node(node) => tree.make_node(&dir, &name, *node, &Creation::exact(perm))?,
        Deed::Link(first) => {
            let (from, old) = walk_to(tree, first)?;
            return Ok(tree.link(&from, &old, &dir, &name)?);
        }
    }
    set_all(tree, object, line, Some(perm))
}

/// Sets owner, permissions and attributes, in the order in which none undoes another.
fn set_all<T: Tree>(tree: &T, object: Object<'_, T>, line: &Line, perm: Option<u32>) -> Done<()> {
    let changes = Changes {
        uid: line.owner.map(|(uid, _)| uid),
        gid: line.owner.map(|(_, gid)| gid),
        perm: perm.or(line.perm),
        ..Changes::default()
    };
    if !changes.is_empty() {
        tree.set_attr(object, &changes)?;
    }
    for (name, value) in &line.xattrs {
        tree.set_xattr(object, name, value, XattrHow::Set)?;
    }
    Ok(())
}

fn write_all<T: Tree>(tree: &T, file: &T::File, bytes: &[u8]) -> Result<(), Errno> {
    let mut offset = 0;
    while offset < bytes.len() {
        offset += tree.write(file, &bytes[offset..], offset as u64)?;
    }
    Ok(())
}

/// Opens the directory that holds a path, making what is missing on the way.
fn walk_to<T: Tree>(tree: &T, path: &[u8]) -> Done<(T::Dir, Name)> {
    let mut names = path
        .split(|byte| *byte == b'/')
        .map(Name::new)
        .collect::<Result<Vec<_>, _>>()?;
    let last = names.pop().ok_or("there is no path")?;
    let mut dir = tree.root()?;
    for name in names {
        dir = match tree.open_dir(&dir, &name) {
            Err(Errno::NOENT) => {
                tree.make_dir(&dir, &name, &Creation::exact(0o755))?;
                tree.open_dir(&dir, &name)?
            }
            opened => opened?,
        };
    }
    Ok((dir, last))
}
