//! Limits of the process: open files, and the umask.

use rules::Errno;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::errno::IntoErrno;

/// How many files a server wants to hold open: the most that an unchanged kernel allows.
const WANTED_FILES: u64 = 1 << 20;

/// Raises the limit on open files as far as allowed and returns what it is now.
///
/// Each inode that the kernel remembers may cost an open file, so the usual 1024 would
/// not last.
pub fn raise_open_files() -> Result<u64, Errno> {
    let now = getrlimit(Resource::Nofile);
    let hard = now.maximum.unwrap_or(u64::MAX);
    let most = hard.max(WANTED_FILES);
    if hard < most && set_open_files(most, most).is_ok() {
        return Ok(most);
    }
    if now.current != now.maximum {
        set_open_files(hard, hard)?;
    }
    Ok(hard)
}

fn set_open_files(soft: u64, hard: u64) -> Result<(), Errno> {
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        },
    )
    .errno()
}

/// Clears the umask of the process, so that what it makes has the permissions it asks for.
pub fn clear_umask() {
    rustix::process::umask(Mode::empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_open_files_is_what_was_reported() {
        let files = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(files));
        assert_eq!(raise_open_files(), Ok(files));
    }
}
