//! Files of an image, unpacked.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Weak};

use images::NodeId;
use parking_lot::Mutex;
use rules::Errno;
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::pwrite;

use super::image::Image;
use crate::HostFile;
use crate::errno::{IntoErrno, uninterrupted};

/// Files that stay when nobody has them open: so many, of so many bytes together.
const KEPT: usize = 64;
const KEPT_BYTES: u64 = 64 << 20;

/// Zeros of this length are left out.
const BLOCK: usize = 4096;

/// The contents of a file of an image, in a file without a name.
pub(super) struct Contents {
    pub(super) image: Arc<Image>,
    pub(super) node: NodeId,
    pub(super) file: Arc<HostFile>,
}

/// What is unpacked of an image.
#[derive(Default)]
pub(super) struct Unpacked(Mutex<Files>);

#[derive(Default)]
struct Files {
    open: HashMap<NodeId, Weak<HostFile>>,
    /// The ones used last, at the back, with their sizes.
    kept: VecDeque<(Arc<HostFile>, u64)>,
    kept_bytes: u64,
}

impl Files {
    /// Keeps a file for a while, and lets the oldest go.
    fn keep(&mut self, file: &Arc<HostFile>, size: u64) {
        if size > KEPT_BYTES / 4 {
            return;
        }
        match self
            .kept
            .iter()
            .position(|(kept, _)| Arc::ptr_eq(kept, file))
        {
            Some(at) => {
                let last = self.kept.remove(at);
                self.kept.extend(last);
            }
            None => {
                self.kept.push_back((Arc::clone(file), size));
                self.kept_bytes += size;
            }
        }
        while self.kept.len() > KEPT || self.kept_bytes > KEPT_BYTES {
            let Some((_, size)) = self.kept.pop_front() else {
                break;
            };
            self.kept_bytes -= size;
        }
        // Files that are gone leave their entries behind.
        if self.open.len() > 2 * KEPT && self.open.len().is_power_of_two() {
            self.open.retain(|_, file| file.strong_count() > 0);
        }
    }
}

/// Returns the contents of a regular file of this size, unpacked now if nobody has it.
pub(super) fn of(image: &Arc<Image>, node: NodeId, size: u64) -> Result<Arc<Contents>, Errno> {
    let known = image.unpacked.known(node, size);
    let file = match known {
        Some(file) => file,
        // Not locked meanwhile: two at once unpack it twice, and one copy goes.
        None => image.unpacked.add(node, unpack(image, node, size)?, size),
    };
    Ok(Arc::new(Contents {
        image: Arc::clone(image),
        node,
        file,
    }))
}

impl Unpacked {
    fn known(&self, node: NodeId, size: u64) -> Option<Arc<HostFile>> {
        let mut files = self.0.lock();
        let file = files.open.get(&node)?.upgrade()?;
        files.keep(&file, size);
        Some(file)
    }

    fn add(&self, node: NodeId, file: HostFile, size: u64) -> Arc<HostFile> {
        let mut files = self.0.lock();
        if let Some(first) = files.open.get(&node).and_then(Weak::upgrade) {
            return first;
        }
        let file = Arc::new(file);
        files.open.insert(node, Arc::downgrade(&file));
        files.keep(&file, size);
        file
    }
}

fn unpack(image: &Image, node: NodeId, size: u64) -> Result<HostFile, Errno> {
    let file = unnamed(&image.scratch)?;
    image.filesystem.contents(node, &mut |offset, bytes| {
        write(file.as_fd(), bytes, offset)
    })?;
    uninterrupted(|| rustix::fs::ftruncate(&file, size).errno())?;
    // Nobody, not even who finds the descriptor, is to write to it.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let read_only = rustix::fs::open(path, flags, Mode::empty()).errno();
    Ok(HostFile::from(read_only.unwrap_or(file)))
}

/// Makes a file without a name. In memory where the directory takes none, or is not there.
fn unnamed(scratch: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let made = rustix::fs::open(scratch, flags, Mode::RUSR | Mode::WUSR).errno();
    match made {
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::ACCES
            | Errno::PERM
            | Errno::ROFS
            | Errno::OPNOTSUPP
            | Errno::ISDIR
            | Errno::INVAL,
        ) => rustix::fs::memfd_create("plywood", MemfdFlags::CLOEXEC).errno(),
        made => made,
    }
}

fn write(file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> Result<(), Errno> {
    let blocks = bytes.chunks(BLOCK).enumerate();
    // Runs of blocks with something in them, each written at once.
    let mut run: Option<(usize, usize)> = None;
    for (index, block) in blocks {
        let from = index * BLOCK;
        if block.iter().any(|byte| *byte != 0) {
            let start = run.map_or(from, |(start, _)| start);
            run = Some((start, from + block.len()));
        } else if let Some((start, end)) = run.take() {
            write_all(file, &bytes[start..end], offset + start as u64)?;
        }
    }
    run.map_or(Ok(()), |(start, end)| {
        write_all(file, &bytes[start..end], offset + start as u64)
    })
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = uninterrupted(|| pwrite(file, bytes, offset).errno())?;
        if count == 0 {
            return Err(Errno::IO);
        }
        bytes = &bytes[count..];
        offset += count as u64;
    }
    Ok(())
}
