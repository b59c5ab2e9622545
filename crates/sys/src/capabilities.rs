//! What this process may do: capabilities, user namespace, own ids.

use std::sync::OnceLock;

use rules::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::errno::IntoErrno;

/// A power of the superuser that Plywood asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Changing owners (`CAP_CHOWN`).
    Chown,
    /// Ignoring permission bits (`CAP_DAC_OVERRIDE`).
    DacOverride,
    /// Reading whatever there is (`CAP_DAC_READ_SEARCH`).
    DacReadSearch,
    /// Acting as the owner of any file (`CAP_FOWNER`).
    Fowner,
    /// Keeping set-id bits when writing (`CAP_FSETID`).
    Fsetid,
    /// Making device nodes (`CAP_MKNOD`).
    Mknod,
    /// Changing the user id (`CAP_SETUID`).
    Setuid,
    /// Changing the group id (`CAP_SETGID`).
    Setgid,
    /// Changing secure bits (`CAP_SETPCAP`).
    Setpcap,
    /// Mounting, and much else (`CAP_SYS_ADMIN`).
    SysAdmin,
    /// Exceeding limits (`CAP_SYS_RESOURCE`).
    SysResource,
}

impl Capability {
    fn bit(self) -> CapabilitySet {
        match self {
            Self::Chown => CapabilitySet::CHOWN,
            Self::DacOverride => CapabilitySet::DAC_OVERRIDE,
            Self::DacReadSearch => CapabilitySet::DAC_READ_SEARCH,
            Self::Fowner => CapabilitySet::FOWNER,
            Self::Fsetid => CapabilitySet::FSETID,
            Self::Mknod => CapabilitySet::MKNOD,
            Self::Setuid => CapabilitySet::SETUID,
            Self::Setgid => CapabilitySet::SETGID,
            Self::Setpcap => CapabilitySet::SETPCAP,
            Self::SysAdmin => CapabilitySet::SYS_ADMIN,
            Self::SysResource => CapabilitySet::SYS_RESOURCE,
        }
    }
}

/// Returns whether this thread has a capability now; it may still be one of a user
/// namespace only, see [`in_initial_user_namespace`].
pub fn has(capability: Capability) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability.bit()))
}

/// Returns whether user ids mean here what they mean to the host.
pub fn in_initial_user_namespace() -> bool {
    // A process does not leave its namespace unless it asks to, and this one never asks.
    static INITIAL: OnceLock<bool> = OnceLock::new();
    *INITIAL.get_or_init(|| {
        let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else {
            // No user namespaces in this kernel.
            return true;
        };
        map.split_whitespace().eq(["0", "0", "4294967295"])
    })
}

/// Returns the effective user id.
pub fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the effective group id.
pub fn egid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Runs `call` while this thread cannot keep set-id bits by writing (`CAP_FSETID`).
pub(crate) fn without_fsetid<T>(call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let all = capabilities(None).errno()?;
    if !all.effective.contains(CapabilitySet::FSETID) {
        return call();
    }
    let mut fewer = all;
    fewer.effective.remove(CapabilitySet::FSETID);
    set_capabilities(None, fewer).errno()?;
    let done = call();
    set_capabilities(None, all).errno()?;
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_its_capabilities_and_misses_one_only_inside() {
        assert!(has(Capability::SysAdmin) && has(Capability::Fsetid));
        assert_eq!(without_fsetid(|| Ok(has(Capability::Fsetid))), Ok(false));
        assert!(has(Capability::Fsetid));
        assert_eq!((euid(), egid()), (0, 0));
        assert!(in_initial_user_namespace());
    }
}
