//! `plywood mvdown` and aufs-util's `aumvdown`: files of a mounted union move to a branch below.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::command_line::Mvdown;
use crate::control::{self, Answer, Ask, MoveDown};
use crate::failure::{Exit, Failure, line_of};
use crate::helper_arguments::Arguments;
use crate::mounted_unions;
use crate::offline;
use crate::render::path_text;

/// `plywood mvdown [--to BRANCH] FILE...`
pub(crate) fn run(arguments: &Mvdown) -> anyhow::Result<Exit> {
    let wish = MoveDown {
        path: String::new(),
        from: arguments.from.as_deref().map(branch_name).transpose()?,
        to: arguments.to.as_deref().map(branch_name).transpose()?,
        keeps_upper: arguments.keep_upper,
        replaces_lower: arguments.overwrite,
        from_read_only: arguments.allow_ro_upper,
        to_read_only: arguments.allow_ro_lower,
    };
    move_all(
        &arguments.files,
        &wish,
        arguments.interactive,
        arguments.verbose,
    )
}

/// `aumvdown [-b BRANCH] [-B BRANCH] [-ikorRv] FILE...`
///
/// A branch is named by its position from the top or by its path, for there are no ids as in AUFS's sysfs.
pub(crate) fn run_aumvdown(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<Exit> {
    const USAGE: &str =
        "usage: [-i] [-k] [-o] [-r] [-R] [-v] [-b LOWER_BRANCH] [-B UPPER_BRANCH] FILE...";
    let usage = |what: String| Failure::new(Exit(2), what).hint(USAGE);
    let words = words.into_iter().map(short).collect::<Vec<_>>();
    let read = Arguments::read(words, "ikorRvdh", "bB", &["help"]).map_err(usage)?;
    if read.has(&["h", "help"]) {
        crate::print_line(USAGE);
        return Ok(Exit::SUCCESS);
    }
    if read.operands.is_empty() {
        return Err(usage("no file".to_owned()).into());
    }
    let branch = |letter| read.all(letter).last().map(branch_name).transpose();
    let wish = MoveDown {
        path: String::new(),
        from: branch('B')?,
        to: branch('b')?,
        keeps_upper: read.has(&["k"]),
        replaces_lower: read.has(&["o"]),
        from_read_only: read.has(&["R"]),
        to_read_only: read.has(&["r"]),
    };
    let files: Vec<_> = read.operands.iter().map(PathBuf::from).collect();
    move_all(&files, &wish, read.has(&["i"]), read.has(&["v"]))
}

/// Returns the short option that a long one of `aumvdown` means.
fn short(word: OsString) -> OsString {
    let letter = match word.to_str() {
        Some("--lower-branch-id") => "-b",
        Some("--upper-branch-id") => "-B",
        Some("--interactive") => "-i",
        Some("--keep-upper") => "-k",
        Some("--overwrite-lower") => "-o",
        Some("--allow-ro-lower") => "-r",
        Some("--allow-ro-upper") => "-R",
        Some("--verbose") => "-v",
        _ => return word,
    };
    letter.into()
}

/// Returns a position as it is, and a path so that the server understands it.
fn branch_name(name: &OsStr) -> anyhow::Result<String> {
    match name.to_str() {
        Some(text) if text.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Ok(path_text::write(&std::path::absolute(name)?)),
    }
}

fn move_all(
    files: &[PathBuf],
    wish: &MoveDown,
    interactive: bool,
    verbose: bool,
) -> anyhow::Result<Exit> {
    let mut ended = Exit::SUCCESS;
    for file in files {
        if interactive && !offline::ask(&format!("Move {file:?} down?"))? {
            continue;
        }
        match move_one(file, wish) {
            Ok((from, to)) if verbose => {
                crate::print_line(&format!("{}: {from} -> {to}", path_text::write(file)));
            }
            Ok(_) => {}
            Err(error) => {
                crate::print_error(&line_of(&error.context(format!("{file:?}"))));
                ended = Exit::FAILED;
            }
        }
    }
    Ok(ended)
}

fn move_one(file: &Path, wish: &MoveDown) -> anyhow::Result<(String, String)> {
    let (_, server, names) = mounted_unions::around(file)?;
    let path: PathBuf = names.iter().map(|name| name.as_os_str()).collect();
    let wish = MoveDown {
        path: path_text::write(&path),
        ..wish.clone()
    };
    match control::order(&server, &Ask::MoveDown(wish))? {
        Answer::Moved { from, to } => Ok((from, to)),
        other => anyhow::bail!("the server answered {other:?}"),
    }
}
