//! FUSE over io_uring, which the kernel offers to new mounts only while it is switched on.

use std::fs::{self, File};

use crate::mount_guard::is_skipped;

const SWITCH: &str = "/sys/module/fuse/parameters/enable_uring";

/// Mounts while the kernel offers io_uring, switched on for as long as that takes if it is off; returns nothing
/// only when skipping was asked for. What is mounted keeps it.
///
/// # Panics
///
/// When the kernel has none, or it cannot be switched on.
#[track_caller]
pub fn while_io_uring_is_offered<T>(mount: impl FnOnce() -> T) -> Option<T> {
    // Other tests switch it on and off as well.
    let lock = File::create(std::env::temp_dir().join("plywood-enable-uring.lock"));
    let lock = lock.unwrap_or_else(|error| panic!("cannot lock the switch: {error}"));
    lock.lock()
        .unwrap_or_else(|error| panic!("cannot lock the switch: {error}"));
    match switch_on() {
        Ok(_guard) => Some(mount()),
        Err(_) if is_skipped() => None,
        Err(error) => panic!(
            "this test needs {SWITCH} to be Y, and that cannot be written: {error}; set PLYWOOD_SKIP_MOUNTED=1 to skip it"
        ),
    }
}

fn switch_on() -> std::io::Result<SwitchBack> {
    let before = fs::read_to_string(SWITCH)?;
    if before.trim() == "Y" {
        return Ok(SwitchBack(None));
    }
    fs::write(SWITCH, "Y")?;
    Ok(SwitchBack(Some(before)))
}

/// What the switch was before.
struct SwitchBack(Option<String>);

impl Drop for SwitchBack {
    fn drop(&mut self) {
        if let Some(before) = &self.0
            && let Err(error) = fs::write(SWITCH, before)
        {
            eprintln!("{SWITCH} stays on: {error}");
        }
    }
}
