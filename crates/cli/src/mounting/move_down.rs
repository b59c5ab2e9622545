//! Moving a file down, as the server does it on request.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rules::BranchIndex;
use rules::move_down::{Move, Refusal, Wish};
use tree::Tree;
use union::{Error, InodeId, Stays, Union};

use crate::control::MoveDown;
use crate::failure::{Exit, Failure};

/// How often a file that was closed just now is tried: the kernel tells the server of that a little later.
const ATTEMPTS: usize = 10;
/// How long to wait in between.
const PAUSE: Duration = Duration::from_millis(20);

/// Reads an order; `position` finds a branch by its path or position.
pub(super) fn wish(
    order: &MoveDown,
    position: impl Fn(&str) -> Option<usize>,
) -> Result<Wish, Failure> {
    let index = |name: &Option<String>| match name {
        None => Ok(None),
        Some(name) => match position(name).map(u16::try_from) {
            Some(Ok(at)) => Ok(Some(BranchIndex(at))),
            _ => Err(Failure::new(Exit::FAILED, format!("no branch {name}"))
                .hint("`plywood branch list DIR` shows the branches")),
        },
    };
    Ok(Wish {
        from: index(&order.from)?,
        to: index(&order.to)?,
        keeps_upper: order.keeps_upper,
        replaces_lower: order.replaces_lower,
        from_read_only: order.from_read_only,
        to_read_only: order.to_read_only,
    })
}

/// Moves what has a path from the root of the union.
pub(super) fn carry_out<T: Tree>(
    union: &Union<T>,
    path: &Path,
    wish: &Wish,
) -> Result<Move, Failure> {
    for attempt in 1.. {
        let passage = union.pass();
        let moved = by_path(union, path, wish);
        drop(passage);
        match moved {
            Ok(moved) => return Ok(moved),
            Err(Stays::Refused(Refusal::InUse)) if attempt < ATTEMPTS => {
                std::thread::sleep(PAUSE);
            }
            Err(stays) => return Err(Failure::new(Exit::FAILED, phrase(&stays))),
        }
    }
    unreachable!("the last attempt returns")
}

fn phrase(stays: &Stays) -> String {
    match stays {
        Stays::Refused(refusal) => format!("stays where it is: {}", refusal.reason()),
        Stays::Failed(error) => error.to_string(),
    }
}

fn by_path<T: Tree>(union: &Union<T>, path: &Path, wish: &Wish) -> Result<Move, Stays> {
    let mut held = Vec::new();
    let moved = (|| {
        let mut names: Vec<_> = path.iter().map(OsStrExt::as_bytes).collect();
        let last = names.pop().ok_or(Refusal::NotRegular)?;
        let mut dir = InodeId::ROOT;
        for name in names {
            let found = union.lookup(dir, name)?;
            let found = found.ok_or(Error::Refused(union::Refusal::NotFound))?;
            held.push(found.id);
            dir = found.id;
        }
        union.move_down(dir, last, wish)
    })();
    for id in held {
        union.forget(id, 1);
    }
    moved
}
