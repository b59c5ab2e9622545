//! The laws of the union, tried on random stacks in memory.
//!
//! Each changing operation shows exactly what a plain directory would show after it; a refusal changes
//! nothing; a failure shows the state before or after; read-only branches are never written. A case that
//! breaks a law is printed as the branches in tree notation with the operation. Half of the random stacks whose branches nobody
//! else changes have a stored index of their lowest branches.

mod balance;
mod behind;
mod check;
mod client;
mod damage;
mod failing;
mod faults;
mod flatten;
mod full;
mod handles;
mod idle_files;
mod listings;
mod lower_permissions;
mod memory;
mod merge_down;
mod merging;
mod move_down;
mod numbers;
mod on_open;
mod operation;
mod outcomes;
mod plain;
mod regressions;
mod renamed;
mod sequences;
mod shown_marks;
mod stack;
mod stored;
mod threads;
mod times;
mod view;
mod xattr_classes;

use proptest::test_runner::{Config, RngSeed};

/// The same cases each time, unless `PROPTEST_RNG_SEED` asks for others; `PROPTEST_CASES` for more.
fn config(cases: u32) -> Config {
    let wish = Config::default();
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    Config {
        cases: if asked { wish.cases } else { cases },
        rng_seed: match wish.rng_seed {
            RngSeed::Random => RngSeed::Fixed(20_240_701),
            fixed => fixed,
        },
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..wish
    }
}

/// Returns the names in the root of a union.
fn listed(union: &stack::MemoryUnion) -> Vec<String> {
    let stream = union
        .open_dir(union::InodeId::ROOT)
        .expect("the root can be opened");
    let mut names = Vec::new();
    let mut sink = |listed: union::Listed<'_>| {
        names.push(String::from_utf8_lossy(listed.name).into_owned());
        true
    };
    union
        .read_dir(&stream, 2, false, &mut sink)
        .expect("the root can be read");
    names
}
