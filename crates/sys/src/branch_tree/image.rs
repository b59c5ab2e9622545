//! An image as a tree: names of directories kept, and the tree really one.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use images::{Entry, Erofs, Filesystem, Iso9660, NodeId, Source, Squashfs, Unreadable, Xattr};
use parking_lot::Mutex;
use rules::{Attr, Errno, Kind, Name, StatFs};
use tree::DirEntry;

use super::contents::Unpacked;
use crate::capabilities::{self, Capability};
use crate::image::ImageKind;

/// An image that is read here.
pub(super) struct Image {
    pub(super) filesystem: Box<dyn Filesystem>,
    pub(super) file: File,
    /// Where files are unpacked.
    pub(super) scratch: PathBuf,
    pub(super) unpacked: Unpacked,
    /// Stands for the filesystem in attributes.
    dev: u64,
    /// Where each directory was found first. It can be nowhere else, so that the tree ends.
    parents: Mutex<HashMap<NodeId, NodeId>>,
    /// Whether the superuser's attributes are shown, as the kernel decides it.
    trusted: bool,
}

/// The bytes of a file.
struct Bytes {
    file: File,
    size: u64,
}

impl Source for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Errno> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|_| Errno::IO)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

impl Image {
    pub(super) fn open(file: File, kind: ImageKind, scratch: &Path) -> Result<Self, Unreadable> {
        let said = |error: std::io::Error| {
            let errno = error.raw_os_error();
            Unreadable::from(errno.map_or(Errno::IO, Errno::from_raw))
        };
        let metadata = file.metadata().map_err(said)?;
        let source = Box::new(Bytes {
            file: file.try_clone().map_err(said)?,
            size: metadata.len(),
        });
        let filesystem: Box<dyn Filesystem> = match kind {
            ImageKind::Squashfs => Box::new(Squashfs::open(source)?),
            ImageKind::Erofs => Box::new(Erofs::open(source)?),
            ImageKind::Iso9660 => Box::new(Iso9660::open(source)?),
        };
        let root = filesystem.root();
        Ok(Self {
            filesystem,
            file,
            scratch: scratch.to_owned(),
            unpacked: Unpacked::default(),
            dev: device(metadata.dev(), metadata.ino()),
            parents: Mutex::new(HashMap::from([(root, root)])),
            trusted: capabilities::has(Capability::SysAdmin),
        })
    }

    pub(super) fn attr(&self, node: NodeId) -> Result<Attr, Errno> {
        let attr = self.filesystem.attr(node)?;
        Ok(Attr {
            dev: self.dev,
            ..attr
        })
    }

    pub(super) fn xattrs(&self, node: NodeId) -> Result<Vec<Xattr>, Errno> {
        let mut xattrs = self.filesystem.xattrs(node)?;
        xattrs.retain(|(name, _)| self.trusted || !name.starts_with(b"trusted."));
        Ok(xattrs)
    }

    pub(super) fn xattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let xattrs = self.xattrs(node)?;
        let found = xattrs.into_iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value).ok_or(Errno::NODATA)
    }

    pub(super) fn stat_fs(&self) -> StatFs {
        StatFs {
            dev: self.dev,
            ..self.filesystem.stat_fs()
        }
    }
}

/// Returns a number that stands for the filesystem in an image file: always the same one, and none that the kernel gives
/// a device, for these have 44 bits at most.
fn device(dev: u64, ino: u64) -> u64 {
    // The finish of SplitMix64: all bits of both depend on all.
    let mixed = ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ dev;
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31) | 1 << 63
}

/// A directory in an image.
pub(super) struct ImageDir {
    pub(super) image: Arc<Image>,
    pub(super) node: NodeId,
    /// Its entries by name, once asked for.
    entries: OnceLock<Vec<Entry>>,
}

impl ImageDir {
    pub(super) fn root(image: &Arc<Image>) -> Self {
        Self {
            image: Arc::clone(image),
            node: image.filesystem.root(),
            entries: OnceLock::new(),
        }
    }

    /// Opens a subdirectory. `EIO` when it is somewhere else as well, as in a damaged image.
    pub(super) fn open(&self, name: &Name) -> Result<Self, Errno> {
        let node = self.find(name)?;
        if self.image.filesystem.attr(node)?.kind != Kind::Dir {
            return Err(Errno::NOTDIR);
        }
        let parent = *self.image.parents.lock().entry(node).or_insert(self.node);
        if parent != self.node || node == self.node {
            return Err(Errno::IO);
        }
        Ok(Self {
            image: Arc::clone(&self.image),
            node,
            entries: OnceLock::new(),
        })
    }

    pub(super) fn find(&self, name: &Name) -> Result<NodeId, Errno> {
        let entries = self.entries()?;
        let found = entries.binary_search_by(|entry| entry.name.cmp(name));
        found.map(|at| entries[at].node).map_err(|_| Errno::NOENT)
    }

    pub(super) fn list(&self) -> Result<Vec<DirEntry>, Errno> {
        let entries = self.entries()?.iter().map(|entry| DirEntry {
            name: entry.name.clone(),
            kind: entry.kind,
            ino: entry.ino,
        });
        Ok(entries.collect())
    }

    fn entries(&self) -> Result<&[Entry], Errno> {
        if self.entries.get().is_none() {
            let read = self.image.filesystem.entries(self.node)?;
            // Another thread may have been first: it read the same.
            return Ok(self.entries.get_or_init(|| read));
        }
        Ok(self.entries.get().map_or(&[], |entries| entries))
    }
}
