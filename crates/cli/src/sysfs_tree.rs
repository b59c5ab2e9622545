//! A tree of the shape of AUFS's `/sys/fs/aufs`, for scripts that look for branches there.
//!
//! Nobody but the kernel adds to `/sys`, so it is `/run/aufs`, or beside what a user's servers tell
//! about themselves. A directory `si_NUMBER` for each server takes the place of the one before it as a
//! whole, so that a reader who names it anew sees the branches of one moment.

use std::path::{Path, PathBuf};

use crate::render::aufs_sysfs;
use crate::run_dir::RunDir;
use crate::run_state::RunState;

/// Returns where servers that tell about themselves in `dir` show their branches.
pub(crate) fn place(dir: &Path) -> PathBuf {
    match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) if name == "plywood" => parent.join("aufs"),
        _ => dir.join("aufs"),
    }
}

/// Files with their contents.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// How many files are written one by one, so that adding to a thousand branches costs no thousand files.
const FEW: usize = 2;

/// Shows a server's branches as they are now; `before` is what was shown, and becomes what is.
pub(crate) fn write(shown: &RunDir, state: &RunState, before: &mut Files) -> anyhow::Result<()> {
    let now = aufs_sysfs::files(state);
    let name = name_of(state);
    match few_changes(before, &now) {
        Some(changed) => shown.write_some(&name, changed, 0o444)?,
        None => shown.replace_dir(&name, &now, 0o444)?,
    }
    *before = now;
    Ok(())
}

/// Returns what is new or different, if it is little and nothing has gone.
fn few_changes<'a>(before: &Files, now: &'a Files) -> Option<Vec<&'a (String, Vec<u8>)>> {
    let same_names = before
        .iter()
        .zip(now)
        .all(|((name, _), (new, _))| name == new);
    (!before.is_empty() && before.len() <= now.len() && same_names).then_some(())?;
    let changed = now.iter().enumerate();
    let changed = changed.filter(|(index, file)| before.get(*index) != Some(*file));
    let changed: Vec<_> = changed.map(|(_, file)| file).collect();
    (changed.len() <= FEW).then_some(changed)
}

/// Takes away what a server showed.
pub(crate) fn remove(shown: &RunDir, state: &RunState) {
    shown.remove(&name_of(state));
}

fn name_of(state: &RunState) -> String {
    format!("si_{}", state.si())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_users_tree_is_beside_what_his_servers_tell() {
        for (dir, expected) in [
            ("/run/plywood", "/run/aufs"),
            ("/run/user/7/plywood", "/run/user/7/aufs"),
            ("/tmp/plywood-7", "/tmp/plywood-7/aufs"),
        ] {
            assert_eq!(place(Path::new(dir)), Path::new(expected));
        }
    }

    #[test]
    fn only_what_is_added_or_changed_is_written_anew() {
        let files = |text: &str| -> Files {
            let words = text.split_whitespace();
            words
                .map(|word| (word[..2].to_owned(), word[2..].into()))
                .collect()
        };
        for (before, now, expected) in [
            ("", "b0x", None),
            ("b0x", "b0x", Some("")),
            ("b0x b1y", "b0x b1z", Some("b1z")),
            ("b0x", "b0x b1y i1z", Some("b1y i1z")),
            ("b0x", "b0x b1y i1z b2y", None),
            ("b0x b1y", "b0x", None),
            ("b0x b1y", "b0x c1y", None),
        ] {
            let (before, now) = (files(before), files(now));
            let changes = few_changes(&before, &now);
            let changes = changes.map(|few| few.into_iter().cloned().collect::<Files>());
            assert_eq!(changes, expected.map(files));
        }
    }
}
