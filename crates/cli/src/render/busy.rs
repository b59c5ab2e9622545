//! Who keeps a mount busy, in one line.

use std::path::Path;

use sys::busy::{self, Busy, Use};
use sys::mount_table;

/// How many users are named.
const NAMED: usize = 3;

/// Returns who uses the mount on a directory.
pub(crate) fn line(place: &Path) -> String {
    let users = mount_table::mount_at(place)
        .ok()
        .flatten()
        .and_then(|mount| busy::users_of(&mount).ok())
        .unwrap_or_default();
    line_of(&users)
}

fn line_of(users: &[Busy]) -> String {
    if users.is_empty() {
        return "somebody whom this user may not see, or a mount inside it".to_owned();
    }
    let mut pids: Vec<u32> = users.iter().map(|user| user.pid).collect();
    pids.dedup();
    let named = pids.iter().take(NAMED).map(|pid| {
        let first = users.iter().find(|user| user.pid == *pid);
        first.map(shown).unwrap_or_default()
    });
    let mut line = named.collect::<Vec<_>>().join(", ");
    if pids.len() > NAMED {
        line.push_str(&format!(" and {} more processes", pids.len() - NAMED));
    }
    line
}

/// Returns what a process uses, in words, and where that is.
pub(crate) fn use_of(user: &Busy) -> (&'static str, &Path) {
    match &user.what {
        Use::Cwd(path) => ("working directory", path),
        Use::Root(path) => ("root directory", path),
        Use::Exe(path) => ("program", path),
        Use::File(path) => ("open file", path),
        Use::Map(path) => ("mapped file", path),
    }
}

fn shown(user: &Busy) -> String {
    let (what, path) = use_of(user);
    let path = super::path_text::write(path);
    format!("{} (pid {}, {what} {path})", user.command, user.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_is_named_once_and_a_crowd_is_counted() {
        let user = |pid, what| Busy {
            pid,
            command: "sh".into(),
            what,
            ino: None,
        };
        let mut users = vec![
            user(1, Use::Cwd("/m".into())),
            user(1, Use::File("/m/f".into())),
        ];
        assert_eq!(line_of(&users), "sh (pid 1, working directory /m)");
        users.extend((2..7).map(|pid| user(pid, Use::File("/m/f".into()))));
        assert!(line_of(&users).ends_with("and 3 more processes"));
        assert!(line_of(&[]).contains("may not see"));
    }
}
