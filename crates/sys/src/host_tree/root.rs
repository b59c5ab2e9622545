//! What is known of the root of a tree as soon as it is open.
//!
//! Two system calls for each that is beside another: a union may have thousands of branches.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rules::Errno;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, makedev};

use super::HostTree;
use crate::errno::IntoErrno;
use crate::proc;

/// What the system adds to the path of a directory that has been removed.
const DELETED: &[u8] = b" (deleted)";

/// The root of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Where it is, with all symbolic links followed.
    pub path: PathBuf,
    /// The filesystem.
    pub dev: u64,
    /// The inode number.
    pub ino: u64,
    /// Who owns it: user and group.
    pub owner: (u32, u32),
    /// Permissions.
    pub perm: u32,
    /// Id of the mount that it is on, if the system tells.
    pub mount: Option<u64>,
}

/// Finds the roots of trees, and remembers which directories around them are symbolic links.
#[derive(Debug, Default)]
pub struct Finder {
    /// Directories as they were named, with all symbolic links followed.
    around: HashMap<PathBuf, PathBuf>,
}

impl Finder {
    /// Opens a directory as the root of a tree and says what it is; symbolic links on the way to it are followed.
    ///
    /// # Errors
    ///
    /// What opening gives; `ENOENT` where the system does not tell a path for what is open.
    pub fn find(&mut self, path: &Path) -> Result<(HostTree, Root), Errno> {
        let (fd, path) = match self.beside(path) {
            Some(found) => found,
            None => by_descriptor(path)?,
        };
        let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(&fd, c"", flags, mask).errno()?;
        let tells_mount = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        let root = Root {
            path,
            dev: makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            owner: (stat.stx_uid, stat.stx_gid),
            perm: u32::from(stat.stx_mode) & 0o7777,
            mount: tells_mount.then_some(stat.stx_mnt_id),
        };
        Ok((HostTree::at(fd), root))
    }

    /// Opens a directory that is no symbolic link: its path is that of the directory around it, and its name.
    fn beside(&mut self, path: &Path) -> Option<(OwnedFd, PathBuf)> {
        let (parent, name) = (path.parent()?, path.file_name()?);
        let around = self.followed(parent)?;
        // Without what may stand behind the name: a slash would follow a link.
        let fd = open(&parent.join(name), OFlags::NOFOLLOW).ok()?;
        Some((fd, around.join(name)))
    }

    /// Returns a directory with all symbolic links followed.
    fn followed(&mut self, dir: &Path) -> Option<PathBuf> {
        if let Some(known) = self.around.get(dir) {
            return Some(known.clone());
        }
        let found = match (dir.parent(), dir.file_name()) {
            (Some(parent), Some(name)) => {
                let around = self.followed(parent)?;
                match rustix::fs::readlink(parent.join(name), Vec::new()).errno() {
                    // It is none.
                    Err(Errno::INVAL) => around.join(name),
                    _ => dir.canonicalize().ok()?,
                }
            }
            _ if dir.as_os_str().is_empty() => Path::new(".").canonicalize().ok()?,
            _ => dir.canonicalize().ok()?,
        };
        self.around.insert(dir.to_owned(), found.clone());
        Some(found)
    }
}

fn open(path: &Path, more: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | more;
    rustix::fs::open(path, flags, Mode::empty()).errno()
}

/// Opens a directory and asks the system where it is.
fn by_descriptor(path: &Path) -> Result<(OwnedFd, PathBuf), Errno> {
    let fd = open(path, OFlags::empty())?;
    let path = proc::path_of_open(fd.as_fd())
        .filter(|path| path.first() == Some(&b'/') && !path.ends_with(DELETED))
        .ok_or(Errno::NOENT)?;
    Ok((fd, OsString::from_vec(path).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn every_way_to_a_directory_gives_the_path_without_links() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path().canonicalize().unwrap();
        for dir in ["a/b/c", "a/x (deleted)"] {
            fs::create_dir_all(base.join(dir)).unwrap();
        }
        symlink("a/b", base.join("link")).unwrap();
        symlink("link", base.join("again")).unwrap();
        symlink("nowhere", base.join("dead")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        let mut finder = Finder::default();
        for (name, real) in [
            ("a/b/c", Some("a/b/c")),
            ("a/b", Some("a/b")),
            ("a/./b//", Some("a/b")),
            ("link", Some("a/b")),
            ("link/", Some("a/b")),
            ("link/.", Some("a/b")),
            ("link/c", Some("a/b/c")),
            ("again/c", Some("a/b/c")),
            ("again/..", Some("a")),
            ("link/../b/c", Some("a/b/c")),
            (".", Some("")),
            // Told as if it had gone: whoever wants it looks another way.
            ("a/x (deleted)/.", Some("a/x (deleted)")),
            ("dead", None),
            ("dead/x", None),
            ("file", None),
            ("a/none", None),
        ] {
            let path = base.join(name);
            let found = finder.find(&path).ok().map(|(_, root)| root);
            let real = real.map(|real| base.join(real).components().collect::<PathBuf>());
            assert_eq!(
                found.as_ref().map(|root| &root.path),
                real.as_ref(),
                "{name}"
            );
            if let Some(root) = found {
                let metadata = path.metadata().unwrap();
                assert_eq!((root.dev, root.ino), (metadata.dev(), metadata.ino()));
                assert_eq!(root.owner, (metadata.uid(), metadata.gid()));
            }
        }
        let (_, root) = Finder::default().find(Path::new("/")).unwrap();
        assert_eq!(root.path, Path::new("/"));
        let here = std::env::current_dir().unwrap();
        let (_, root) = Finder::default().find(Path::new("src")).unwrap();
        assert_eq!(root.path, here.join("src").canonicalize().unwrap());
    }
}
