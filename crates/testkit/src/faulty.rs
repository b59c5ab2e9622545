//! Counted writes, and faults at any of them.
//!
//! A law is tried with a fault at each write in turn: run once without faults, read the
//! count, then run again for each number up to it. All branches of a stack share one
//! [`Faults`], so that the count runs through the whole operation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rules::{Attr, Changes, Creation, Errno, Name, StatFs};
use tree::{Access, DirEntry, Node, Object, RenameHow, Seek, SyncHow, Tree, XattrHow};

/// What goes wrong, and how many writes there were. Clones share both.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    plan: Plan,
    torn: bool,
    count: u64,
    struck: Option<&'static str>,
    /// What the next opening of a file says.
    refusal: Option<Errno>,
    pause: Option<Pause>,
}

/// The other side of a [`Held`].
#[derive(Debug)]
struct Pause {
    begun: Sender<()>,
    go_on: Receiver<()>,
}

/// A copy that waits in the middle of a large file, until this is dropped.
#[derive(Debug)]
pub struct Held {
    begun: Receiver<()>,
    _go_on: Sender<()>,
}

impl Held {
    /// Waits until the copy has begun; returns whether it has by then.
    pub fn has_begun(&self, patience: Duration) -> bool {
        self.begun.recv_timeout(patience).is_ok()
    }
}

#[derive(Debug, Clone, Copy)]
enum Plan {
    None,
    FailOnceAt(u64, Errno),
    StopAt(u64),
}

/// What becomes of one write.
enum Fate {
    Done,
    Failed(Errno),
    /// Half of the data arrives before the error.
    Torn(Errno),
}

impl Faults {
    /// Lets all writes succeed.
    pub fn none() -> Self {
        Self::planned(Plan::None)
    }

    /// Lets the n-th write, counted from 1, fail without effect; those after it succeed.
    pub fn fail_once_at(n: u64, errno: Errno) -> Self {
        Self::planned(Plan::FailOnceAt(n, errno))
    }

    /// Lets the n-th write, counted from 1, and all after it fail with `EIO`: the machine
    /// stopped. Reads still work, so that a test can see what is left.
    pub fn stop_at(n: u64) -> Self {
        Self::planned(Plan::StopAt(n))
    }

    /// Lets a fault that hits a copy or a write of data strike in the middle: the first half
    /// of the data arrives, then comes the error.
    pub fn torn(self) -> Self {
        self.state().torn = true;
        self
    }

    /// Returns how many writes were tried since the beginning or the last reset, over all
    /// branches, failed ones included.
    pub fn count(&self) -> u64 {
        self.state().count
    }

    /// Returns the method that a fault hit first, to say where a law broke.
    pub fn struck(&self) -> Option<&'static str> {
        self.state().struck
    }

    /// Starts anew at count 0 with no faults planned: the machine was switched on again.
    pub fn reset(&self) {
        *self.state() = State {
            plan: Plan::None,
            torn: false,
            count: 0,
            struck: None,
            refusal: None,
            pause: None,
        };
    }

    /// Starts anew at count 0 with the plan of another; what that one counted stays there.
    pub fn replan(&self, other: &Self) {
        let (plan, torn) = {
            let other = other.state();
            (other.plan, other.torn)
        };
        *self.state() = State {
            plan,
            torn,
            count: 0,
            struck: None,
            refusal: None,
            pause: None,
        };
    }

    /// Lets the next opening of a file fail; that is no write and not counted.
    pub fn refuse_one_open(&self, errno: Errno) {
        self.state().refusal = Some(errno);
    }

    /// Lets the next copy of a file's data wait.
    pub fn hold_next_copy(&self) -> Held {
        let (begun, told) = channel();
        let (going_on, go_on) = channel();
        self.state().pause = Some(Pause { begun, go_on });
        Held {
            begun: told,
            _go_on: going_on,
        }
    }

    /// Waits where the copying of data was to wait.
    fn wait_if_held(&self) {
        let pause = self.state().pause.take();
        if let Some(pause) = pause
            && pause.begun.send(()).is_ok()
        {
            // Nothing is ever sent: it ends when the other side does.
            pause.go_on.iter().for_each(drop);
        }
    }

    fn planned(plan: Plan) -> Self {
        Self(Arc::new(Mutex::new(State {
            plan,
            torn: false,
            count: 0,
            struck: None,
            refusal: None,
            pause: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("counting does not panic")
    }

    /// Counts a write and decides about it.
    fn next(&self, method: &'static str) -> Fate {
        let mut state = self.state();
        state.count += 1;
        let (errno, first) = match state.plan {
            Plan::FailOnceAt(n, errno) if state.count == n => (errno, true),
            Plan::StopAt(n) if state.count >= n => (Errno::IO, state.count == n),
            _ => return Fate::Done,
        };
        state.struck.get_or_insert(method);
        // Nothing more arrives after the machine stopped.
        if first && state.torn {
            Fate::Torn(errno)
        } else {
            Fate::Failed(errno)
        }
    }
}

/// A tree whose writes are counted and may fail.
#[derive(Debug)]
pub struct Faulty<T> {
    inner: T,
    faults: Faults,
    writes: AtomicU64,
    gone: Gone,
}

/// Whether a disk is gone: every call by name is `EIO` then. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Gone {
    gone: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

impl Gone {
    /// Takes the disk away, or brings it back as it was.
    pub fn set(&self, gone: bool) {
        self.gone.store(gone, Ordering::Relaxed);
    }

    /// Returns how many calls by name there were, each at least a system call on a disk.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<(), Errno> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.gone.load(Ordering::Relaxed) {
            Err(Errno::IO)
        } else {
            Ok(())
        }
    }
}

impl<T: Tree> Faulty<T> {
    /// Wraps a tree; the faults are shared with the other branches of the stack.
    pub fn new(inner: T, faults: &Faults) -> Self {
        Self::on(inner, faults, &Gone::default())
    }

    /// Wraps a tree on a disk that may be gone.
    pub fn on(inner: T, faults: &Faults, gone: &Gone) -> Self {
        Self {
            inner,
            faults: faults.clone(),
            writes: AtomicU64::new(0),
            gone: gone.clone(),
        }
    }

    /// Returns the wrapped tree, whose writes are not counted and never fail.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// Returns how many writes were ever tried through this tree, failed ones included.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn count(&self, method: &'static str) -> Fate {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.faults.next(method)
    }

    /// Counts a write that happens either wholly or not at all.
    fn write_or_fail(&self, method: &'static str) -> Result<(), Errno> {
        self.gone.check()?;
        match self.count(method) {
            Fate::Done => Ok(()),
            Fate::Failed(errno) | Fate::Torn(errno) => Err(errno),
        }
    }
}

