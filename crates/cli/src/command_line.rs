//! The command line of `plywood`; man pages and completions come from it too.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Thin layers on any directory: AUFS for every stock Linux kernel.
#[derive(Debug, Parser)]
#[command(name = "plywood", version, about, max_term_width = 100)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Mount(Mount),
    #[command(visible_alias = "unmount")]
    Umount(Umount),
    Branch(Branch),
    Busy(Busy),
    Which(Which),
    Status(Status),
    Doctor(Doctor),
    Index(Index),
    Check(Check),
    MergeDown(MergeDown),
    Mvdown(Mvdown),
    Balance(Balance),
    Completions(Completions),
    Man(Man),
    InstallHelpers(InstallHelpers),
}

/// Stack directories into one tree
///
/// The branches are named with AUFS's option `br=TOP=rw:LOWER=ro`, with overlay's
/// `lowerdir=`, `upperdir=` and `workdir=`, or as the first operand: `TOP=rw:LOWER=ro`. The
/// topmost comes first; without a mode the first is writable and the others are not. A `:`
/// or `,` in a path is written `\:` or `\,`.
///
/// The command returns when the mount can be used. Exit codes are mount(8)'s: 1 wrong use or
/// missing permission, 2 system error, 32 the mount failed.
#[derive(Debug, Args)]
#[command(allow_missing_positional = true, after_long_help = MOUNT_OPTIONS)]
pub(crate) struct Mount {
    /// Stay in the foreground; PLYWOOD_LOG says what to log, such as "info"
    #[arg(short, long)]
    pub(crate) foreground: bool,
    /// Tell all warnings
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Give up names that were not used lately when all that is known takes more: 64M
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_limit: Option<OsString>,
    /// Mount options, separated by commas; may be given several times
    #[arg(short, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub(crate) options: Vec<OsString>,
    /// Name shown as the source of the mount, or the branches if no option names them
    #[arg(value_name = "SOURCE|BRANCHES")]
    pub(crate) source: Option<OsString>,
    /// Directory to mount on
    pub(crate) dir: PathBuf,
}

/// Reads `mount` with options and operands as nearly everybody writes them, without making what explains all commands: that
/// takes longer than the mount, and its memory would stay with the server. `None` for whatever else there is,
/// wrong or right.
pub(crate) fn plain_mount(words: impl IntoIterator<Item = OsString>) -> Option<Mount> {
    let mut words = words.into_iter();
    if words.next()? != "mount" {
        return None;
    }
    let mut words = words.peekable();
    let plain = |word: &OsString| !word.is_empty() && !word.as_encoded_bytes().starts_with(b"-");
    let (mut foreground, mut verbose) = (false, false);
    let (mut options, mut operands) = (Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("-f" | "--foreground") if !foreground => foreground = true,
            Some("-v" | "--verbose") if !verbose => verbose = true,
            Some("-o") => options.push(words.next().filter(plain)?),
            _ if plain(&word) && operands.is_empty() => {
                operands.push(word);
                // The one before the directory stands beside it.
                operands.extend(words.next_if(plain));
            }
            _ => return None,
        }
    }
    let dir = operands.pop()?.into();
    Some(Mount {
        foreground,
        verbose,
        memory_limit: None,
        options,
        source: operands.pop(),
        dir,
    })
}

const MOUNT_OPTIONS: &str = "\
Branches: br=PATH[=MODE][:PATH[=MODE]]..., dirs=, add:INDEX:PATH, append:PATH, prepend:PATH, or
lowerdir=A:B, upperdir=, workdir=. A PATH is a directory, or a squashfs, erofs or ISO image. A MODE
is rw, ro, ro+wh (its whiteouts count), rr or rw+nolwh (whiteouts are no hard links). More
attributes, joined with +: coo_reg, coo_all (opening copies regular files, or all things, up), moo
(opening moves a regular file up; rw only), icex or icexsec, icexsys, icextr, icexusr, icexoth
(extended attributes of these classes may stay behind when they cannot be copied to this branch).

Where changes go: create=tdp|rr|mfs[:SECONDS]|pmfs[:SECONDS]|mfsrr:BYTES[:SECONDS]|
tdmfs:BYTES[:SECONDS]|pmfsrr:BYTES[:SECONDS] (which branch receives what is new: top down, in turn,
that with the most free space, of those that have the directory); cpup=tdp|bup|bu; moveonenospc
(what does not fit a branch any more moves to another); diropq=w|a; nodirren (a directory that lies
on several branches is not renamed: EXDEV); noplink.

