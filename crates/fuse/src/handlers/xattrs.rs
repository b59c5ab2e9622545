//! Extended attributes.

use std::os::fd::AsFd;

use rules::Errno;
use tree::{Tree, XattrHow};
use union::InodeId;

use super::{Outcome, done, reply};
use crate::protocol::Payload;
use crate::protocol::replies::size_out;
use crate::session::Session;
use crate::transport::{Answer, Undo};

const ACL: &[u8] = b"system.posix_acl_";

impl<T: Tree> Session<T>
where
    T::File: AsFd,
{
    pub(super) fn get_xattr(
        &self,
        id: InodeId,
        name: &[u8],
        size: u32,
        payload: &mut Payload<'_>,
    ) -> Outcome {
        let value = match self.union.xattr(id, name) {
            // Of a branch without attributes, such as an image: to the kernel, which asks when it checks
            // permissions, anything but "none" is a reason to refuse.
            Err(union::Error::Branch(Errno::OPNOTSUPP)) if name.starts_with(ACL) => {
                return Err(Errno::NODATA.into());
            }
            value => value?,
        };
        sized(payload, size, &[&value])
    }

    pub(super) fn list_xattr(&self, id: InodeId, size: u32, payload: &mut Payload<'_>) -> Outcome {
        let names = self.union.xattr_names(id)?;
        let pieces: Vec<&[u8]> = names
            .iter()
            .flat_map(|name| [name.as_slice(), b"\0"])
            .collect();
        sized(payload, size, &pieces)
    }

    pub(super) fn set_xattr(
        &self,
        id: InodeId,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Outcome {
        self.union.set_xattr(id, name, value, how).map(done)
    }

    pub(super) fn remove_xattr(&self, id: InodeId, name: &[u8]) -> Outcome {
        self.union.remove_xattr(id, name).map(done)
    }
}

/// Replies with bytes for a buffer of `size`, or with how many there are when it is 0.
fn sized(payload: &mut Payload<'_>, size: u32, pieces: &[&[u8]]) -> Outcome {
    if size == 0 {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        return reply(payload, &size_out(length as u32), Undo::Nothing);
    }
    payload.limit(size as usize);
    payload.put_all(pieces).map_err(Errno::from)?;
    Ok(Answer::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_measured_delivered_or_out_of_range() {
        let mut room = [0; 64];
        for (size, expected) in [
            (0, Ok(&5_u64.to_le_bytes()[..])),
            (4, Err(Errno::RANGE)),
            (5, Ok(&b"value"[..])),
            (60, Ok(&b"value"[..])),
        ] {
            let mut payload = Payload::new(&mut room);
            let outcome = sized(&mut payload, size, &[b"val", b"ue"]);
            let outcome = outcome
                .map(|_| payload.filled())
                .map_err(|error| error.errno());
            assert_eq!(outcome, expected, "{size}");
        }
    }
}
