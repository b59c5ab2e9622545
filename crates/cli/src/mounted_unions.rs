//! Finding the union that a path belongs to.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rules::Name;
use sys::mount_table::{self, MountEntry};

use crate::failure::Failure;
use crate::mounting::place::is_union;
use crate::run_state::{self, RunState};

/// A union that is mounted, as the mount table and its server tell.
#[derive(Debug)]
pub(crate) struct MountedUnion {
    /// The mount, unless it is one of another namespace.
    pub(crate) mount: Option<MountEntry>,
    /// What its server tells; nobody may be there to.
    pub(crate) server: Option<RunState>,
}

impl MountedUnion {
    /// Returns where it is mounted.
    pub(crate) fn place(&self) -> PathBuf {
        match (&self.mount, &self.server) {
            (Some(mount), _) => mount.mount_point.clone(),
            (None, Some(server)) => run_state::path_of(&server.mount_point),
            (None, None) => PathBuf::new(),
        }
    }
}

/// Returns all mounted unions, in order of their places.
pub(crate) fn all() -> anyhow::Result<Vec<MountedUnion>> {
    let mounts = table()?;
    let servers = run_state::all();
    let mut unions: Vec<_> = mounts
        .iter()
        .filter_map(|mount| {
            let server = run_state::among(&servers, mount);
            (server.is_some() || is_union(mount)).then(|| MountedUnion {
                mount: Some(mount.clone()),
                server: server.cloned(),
            })
        })
        .collect();
    let elsewhere = servers
        .iter()
        .filter(|server| !mounts.iter().any(|mount| server.is_of(mount)));
    unions.extend(elsewhere.map(|server| MountedUnion {
        mount: None,
        server: Some(server.clone()),
    }));
    unions.sort_by_key(MountedUnion::place);
    Ok(unions)
}

/// Returns the mount on a directory, which may be named through symbolic links.
pub(crate) fn mount_on(dir: &Path) -> anyhow::Result<MountEntry> {
    let direct = mount_table::mount_at(dir).unwrap_or_default();
    let found = direct.or_else(|| {
        let followed = dir.canonicalize().ok()?;
        mount_table::mount_at(&followed).ok().flatten()
    });
    let not_mounted = || Failure::mount(format!("{dir:?}: not mounted"));
    Ok(found.ok_or_else(not_mounted)?)
}

/// Returns the union that is mounted on a directory, with its server.
pub(crate) fn served_on(dir: &Path) -> anyhow::Result<(MountEntry, RunState)> {
    let mount = mount_on(dir)?;
    if let Some(server) = run_state::server_of(&mount) {
        return Ok((mount, server));
    }
    let failure = if is_union(&mount) {
        Failure::mount(format!("{dir:?}: its server is dead or another user's"))
            .hint("`plywood umount --stale` cleans up after a dead one")
    } else {
        Failure::mount(format!("{dir:?}: {} is not a union of ours", mount.fstype))
            .hint("`plywood status` lists the unions")
    };
    Err(failure.into())
}

/// Returns the union that a path is in with its server, and the way from the mount point.
///
/// The path need not exist: what is missing at its end is taken as written.
pub(crate) fn around(path: &Path) -> anyhow::Result<(MountEntry, RunState, Vec<Name>)> {
    let resolved = resolved(path)?;
    let mounts = table()?;
    let above = mounts
        .iter()
        .filter(|mount| resolved.starts_with(&mount.mount_point));
    let nowhere = || {
        Failure::mount(format!("{path:?}: not in a mounted union"))
            .exit(crate::failure::Exit::FAILED)
            .hint("`plywood status` lists them")
    };
    let mount = above
        .max_by_key(|mount| mount.mount_point.as_os_str().len())
        .ok_or_else(nowhere)?;
    let Some(server) = run_state::server_of(mount) else {
        if !is_union(mount) {
            return Err(nowhere().into());
        }
        return Err(nowhere()
            .hint("its server is dead or another user's")
            .into());
    };
    // A bind mount may show a part of the union only.
    let inside = resolved.strip_prefix(&mount.mount_point)?;
    let from_root = mount.root.strip_prefix("/").unwrap_or(&mount.root);
    let names = from_root.join(inside);
    let names = names
        .iter()
        .map(|name| Name::new(name.as_encoded_bytes()).map_err(|_| nowhere()));
    let names = names.collect::<Result<_, _>>()?;
    Ok((mount.clone(), server, names))
}

fn table() -> anyhow::Result<Vec<MountEntry>> {
    mount_table::read().context("cannot read the mount table")
}

/// Resolves everything but the last component, as far as it exists.
fn resolved(path: &Path) -> anyhow::Result<PathBuf> {
    let absolute = std::path::absolute(path).with_context(|| format!("{path:?}"))?;
    let (Some(parent), Some(last)) = (absolute.parent(), absolute.file_name()) else {
        return Ok(absolute.canonicalize()?);
    };
    for existing in parent.ancestors() {
        if let Ok(there) = existing.canonicalize() {
            return Ok(there.join(parent.strip_prefix(existing)?).join(last));
        }
    }
    Ok(absolute)
}