Behaviour: udba=none (nobody else changes the branches: all is remembered), reval (changes show
after a second, or after entry_timeout=, attr_timeout=, negative_timeout=), notify (the branches
are watched: all is remembered until it changes); noacl; sum; shwh (whiteouts are shown); dirperm1,
nodirperm1 (only the topmost branch decides who searches a directory, or every one); volatile
(nothing is synced); compat=aufs|overlay (whose defaults hold); uidmapping=, gidmapping=,
squash_to_root, squash_to_uid=, squash_to_gid= (one owner for all that is shown and made);
xattr_permissions=2|1 (owners and permissions in an attribute: user.containers.override_stat, or
security.fuseoverlayfs.override_stat for root); chain_index=FILE (with udba=none: an index answers for
the lowest read-only branches; it is made if FILE has none that fits, see `plywood index`).

Mount: ro, nosuid, nodev, noexec, noatime, fsname=, subtype=, allow_other (always for root), noforget (for a
union that NFS exports: handles stay good until it is unmounted), memory_limit=SIZE (as --memory-limit; a number
of bytes, or with K, M or G), nopassthrough (data goes through the server even where the kernel could pass it
through), and whatever else fstab may hold.
With ro, udba=none and no writable branch the mount is fastest, and read-only for good.

Of a mounted union: remount with add:, append:, prepend:, del:PATH, mod:PATH=MODE, br= (adds what
is not there yet), and the options above; several are taken from left to right.

Accepted without effect, because they tune AUFS's own working: xino=, noxino, trunc_xino, trunc_xib,
dirwh=, rdcache=, rdblk=, rdhash=, dio, nodio, fhsm_sec=, si=, the branch attribute fhsm.";

/// Unmount a union and wait until its branches are free
///
/// When the mount is in use, the users are named and the exit code is 32.
#[derive(Debug, Args)]
pub(crate) struct Umount {
    /// Clean up a mount whose server is dead
    #[arg(long)]
    pub(crate) stale: bool,
    /// Take the mount out of sight now; it goes when its last user does
    #[arg(short, long)]
    pub(crate) lazy: bool,
    /// Directory that is mounted on
    pub(crate) dir: PathBuf,
}

/// List the branches of a mounted union, or change them while it is in use
///
/// A branch is a directory, or a squashfs, erofs or ISO image. Changes show at once. A branch in
/// use cannot be removed: then the exit code is 32, and `plywood busy DIR BRANCH` names the processes.
#[derive(Debug, Args)]
pub(crate) struct Branch {
    #[command(subcommand)]
    pub(crate) verb: BranchVerb,
}

/// What to do about branches.
#[derive(Debug, Subcommand)]
pub(crate) enum BranchVerb {
    List(BranchList),
    Add(BranchAdd),
    /// Take branches out of the stack
    #[command(visible_alias = "del")]
    Remove(BranchPaths),
    /// Give branches other modes: PATH=MODE
    #[command(visible_alias = "mod")]
    Set(BranchPaths),
    Move(BranchMove),
}

/// How branches are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BranchFormat {
    /// Position, mode and path
    Text,
    /// As the files of /sys/fs/aufs/si_ID: "br0 /path=rw"
    AufsSysfs,
    /// As an option for mount(8): "br=/a=rw:/b=ro"
    Options,
    /// JSON
    Json,
}

/// List the branches, topmost first
#[derive(Debug, Args)]
pub(crate) struct BranchList {
    /// How to print them
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: BranchFormat,
    /// Directory that the union is mounted on
    pub(crate) dir: PathBuf,
}

/// Put branches into the stack: PATH[=MODE]
///
/// Without a position a writable branch goes on top, and any other below the topmost writable one.
#[derive(Debug, Args)]
pub(crate) struct BranchAdd {
    /// Position of the first; 0 is on top
    #[arg(long, value_name = "N", conflicts_with = "bottom")]
    pub(crate) at: Option<usize>,
    /// Below all others
    #[arg(long)]
    pub(crate) bottom: bool,
    /// Directory that the union is mounted on
    pub(crate) dir: PathBuf,
    /// Branches, the topmost first
    #[arg(required = true, value_name = "BRANCH")]
    pub(crate) branches: Vec<OsString>,
}

/// Branches by their paths.
#[derive(Debug, Args)]
pub(crate) struct BranchPaths {
    /// Directory that the union is mounted on
    pub(crate) dir: PathBuf,
    /// Branches
    #[arg(required = true, value_name = "BRANCH")]
    pub(crate) branches: Vec<PathBuf>,
}

/// Move a branch to another position
#[derive(Debug, Args)]
pub(crate) struct BranchMove {
    /// Directory that the union is mounted on
    pub(crate) dir: PathBuf,
    /// Branch
    pub(crate) branch: PathBuf,
    /// Its new position; 0 is on top
    pub(crate) to: usize,
}

