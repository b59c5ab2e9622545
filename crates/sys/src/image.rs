//! Filesystem images as directories: mounted nowhere, gone with the last descriptor.
//!
//! A loop device that detaches itself carries the image, and the mount is never attached to a tree: when its root is closed,
//! also because the process died, nothing of either is left.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rules::Errno;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::errno::IntoErrno;

/// A filesystem that an image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// squashfs
    Squashfs,
    /// erofs
    Erofs,
    /// ISO 9660
    Iso9660,
}

impl ImageKind {
    /// Returns the kernel's name of the filesystem.
    pub fn fstype(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Iso9660 => "iso9660",
        }
    }
}

/// Magic numbers: offset, bytes, kind. From the kernel's `squashfs_fs.h`, `erofs_fs.h` and ECMA-119.
const MAGIC: [(u64, &[u8], ImageKind); 3] = [
    (0, b"hsqs", ImageKind::Squashfs),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0], ImageKind::Erofs),
    (32769, b"CD001", ImageKind::Iso9660),
];

/// Finds out what an image holds; `None` when it is nothing known.
pub fn kind_of(image: &File) -> Option<ImageKind> {
    let holds = |(offset, magic, _): &&(u64, &[u8], ImageKind)| {
        let mut found = [0; 8];
        let found = &mut found[..magic.len()];
        image.read_exact_at(found, *offset).is_ok() && found == *magic
    };
    MAGIC.iter().find(holds).map(|(_, _, kind)| *kind)
}

/// Mounts an image read-only and returns its root directory. Needs `CAP_SYS_ADMIN`; `EPERM` without.
pub fn open(image: &File, kind: ImageKind) -> Result<OwnedFd, Errno> {
    let device = loop_device(image)?;
    let source = CString::new(device.name).map_err(|_| Errno::INVAL)?;
    let context = rustix::mount::fsopen(kind.fstype(), FsOpenFlags::FSOPEN_CLOEXEC).errno()?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", source.as_c_str()).errno()?;
    rustix::mount::fsconfig_set_flag(context.as_fd(), "ro").errno()?;
    rustix::mount::fsconfig_create(context.as_fd()).errno()?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    // From here on the mount holds the loop device, which detaches itself with it.
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).errno()
}

struct LoopDevice {
    name: String,
    /// Attached while this or a mount is open.
    _open: File,
}

/// Of `linux/loop.h`.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// How often somebody else may take the device that was free.
const ATTEMPTS: usize = 64;

fn loop_device(image: &File) -> Result<LoopDevice, Errno> {
    let control = open_device("/dev/loop-control")?;
    for _ in 0..ATTEMPTS {
        // SAFETY: the request takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(last_error());
        }
        let name = format!("/dev/loop{number}");
        let device = open_device(&name)?;
        match attach(&device, image) {
            Ok(()) => {
                return Ok(LoopDevice {
                    name,
                    _open: device,
                });
            }
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::BUSY)
}

fn attach(device: &File, image: &File) -> Result<(), Errno> {
    let fd = u32::try_from(image.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let config = LoopConfig {
        fd,
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: `config` is what the request reads, and outlives the call.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if done < 0 { Err(last_error()) } else { Ok(()) }
}

fn open_device(path: impl AsRef<Path>) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path.as_ref(), flags, Mode::empty()).errno()?;
    Ok(File::from(fd))
}

fn last_error() -> Errno {
    std::io::Error::last_os_error()
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn images_are_known_by_their_magic_numbers() {
        for (offset, magic, kind) in MAGIC {
            let mut file = tempfile::tempfile().unwrap();
            let mut bytes = vec![0; offset as usize];
            bytes.extend(magic);
            file.write_all(&bytes).unwrap();
            assert_eq!(kind_of(&file), Some(kind));
        }
        assert_eq!(kind_of(&tempfile::tempfile().unwrap()), None);
    }
}
