//! Image files as branches: squashfs, erofs, ISO 9660.

use std::fs::File;
use std::path::Path;

use rules::Errno;
use sys::HostTree;
use sys::image;

use super::place::errno_of;
use crate::failure::Failure;

/// Mounts an image out of everybody's sight; it is unmounted when nothing of it is open any more.
pub(crate) fn open(path: &Path) -> Result<HostTree, Failure> {
    let said = |errno: Errno| Failure::mount(errno.to_string());
    let file = File::open(path).map_err(|error| said(errno_of(&error)))?;
    let Some(kind) = image::kind_of(&file) else {
        return Err(
            Failure::mount("neither a directory nor a squashfs, erofs or ISO image")
                .hint("name a directory, or an image with one of these filesystems"),
        );
    };
    match image::open(&file, kind) {
        Ok(root) => Ok(HostTree::at(root)),
        Err(Errno::PERM | Errno::ACCES) => Err(Failure::mount(format!(
            "only root can mount a {} image",
            kind.fstype()
        ))
        .hint("unpack it, or mount it with a program for users and name that directory")),
        Err(Errno::NODEV) => Err(Failure::mount(format!(
            "the kernel does not know {}",
            kind.fstype()
        ))
        .hint("load the module")),
        Err(errno) => Err(said(errno)),
    }
}
