//! `plywood install-helpers`: the names by which others look for us.
//!
//! Only symbolic links to a `plywood` are ever replaced or removed.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::command_line::InstallHelpers;
use crate::failure::Exit;
use crate::personality::{FUSE_OVERLAYFS, HELPERS, MOUNT, TOOLS};

/// `plywood install-helpers [--prefix DIR] [--remove]`
pub(crate) fn run(arguments: &InstallHelpers) -> anyhow::Result<Exit> {
    let program = std::env::current_exe()
        .and_then(|program| program.canonicalize())
        .context("cannot find this program")?;
    let mut ended = Exit::SUCCESS;
    for link in links(arguments) {
        let done = if arguments.remove {
            remove(&link)
        } else {
            place(&link, &program)
        };
        match done {
            Ok(Some(line)) => crate::print_line(&line),
            Ok(None) => {}
            Err(error) => {
                crate::print_error(&format!("{}: {error:#}", link.display()));
                ended = Exit::FAILED;
            }
        }
    }
    Ok(ended)
}

fn links(arguments: &InstallHelpers) -> Vec<PathBuf> {
    let sbin = arguments.prefix.join("sbin");
    let bin = arguments.prefix.join("bin");
    let mut links: Vec<_> = HELPERS.iter().map(|(name, _)| sbin.join(name)).collect();
    links.push(bin.join("plywood"));
    links.extend(TOOLS.iter().map(|(name, _)| bin.join(name)));
    if arguments.fuse_overlayfs || arguments.remove {
        links.push(bin.join(FUSE_OVERLAYFS));
    }
    links.extend(arguments.mount_front.iter().map(|dir| dir.join(MOUNT)));
    links
}

fn place(link: &Path, program: &Path) -> anyhow::Result<Option<String>> {
    // The program may be installed at one of the names already.
    if link.canonicalize().is_ok_and(|target| target == program) {
        return Ok(Some(format!("{} is there", link.display())));
    }
    if link.symlink_metadata().is_ok() && !is_ours(link) {
        anyhow::bail!("is not one of our links; move it away first");
    }
    let dir = link.parent().context("no directory")?;
    fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
    let new = dir.join(format!(".plywood.{}", std::process::id()));
    symlink(program, &new)?;
    fs::rename(&new, link)?;
    Ok(Some(format!("{} -> {}", link.display(), program.display())))
}

fn remove(link: &Path) -> anyhow::Result<Option<String>> {
    if !is_ours(link) {
        return Ok(None);
    }
    match fs::remove_file(link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        removed => {
            removed?;
            Ok(Some(format!("removed {}", link.display())))
        }
    }
}

/// Tells whether a link leads to a `plywood`, be it one that is gone.
pub(crate) fn is_ours(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| {
        target
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("plywood"))
    })
}
