//! Becoming a server in the background.
//!
//! The process that was started waits until the server is ready or has failed, so that who
//! started it learns what became of it: when it returns with success, the mount works.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rules::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::errno::{IntoErrno, check};
use crate::proc;

/// First byte of what goes through the pipe.
const READY: u8 = 1;
/// First byte; the exit code and the message follow.
const FAILED: u8 = 2;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Forked {
    /// The one that was started.
    Parent(WaitForReady),
    /// The one that is to become the server.
    Child(ReadySignal),
}

/// The parent's end: it learns what becomes of the child.
#[derive(Debug)]
pub struct WaitForReady {
    pid: u32,
    pipe: OwnedFd,
}

/// The child's end: it tells what becomes of it. Dropped without a word, the parent
/// sees the child die.
#[derive(Debug)]
pub struct ReadySignal {
    pipe: OwnedFd,
}

/// What became of the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It serves.
    Ready,
    /// It gave up.
    Failed {
        /// The exit code it wants its parent to end with.
        exit_code: u8,
        /// Why it gave up.
        message: String,
    },
    /// It ended without a word.
    Died,
}

/// Splits the process in two. The child is the leader of a new session and stands in `/proc`, so that
/// it finds that wherever it is moved.
///
/// `EBUSY` when there are other threads: they would be missing in the child, with their
/// locks taken for ever.
pub fn fork_server() -> Result<Forked, Errno> {
    if has_threads() {
        return Err(Errno::BUSY);
    }
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).errno()?;
    // SAFETY: this is the only thread, so the child is a whole process.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        drop(reader);
        rustix::process::setsid().errno()?;
        proc::stand_here()?;
        return Ok(Forked::Child(ReadySignal { pipe: writer }));
    }
    let pid = u32::try_from(pid).map_err(|_| Errno::IO)?;
    Ok(Forked::Parent(WaitForReady { pid, pipe: reader }))
}

impl WaitForReady {
    /// Returns the process id of the child.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the child is ready, has failed or is gone.
    pub fn wait(self) -> Verdict {
        let mut told = Vec::new();
        match File::from(self.pipe).read_to_end(&mut told) {
            Ok(_) => Verdict::of_bytes(&told),
            Err(_) => Verdict::Died,
        }
    }
}

impl ReadySignal {
    /// Lets go of the terminal and tells the parent that the server serves.
    pub fn ready(self) -> Result<(), Errno> {
        // Before the parent ends, so that nothing of the child reaches the terminal after.
        redirect_standard_streams()?;
        File::from(self.pipe).write_all(&[READY]).errno()
    }

    /// Tells the parent to end with this code, and why.
    pub fn failed(self, exit_code: u8, message: &str) -> Result<(), Errno> {
        let told = [&[FAILED, exit_code], message.as_bytes()].concat();
        File::from(self.pipe).write_all(&told).errno()
    }
}

impl Verdict {
    fn of_bytes(told: &[u8]) -> Self {
        match told {
            [READY] => Self::Ready,
            [FAILED, exit_code, message @ ..] => Self::Failed {
                exit_code: *exit_code,
                message: String::from_utf8_lossy(message).into_owned(),
            },
            _ => Self::Died,
        }
    }
}

/// Makes `/dev/null` the standard input, output and error.
pub fn redirect_standard_streams() -> Result<(), Errno> {
    let null = File::options()
        .read(true)
        .write(true)
        .open(Path::new("/dev/null"))
        .errno()?;
    for stream in 0..=2 {
        // SAFETY: both are numbers of descriptors; `std` uses the standard ones by number and
        // owns none of them, so replacing what they refer to breaks no promise.
        check(unsafe { libc::dup2(null.as_raw_fd(), stream) })?;
    }
    Ok(())
}

/// Returns whether this process has more than one thread; no, when nobody tells.
fn has_threads() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        assert!(matches!(fork_server(), Err(Errno::BUSY)));
    }

    #[test]
    fn what_was_said_incompletely_counts_as_death() {
        let failed = Verdict::Failed {
            exit_code: 7,
            message: "no".into(),
        };
        let table: [(&[u8], Verdict); 5] = [
            (&[], Verdict::Died),
            (&[READY], Verdict::Ready),
            (&[READY, 0], Verdict::Died),
            (&[FAILED], Verdict::Died),
            (&[FAILED, 7, b'n', b'o'], failed),
        ];
        for (told, verdict) in table {
            assert_eq!(Verdict::of_bytes(told), verdict, "{told:?}");
        }
    }
}
