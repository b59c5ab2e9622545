//! aufs-util's `aubrsync`: merging a branch of a mounted union into the one below it.
//!
//! The union is read-only meanwhile, as with AUFS, and gets its options back at the end, also when the command is
//! interrupted.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rules::options::{self, Compat};
use sys::mount_table::MountEntry;
use sys::mounting;
use sys::signals::Signals;
use union::branch_tools::Below;
use union::branch_tools::merge_down::Ending;

use super::merge_down::{self, Telling};
use crate::control::{self, Ask, LinkDeed};
use crate::failure::{Exit, Failure};
use crate::mounted_unions;
use crate::mounting::translate;
use crate::offline::{self, COULD_NOT, OfflineBranch};
use crate::run_state::{self, RunState};

const USAGE: &str =
    "usage: [-n] [-q] [-i] [-w] copy|move|move_with_wh MOUNT_POINT SRC_BRANCH DST_BRANCH [-v] [-n]";

/// What rsync is told to do by every use of the program, and what is done here without being told.
const IMPLIED: [&str; 15] = [
    "archive",
    "hard-links",
    "sparse",
    "one-file-system",
    "acls",
    "xattrs",
    "devices",
    "specials",
    "delete",
    "delete-before",
    "delete-during",
    "delete-after",
    "numeric-ids",
    "whole-file",
    "exclude=lost+found",
];

/// The command line.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    ending: Ending,
    mount_point: OsString,
    source: OsString,
    target: OsString,
    telling: Telling,
}

/// `aubrsync [OPTIONS] copy|move|move_with_wh MOUNT_POINT SRC_BRANCH DST_BRANCH [RSYNC_OPTIONS]`
pub(crate) fn run(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<Exit> {
    let usage = |what: String| Failure::new(COULD_NOT, what).hint(USAGE);
    let words: Vec<_> = words.into_iter().collect();
    if words.iter().any(|word| word == "-h" || word == "--help") {
        crate::print_line(USAGE);
        return Ok(Exit::SUCCESS);
    }
    let line = read(&words).map_err(usage)?;
    let place = Path::new(&line.mount_point);
    let mount = mounted_unions::mount_on(place)?;
    let nobody = || Failure::new(COULD_NOT, format!("{place:?}: no union of ours serves it"));
    let server = run_state::server_of(&mount).ok_or_else(nobody)?;
    let stack = offline::open_stack(&server)?;
    let (at, source) = branch_of(&stack, &line.source, place)?;
    let (below, target) = branch_of(&stack, &line.target, place)?;
    if below != at + 1 {
        let what = format!(
            "{:?} is branch {at} and {:?} is branch {below} of {place:?}",
            line.source, line.target
        );
        return Err(Failure::new(COULD_NOT, what)
            .hint("a branch is merged into the next one below it")
            .into());
    }
    if !target.powers.writable {
        let what = format!("branch {:?}: not writable in {place:?}", line.target);
        return Err(Failure::new(COULD_NOT, what)
            .hint("mount it with =rw first")
            .into());
    }
    if server.dialect != "aufs" {
        let what = format!("{place:?}: mounted in the format of overlayfs");
        return Err(Failure::new(COULD_NOT, what)
            .hint("only AUFS's format is understood here")
            .into());
    }
    let rest = &stack[below + 1..];
    let lies_below = match rest.is_empty() {
        true => Below::Nothing,
        false => merge_down::below_of(rest)?,
    };
    let held = if line.telling.dry_run {
        None
    } else {
        Some(Held::begin(&mount, server)?)
    };
    let done = merge_down::work(source, target, lies_below, line.ending, line.telling);
    if let Some(held) = held {
        held.end()?;
    }
    done
}

fn branch_of<'a>(
    stack: &'a [OfflineBranch],
    path: &OsStr,
    place: &Path,
) -> anyhow::Result<(usize, &'a OfflineBranch)> {
    let mut found = stack.iter().enumerate();
    let found = found.find(|(_, branch)| offline::is_same(&branch.path, Path::new(path)));
    let none = || Failure::new(COULD_NOT, format!("{path:?}: not a branch of {place:?}"));
    Ok(found.ok_or_else(none)?)
}

fn read(words: &[OsString]) -> Result<Line, String> {
    let mut operands = Vec::new();
    let mut telling = Telling::default();
    for word in words {
        let text = word.to_string_lossy();
        match text.strip_prefix("--") {
            Some("dry_run" | "dry-run") => telling.dry_run = true,
            Some("quiet") => telling.quiet = true,
            Some("verbose" | "itemize-changes") => telling.verbose = true,
            Some("wh" | "inotify" | "progress") => {}
            Some(implied) if IMPLIED.contains(&implied) => {}
            Some(_) => return Err(format!("{text}: rsync does not run here")),
            None if text.len() > 1 && text.starts_with('-') => letters(&text, &mut telling)?,
            None => operands.push(word.clone()),
        }
    }
    // The kind of merge comes first in AUFS's manual, and second in other places.
    let kind_of = |word: &OsString| match word.to_str() {
        Some("copy") => Some(Ending::Copy),
        Some("move") => Some(Ending::Move),
        Some("move_with_wh") => Some(Ending::MoveWithWhiteouts),
        _ => None,
    };
    let kinds = operands
        .iter()
        .take(2)
        .position(|word| kind_of(word).is_some());
    let Some(at) = kinds else {
        return Err("running a command of one's own is not supported".to_owned());
    };
    let ending = kind_of(&operands.remove(at)).ok_or("no kind of merge")?;
    let [mount_point, source, target]: [OsString; 3] = operands
        .try_into()
        .map_err(|rest: Vec<_>| format!("{} operands", rest.len() + 1))?;
    Ok(Line {
        ending,
        mount_point,
        source,
        target,
        telling,
    })
}

