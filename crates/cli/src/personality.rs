//! What the program is, by the name it was called with.
//!
//! mount(8) looks for helpers by name, and container engines for `fuse-overlayfs`; a
//! symbolic link of such a name makes Plywood answer as they expect.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Personality {
    /// The command with its verbs.
    Plywood,
    /// mount(8)'s helper for a type; the subtype is what the kernel shows behind `fuse.`.
    MountHelper {
        /// The type.
        subtype: &'static str,
    },
    /// umount(8)'s helper.
    UmountHelper,
    /// The mount program of container engines.
    FuseOverlayfs,
    /// AUFS's tool for hard links of lower branches.
    Auplink,
    /// AUFS's tool that tells who keeps a branch.
    Aubusy,
    /// aufs-util's check of a branch.
    Auchk,
    /// aufs-util's merging of a branch into the one below.
    Aubrsync,
    /// aufs-util's moving of files to a lower branch.
    Aumvdown,
    /// mount(8) itself, as far as unions are concerned.
    MountFront,
}

/// The names of mount(8)'s helpers and of AUFS's tools, and what they are.
pub(crate) const HELPERS: [(&str, Personality); 14] = [
    ("mount.aufs", AUFS),
    ("mount.fuse.aufs", AUFS),
    ("mount.fuse3.aufs", AUFS),
    ("mount.plywood", PLYWOOD),
    ("mount.fuse.plywood", PLYWOOD),
    ("mount.fuse3.plywood", PLYWOOD),
    ("umount.aufs", Personality::UmountHelper),
    ("umount.fuse.aufs", Personality::UmountHelper),
    ("umount.fuse3.aufs", Personality::UmountHelper),
    ("umount.plywood", Personality::UmountHelper),
    ("umount.fuse.plywood", Personality::UmountHelper),
    ("umount.fuse3.plywood", Personality::UmountHelper),
    ("auplink", Personality::Auplink),
    ("aubusy", Personality::Aubusy),
];

const AUFS: Personality = Personality::MountHelper { subtype: "aufs" };
const PLYWOOD: Personality = Personality::MountHelper { subtype: "plywood" };

/// The names of aufs-util's programs, and what they are.
pub(crate) const TOOLS: [(&str, Personality); 3] = [
    ("auchk", Personality::Auchk),
    ("aubrsync", Personality::Aubrsync),
    ("aumvdown", Personality::Aumvdown),
];

/// The name that container engines look for.
pub(crate) const FUSE_OVERLAYFS: &str = "fuse-overlayfs";
/// The name of the real command, before which we may stand.
pub(crate) const MOUNT: &str = "mount";

impl Personality {
    /// Reads it from the first word of the command line; unknown names mean `plywood`.
    ///
    /// With `@` before it, systemd lets a process of the initramfs live when it ends all others
    /// (<https://systemd.io/ROOT_STORAGE_DAEMONS/>).
    pub(crate) fn of(program: &OsStr) -> Self {
        let name = Path::new(program).file_name().unwrap_or_default();
        let bare = name.as_bytes().strip_prefix(b"@");
        let name = bare.map_or(name, OsStr::from_bytes);
        if name == FUSE_OVERLAYFS {
            return Self::FuseOverlayfs;
        }
        if name == MOUNT {
            return Self::MountFront;
        }
        let mut names = HELPERS.iter().chain(&TOOLS);
        let helper = names.find(|(known, _)| name == *known);
        helper.map_or(Self::Plywood, |(_, personality)| *personality)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_and_its_directory_does_not() {
        for (program, expected) in [
            ("plywood", Personality::Plywood),
            ("./plywood-dev", Personality::Plywood),
            ("", Personality::Plywood),
            ("/sbin/mount.aufs", AUFS),
            ("mount.fuse.plywood", PLYWOOD),
            ("/sbin/umount.fuse.aufs", Personality::UmountHelper),
            ("@mount.aufs", AUFS),
            ("@plywood", Personality::Plywood),
            ("/usr/bin/fuse-overlayfs", Personality::FuseOverlayfs),
            ("/bin/auchk", Personality::Auchk),
            ("mount", Personality::MountFront),
        ] {
            assert_eq!(Personality::of(program.as_ref()), expected, "{program}");
        }
    }
}
