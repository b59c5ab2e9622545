//! Caches above a union stay right, whatever happens below it.

mod mounted;
mod opening;
mod restacked;
mod watched;

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
        ..wish
    }
}
