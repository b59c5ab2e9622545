//! Making objects in somebody else's name.
//!
//! A new object belongs to its owner from its first instant: the thread takes the
//! owner's filesystem identity (`fsuid`, `fsgid`) and the caller's umask before the call
//! that makes it. There is no moment at which a crash would leave the object to the server.
//!
//! All three are per thread here: a thread first parts from the umask that threads share
//! (`unshare(CLONE_FS)`) and tells the kernel to leave its capabilities alone when the
//! identity changes (`SECBIT_NO_SETUID_FIXUP`). So permission bits never refuse a server
//! that is root, whoever it acts for, and the identity may stay as it was last set: asking
//! for the same one again costs no system call.
//!
//! Likewise with the power to keep set-id bits (`CAP_FSETID`): registering files for passthrough takes it away from a thread, and what needs it
//! takes it back, so that a thread that only makes and registers files does neither.
//!
//! A program started from a prepared thread would inherit its umask and secure bits: start
//! programs from other threads.

use std::cell::RefCell;

use rules::{Creation, Errno, Identity};
use rustix::fs::Mode;
use rustix::process::{getegid, geteuid, umask};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    set_capabilities, set_capabilities_secure_bits,
};

use crate::errno::{IntoErrno, check};

/// Set-user-id and set-group-id.
pub(crate) const SET_ID: u32 = 0o6000;

thread_local! {
    static THREAD: RefCell<Option<Thread>> = const { RefCell::new(None) };
}

/// What this thread is allowed to become, and what it was last made.
struct Thread {
    own: Identity,
    powers: Powers,
    /// The identity as last set; `None` when nobody knows.
    identity: Option<Identity>,
    /// Identities that this thread was seen to take, the latest first: it can take them again.
    taken: [Option<Identity>; 4],
    /// The umask as last set; `None` when nobody knows.
    umask: Option<u32>,
    /// All capabilities, while the one to keep set-id bits is taken away.
    with_fsetid: Option<CapabilitySets>,
}

/// What happens to the capabilities of this thread when its identity changes.
#[derive(Debug)]
enum Powers {
    /// They stay, so the identity may stay as well.
    Kept,
    /// The kernel takes some away, and we put these back.
    Refilled(CapabilitySets),
    /// There are none.
    Absent,
}

/// Returns the identity of the server itself: its effective user and group.
pub fn own() -> Identity {
    Identity {
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
    }
}

/// Returns whether objects can be made in the name of an owner.
pub fn may_act_for(owner: Identity) -> bool {
    let how = Creation {
        owner: Some(owner),
        ..Creation::exact(0)
    };
    // On a thread of its own, because this one may start programs.
    let tried = std::thread::spawn(move || create_as(&how, || Ok(())));
    matches!(tried.join(), Ok(Ok(())))
}

/// Prepares this thread for acting in other names.
///
/// Worker threads call it when they start, to learn of trouble early; a thread that did
/// not is prepared by the first object it makes. Calling it again does nothing.
pub fn prepare_thread() -> Result<(), Errno> {
    with_thread(|_| Ok(()))
}

/// Runs `make` under the identity and the umask that a creation asks for.
///
/// `EPERM` when the server may not act for that owner.
pub(crate) fn create_as<T>(
    how: &Creation,
    make: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    with_thread(|thread| {
        if how.perm & SET_ID != 0 {
            thread.restore_fsetid()?;
        }
        thread.become_identity(how.owner.unwrap_or(thread.own))?;
        thread.set_umask(how.umask);
        Ok(())
    })?;
    let made = make();
    with_thread(Thread::settle)?;
    made
}

/// Runs `call` under the identity of the server itself.
pub(crate) fn as_server<T>(call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    with_thread(|thread| thread.become_identity(thread.own))?;
    call()
}

/// As `as_server`, without the power to keep set-id bits. The thread stays without until [`keep_set_id`].
pub(crate) fn as_server_without_fsetid<T>(
    call: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    with_thread(|thread| {
        thread.become_identity(thread.own)?;
        thread.drop_fsetid()
    })?;
    call()
}

/// Gives this thread back the power to keep set-id bits, if it was taken away. To be called before whatever the kernel could take
/// such bits away for: writes, changes of size, owner, permissions and access lists, and making something that has one.
pub(crate) fn keep_set_id() -> Result<(), Errno> {
    THREAD.with_borrow_mut(|thread| match thread {
        Some(thread) => thread.restore_fsetid(),
        None => Ok(()),
    })
}

