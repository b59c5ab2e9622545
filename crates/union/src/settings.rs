//! What the person who mounts chooses.

use rules::options::CreatePolicy;
use rules::placement::CopyUpPolicy;

/// How whiteouts and opaque directories are written and what names are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialectKind {
    /// AUFS: `.wh.NAME`, `.wh..wh..opq`.
    Aufs,
    /// Overlay: 0:0 devices and extended attributes; AUFS's marks are understood as well.
    Overlay(OverlayMarks),
}

/// The namespace of overlay's extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayMarks {
    /// `trusted.overlay.*`, which needs `CAP_SYS_ADMIN`.
    Trusted,
    /// `user.overlay.*`.
    User,
}

/// How far the union trusts that nobody else changes the branches (`udba`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectChanges {
    /// Nobody does: what was read once stays right.
    None,
    /// Somebody may: directories are looked at again on each use.
    Noticed,
    /// Somebody may, and a `Watcher` hears of it: what was read stays right until then. A directory that
    /// cannot be watched is looked at again on each use.
    Watched,
}

/// What the person who mounts chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The format on disk.
    pub dialect: DialectKind,
    /// Whether the branches may change behind the union's back.
    pub direct_changes: DirectChanges,
    /// How the branch for a new entry is chosen.
    pub create: CreatePolicy,
    /// A file whose branch is full moves to one with more space, and what cannot be made on a full branch is made on another
    /// (`moveonenospc`). Data of files on writable branches do not bypass the union then: it would not hear of it.
    pub move_when_full: bool,
    /// How the branch for a copy-up is chosen.
    pub copy_up: CopyUpPolicy,
    /// Directories that merge others from below are renamed as well, and have records of that on their branch
    /// (`dirren`; not in overlay's format). Otherwise that is `EXDEV`, and records keep directories apart that they would join.
    pub rename_merged: bool,
    /// The list of renamed directories on a branch is kept up to date; otherwise it is written at the end, as in AUFS.
    pub list_renamed_early: bool,
    /// Every new directory is opaque (`diropq=always`).
    pub always_opaque: bool,
    /// Hard links of a lower branch stay one file when one of them is copied up (`plink`).
    pub pseudo_links: bool,
    /// A copy's names get their links on its branch early: those that are known at once, the others when
    /// the union is closed. Otherwise a name gets its link when it is used, as in AUFS.
    pub link_names_early: bool,
    /// A directory keeps its times when something in it is only copied up.
    pub keep_directory_times: bool,
    /// In the root's listing, `.` has the number of its directory on the topmost branch, as in AUFS; otherwise the one that it has
    /// everywhere else.
    pub root_lists_branch_number: bool,
    /// ACLs can be read and set; the branches keep and enforce them either way.
    pub acl: bool,
    /// Opening a lower file for writing copies it up at once, as overlayfs does; otherwise the first write does. Readers of a
    /// lower file keep the original then when somebody else changes it, so that their data may bypass the union.
    pub copy_up_on_open: bool,
    /// What is written to a file of a writable branch may bypass the union: fast, but nothing can be done about a writer then,
    /// so that its branch cannot become read-only.
    pub writers_bypass: bool,
    /// Every directory that is merged must let somebody in, not only the topmost (`nodirperm1`).
    pub all_directories_decide: bool,
    /// Whiteouts and the format's other names are listed and found (`shwh`).
    pub show_whiteouts: bool,
    /// Copies are made durable before they are published.
    pub durable: bool,
    /// `statfs` adds the filesystems of all branches (`sum`).
    pub sum_space: bool,
    /// How many directories stay open.
    pub open_dirs: usize,
    /// How many bytes of memory names and objects may take before some of what is not in use is given up.
    pub memory_limit: Option<usize>,
    /// How many files of lower branches stay open although nobody uses them, where nobody else changes the branches.
    pub idle_files: usize,
}

impl Settings {
    /// Returns the defaults for a format.
    pub fn new(dialect: DialectKind) -> Self {
        let overlay = matches!(dialect, DialectKind::Overlay(_));
        Self {
            dialect,
            direct_changes: if overlay {
                DirectChanges::None
            } else {
                DirectChanges::Noticed
            },
            create: CreatePolicy::default(),
            move_when_full: false,
            copy_up: CopyUpPolicy::default(),
            rename_merged: !overlay,
            list_renamed_early: true,
            always_opaque: false,
            pseudo_links: !overlay,
            link_names_early: true,
            keep_directory_times: true,
            root_lists_branch_number: false,
            acl: true,
            copy_up_on_open: overlay,
            writers_bypass: true,
            all_directories_decide: false,
            show_whiteouts: false,
            durable: true,
            sum_space: false,
            open_dirs: 512,
            memory_limit: None,
            idle_files: 512,
        }
    }
}
