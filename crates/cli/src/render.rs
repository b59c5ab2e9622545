//! What people and scripts read.

pub(crate) mod aufs_sysfs;
pub(crate) mod branches;
pub(crate) mod busy;
pub(crate) mod path_text;
pub(crate) mod scan;
pub(crate) mod status;
pub(crate) mod which;
