//! How the program is linked.
//!
//! Its code and tables stand at fixed addresses where the GNU C library starts it. Then nothing in it depends on where it was
//! loaded, and hundreds of servers share all of its pages; moving the tables would cost each of them 80 KiB, and some time
//! at the start. What is lost is that the addresses of the program's own code cannot be guessed; those of
//! libraries, heap and stacks still cannot. Who wants that back builds with `PLYWOOD_PIE=1`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PLYWOOD_PIE");
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    // Where the C library is linked in as well, the linker is told otherwise.
    let is_static = target("FEATURE")
        .split(',')
        .any(|feature| feature == "crt-static");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let wants_pie = env::var_os("PLYWOOD_PIE").is_some_and(|value| !value.is_empty());
    if target("OS") == "linux" && target("ENV") == "gnu" && is_release && !is_static && !wants_pie {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
