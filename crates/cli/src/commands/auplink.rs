//! `auplink MNT list|cpup|flush`: hard links of lower branches, on disk what they are in the union.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::control::{self, Answer, Ask, LinkDeed};
use crate::failure::{Exit, Failure};
use crate::helper_arguments::Arguments;
use crate::mounted_unions;
use crate::render::path_text;

const USAGE: &str = "usage: auplink MNT list|cpup|flush";

/// `auplink MNT list|cpup|flush`
pub(crate) fn run(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<Exit> {
    let usage = |what: String| Failure::new(Exit(2), what).hint(USAGE);
    let read = Arguments::read(words, "h", "", &["help", "version"]).map_err(usage)?;
    if read.has(&["h", "help"]) {
        crate::print_line(USAGE);
        return Ok(Exit::SUCCESS);
    }
    let [dir, deed] = &read.operands[..] else {
        return Err(usage(format!("{} operands", read.operands.len())).into());
    };
    let deed = match deed.to_str() {
        Some("list") => LinkDeed::List,
        Some("cpup") => LinkDeed::CopyUp,
        Some("flush") => LinkDeed::Flush,
        _ => return Err(usage(format!("unknown command {deed:?}")).into()),
    };
    let (mount, server) = mounted_unions::served_on(Path::new(dir))?;
    match control::order(&server, &Ask::Links { deed })? {
        Answer::Numbers(numbers) if !numbers.is_empty() => {
            let numbers: HashSet<u64> = numbers.into_iter().collect();
            let device = fs::symlink_metadata(&mount.mount_point)?.dev();
            list(&mount.mount_point, device, &numbers);
        }
        _ => {}
    }
    Ok(Exit::SUCCESS)
}

/// Prints the files with these inode numbers: number and path, one a line.
fn list(dir: &Path, device: u64, numbers: &HashSet<u64>) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return crate::print_warning(&format!("{dir:?}: {error}")),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            list(&path, device, numbers);
        } else if numbers.contains(&metadata.ino()) {
            crate::print_line(&format!("{} {}", metadata.ino(), path_text::write(&path)));
        }
    }
}
