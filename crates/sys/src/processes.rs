//! Other processes: sending signals, and waiting for their end.

use std::time::Duration;

use rules::Errno;
use rustix::process::{Pid, PidfdFlags, kill_process, pidfd_open, test_kill_process};

use crate::errno::IntoErrno;
use crate::waiting::wait_readable;

/// A signal to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendSignal {
    /// Ask to end (`SIGTERM`).
    Terminate,
    /// Ask to look again (`SIGHUP`).
    Hangup,
    /// End it (`SIGKILL`).
    Kill,
}

/// Sends a signal. `ESRCH` when there is no such process.
pub fn send_signal(pid: u32, signal: SendSignal) -> Result<(), Errno> {
    let signal = match signal {
        SendSignal::Terminate => rustix::process::Signal::TERM,
        SendSignal::Hangup => rustix::process::Signal::HUP,
        SendSignal::Kill => rustix::process::Signal::KILL,
    };
    kill_process(known(pid)?, signal).errno()
}

/// Returns whether there is such a process, somebody else's included.
pub fn exists(pid: u32) -> bool {
    known(pid).is_ok_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// Waits until a process has ended, at most this long; returns whether it has.
///
/// A child that nobody has waited for counts as ended.
pub fn wait_gone(pid: u32, timeout: Duration) -> Result<bool, Errno> {
    let process = match pidfd_open(known(pid)?, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(true),
        opened => opened.errno()?,
    };
    wait_readable(&process, Some(timeout))
}

/// What decides about a process's access to files, beside its user and group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// It may read and search whatever directory it likes (`CAP_DAC_OVERRIDE`, `CAP_DAC_READ_SEARCH`).
    pub overrides_permissions: bool,
}

/// Returns the standing of a process or thread; `None` when it is gone, or not to be seen from here.
pub fn standing(pid: u32) -> Option<Standing> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    standing_in(&status)
}

/// Reads `/proc/PID/status`, see proc_pid_status(5).
fn standing_in(status: &str) -> Option<Standing> {
    const OVERRIDING: u64 = 1 << 1 | 1 << 2;
    let value = |key: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(key))
    };
    let groups = value("Groups:")?.split_whitespace().map(str::parse);
    let effective = u64::from_str_radix(value("CapEff:")?.trim(), 16).ok()?;
    Some(Standing {
        groups: groups.collect::<Result<_, _>>().ok()?,
        overrides_permissions: effective & OVERRIDING != 0,
    })
}

fn known(pid: u32) -> Result<Pid, Errno> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::INVAL)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::path::Path;
    use std::process::{Child, Command};

    /// Starts a copy of `sleep`. While other tests start programs too, those may hold the
    /// copy open for writing for a moment.
    pub(crate) fn start_sleeping(program: &Path, cwd: &Path) -> Child {
        loop {
            match Command::new(program).arg("60").current_dir(cwd).spawn() {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {}
                started => return started.unwrap(),
            }
        }
    }

    #[test]
    fn groups_and_capabilities_are_read_from_the_status() {
        let status =
            "Name:\tx\nGroups:\t4 24 1000 \nCapPrm:\t00000000000001ff\nCapEff:\t0000000000000001\n";
        let expected = Standing {
            groups: vec![4, 24, 1000],
            overrides_permissions: false,
        };
        assert_eq!(standing_in(status), Some(expected));
        let status = "Groups:\t\nCapEff:\t0000000000000004\n";
        let expected = Standing {
            groups: Vec::new(),
            overrides_permissions: true,
        };
        assert_eq!(standing_in(status), Some(expected));
        assert_eq!(standing_in("Name:\tx\n"), None);
        assert!(standing(std::process::id()).is_some());
        assert_eq!(standing(u32::MAX), None);
    }

    #[test]
    fn a_process_is_waited_for_until_a_signal_ends_it() {
        let mut child = start_sleeping("/bin/sleep".as_ref(), "/".as_ref());
        assert!(exists(child.id()));
        assert_eq!(wait_gone(child.id(), Duration::from_millis(20)), Ok(false));
        send_signal(child.id(), SendSignal::Terminate).unwrap();
        assert_eq!(wait_gone(child.id(), Duration::from_secs(10)), Ok(true));
        child.wait().unwrap();
        assert!(!exists(child.id()));
        assert_eq!(wait_gone(child.id(), Duration::ZERO), Ok(true));
        assert_eq!(send_signal(0, SendSignal::Hangup), Err(Errno::INVAL));
    }
}
