//! The processors of the machine, and on which of them a thread runs.

use rules::Errno;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::errno::IntoErrno;

/// Returns how many processors there can be, those included that are switched off or not plugged in yet.
pub fn possible() -> Result<usize, Errno> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").errno()?;
    count(text.trim()).ok_or(Errno::IO)
}

/// Lets this thread run on one processor only; `EINVAL` when it is none that this process may use.
pub fn stay_on(processor: usize) -> Result<(), Errno> {
    if processor >= CpuSet::MAX_CPU {
        return Err(Errno::INVAL);
    }
    let mut allowed = CpuSet::new();
    allowed.set(processor);
    sched_setaffinity(None, &allowed).errno()
}

/// Returns the bytes of a page of memory.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// Counts a list such as `0-3,8-11`.
fn count(list: &str) -> Option<usize> {
    list.split(',').try_fold(0, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(sum + last.checked_sub(first)? + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_counted() {
        for (list, expected) in [
            ("0", Some(1)),
            ("0-1", Some(2)),
            ("0-3,8-11", Some(8)),
            ("0,2,4-5", Some(4)),
            ("", None),
            ("3-1", None),
        ] {
            assert_eq!(count(list), expected, "{list:?}");
        }
        assert!(possible().unwrap() >= 1);
    }

    #[test]
    fn a_thread_stays_where_it_is_told_and_nowhere_else_than_there_is() {
        let first = std::thread::spawn(|| {
            let here = rustix::thread::sched_getcpu();
            stay_on(here).map(|()| rustix::thread::sched_getcpu() == here)
        });
        assert_eq!(first.join().unwrap(), Ok(true));
        assert_eq!(stay_on(1 << 20), Err(Errno::INVAL));
    }
}
