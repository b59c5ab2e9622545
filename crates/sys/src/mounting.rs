//! Mounting and unmounting with the rights of this process.

use std::ffi::{CString, OsStr, OsString};
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rules::Errno;
pub use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;

use crate::errno::IntoErrno;
use crate::{FuseDevice, mount_table};

/// A FUSE mount to make.
#[derive(Debug, Clone, Copy)]
pub struct FuseMount<'a> {
    /// What the mount table shows as the source.
    pub source: &'a OsStr,
    /// The directory to mount on.
    pub target: &'a Path,
    /// The type is `fuse.` and this.
    pub subtype: &'a str,
    /// Mount flags, such as read-only.
    pub flags: MountFlags,
    /// Who serves the mount as far as the kernel cares: user and group.
    pub server: (u32, u32),
    /// Whether the kernel checks permissions by the attributes it is told.
    pub default_permissions: bool,
    /// Whether others than the server's user may use the mount.
    pub allow_other: bool,
    /// Longest read request in bytes, where it is limited.
    pub max_read: Option<u32>,
    /// Words for the kernel's security module, such as `context="..."`; where there is none, `EINVAL`.
    pub security: &'a [OsString],
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmountHow {
    /// Only when nothing uses the mount (`EBUSY` otherwise).
    Plain,
    /// Out of sight at once, gone when the last user is.
    Lazy,
    /// Requests under way are cut off.
    Force,
}

/// Mounts, with `device` as the channel; from now on the kernel sends requests there.
///
/// `target` may be followed through symbolic links: resolve it first.
pub fn mount_fuse(device: &FuseDevice, mount: &FuseMount<'_>) -> Result<(), Errno> {
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        device.as_fd().as_raw_fd(),
        mount.server.0,
        mount.server.1
    );
    if mount.default_permissions {
        data.push_str(",default_permissions");
    }
    if mount.allow_other {
        data.push_str(",allow_other");
    }
    if let Some(bytes) = mount.max_read {
        // Writing to a string does not fail.
        write!(data, ",max_read={bytes}").map_err(|_| Errno::NOMEM)?;
    }
    let mut data = data.into_bytes();
    for word in mount.security {
        data.push(b',');
        data.extend_from_slice(word.as_bytes());
    }
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    let fstype = format!("fuse.{}", mount.subtype);
    rustix::mount::mount(
        mount.source,
        mount.target,
        fstype,
        mount.flags,
        data.as_c_str(),
    )
    .errno()
}

/// Changes the flags of a mount, all of them at once; those not given are cleared.
///
/// Read-only is a flag of the filesystem as well as of the mount, and both must go before anybody can write: the call
/// is about both. `EBUSY` when it would become read-only while files are open for writing.
///
/// Whoever owns the mount but not the filesystem (a user namespace with a mount from outside) may change the
/// mount alone. `EPERM` when that is not enough to write.
pub fn remount(target: &Path, flags: MountFlags) -> Result<(), Errno> {
    match rustix::mount::mount_remount(target, flags, c"").errno() {
        Err(Errno::PERM) => {}
        done => return done,
    }
    if !flags.contains(MountFlags::RDONLY)
        && mount_table::mount_at(target)?.is_some_and(|entry| entry.is_read_only_filesystem())
    {
        return Err(Errno::PERM);
    }
    rustix::mount::mount_remount(target, flags | MountFlags::BIND, c"").errno()
}

/// Unmounts what is topmost on `target`, which is not followed when it is a symbolic link.
pub fn unmount(target: &Path, how: UnmountHow) -> Result<(), Errno> {
    let flags = match how {
        UnmountHow::Plain => UnmountFlags::empty(),
        UnmountHow::Lazy => UnmountFlags::DETACH,
        UnmountHow::Force => UnmountFlags::FORCE,
    };
    rustix::mount::unmount(target, flags | UnmountFlags::NOFOLLOW).errno()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::time::Duration;

    /// Takes what a test has mounted away with it, failed or not.
    pub(crate) struct UnmountAtEnd<'a>(pub(crate) &'a Path);

    impl Drop for UnmountAtEnd<'_> {
        fn drop(&mut self) {
            while unmount(self.0, UnmountHow::Lazy).is_ok() {}
        }
    }

    pub(crate) fn fuse_mount<'a>(target: &'a Path) -> FuseMount<'a> {
        FuseMount {
            source: OsStr::new("the source"),
            target,
            subtype: "plywood",
            flags: MountFlags::NOSUID | MountFlags::NODEV,
            server: (0, 0),
            default_permissions: true,
            allow_other: true,
            max_read: Some(131_072),
            security: &[],
        }
    }

    #[test]
    fn a_mount_is_in_the_table_until_it_is_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        let device = FuseDevice::open().unwrap();
        assert_eq!(mount_table::mount_at(dir.path()).unwrap(), None);
        mount_fuse(&device, &fuse_mount(dir.path())).unwrap();
        let _guard = UnmountAtEnd(dir.path());

        let entry = mount_table::mount_at(dir.path()).unwrap().unwrap();
        assert_eq!(
            (entry.fstype.as_str(), &*entry.source),
            ("fuse.plywood", "the source".as_ref())
        );
        assert!(entry.has_option("nosuid") && entry.has_option("rw"));
        assert!(entry.super_options.contains("default_permissions"));

        remount(dir.path(), MountFlags::RDONLY).unwrap();
        let entry = mount_table::mount_at(dir.path()).unwrap().unwrap();
        assert!(entry.has_option("ro") && !entry.has_option("nosuid"));
        assert!(entry.is_read_only_filesystem());
        remount(dir.path(), MountFlags::NODEV).unwrap();
        let entry = mount_table::mount_at(dir.path()).unwrap().unwrap();
        assert!(entry.has_option("rw") && entry.has_option("nodev"));
        assert!(!entry.is_read_only_filesystem());
        crate::readahead::set(entry.device, 512).unwrap();

        // The first request waits; a second channel can be made and the mount is cut off.
        assert_eq!(device.wait_readable(None), Ok(true));
        let length = device.read(&mut [0; 1 << 17]).unwrap();
        assert!(length >= 40);
        device.clone_session().unwrap();
        assert_eq!(
            device.wait_readable(Some(Duration::from_millis(1))),
            Ok(false)
        );
        unmount(dir.path(), UnmountHow::Lazy).unwrap();
        assert_eq!(mount_table::mount_at(dir.path()).unwrap(), None);
        assert_eq!(unmount(dir.path(), UnmountHow::Plain), Err(Errno::INVAL));
    }

    #[test]
    fn a_target_that_is_missing_is_told_by_errno() {
        let device = FuseDevice::open().unwrap();
        let gone = Path::new("/nonexistent/target");
        assert_eq!(mount_fuse(&device, &fuse_mount(gone)), Err(Errno::NOENT));
    }
}