/// Name the processes that use a union, or keep one of its branches from being removed
///
/// Prints process id, name, kind of use and path, separated by tabs. The exit code is 1 if there are any.
#[derive(Debug, Args)]
pub(crate) struct Busy {
    /// Directory that the union is mounted on
    pub(crate) dir: PathBuf,
    /// Only what keeps this branch
    pub(crate) branch: Option<PathBuf>,
}

/// Show which branch serves a path, and what that hides
///
/// Works for removed names too: then it shows the whiteout and what is hidden. The exit
/// code is 1 if the union has no such name.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Path in a union
    pub(crate) path: PathBuf,
}

/// List mounted unions with their branches, options and server
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Only the union mounted on this directory
    pub(crate) dir: Option<PathBuf>,
}

/// Check what this machine offers, and say how to get what is missing
///
/// The exit code is 1 if something essential is missing, or if a scan finds lines to be changed.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print what a scan found as JSON
    #[arg(long, requires = "scan")]
    pub(crate) json: bool,
    /// Look in these directories instead, for branches and layer stores, and for lines of scripts and
    /// configuration files that would not do what they did with AUFS, with what to write instead
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub(crate) scan: Vec<PathBuf>,
}

/// Look for what does not belong in writable branches that no union uses
///
/// Interrupted operations leave whiteouts beside their entries and temporary names; links for hard links and copies of
/// removed files stay in the branch's root. What is found is told, one line for each. All repairs can be interrupted and
/// done again, and change nothing that a union shows.
///
/// The exit code is 0 if nothing is wrong or all was repaired, 1 if something is left, 2 if a branch could
/// not be checked.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Say nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Put right what is found
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// What lies below the branches, such as A:B=ro+wh, to find whiteouts that hide nothing
    #[arg(long, value_name = "BRANCHES")]
    pub(crate) below: Option<OsString>,
    /// Branch
    #[arg(required = true, value_name = "BRANCH")]
    pub(crate) branches: Vec<PathBuf>,
}

/// Bring what a branch holds into the branch below it
///
/// Afterwards the lower branch alone shows what the upper branch over it showed: files, attributes, hard links, and
/// deletions. No union may use the branches meanwhile. Whatever stops the command, the two still show the
/// same, and the same command goes on.
///
/// A deletion stays as a whiteout only where something would show below the lower branch: name with --below what lies
/// there. Without it the lower branch counts as the lowest.
#[derive(Debug, Args)]
pub(crate) struct MergeDown {
    /// Empty the upper branch
    #[arg(long = "move")]
    pub(crate) moves: bool,
    /// Empty the upper branch, and keep all its whiteouts in the lower one
    #[arg(long, conflicts_with_all = ["moves", "below"])]
    pub(crate) move_with_whiteouts: bool,
    /// What lies below the lower branch, topmost first, such as A:B=ro+wh
    #[arg(long, value_name = "BRANCHES")]
    pub(crate) below: Option<OsString>,
    /// Print each change and make none
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Print each change
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Upper branch
    #[arg(value_name = "SRC_BRANCH")]
    pub(crate) source: PathBuf,
    /// Lower branch, whose whiteouts count
    #[arg(value_name = "DST_BRANCH")]
    pub(crate) target: PathBuf,
}

/// Move files of a mounted union to a writable branch below
///
/// A file shows the same before, while and after it moves. It stays where it is while somebody has it open, if it has
/// several names, or if something between the branches would hide it. The exit code is 1 if one stays.
#[derive(Debug, Args)]
pub(crate) struct Mvdown {
    /// The branch to move to, by path or position from 0; otherwise the next writable one below
    #[arg(short = 'b', long, value_name = "BRANCH")]
    pub(crate) to: Option<OsString>,
    /// Only files that this branch shows
    #[arg(short = 'B', long, value_name = "BRANCH")]
    pub(crate) from: Option<OsString>,
    /// Ask before each file
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Leave the file on the upper branch as well
    #[arg(short, long)]
    pub(crate) keep_upper: bool,
    /// Replace a file that the lower branch has under the name
    #[arg(short, long)]
    pub(crate) overwrite: bool,
    /// Write to a lower branch that is mounted read-only
    #[arg(short = 'r', long)]
    pub(crate) allow_ro_lower: bool,
    /// Remove from an upper branch that is mounted read-only
    #[arg(short = 'R', long)]
    pub(crate) allow_ro_upper: bool,
    /// Print from where to where each file moves
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// File in a union
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Spread the files of a pool over its branches, so that they are equally full
///
/// Files move from writable branches that are fuller than the pool to emptier ones, where they show as before. A file with
/// several names moves with all of them or not at all. The command can be interrupted: it ends after the file that is
/// moving.
///
/// In a mounted union, files that have one name and are not open move to branches below; to let them move up as
/// well, unmount it and name the branches.
#[derive(Debug, Args)]
pub(crate) struct Balance {
    /// Print what would move
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Print each file that moves
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// How much fuller than the pool a branch may be, in percent of its size
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) percent: u8,
    /// Where the union is mounted, or all branches of the pool, topmost first, such as A:B:C=ro; without a mode they are
    /// writable
    #[arg(value_name = "UNION|BRANCHES")]
    pub(crate) pool: OsString,
}

