//! What the options may ask for and this version cannot do.
//!
//! Saying so is better than a mount that behaves otherwise than its options say.
//! Options that only tune AUFS's implementation are not here: leaving them out changes nothing.

use std::ffi::OsStr;

use rules::options::MountOptions;

use super::request::says;
use crate::failure::Failure;

/// Refuses what is not supported yet.
pub(crate) fn refuse(options: &OsStr, parsed: &MountOptions) -> Result<(), Failure> {
    let settings = &parsed.settings;
    if settings.rename_directories && says(options, "redirect_dir=on") {
        return Err(not_yet("redirect_dir=on"));
    }
    Ok(())
}

fn not_yet(what: &str) -> Failure {
    Failure::mount(format!("{what} is not supported yet")).hint("leave it out")
}
