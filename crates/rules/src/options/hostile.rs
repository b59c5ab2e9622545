//! Input that means harm: no panic, no blow-up, whatever the bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

fn parse(options: &str) -> MountOptions {
    aufs::parse(options.as_ref()).unwrap_or_else(|error| panic!("{options}: {error}"))
}

/// Anything worse than linear would not end here.
#[test]
fn long_input_is_read_in_linear_time() {
    let list: Vec<String> = (0..100_000).map(|n| format!("/layers/{n}=ro+wh")).collect();
    assert_eq!(
        parse(&format!("br:{}", list.join(":"))).branches.len(),
        100_000
    );
    let list: Vec<String> = (0..100_000)
        .map(|n| format!("append:/layers/{n}=ro"))
        .collect();
    assert_eq!(parse(&list.join(",")).changes.len(), 100_000);
    for hostile in [
        ":",
        "=",
        ",",
        "\\",
        "br=",
        "br:",
        "lowerdir=",
        "context=\"",
        "a+",
        "\\:",
    ] {
        for prefix in [
            "",
            "br=",
            "br=a=rw+",
            "lowerdir=",
            "add=",
            "create=",
            "uidmapping=",
        ] {
            let options = prefix.to_owned() + &hostile.repeat(20_000);
            if let Err(error) = aufs::parse(options.as_ref()) {
                assert!(error.to_string().len() < 2000, "{prefix}{hostile}…");
            }
        }
    }
}

#[test]
fn paths_need_not_be_text() {
    let parsed = aufs::parse(OsStr::from_bytes(b"br=/\xff\xfe=rw:/\xc3")).unwrap();
    let paths: Vec<_> = parsed
        .branches
        .iter()
        .map(|spec| spec.path.as_os_str().as_bytes())
        .collect();
    assert_eq!(paths, [&b"/\xff\xfe"[..], b"/\xc3"]);
    assert!(aufs::parse(OsStr::from_bytes(b"\xff\xff\xff")).is_err());
}

#[test]
fn no_input_panics_and_what_is_read_can_be_shown() {
    const PIECES: [&[u8]; 40] = [
        b"br",
        b"br:",
        b"dirs=",
        b"add",
        b"mod",
        b"del:",
        b"append=",
        b"lowerdir",
        b"upperdir=",
        b"workdir=",
        b"lowerdir+=",
        b"create=",
        b"cpup=",
        b"udba=",
        b"xino=",
        b"rdblk=",
        b"mfs",
        b"tdmfs:",
        b"uidmapping=",
        b"context=\"",
        b"timeout=",
        b"compat=",
        b"aufs",
        b"overlay",
        b"ro",
        b"rw",
        b"+wh",
        b"=",
        b":",
        b",",
        b"\\",
        b"\"",
        b"+",
        b"/a",
        b"1",
        b"9999999999",
        b"\xff",
        b"\0",
        b"x-",
        b"noplink",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap_or(0) % below
    };
    let mut accepted = 0;
    for _ in 0..20_000 {
        let length = random(12);
        let bytes: Vec<u8> = (0..length)
            .flat_map(|_| PIECES[random(PIECES.len())].iter().copied())
            .collect();
        match aufs::parse(OsStr::from_bytes(&bytes)) {
            Ok(parsed) => {
                accepted += 1;
                let shown = parsed
                    .branches
                    .iter()
                    .map(|spec| (spec.path.as_path(), spec.mode.unwrap_or(BranchMode::RO)));
                let again = aufs::parse(&render::branch_option(shown));
                if let Ok(again) = again {
                    let paths = |options: &MountOptions| -> Vec<PathBuf> {
                        options
                            .branches
                            .iter()
                            .map(|spec| spec.path.clone())
                            .collect()
                    };
                    assert_eq!(paths(&again), paths(&parsed));
                } else {
                    assert!(parsed.branches.is_empty(), "{parsed:?}");
                }
            }
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
    assert!(accepted > 500, "only {accepted} inputs were accepted");
}
