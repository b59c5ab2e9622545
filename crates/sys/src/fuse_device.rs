//! The FUSE device: requests of the kernel come out, replies go in.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rules::Errno;
use rustix::fs::{Mode, OFlags};

use crate::errno::{IntoErrno, check, uninterrupted};
use crate::identity::{as_server, as_server_without_fsetid};
use crate::waiting::wait_readable;

/// `FUSE_DEV_IOC_CLONE`: `_IOR(229, 0, u32)`.
const IOC_CLONE: u32 = 0x8004_e500;
/// `FUSE_DEV_IOC_BACKING_OPEN`: `_IOW(229, 1, struct fuse_backing_map)`.
const IOC_BACKING_OPEN: u32 = 0x4010_e501;
/// `FUSE_DEV_IOC_BACKING_CLOSE`: `_IOW(229, 2, u32)`.
const IOC_BACKING_CLOSE: u32 = 0x4004_e502;

/// An open `/dev/fuse`, connected to a mount or about to be.
#[derive(Debug)]
pub struct FuseDevice(OwnedFd);

/// `struct fuse_backing_map` of the kernel.
#[repr(C)]
struct BackingMap {
    fd: RawFd,
    flags: u32,
    padding: u64,
}

/// What writes through a backing file do to set-id bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetId {
    /// The bits stay where the server itself may keep them.
    Keep,
    /// A write clears them, as a write by somebody without privileges does.
    Drop,
}

impl FuseDevice {
    /// Opens the device, not yet connected to a mount.
    pub fn open() -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open("/dev/fuse", flags, Mode::empty())
            .errno()
            .map(Self)
    }

    /// Opens a second channel to the same mount, with a request queue of its own thread.
    pub fn clone_session(&self) -> Result<Self, Errno> {
        let clone = Self::open()?;
        let mut fd: RawFd = self.0.as_raw_fd();
        // SAFETY: the call reads one u32, the number of a descriptor that is open.
        check(unsafe { libc::ioctl(clone.0.as_raw_fd(), IOC_CLONE as _, &raw mut fd) })?;
        Ok(clone)
    }

    /// Lets `read` answer `EAGAIN` where it would wait.
    pub fn set_nonblocking(&self) -> Result<(), Errno> {
        let flags = rustix::fs::fcntl_getfl(&self.0).errno()?;
        rustix::fs::fcntl_setfl(&self.0, flags | OFlags::NONBLOCK).errno()
    }

    /// Waits for a request and reads it whole; returns its length.
    ///
    /// `ENODEV` once the mount is gone, `EAGAIN` on a channel that does not block.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match rustix::io::read(&self.0, &mut *buffer).errno() {
                // The first: a signal; the second: the request was taken back meanwhile.
                Err(Errno::INTR | Errno::NOENT) => {}
                done => return done,
            }
        }
    }

    /// Writes one reply or notification, which must be whole; returns its length.
    ///
    /// `ENOENT` when nobody waits for that reply any more.
    pub fn write_vectored(&self, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        uninterrupted(|| rustix::io::writev(&self.0, parts).errno())
    }

    /// Waits until there is something to read, or for this long; returns whether there is.
    ///
    /// A mount that is gone counts as something to read: `read` tells of it.
    pub fn wait_readable(&self, timeout: Option<Duration>) -> Result<bool, Errno> {
        wait_readable(&self.0, timeout)
    }

    /// Registers a file that the kernel may read and write by itself (passthrough) and
    /// returns its id. Needs `CAP_SYS_ADMIN`.
    ///
    /// The kernel keeps the identity and capabilities of this moment for all I/O on it,
    /// so they are the server's own, less what keeps set-id bits when asked.
    pub fn backing_open(&self, file: BorrowedFd<'_>, set_id: SetId) -> Result<u32, Errno> {
        let register = || {
            let map = BackingMap {
                fd: file.as_raw_fd(),
                flags: 0,
                padding: 0,
            };
            // SAFETY: the call reads one `fuse_backing_map`, which lives through it.
            let id = check(unsafe {
                libc::ioctl(self.0.as_raw_fd(), IOC_BACKING_OPEN as _, &raw const map)
            })?;
            u32::try_from(id).map_err(|_| Errno::IO)
        };
        match set_id {
            SetId::Keep => as_server(register),
            SetId::Drop => as_server_without_fsetid(register),
        }
    }

    /// Gives up a registered file; what is open on it stays open.
    pub fn backing_close(&self, id: u32) -> Result<(), Errno> {
        // SAFETY: the call reads one u32, which lives through it.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), IOC_BACKING_CLOSE as _, &raw const id) })
            .map(drop)
    }
}

impl AsFd for FuseDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for FuseDevice {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounting::mount_fuse;
    use crate::mounting::tests::{UnmountAtEnd, fuse_mount};

    /// Answers the kernel's first request: protocol 7.40 with passthrough.
    fn answer_init(device: &FuseDevice) {
        let mut request = vec![0; 1 << 17];
        device.read(&mut request).unwrap();
        let number = |index: usize, value: u32| (index * 4, value.to_ne_bytes());
        let mut reply = [0; 80];
        let (init_ext, passthrough) = (1 << 30, 1 << 5);
        // Length and error; version, flags, max_write, more flags, stack depth.
        for (at, bytes) in [
            number(0, 80),
            number(4, 7),
            number(5, 40),
            number(7, init_ext),
            number(9, 65_536),
            number(12, passthrough),
            number(13, 1),
        ] {
            reply[at..at + 4].copy_from_slice(&bytes);
        }
        reply[8..16].copy_from_slice(&request[8..16]);
        let (head, body) = reply.split_at(16);
        let parts = [IoSlice::new(head), IoSlice::new(body)];
        assert_eq!(device.write_vectored(&parts), Ok(80));
    }

    #[test]
    fn a_backing_file_is_registered_and_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let device = FuseDevice::open().unwrap();
        mount_fuse(&device, &fuse_mount(dir.path())).unwrap();
        let _guard = UnmountAtEnd(dir.path());
        answer_init(&device);
        let file = tempfile::tempfile().unwrap();
        for set_id in [SetId::Keep, SetId::Drop] {
            let id = device.backing_open(file.as_fd(), set_id).unwrap();
            assert!(id > 0);
            assert_eq!(device.backing_close(id), Ok(()));
            assert_eq!(device.backing_close(id), Err(Errno::NOENT));
        }
    }

    #[test]
    fn a_device_without_a_mount_says_so() {
        let device = FuseDevice::open().unwrap();
        assert_eq!(device.read(&mut [0; 8192]), Err(Errno::PERM));
        assert!(device.clone_session().is_err());
        assert!(device.backing_close(1).is_err());
    }
}
