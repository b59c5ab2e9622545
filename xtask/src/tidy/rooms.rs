//! Which crate may use which: the dependency directions of the house, read from the manifests.
//!
//! A crate that is not in the table is a finding: a new room needs a place in the house.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Finding;

/// What a room may use; `None` stands for any room.
const ROOMS: &[(&str, Option<&[&str]>)] = &[
    ("rules", Some(&[])),
    ("tree", Some(&["rules"])),
    ("images", Some(&["rules"])),
    ("chainindex", Some(&["rules"])),
    ("sys", Some(&["rules", "tree", "images"])),
    ("union", Some(&["rules", "tree", "chainindex"])),
    ("archive", Some(&["rules", "tree"])),
    ("store", Some(&["rules", "tree", "sys", "archive"])),
    ("registry", Some(&["store"])),
    ("fuse", Some(&["rules", "tree", "union", "sys"])),
    ("snapshotter", Some(&["rules", "store"])),
    ("cli", None),
    ("testkit", None),
];

/// Crates that make system calls: for `sys` alone.
const SYSTEM: &[&str] = &["libc", "rustix", "nix", "linux-raw-sys"];

/// Where in a manifest a dependency stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Test,
}

#[derive(Debug, PartialEq, Eq)]
struct Dependency {
    name: String,
    kind: Kind,
    line: usize,
}

/// Checks the manifest of every crate.
pub(crate) fn check(house: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut rooms = Vec::new();
    for entry in fs::read_dir(house.join("crates"))? {
        rooms.push(entry?.file_name().to_string_lossy().into_owned());
    }
    rooms.sort();
    for room in rooms {
        let path = PathBuf::from(format!("crates/{room}/Cargo.toml"));
        let manifest =
            fs::read_to_string(house.join(&path)).with_context(|| format!("{}", path.display()))?;
        let dependencies = dependencies(&manifest);
        findings.extend(
            dependencies
                .iter()
                .filter_map(|dependency| Some((dependency.line, refusal(&room, dependency)?)))
                .map(|(line, message)| Finding::new(&path, line, message)),
        );
        if !ROOMS.iter().any(|(known, _)| *known == room) {
            findings.push(Finding::new(
                &path,
                1,
                format!("`{room}` has no place in xtask's table of rooms"),
            ));
        }
    }
    Ok(findings)
}

/// Says why `room` may not have this dependency, if it may not.
fn refusal(room: &str, dependency: &Dependency) -> Option<String> {
    let name = dependency.name.as_str();
    if dependency.kind == Kind::Test {
        return None;
    }
    if SYSTEM.contains(&name) && room != "sys" {
        return Some(format!(
            "`{room}` uses `{name}`: system calls stand in `sys` only"
        ));
    }
    if !ROOMS.iter().any(|(known, _)| *known == name) {
        return None;
    }
    if name == "testkit" {
        return Some(format!(
            "`{room}` uses `testkit`, which is for tests: make it a dev-dependency"
        ));
    }
    let allowed = ROOMS.iter().find(|(known, _)| *known == room)?.1?;
    (!allowed.contains(&name)).then(|| match allowed {
        [] => format!("`{room}` uses `{name}`, but may use no room at all"),
        _ => format!(
            "`{room}` uses `{name}`, but may use only {}",
            allowed.join(", ")
        ),
    })
}

/// Lists the dependencies of a manifest, our own by the names of their rooms.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut section = None;
    for (index, line) in manifest.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        let line_number = index + 1;
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = None;
            for (word, kind) in [
                ("dev-dependencies", Kind::Test),
                ("build-dependencies", Kind::Normal),
                ("dependencies", Kind::Normal),
            ] {
                if header == word || header.ends_with(&format!(".{word}")) {
                    section = Some(kind);
                    break;
                }
                if let Some((_, name)) = header.split_once(&format!("{word}.")) {
                    found.push(Dependency {
                        name: room_of(name, line),
                        kind,
                        line: line_number,
                    });
                    break;
                }
            }
        } else if let (Some(kind), Some((key, value))) = (section, line.split_once('=')) {
            let name = key.split('.').next().unwrap_or(key).trim();
            found.push(Dependency {
                name: room_of(name, value),
                kind,
                line: line_number,
            });
        }
    }
    found
}

fn room_of(key: &str, value: &str) -> String {
    let package = value
        .split_once("package")
        .and_then(|(_, rest)| rest.split('"').nth(1));
    let name = package.unwrap_or(key).trim_matches(['"', ' ']);
    name.strip_prefix("plywood-").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(room: &str, manifest: &str) -> usize {
        dependencies(manifest)
            .iter()
            .filter(|dependency| refusal(room, dependency).is_some())
            .count()
    }

    #[test]
    fn dependencies_point_downwards() {
        let one = |name: &str| format!("[dependencies]\n{name}.workspace = true\n");
        for (room, name, refused) in [
            ("rules", "tree", 1),
            ("rules", "thiserror", 0),
            ("tree", "rules", 0),
            ("tree", "sys", 1),
            ("union", "tree", 0),
            ("union", "sys", 1),
            ("union", "fuse", 1),
            ("fuse", "sys", 0),
            ("fuse", "libc", 1),
            ("sys", "libc", 0),
            ("sys", "union", 1),
            ("cli", "fuse", 0),
            ("cli", "testkit", 1),
            ("cli", "rustix", 1),
        ] {
            assert_eq!(refusals(room, &one(name)), refused, "{room} -> {name}");
        }
    }

    #[test]
    fn every_way_to_write_a_dependency_is_read() {
        for manifest in [
            "[dependencies]\nsys = { path = \"../sys\", package = \"plywood-sys\" }\n",
            "[dependencies]\nplywood-sys = \"0.1\"\n",
            "[dependencies]\nlower = { package = \"plywood-sys\", path = \"../sys\" }\n",
            "[dependencies.sys]\npath = \"../sys\"\n",
            "[target.'cfg(unix)'.dependencies]\nsys.workspace = true # why\n",
            "[build-dependencies]\nsys.workspace = true\n",
        ] {
            assert_eq!(refusals("union", manifest), 1, "{manifest}");
        }
    }

    #[test]
    fn tests_may_use_any_room() {
        assert_eq!(
            refusals(
                "union",
                "[dev-dependencies]\nsys.workspace = true\ntestkit.workspace = true\n"
            ),
            0
        );
        assert_eq!(
            refusals(
                "union",
                "[package]\nname = \"sys\"\n[features]\nfuse = []\n"
            ),
            0
        );
    }
}
