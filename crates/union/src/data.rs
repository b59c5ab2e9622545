//! Opening, reading and writing regular files.
//!
//! All who have a file open share one open file of its branch, so that everybody sees a copy-up at once. A lower
//! file is copied up by the first change, not by being opened for it (unless the settings say so).

use std::sync::Arc;

use rules::{Changes, Errno};
use tree::{Access, Object, Seek, SyncHow, Tree};

use crate::api::{InodeId, OpenFlags, Opened};
use crate::copy::Copied;
use crate::error::{Error, Refusal, Result};
use crate::inode::{Data, Inode, Other};
use crate::open_file::OpenFile;
use crate::union::Union;

impl<T: Tree> Clone for Data<T> {
    fn clone(&self) -> Self {
        Self {
            file: Arc::clone(&self.file),
            writable: self.writable,
        }
    }
}

impl<T: Tree> Union<T> {
    /// Opens a regular file. `EROFS` when it is opened for writing and no branch may receive it.
    pub fn open(&self, id: InodeId, flags: OpenFlags) -> Result<Opened<T>> {
        let inode = self.inodes.get(id)?;
        let other = inode.file()?;
        if flags.write {
            self.refuse_unwritable(&inode, other)?;
        }
        let parts = self.settings().copy_up_on_open || other.state.read().lent;
        if flags.truncate || flags.write && parts {
            // Readers keep the original: what is opened for writing is another inode, found by looking again.
            let apart = self.apart(Arc::clone(&inode))?;
            if !Arc::ptr_eq(&apart, &inode) {
                return Err(Refusal::Gone.into());
            }
        }
        let brought_up = self.brought_up(&inode, other)?;
        let (lent, migrating) = {
            let mut state = other.state.write();
            if inode.successor().is_some() {
                return Err(Refusal::Gone.into());
            }
            // As with overlayfs, a reader of a lower file keeps it when somebody else changes it.
            let lent = self.settings().copy_up_on_open
                && !(flags.write || flags.truncate || state.leaving)
                && !self.writable(state.branch);
            state.lent |= lent;
            state.opens += 1;
            state.written |= flags.write;
            (lent, state.migrating)
        };
        // Now that it is counted nobody moves it away from under its reader.
        drop(brought_up);
        if migrating {
            drop(other.moving.lock());
        }
        let opened = self.open_counted(&inode, other, flags, lent);
        if opened.is_err() {
            self.closed(&inode, other);
        }
        opened
    }

    fn open_counted(
        &self,
        inode: &Arc<Inode<T>>,
        other: &Other<T>,
        flags: OpenFlags,
        lent: bool,
    ) -> Result<Opened<T>> {
        if flags.truncate {
            let changes = Changes {
                size: Some(0),
                drop_set_id: flags.drop_set_id,
                ..Changes::default()
            };
            self.truncate(inode, &changes)?;
        } else if flags.write && self.settings().copy_up_on_open {
            self.copy_up(inode)?;
        }
        let (branch, pseudo_linked) = {
            let state = other.state.read();
            (state.branch, state.pseudo_linked)
        };
        let writable = self.writable(branch);
        let access = if writable {
            Access::ReadWrite
        } else {
            Access::ReadQuietly
        };
        let data = match self.open_data(inode, other, access) {
            // Somebody executes it, or its mode keeps a server without privileges from writing.
            Err(_) if !flags.write && writable => self.open_data(inode, other, Access::Read)?,
            data => data?,
        };
        // What may have to move to another branch stays in sight.
        let bypass = data.writable && !pseudo_linked && self.writers_bypass();
        let settled = (writable && bypass) || self.is_read_only();
        let settled = settled || lent;
        let waits_for_link = pseudo_linked && !flags.write && !self.settings().link_names_early;
        let reads_matter = waits_for_link && self.attr_of_quietly(inode)?.size == 0;
        let heard = self.watches() && self.hears_of(inode);
        let mut state = other.state.write();
        // What the kernel kept is right as long as every change went through it.
        let keep_cache = !state.pages_stale && (self.trusts_branches() || heard);
        state.pages_stale = settled && flags.write;
        state.bypassed |= settled;
        Ok(Opened {
            settled: settled.then(|| Arc::clone(&data.file)),
            lent,
            keep_cache,
            reads_matter,
        })
    }

