//! What a branch may be used for: `rw`, `ro+wh`, `rr`, and the attributes.
//!
//! Wrong words never make a branch writable: an unknown permission is `ro`, an
//! attribute that does not fit is dropped, and both leave a warning in AUFS's words.

use std::fmt;

use super::word::printable;
use crate::stack::Powers;
pub use crate::stack::{CopyUpOnOpen, XattrClasses};

/// Whether a branch is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// `rw`: changes may land here.
    ReadWrite,
    /// `ro`: the union never writes here; somebody else may.
    ReadOnly,
    /// `rr`: nobody ever writes here, the medium itself is read-only.
    RealReadOnly,
}

/// A branch's permission with its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BranchMode {
    /// Whether the branch is written to.
    pub permission: Permission,
    /// `wh`: whiteouts on this read-only branch count. A writable branch's always do.
    pub whiteouts: bool,
    /// `nolwh`: whiteouts on this writable branch are files of their own, not hard links.
    pub no_link_whiteouts: bool,
    /// What opening a file here does first.
    pub copy_up_on_open: CopyUpOnOpen,
    /// `fhsm`: the branch takes part in hierarchical storage management.
    pub fhsm: bool,
    /// `icex…`: attributes whose failing copy onto this branch is no error.
    pub ignore_xattr_errors: XattrClasses,
}

impl BranchMode {
    /// `rw`
    pub const RW: Self = Self::plain(Permission::ReadWrite);
    /// `ro`
    pub const RO: Self = Self::plain(Permission::ReadOnly);
    /// `ro+wh`
    pub const RO_WH: Self = Self {
        whiteouts: true,
        ..Self::RO
    };
    /// `rr`
    pub const RR: Self = Self::plain(Permission::RealReadOnly);

    /// Returns a permission without attributes.
    pub const fn plain(permission: Permission) -> Self {
        Self {
            permission,
            whiteouts: false,
            no_link_whiteouts: false,
            copy_up_on_open: CopyUpOnOpen::Never,
            fhsm: false,
            ignore_xattr_errors: XattrClasses::NONE,
        }
    }

    /// Returns the mode of a branch that was named without one.
    ///
    /// `natively_read_only` is said of squashfs, iso9660, cramfs and romfs.
    pub fn default_for(index: usize, union_is_read_only: bool, natively_read_only: bool) -> Self {
        match (index, natively_read_only) {
            (_, true) => Self::RR,
            (0, false) if !union_is_read_only => Self::RW,
            _ => Self::RO,
        }
    }

    /// Tells whether changes may land here.
    pub fn is_writable(&self) -> bool {
        self.permission == Permission::ReadWrite
    }

    /// Returns what the rules need to know of the mode.
    pub fn powers(&self) -> Powers {
        let writable = self.is_writable();
        Powers {
            writable,
            whiteouts: writable || self.whiteouts,
            linked_whiteouts: writable && !self.no_link_whiteouts,
            copy_up_on_open: self.copy_up_on_open,
            ignored_xattrs: self.ignore_xattr_errors,
        }
    }

    /// Reads `ro+wh` and the like; what does not fit is dropped with a warning.
    ///
    /// ```
    /// use rules::options::BranchMode;
    /// let mut warnings = Vec::new();
    /// assert_eq!(BranchMode::parse(b"ro+wh", &mut warnings), BranchMode::RO_WH);
    /// assert!(warnings.is_empty());
    /// assert_eq!(BranchMode::parse(b"wr", &mut warnings), BranchMode::RO);
    /// assert_eq!(warnings, ["ignored branch permission wr"]);
    /// ```
    pub fn parse(text: &[u8], warnings: &mut Vec<String>) -> Self {
        let (permission, mut attributes) = cut_at_plus(text);
        let permission = match permission {
            b"rw" => Permission::ReadWrite,
            b"ro" => Permission::ReadOnly,
            b"rr" => Permission::RealReadOnly,
            _ => {
                if !text.is_empty() {
                    warnings.push(format!("ignored branch permission {}", printable(text)));
                }
                return Self::RO;
            }
        };
        let mut mode = Self::plain(permission);
        while let Some(rest) = attributes {
            let (attribute, after) = cut_at_plus(rest);
            match mode.take(attribute) {
                Fit::Taken => {}
                Fit::WrongClass => warn_attribute(attribute, warnings),
                Fit::Unknown => {
                    warn_attribute(rest, warnings);
                    break;
                }
            }
            attributes = after;
        }
        mode
    }

    fn take(&mut self, attribute: &[u8]) -> Fit {
        let writable = self.is_writable();
        match attribute {
            b"wh" if !writable => self.whiteouts = true,
            b"nolwh" if writable => self.no_link_whiteouts = true,
            b"moo" if writable => self.copy_up_on_open = CopyUpOnOpen::Move,
            b"wh" | b"nolwh" | b"moo" | b"unpin" => return Fit::WrongClass,
            b"coo_reg" => self.copy_up_on_open = CopyUpOnOpen::Regular,
            b"coo_all" => self.copy_up_on_open = CopyUpOnOpen::All,
            b"fhsm" => self.fhsm = true,
            _ => match XATTR_WORDS
                .iter()
                .find(|(word, _)| word.as_bytes() == attribute)
            {
                Some((_, class)) => {
                    self.ignore_xattr_errors = self.ignore_xattr_errors.union(*class);
                }
                None => return Fit::Unknown,
            },
        }
        Fit::Taken
    }
}

/// How an attribute fits a permission.
enum Fit {
    Taken,
    WrongClass,
    Unknown,
}

