//! Image files as branches: squashfs, erofs, ISO 9660.
//!
//! The kernel reads them for the superuser, if it can; else we do.

use std::fs::File;
use std::path::{Path, PathBuf};

use rules::Errno;
use sys::image::{self, ImageKind};
use sys::{BranchTree, HostTree};

use super::place::errno_of;
use crate::failure::Failure;

/// Opens an image as a tree: mounted out of everybody's sight, until nothing of it is open any more, or read here.
pub(crate) fn open(path: &Path) -> Result<BranchTree, Failure> {
    let said = |errno: Errno| Failure::mount(errno.to_string());
    let file = File::open(path).map_err(|error| said(errno_of(&error)))?;
    let Some(kind) = image::kind_of(&file) else {
        return Err(
            Failure::mount("neither a directory nor a squashfs, erofs or ISO image")
                .hint("name a directory, or an image with one of these filesystems"),
        );
    };
    match image::open(&file, kind) {
        Ok(root) => {
            tracing::info!(image = %path.display(), "mounted by the kernel");
            Ok(HostTree::at(root).into())
        }
        // Not allowed; no loop devices, or none left; a filesystem or system calls that the kernel does not know.
        Err(
            errno @ (Errno::PERM
            | Errno::ACCES
            | Errno::NODEV
            | Errno::NOENT
            | Errno::NXIO
            | Errno::BUSY
            | Errno::NOSPC
            | Errno::NOTTY
            | Errno::NOSYS
            | Errno::INVAL),
        ) => {
            tracing::info!(image = %path.display(), %errno, "read without the kernel");
            read_here(file, kind).map_err(|why| refused(kind, errno, &why))
        }
        Err(errno) => Err(said(errno)),
    }
}

/// Reads an image without the kernel, if it is one.
pub(crate) fn read(path: &Path) -> Option<BranchTree> {
    let file = File::open(path).ok()?;
    let kind = image::kind_of(&file)?;
    read_here(file, kind).ok()
}

fn read_here(file: File, kind: ImageKind) -> Result<BranchTree, String> {
    BranchTree::read_image(file, kind, &scratch()).map_err(|why| why.to_string())
}

/// Returns where files of images are unpacked: they may be larger than what `/tmp` in memory holds.
fn scratch() -> PathBuf {
    let named = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
    named.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

fn refused(kind: ImageKind, kernel: Errno, why: &str) -> Failure {
    let failure = Failure::mount(format!("{}: {why}", kind.fstype()));
    match kernel {
        Errno::PERM | Errno::ACCES => failure.hint("mount the union as root, or repack the image"),
        Errno::NODEV => failure.hint("load the kernel's module, or repack the image"),
        _ => failure.hint("repack the image"),
    }
}
