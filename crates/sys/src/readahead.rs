//! How far the kernel reads ahead on a mount.

use rules::Errno;

use crate::errno::IntoErrno;
use crate::mount_table::DeviceNumber;

/// Sets how many KiB the kernel reads ahead on the filesystem with this number.
///
/// Failing is harmless: reading is slower then.
pub fn set(device: DeviceNumber, kib: u32) -> Result<(), Errno> {
    let DeviceNumber { major, minor } = device;
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    std::fs::write(path, kib.to_string()).errno()
}
