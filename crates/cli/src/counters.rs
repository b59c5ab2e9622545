//! What a server counts.

use std::collections::BTreeMap;
use std::path::Path;

use fuse::Counters;
use serde::{Deserialize, Serialize};
use tree::Tree;
use union::Union;

use crate::control::{self, Answer, Ask};

/// What a server has counted since it was mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Requests of the kernel by kind.
    pub(crate) requests: BTreeMap<String, u64>,
    /// Requests answered with an error that is part of normal life.
    pub(crate) refused: u64,
    /// Requests that failed because something is wrong.
    pub(crate) failed: u64,
    /// Objects that the kernel holds.
    pub(crate) inodes: u64,
    /// Files of lower branches that may be open although nobody uses them.
    #[serde(default)]
    pub(crate) idle_files: u64,
}

/// Asks a server, which may be of an older version or busy: then there is no answer.
pub(crate) fn ask(socket: &Path) -> Option<Counts> {
    match control::ask(socket, &Ask::Counters)? {
        Answer::Counters(counts) => Some(counts),
        _ => None,
    }
}

impl Counts {
    /// Returns what was counted so far.
    pub(crate) fn of<T: Tree>(counters: &Counters, union: &Union<T>) -> Self {
        let requests = counters.requests();
        Self {
            requests: requests
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
            refused: counters.refused(),
            failed: counters.failed(),
            inodes: union.inodes_held() as u64,
            idle_files: union.idle_files() as u64,
        }
    }
}
