//! Whole command lines as they occur in the wild, and what they come to mean.

use std::time::Duration;

use super::*;

fn parse(options: &str) -> MountOptions {
    aufs::parse(options.as_ref()).unwrap_or_else(|error| panic!("{options}: {error}"))
}

fn branch(spec: &BranchSpec) -> String {
    let mode = spec.mode.map_or("-".into(), |mode| mode.to_string());
    format!("{}={mode}", spec.path.display())
}

fn branches(parsed: &MountOptions) -> Vec<String> {
    parsed.branches.iter().map(branch).collect()
}

fn changes(parsed: &MountOptions) -> Vec<String> {
    let shown = |change: &BranchChange| match change {
        BranchChange::Insert {
            index,
            branch: spec,
        } => format!("add {index} {}", branch(spec)),
        BranchChange::Append(spec) => format!("append {}", branch(spec)),
        BranchChange::Prepend(spec) => format!("prepend {}", branch(spec)),
        BranchChange::Delete(path) => format!("del {}", path.display()),
        BranchChange::SetMode { path, mode } => format!("mod {}={mode}", path.display()),
    };
    parsed.changes.iter().map(shown).collect()
}

#[test]
fn command_lines_that_name_branches_work_unchanged() {
    let table: &[(&str, &[&str])] = &[
        // Slax, Puppy, Docker
        ("xino=/.xino,trunc_xino,br=/changes", &["/changes=-"]),
        (
            "udba=reval,diropq=w,br=/mnt/tmpfs/pup_rw=rw,xino=/mnt/tmpfs/.aufs.xino",
            &["/mnt/tmpfs/pup_rw=rw"],
        ),
        (
            "br:DIFF=rw:P1=ro+wh:P2=ro+wh,dio,xino=/dev/shm/aufs.xino,dirperm1",
            &["DIFF=rw", "P1=ro+wh", "P2=ro+wh"],
        ),
        // the three spellings
        (
            "br=./Branch-0:./Branch-1",
            &["./Branch-0=-", "./Branch-1=-"],
        ),
        (
            "br:./Branch-0:./Branch-1",
            &["./Branch-0=-", "./Branch-1=-"],
        ),
        (
            "dirs=./Branch-0:./Branch-1",
            &["./Branch-0=-", "./Branch-1=-"],
        ),
        ("br=/a,br:/b=ro,dirs=/c", &["/a=-", "/b=ro", "/c=-"]),
        // podman, podman without an upper directory, docker
        (
            "lowerdir=R/overlay/l/L1:R/overlay/l/L2,upperdir=R/overlay/ID/diff,\
             workdir=R/overlay/ID/work,,volatile",
            &[
                "R/overlay/ID/diff=rw",
                "R/overlay/l/L1=ro+wh",
                "R/overlay/l/L2=ro+wh",
            ],
        ),
        (
            "lowerdir=R/overlay/ID/diff:R/overlay/ID/empty",
            &["R/overlay/ID/diff=ro+wh", "R/overlay/ID/empty=ro+wh"],
        ),
        (
            "lowerdir=R/l/A:R/l/B,upperdir=u,workdir=w",
            &["u=rw", "R/l/A=ro+wh", "R/l/B=ro+wh"],
        ),
        (
            r"lowerdir=/a\:b:/c\,d,lowerdir+=/e:f",
            &["/a:b=ro+wh", "/c,d=ro+wh", "/e:f=ro+wh"],
        ),
    ];
    for (options, expected) in table {
        let parsed = parse(options);
        assert_eq!(branches(&parsed), *expected, "{options}");
        assert_eq!(parsed.warnings, [""; 0], "{options}");
    }
}

#[test]
fn command_lines_that_change_a_mount_work_unchanged() {
    let table: &[(&str, &[&str])] = &[
        ("remount,add:1:/m.sb=rr+wh", &["add 1 /m.sb=rr+wh"]),
        ("remount,verbose,del:/m", &["del /m"]),
        ("remount,mod:/br0=ro", &["mod /br0=ro"]),
        ("remount,append:X=rr", &["append X=rr"]),
        ("remount,add:1:X=ro+wh", &["add 1 X=ro+wh"]),
        (
            "remount,prepend:S=rw,mod:T=ro,del:T",
            &["prepend S=rw", "mod T=ro", "del T"],
        ),
        (
            "remount,add:1:/memory/images/x.xzm=rr",
            &["add 1 /memory/images/x.xzm=rr"],
        ),
        ("remount,udba=notify", &[]),
        ("remount,ro", &[]),
        (
            "remount,append=X=ro+wh,ins=2:Y,add=0:Z",
            &["append X=ro+wh", "add 2 Y=-", "add 0 Z=-"],
        ),
        (
            "remount,del=/a=b,mod=/a\\=b=rw",
            &["del /a=b", "mod /a=b=rw"],
        ),
    ];
    for (options, expected) in table {
        let parsed = parse(options);
        assert!(parsed.generic.remount, "{options}");
        assert_eq!(changes(&parsed), *expected, "{options}");
    }
}

