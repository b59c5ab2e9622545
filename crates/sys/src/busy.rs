//! Who keeps a mount busy.
//!
//! Only `/proc` is read, never the mount: its server may hang. Processes in other mount
//! namespaces are found too, by the number of the filesystem.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rules::Errno;

use crate::errno::IntoErrno;
use crate::mount_table::{self, DeviceNumber, MountEntry};
use crate::proc;

/// A process that uses a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// Its id.
    pub pid: u32,
    /// Its short name (`comm`).
    pub command: String,
    /// What it uses.
    pub what: Use,
    /// Its inode number, where the kernel tells: of open and mapped files, whose path may be out of date.
    pub ino: Option<u64>,
}

/// What a process uses of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// Its working directory is there.
    Cwd(PathBuf),
    /// Its root directory is there.
    Root(PathBuf),
    /// The program it runs is there.
    Exe(PathBuf),
    /// It has a file or directory open.
    File(PathBuf),
    /// It has a file mapped into its memory.
    Map(PathBuf),
}

/// Finds who uses the filesystem of a mount; one line per thing used, in order of process id.
///
/// Processes that end meanwhile, or that this one may not look into, are left out.
pub fn users_of(mount: &MountEntry) -> Result<Vec<Busy>, Errno> {
    let mut pids: Vec<u32> = fs::read_dir(proc::path(""))
        .errno()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids
        .into_iter()
        .flat_map(|pid| uses_by(pid, mount.device))
        .collect())
}

fn uses_by(pid: u32, device: DeviceNumber) -> Vec<Busy> {
    // Kernel threads, and processes that are gone, have none.
    let Ok(mut mounts) = mount_table::read_of(pid) else {
        return Vec::new();
    };
    mounts.retain(|mount| mount.device == device);
    let process = PathBuf::from(proc::path(&pid.to_string()));
    let uses: Vec<(Use, Option<u64>)> = links(&process, &mounts)
        .into_iter()
        .map(|used| (used, None))
        .chain(open_files(&process, &mounts))
        .chain(maps(&process, device))
        .collect();
    if uses.is_empty() {
        return Vec::new();
    }
    let command = fs::read(process.join("comm")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).trim_end().to_owned();
    uses.into_iter()
        .map(|(what, ino)| Busy {
            pid,
            command: command.clone(),
            what,
            ino,
        })
        .collect()
}

/// Working directory, root and program: their links are read, not followed.
fn links(process: &Path, mounts: &[MountEntry]) -> Vec<Use> {
    let target = |name: &str| {
        let target = fs::read_link(process.join(name)).ok()?;
        inside(&target, mounts).then_some(target)
    };
    let cwd = target("cwd").map(Use::Cwd);
    let root = target("root").map(Use::Root);
    let exe = target("exe").map(Use::Exe);
    [cwd, root, exe].into_iter().flatten().collect()
}

/// A removed file keeps its path, with ` (deleted)` behind it.
fn inside(path: &Path, mounts: &[MountEntry]) -> bool {
    mounts.iter().any(|mount| {
        let deleted = [mount.mount_point.as_os_str().as_bytes(), b" (deleted)"].concat();
        path.starts_with(&mount.mount_point) || path.as_os_str().as_bytes() == deleted
    })
}

/// Open files are known by the id of their mount.
fn open_files(process: &Path, mounts: &[MountEntry]) -> Vec<(Use, Option<u64>)> {
    let Ok(open) = fs::read_dir(process.join("fd")) else {
        return Vec::new();
    };
    let numbers = open.filter_map(|entry| Some(entry.ok()?.file_name()));
    let used = numbers.filter_map(|number| {
        let info = fs::read_to_string(process.join("fdinfo").join(&number)).ok()?;
        let field = |name: &str| -> Option<u64> {
            let line = info.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        let id = field("mnt_id:")?;
        mounts.iter().find(|mount| mount.id == id)?;
        let path = fs::read_link(process.join("fd").join(&number)).ok()?;
        // Since Linux 5.14.
        Some((Use::File(path), field("ino:")))
    });
    used.collect()
}

/// Mapped files are known by the number of their filesystem.
fn maps(process: &Path, device: DeviceNumber) -> Vec<(Use, Option<u64>)> {
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    let mut uses = Vec::new();
    for line in maps.split(|byte| *byte == b'\n') {
        match mapped_file(line) {
            Some((on, ino, path)) if on == device => {
                // Parts of one file follow each other.
                let used = (Use::Map(path), Some(ino));
                if uses.last() != Some(&used) {
                    uses.push(used);
                }
            }
            _ => {}
        }
    }
    uses
}

/// Reads `address perms offset major:minor inode path`.
fn mapped_file(line: &[u8]) -> Option<(DeviceNumber, u64, PathBuf)> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut number = |nth| std::str::from_utf8(fields.nth(nth)?).ok();
    let (major, minor) = number(3)?.split_once(':')?;
    let ino = number(0)?.parse().ok()?;
    let major = u32::from_str_radix(major, 16).ok()?;
    let minor = u32::from_str_radix(minor, 16).ok()?;
    let path = fields.next()?.trim_ascii_start();
    let path = OsStr::from_bytes(path).to_owned().into_vec();
    Some((
        DeviceNumber { major, minor },
        ino,
        std::ffi::OsString::from_vec(path).into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounting::MountFlags;
    use crate::mounting::tests::UnmountAtEnd;
    use crate::processes::tests::start_sleeping;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_line_of_maps_is_read() {
        let line = b"7f00-7f01 r-xp 00000000 fe:1a 123                   /mnt/a file (deleted)";
        let device = DeviceNumber {
            major: 0xfe,
            minor: 0x1a,
        };
        assert_eq!(
            mapped_file(line),
            Some((device, 123, "/mnt/a file (deleted)".into()))
        );
        assert_eq!(mapped_file(b""), None);
    }

    #[test]
    fn users_of_a_mount_are_found_by_what_they_use() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        rustix::mount::mount("none", at, "tmpfs", MountFlags::empty(), None).unwrap();
        let _guard = UnmountAtEnd(at);
        let mount = mount_table::mount_at(at).unwrap().unwrap();
        assert_eq!(users_of(&mount), Ok(vec![]));

        let file = File::create(at.join("open")).unwrap();
        fs::copy("/bin/sleep", at.join("program")).unwrap();
        let mut child = start_sleeping(&at.join("program"), at);
        let found = users_of(&mount).unwrap();
        let by = |pid| {
            found
                .iter()
                .filter(move |busy| busy.pid == pid)
                .map(|busy| &busy.what)
        };

        let mine: Vec<_> = by(std::process::id()).cloned().collect();
        assert_eq!(mine, [Use::File(at.join("open"))]);
        let known = |name: &str| Some(at.join(name).metadata().unwrap().ino());
        let numbers: Vec<_> = found.iter().filter_map(|busy| busy.ino).collect();
        assert!(
            found.iter().any(|busy| busy.ino == known("open")),
            "{numbers:?}"
        );
        assert!(
            found.iter().any(|busy| busy.ino == known("program")),
            "{numbers:?}"
        );
        let theirs: Vec<_> = by(child.id()).cloned().collect();
        for expected in [
            Use::Cwd(at.to_owned()),
            Use::Exe(at.join("program")),
            Use::Map(at.join("program")),
        ] {
            assert!(theirs.contains(&expected), "{expected:?} in {theirs:?}");
        }
        assert!(found.iter().any(|busy| busy.command == "program"));

        child.kill().unwrap();
        child.wait().unwrap();
        drop(file);
    }
}
