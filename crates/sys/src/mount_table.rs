//! The mount table, as `/proc/PID/mountinfo` shows it.
//!
//! Nothing here touches a mount: a server that hangs does not make its readers hang.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rules::Errno;
use rustix::fs::{AtFlags, StatxFlags};

use crate::errno::IntoErrno;
use crate::proc;

/// The number of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// Major number, 0 for a filesystem without a block device.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Id of the mount.
    pub id: u64,
    /// Id of the mount it is mounted on.
    pub parent: u64,
    /// Number of the filesystem: `st_dev` of what is in it.
    pub device: DeviceNumber,
    /// The directory of the filesystem that is the root of the mount.
    pub root: PathBuf,
    /// Where it is mounted, seen from the root of the process.
    pub mount_point: PathBuf,
    /// Options of the mount, with commas between.
    pub options: String,
    /// Type of the filesystem, with its subtype.
    pub fstype: String,
    /// What is mounted, in the words of who mounted it.
    pub source: OsString,
    /// Options of the filesystem, with commas between.
    pub super_options: String,
}

impl MountEntry {
    /// Returns whether the mount itself has an option such as `ro`.
    pub fn has_option(&self, option: &str) -> bool {
        self.options.split(',').any(|one| one == option)
    }

    /// Returns whether the filesystem is read-only, through whichever mount it is reached.
    pub fn is_read_only_filesystem(&self) -> bool {
        self.super_options.split(',').any(|one| one == "ro")
    }
}

/// Reads all mounts that this process sees, each after the one it is mounted on.
pub fn read() -> Result<Vec<MountEntry>, Errno> {
    read_from(Path::new(&proc::path("self/mountinfo")))
}

/// Reads all mounts that another process sees.
pub fn read_of(pid: u32) -> Result<Vec<MountEntry>, Errno> {
    read_from(Path::new(&proc::path(&format!("{pid}/mountinfo"))))
}

/// Returns the topmost mount on a directory, or `None` when it is no mount point.
///
/// Only the directory above is looked at in the filesystem; a last component that is a
/// symbolic link is not followed.
pub fn mount_at(path: &Path) -> Result<Option<MountEntry>, Errno> {
    let place = resolved(path)?;
    Ok(topmost(&read()?, &place).cloned())
}

/// Returns the topmost of some mounts on a directory, whose path has no symbolic links in it.
pub fn topmost<'a>(mounts: &'a [MountEntry], place: &Path) -> Option<&'a MountEntry> {
    mounts.iter().rfind(|entry| entry.mount_point == place)
}

/// Returns the number of the filesystem that a directory is on, the topmost where one is mounted on it. A server is not asked.
pub fn device_at(place: &Path) -> Result<DeviceNumber, Errno> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(rustix::fs::CWD, place, flags, StatxFlags::TYPE).errno()?;
    Ok(DeviceNumber {
        major: stat.stx_dev_major,
        minor: stat.stx_dev_minor,
    })
}

/// Returns the path with everything resolved but its last component.
pub fn resolved(path: &Path) -> Result<PathBuf, Errno> {
    let path = std::path::absolute(path).errno()?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize().errno()?.join(name)),
        // The root, or a path that ends in `..`.
        _ => path.canonicalize().errno(),
    }
}

/// Room for the mount table of a busy machine, in bytes.
const ROOM: usize = 64 << 10;

fn read_from(path: &Path) -> Result<Vec<MountEntry>, Errno> {
    // The kernel makes the table anew for each read: room for all of it makes that one.
    let mut table = Vec::with_capacity(ROOM);
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut table))
        .errno()?;
    Ok(table
        .split(|byte| *byte == b'\n')
        .filter_map(parse)
        .collect())
}

/// Reads one line: nine fields and more, of which optional ones end with `-`.
fn parse(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let device = DeviceNumber {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    };
    let root = unescape(fields.next()?).into();
    let mount_point = unescape(fields.next()?).into();
    let options = text(fields.next()?);
    fields.by_ref().find(|field| *field == b"-")?;
    Some(MountEntry {
        id,
        parent,
        device,
        root,
        mount_point,
        options,
        fstype: text(fields.next()?),
        source: unescape(fields.next()?),
        super_options: text(fields.next().unwrap_or_default()),
    })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> String {
    unescape(field).to_string_lossy().into_owned()
}

/// Undoes the kernel's escapes: a backslash and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        if let ([b'\\', digits @ ..], Some(byte)) = (rest, octal(tail)) {
            plain.push(byte);
            rest = &digits[3..];
        } else {
            plain.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(plain)
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = OsStr::from_bytes(digits.get(..3)?).to_str()?;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_escapes_and_optional_fields_is_read() {
        let line = b"36 35 98:0 /mnt1 /mnt\\040two\\134x rw,noatime master:1 shared:2 - ext3 \
                     /dev/a\\012b rw,errors=continue";
        let entry = parse(line).unwrap();
        assert_eq!((entry.id, entry.parent), (36, 35));
        assert_eq!(
            entry.device,
            DeviceNumber {
                major: 98,
                minor: 0
            }
        );
        assert_eq!(entry.root, Path::new("/mnt1"));
        assert_eq!(entry.mount_point, Path::new("/mnt two\\x"));
        assert!(entry.has_option("noatime") && !entry.has_option("no"));
        assert_eq!(entry.fstype, "ext3");
        assert_eq!(entry.source, "/dev/a\nb");
        assert_eq!(entry.super_options, "rw,errors=continue");
    }

    #[test]
    fn a_backslash_that_starts_no_escape_stays() {
        for (field, plain) in [
            ("a\\", "a\\"),
            ("\\9zz", "\\9zz"),
            ("\\0401", " 1"),
            ("", ""),
        ] {
            assert_eq!(unescape(field.as_bytes()), plain);
        }
    }

    #[test]
    fn the_root_is_a_mount_point_and_a_new_directory_is_none() {
        assert!(mount_at(Path::new("/")).unwrap().is_some());
        assert!(mount_at(Path::new("/proc")).unwrap().is_some());
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(mount_at(dir.path()), Ok(None));
        let proc = mount_at(Path::new("/proc")).unwrap();
        assert_eq!(
            device_at(Path::new("/proc")).ok(),
            proc.map(|proc| proc.device)
        );
        assert_eq!(mount_at(Path::new("/nonexistent/x")), Err(Errno::NOENT));
    }
}
