//! Options back into text, in the forms that AUFS shows and scripts read.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::mode::BranchMode;
use super::policy::{CopyUpPolicy, CreatePolicy};
use super::settings::{Compat, Dialect, DirectAccess, FreeSpace, InodeTable, Opacity, Settings};

/// Returns the options as AUFS lists them in /proc/mounts: those unlike AUFS's own defaults.
///
/// `session` is the number behind `si=`. Read back with `compat=aufs`, the text gives
/// the same behaviour, but for the path of `xino=`, which AUFS does not show either.
pub fn proc_mounts(settings: &Settings, session: Option<u64>) -> String {
    let plain = Settings::new(Compat::Aufs, Dialect::Aufs);
    let mut list = Vec::new();
    let mut flag = |shown: bool, word: &str| {
        if shown {
            list.push(word.to_owned());
        }
    };
    flag(settings.acl, "acl");
    flag(
        session.is_some(),
        &format!("si={:016x}", session.unwrap_or_default()),
    );
    flag(settings.inode_table == InodeTable::None, "noxino");
    flag(settings.compact_inode_table, "trunc_xino");
    flag(settings.direct_access == DirectAccess::None, "udba=none");
    flag(
        settings.direct_access == DirectAccess::Notify,
        "udba=notify",
    );
    flag(settings.show_whiteouts, "shwh");
    flag(!settings.pseudo_links, "noplink");
    flag(!settings.direct_io, "nodio");
    flag(settings.topmost_permissions, "dirperm1");
    flag(
        settings.create != CreatePolicy::default(),
        &format!("create={}", settings.create),
    );
    flag(settings.move_when_full, "moveonenospc");
    flag(
        settings.copy_up != CopyUpPolicy::default(),
        &format!("cpup={}", settings.copy_up),
    );
    flag(settings.opacity == Opacity::Always, "diropq=a");
    let mut number = |name: &str, value: u32, default: u32| {
        flag(value != default, &format!("{name}={value}"));
    };
    number(
        "dirwh",
        settings.whiteouts_removed_at_once,
        plain.whiteouts_removed_at_once,
    );
    number("rdcache", settings.listing_seconds, plain.listing_seconds);
    number("rdblk", settings.listing_block, plain.listing_block);
    number("rdhash", settings.listing_hash, plain.listing_hash);
    number("fhsm_sec", settings.fhsm_seconds, plain.fhsm_seconds);
    flag(settings.rename_directories, "dirren");
    flag(settings.free_space == FreeSpace::Sum, "sum");
    flag(!settings.warn_permissions, "nowarn_perm");
    flag(settings.verbose, "verbose");
    list.join(",")
}

/// Returns the content of a `brN` file, `path=perm`, without the end of line.
///
/// As in AUFS's sysfs files, blanks, control bytes and backslashes are in octal.
pub fn branch_line(path: &Path, mode: impl fmt::Display) -> OsString {
    let mut line = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            0..=b' ' | b'\\' | 0x7f => line.extend(format!("\\{byte:03o}").bytes()),
            _ => line.push(*byte),
        }
    }
    line.extend(format!("={mode}").bytes());
    OsString::from_vec(line)
}

/// Returns a `br:` option that names these branches again.
pub fn branch_option<'a>(branches: impl IntoIterator<Item = (&'a Path, BranchMode)>) -> OsString {
    let mut option = b"br".to_vec();
    for (path, mode) in branches {
        option.push(b':');
        for byte in path.as_os_str().as_bytes() {
            if matches!(byte, b',' | b':' | b'=' | b'\\') {
                option.push(b'\\');
            }
            option.push(*byte);
        }
        option.extend(format!("={mode}").bytes());
    }
    OsString::from_vec(option)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::aufs;

    fn shown(options: &str) -> String {
        let options = format!("compat=aufs,{options}");
        proc_mounts(&aufs::parse(options.as_ref()).unwrap().settings, None)
    }

    #[test]
    fn options_show_as_in_the_records_of_aufs() {
        let table = [
            // mount-18: defaults are not shown
            (
                "plink,udba=reval,diropq=w,dirwh=3,rdcache=10,warn_perm,nodirperm1,nosum,create=tdp,cpup=tdp",
                "",
            ),
            ("acl", "acl"),
            ("cpup=bottom-up", "cpup=bu"),
            ("cpup=bup", "cpup=bup"),
            ("create=most-free-space", "create=mfs"),
            ("create=mfs:60", "create=mfs:60"),
            ("create=mfsrr:1000", "create=mfsrr:1000"),
            ("create=mfsrr:1000:30", "create=mfsrr:1000:30"),
            ("create=pmfs:20", "create=pmfs:20"),
            ("create=pmfsrr:1000", "create=pmfsrr:1000"),
            ("create=round-robin", "create=rr"),
            ("create=tdmfs:1000:10", "create=tdmfs:1000:10"),
            (
                "category.create=epmfs,moveonenospc=true",
                "create=pmfs:0,moveonenospc",
            ),
            (
                "create=epmfs,moveonenospc,moveonenospc=false",
                "create=pmfs:0",
            ),
            ("category.create=mfs", "create=mfs:0"),
            ("diropq=always", "diropq=a"),
            ("dirren,noplink", "noplink,dirren"),
            ("noplink,shwh", "shwh,noplink"),
            ("xino=/x", ""),
            ("noxino", "noxino"),
            ("sum", "sum"),
            ("udba=fsnotify", "udba=notify"),
            (
                "verbose,nowarn_perm,rdhash=0,rdblk=0,rdcache=1,dirwh=0,nodio,trunc_xino,fhsm_sec=1",
                "trunc_xino,nodio,dirwh=0,rdcache=1,rdblk=0,rdhash=0,fhsm_sec=1,nowarn_perm,verbose",
            ),
        ];
        for (options, expected) in table {
            assert_eq!(shown(options), expected, "{options}");
            assert_eq!(shown(expected), expected, "{options}, read back");
        }
        let settings = aufs::parse("compat=aufs,acl,noxino".as_ref())
            .unwrap()
            .settings;
        assert_eq!(
            proc_mounts(&settings, Some(0xab12)),
            "acl,si=000000000000ab12,noxino"
        );
    }

    #[test]
    fn our_own_defaults_show_as_what_they_are_to_aufs() {
        let settings = aufs::parse("".as_ref()).unwrap().settings;
        assert_eq!(proc_mounts(&settings, None), "acl,dirperm1,dirren");
    }

    #[test]
    fn branches_show_one_a_line_and_are_read_back() {
        let line = branch_line(Path::new("/a b\\c\x7f"), BranchMode::RO_WH);
        assert_eq!(line, r"/a\040b\134c\177=ro+wh");
        let path = Path::new(r"/a:b,c=d\:e");
        let option = branch_option([(path, BranchMode::RW), (Path::new("/l"), BranchMode::RR)]);
        let parsed = aufs::parse(&option).unwrap();
        let found: Vec<_> = parsed
            .branches
            .iter()
            .map(|spec| (spec.path.as_path(), spec.mode))
            .collect();
        assert_eq!(
            found,
            [
                (path, Some(BranchMode::RW)),
                (Path::new("/l"), Some(BranchMode::RR))
            ]
        );
    }
}