const XATTR_WORDS: [(&str, XattrClasses); 6] = [
    ("icex", XattrClasses::ALL),
    ("icexsec", XattrClasses::SECURITY),
    ("icexsys", XattrClasses::SYSTEM),
    ("icextr", XattrClasses::TRUSTED),
    ("icexusr", XattrClasses::USER),
    ("icexoth", XattrClasses::OTHER),
];

fn cut_at_plus(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == b'+') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

fn warn_attribute(attribute: &[u8], warnings: &mut Vec<String>) {
    warnings.push(format!("ignored branch attribute {}", printable(attribute)));
}

impl fmt::Display for BranchMode {
    /// Prints in the order of AUFS's sysfs files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.permission {
            Permission::ReadWrite => "rw",
            Permission::ReadOnly => "ro",
            Permission::RealReadOnly => "rr",
        })?;
        let on_open = self.copy_up_on_open;
        let mut attribute = |shown: bool, word: &str| match shown {
            true => write!(f, "+{word}"),
            false => Ok(()),
        };
        attribute(on_open == CopyUpOnOpen::Regular, "coo_reg")?;
        attribute(on_open == CopyUpOnOpen::All, "coo_all")?;
        attribute(self.fhsm, "fhsm")?;
        let all = self.ignore_xattr_errors == XattrClasses::ALL;
        for (word, class) in XATTR_WORDS {
            let shown = all == (class == XattrClasses::ALL);
            attribute(shown && self.ignore_xattr_errors.contains(class), word)?;
        }
        attribute(self.whiteouts, "wh")?;
        attribute(on_open == CopyUpOnOpen::Move, "moo")?;
        attribute(self.no_link_whiteouts, "nolwh")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_print_as_the_recorded_aufs_shows_them() {
        // The first rows are the oracle's mount-02.
        let table: &[(&str, &str, &[&str])] = &[
            ("ro+wh", "ro+wh", &[]),
            ("rr", "rr", &[]),
            ("rr+wh", "rr+wh", &[]),
            ("wh", "ro", &["ignored branch permission wh"]),
            ("rw", "rw", &[]),
            ("rw+nolwh", "rw+nolwh", &[]),
            ("ro+nolwh", "ro", &["ignored branch attribute nolwh"]),
            ("rw+wh", "rw", &["ignored branch attribute wh"]),
            ("foo", "ro", &["ignored branch permission foo"]),
            ("ro+coo_reg", "ro+coo_reg", &[]),
            ("ro+coo_all", "ro+coo_all", &[]),
            ("ro+unpin", "ro", &["ignored branch attribute unpin"]),
            ("ro+icex", "ro+icex", &[]),
            ("ro+icexsec+icexusr", "ro+icexsec+icexusr", &[]),
            ("rw+moo", "rw+moo", &[]),
            ("rw+fhsm", "rw+fhsm", &[]),
            ("", "ro", &[]),
            ("zz+wh", "ro", &["ignored branch permission zz+wh"]),
            (
                "ro+wh+x+fhsm",
                "ro+wh",
                &["ignored branch attribute x+fhsm"],
            ),
            ("ro+", "ro", &["ignored branch attribute "]),
            (
                "ro+moo+coo_reg",
                "ro+coo_reg",
                &["ignored branch attribute moo"],
            ),
            ("rw+moo+coo_reg", "rw+coo_reg", &[]),
            ("rw+coo_all+moo+nolwh", "rw+moo+nolwh", &[]),
            (
                "ro+wh+icexoth+icextr+fhsm+coo_all",
                "ro+coo_all+fhsm+icextr+icexoth+wh",
                &[],
            ),
            ("ro+icexsec+icexsys+icextr+icexusr+icexoth", "ro+icex", &[]),
        ];
        for (text, shown, expected) in table {
            let mut warnings = Vec::new();
            let mode = BranchMode::parse(text.as_bytes(), &mut warnings);
            assert_eq!(mode.to_string(), *shown, "{text}");
            assert_eq!(warnings, *expected, "{text}");
            let again = BranchMode::parse(mode.to_string().as_bytes(), &mut Vec::new());
            assert_eq!(again, mode, "{text}");
        }
    }

    #[test]
    fn only_the_topmost_branch_of_a_writable_union_is_writable_by_default() {
        let table = [
            (0, false, false, BranchMode::RW),
            (0, true, false, BranchMode::RO),
            (0, false, true, BranchMode::RR),
            (1, false, false, BranchMode::RO),
            (7, true, true, BranchMode::RR),
        ];
        for (index, read_only, native, mode) in table {
            assert_eq!(BranchMode::default_for(index, read_only, native), mode);
        }
    }

    #[test]
    fn a_mode_gives_the_powers_that_the_rules_know() {
        let powers = |text: &str| BranchMode::parse(text.as_bytes(), &mut Vec::new()).powers();
        assert_eq!(powers("rw"), Powers::WRITABLE);
        assert_eq!(
            powers("rw+nolwh"),
            Powers {
                linked_whiteouts: false,
                ..Powers::WRITABLE
            }
        );
        assert_eq!(powers("ro+wh"), Powers::LAYER);
        assert_eq!(powers("rr+wh"), Powers::LAYER);
        assert_eq!(powers("ro"), Powers::PLAIN);
        let parsed = powers("ro+coo_all+icexusr+icexoth");
        assert_eq!(parsed.copy_up_on_open, CopyUpOnOpen::All);
        let both = XattrClasses::USER.union(XattrClasses::OTHER);
        assert_eq!(parsed.ignored_xattrs, both);
    }
}
