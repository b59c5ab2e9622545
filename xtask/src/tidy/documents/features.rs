//! The list of features: `docs/features.md`.
//!
//! Each row of its table is `| number | feature | C | L | P | settled by |`. Numbers run from 1 without a gap, the three
//! priorities are M, S, N or –, and the last cell is a row of brackets as in `docs/semantics.md`, or
//! `[out of reach: why]`.

use std::path::Path;

use super::{Evidence, Finding};

pub(super) const PATH: &str = "docs/features.md";
const PRIORITIES: &[&str] = &["M", "S", "N", "–"];

pub(super) fn check(text: &str, evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut number = 0;
    for (index, line) in text.lines().enumerate() {
        if !line.starts_with('|') || line.starts_with("|---") {
            continue;
        }
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells.first() == Some(&"#") {
            continue;
        }
        number += 1;
        for message in faults(&cells, number, evidence) {
            findings.push(Finding::new(Path::new(PATH), index + 1, message));
        }
    }
    findings
}

fn faults(cells: &[&str], number: usize, evidence: &Evidence) -> Vec<String> {
    let [shown, feature, container, live, pool, settled] = cells else {
        return vec!["a row has six cells".to_owned()];
    };
    let mut faults = Vec::new();
    if *shown != number.to_string() {
        faults.push(format!("the next row is {number}, not {shown}"));
    }
    if feature.is_empty() {
        faults.push("the row does not say which feature it is about".to_owned());
    }
    let mut priorities = [container, live, pool].into_iter();
    if !priorities.all(|priority| PRIORITIES.contains(priority)) {
        faults.push(format!("priorities are {}", PRIORITIES.join(", ")));
    }
    let brackets = settled
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let Some(brackets) = brackets else {
        faults.push("the last cell names what settles the row: `[test: name]`, `[oracle: script]`, `[suite: name]` or `[out of reach: why]`".to_owned());
        return faults;
    };
    for bracket in brackets.split("] [") {
        match bracket.split_once(':') {
            Some((what @ ("test" | "oracle" | "suite"), named)) => {
                let missing = evidence.missing(what, named);
                faults.extend(missing.map(|name| format!("there is no {what} `{name}`")));
            }
            Some(("out of reach", why)) if why.split_whitespace().count() > 2 => {}
            _ => faults.push(format!("`[{bracket}]` settles nothing")),
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_row_has_its_number_its_priorities_and_what_settles_it() {
        let set = |name: &str| BTreeSet::from([name.to_owned()]);
        let evidence = Evidence {
            tests: set("hides"),
            scripts: set("unlink-01"),
            suites: set("crash"),
        };
        let head =
            "Words.\n\n| # | feature | C | L | P | settled by |\n|---|---|---|---|---|---|\n";
        for (rows, expected) in [
            ("| 1 | Hides | M | – | N | [test: hides] |", 0),
            (
                "| 1 | Hides | M | S | N | [test: hides] [oracle: unlink-01] [suite: crash] |",
                0,
            ),
            (
                "| 1 | Hides | M | S | N | [out of reach: the kernel says no] |",
                0,
            ),
            (
                "| 1 | Hides | M | S | N | [test: hides] |\n| 2 | Shows | M | S | N | [test: hides] |",
                0,
            ),
            (
                "| 1 | Hides | M | S | N | [test: hides] |\n| 3 | Shows | M | S | N | [test: hides] |",
                1,
            ),
            ("| 1 | Hides | M | S | X | [test: hides] |", 1),
            ("| 1 | | M | S | N | [test: hides] |", 1),
            ("| 1 | Hides | M | S | [test: hides] |", 1),
            ("| 1 | Hides | M | S | N | |", 1),
            ("| 1 | Hides | M | S | N | hides |", 1),
            ("| 1 | Hides | M | S | N | [test: hides, shows] |", 1),
            (
                "| 1 | Hides | M | S | N | [test: hides] [oracle: unlink-02] |",
                1,
            ),
            ("| 1 | Hides | M | S | N | [out of reach: no] |", 1),
            ("| 1 | Hides | M | S | N | [somewhere: hides] |", 1),
        ] {
            assert_eq!(
                check(&format!("{head}{rows}"), &evidence).len(),
                expected,
                "{rows}"
            );
        }
    }
}