fn unwrapped<'a, T: Tree>(object: Object<'a, Faulty<T>>) -> Object<'a, T> {
    match object {
        Object::Dir(dir) => Object::Dir(dir),
        Object::Entry(dir, name) => Object::Entry(dir, name),
        Object::File(file) => Object::File(file),
    }
}

/// Reads pass through; writes are counted first.
impl<T: Tree> Tree for Faulty<T> {
    type Dir = T::Dir;
    type File = T::File;

    fn root(&self) -> Result<T::Dir, Errno> {
        self.inner.root()
    }

    fn path_of(&self, dir: &T::Dir) -> Option<Vec<u8>> {
        self.inner.path_of(dir)
    }

    fn open_dir(&self, dir: &T::Dir, name: &Name) -> Result<T::Dir, Errno> {
        self.gone.check()?;
        self.inner.open_dir(dir, name)
    }

    fn list(&self, dir: &T::Dir) -> Result<Vec<DirEntry>, Errno> {
        self.gone.check()?;
        self.inner.list(dir)
    }

    fn look(&self, dir: &T::Dir, name: &Name) -> Result<Option<Attr>, Errno> {
        self.gone.check()?;
        self.inner.look(dir, name)
    }

    fn attr(&self, object: Object<'_, Self>) -> Result<Attr, Errno> {
        self.gone.check()?;
        self.inner.attr(unwrapped(object))
    }

    fn set_attr(&self, object: Object<'_, Self>, changes: &Changes) -> Result<(), Errno> {
        self.write_or_fail("set_attr")?;
        self.inner.set_attr(unwrapped(object), changes)
    }

    fn read_link(&self, dir: &T::Dir, name: &Name) -> Result<Vec<u8>, Errno> {
        self.gone.check()?;
        self.inner.read_link(dir, name)
    }

    fn create_file(&self, dir: &T::Dir, name: &Name, how: &Creation) -> Result<T::File, Errno> {
        self.write_or_fail("create_file")?;
        self.inner.create_file(dir, name, how)
    }

    fn unnamed_file(&self, dir: &T::Dir, how: &Creation) -> Result<T::File, Errno> {
        self.write_or_fail("unnamed_file")?;
        self.inner.unnamed_file(dir, how)
    }

    fn make_dir(&self, dir: &T::Dir, name: &Name, how: &Creation) -> Result<(), Errno> {
        self.write_or_fail("make_dir")?;
        self.inner.make_dir(dir, name, how)
    }

    fn make_node(
        &self,
        dir: &T::Dir,
        name: &Name,
        node: Node,
        how: &Creation,
    ) -> Result<(), Errno> {
        self.write_or_fail("make_node")?;
        self.inner.make_node(dir, name, node, how)
    }

    fn make_symlink(
        &self,
        dir: &T::Dir,
        name: &Name,
        target: &[u8],
        how: &Creation,
    ) -> Result<(), Errno> {
        self.write_or_fail("make_symlink")?;
        self.inner.make_symlink(dir, name, target, how)
    }

