//! A tree as text.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use tree::Tree;

use super::words::{device_words, quoted, word};
use super::{Node, What, contents};

/// Files with more bytes than this are drawn by size and hash.
const LONG: usize = 1024;

/// Draws a tree, sorted by path: equal trees give equal text.
///
/// Times and inode numbers are left out. A file of more than 1024 bytes is drawn by its
/// beginning, size and hash, and cannot be planted back; all else can.
///
/// # Panics
///
/// When the tree cannot be read; the message says where.
#[track_caller]
pub fn draw<T: Tree>(tree: &T) -> String {
    let mut text = String::new();
    for (path, node) in contents(tree) {
        let words = words(&node);
        if path.is_empty() && words.is_empty() {
            continue;
        }
        let path = match &node.what {
            _ if path.is_empty() => "./".to_owned(),
            What::Dir => word(&path) + "/",
            _ => word(&path),
        };
        text.push_str(&path);
        for word in words {
            text.push(' ');
            text.push_str(&word);
        }
        text.push('\n');
    }
    text
}

fn words(node: &Node) -> Vec<String> {
    if let Some(first) = &node.same_as {
        return vec![format!("= {}", word(first))];
    }
    let mut words = Vec::new();
    match &node.what {
        What::File(bytes) if bytes.is_empty() => {}
        What::File(bytes) => words.push(file(bytes)),
        What::Dir => {}
        What::Symlink(target) => words.push(format!("-> {}", word(target))),
        What::Fifo => words.push("fifo".to_owned()),
        What::Socket => words.push("socket".to_owned()),
        What::CharDevice(rdev) => words.push(format!("c {}", device_words(*rdev))),
        What::BlockDevice(rdev) => words.push(format!("b {}", device_words(*rdev))),
    }
    if node.perm != node.what.default_perm() {
        words.push(format!("{:04o}", node.perm));
    }
    if (node.uid, node.gid) != (0, 0) {
        words.push(format!("{}:{}", node.uid, node.gid));
    }
    for (name, value) in &node.xattrs {
        words.push(format!("{}={}", word(name), word(value)));
    }
    words
}

fn file(bytes: &[u8]) -> String {
    if bytes.len() <= LONG {
        return quoted(bytes);
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    let (start, size, hash) = (quoted(&bytes[..32]), bytes.len(), hasher.finish());
    format!("{start}... {size} bytes, hash {hash:016x}")
}
