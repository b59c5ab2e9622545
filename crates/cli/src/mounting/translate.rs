//! Options in the words of the union, of its server and of the mount call.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use fuse::{CachePolicy, IdMap, Mapping, Range, ServeOptions, Squash};
use rules::Identity;
use rules::options::{
    AccessTimes, Compat, CopyUpPolicy, Dialect, DirectAccess, FreeSpace, Generic, IdRange,
    MountOptions, Opacity, OverrideStat,
};
use rules::placement;
use sys::capabilities::{self, Capability};
use sys::identity;
use sys::mounting::MountFlags;
use union::{DialectKind, DirectChanges, OverlayMarks, Settings};

/// The most directories that stay open, however many files may be.
const MOST_OPEN_DIRS: u64 = 4096;
/// The most files that stay open although nobody uses them. Each keeps its inode in the kernel's memory, which the kernel takes
/// back by forgetting the union's.
const MOST_IDLE_FILES: u64 = 32_768;

/// Returns the settings of the union; `open_files` is how many files may be open.
pub(crate) fn settings(parsed: &MountOptions, open_files: u64) -> Settings {
    let asked = &parsed.settings;
    let dialect = match parsed.dialect {
        Dialect::Aufs => DialectKind::Aufs,
        Dialect::Overlay if asked.user_xattr || !is_host_admin() => {
            DialectKind::Overlay(OverlayMarks::User)
        }
        Dialect::Overlay => DialectKind::Overlay(OverlayMarks::Trusted),
    };
    let quarter = (open_files / 4).min(MOST_OPEN_DIRS);
    Settings {
        direct_changes: match asked.direct_access {
            DirectAccess::None => DirectChanges::None,
            _ if asked.revalidates_exactly() => DirectChanges::Noticed,
            DirectAccess::Revalidate => DirectChanges::Noticed,
            DirectAccess::Notify => DirectChanges::Watched,
        },
        create: asked.create,
        move_when_full: asked.move_when_full,
        copy_up: match asked.copy_up {
            CopyUpPolicy::TopDownParent => placement::CopyUpPolicy::TopDownParent,
            CopyUpPolicy::BottomUpParent => placement::CopyUpPolicy::BottomUpParent,
            CopyUpPolicy::BottomUp => placement::CopyUpPolicy::BottomUp,
        },
        rename_merged: asked.rename_directories && parsed.dialect == Dialect::Aufs,
        list_renamed_early: asked.compat != Compat::Aufs,
        always_opaque: asked.opacity == Opacity::Always,
        // Overlay has no place on disk for them: there, a copy stands for one name, as with overlayfs.
        pseudo_links: asked.pseudo_links && parsed.dialect == Dialect::Aufs,
        link_names_early: asked.compat != Compat::Aufs,
        root_lists_branch_number: asked.compat == Compat::Aufs,
        keep_directory_times: asked.compat != Compat::Aufs,
        acl: has_acl(parsed),
        // Where AUFS is followed to the letter, a writer can lose its branch at any time.
        writers_bypass: passthrough(parsed) && asked.compat != Compat::Aufs,
        all_directories_decide: !asked.topmost_permissions
            && asked.override_stat == OverrideStat::None,
        show_whiteouts: asked.show_whiteouts,
        durable: !asked.volatile,
        sum_space: asked.free_space == FreeSpace::Sum,
        open_dirs: usize::try_from(quarter).unwrap_or(512),
        memory_limit: parsed
            .generic
            .memory_limit
            .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        idle_files: usize::try_from((open_files / 4).min(MOST_IDLE_FILES)).unwrap_or(512),
        ..Settings::new(dialect)
    }
}

/// Returns how the kernel is answered; `needs_opens` says whether there is a branch that takes changes, or one whose files are unpacked
/// when they are opened.
pub(crate) fn serve_options(parsed: &MountOptions, needs_opens: bool) -> ServeOptions {
    let trusts = parsed.settings.direct_access == DirectAccess::None;
    ServeOptions {
        without_opens: trusts && parsed.generic.read_only && !needs_opens,
        cache: cache(parsed),
        passthrough: passthrough(parsed),
        acl: has_acl(parsed),
        threads: usize::from(parsed.generic.single_threaded),
        device_only: false,
        ids: id_map(parsed),
        generation: parsed.generic.keep_forgotten.then(generation),
    }
}

/// Returns a number that hardly another mount of these branches had: the microseconds since 1970, as far as they fit.
fn generation() -> NonZeroU32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let moment = now.map_or(0, |now| now.as_micros()) & u128::from(u32::MAX);
    u32::try_from(moment)
        .ok()
        .and_then(NonZeroU32::new)
        .unwrap_or(NonZeroU32::MIN)
}

/// Where owners are in an attribute, the inode's ACLs would name others.
fn has_acl(parsed: &MountOptions) -> bool {
    parsed.settings.acl && parsed.settings.override_stat == OverrideStat::None
}