fn with_thread<T>(act: impl FnOnce(&mut Thread) -> Result<T, Errno>) -> Result<T, Errno> {
    THREAD.with_borrow_mut(|thread| match thread {
        Some(thread) => act(thread),
        None => act(thread.insert(Thread::prepare()?)),
    })
}

impl Thread {
    fn prepare() -> Result<Self, Errno> {
        // SAFETY: takes no pointers; this thread alone gets its own working directory, root
        // and umask, all copies of what it had. No file descriptor is touched.
        check(unsafe { libc::unshare(libc::CLONE_FS) })?;
        Ok(Self {
            own: own(),
            powers: Powers::secure()?,
            identity: None,
            taken: [None; 4],
            umask: None,
            with_fsetid: None,
        })
    }

    fn become_identity(&mut self, wanted: Identity) -> Result<(), Errno> {
        if self.identity == Some(wanted) {
            return Ok(());
        }
        self.identity = None;
        // The group first: giving up user 0 may cost the right to change it.
        set_fs_id(libc::SYS_setfsgid, wanted.gid);
        let sure = self.taken.contains(&Some(wanted));
        let group = sure || has_fs_id(libc::SYS_setfsgid, wanted.gid);
        set_fs_id(libc::SYS_setfsuid, wanted.uid);
        let user = sure || has_fs_id(libc::SYS_setfsuid, wanted.uid);
        if let Powers::Refilled(all) = self.powers {
            set_capabilities(None, all).errno()?;
            self.with_fsetid = None;
        }
        if group && user {
            if !sure {
                self.taken.rotate_right(1);
                self.taken[0] = Some(wanted);
            }
            self.identity = Some(wanted);
            return Ok(());
        }
        if wanted != self.own {
            self.become_identity(self.own)?;
        }
        Err(Errno::PERM)
    }

    fn drop_fsetid(&mut self) -> Result<(), Errno> {
        if self.with_fsetid.is_some() {
            return Ok(());
        }
        let all = capabilities(None).errno()?;
        if all.effective.contains(CapabilitySet::FSETID) {
            let mut fewer = all;
            fewer.effective.remove(CapabilitySet::FSETID);
            set_capabilities(None, fewer).errno()?;
            self.with_fsetid = Some(all);
        }
        Ok(())
    }

    fn restore_fsetid(&mut self) -> Result<(), Errno> {
        if let Some(all) = self.with_fsetid {
            set_capabilities(None, all).errno()?;
            self.with_fsetid = None;
        }
        Ok(())
    }

    fn set_umask(&mut self, wanted: u32) {
        if self.umask != Some(wanted) {
            umask(Mode::from_raw_mode(wanted & 0o777));
            self.umask = Some(wanted);
        }
    }

    /// Goes back to the own identity, unless the capabilities stay in any case.
    fn settle(&mut self) -> Result<(), Errno> {
        match self.powers {
            Powers::Kept => Ok(()),
            Powers::Refilled(_) | Powers::Absent => self.become_identity(self.own),
        }
    }
}

impl Powers {
    /// Makes the capabilities of this thread stay, or finds out what else there is.
    fn secure() -> Result<Self, Errno> {
        let bits = capabilities_secure_bits().errno()?;
        let wanted = bits | CapabilitiesSecureBits::NO_SETUID_FIXUP;
        if bits == wanted || set_capabilities_secure_bits(wanted).is_ok() {
            return Ok(Self::Kept);
        }
        let all = capabilities(None).errno()?;
        if all.effective.contains(CapabilitySet::SETUID) {
            Ok(Self::Refilled(all))
        } else {
            Ok(Self::Absent)
        }
    }
}

/// Sets a filesystem id of this thread; [`has_fs_id`] tells whether it took.
///
/// The library's `setfsuid` is avoided because only the raw call is sure to be about this
/// thread alone.
fn set_fs_id(call: libc::c_long, id: u32) {
    // SAFETY: `setfsuid` and `setfsgid` take one number and change this thread's credentials
    // only.
    unsafe {
        libc::syscall(call, id);
    }
}

