//! The signals that end a server, as something one thread waits for.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rules::Errno;

use crate::errno::{check, uninterrupted};
use crate::waiting::wait_for_one;

/// A signal that was sent to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`.
    Terminate,
    /// `SIGINT`.
    Interrupt,
    /// `SIGHUP`.
    Hangup,
}

impl Signal {
    const ALL: [Self; 3] = [Self::Terminate, Self::Interrupt, Self::Hangup];

    fn number(self) -> libc::c_int {
        match self {
            Self::Terminate => libc::SIGTERM,
            Self::Interrupt => libc::SIGINT,
            Self::Hangup => libc::SIGHUP,
        }
    }
}

/// The blocked signals, to be taken one by one. Readable when one has come.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks the signals in this thread and in all that it starts from now on, so call
    /// it before the first. Programs that `std` starts have them unblocked.
    pub fn block() -> Result<Self, Errno> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` makes a valid set of `set`, the calls after it change and
        // read that set; the signals are valid numbers.
        unsafe {
            check(libc::sigemptyset(set.as_mut_ptr()))?;
            for signal in Signal::ALL {
                check(libc::sigaddset(set.as_mut_ptr(), signal.number()))?;
            }
            let refused =
                libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            if refused != 0 {
                return Err(Errno::from_raw(refused));
            }
        }
        // SAFETY: `set` was made above. The descriptor is new, so nobody else owns it.
        let fd = unsafe {
            let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC);
            check(fd)?;
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self(fd))
    }

    /// Waits for the next signal, or until something else can be read: that is `None`.
    pub fn wait_beside(&self, other: BorrowedFd<'_>) -> Result<Option<Signal>, Errno> {
        if wait_for_one(self.as_fd(), other)? {
            self.wait().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Waits for the next signal.
    pub fn wait(&self) -> Result<Signal, Errno> {
        loop {
            let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            // SAFETY: the pointer and the length are those of `info`.
            let read =
                || check(unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) });
            uninterrupted(read)?;
            // SAFETY: all bytes were zeroes, and any bytes make a valid value of numbers.
            let number = unsafe { info.assume_init() }.ssi_signo;
            let known = |signal: &Signal| u32::try_from(signal.number()) == Ok(number);
            if let Some(signal) = Signal::ALL.into_iter().find(known) {
                return Ok(signal);
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes writing to a pipe that nobody reads an error (`EPIPE`) instead of the end.
pub fn ignore_broken_pipes() {
    // SAFETY: ignoring a signal installs no handler; SIGPIPE can be ignored.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_waited_for() {
        let signals = Signals::block().unwrap();
        let (quiet, other) = std::os::unix::net::UnixStream::pair().unwrap();
        for signal in [Signal::Hangup, Signal::Terminate, Signal::Interrupt] {
            // SAFETY: sends this thread a signal that it has blocked.
            let refused = unsafe { libc::pthread_kill(libc::pthread_self(), signal.number()) };
            assert_eq!(refused, 0);
            assert_eq!(signals.wait_beside(quiet.as_fd()), Ok(Some(signal)));
        }
        drop(other);
        assert_eq!(signals.wait_beside(quiet.as_fd()), Ok(None));
    }
}
