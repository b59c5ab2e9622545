//! The branches of a mount: found, checked against each other and the mount point, opened.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rules::Errno;
use rules::options::{BranchChange, BranchMode, BranchSpec, MountOptions};
use sys::BranchTree;
use sys::host_tree::{Finder, Root};
use sys::mount_table::{self, MountEntry};

use super::image;
use super::place::errno_of;
use crate::failure::{Exit, Failure};

/// A branch that can be used.
#[derive(Debug)]
pub(crate) struct OpenBranch {
    /// Where it is, with all symbolic links followed.
    pub(crate) path: PathBuf,
    /// What it may be used for.
    pub(crate) mode: BranchMode,
    /// The tree.
    pub(crate) tree: BranchTree,
    /// What its root is, if it is a directory.
    root: Option<Root>,
}

impl OpenBranch {
    /// Returns the filesystem of a directory.
    fn device(&self) -> Option<u64> {
        self.root.as_ref().map(|root| root.dev)
    }
}

/// A directory as the kernel knows it.
type Identity = (u64, u64);

/// Finds, checks and opens the branches, topmost first.
pub(crate) fn open(
    parsed: &MountOptions,
    place: &Path,
    mounts: &[MountEntry],
) -> anyhow::Result<Vec<OpenBranch>> {
    let named = in_order(parsed)?;
    if named.is_empty() {
        return Err(Failure::mount("no branch")
            .hint("name them with br=TOP=rw:LOWER=ro, or with lowerdir=, upperdir= and workdir=")
            .into());
    }
    if named.len() > usize::from(u16::MAX) {
        return Err(Failure::mount(format!("{} branches: at most 65535", named.len())).into());
    }
    let mut checks = Checks {
        mounts,
        place,
        read_only: parsed.generic.read_only,
        known: HashMap::new(),
        finder: Finder::default(),
    };
    let mut found = Vec::with_capacity(named.len());
    for (index, spec) in named.iter().enumerate() {
        found.push(checks.branch(index, index, spec)?);
    }
    let dirs = found.iter().map(|branch| (&*branch.path, branch.device()));
    refuse_overlaps(&dirs.collect::<Vec<_>>(), &checks.known)?;
    check_work(parsed)?;
    Ok(found)
}

/// Finds, checks and opens one more branch of a stack that is mounted on `place`; `None` when it is in there already.
///
/// `default` is the position that decides on the mode if none is given.
pub(crate) fn open_one_more(
    spec: &BranchSpec,
    (index, default): (usize, usize),
    stack: &[&Path],
    place: &Path,
    read_only: bool,
) -> Result<Option<OpenBranch>, Failure> {
    let mounts = mount_table::read()
        .map_err(|errno| Failure::mount(format!("cannot read the mount table: {errno}")))?;
    let mut checks = Checks {
        mounts: &mounts,
        place,
        read_only,
        known: identities(stack),
        finder: Finder::default(),
    };
    if let Ok(metadata) = spec.path.metadata()
        && checks.known.contains_key(&(metadata.dev(), metadata.ino()))
    {
        return Ok(None);
    }
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    if device(&spec.path).is_some_and(|own| device(place) == Some(own)) {
        let failure = named(index, &spec.path, "lies in this union itself");
        return Err(failure.hint("take a directory outside of the mount point"));
    }
    let branch = checks.branch(index, default, spec)?;
    let mut paths = stack.to_vec();
    paths.push(&branch.path);
    // What an image holds is not in the directory around it.
    let directory = |path: &Path| path.metadata().ok().filter(|metadata| metadata.is_dir());
    let dirs = paths
        .iter()
        .map(|path| (*path, directory(path).map(|dir| dir.dev())));
    refuse_overlaps(&dirs.collect::<Vec<_>>(), &identities(&paths))?;
    Ok(Some(branch))
}

fn identities(paths: &[&Path]) -> HashMap<Identity, usize> {
    let numbered = paths.iter().enumerate();
    let known = numbered.filter_map(|(at, path)| {
        let metadata = path.metadata().ok()?;
        Some(((metadata.dev(), metadata.ino()), at))
    });
    known.collect()
}

/// Refuses a mode that a branch cannot have for what it is on.
pub(crate) fn refuse_mode_of_place(
    index: usize,
    path: &Path,
    mode: BranchMode,
    place: &Path,
) -> Result<(), Failure> {
    if mode.is_writable() && path.is_file() {
        let failure = named(index, path, "an image cannot be written to");
        return Err(failure.hint("give it =rr or =rr+wh"));
    }
    let mounts = mount_table::read()
        .map_err(|errno| Failure::mount(format!("cannot read the mount table: {errno}")))?;
    let checks = Checks {
        mounts: &mounts,
        place,
        read_only: false,
        known: HashMap::new(),
        finder: Finder::default(),
    };
    let spec = BranchSpec {
        path: path.to_owned(),
        mode: Some(mode),
    };
    checks.mode(index, index, &spec, (path, None)).map(drop)
}

