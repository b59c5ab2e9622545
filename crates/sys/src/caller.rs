//! Paths as somebody else means them: the root of the process at the other end of a socket.
//!
//! A server that an initramfs started, and its callers, each have a root of their own once the system
//! has moved on. A thread that answers callers takes over theirs; other threads keep the server's.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rules::Errno;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;

use crate::errno::{IntoErrno, check};
use crate::proc;

/// A thread whose root is its own.
#[derive(Debug)]
pub struct OwnRoot {
    /// The working directory, from which `/proc` is found.
    stands_in: OwnedFd,
    /// The root that the other threads have.
    home: OwnedFd,
}

impl OwnRoot {
    /// Parts the root of this thread from that of all others.
    pub fn of_this_thread() -> Result<Self, Errno> {
        // SAFETY: only descriptors must not be unshared, because Rust's types rely on them; these are root, working
        // directory and umask.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.errno()?;
        Ok(Self {
            stands_in: directory(CWD, ".")?,
            home: directory(CWD, "/")?,
        })
    }

    /// Takes over the root of the process at the other end of a Unix socket; where that fails, the root of the other
    /// threads. `ENOENT` for a process in another namespace, `EPERM` where roots differ and the server may not
    /// change its own (`CAP_SYS_CHROOT`).
    pub fn follow(&self, peer: BorrowedFd<'_>) -> Result<(), Errno> {
        let followed = root_of(peer).and_then(|root| self.stand_below(&root));
        if followed.is_err() {
            self.stand_below(&self.home)?;
        }
        followed
    }

    fn stand_below(&self, root: &OwnedFd) -> Result<(), Errno> {
        if identity(root.as_fd(), "")? == identity(CWD, "/")? {
            return Ok(());
        }
        rustix::process::fchdir(root).errno()?;
        let changed = rustix::process::chroot(".").errno();
        rustix::process::fchdir(&self.stands_in).errno()?;
        changed
    }
}

/// How many may wait to be answered.
const BACKLOG: i32 = 128;

/// Listens at a path where only this user may connect, from the first instant: a server has no umask.
pub fn listen(path: &Path) -> Result<UnixListener, Errno> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).errno()?;
    // The name gets the permissions that the socket has.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600)).errno()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).errno()?).errno()?;
    rustix::net::listen(&socket, BACKLOG).errno()?;
    Ok(UnixListener::from(socket))
}

fn root_of(peer: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut told = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of_val(&told) as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` bytes to `told`, which has as many.
    check(unsafe {
        libc::getsockopt(
            peer.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut told).cast(),
            &raw mut length,
        )
    })?;
    if told.pid <= 0 {
        return Err(Errno::NOENT);
    }
    directory(CWD, &proc::path(&format!("{}/root", told.pid)))
}

fn directory(at: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty()).errno()
}

/// Returns what tells a directory from all others, also from itself under another mount.
fn identity(at: BorrowedFd<'_>, path: &str) -> Result<(u32, u32, u64, u64), Errno> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    // Roots may be on unions: nobody is asked whether they have changed.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let told = rustix::fs::statx(at, path, flags, wanted).errno()?;
    let (major, minor) = (told.stx_dev_major, told.stx_dev_minor);
    Ok((major, minor, told.stx_ino, told.stx_mnt_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_socket_is_its_users_alone_from_the_start() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("socket");
        let listening = std::thread::spawn({
            let path = path.clone();
            move || {
                // SAFETY: no descriptors are unshared.
                unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.unwrap();
                rustix::process::umask(Mode::empty());
                listen(&path)
            }
        });
        let listener = listening.join().unwrap().unwrap();
        let perm = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(perm, 0o600);
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn a_caller_with_the_same_root_changes_nothing() {
        let done = std::thread::spawn(|| {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let before = std::env::current_dir().unwrap();
            let root = OwnRoot::of_this_thread()?;
            root.follow(ours.as_fd())?;
            assert_eq!(std::env::current_dir().unwrap(), before);
            Ok::<_, Errno>(())
        });
        assert_eq!(done.join().unwrap(), Ok(()));
    }
}