#[test]
fn the_container_engines_words_are_kept() {
    let parsed = overlay::parse(
        "lowerdir=a:b,upperdir=u,workdir=w,uidmapping=0:1000:1:1:110000:65536,gidmapping=0:5:2,\
         squash_to_uid=7,squash_to_gid=8,squash_to_root,xattr_permissions=2,static_nlink,noacl,\
         timeout=0.5,threaded=0,redirect_dir=off,index=on,metacopy=on,nfs_export=off,xino=off,\
         userxattr,context=\"u:r:t:s0:c1,c2\",fsync=0,nodev,nopassthrough"
            .as_ref(),
    )
    .unwrap();
    let range = |from, to, count| IdRange { from, to, count };
    let settings = &parsed.settings;
    assert_eq!(
        settings.owners.users,
        [range(0, 1000, 1), range(1, 110_000, 65_536)]
    );
    assert_eq!(settings.owners.groups, [range(0, 5, 2)]);
    assert_eq!(
        (settings.owners.squash_to_uid, settings.owners.squash_to_gid),
        (Some(7), Some(8))
    );
    assert!(settings.owners.squash_to_root && settings.static_link_count && settings.user_xattr);
    assert!(settings.volatile && !settings.acl && !settings.rename_directories);
    assert_eq!(settings.override_stat, OverrideStat::User);
    assert_eq!(settings.inode_table, InodeTable::None);
    assert_eq!(parsed.work.as_deref(), Some("w".as_ref()));
    let generic = &parsed.generic;
    assert!(generic.single_threaded && generic.no_devices && !generic.read_only);
    assert!(generic.no_passthrough);
    assert_eq!(generic.timeouts.entry, Some(Duration::from_millis(500)));
    assert_eq!(generic.security_contexts, ["context=\"u:r:t:s0:c1,c2\""]);
    assert!(
        parse("lowerdir=a:b").generic.read_only,
        "nothing to write to"
    );
}

#[test]
fn defaults_follow_compat_and_words_are_stronger_wherever_they_stand() {
    use DirectAccess::{None, Notify, Revalidate};
    use {Compat as C, Dialect as D};
    // compat, dialect, udba, and dirren, dirperm1, acl
    let table = [
        ("", C::Plywood, D::Aufs, Revalidate, [true, true, true]),
        ("br=a", C::Plywood, D::Aufs, Revalidate, [true, true, true]),
        (
            "br=a,compat=aufs",
            C::Aufs,
            D::Aufs,
            Revalidate,
            [false, false, false],
        ),
        (
            "dirren,compat=aufs,acl",
            C::Aufs,
            D::Aufs,
            Revalidate,
            [true, false, true],
        ),
        (
            "compat=aufs,udba=none,dirperm1",
            C::Aufs,
            D::Aufs,
            None,
            [false, true, false],
        ),
        (
            "nodirren,noacl",
            C::Plywood,
            D::Aufs,
            Revalidate,
            [false, true, false],
        ),
        (
            "lowerdir=a",
            C::Overlay,
            D::Overlay,
            None,
            [true, true, true],
        ),
        (
            "udba=notify,lowerdir=a,noacl",
            C::Overlay,
            D::Overlay,
            Notify,
            [true, true, false],
        ),
        (
            "br=a,compat=overlay",
            C::Overlay,
            D::Overlay,
            None,
            [true, true, true],
        ),
        (
            "lowerdir=a,compat=aufs",
            C::Aufs,
            D::Aufs,
            Revalidate,
            [false, false, false],
        ),
        (
            "lowerdir=a,compat=plywood",
            C::Plywood,
            D::Overlay,
            None,
            [true, true, true],
        ),
    ];
    for (options, compat, dialect, udba, flags) in table {
        let parsed = parse(options);
        let found = &parsed.settings;
        assert_eq!(
            (found.compat, parsed.dialect),
            (compat, dialect),
            "{options}"
        );
        assert_eq!(found.direct_access, udba, "{options}");
        let found_flags = [
            found.rename_directories,
            found.topmost_permissions,
            found.acl,
        ];
        assert_eq!(found_flags, flags, "{options}");
    }
    assert_eq!(
        overlay::parse("".as_ref()).unwrap().settings.compat,
        C::Overlay
    );
    assert!(parse("compat=aufs").settings.revalidates_exactly());
    assert!(
        parse("compat=aufs,udba=notify")
            .settings
            .revalidates_exactly()
    );
    assert!(
        !parse("compat=aufs,udba=none")
            .settings
            .revalidates_exactly()
    );
    assert!(!parse("").settings.revalidates_exactly());
}

#[test]
fn generic_words_mean_what_mount_says() {
    let generic = parse(
        "defaults,noauto,user=joe,exec,nofail,_netdev,x-systemd.automount,comment=a=b,ro,rw,ro,\
         noatime,nodiratime,lazytime,sync,async,dirsync,allow_other,default_permissions,\
         fsname=my\\,disk,subtype=aufs,max_read=131072,memory_limit=64M,entry_timeout=1,negative_timeout=2.5,\
         ac_attr_timeout=0,kernel_cache,big_writes,debug,nonempty,silent,quiet",
    )
    .generic;
    let expected = Generic {
        read_only: true,
        no_suid: true,
        no_devices: true,
        access_times: AccessTimes::Never,
        no_directory_access_times: true,
        lazy_times: true,
        synchronous_directories: true,
        allow_other: true,
        default_permissions: true,
        debug: true,
        source: Some("my,disk".into()),
        subtype: Some("aufs".into()),
        max_read: Some(131_072),
        memory_limit: Some(64 << 20),
        timeouts: Timeouts {
            entry: Some(Duration::from_secs(1)),
            attributes: None,
            negative: Some(Duration::from_millis(2500)),
        },
        ..Generic::default()
    };
    assert_eq!(generic, expected);
}
