//! What the branches hold under a path, as lines and as JSON.

use std::path::Path;

use rules::Kind;
use serde::Serialize;

use super::path_text;
use crate::inspection::{Cause, Finding, HiddenBy, Role};

/// The version of the JSON's shape.
const SCHEMA: u32 = 1;

/// Returns one line for each thing, topmost branch first: its role, branch, mode and path.
pub(crate) fn lines(findings: &[Finding]) -> Vec<String> {
    let width = |of: fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or_default();
    let modes = width(|finding| finding.mode.len());
    let numbers = width(|finding| finding.branch.to_string().len());
    findings
        .iter()
        .map(|finding| {
            let role = role(&finding.role);
            let number = finding.branch;
            let mode = &finding.mode;
            let path = path_text::write(&finding.path);
            let what = what(finding);
            format!("{role:<8}  {number:>numbers$}  {mode:<modes$}  {path}{what}")
        })
        .collect()
}

fn role(role: &Role) -> &'static str {
    match role {
        Role::Serves => "serves",
        Role::Merged => "merged",
        Role::Whiteout => "whiteout",
        Role::Damaged => "damaged",
        Role::Hidden(_) => "hidden",
    }
}

fn what(finding: &Finding) -> String {
    let mut words = Vec::new();
    if let Some(kind) = finding.kind.filter(|kind| *kind != Kind::File) {
        words.push(kind_text(kind).to_owned());
    }
    if finding.opaque {
        words.push("opaque".to_owned());
    }
    if let Role::Hidden(cause) = &finding.role {
        words.push(cause_text(cause));
    }
    if finding.role == Role::Damaged {
        words.push("not a regular file".to_owned());
    }
    if words.is_empty() {
        String::new()
    } else {
        format!("  ({})", words.join(", "))
    }
}

fn cause_text(cause: &Cause) -> String {
    let Cause { branch, by, path } = cause;
    let path = path_text::write(path);
    match by {
        HiddenBy::Entry => format!("covered by branch {branch}"),
        HiddenBy::Whiteout => format!("whiteout {path}"),
        HiddenBy::Opaque => format!("opaque directory {path}"),
        HiddenBy::OtherKind => format!("branch {branch} has a directory"),
    }
}

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "directory",
        Kind::Symlink => "symlink",
        Kind::CharDevice => "character device",
        Kind::BlockDevice => "block device",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    path: String,
    mount_point: String,
    exists: bool,
    branches: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    branch: usize,
    mode: &'a str,
    role: &'static str,
    path: String,
    kind: Option<&'static str>,
    opaque: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden_by: Option<HiddenRow>,
}

#[derive(Serialize)]
struct HiddenRow {
    branch: usize,
    by: &'static str,
    path: String,
}

/// Returns the same as JSON.
pub(crate) fn json(
    path: &Path,
    mount_point: &Path,
    findings: &[Finding],
) -> serde_json::Result<String> {
    let report = Report {
        schema: SCHEMA,
        path: path_text::write(path),
        mount_point: path_text::write(mount_point),
        exists: findings.iter().any(|found| found.role == Role::Serves),
        branches: findings.iter().map(row).collect(),
    };
    serde_json::to_string_pretty(&report)
}

fn row(finding: &Finding) -> Row<'_> {
    let hidden_by = match &finding.role {
        Role::Hidden(cause) => Some(HiddenRow {
            branch: cause.branch,
            by: match cause.by {
                HiddenBy::Entry => "entry",
                HiddenBy::Whiteout => "whiteout",
                HiddenBy::Opaque => "opaque",
                HiddenBy::OtherKind => "directory",
            },
            path: path_text::write(&cause.path),
        }),
        _ => None,
    };
    Row {
        branch: finding.branch,
        mode: &finding.mode,
        role: role(&finding.role),
        path: path_text::write(&finding.path),
        kind: finding.kind.map(kind_text),
        opaque: finding.opaque,
        hidden_by,
    }
}