/// Make, check or show the index of a chain of read-only branches
///
/// A mount with `udba=none,chain_index=FILE` asks the index instead of the branches. It compares each directory with the
/// index first, reads from the branches what changed, and then makes the index anew, so that nobody has to call these
/// commands. Branches named `rr` are promised never to change: of them, attributes come from the index as well.
#[derive(Debug, Args)]
pub(crate) struct Index {
    #[command(subcommand)]
    pub(crate) verb: IndexVerb,
}

/// What to do about an index.
#[derive(Debug, Subcommand)]
pub(crate) enum IndexVerb {
    /// Make the index of branches, topmost first, such as A=rr+wh:B=rr
    Build(IndexOf),
    /// Compare an index with the branches, directory by directory
    ///
    /// The exit code is 0 if it fits, 1 if it does not, 2 if that could not be found out.
    Check(IndexOf),
    /// Print what an index is about
    Show(IndexShow),
}

/// How whiteouts and opaque directories are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum IndexFormat {
    /// As for a mount with br=
    Aufs,
    /// As for a mount with lowerdir= by root
    Overlay,
    /// As for a mount with lowerdir= by others, or with userxattr
    OverlayUser,
}

/// An index and the branches it is about.
#[derive(Debug, Args)]
pub(crate) struct IndexOf {
    /// How whiteouts and opaque directories are written
    #[arg(long, value_enum, default_value = "aufs")]
    pub(crate) format: IndexFormat,
    /// File of the index, outside of the branches
    pub(crate) file: PathBuf,
    /// Branches with the modes that they are mounted with: rr+wh, rr, ro+wh or ro
    #[arg(value_name = "BRANCHES")]
    pub(crate) branches: OsString,
}

/// Print what an index is about
#[derive(Debug, Args)]
pub(crate) struct IndexShow {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// File of the index
    pub(crate) file: PathBuf,
}

/// Print the completion script for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Shell
    pub(crate) shell: clap_complete::Shell,
}

/// Write the manual pages into a directory
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Directory, made if it is missing
    pub(crate) dir: PathBuf,
}

/// Link the names that mount(8) looks for to this program
///
/// Afterwards `mount -t aufs`, `mount -t plywood` and lines of fstab work.
#[derive(Debug, Args)]
pub(crate) struct InstallHelpers {
    /// Where the directories sbin and bin are
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) prefix: PathBuf,
    /// Also take the name fuse-overlayfs
    #[arg(long)]
    pub(crate) fuse_overlayfs: bool,
    /// Also take the name mount in DIR, which must come before /bin in PATH: then remounts that the
    /// real command would not tell us of work as well
    #[arg(long, value_name = "DIR")]
    pub(crate) mount_front: Option<PathBuf>,
    /// Remove the links instead
    #[arg(long)]
    pub(crate) remove: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn plain_mounts_are_read_as_all_others() {
        let words = |line: &str| -> Vec<OsString> { line.split(' ').map(OsString::from).collect() };
        for line in [
            "mount /m",
            "mount none /m",
            "mount -f -v -o br=a -o ro none /m",
            "mount --foreground none /m --verbose -o br=a=rw:b",
            "mount -f a:b /m",
        ] {
            let plain = plain_mount(words(line)).unwrap();
            let all = CommandLine::parse_from(words(&format!("plywood {line}")));
            assert_eq!(
                format!("{:?}", Verb::Mount(plain)),
                format!("{:?}", all.verb),
                "{line}"
            );
        }
        for line in [
            "mount",
            "mount a b c",
            "mount none -v /m",
            "mount -o",
            "mount -f -f /m",
            "mount -fv /m",
            "mount -obr=a /m",
            "mount -o -x /m",
            "mount --help",
            "mount -- /m",
            "umount /m",
            "--version",
        ] {
            assert!(plain_mount(words(line)).is_none(), "{line}");
        }
    }
}