    /// Ends what one successful `open`, `create` or `unnamed_file` began.
    pub fn release(&self, id: InodeId) {
        let Ok(inode) = self.inodes.get(id) else {
            return;
        };
        if let Ok(other) = inode.other() {
            self.closed(&inode, other);
        }
    }

    fn closed(&self, inode: &Inode<T>, other: &Other<T>) {
        let mut state = other.state.write();
        state.opens = state.opens.saturating_sub(1);
        state.lent &= state.opens > 0;
        state.bypassed &= state.opens > 0;
        let written = state.opens == 0 && std::mem::take(&mut state.written);
        // An object without a name is reached through its open file alone, until the last reference goes.
        if state.opens == 0 && state.place.is_some() {
            self.close_or_keep(inode, state);
        } else {
            drop(state);
        }
        if written && self.watches() {
            self.written(inode);
        }
    }

    /// Reads into the buffer; returns how many bytes, fewer only at the end.
    pub fn read(&self, id: InodeId, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let inode = self.inodes.get(id)?;
        let other = inode.file()?;
        if other.state.read().pseudo_linked {
            self.link_used_name(&inode)?;
        }
        let data = self.open_data(&inode, other, Access::Read)?;
        let branch = other.state.read().branch;
        let read = self.tree().read(&data.file, buffer, offset);
        self.watched(branch, read.map_err(Error::from))
    }

    /// As `read`, of a file that the front end did not open.
    pub fn read_once(&self, id: InodeId, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.open(id, OpenFlags::default())?;
        let read = self.read(id, buffer, offset);
        self.release(id);
        read
    }

    /// Writes; returns how many bytes. `drop_set_id`: the writer may not keep set-id bits.
    pub fn write(
        &self,
        id: InodeId,
        buffer: &[u8],
        offset: u64,
        drop_set_id: bool,
    ) -> Result<usize> {
        let inode = self.apart(self.inode(id)?)?;
        let mut written = 0;
        let done = self.changing(&inode, buffer.len() as u64, |data| {
            let tree = self.tree();
            if drop_set_id {
                let changes = Changes {
                    drop_set_id: true,
                    ..Changes::default()
                };
                tree.set_attr(Object::File(&**data.file), &changes)?;
            }
            while written < buffer.len() {
                match tree.write(&data.file, &buffer[written..], offset + written as u64)? {
                    0 => break,
                    count => written += count,
                }
            }
            Ok(())
        });
        match done {
            Err(error) if written == 0 => Err(error),
            // What fitted is written; the next call will say why no more does.
            _ => Ok(written),
        }
    }

    /// Allocates, punches or shifts space, as `fallocate` does with the same mode.
    pub fn allocate(&self, id: InodeId, mode: u32, offset: u64, length: u64) -> Result<()> {
        let inode = self.apart(self.inode(id)?)?;
        self.changing(&inode, length, |data| {
            Ok(self.tree().allocate(&data.file, mode, offset, length)?)
        })
    }

    /// Finds data or a hole. `ENXIO` past the end.
    pub fn seek(&self, id: InodeId, offset: u64, what: Seek) -> Result<u64> {
        let inode = self.inodes.get(id)?;
        let data = self.open_data(&inode, inode.file()?, Access::Read)?;
        Ok(self.tree().seek(&data.file, offset, what)?)
    }

    /// Copies a range from one file to another; returns how many bytes.
    pub fn copy_range(
        &self,
        from: InodeId,
        from_offset: u64,
        to: InodeId,
        to_offset: u64,
        length: u64,
    ) -> Result<u64> {
        let inode = self.apart(self.inode(to)?)?;
        let source = self.inodes.get(from)?;
        self.changing(&inode, length, |to| {
            let from = self.open_data(&source, source.file()?, Access::Read)?;
            let tree = self.tree();
            Ok(tree.copy_range(&from.file, from_offset, &to.file, to_offset, length)?)
        })
    }