/// Applies `add`, `append` and the like to the list, as AUFS does at mount.
fn in_order(parsed: &MountOptions) -> Result<Vec<BranchSpec>, Failure> {
    let mut list = parsed.branches.clone();
    for change in &parsed.changes {
        match change {
            BranchChange::Insert { index, branch } if *index <= list.len() => {
                list.insert(*index, branch.clone());
            }
            BranchChange::Insert { index, branch } => {
                return Err(Failure::mount(format!(
                    "add:{index}:{}: there are {} branches",
                    branch.path.display(),
                    list.len()
                ))
                .hint("take an index from 0 to the number of branches"));
            }
            BranchChange::Append(branch) => {
                // Never writable by default, not even as the only one.
                let mode = branch.mode.or(Some(BranchMode::RO));
                list.push(BranchSpec {
                    mode,
                    ..branch.clone()
                });
            }
            BranchChange::Prepend(branch) => list.insert(0, branch.clone()),
            BranchChange::Delete(path) => {
                let at = position(&list, path)?;
                list.remove(at);
            }
            BranchChange::SetMode { path, mode } => {
                let at = position(&list, path)?;
                list[at].mode = Some(*mode);
            }
        }
    }
    Ok(list)
}

fn position(list: &[BranchSpec], path: &Path) -> Result<usize, Failure> {
    let at = list.iter().position(|branch| branch.path == path);
    at.ok_or_else(|| Failure::mount(format!("{path:?}: no such branch")))
}

struct Checks<'a> {
    mounts: &'a [MountEntry],
    place: &'a Path,
    read_only: bool,
    /// Who was where first.
    known: HashMap<Identity, usize>,
    finder: Finder,
}

impl Checks<'_> {
    /// Checks and opens a branch for a position; `default` is the one that decides on its mode if none is given.
    fn branch(
        &mut self,
        index: usize,
        default: usize,
        spec: &BranchSpec,
    ) -> Result<OpenBranch, Failure> {
        let at = |why: &str| named(index, &spec.path, why);
        let said = |error: std::io::Error| refused(index, &spec.path, errno_of(&error));
        let (root, opened) = match self.finder.find(&spec.path) {
            Ok((tree, root)) => (root, Some(BranchTree::from(tree))),
            // An image, or what cannot be used; then looking says why.
            Err(_) => {
                let path = spec.path.canonicalize().map_err(said)?;
                (root_of(&path).map_err(said)?, None)
            }
        };
        if let Some(first) = self.known.insert((root.dev, root.ino), index) {
            return Err(at(&format!("the same directory as branch {first}")).hint("name it once"));
        }
        let path = root.path.clone();
        self.against_the_place(index, spec, &path)?;
        if opened.is_none() && path.is_file() {
            let mode = spec.mode.unwrap_or(BranchMode::RR);
            if mode.is_writable() {
                return Err(at("an image cannot be written to").hint("give it =rr or =rr+wh"));
            }
            let tree = image::open(&path).map_err(|failure| at(&failure.to_string()))?;
            return Ok(OpenBranch {
                path,
                mode,
                tree,
                root: None,
            });
        }
        if opened.is_none() && !path.is_dir() {
            return Err(refused(index, &spec.path, Errno::NOTDIR));
        }
        let mode = self.mode(index, default, spec, (&path, root.mount))?;
        let tree = match opened {
            Some(tree) => tree,
            None => BranchTree::open(&path).map_err(|errno| refused(index, &spec.path, errno))?,
        };
        Ok(OpenBranch {
            path,
            mode,
            tree,
            root: Some(root),
        })
    }

    /// A union that contains itself would wait for itself.
    fn against_the_place(
        &self,
        index: usize,
        spec: &BranchSpec,
        path: &Path,
    ) -> Result<(), Failure> {
        let why = if path == self.place {
            return Ok(());
        } else if path.starts_with(self.place) {
            format!("lies inside the mount point {:?}", self.place)
        } else if self.place.starts_with(path) {
            format!("the mount point {:?} lies inside it", self.place)
        } else {
            return Ok(());
        };
        Err(named(index, &spec.path, &why).hint("take a mount point outside of all branches"))
    }

    fn mode(
        &self,
        index: usize,
        default: usize,
        spec: &BranchSpec,
        (path, mount): (&Path, Option<u64>),
    ) -> Result<BranchMode, Failure> {
        let by_id = mount.and_then(|id| self.mounts.iter().find(|mount| mount.id == id));
        let Some(mount) = by_id.or_else(|| mount_of(self.mounts, path)) else {
            let default = BranchMode::default_for(default, self.read_only, false);
            return Ok(spec.mode.unwrap_or(default));
        };
        let at = |why: &str| named(index, &spec.path, why);
        if NO_BRANCHES.contains(&mount.fstype.as_str()) {
            let why = format!("a branch cannot be on {}", mount.fstype);
            return Err(at(&why).hint("take a directory on a disk or tmpfs"));
        }
        let native = NATIVELY_READ_ONLY.contains(&mount.fstype.as_str());
        let default = BranchMode::default_for(default, self.read_only, native);
        let mode = spec.mode.unwrap_or(default);
        let read_only = mount.has_option("ro") || mount.is_read_only_filesystem();
        if mode.is_writable() && read_only {
            return Err(at("writable, but its filesystem is read-only")
                .hint("give it =ro, or mount the filesystem writable"));
        }
        Ok(mode)
    }
}

