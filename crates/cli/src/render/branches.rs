//! The stack of a union as text.

use serde::Serialize;

use super::aufs_sysfs;
use crate::command_line::BranchFormat;
use crate::run_state::RunState;

/// A branch for programs.
#[derive(Serialize)]
struct Report<'a> {
    index: usize,
    path: &'a str,
    mode: &'a str,
}

/// The branches for programs, with the version of their shape.
#[derive(Serialize)]
struct Reports<'a> {
    schema: u32,
    mount_point: &'a str,
    branches: Vec<Report<'a>>,
}

/// Returns the branches, topmost first.
pub(crate) fn text(server: &RunState, format: BranchFormat) -> anyhow::Result<Vec<u8>> {
    let numbered = || server.branches.iter().enumerate();
    let text: String = match format {
        BranchFormat::Text => numbered()
            .map(|(index, branch)| format!("{index:>3}  {:<10}  {}\n", branch.mode, branch.path))
            .collect(),
        BranchFormat::AufsSysfs => {
            let files = numbered().flat_map(|(index, branch)| {
                let name = format!("br{index} ").into_bytes();
                [name, aufs_sysfs::branch_line(branch)].concat()
            });
            return Ok(files.collect());
        }
        BranchFormat::Options => {
            let branches = server.branches.iter();
            let list = branches.map(|branch| format!("{}={}", branch.path, branch.mode));
            format!("br={}\n", list.collect::<Vec<_>>().join(":"))
        }
        BranchFormat::Json => {
            let branches = numbered().map(|(index, branch)| Report {
                index,
                path: &branch.path,
                mode: &branch.mode,
            });
            let reports = Reports {
                schema: 1,
                mount_point: &server.mount_point,
                branches: branches.collect(),
            };
            format!("{}\n", serde_json::to_string_pretty(&reports)?)
        }
    };
    Ok(text.into_bytes())
}
