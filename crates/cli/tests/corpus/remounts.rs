//! Lines that change a union that is mounted.

use super::Fate::{PassesSilently, Refused, Works, WorksInFront};
use super::{Line, PORTEUS, PUPPY, SLAX_RUNS, line};

const SLAX: &str = "mount -t aufs -o br=@/changes aufs @/union";
const DOCKER: &str = "mount -t aufs -o br:@/diff/c=rw:@/diff/c-init=ro+wh,dio,xino=@/aufs.xino,dirperm1 none @/union";
const SANDBOX: &str =
    "mount -t aufs -o br=@/mnt/tmpfs/pup_rw=rw:@/x.sfs=ro unionfs @/union; echo mine >@/union/mine";
const ADDED: &str =
    "[ \"$(cat @/union/m.sb)\" = m.sb ] && echo new >@/union/new && [ -e @/changes/new ]";
const REMOVED: &str = "[ ! -e @/union/m.sb ] && [ -e @/union/n.sb ]";
const SAVED: &str = "echo new >@/union/new; [ -e @/save/new ] && [ ! -e @/mnt/tmpfs/pup_rw/new ] && \
    [ ! -e @/union/mine ] && [ -e @/union/x.sfs ]";
const WATCHED: &str = "plywood status @/union | grep -q 'udba *notify'";

/// Lines that change the branches or the options of a union.
pub(crate) const REMOUNTS: &[Line] = &[
    line(
        "linux-live",
        SLAX,
        "mount -o remount,add:1:@/m.sb=rr+wh aufs @/union",
        ADDED,
        WorksInFront,
    ),
    line(
        "linux-live",
        SLAX,
        "mount -t aufs -o remount,add:1:@/m.sb=rr+wh aufs @/union",
        ADDED,
        Works,
    ),
    line(
        "linux-live",
        SLAX,
        "mount -o remount,add:1:@/m.sb=rr+wh @/union",
        ADDED,
        Works,
    ),
    line(
        "linux-live",
        SLAX_RUNS,
        "mount -t aufs -o remount,verbose,del:@/m.sb aufs @/union",
        REMOVED,
        Works,
    ),
    line(
        "linux-live",
        SLAX_RUNS,
        "cd @/union; mount -t aufs -o remount,verbose,del:@/m.sb aufs .",
        REMOVED,
        Works,
    ),
    line(
        "linux-live",
        "mount -t aufs -o br=@/changes=rw:@/m.sb=rr+wh aufs @/union; exec 9<@/union/m.sb",
        "mount -t aufs -o remount,del:@/m.sb aufs @/union",
        "[ ! -e @/union/m.sb ]",
        Refused("m.sb"),
    ),
    line(
        "linux-live",
        SLAX_RUNS,
        "br0=$(cut -d= -f1 /run/aufs/si_*/br0 | grep ^@/); mount -n -o remount,mod:$br0=ro aufs @/union",
        "! touch @/union/no 2>/dev/null",
        WorksInFront,
    ),
    line(
        "linux-live",
        SLAX_RUNS,
        "mount -n -o remount,mod:@/changes=ro @/union",
        "! touch @/union/no 2>/dev/null",
        Works,
    ),
    line(
        "linux-live",
        SLAX_RUNS,
        "mount -i -t aufs -o remount,del:@/m.sb aufs @/union",
        REMOVED,
        WorksInFront,
    ),
    line(
        "Puppy",
        PUPPY,
        "mount -t aufs -o remount,append:@/x.sfs=rr unionfs @/union",
        "[ -e @/union/x.sfs ]",
        Works,
    ),
    line(
        "Puppy",
        PUPPY,
        "mount -o remount,append:@/x.sfs=rr @/union",
        "[ -e @/union/x.sfs ]",
        Works,
    ),
    line(
        "Puppy",
        PUPPY,
        "mount -o remount,add:1:@/x.sfs=ro+wh @/union",
        "[ -e @/union/x.sfs ]",
        Works,
    ),
    line(
        "Puppy",
        SANDBOX,
        "mount -o remount,prepend:@/save=rw,mod:@/mnt/tmpfs/pup_rw=ro,del:@/mnt/tmpfs/pup_rw @/union",
        SAVED,
        Works,
    ),
    line(
        "Puppy",
        SANDBOX,
        "mount -o remount,prepend:@/save=rw,mod:@/mnt/tmpfs/pup_rw=ro,del:@/mnt/tmpfs/pup_rw unionfs @/union",
        SAVED,
        WorksInFront,
    ),
    line(
        "Puppy",
        PUPPY,
        "mount -t aufs -o remount,udba=notify unionfs @/union",
        WATCHED,
        Works,
    ),
    line(
        "Puppy",
        PUPPY,
        "busybox mount -t aufs -o remount,udba=notify unionfs @/union",
        WATCHED,
        PassesSilently,
    ),
    line(
        "Porteus",
        PORTEUS,
        "mount -no remount,add:1:@/memory/images/x.xzm=rr aufs @/union",
        "[ -e @/union/x.xzm ]",
        WorksInFront,
    ),
    line(
        "Porteus",
        PORTEUS,
        "mount -no remount,dirperm1,add=1:@/memory/images/x.xzm=rr aufs @/union",
        "[ -e @/union/x.xzm ]",
        WorksInFront,
    ),
    line(
        "Porteus",
        "mount -t aufs -o br=@/changes=rw:@/m.sb=rr:@/n.sb=rr aufs @/union",
        "mount -t aufs -o remount,del=@/m.sb aufs @/union",
        REMOVED,
        Works,
    ),
    line(
        "Docker, as a command",
        DOCKER,
        "mount -t aufs -o remount,append:@/diff/p=ro+wh none @/union",
        "[ -e @/union/p ]",
        Works,
    ),
    line(
        "Docker, by mount(2)",
        DOCKER,
        "python3 -c 'import ctypes; ctypes.CDLL(None).mount(b\"none\", b\"@/union\", b\"aufs\", 32, b\"append:@/diff/p=ro+wh\")'",
        "[ -e @/union/p ]",
        PassesSilently,
    ),
    line(
        "Docker, as a command",
        "mount -t aufs -o br:@/diff/c=rw:@/diff/p=ro+wh none @/union; ln @/diff/p/p @/diff/p/q; chmod 600 @/union/p",
        "auplink @/union flush",
        "[ @/diff/c/p -ef @/diff/c/q ]",
        Works,
    ),
    line(
        "Alt-F",
        SLAX,
        "mount -t aufs -o remount,prepend:@/save=rw @/union",
        "echo new >@/union/new; [ -e @/save/new ]",
        Works,
    ),
    line(
        "grml",
        SLAX,
        "mount -t aufs -o remount,rw,dirs=@/x.sfs=ro unionfs @/union",
        "[ -e @/union/x.sfs ]",
        Works,
    ),
    line(
        "live-boot scripts",
        SLAX,
        "mount -o remount,ins:1:@/x.sfs @/union",
        "[ -e @/union/x.sfs ]",
        Works,
    ),
    line(
        "builders",
        SLAX,
        "mount -o remount,prepend:@/save=rw,mod:@/changes=rr+nowh none @/union",
        "echo new >@/union/new; [ -e @/save/new ]",
        WorksInFront,
    ),
    line(
        "anybody, with a mistake",
        SLAX,
        "mount -t aufs -o remount,add:1:@/gone aufs @/union",
        "false",
        Refused("gone"),
    ),
    line(
        "anybody, with a mistake",
        SLAX,
        "mount -t aufs -o remount,ad:1:@/m.sb aufs @/union",
        "[ -e @/union/m.sb ]",
        Refused("ad:1"),
    ),
];