fn letters(text: &str, telling: &mut Telling) -> Result<(), String> {
    for letter in text[1..].chars() {
        match letter {
            'n' => telling.dry_run = true,
            'q' => telling.quiet = true,
            'v' => telling.verbose = true,
            'i' | 'w' | 'a' | 'H' | 'S' | 'x' | 'A' | 'X' | 'W' => {}
            _ => return Err(format!("unknown option -{letter}")),
        }
    }
    Ok(())
}

/// A union that is read-only for a while, and whose server has nothing under way and looks at its branches again.
#[derive(Clone)]
struct Held {
    place: PathBuf,
    /// The mount's flags, if it has to become writable again.
    flags: Option<mounting::MountFlags>,
    server: RunState,
}

impl Held {
    fn begin(mount: &MountEntry, server: RunState) -> anyhow::Result<Self> {
        let parsed = options::parse_with(OsStr::new(&mount.options), Compat::Aufs)?;
        let flags = translate::mount_flags(&parsed.generic);
        let writable = !mount.has_option("ro");
        let held = Self {
            place: mount.mount_point.clone(),
            flags: writable.then_some(flags),
            server,
        };
        // Interrupted or not, the options come back.
        let signals = Signals::block().map_err(|errno| anyhow::anyhow!("signals: {errno}"))?;
        if writable {
            let place = &held.place;
            mounting::remount(place, flags | mounting::MountFlags::RDONLY).map_err(|errno| {
                let failure = Failure::new(COULD_NOT, format!("{place:?}: {errno}"));
                match errno {
                    rules::Errno::BUSY => failure.hint("close the files that are open for writing"),
                    _ => failure,
                }
            })?;
        }
        let interrupted = held.clone();
        std::thread::spawn(move || {
            if signals.wait().is_ok() {
                if let Err(error) = interrupted.end() {
                    crate::print_error(&crate::failure::line_of(&error));
                }
                std::process::exit(130);
            }
        });
        let settled = held.settle();
        if settled.is_err() {
            held.clone().end()?;
        }
        settled.map(|()| held)
    }

    /// Lets the server bring to the branches what it still has in hand.
    fn settle(&self) -> anyhow::Result<()> {
        let deed = LinkDeed::Flush;
        control::order(&self.server, &Ask::Links { deed })?;
        self.watch_as(match self.server.udba.as_str() {
            "none" => "reval",
            other => other,
        })
    }

    fn watch_as(&self, udba: &str) -> anyhow::Result<()> {
        let order = Ask::Remount {
            options: format!("udba={udba}"),
            from: "/".to_owned(),
        };
        control::order(&self.server, &order).map(drop)
    }

    fn end(self) -> anyhow::Result<()> {
        let looked = self.watch_as(&self.server.udba);
        if let Some(flags) = self.flags {
            mounting::remount(&self.place, flags)
                .map_err(|errno| anyhow::anyhow!("{:?}: stays read-only: {errno}", self.place))?;
        }
        looked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Line, String> {
        let words: Vec<_> = text.split(' ').map(OsString::from).collect();
        read(&words)
    }

    #[test]
    fn options_stand_anywhere_and_rsyncs_own_are_implied() {
        let line = line("-i move /m /u /l -aHSx --devices --delete-before -v").unwrap();
        assert_eq!(line.ending, Ending::Move);
        assert_eq!(
            [line.mount_point, line.source, line.target],
            ["/m", "/u", "/l"]
        );
        assert!(line.telling.verbose && !line.telling.dry_run);
    }

    #[test]
    fn the_kind_of_merge_comes_first_or_second() {
        for text in ["copy /m /u /l", "/m copy /u /l"] {
            assert_eq!(line(text).unwrap().ending, Ending::Copy, "{text}");
        }
    }

    #[test]
    fn what_is_not_done_is_refused() {
        for (text, expected) in [
            ("copy /m /u", "3 operands"),
            ("/m rsync -a /m/ /l", "running a command"),
            (
                "copy /m /u /l --rsh=ssh",
                "--rsh=ssh: rsync does not run here",
            ),
            ("copy -Z /m /u /l", "unknown option -Z"),
        ] {
            let said = line(text).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
    }
}
