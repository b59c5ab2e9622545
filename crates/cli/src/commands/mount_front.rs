//! The name `mount`, in a directory that is searched before the real one's.
//!
//! mount(8) gives a remount with source and directory, or with `-i`, straight to the kernel, and busybox
//! each remount: FUSE lets words it does not know pass, so that nothing happens and nobody is told. Here
//! such lines reach the server of the union; whatever else is asked for goes to the real command.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rules::options;
use sys::mount_table;

use super::mount::run_helper;
use crate::failure::{Exit, Failure};
use crate::helper_arguments::Arguments;
use crate::mounting::place::is_union;
use crate::mounting::request::says;

/// `mount ...`
pub(crate) fn run(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<Exit> {
    let words: Vec<_> = words.into_iter().collect();
    match ours(&words, is_mounted_union) {
        Some(helper) => run_helper(helper, "aufs"),
        None => Err(real(&words)),
    }
}

/// Returns the command line of mount(8)'s helper if the request is about a union.
fn ours(words: &[OsString], is_union: impl Fn(&OsStr) -> bool) -> Option<Vec<OsString>> {
    let read = Arguments::read(words.iter().cloned(), "finrsvw", "ot", &[]).ok()?;
    let remount = read.all('o').any(|list| says(list, "remount"));
    let (source, dir) = match &read.operands[..] {
        [source, dir] => (source.as_os_str(), dir),
        [dir] if remount => (OsStr::new("none"), dir),
        _ => return None,
    };
    let asked_for = match read.all('t').last() {
        Some(given) => ["aufs", "plywood", "fuse.aufs", "fuse.plywood"].contains(&given.to_str()?),
        None => remount && is_union(dir),
    };
    asked_for.then_some(())?;
    let switches = read.switches.iter().filter(|letter| *letter != "i");
    let switches = switches.map(|letter| OsString::from(format!("-{letter}")));
    let mut helper: Vec<_> = switches.collect();
    helper.extend(["-o".into(), options::join(read.all('o'))]);
    if let Some(given) = read.all('t').last() {
        helper.extend(["-t".into(), given.into()]);
    }
    helper.extend(["--".into(), source.into(), dir.clone()]);
    Some(helper)
}

fn is_mounted_union(dir: &OsStr) -> bool {
    let place = Path::new(dir).canonicalize();
    let mounted = place.map(|place| mount_table::mount_at(&place).ok().flatten());
    mounted.is_ok_and(|mount| mount.is_some_and(|mount| is_union(&mount)))
}

/// Becomes the real command; returns only if there is none.
fn real(words: &[OsString]) -> anyhow::Error {
    let ours = match std::env::current_exe().and_then(|program| program.canonicalize()) {
        Ok(ours) => ours,
        Err(error) => return anyhow::Error::new(error).context("cannot find this program"),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/bin", "/usr/bin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(usual)
        .map(|dir| dir.join("mount"))
        .find(|program| {
            let target = program.canonicalize();
            target.is_ok_and(|target| target.is_file() && target != ours)
        });
    let Some(program) = found else {
        return Failure::new(Exit::MOUNT_SYSTEM, "there is no other mount")
            .hint("install util-linux or busybox")
            .into();
    };
    let error = Command::new(&program).arg0("mount").args(words).exec();
    let what = format!("cannot start {program:?}: {error}");
    Failure::new(Exit::MOUNT_SYSTEM, what).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn helper(line: &str) -> Option<String> {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        let found = ours(&words, |dir| dir.as_bytes().starts_with(b"/u"))?;
        Some(found.join(OsStr::new(" ")).into_string().unwrap())
    }

    #[test]
    fn what_is_about_a_union_goes_to_the_helper_and_nothing_else() {
        for (line, expected) in [
            (
                "-t aufs -o br=/a:/b none /x",
                Some("-o br=/a:/b -t aufs -- none /x"),
            ),
            (
                "-no remount,add:1:/m=rr aufs /u",
                Some("-n -o remount,add:1:/m=rr -- aufs /u"),
            ),
            (
                "-i -o remount,del:/m /u",
                Some("-o remount,del:/m -- none /u"),
            ),
            (
                "-t aufs -o remount,udba=notify /",
                Some("-o remount,udba=notify -t aufs -- none /"),
            ),
            (
                "-o remount -o ro aufs /u -v",
                Some("-v -o remount,ro -- aufs /u"),
            ),
            ("-o remount,rw /", None),
            ("-o remount,rw aufs /", None),
            ("-t aufs /x", None),
            ("-t tmpfs none /u", None),
            ("-o bind /a /u", None),
            ("--bind /a /u", None),
            ("--move /u /a", None),
            ("-a", None),
            ("-a -t aufs", None),
            ("-l -t aufs", None),
            ("", None),
        ] {
            assert_eq!(helper(line).as_deref(), expected, "{line}");
        }
    }
}
