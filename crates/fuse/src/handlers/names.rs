//! Finding, making, moving and removing names.

use std::os::fd::AsFd;
use std::time::Duration;

use rules::access::Wish;
use rules::{Errno, Kind};
use tree::{Node, RenameHow, Tree};
use union::{Entry, InodeId, Refusal};

use super::{Outcome, done, reply};
use crate::protocol::attributes::absent;
use crate::protocol::request::{Forgotten, Permissions};
use crate::protocol::{Header, Payload};
use crate::session::Session;
use crate::transport::{Answer, Undo};

impl<T: Tree> Session<T>
where
    T::File: AsFd,
{
    pub(super) fn lookup(
        &self,
        header: &Header,
        name: &[u8],
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let parent = InodeId(header.node);
        // Nobody but a server of NFS asks for these, for an object of which it has the handle.
        match name {
            b"." => return self.found(&self.union.lookup_again(parent)?, payload),
            b".." => return self.found(&self.union.lookup_above(parent)?, payload),
            _ => {}
        }
        let refused = self.is_refused_below(header, Wish::Search)?;
        match self.union.lookup(parent, name) {
            // To refuse a directory that somebody uses would take it away from under them: the kernel unmounts what is
            // mounted there, and a shell that is there loses its path.
            Ok(Some(entry))
                if !refused || entry.attr.kind == Kind::Dir && self.union.is_in_use(entry.id) =>
            {
                self.found(&entry, payload)
            }
            found if refused => {
                if let Ok(Some(entry)) = found {
                    self.union.forget(entry.id, 1);
                }
                Err(Errno::ACCES.into())
            }
            Ok(Some(entry)) => self.found(&entry, payload),
            Ok(None) => self.not_found(parent, payload),
            Err(error) => Err(error),
        }
    }

    pub(super) fn forget(&self, id: InodeId, count: u64) -> Outcome {
        self.forgotten(id, count);
        Ok(Answer::Silence)
    }

    fn forgotten(&self, id: InodeId, count: u64) {
        if self.generation.is_none() {
            self.union.forget(id, count);
        } else if self.union.is_gone(id) {
            // With all the references that were kept while it could still be asked for.
            self.union.forget(id, u64::MAX);
        }
    }

    pub(super) fn batch_forget(&self, forgotten: Forgotten<'_>) -> Outcome {
        for (id, count) in forgotten {
            self.forgotten(id, count);
        }
        Ok(Answer::Silence)
    }

    pub(super) fn read_link(&self, id: InodeId, payload: &mut Payload<'_>) -> Outcome {
        let target = self.union.read_link(id)?;
        payload.put(&target).map_err(Errno::from)?;
        Ok(Answer::DONE)
    }

    pub(super) fn symlink(
        &self,
        header: &Header,
        name: &[u8],
        target: &[u8],
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let caller = self.caller(header, 0)?;
        let entry = self
            .union
            .make_symlink(&caller, InodeId(header.node), name, target)?;
        self.found(&entry, payload)
    }

    pub(super) fn mknod(
        &self,
        header: &Header,
        name: &[u8],
        node: Node,
        permissions: Permissions,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let caller = self.caller(header, permissions.umask)?;
        let parent = InodeId(header.node);
        let entry = self
            .union
            .make_node(&caller, parent, name, node, permissions.perm)?;
        self.found(&entry, payload)
    }

    pub(super) fn mkdir(
        &self,
        header: &Header,
        name: &[u8],
        permissions: Permissions,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let caller = self.caller(header, permissions.umask)?;
        let entry = self
            .union
            .make_dir(&caller, InodeId(header.node), name, permissions.perm)?;
        self.found(&entry, payload)
    }

    pub(super) fn link(
        &self,
        target: InodeId,
        parent: InodeId,
        name: &[u8],
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let entry = self.union.link(target, parent, name)?;
        self.found(&entry, payload)
    }

    pub(super) fn unlink(&self, parent: InodeId, name: &[u8]) -> Outcome {
        self.union.unlink(parent, name).map(done)
    }

    pub(super) fn rmdir(&self, parent: InodeId, name: &[u8]) -> Outcome {
        self.union.rmdir(parent, name).map(done)
    }

    pub(super) fn rename(
        &self,
        parent: InodeId,
        name: &[u8],
        to: InodeId,
        new: &[u8],
        how: RenameHow,
    ) -> Outcome {
        self.union.rename(parent, name, to, new, how).map(done)
    }

    /// Replies with an object; the kernel owns one reference once the reply arrives.
    fn found(&self, entry: &Entry, payload: &mut Payload<'_>) -> Outcome {
        reply(payload, &self.entry(entry), Undo::Reference(entry.id))
    }

    /// Replies that there is no such name: as an entry without an object it is remembered, as an
    /// error it is not.
    fn not_found(&self, parent: InodeId, payload: &mut Payload<'_>) -> Outcome {
        let timeout = if self.union.hears(parent) {
            self.control.cache.load().negative_timeout
        } else {
            Duration::ZERO
        };
        if timeout.is_zero() {
            return Err(Refusal::NotFound.into());
        }
        reply(payload, &absent(timeout), Undo::Nothing)
    }
}
