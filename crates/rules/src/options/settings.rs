//! How a union behaves: every option that is not about one branch or one mount call.
//!
//! The defaults depend on whose behaviour was asked for; a word in the options is
//! always stronger than a default, wherever it stands.

use std::path::PathBuf;

use super::ids::Owners;
use super::policy::{CopyUpPolicy, CreatePolicy};

/// Whose defaults hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compat {
    /// What people want today.
    #[default]
    Plywood,
    /// What the AUFS of the kernel does when nothing is said.
    Aufs,
    /// What overlayfs and fuse-overlayfs do.
    Overlay,
}

/// How whiteouts and opacity are written, and how the branches were named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `br=`; `.wh.NAME`.
    Aufs,
    /// `lowerdir=`; 0:0 devices and `overlay.*` attributes.
    Overlay,
}

/// `udba`: what is done about changes made in the branches behind the union.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DirectAccess {
    /// Nobody makes any: everything may be cached for ever.
    None,
    /// Entries are looked at again when they are used.
    Revalidate,
    /// The same, and the branches are watched.
    Notify,
}

/// `diropq`: which new directories get an opaque mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opacity {
    /// All.
    Always,
    /// Those that replace a whiteout.
    Whiteouted,
}

/// `xino`: where inode numbers are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InodeTable {
    /// Wherever the union finds best.
    Default,
    /// In a file of this name.
    Path(PathBuf),
    /// Nowhere: `noxino`.
    None,
}

/// `sum`: what statfs counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FreeSpace {
    /// The topmost branch.
    Topmost,
    /// Every filesystem that a branch is on.
    Sum,
}

/// `xattr_permissions`: where owner and mode are kept that the branch cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OverrideStat {
    /// In the inode, as usual.
    None,
    /// `1`: in an attribute that only root may write.
    Privileged,
    /// `2`: in `user.containers.override_stat`.
    User,
}

/// The behaviour of a union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whose defaults hold where nothing was said.
    pub compat: Compat,
    /// `udba=`
    pub direct_access: DirectAccess,
    /// `plink`: hard links stay together after a copy-up.
    pub pseudo_links: bool,
    /// `xino=`
    pub inode_table: InodeTable,
    /// `trunc_xino`: the inode table is compacted now and then.
    pub compact_inode_table: bool,
    /// `trunc_xib`: so is its bitmap.
    pub compact_inode_bitmap: bool,
    /// `diropq=`
    pub opacity: Opacity,
    /// `dirren`: a directory that exists on several branches can be renamed.
    pub rename_directories: bool,
    /// `dirperm1`: of a directory, only the topmost branch's permission bits count.
    pub topmost_permissions: bool,
    /// `acl`: POSIX ACLs.
    pub acl: bool,
    /// `dio`: O_DIRECT.
    pub direct_io: bool,
    /// `shwh`: whiteouts are listed.
    pub show_whiteouts: bool,
    /// `sum`
    pub free_space: FreeSpace,
    /// `warn_perm`: a branch whose root differs in mode or owner is worth a warning.
    pub warn_permissions: bool,
    /// `verbose`: why a branch is busy is logged.
    pub verbose: bool,
    /// `create=`
    pub create: CreatePolicy,
    /// `moveonenospc`: what does not fit its branch any more moves to another.
    pub move_when_full: bool,
    /// `cpup=`
    pub copy_up: CopyUpPolicy,
    /// `dirwh=`: how many whiteouts rmdir removes before it returns.
    pub whiteouts_removed_at_once: u32,
    /// `rdcache=`: for how many seconds a merged listing holds.
    pub listing_seconds: u32,
    /// `rdblk=`: a listing's allocation unit in bytes, 0 to estimate.
    pub listing_block: u32,
    /// `rdhash=`: a listing's hash buckets, 0 to estimate.
    pub listing_hash: u32,
    /// `fhsm_sec=`: for how many seconds a measurement of free space holds.
    pub fhsm_seconds: u32,
    /// `uidmapping=`, `squash_to_uid=` and so on.
    pub owners: Owners,
    /// `xattr_permissions=`
    pub override_stat: OverrideStat,
    /// `userxattr`: overlay's attributes are `user.overlay.*`.
    pub user_xattr: bool,
    /// `volatile`, `fsync=0`: nothing is synced.
    pub volatile: bool,
    /// `chain_index=`: the file with an index of the lowest branches.
    pub chain_index: Option<PathBuf>,
    /// `static_nlink`: directories show a link count of 1.
    pub static_link_count: bool,
}

impl Settings {
    /// Returns the settings of a mount without any option.
    pub fn new(compat: Compat, dialect: Dialect) -> Self {
        let modern = compat != Compat::Aufs;
        Self {
            compat,
            direct_access: match dialect {
                Dialect::Aufs => DirectAccess::Revalidate,
                Dialect::Overlay => DirectAccess::None,
            },
            pseudo_links: true,
            inode_table: InodeTable::Default,
            compact_inode_table: false,
            compact_inode_bitmap: false,
            opacity: Opacity::Whiteouted,
            rename_directories: modern,
            topmost_permissions: modern,
            acl: modern,
            direct_io: true,
            show_whiteouts: false,
            free_space: FreeSpace::Topmost,
            warn_permissions: true,
            verbose: false,
            create: CreatePolicy::default(),
            move_when_full: false,
            copy_up: CopyUpPolicy::default(),
            whiteouts_removed_at_once: 3,
            listing_seconds: 10,
            listing_block: 512,
            listing_hash: 32,
            fhsm_seconds: 30,
            owners: Owners::default(),
            override_stat: OverrideStat::None,
            user_xattr: false,
            volatile: false,
            chain_index: None,
            static_link_count: false,
        }
    }

    /// Tells whether each access must look at the branches anew, without any timeout.
    ///
    /// AUFS has no timeouts, so this is what `compat=aufs` with `udba=reval` promises; with `udba=notify` as well, for
    /// its notifications come before the changed branch can be looked at, and those that a server gets come after.
    pub fn revalidates_exactly(&self) -> bool {
        self.compat == Compat::Aufs && self.direct_access != DirectAccess::None
    }
}
