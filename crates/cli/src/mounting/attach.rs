//! Mounting and unmounting with the rights that there are.
//!
//! With `CAP_SYS_ADMIN`, be it that of a user namespace, by the system call; else through
//! the set-user-id helper `fusermount3`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rules::Errno;
use sys::capabilities::{self, Capability};
use sys::fusermount::{self, FusermountError, HelperUnmount};
use sys::mounting::{self, FuseMount, UnmountHow};
use sys::{FuseDevice, capabilities as rights};

use super::plan::{Plan, no_device};
use super::translate;
use crate::failure::{Exit, Failure, one_line};

/// The helper, found as the shell would find it.
const HELPER: &str = "fusermount3";

/// Mounts and returns the device on which the kernel asks.
pub(crate) fn attach(plan: &Plan) -> Result<FuseDevice, Failure> {
    if !capabilities::has(Capability::SysAdmin) {
        return by_helper(plan);
    }
    let device = FuseDevice::open().map_err(no_device)?;
    let generic = &plan.parsed.generic;
    let mount = FuseMount {
        source: &plan.source,
        target: &plan.place,
        subtype: &plan.subtype,
        flags: translate::mount_flags(generic),
        server: (rights::euid(), rights::egid()),
        default_permissions: true,
        allow_other: true,
        max_read: Some(max_read(plan)),
        security: &generic.security_contexts,
    };
    match mounting::mount_fuse(&device, &mount) {
        Ok(()) => Ok(device),
        // The capability is that of a user namespace that does not own the mount namespace.
        Err(Errno::PERM) => {
            drop(device);
            by_helper(plan)
        }
        Err(Errno::INVAL) if !generic.security_contexts.is_empty() => {
            let what = format!("cannot mount on {:?} with a security context", plan.place);
            Err(Failure::mount(what).hint("leave context= out, or enable SELinux in the kernel"))
        }
        Err(errno) => Err(refused(&plan.place, errno)),
    }
}

fn max_read(plan: &Plan) -> u32 {
    let asked = plan.parsed.generic.max_read.unwrap_or(fuse::MAX_DATA);
    asked.clamp(4096, fuse::MAX_DATA)
}

fn refused(place: &Path, errno: Errno) -> Failure {
    let failure = Failure::mount(format!("cannot mount on {place:?}: {errno}"));
    match errno {
        Errno::NODEV => failure
            .exit(Exit::MOUNT_SYSTEM)
            .hint("the kernel has no FUSE: modprobe fuse"),
        Errno::ACCES => failure.exit(Exit::MOUNT_USAGE),
        _ => failure,
    }
}

fn by_helper(plan: &Plan) -> Result<FuseDevice, Failure> {
    if !plan.parsed.generic.security_contexts.is_empty() {
        let what = format!("{HELPER} passes no security context on");
        return Err(Failure::mount(what).hint("leave it out, or mount as root"));
    }
    let options = helper_options(plan);
    fusermount::mount_with_fusermount3(Path::new(HELPER), &plan.place, &options)
        .map_err(|error| helper_failed(&format!("cannot mount on {:?}", plan.place), &error))
}

fn helper_options(plan: &Plan) -> String {
    let mut words: Vec<String> = translate::helper_words(&plan.parsed.generic)
        .into_iter()
        .map(str::to_owned)
        .collect();
    words.push("default_permissions".into());
    words.push(format!("max_read={}", max_read(plan)));
    words.push(format!("subtype={}", plan.subtype));
    // The helper takes backslashes as protection of commas.
    let source = String::from_utf8_lossy(plan.source.as_bytes());
    let source = source.replace('\\', "\\\\").replace(',', "\\,");
    words.push(format!("fsname={source}"));
    words.join(",")
}

fn helper_failed(what: &str, error: &FusermountError) -> Failure {
    let failure = Failure::mount(format!("{what}: {}", one_line(&error.to_string())));
    match error {
        FusermountError::NotStarted(Errno::NOENT) => Failure::mount(format!(
            "{what}: {HELPER} is missing, and only root mounts without it"
        ))
        .exit(Exit::MOUNT_SYSTEM)
        .hint("install the package fuse3"),
        FusermountError::NotStarted(_) | FusermountError::Broken(_) => {
            failure.exit(Exit::MOUNT_SYSTEM)
        }
        FusermountError::Refused { message } => {
            let words = [
                "not permitted",
                "ermission denied",
                "access",
                "only allowed",
            ];
            if words.iter().any(|word| message.contains(word)) {
                failure.exit(Exit::MOUNT_USAGE)
            } else {
                failure
            }
        }
    }
}

/// Why a mount is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DetachError {
    /// Somebody uses it.
    Busy,
    /// Another reason, to be told.
    Failed(Failure),
}

/// Unmounts what is topmost on a directory.
pub(crate) fn detach(place: &Path, how: UnmountHow) -> Result<(), DetachError> {
    match mounting::unmount(place, how) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(DetachError::Busy),
        Err(Errno::PERM) => detach_by_helper(place, how),
        Err(errno) => {
            let what = format!("cannot unmount {place:?}: {errno}");
            Err(DetachError::Failed(Failure::mount(what)))
        }
    }
}

fn detach_by_helper(place: &Path, how: UnmountHow) -> Result<(), DetachError> {
    let lazily = match how {
        UnmountHow::Plain => HelperUnmount::Plain,
        UnmountHow::Lazy | UnmountHow::Force => HelperUnmount::Lazy,
    };
    match fusermount::unmount_with_fusermount3(Path::new(HELPER), place, lazily) {
        Ok(()) => Ok(()),
        Err(FusermountError::Refused { message }) if message.contains("busy") => {
            Err(DetachError::Busy)
        }
        Err(error) => {
            let what = format!("cannot unmount {place:?}");
            Err(DetachError::Failed(helper_failed(&what, &error)))
        }
    }
}
