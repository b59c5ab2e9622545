//! Servers that are about to end.
//!
//! umount(8) returns before the server has written what it still had to: large copies get their names, hard links
//! of lower branches are made. Who mounts the same branches again must not look before that.

use std::time::Duration;

use sys::processes;

use super::plan::Plan;
use crate::run_state::{self, RunState};

/// How long they may take; one that was unmounted lazily may live for as long as its users.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until no server that lost its mount may still write to branches of the plan.
pub(crate) fn wait(plan: &Plan) {
    for server in run_state::nearby_without(&plan.mounts) {
        if server.pid == std::process::id() || !writes_to_branch_of(plan, &server) {
            continue;
        }
        if !processes::wait_gone(server.pid, PATIENCE).unwrap_or(true) {
            let pid = server.pid;
            tracing::warn!(pid, "an unmounted union still uses one of the branches");
        }
    }
}

fn writes_to_branch_of(plan: &Plan, server: &RunState) -> bool {
    let writable = server.branches.iter().filter(|b| b.mode.starts_with("rw"));
    let mut paths = writable.map(|branch| run_state::path_of(&branch.path));
    paths.any(|path| plan.branches.iter().any(|branch| branch.path == path))
}