/// Returns whether this thread has a filesystem id.
///
/// The calls report no error but return the id before them, so one with an id that is never valid reads it.
fn has_fs_id(call: libc::c_long, id: u32) -> bool {
    // SAFETY: as above; nothing is changed.
    unsafe { libc::syscall(call, u32::MAX) == libc::c_long::from(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fs_ids() -> (u32, u32) {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let last = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().last().unwrap().parse().unwrap()
        };
        (last("Uid:"), last("Gid:"))
    }

    fn creation(uid: u32) -> Creation {
        Creation {
            perm: 0o666,
            umask: 0o022,
            owner: Some(Identity { uid, gid: uid + 1 }),
        }
    }

    #[test]
    fn identity_and_capabilities_stay_after_a_creation() {
        let before = capabilities(None).unwrap();
        assert_eq!(
            create_as(&creation(1000), || Ok(fs_ids())),
            Ok((1000, 1001))
        );
        assert_eq!(fs_ids(), (1000, 1001));
        assert_eq!(capabilities(None).unwrap(), before);
        assert_eq!(as_server(|| Ok(fs_ids())), Ok((0, 0)));
    }

    #[test]
    fn an_unchanged_identity_costs_no_system_call() {
        create_as(&creation(1000), || Ok(())).unwrap();
        // Changed behind the back of the cache: seen again only if nothing sets it anew.
        set_fs_id(libc::SYS_setfsuid, 1005);
        assert!(has_fs_id(libc::SYS_setfsuid, 1005));
        assert_eq!(
            create_as(&creation(1000), || Ok(fs_ids())),
            Ok((1005, 1001))
        );
        assert_eq!(
            create_as(&creation(1001), || Ok(fs_ids())),
            Ok((1001, 1002))
        );
    }

    #[test]
    fn other_threads_keep_their_identity_and_umask() {
        let other_mask = std::thread::spawn(|| {
            prepare_thread().unwrap();
            let mine = umask(Mode::from_raw_mode(0o011));
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert_eq!(fs_ids(), (0, 0));
            (mine, umask(mine))
        });
        let how = Creation {
            umask: 0o077,
            ..creation(1000)
        };
        create_as(&how, || Ok(())).unwrap();
        assert_eq!(other_mask.join().unwrap().1, Mode::from_raw_mode(0o011));
    }

    #[test]
    fn the_power_to_keep_set_id_bits_is_away_until_it_is_needed() {
        let all = capabilities(None).unwrap();
        let has = || {
            capabilities(None)
                .unwrap()
                .effective
                .contains(CapabilitySet::FSETID)
        };
        assert!(has());
        for _ in 0..2 {
            assert_eq!(as_server_without_fsetid(|| Ok(has())), Ok(false));
            assert!(!has());
        }
        create_as(&creation(1000), || Ok(())).unwrap();
        assert!(!has(), "making something does not need it");
        keep_set_id().unwrap();
        assert_eq!(capabilities(None).unwrap(), all);
        keep_set_id().unwrap();
        // Other threads have it all the time.
        as_server_without_fsetid(|| Ok(())).unwrap();
        assert_eq!(std::thread::spawn(keep_set_id).join().unwrap(), Ok(()));
        keep_set_id().unwrap();
    }

    #[test]
    fn without_secure_bits_capabilities_are_refilled_and_the_identity_goes_back() {
        let all = capabilities(None).unwrap();
        let mut thread = Thread {
            own: own(),
            powers: Powers::Refilled(all),
            identity: None,
            taken: [None; 4],
            umask: None,
            with_fsetid: None,
        };
        thread
            .become_identity(Identity {
                uid: 1000,
                gid: 1000,
            })
            .unwrap();
        assert_eq!(fs_ids(), (1000, 1000));
        assert_eq!(capabilities(None).unwrap(), all);
        thread.settle().unwrap();
        assert_eq!(fs_ids(), (0, 0));
        assert_eq!(capabilities(None).unwrap(), all);
    }

    #[test]
    fn a_server_without_capabilities_acts_only_for_itself() {
        set_capabilities(
            None,
            CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            },
        )
        .unwrap();
        assert_eq!(create_as(&creation(1000), || Ok(())), Err(Errno::PERM));
        assert_eq!(fs_ids(), (0, 0));
        // A new thread has what its maker has.
        assert!(!may_act_for(creation(1000).owner.unwrap()));
        assert!(may_act_for(own()));
        assert_eq!(
            create_as(&Creation::exact(0o600), || Ok(fs_ids())),
            Ok((0, 0))
        );
    }
}
