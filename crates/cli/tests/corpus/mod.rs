//! Command lines of scripts that were written for AUFS, as they stand there; `@` is the directory to
//! which their paths are moved.

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does what it says.
    Works,
    /// It does so where our `mount` is found first; else the kernel lets it pass, and nothing happens.
    WorksInFront,
    /// The kernel lets it pass, and nothing happens.
    PassesSilently,
    /// It fails, with these words on standard error, as FUSE has no such thing.
    Fails(&'static str),
    /// It fails, with these words on standard error, as with AUFS.
    Refused(&'static str),
}

pub(crate) mod remounts;

use Fate::{Fails, Refused, Works};

/// A line with what comes before it.
pub(crate) struct Line {
    /// Whose script has it.
    pub(crate) from: &'static str,
    /// What was done before.
    pub(crate) before: &'static str,
    /// The line.
    pub(crate) line: &'static str,
    /// Shell commands that succeed if it did what it says.
    pub(crate) shows: &'static str,
    /// What becomes of it.
    pub(crate) fate: Fate,
}

/// Directories below `@`; each but the last has a file of its name.
pub(crate) const DIRS: [&str; 16] = [
    "Branch-0",
    "Branch-1",
    "Branch-2",
    "changes",
    "m.sb",
    "n.sb",
    "mnt/tmpfs/pup_rw",
    "save",
    "x.sfs",
    "memory/changes",
    "memory/images/x.xzm",
    "memory/xino",
    "diff/c",
    "diff/c-init",
    "diff/p",
    "union",
];

const NOTHING: &str = "";
const SEEDED: &str = "echo new >@/union/new; [ -e @/Branch-0/new ] && [ -e @/union/Branch-1 ] && \
    echo more >>@/union/Branch-2 && [ -e @/Branch-0/Branch-2 ] && rm @/union/Branch-1 && [ -e @/Branch-0/.wh.Branch-1 ]";
const SLAX: &str = "mount -t aufs -o xino=@/.xino,trunc_xino,br=@/changes aufs @/union";
const SLAX_RUNS: &str = "mount -t aufs -o br=@/changes=rw:@/m.sb=rr+wh:@/n.sb=rr+wh aufs @/union";
const PUPPY: &str = "mount -t aufs -o udba=reval,diropq=w,br=@/mnt/tmpfs/pup_rw=rw,xino=@/mnt/tmpfs/.aufs.xino unionfs @/union";
const PORTEUS: &str = "mount -t aufs -o nowarn_perm,xino=@/memory/xino/.aufs.xino,br:@/memory/changes=rw aufs @/union";
const READ_ONLY: &str = "! touch @/union/no 2>/dev/null";

const fn line(
    from: &'static str,
    before: &'static str,
    line: &'static str,
    shows: &'static str,
    fate: Fate,
) -> Line {
    Line {
        from,
        before,
        line,
        shows,
        fate,
    }
}

/// Lines that mount, and lines that leave the branches as they are.
pub(crate) const MOUNTS: &[Line] = &[
    line(
        "the manual of AUFS",
        "cd @",
        "mount -t aufs -o br=./Branch-0:./Branch-1:./Branch-2 none ./union",
        SEEDED,
        Works,
    ),
    line(
        "the manual of AUFS",
        "cd @",
        "mount -t aufs -o br:./Branch-0:./Branch-1:./Branch-2 none ./union",
        SEEDED,
        Works,
    ),
    line(
        "tutorials",
        "cd @",
        "mount -t aufs -o dirs=./Branch-0:./Branch-1:./Branch-2 none ./union",
        SEEDED,
        Works,
    ),
    line(
        "linux-live",
        NOTHING,
        SLAX,
        "echo new >@/union/new; [ -e @/changes/new ] && [ -e @/union/changes ]",
        Works,
    ),
    line(
        "linux-live",
        SLAX_RUNS,
        "cd @/union; mount -n -o remount,ro aufs .",
        READ_ONLY,
        Works,
    ),
    line(
        "linux-live",
        SLAX_RUNS,
        "cat /sys/fs/aufs/si_*/br0",
        "false",
        Fails("No such file"),
    ),
    line(
        "linux-live",
        SLAX_RUNS,
        "cat /run/aufs/si_*/br0 | tee @/told",
        "grep -qx @/changes=rw @/told",
        Works,
    ),
    line(
        "Puppy",
        NOTHING,
        PUPPY,
        "grep -q '^unionfs @/union fuse.aufs rw,' /proc/mounts && echo new >@/union/new; [ -e @/mnt/tmpfs/pup_rw/new ]",
        Works,
    ),
    line(
        "Puppy",
        SLAX_RUNS,
        "touch @/changes/.wh.m.sb @/changes/.wh.none",
        "sleep 1.1; [ ! -e @/union/m.sb ] && [ -e @/union/n.sb ]",
        Works,
    ),
    line(
        "Porteus",
        NOTHING,
        PORTEUS,
        "echo new >@/union/new; [ -e @/memory/changes/new ]",
        Works,
    ),
    line(
        "Docker, as a command",
        NOTHING,
        "mount -t aufs -o br:@/diff/c=rw:@/diff/c-init=ro+wh:@/diff/p=ro+wh,dio,xino=@/aufs.xino,dirperm1 none @/union",
        "rm @/union/p && [ -e @/diff/c/.wh.p ] && [ -e @/union/c-init ]",
        Works,
    ),
    line(
        "Docker, by mount(2)",
        NOTHING,
        "python3 -c 'import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True); \
         r = libc.mount(b\"none\", b\"@/union\", b\"aufs\", 0, b\"br:@/diff/c=rw\"); sys.exit(r and os.strerror(ctypes.get_errno()))'",
        "false",
        Fails("No such device"),
    ),
    line(
        "dracut",
        NOTHING,
        "mount -t aufs -o noatime,noxino,dirs=@/changes=rw:@/m.sb=rr aufs @/union",
        "echo new >@/union/new; [ -e @/changes/new ] && grep -q ' @/union fuse.aufs rw,noatime,' /proc/mounts",
        Works,
    ),
    line(
        "anybody, with a mistake",
        NOTHING,
        "mount -t aufs -o br=@/changes:@/gone aufs @/union",
        "false",
        Refused("gone"),
    ),
];
