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
    /// What is known of names, and what that takes.
    #[serde(default)]
    pub(crate) known: Option<Known>,
}

/// What a server knows of the names in its branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Directories whose names are known.
    pub(crate) directories: u64,
    /// Names in those.
    pub(crate) names: u64,
    /// Bytes of memory of all this, and of the objects.
    pub(crate) bytes: u64,
    /// How many bytes it may be.
    pub(crate) limit: Option<u64>,
    /// Open directories of branches.
    pub(crate) open_directories: u64,
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
        let memory = union.memory();
        Self {
            requests: requests
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
            refused: counters.refused(),
            failed: counters.failed(),
            inodes: memory.objects as u64,
            known: Some(Known {
                directories: memory.directories_indexed as u64,
                names: memory.names as u64,
                bytes: memory.bytes as u64,
                limit: union.settings().memory_limit.map(|limit| limit as u64),
                open_directories: memory.directories_open as u64,
            }),
            idle_files: union.idle_files() as u64,
        }
    }
}
