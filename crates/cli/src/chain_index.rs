//! The file with an index of a chain of branches: mapped, made, and put in the place of an old one.
//!
//! A file is never changed once it has its name, for others have it mapped: another one is made beside it, made durable, and renamed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rules::options::BranchMode;
use rules::{Attr, Errno, Time};
use sys::BranchTree;
use sys::mapping::{Mapping, NotMapped};
use union::{Branch, Built, DirectChanges, IndexBytes, Settings, Union};

use crate::mounting::image;
use crate::mounting::place::errno_of;

/// Only who made it reads it: it names what is in directories that others may not look into.
const PERM: u32 = 0o600;

/// How often a directory is read before memory is given back.
const READS: u32 = 64;

/// An index that is mapped.
pub(crate) struct Mapped {
    mapping: Mapping,
    reads: AtomicU32,
}

impl Mapped {
    /// Maps a file.
    pub(crate) fn of(path: &Path) -> Result<Self, NotMapped> {
        Ok(Self {
            mapping: Mapping::of(path)?,
            reads: AtomicU32::new(0),
        })
    }
}

impl IndexBytes for Mapped {
    fn bytes(&self) -> &[u8] {
        self.mapping.bytes()
    }

    fn done_reading(&self) {
        // What was read is in the union's memory now; the page cache keeps the rest for all mounts.
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        if reads % READS == READS - 1 {
            self.mapping.release();
        }
    }
}

/// A branch and what it is mounted as.
pub(crate) type ChainBranch = (PathBuf, BranchMode);

/// Stacks the branches alone, with the settings of a union that they belong to.
pub(crate) fn stack(
    branches: &[ChainBranch],
    settings: &Settings,
) -> anyhow::Result<Union<BranchTree>> {
    let open = |(path, mode): &ChainBranch| {
        let said = |why: &dyn std::fmt::Display| anyhow::anyhow!("branch {path:?}: {why}");
        let tree = if path.is_file() {
            image::open(path).map_err(|failure| said(&failure))?
        } else {
            BranchTree::open(path).map_err(|errno| said(&errno))?
        };
        let powers = mode.powers();
        Ok(Branch { tree, powers })
    };
    let opened = branches.iter().map(open).collect::<anyhow::Result<_>>()?;
    let settings = Settings {
        direct_changes: DirectChanges::None,
        create: Default::default(),
        move_when_full: false,
        ..settings.clone()
    };
    Ok(Union::new(opened, settings)?)
}

/// Makes an index of branches, topmost first, and gives it its name.
pub(crate) fn build(
    path: &Path,
    branches: &[ChainBranch],
    settings: &Settings,
) -> anyhow::Result<Built> {
    let union = stack(branches, settings)?;
    let (dir, name) = split(path)?;
    remove_leftovers(dir, name);
    let new = dir.join(new_name(name, std::process::id()));
    let made = write(&new, &union).and_then(|built| {
        fs::rename(&new, path).with_context(|| format!("{path:?}"))?;
        Ok(built)
    });
    if made.is_err() {
        // The error is what counts; the next one who makes an index removes the rest.
        fs::remove_file(&new).ok();
    }
    let built = made?;
    // If the name is lost with the power, the index is made anew.
    if let Err(error) = File::open(dir).and_then(|dir| dir.sync_all()) {
        tracing::debug!(%error, "the name of an index may not be on disk yet");
    }
    Ok(built)
}

fn write(new: &Path, union: &Union<BranchTree>) -> anyhow::Result<Built> {
    let create = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(PERM).open(new)
    };
    let file = match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A process of our number that is no more.
            fs::remove_file(new).and_then(|()| create())
        }
        file => file,
    };
    let file = file.with_context(|| format!("{new:?}"))?;
    let (out, built) = union.write_chain_index(BufWriter::new(file), is_settled)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error);
    file.and_then(|file| file.sync_all())
        .with_context(|| format!("{new:?}"))?;
    Ok(built)
}

/// How fine the times of a filesystem are: the kernel's own clock at worst, or whole seconds where there are no fractions.
fn grain(attr: &Attr) -> Duration {
    if attr.ctime.nanos == 0 && attr.mtime.nanos == 0 {
        Duration::from_secs(2)
    } else {
        Duration::from_millis(20)
    }
}

/// Returns whether a change now would give a directory another time, and waits until then.
fn is_settled(attr: &Attr) -> bool {
    let changed = since_1970(attr.ctime).saturating_add(grain(attr));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let wait = changed.saturating_sub(now);
    // A clock that is wrong is not waited for.
    if wait > Duration::from_secs(3) {
        return false;
    }
    thread::sleep(wait);
    true
}

fn since_1970(time: Time) -> Duration {
    u64::try_from(time.seconds).map_or(Duration::ZERO, |seconds| Duration::new(seconds, time.nanos))
}

/// Returns the directory and the name of a file.
fn split(path: &Path) -> anyhow::Result<(&Path, &OsStr)> {
    let name = path
        .file_name()
        .with_context(|| format!("{path:?}: no name of a file"))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    Ok((dir.unwrap_or(Path::new(".")), name))
}

fn new_name(name: &OsStr, pid: u32) -> OsString {
    let mut new = name.to_owned();
    new.push(format!(".{pid}.new"));
    new
}

/// Removes what processes left that ended while they made an index.
fn remove_leftovers(dir: &Path, name: &OsStr) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let pid = found
            .to_str()
            .zip(name.to_str())
            .and_then(|(found, name)| found.strip_prefix(name)?.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(".new")?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// Returns where a file is or will be, with all symbolic links on the way to it followed.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Errno> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new(".")).canonicalize();
    Ok(dir.map_err(|error| errno_of(&error))?.join(name))
}

/// Returns the branch that a file would be in: writing it would change what it is about.
pub(crate) fn branch_around<'a>(
    path: &Path,
    mut branches: impl Iterator<Item = &'a Path>,
) -> Option<&'a Path> {
    branches.find(|branch| path.starts_with(branch))
}
