//! The options of mount(8) and of FUSE, which mean the same for every filesystem.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use super::error::OptionError;
use super::word::Word;

/// When reading updates access times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AccessTimes {
    /// As the kernel does it when nothing is said.
    #[default]
    Default,
    /// `noatime`
    Never,
    /// `relatime`
    Relative,
    /// `strictatime`
    Strict,
}

/// How long the kernel may keep answers, where the user said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// `entry_timeout=`, `timeout=`
    pub entry: Option<Duration>,
    /// `attr_timeout=`, `timeout=`
    pub attributes: Option<Duration>,
    /// `negative_timeout=`
    pub negative: Option<Duration>,
}

/// What the mount itself is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Generic {
    /// `remount`: an existing mount is changed.
    pub remount: bool,
    /// `ro`
    pub read_only: bool,
    /// `nosuid`
    pub no_suid: bool,
    /// `nodev`
    pub no_devices: bool,
    /// `noexec`
    pub no_exec: bool,
    /// `nosymfollow`
    pub no_symlink_follow: bool,
    /// `noatime`, `relatime`, `strictatime`
    pub access_times: AccessTimes,
    /// `nodiratime`
    pub no_directory_access_times: bool,
    /// `lazytime`
    pub lazy_times: bool,
    /// `sync`
    pub synchronous: bool,
    /// `dirsync`
    pub synchronous_directories: bool,
    /// `allow_other`
    pub allow_other: bool,
    /// `allow_root`
    pub allow_root: bool,
    /// `default_permissions`
    pub default_permissions: bool,
    /// `auto_unmount`
    pub auto_unmount: bool,
    /// `debug`
    pub debug: bool,
    /// `threaded=0`
    pub single_threaded: bool,
    /// `noforget`: objects are found by their handles also after the kernel forgot them, as an NFS server needs it.
    pub keep_forgotten: bool,
    /// `nopassthrough`: data of files goes through the server, also where the kernel could pass it through.
    pub no_passthrough: bool,
    /// `fsname=`: the source in /proc/mounts.
    pub source: Option<OsString>,
    /// `subtype=`: the type behind `fuse.`.
    pub subtype: Option<OsString>,
    /// `max_read=`
    pub max_read: Option<u32>,
    /// `memory_limit=`: how many bytes names and objects may take.
    pub memory_limit: Option<u64>,
    /// `timeout=` and its kin.
    pub timeouts: Timeouts,
    /// `context=` and its kin, whole words for the mount call.
    pub security_contexts: Vec<OsString>,
}

/// The words with a meaning here.
pub(super) const WORDS: &[&str] = &[
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "symfollow",
    "nosymfollow",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "diratime",
    "nodiratime",
    "lazytime",
    "nolazytime",
    "sync",
    "async",
    "dirsync",
    "remount",
    "user",
    "users",
    "owner",
    "group",
    "defaults",
    "allow_other",
    "allow_root",
    "default_permissions",
    "auto_unmount",
    "debug",
    "noforget",
    "nopassthrough",
    "threaded",
    "max_idle_threads",
    "max_threads",
    "fsname",
    "subtype",
    "max_read",
    "memory_limit",
    "timeout",
    "entry_timeout",
    "attr_timeout",
    "negative_timeout",
    "ac_attr_timeout",
    "context",
    "fscontext",
    "defcontext",
    "rootcontext",
];

/// Words that are for others, or that ask for what is the case anyhow; values are let pass.
pub(super) const IGNORED: &[&str] = &[
    // mount(8), fstab, systemd
    "auto",
    "noauto",
    "nouser",
    "nousers",
    "noowner",
    "nogroup",
    "nofail",
    "_netdev",
    "comment",
    "uhelper",
    "helper",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "loud",
    "rbind",
    "bind",
    // libfuse and its command line
    "nonempty",
    "kernel_cache",
    "auto_cache",
    "noauto_cache",
    "large_read",
    "big_writes",
    "use_ino",
    "readdir_ino",
    "hard_remove",
    "intr",
    "nointr",
    "intr_signal",
    "direct_io",
    "clone_fd",
    "remember",
    "nopath",
    "nullpath_ok",
    "atomic_o_trunc",
    "no_remote_lock",
    "no_remote_posix_lock",
    "no_remote_flock",
    "splice_read",
    "splice_write",
    "splice_move",
    "no_splice_read",
    "no_splice_write",
    "no_splice_move",
    "async_read",
    "sync_read",
    "async_dio",
    "no_async_dio",
    "writeback_cache",
    "max_write",
    "max_readahead",
    "max_background",
    "congestion_threshold",
    "blksize",
    "user_id",
    "group_id",
];

