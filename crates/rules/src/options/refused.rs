//! What is refused, what is accepted with a warning, and in which words.

use super::*;

fn parse(options: &str) -> MountOptions {
    aufs::parse(options.as_ref()).unwrap_or_else(|error| panic!("{options}: {error}"))
}

fn error(options: &str) -> String {
    match aufs::parse(options.as_ref()) {
        Err(error) => error.to_string(),
        Ok(parsed) => panic!("{options} was accepted: {parsed:?}"),
    }
}

#[test]
fn some_words_are_accepted_with_a_warning() {
    let table = [
        ("br=a=zz", "ignored branch permission zz"),
        ("br=a=rw+wh", "ignored branch attribute wh"),
        (
            "clean_plink",
            "ignored option clean_plink: use auplink MNT flush",
        ),
        ("wsum", "ignored option wsum: it was never implemented"),
        ("debug=1", "ignored option debug=1"),
        ("delete=all", "ignored option delete=all"),
        ("imap=x", "ignored option imap=x"),
        ("shwh", "shwh should be used with ro"),
        (
            "lowerdir=a,workdir=w",
            "ignored option workdir: there is no upperdir",
        ),
    ];
    for (options, warning) in table {
        assert_eq!(parse(options).warnings, [warning], "{options}");
    }
    for quiet in [
        "si=ab12cd34ef56",
        "nodlgt",
        "relatime",
        "shwh,ro",
        ",,",
        "trunc_xino=/b",
    ] {
        assert_eq!(parse(quiet).warnings, [""; 0], "{quiet}");
    }
}

#[test]
fn what_is_wrong_is_said_in_one_fragment() {
    let table = [
        ("foo", r#"unknown option "foo""#),
        ("nonsense=1", r#"unknown option "nonsense=1""#),
        (
            "ubda=none",
            r#"unknown option "ubda=none"; did you mean "udba"?"#,
        ),
        (
            "udbs=none",
            r#"unknown option "udbs=none"; did you mean "udba"?"#,
        ),
        (
            "lowrdir=/a",
            r#"unknown option "lowrdir=/a"; did you mean "lowerdir"?"#,
        ),
        ("dirs:/a", r#"unknown option "dirs:/a""#),
        ("refrof", r#"unknown option "refrof""#),
        ("=", r#"unknown option "=""#),
        ("br=", r#""br=": needs a value"#),
        ("br", r#""br": needs a value"#),
        ("br=:", r#"branch "": empty path"#),
        ("mod=/b1", r#""mod=/b1": expected PATH=permission"#),
        ("add=/b1", r#""add=/b1": expected INDEX:PATH[=permission]"#),
        (
            "add:-1:/b1",
            r#""add:-1:/b1": expected INDEX:PATH[=permission]"#,
        ),
        ("plink=1", r#""plink=1": takes no value"#),
        ("udba", r#""udba": needs a value"#),
        (
            "udba=x",
            r#""udba=x": no such value; known: none, reval, notify, fsnotify"#,
        ),
        (
            "create=xyz",
            r#""create=xyz": no such policy; known: tdp, rr, mfs, mfsrr, tdmfs, pmfs, pmfsrr"#,
        ),
        ("create=", r#""create=": needs a value"#),
        (
            "create=mfsrr",
            r#""create=mfsrr": expected mfsrr:BYTES[:SECONDS]"#,
        ),
        (
            "create=tdmfs",
            r#""create=tdmfs": expected tdmfs:BYTES[:SECONDS]"#,
        ),
        (
            "create=mfs:3601",
            r#""create=mfs:3601": expected at most 3600 seconds"#,
        ),
        (
            "create=tdp:1",
            r#""create=tdp:1": expected a policy without parameters"#,
        ),
        (
            "create=mfsrr:1:2:3",
            r#""create=mfsrr:1:2:3": expected mfsrr:BYTES[:SECONDS]"#,
        ),
        (
            "category.create=ff",
            r#""category.create=ff": a policy of mergerfs; the nearest here is tdmfs:BYTES"#,
        ),
        (
            "create=eprand",
            r#""create=eprand": a policy of mergerfs; the nearest here is rr"#,
        ),
        (
            "category.create=tdp",
            r#""category.create=tdp": no such policy; known: mfs, epmfs"#,
        ),
        (
            "moveonenospc=pfrd",
            r#""moveonenospc=pfrd": expected true, false or mfs: a file moves to the branch with the most free space"#,
        ),
        (
            "minfreespace=4G",
            r#""minfreespace=4G": the policy says it: create=tdmfs:BYTES, mfsrr:BYTES or pmfsrr:BYTES"#,
        ),
        (
            "rdcache=9999",
            r#""rdcache=9999": expected at most 3600 seconds"#,
        ),
        (
            "rdblk=100",
            r#""rdblk=100": expected 0, or at least 255 bytes"#,
        ),
        ("dirwh=+3", r#""dirwh=+3": expected a number"#),
        (
            "timeout=-1",
            r#""timeout=-1": expected a number of seconds"#,
        ),
        (
            "timeout=nan",
            r#""timeout=nan": expected a number of seconds"#,
        ),
        (
            "uidmapping=1:2",
            r#""uidmapping=1:2": expected FROM:TO:COUNT, repeated"#,
        ),
        (
            "gidmapping=0:4294967295:2",
            r#""gidmapping=0:4294967295:2": expected ranges of at least one id, up to 4294967295"#,
        ),
        (
            "plugins=x",
            r#""plugins=x": plugins of fuse-overlayfs are not supported"#,
        ),
        (
            "lowerdir=a::b",
            r#""lowerdir=a::b": data-only layers ("::") are not supported"#,
        ),
        ("lowerdir=:a", r#"branch "lowerdir=:a": empty path"#),
        (
            "upperdir=u,workdir=w",
            r#""upperdir=u": needs lowerdir= as well"#,
        ),
        (
            "compat=zfs",
            r#""compat=zfs": no such value; known: aufs, overlay, plywood"#,
        ),
    ];
    for (options, expected) in table {
        assert_eq!(error(options), expected, "{options}");
    }
    assert!(error("br=a,lowerdir=b").contains("use one of the two"));
    assert!(error("append=a,lowerdir=b").contains("use one of the two"));
}

#[test]
fn every_known_word_is_taken_by_its_grammar() {
    let lists = [
        WORDS,
        branch::WORDS,
        aufs::WORDS,
        overlay::WORDS,
        generic::WORDS,
        generic::IGNORED,
    ];
    for name in lists.into_iter().flatten() {
        for options in [name.to_string(), format!("{name}=1")] {
            for parsed in [
                aufs::parse(options.as_ref()),
                overlay::parse(options.as_ref()),
            ] {
                let unknown = matches!(parsed, Err(OptionError::Unknown { .. }));
                assert!(!unknown, "{options}: {parsed:?}");
            }
        }
    }
}
