//! A mounted union, as text and as JSON.

use serde::Serialize;

use super::path_text;
use crate::counters::{self, Counts};
use crate::mounted_unions::MountedUnion;
use crate::run_state::{self, RunState, TransportState};

/// The version of the JSON's shape.
const SCHEMA: u32 = 1;

/// What is told of a union.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    mount_point: String,
    /// Absent for a mount in another namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    fstype: Option<String>,
    source: String,
    /// Whether the mount is read-only.
    read_only: bool,
    /// Absent when the server is dead or another user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerReport>,
}

#[derive(Debug, Serialize)]
struct ServerReport {
    pid: u32,
    si: String,
    mounted_at: u64,
    dialect: String,
    udba: String,
    options: String,
    branches: Vec<BranchReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<TransportState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_kib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<Counts>,
}

#[derive(Debug, Serialize)]
struct BranchReport {
    path: String,
    mode: String,
}

impl Report {
    /// Collects it.
    pub(crate) fn of(union: &MountedUnion) -> Self {
        let mount = union.mount.as_ref();
        let server = union.server.as_ref();
        let source = mount.map(|mount| mount.source.to_string_lossy().into_owned());
        Self {
            mount_point: path_text::write(&union.place()),
            fstype: mount.map(|mount| mount.fstype.clone()),
            source: source
                .or_else(|| server.map(|server| server.source.clone()))
                .unwrap_or_default(),
            read_only: mount.is_some_and(|mount| mount.has_option("ro")),
            server: server.map(ServerReport::of),
        }
    }

    /// Returns it for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            text.push_str(&format!("  {name:<9} {value}\n"));
        };
        let Some(server) = &self.server else {
            line("server", "dead, or another user's");
            return format!("{}\n{text}", self.title());
        };
        for (index, branch) in server.branches.iter().enumerate() {
            let name = if index == 0 { "branches" } else { "" };
            line(name, &format!("{}={}", branch.path, branch.mode));
        }
        line("dialect", &server.dialect);
        line("udba", &server.udba);
        if !server.options.is_empty() {
            line("options", &server.options);
        }
        if let Some(TransportState { name, obstacle }) = &server.transport {
            let obstacle = obstacle.as_ref().map(|why| format!(" ({why})"));
            line(
                "transport",
                &format!("{name}{}", obstacle.unwrap_or_default()),
            );
        }
        let memory = server
            .memory_kib
            .map(|kib| format!(", {kib} KiB of memory"));
        let memory = memory.unwrap_or_default();
        line("server", &format!("process {}{memory}", server.pid));
        if let Some(counts) = &server.counters {
            let idle = match counts.idle_files {
                0 => String::new(),
                count => format!(", up to {count} files kept open"),
            };
            line("inodes", &format!("{}{idle}", inodes(counts)));
            line("requests", &requests(counts));
        }
        format!("{}\n{text}", self.title())
    }

    fn title(&self) -> String {
        let Self {
            mount_point,
            source,
            ..
        } = self;
        let fstype = self.fstype.as_deref().unwrap_or("in another namespace");
        let read_only = if self.read_only { ", read-only" } else { "" };
        format!("{mount_point} ({fstype}, {source}{read_only})")
    }
}

fn inodes(counts: &Counts) -> String {
    let Some(known) = counts.known else {
        return counts.inodes.to_string();
    };
    let limit = known.limit.map(|limit| format!(" of {}", limit / 1024));
    format!(
        "{} in {}{} KiB, {} names of {} directories, {} directories open",
        counts.inodes,
        known.bytes / 1024,
        limit.unwrap_or_default(),
        known.names,
        known.directories,
        known.open_directories
    )
}

fn requests(counts: &Counts) -> String {
    let each = counts.requests.iter();
    let mut each: Vec<_> = each
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    each.push(format!("refused {}", counts.refused));
    each.push(format!("failed {}", counts.failed));
    each.join(", ")
}

impl ServerReport {
    fn of(server: &RunState) -> Self {
        let branches = server.branches.iter().map(|branch| BranchReport {
            path: branch.path.clone(),
            mode: branch.mode.clone(),
        });
        let sockets = run_state::sockets_of(server);
        Self {
            pid: server.pid,
            si: server.si(),
            mounted_at: server.mounted_at,
            dialect: server.dialect.clone(),
            udba: server.udba.clone(),
            options: server.options.clone(),
            branches: branches.collect(),
            transport: server.transport.clone(),
            memory_kib: memory_of(server.pid),
            counters: sockets.iter().find_map(|socket| counters::ask(socket)),
        }
    }
}

/// Returns how much memory a process holds.
fn memory_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[derive(Serialize)]
struct Reports<'a> {
    schema: u32,
    mounts: &'a [Report],
}

/// Returns all reports as JSON.
pub(crate) fn json(reports: &[Report]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Reports {
        schema: SCHEMA,
        mounts: reports,
    })
}