/// Filesystems of which AUFS takes no branch, for nothing on them is a file.
const NO_BRANCHES: [&str; 5] = ["proc", "sysfs", "configfs", "debugfs", "securityfs"];

/// Filesystems that nobody can write to.
const NATIVELY_READ_ONLY: [&str; 5] = ["squashfs", "iso9660", "cramfs", "romfs", "erofs"];

/// Returns the mount that a path, without symbolic links in it, is on.
fn mount_of<'a>(mounts: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    let around = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mount_point));
    // Of several on one directory the last is topmost.
    around.max_by_key(|mount| mount.mount_point.as_os_str().len())
}

/// Looks at what has a path, without opening it.
fn root_of(path: &Path) -> std::io::Result<Root> {
    let metadata = path.metadata()?;
    Ok(Root {
        path: path.to_owned(),
        dev: metadata.dev(),
        ino: metadata.ino(),
        owner: (metadata.uid(), metadata.gid()),
        perm: metadata.mode() & 0o7777,
        mount: None,
    })
}

/// Refuses a branch inside another: one change would show twice. Each comes with its filesystem if it is a directory; what an
/// image holds is not in the directory around it.
fn refuse_overlaps(
    branches: &[(&Path, Option<u64>)],
    known: &HashMap<Identity, usize>,
) -> Result<(), Failure> {
    let mut seen: HashSet<&Path> = HashSet::new();
    for (index, (path, device)) in branches.iter().enumerate() {
        let Some(device) = device else { continue };
        for above in path.ancestors().skip(1) {
            if !seen.insert(above) {
                continue;
            }
            let Ok(metadata) = above.metadata() else {
                continue;
            };
            if metadata.dev() != *device {
                // On another filesystem: such a branch does not contain this one.
                seen.remove(above);
                break;
            }
            if let Some(outer) = known.get(&(metadata.dev(), metadata.ino())) {
                let why = format!("lies inside branch {outer}, {:?}", branches[*outer].0);
                return Err(named(index, path, &why).hint("branches must not contain each other"));
            }
        }
    }
    Ok(())
}

fn check_work(parsed: &MountOptions) -> Result<(), Failure> {
    let Some(work) = &parsed.work else {
        return Ok(());
    };
    let why = match work.metadata() {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => Errno::NOTDIR,
        Err(error) => errno_of(&error),
    };
    Err(Failure::mount(format!("workdir {work:?}: {why}")).hint("make the directory"))
}

/// Tells of a branch that cannot be used because of what the system said.
pub(crate) fn refused(index: usize, path: &Path, errno: Errno) -> Failure {
    let failure = named(index, path, &errno.to_string());
    match errno {
        Errno::NOENT => failure.hint("make the directory or leave the branch out"),
        Errno::NOTDIR => failure.hint("a branch is a directory"),
        Errno::ACCES | Errno::PERM => failure.exit(Exit::MOUNT_USAGE),
        Errno::MFILE => failure.hint("raise the limit on open files (ulimit -n)"),
        _ => failure,
    }
}

fn named(index: usize, path: &Path, why: &str) -> Failure {
    Failure::mount(format!("branch {index}: {path:?}: {why}"))
}

/// Returns what looks wrong and may be meant, as AUFS warns of it.
pub(crate) fn warnings(parsed: &MountOptions, branches: &[OpenBranch]) -> Vec<String> {
    let mut warnings = Vec::new();
    let writable = |branch: &OpenBranch| branch.mode.is_writable();
    if !parsed.generic.read_only && branches.first().is_some_and(|first| !writable(first)) {
        warnings.push("first branch should be rw".to_owned());
    }
    if branches.iter().any(|branch| branch.mode.fhsm) {
        let why = "ignored branch attribute fhsm: nothing moves files between branches by itself";
        warnings.push(why.to_owned());
    }
    if parsed.settings.show_whiteouts && branches.iter().any(writable) {
        let why = "shwh shows what the union itself writes to its writable branches";
        warnings.push(why.to_owned());
    }
    if !parsed.settings.direct_io {
        warnings.push("ignored option nodio: O_DIRECT always works".to_owned());
    }
    if parsed.settings.warn_permissions {
        warnings.extend(different_owners(branches));
    }
    warnings
}

fn different_owners(branches: &[OpenBranch]) -> Vec<String> {
    let facts = |branch: &OpenBranch| match &branch.root {
        Some(root) => Some((root.owner, root.perm)),
        None => {
            let metadata = branch.path.metadata().ok()?;
            let owner = (metadata.uid(), metadata.gid());
            Some((owner, metadata.mode() & 0o7777))
        }
    };
    let Some((first, others)) = branches.split_first() else {
        return Vec::new();
    };
    let top = facts(first);
    let differing = others.iter().filter(|branch| facts(branch) != top);
    differing
        .map(|branch| {
            format!(
                "{:?}: owner or permissions are not those of the first branch",
                branch.path
            )
        })
        .collect()
}
