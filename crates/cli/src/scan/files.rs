//! The scripts and configuration files below a directory.

use std::path::{Path, PathBuf};

use rules::{Kind, Name};
use sys::HostTree;
use tree::{Access, Object, Tree};

use super::FoundLine;
use crate::render::path_text;

/// Files longer than this are no scripts.
const LONGEST: u64 = 1 << 20;

/// How deep directories are looked into.
const DEPTH: usize = 24;

/// Looks at all scripts and configuration files below a directory, or at one file.
pub(super) fn scan(top: &Path) -> Vec<FoundLine> {
    let mut found = Vec::new();
    let (dir, only) = match (top.is_dir(), top.parent(), top.file_name()) {
        (false, Some(parent), Some(name)) if parent.as_os_str().is_empty() => {
            (Path::new("."), Some(name))
        }
        (false, Some(parent), Some(name)) => (parent, Some(name)),
        _ => (top, None),
    };
    let Ok(tree) = HostTree::open(dir) else {
        return found;
    };
    let Ok(root) = tree.root() else { return found };
    let Ok(attr) = tree.attr(Object::Dir(&root)) else {
        return found;
    };
    let walk = Walk {
        tree: &tree,
        dev: attr.dev,
    };
    match only.map(|name| Name::new(name.as_encoded_bytes())) {
        Some(Ok(name)) => walk.file(&root, &name, top, &mut found),
        Some(Err(_)) => {}
        None => walk.dir(&root, top, DEPTH, &mut found),
    }
    found
}

struct Walk<'a> {
    tree: &'a HostTree,
    /// Other filesystems are not entered.
    dev: u64,
}

impl Walk<'_> {
    /// What cannot be read is passed over: a scan is no audit.
    fn dir(
        &self,
        dir: &<HostTree as Tree>::Dir,
        path: &Path,
        depth: usize,
        found: &mut Vec<FoundLine>,
    ) {
        let mut entries = self.tree.list(dir).unwrap_or_default();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let Ok(Some(attr)) = self.tree.look(dir, &entry.name) else {
                continue;
            };
            let path: PathBuf = path.join(entry.name.as_os_str());
            match attr.kind {
                Kind::Dir if attr.dev == self.dev && depth > 0 => {
                    if let Ok(below) = self.tree.open_dir(dir, &entry.name) {
                        self.dir(&below, &path, depth - 1, found);
                    }
                }
                Kind::File => self.file(dir, &entry.name, &path, found),
                _ => {}
            }
        }
    }

    fn file(
        &self,
        dir: &<HostTree as Tree>::Dir,
        name: &Name,
        path: &Path,
        found: &mut Vec<FoundLine>,
    ) {
        let Ok(Some(attr)) = self.tree.look(dir, name) else {
            return;
        };
        if attr.kind != Kind::File || attr.size > LONGEST || is_document(name) {
            return;
        }
        let Some(text) = self.text(dir, name, attr.size) else {
            return;
        };
        let lines = super::look(path, &text);
        found.extend(lines.into_iter().map(|(line, text, trouble)| FoundLine {
            path: path_text::write(path),
            line,
            text,
            trouble,
        }));
    }

    /// Returns what a file says, unless it holds no text or is not about mounts at all.
    fn text(&self, dir: &<HostTree as Tree>::Dir, name: &Name, size: u64) -> Option<String> {
        let file = self.tree.open_file(dir, name, Access::ReadQuietly).ok()?;
        let mut buffer = vec![0; usize::try_from(size).ok()?];
        let count = self.tree.read(&file, &mut buffer, 0).ok()?;
        buffer.truncate(count);
        if buffer.contains(&0) {
            return None;
        }
        let text = String::from_utf8_lossy(&buffer).into_owned();
        (text.contains("aufs") || text.contains("mount")).then_some(text)
    }
}

/// Tells by its name that a file is to be read by people, or compiled.
fn is_document(name: &Name) -> bool {
    const ENDS: [&str; 17] = [
        "md", "txt", "rst", "html", "htm", "xml", "po", "mo", "css", "svg", "c", "h", "rs", "js",
        "patch", "diff", "log",
    ];
    const NAMES: [&str; 6] = [
        "README",
        "COPYING",
        "CHANGELOG",
        "ChangeLog",
        "LICENSE",
        "NEWS",
    ];
    let name = name.as_os_str().to_string_lossy();
    let end = name.rsplit_once('.').map(|(_, end)| end);
    NAMES.iter().any(|known| name.starts_with(known)) || end.is_some_and(|end| ENDS.contains(&end))
}
