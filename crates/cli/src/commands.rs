//! One file per verb.

pub(crate) mod aubrsync;
pub(crate) mod auplink;
pub(crate) mod balance;
pub(crate) mod branch;
pub(crate) mod busy;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod index;
pub(crate) mod install_helpers;
pub(crate) mod man;
pub(crate) mod merge_down;
pub(crate) mod mount;
pub(crate) mod mount_front;
pub(crate) mod mvdown;
pub(crate) mod status;
pub(crate) mod umount;
pub(crate) mod which;
