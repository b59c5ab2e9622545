//! A request that has passed all checks.

use std::ffi::OsString;
use std::path::PathBuf;

use fuse::ServeOptions;
use rules::options::MountOptions;
use sys::mount_table::MountEntry;
use union::Settings;

use super::branches::{self, OpenBranch};
use super::request::{Request, Warnings};
use super::{chain_index, inode_table, place, translate, unsupported};
use crate::failure::{Exit, Failure};

/// Everything that is needed to mount.
pub(crate) struct Plan {
    /// The options as they were read.
    pub(crate) parsed: MountOptions,
    /// The mount point, with all symbolic links followed.
    pub(crate) place: PathBuf,
    /// What was mounted before.
    pub(crate) mounts: Vec<MountEntry>,
    /// What the mount table shows as the source.
    pub(crate) source: OsString,
    /// The type behind `fuse.`.
    pub(crate) subtype: String,
    /// The branches, topmost first.
    pub(crate) branches: Vec<OpenBranch>,
    /// How the union behaves.
    pub(crate) settings: Settings,
    /// How the kernel is answered.
    pub(crate) serve: ServeOptions,
    /// What to tell about a mount that will succeed.
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// Checks a request and opens what it needs.
    #[inline(never)]
    pub(crate) fn of(request: &Request) -> anyhow::Result<Self> {
        let mut parsed = request.parse()?;
        unsupported::refuse(&request.options, &parsed)?;
        let (place, mounts) = place::resolve(&request.dir)?;
        check_device()?;
        // Each branch takes some files, so this comes first. Failing is told by whoever runs out.
        let open_files = sys::limits::raise_open_files().unwrap_or(1024);
        let branches = branches::open(&parsed, &place, &mounts)?;
        inode_table::check(&parsed, &place, &branches)?;
        let needs_opens =
            |branch: &OpenBranch| branch.mode.powers().writable || branch.tree.unpacks_files();
        let needs_opens = branches.iter().any(needs_opens);
        chain_index::check(&mut parsed, &branches, &place)?;
        let warnings = told(request.warnings, &parsed, &branches);
        Ok(Self {
            settings: translate::settings(&parsed, open_files),
            serve: translate::serve_options(&parsed, needs_opens),
            source: request.source_name(&parsed),
            subtype: subtype(request, &parsed)?,
            place,
            mounts,
            branches,
            parsed,
            warnings,
        })
    }
}

fn told(which: Warnings, parsed: &MountOptions, branches: &[OpenBranch]) -> Vec<String> {
    if which == Warnings::None {
        return Vec::new();
    }
    let own = branches::warnings(parsed, branches);
    let all = parsed.warnings.iter().cloned().chain(own);
    let serious = |warning: &String| {
        warning.starts_with("ignored branch") || warning.starts_with("first branch")
    };
    match which {
        Warnings::None => Vec::new(),
        Warnings::Serious => all.filter(serious).collect(),
        Warnings::All => all.collect(),
    }
}

fn subtype(request: &Request, parsed: &MountOptions) -> Result<String, Failure> {
    let Some(subtype) = &parsed.generic.subtype else {
        return Ok(request.subtype.clone());
    };
    let plain = |text: &&str| {
        text.bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',')
    };
    let text = subtype.to_str().filter(plain);
    text.map(str::to_owned)
        .ok_or_else(|| Failure::mount(format!("subtype={subtype:?}: expected a plain word")))
}

/// Finds out early whether the device is there: all else would be in vain.
fn check_device() -> Result<(), Failure> {
    let opened = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    match opened {
        Ok(_) => Ok(()),
        Err(error) => Err(no_device(place::errno_of(&error))),
    }
}

/// Tells of a device that cannot be opened.
pub(crate) fn no_device(errno: rules::Errno) -> Failure {
    let failure = Failure::mount(format!("/dev/fuse: {errno}"));
    match errno {
        rules::Errno::ACCES | rules::Errno::PERM => failure
            .exit(Exit::MOUNT_USAGE)
            .hint("allow it (chmod 666 /dev/fuse), or run as root"),
        _ => failure
            .exit(Exit::MOUNT_SYSTEM)
            .hint("load the kernel module (modprobe fuse), or give the container the device"),
    }
}