/// Takes one generic word; answers whether it was one.
pub(super) fn apply(word: &Word<'_>, generic: &mut Generic) -> Result<bool, OptionError> {
    Ok(mount_flag(word, generic)?
        || mount_type(word, generic)?
        || timeout(word, &mut generic.timeouts)?
        || ignored(word.key))
}

fn mount_flag(word: &Word<'_>, generic: &mut Generic) -> Result<bool, OptionError> {
    let (flag, on) = match word.key {
        b"ro" => (&mut generic.read_only, true),
        b"rw" => (&mut generic.read_only, false),
        b"nosuid" => (&mut generic.no_suid, true),
        b"suid" => (&mut generic.no_suid, false),
        b"nodev" => (&mut generic.no_devices, true),
        b"dev" => (&mut generic.no_devices, false),
        b"noexec" => (&mut generic.no_exec, true),
        b"exec" => (&mut generic.no_exec, false),
        b"nosymfollow" => (&mut generic.no_symlink_follow, true),
        b"symfollow" => (&mut generic.no_symlink_follow, false),
        b"nodiratime" => (&mut generic.no_directory_access_times, true),
        b"diratime" => (&mut generic.no_directory_access_times, false),
        b"lazytime" => (&mut generic.lazy_times, true),
        b"nolazytime" => (&mut generic.lazy_times, false),
        b"sync" => (&mut generic.synchronous, true),
        b"async" => (&mut generic.synchronous, false),
        b"dirsync" => (&mut generic.synchronous_directories, true),
        b"remount" => (&mut generic.remount, true),
        b"allow_other" => (&mut generic.allow_other, true),
        b"allow_root" => (&mut generic.allow_root, true),
        b"default_permissions" => (&mut generic.default_permissions, true),
        b"auto_unmount" => (&mut generic.auto_unmount, true),
        b"debug" => (&mut generic.debug, true),
        b"noforget" => (&mut generic.keep_forgotten, true),
        b"nopassthrough" => (&mut generic.no_passthrough, true),
        _ => return access_times(word, generic),
    };
    word.switch()?;
    *flag = on;
    Ok(true)
}

fn access_times(word: &Word<'_>, generic: &mut Generic) -> Result<bool, OptionError> {
    let times = match word.key {
        b"noatime" => AccessTimes::Never,
        b"relatime" => AccessTimes::Relative,
        b"strictatime" => AccessTimes::Strict,
        b"atime" | b"norelatime" | b"nostrictatime" => AccessTimes::Default,
        _ => return Ok(false),
    };
    word.switch()?;
    generic.access_times = times;
    Ok(true)
}

fn mount_type(word: &Word<'_>, generic: &mut Generic) -> Result<bool, OptionError> {
    match word.key {
        b"defaults" => word.switch()?,
        // What mount(8) makes of them; mount(8) itself adds a value to `user`.
        b"user" | b"users" => {
            (generic.no_suid, generic.no_devices, generic.no_exec) = (true, true, true);
        }
        b"owner" | b"group" => (generic.no_suid, generic.no_devices) = (true, true),
        b"fsname" => generic.source = Some(word.text()?),
        b"subtype" => generic.subtype = Some(word.text()?),
        b"max_read" => generic.max_read = Some(word.number()?),
        b"memory_limit" => generic.memory_limit = Some(word.size()?),
        b"threaded" => generic.single_threaded = !word.one_zero()?,
        b"max_idle_threads" | b"max_threads" => drop(word.number::<u32>()?),
        b"context" | b"fscontext" | b"defcontext" | b"rootcontext" => {
            word.value()?;
            generic
                .security_contexts
                .push(OsString::from_vec(word.raw.to_vec()));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn timeout(word: &Word<'_>, timeouts: &mut Timeouts) -> Result<bool, OptionError> {
    match word.key {
        b"timeout" => {
            let both = Some(word.seconds()?);
            (timeouts.entry, timeouts.attributes) = (both, both);
        }
        b"entry_timeout" => timeouts.entry = Some(word.seconds()?),
        b"attr_timeout" => timeouts.attributes = Some(word.seconds()?),
        b"negative_timeout" => timeouts.negative = Some(word.seconds()?),
        b"ac_attr_timeout" => drop(word.seconds()?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn ignored(key: &[u8]) -> bool {
    key.starts_with(b"x-")
        || key.starts_with(b"X-")
        || IGNORED.iter().any(|name| name.as_bytes() == key)
}