    fn link(&self, dir: &T::Dir, name: &Name, to: &T::Dir, new: &Name) -> Result<(), Errno> {
        self.write_or_fail("link")?;
        self.inner.link(dir, name, to, new)
    }

    fn link_file(&self, file: &T::File, to: &T::Dir, new: &Name) -> Result<(), Errno> {
        self.write_or_fail("link_file")?;
        self.inner.link_file(file, to, new)
    }

    fn remove_file(&self, dir: &T::Dir, name: &Name) -> Result<(), Errno> {
        self.write_or_fail("remove_file")?;
        self.inner.remove_file(dir, name)
    }

    fn remove_dir(&self, dir: &T::Dir, name: &Name) -> Result<(), Errno> {
        self.write_or_fail("remove_dir")?;
        self.inner.remove_dir(dir, name)
    }

    fn rename(
        &self,
        dir: &T::Dir,
        name: &Name,
        to: &T::Dir,
        new: &Name,
        how: RenameHow,
    ) -> Result<(), Errno> {
        self.write_or_fail("rename")?;
        self.inner.rename(dir, name, to, new, how)
    }

    fn xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.gone.check()?;
        self.inner.xattr(unwrapped(object), name)
    }

    fn xattr_names(&self, object: Object<'_, Self>) -> Result<Vec<Vec<u8>>, Errno> {
        self.gone.check()?;
        self.inner.xattr_names(unwrapped(object))
    }

    fn set_xattr(
        &self,
        object: Object<'_, Self>,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Result<(), Errno> {
        self.write_or_fail("set_xattr")?;
        self.inner.set_xattr(unwrapped(object), name, value, how)
    }

    fn remove_xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<(), Errno> {
        self.write_or_fail("remove_xattr")?;
        self.inner.remove_xattr(unwrapped(object), name)
    }

    fn open_file(&self, dir: &T::Dir, name: &Name, access: Access) -> Result<T::File, Errno> {
        self.gone.check()?;
        if let Some(errno) = self.faults.state().refusal.take() {
            return Err(errno);
        }
        self.inner.open_file(dir, name, access)
    }

    fn may_stay_open(&self, file: &T::File) -> bool {
        self.inner.may_stay_open(file)
    }

    fn read(&self, file: &T::File, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.inner.read(file, buffer, offset)
    }

    fn write(&self, file: &T::File, buffer: &[u8], offset: u64) -> Result<usize, Errno> {
        match self.count("write") {
            Fate::Done => self.inner.write(file, buffer, offset),
            Fate::Failed(errno) => Err(errno),
            Fate::Torn(errno) => {
                self.inner
                    .write(file, &buffer[..buffer.len() / 2], offset)?;
                Err(errno)
            }
        }
    }

    fn allocate(&self, file: &T::File, mode: u32, offset: u64, length: u64) -> Result<(), Errno> {
        self.write_or_fail("allocate")?;
        self.inner.allocate(file, mode, offset, length)
    }

    fn seek(&self, file: &T::File, offset: u64, what: Seek) -> Result<u64, Errno> {
        self.inner.seek(file, offset, what)
    }

    fn copy_range(
        &self,
        from: &T::File,
        from_offset: u64,
        to: &T::File,
        to_offset: u64,
        length: u64,
    ) -> Result<u64, Errno> {
        let copy = |length| {
            self.inner
                .copy_range(from, from_offset, to, to_offset, length)
        };
        match self.count("copy_range") {
            Fate::Done => copy(length),
            Fate::Failed(errno) => Err(errno),
            Fate::Torn(errno) => {
                let size = self.inner.attr(Object::File(from))?.size;
                copy(length.min(size.saturating_sub(from_offset)) / 2)?;
                Err(errno)
            }
        }
    }

    fn copy_data(&self, from: &T::File, to: &T::File, length: u64) -> Result<(), Errno> {
        self.faults.wait_if_held();
        match self.count("copy_data") {
            Fate::Done => self.inner.copy_data(from, to, length),
            Fate::Failed(errno) => Err(errno),
            Fate::Torn(errno) => {
                self.inner.copy_data(from, to, length / 2)?;
                Err(errno)
            }
        }
    }

    fn sync_file(&self, file: &T::File, how: SyncHow) -> Result<(), Errno> {
        self.write_or_fail("sync_file")?;
        self.inner.sync_file(file, how)
    }

    fn sync_dir(&self, dir: &T::Dir) -> Result<(), Errno> {
        self.write_or_fail("sync_dir")?;
        self.inner.sync_dir(dir)
    }

    fn sync_all(&self, dir: &T::Dir) -> Result<(), Errno> {
        self.write_or_fail("sync_all")?;
        self.inner.sync_all(dir)
    }

    fn stat_fs(&self, dir: &T::Dir) -> Result<StatFs, Errno> {
        self.gone.check()?;
        self.inner.stat_fs(dir)
    }
}

#[cfg(test)]
mod tests;