    /// Makes a file durable. One that was opened for writing is copied up first, as AUFS does; any other is
    /// where it was all the time.
    pub fn sync_file(&self, id: InodeId, for_writing: bool, how: SyncHow) -> Result<()> {
        if !for_writing {
            return Ok(());
        }
        let data = self.changeable_data(id)?;
        let inode = self.inode(id)?;
        self.publish(&inode)?;
        let branch = inode.other()?.state.read().branch;
        let synced = self.tree().sync_file(&data.file, how);
        self.watched(branch, synced.map_err(Error::from))?;
        let place = {
            let mut state = inode.other()?.state.write();
            let due = std::mem::take(&mut state.name_not_durable);
            state.place.clone().filter(|_| due)
        };
        match place {
            Some((dir, _)) => Ok(dir.tree().sync_dir(&*dir.open()?)?),
            None => Ok(()),
        }
    }

    /// Makes the names in a directory durable, on every branch that may have changed.
    pub fn sync_dir(&self, id: InodeId) -> Result<()> {
        let inode = self.inode(id)?;
        self.publish_in(&inode)?;
        let members = inode.dir()?.state.read().members.clone();
        // The others are made durable even when one cannot be.
        let mut done = Ok(());
        for member in members.iter().filter(|member| member.powers().writable) {
            let synced = member.open().and_then(|dir| member.tree().sync_dir(&*dir));
            done = done.and(synced.map_err(Error::from));
        }
        done
    }

    fn truncate(&self, inode: &Arc<Inode<T>>, changes: &Changes) -> Result<()> {
        if self.copy_up_changed(
            inode,
            Copied {
                changes: *changes,
                ..Copied::default()
            },
        )? {
            return Ok(());
        }
        self.changing(inode, 0, |data| {
            Ok(self.tree().set_attr(Object::File(&**data.file), changes)?)
        })
    }

    fn refuse_unwritable(&self, inode: &Arc<Inode<T>>, other: &Other<T>) -> Result<()> {
        if self.writable(other.state.read().branch) {
            return Ok(());
        }
        match inode.name() {
            Some((parent, _)) => self.copy_up_branch(inode, &parent).map(drop),
            None if self.is_read_only() => Err(Refusal::ReadOnly.into()),
            None => Ok(()),
        }
    }

    fn changeable_data(&self, id: InodeId) -> Result<Data<T>> {
        let inode = self.apart(self.inode(id)?)?;
        let other = inode.file()?;
        self.copy_up(&inode)?;
        self.open_data(&inode, other, Access::ReadWrite)
    }

    /// Returns the open file of an object, opened now if nobody did or not for this.
    pub(crate) fn open_data(
        &self,
        inode: &Inode<T>,
        other: &Other<T>,
        access: Access,
    ) -> Result<Data<T>> {
        let (place, opens) = {
            let state = other.state.read();
            if let Some(data) = &state.data
                && (data.writable || access != Access::ReadWrite)
            {
                return Ok(data.clone());
            }
            (state.place.clone(), state.opens)
        };
        let Some((dir, name)) = place else {
            return Err(Refusal::Gone.into());
        };
        let file = match dir.tree().open_file(&*dir.open()?, &name, access) {
            Err(Errno::NOENT) if self.moved_from(inode, &dir, &name) => {
                return self.open_data(inode, other, access);
            }
            Err(Errno::MFILE | Errno::NFILE) if self.close_some_idle() => {
                return self.open_data(inode, other, access);
            }
            file => OpenFile::new(file?),
        };
        let data = Data {
            file,
            writable: access == Access::ReadWrite,
        };
        let mut state = other.state.write();
        let moved = state
            .place
            .as_ref()
            .is_none_or(|(d, n)| !Arc::ptr_eq(d, &dir) || *n != name);
        match &state.data {
            // Somebody was faster.
            Some(known) if known.writable || !data.writable => return Ok(known.clone()),
            _ if moved => tracing::trace!(inode = inode.id.0, "moved while it was opened"),
            _ if opens > 0 => state.data = Some(data.clone()),
            _ => {}
        }
        Ok(data)
    }
}
