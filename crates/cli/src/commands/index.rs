//! `plywood index`: what a mount is told by `chain_index=`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chainindex::{ChainIndex, Reading};
use rules::Kind;
use rules::options::BranchMode;
use serde::Serialize;
use sys::BranchTree;
use sys::mapping::Mapping;
use union::{DialectKind, InodeId, OverlayMarks, Settings, Union};

use crate::chain_index::{self, ChainBranch, Mapped};
use crate::command_line::{Index, IndexFormat, IndexOf, IndexShow, IndexVerb};
use crate::failure::{Exit, Failure};
use crate::offline::{self, COULD_NOT};
use crate::render::path_text;

/// The version of the JSON's shape.
const SCHEMA: u32 = 1;

/// `plywood index build|check|show ...`
pub(crate) fn run(arguments: &Index) -> anyhow::Result<Exit> {
    match &arguments.verb {
        IndexVerb::Build(of) => build(of),
        IndexVerb::Check(of) => check(of),
        IndexVerb::Show(arguments) => show(arguments),
    }
}

fn build(of: &IndexOf) -> anyhow::Result<Exit> {
    let (path, branches) = read(of)?;
    let built = chain_index::build(&path, &branches, &settings(of.format))
        .map_err(|error| failed(&of.file, &error))?;
    let left_out = match built.left_out {
        0 => String::new(),
        left_out => format!(", {left_out} directories left out"),
    };
    crate::print_line(&format!(
        "{}: {} branches, {} directories, {} names{left_out}",
        path_text::write(&of.file),
        branches.len(),
        built.directories,
        built.names
    ));
    Ok(Exit::SUCCESS)
}

fn check(of: &IndexOf) -> anyhow::Result<Exit> {
    let (path, branches) = read(of)?;
    let name = path_text::write(&of.file);
    let mapped = Mapped::of(&path).map_err(|why| failed(&of.file, &why.into()))?;
    let union = chain_index::stack(&branches, &settings(of.format))
        .map_err(|error| failed(&of.file, &error))?;
    if let Err(why) = union.use_chain_index(Arc::new(mapped), |_| false, || {}) {
        crate::print_line(&format!("{name}: does not fit: {why}"));
        return Ok(Exit::FAILED);
    }
    if union.indexed_branches() != branches.len() {
        let count = union.indexed_branches();
        crate::print_line(&format!("{name}: fits the lowest {count} branches only"));
        return Ok(Exit::FAILED);
    }
    walk(&union).map_err(|error| failed(&of.file, &error))?;
    let (fit, changed) = union.compared_directories();
    if changed > 0 {
        let all = fit + changed;
        crate::print_line(&format!("{name}: {changed} of {all} directories changed"));
        return Ok(Exit::FAILED);
    }
    crate::print_line(&format!("{name}: fits"));
    Ok(Exit::SUCCESS)
}

/// Looks at every directory, which compares it with the index.
fn walk(union: &Union<BranchTree>) -> anyhow::Result<()> {
    let mut left = vec![InodeId::ROOT];
    while let Some(id) = left.pop() {
        let stream = union.open_dir(id)?;
        let mut names = Vec::new();
        union.read_dir(&stream, 2, false, &mut |listed| {
            if listed.kind.is_none_or(|kind| kind == Kind::Dir) {
                names.push(listed.name.to_vec());
            }
            true
        })?;
        for name in names {
            match union.lookup(id, &name)? {
                Some(found) if found.attr.kind == Kind::Dir => left.push(found.id),
                Some(found) => union.forget(found.id, 1),
                None => {}
            }
        }
        drop(stream);
        union.forget(id, 1);
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    file: String,
    format: &'static str,
    bytes: u64,
    directories: u64,
    names: u64,
    branches: Vec<BranchReport>,
}

#[derive(Debug, Serialize)]
struct BranchReport {
    dev: u64,
    fsid: u64,
    ino: u64,
    whiteouts: bool,
}

fn show(arguments: &IndexShow) -> anyhow::Result<Exit> {
    let file = &arguments.file;
    let mapping = Mapping::of(file).map_err(|why| failed(file, &why.into()))?;
    let report = report(file, mapping.bytes()).map_err(|why| failed(file, &why.into()))?;
    if arguments.json {
        crate::print_line(&serde_json::to_string_pretty(&report)?);
    } else {
        let Report {
            file,
            format,
            bytes,
            directories,
            names,
            branches,
            ..
        } = &report;
        let count = branches.len();
        crate::print_line(&format!(
            "{file}: {count} branches in the format of {format}, {directories} directories, {names} names, {bytes} bytes"
        ));
    }
    Ok(Exit::SUCCESS)
}

fn report(file: &Path, bytes: &[u8]) -> Result<Report, chainindex::Refused> {
    let index = ChainIndex::open(bytes)?;
    let mut names = 0;
    for number in 0..index.len() {
        for entry in index.checked(number)?.entries() {
            names += u64::from(entry?.attr()?.is_some());
        }
    }
    let branch = |layer: &chainindex::Layer| BranchReport {
        dev: layer.dev,
        fsid: layer.fsid,
        ino: layer.ino,
        whiteouts: layer.whiteouts,
    };
    Ok(Report {
        schema: SCHEMA,
        file: path_text::write(file),
        format: match index.reading() {
            Reading::Aufs => "aufs",
            Reading::OverlayTrusted => "overlay",
            Reading::OverlayUser => "overlay-user",
        },
        bytes: index.bytes(),
        directories: u64::from(index.len()),
        names,
        branches: index.layers()?.iter().map(branch).collect(),
    })
}

/// Returns where the index is and what it is about.
fn read(of: &IndexOf) -> anyhow::Result<(PathBuf, Vec<ChainBranch>)> {
    let no = |why: &str| Failure::new(COULD_NOT, format!("{:?}: {why}", of.file));
    let path = chain_index::absolute(&of.file).map_err(|errno| no(&errno.to_string()))?;
    let mut branches = Vec::new();
    for spec in offline::read_list(&of.branches)? {
        let mode = spec.mode.unwrap_or(BranchMode::RO);
        let said = |why: &str| Failure::new(COULD_NOT, format!("branch {:?}: {why}", spec.path));
        if mode.is_writable() {
            return Err(said("writable")
                .hint("an index is about branches that nobody writes to")
                .into());
        }
        let found = spec.path.canonicalize();
        let found =
            found.map_err(|error| said(&crate::mounting::place::errno_of(&error).to_string()))?;
        branches.push((found, mode));
    }
    let paths = branches.iter().map(|(path, _)| &**path);
    if let Some(branch) = chain_index::branch_around(&path, paths) {
        return Err(no(&format!("lies inside branch {branch:?}"))
            .hint("name a file outside of the branches")
            .into());
    }
    Ok((path, branches))
}

fn settings(format: IndexFormat) -> Settings {
    Settings::new(match format {
        IndexFormat::Aufs => DialectKind::Aufs,
        IndexFormat::Overlay => DialectKind::Overlay(OverlayMarks::Trusted),
        IndexFormat::OverlayUser => DialectKind::Overlay(OverlayMarks::User),
    })
}

fn failed(file: &Path, error: &anyhow::Error) -> anyhow::Error {
    Failure::new(COULD_NOT, format!("{file:?}: {error:#}")).into()
}
