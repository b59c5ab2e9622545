//! The features of AUFS, one law each, through a real mount; `docs/features.md` lists them by the numbers named here.

mod copies;
mod copy_up;
mod directories;
mod export;
mod inodes;
mod links;
mod lookup;
mod open_files;
mod outside;
mod permissions;
mod placement;
mod policies;
mod rename;
mod rename_dir;
mod stack;
#[path = "../support/mod.rs"]
mod support;
mod whiteouts;
