//! `plywood umount` and umount(8)'s helper.
//!
//! When they return, the server has ended and the branches can be unmounted too.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use sys::mount_table::{self, MountEntry};
use sys::mounting::UnmountHow;
use sys::processes;

use crate::command_line::Umount;
use crate::control::{self, Ask, LinkDeed};
use crate::failure::{Exit, Failure, line_of};
use crate::helper_arguments::Arguments;
use crate::mounted_unions;
use crate::mounting::attach::{self, DetachError};
use crate::mounting::place::{is_dead, is_union};
use crate::render::busy;
use crate::run_state;

/// How long a server may take to end after its mount is gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same when users of the mount may keep it.
const SHORT_PATIENCE: Duration = Duration::from_millis(200);

/// `plywood umount DIR [--stale] [-l]`
pub(crate) fn run(arguments: &Umount) -> anyhow::Result<Exit> {
    let mount = mounted_unions::mount_on(&arguments.dir)?;
    let known = is_union(&mount) || run_state::server_of(&mount).is_some();
    if !known && !mount.fstype.starts_with("fuse.") {
        let what = format!(
            "{:?}: {} is not a union of ours",
            arguments.dir, mount.fstype
        );
        return Err(Failure::mount(what).hint("use umount(8)").into());
    }
    if arguments.stale {
        return unmount_dead(&mount);
    }
    unmount(
        &mount,
        if arguments.lazy {
            UnmountHow::Lazy
        } else {
            UnmountHow::Plain
        },
    )
}

/// `umount.TYPE DIR [-flnrv] [-N NAMESPACE] [-t TYPE]`
pub(crate) fn run_helper(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<Exit> {
    const USAGE: &str = "usage: DIR [-flnrv] [-t TYPE]";
    let usage = |what: String| Failure::new(Exit::MOUNT_USAGE, what).hint(USAGE);
    let read = Arguments::read(words, "flnrvih", "Nto", &["help", "version"]).map_err(usage)?;
    if read.has(&["h", "help"]) {
        crate::print_line(USAGE);
        return Ok(Exit::SUCCESS);
    }
    if read.all('N').next().is_some() {
        let what = "-N: unmounting in another namespace is not supported yet";
        return Err(Failure::new(Exit::MOUNT_USAGE, what).into());
    }
    let [dir] = &read.operands[..] else {
        return Err(usage(format!("{} operands", read.operands.len())).into());
    };
    let mount = mounted_unions::mount_on(Path::new(dir))?;
    let how = if read.has(&["l"]) {
        UnmountHow::Lazy
    } else if read.has(&["f"]) {
        UnmountHow::Force
    } else {
        UnmountHow::Plain
    };
    if how == UnmountHow::Plain {
        flush_links(&mount);
    }
    unmount(&mount, how)
}

/// Gives hard links of AUFS's dialect their names on disk, as `umount.aufs` always did. What fails does not keep the mount.
fn flush_links(mount: &MountEntry) {
    let Some(server) = run_state::server_of(mount).filter(|server| server.dialect == "aufs") else {
        return;
    };
    let deed = LinkDeed::Flush;
    if let Err(error) = control::order(&server, &Ask::Links { deed }) {
        let why = line_of(&error);
        crate::print_warning(&format!(
            "hard links stay in the store of the branch: {why}"
        ));
    }
}

fn unmount(mount: &MountEntry, how: UnmountHow) -> anyhow::Result<Exit> {
    let place = &mount.mount_point;
    let server = run_state::server_of(mount);
    match attach::detach(place, how) {
        Ok(()) => {}
        Err(DetachError::Busy) => {
            let what = format!("{place:?}: in use by {}", busy::line(place));
            return Err(Failure::mount(what)
                .hint("end them, or unmount lazily with -l")
                .into());
        }
        Err(DetachError::Failed(failure)) => return Err(failure.into()),
    }
    if let Some(server) = server {
        let patience = if how == UnmountHow::Lazy || is_still_mounted(mount) {
            SHORT_PATIENCE
        } else {
            PATIENCE
        };
        if !processes::wait_gone(server.pid, patience).unwrap_or(true) && how == UnmountHow::Plain {
            tracing::debug!(pid = server.pid, "the server has not ended yet");
        }
    }
    Ok(Exit::SUCCESS)
}

/// A bind mount, for example.
fn is_still_mounted(mount: &MountEntry) -> bool {
    let table = mount_table::read().unwrap_or_default();
    table.iter().any(|entry| entry.device == mount.device)
}

fn unmount_dead(mount: &MountEntry) -> anyhow::Result<Exit> {
    let place = &mount.mount_point;
    if !is_dead(place) {
        let what = format!("{place:?}: its server is alive");
        return Err(Failure::mount(what).hint("leave out --stale").into());
    }
    match attach::detach(place, UnmountHow::Lazy) {
        Ok(()) => Ok(Exit::SUCCESS),
        Err(DetachError::Busy) => Err(Failure::mount(format!("{place:?}: in use")).into()),
        Err(DetachError::Failed(failure)) => Err(failure.into()),
    }
}
