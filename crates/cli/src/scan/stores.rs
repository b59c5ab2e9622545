//! Finding branches and layer stores that others left behind.

use std::fs;
use std::path::{Path, PathBuf};

use crate::render::path_text;

/// How deep to look.
const DEPTH: usize = 3;

/// Returns one line for each thing found in these directories or a little below.
pub(super) fn lines(dirs: &[PathBuf]) -> Vec<String> {
    let mut lines = Vec::new();
    for dir in dirs {
        look(dir, DEPTH, &mut lines);
    }
    lines
}

fn look(dir: &Path, depth: usize, lines: &mut Vec<String>) {
    let has = |name: &str| dir.join(name).symlink_metadata().is_ok();
    let layers = |name: &str| fs::read_dir(dir.join(name)).map_or(0, Iterator::count);
    let found = if has("layers") && has("diff") && has("mnt") {
        Some(format!("aufs store of Docker, {} layers", layers("layers")))
    } else if dir.ends_with("overlay2") && has("l") {
        Some(format!("overlay2 store of Docker, {} layers", layers("l")))
    } else if dir.ends_with("overlay") && has("l") {
        Some(format!("overlay store of podman, {} layers", layers("l")))
    } else if has(".wh..wh.aufs") || has(".wh..wh.plnk") {
        Some("writable branch of AUFS".to_owned())
    } else {
        None
    };
    if let Some(found) = found {
        lines.push(format!("{}: {found}", path_text::write(dir)));
        return;
    }
    if depth == 0 {
        return;
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut below: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    below.sort();
    for dir in below {
        look(&dir, depth - 1, lines);
    }
}
