//! What this process may do: capabilities, user namespace, own ids.

use std::sync::OnceLock;

use rustix::thread::{CapabilitySet, capabilities};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_its_capabilities() {
        assert!(has(Capability::SysAdmin) && has(Capability::Fsetid));
        assert_eq!((euid(), egid()), (0, 0));
        assert!(in_initial_user_namespace());
    }
}