/// Whether the kernel may be asked to pass data through.
fn passthrough(parsed: &MountOptions) -> bool {
    is_host_admin() && !parsed.generic.no_passthrough
}

fn is_host_admin() -> bool {
    capabilities::has(Capability::SysAdmin) && capabilities::in_initial_user_namespace()
}

/// Returns what the kernel may remember.
pub(crate) fn cache(parsed: &MountOptions) -> CachePolicy {
    let settings = &parsed.settings;
    let mut cache = match settings.direct_access {
        _ if settings.revalidates_exactly() => CachePolicy::exact(),
        DirectAccess::None | DirectAccess::Notify => CachePolicy::forever(),
        DirectAccess::Revalidate => CachePolicy::default(),
    };
    if !settings.topmost_permissions && settings.direct_access != DirectAccess::None {
        // Branches are asked for permission when a name is looked up.
        (cache.entry_timeout, cache.negative_timeout) = (Duration::ZERO, Duration::ZERO);
    }
    let asked = &parsed.generic.timeouts;
    let set = |timeout: &mut Duration, asked: Option<Duration>| {
        if let Some(asked) = asked {
            *timeout = asked.min(fuse::FOREVER);
        }
    };
    set(&mut cache.entry_timeout, asked.entry);
    set(&mut cache.attr_timeout, asked.attributes);
    set(&mut cache.negative_timeout, asked.negative);
    cache
}

fn id_map(parsed: &MountOptions) -> IdMap {
    let owners = &parsed.settings.owners;
    let root = owners.squash_to_root.then_some(0);
    let own = identity::own();
    // In an attribute everybody can be stored. In inodes the server's own id takes the place of one that it may not act for: it
    // is squashed anyway, and nothing could be made otherwise.
    let recorded = parsed.settings.override_stat != OverrideStat::None;
    let squash = |id: u32, own: u32, owner: Identity| {
        let may = recorded || id == own || identity::may_act_for(owner);
        let stored = if may { id } else { own };
        Squash { shown: id, stored }
    };
    let uid = owners.squash_to_uid.or(root);
    let gid = owners.squash_to_gid.or(root);
    let uid = uid.map(|uid| squash(uid, own.uid, Identity { uid, ..own }));
    let gid = gid.map(|gid| squash(gid, own.gid, Identity { gid, ..own }));
    IdMap {
        uid: mapping(&owners.users, uid),
        gid: mapping(&owners.groups, gid),
    }
}

fn mapping(ranges: &[IdRange], squash: Option<Squash>) -> Mapping {
    let ranges = ranges.iter().map(|range| Range {
        inside: range.to,
        outside: range.from,
        count: range.count,
    });
    Mapping {
        ranges: ranges.collect(),
        squash,
    }
}

/// Returns the flags of the mount call, all of them.
pub(crate) fn mount_flags(generic: &Generic) -> MountFlags {
    let mut flags = MountFlags::empty();
    let mut set = |on: bool, flag: MountFlags| flags.set(flag, on);
    set(generic.read_only, MountFlags::RDONLY);
    set(generic.no_suid, MountFlags::NOSUID);
    set(generic.no_devices, MountFlags::NODEV);
    set(generic.no_exec, MountFlags::NOEXEC);
    set(generic.no_symlink_follow, NOSYMFOLLOW);
    set(generic.no_directory_access_times, MountFlags::NODIRATIME);
    set(generic.synchronous, MountFlags::SYNCHRONOUS);
    set(generic.synchronous_directories, MountFlags::DIRSYNC);
    match generic.access_times {
        AccessTimes::Default => {}
        AccessTimes::Never => set(true, MountFlags::NOATIME),
        AccessTimes::Relative => set(true, MountFlags::RELATIME),
        AccessTimes::Strict => set(true, MountFlags::STRICTATIME),
    }
    flags
}

/// `MS_NOSYMFOLLOW`, which the library has no name for.
const NOSYMFOLLOW: MountFlags = MountFlags::from_bits_retain(256);

/// Returns the words by which the mount helper of FUSE knows the same flags.
pub(crate) fn helper_words(generic: &Generic) -> Vec<&'static str> {
    let mut words = Vec::new();
    let mut word = |on: bool, word: &'static str| {
        if on {
            words.push(word);
        }
    };
    word(generic.read_only, "ro");
    word(generic.no_suid, "nosuid");
    word(generic.no_devices, "nodev");
    word(generic.no_exec, "noexec");
    word(generic.no_directory_access_times, "nodiratime");
    word(generic.synchronous, "sync");
    word(generic.synchronous_directories, "dirsync");
    word(generic.access_times == AccessTimes::Never, "noatime");
    word(generic.allow_other, "allow_other");
    word(generic.allow_root, "allow_root");
    words
}
