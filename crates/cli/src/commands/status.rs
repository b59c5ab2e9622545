//! `plywood status`: what is mounted, from what, and how its server fares.

use crate::command_line::Status;
use crate::failure::{Exit, Failure};
use crate::mounted_unions::{self, MountedUnion};
use crate::mounting::place::is_union;
use crate::render::status::{self, Report};
use crate::run_state;

/// `plywood status [DIR]`
pub(crate) fn run(arguments: &Status) -> anyhow::Result<Exit> {
    let unions = match &arguments.dir {
        None => mounted_unions::all()?,
        Some(dir) => {
            let mount = mounted_unions::mount_on(dir)
                .map_err(|_| Failure::new(Exit::FAILED, format!("{dir:?}: not mounted")))?;
            let server = run_state::server_of(&mount);
            if server.is_none() && !is_union(&mount) {
                let what = format!("{dir:?}: {} is not a union of ours", mount.fstype);
                return Err(Failure::new(Exit::FAILED, what).into());
            }
            vec![MountedUnion {
                mount: Some(mount),
                server,
            }]
        }
    };
    let reports: Vec<_> = unions.iter().map(Report::of).collect();
    if arguments.json {
        crate::print_line(&status::json(&reports)?);
    } else {
        for report in &reports {
            crate::print_data(report.text().as_bytes());
        }
    }
    Ok(Exit::SUCCESS)
}
