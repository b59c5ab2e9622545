//! What is read of an image here is what went into it, and what the kernel shows of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use rules::{Errno, Kind, Name, Time};
use sys::image::{self, ImageKind};
use sys::{BranchTree, HostTree};
use tree::{Access, Object, Seek, Tree, XattrHow};

/// What a tree shows under a path.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    kind: Kind,
    perm: u32,
    owner: (u32, u32),
    rdev: u64,
    nlink: u32,
    size: u64,
    mtime: Time,
    contents: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Another path that is the same file.
    first: Option<String>,
}

type View = BTreeMap<String, Shown>;

fn draw(tree: &impl Tree) -> View {
    let mut view = View::new();
    let mut inodes = BTreeMap::new();
    draw_dir(tree, &tree.root().unwrap(), "", &mut view, &mut inodes);
    view
}

fn draw_dir<T: Tree>(
    tree: &T,
    dir: &T::Dir,
    path: &str,
    view: &mut View,
    inodes: &mut BTreeMap<u64, String>,
) {
    show(tree, Object::Dir(dir), path, Vec::new(), view, inodes);
    for entry in tree.list(dir).unwrap() {
        let name = &entry.name;
        let path = format!("{path}/{}", name.as_os_str().to_str().unwrap());
        let attr = tree.look(dir, name).unwrap().unwrap();
        assert!(entry.kind.is_none_or(|kind| kind == attr.kind), "{path}");
        assert_eq!(entry.ino, attr.ino, "{path}");
        match attr.kind {
            Kind::Dir => {
                let inner = tree.open_dir(dir, name).unwrap();
                draw_dir(tree, &inner, &path, view, inodes);
                continue;
            }
            Kind::File => {
                let file = tree.open_file(dir, name, Access::Read);
                let file = file.unwrap_or_else(|errno| panic!("{path}: {errno}"));
                let mut contents = vec![0; attr.size as usize + 1];
                let length = tree.read(&file, &mut contents, 0).unwrap();
                contents.truncate(length);
                let open = tree.attr(Object::File(&file)).unwrap();
                assert_eq!((open.ino, open.size), (attr.ino, attr.size), "{path}");
                show(
                    tree,
                    Object::Entry(dir, name),
                    &path,
                    contents,
                    view,
                    inodes,
                );
            }
            Kind::Symlink => {
                let target = tree.read_link(dir, name).unwrap();
                show(tree, Object::Entry(dir, name), &path, target, view, inodes);
            }
            _ => show(
                tree,
                Object::Entry(dir, name),
                &path,
                Vec::new(),
                view,
                inodes,
            ),
        }
    }
}

fn show<T: Tree>(
    tree: &T,
    object: Object<'_, T>,
    path: &str,
    contents: Vec<u8>,
    view: &mut View,
    inodes: &mut BTreeMap<u64, String>,
) {
    let attr = tree.attr(object).unwrap();
    let first = inodes.entry(attr.ino).or_insert_with(|| path.to_owned());
    let xattrs = tree.xattr_names(object).unwrap().into_iter().map(|name| {
        let value = tree.xattr(object, &name).unwrap();
        (name, value)
    });
    let shown = Shown {
        kind: attr.kind,
        perm: attr.perm,
        owner: (attr.uid, attr.gid),
        rdev: attr.rdev,
        nlink: attr.nlink,
        size: attr.size,
        mtime: attr.mtime,
        contents,
        xattrs: xattrs.collect(),
        first: (first != path).then(|| first.clone()),
    };
    view.insert(path.to_owned(), shown);
}

#[track_caller]
fn run(dir: &Path, line: &str) {
    let done = Command::new("timeout")
        .args(["-s", "KILL", "30", "sh", "-ec", line])
        .current_dir(dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{line}: {said}");
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Makes a tree with something of everything.
fn plant(top: &Path) {
    fs::create_dir_all(top.join("dir/sub")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(top.join(name), bytes).unwrap();
    write("empty", b"");
    write("small", b"a few words");
    write("exec", b"#!/bin/sh\necho run\n");
    write("dir/.wh.gone", b"");
    write("noise", &noise(300_000));
    let text = "the quick brown fox jumps over the lazy dog\n".repeat(20_000);
    write("text", text.as_bytes());
    let mixed = [text.as_bytes(), &noise(100_000), &[0; 200_000], b"end"].concat();
    write("mixed", &mixed);
    write("blocks", &noise(131_072 * 2));
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.write_all_at(b"x", 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    fs::hard_link(top.join("text"), top.join("dir/same")).unwrap();
    for number in 0..700 {
        write(&format!("dir/sub/a-rather-long-name-{number}"), b"");
    }
    symlink("../small", top.join("dir/link")).unwrap();
    symlink(format!("/{}end", "long/".repeat(40)), top.join("long")).unwrap();
    run(
        top,
        "mknod null c 1 3; mknod disk b 259 70000; mkfifo pipe; chmod 4755 exec; chmod 1777 dir
        setfattr -n user.note -v hello small; setfattr -n trusted.t -v x small
        setfattr -n security.s -v y dir; setfattr -n user.note -v hello dir
        setfattr -n user.long -v $(printf %01000d 5) text
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'",
    );
    lchown(top.join("small"), Some(1000), Some(100_000)).unwrap();
    fs::set_permissions(top.join("small"), fs::Permissions::from_mode(0o640)).unwrap();
    let past = UNIX_EPOCH + Duration::from_secs(1_000_000_007);
    File::open(top.join("small"))
        .unwrap()
        .set_modified(past)
        .unwrap();
}

fn planted() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    plant(&dir.path().join("tree"));
    dir
}

fn read(dir: &Path, kind: ImageKind) -> BranchTree {
    let file = File::open(dir.join("image")).unwrap();
    assert_eq!(image::kind_of(&file), Some(kind));
    BranchTree::read_image(file, kind, dir).unwrap()
}

/// Compares path by path, so that a failure can be read.
#[track_caller]
fn same(how: &str, ours: &View, theirs: &View) {
    let paths = |view: &View| view.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(ours), paths(theirs), "{how}");
    for (path, shown) in ours {
        let other = &theirs[path];
        if shown.contents != other.contents {
            let at = shown.contents.iter().zip(&other.contents);
            let at = at.take_while(|(a, b)| a == b).count();
            let some = |bytes: &[u8]| bytes[at..(at + 16).min(bytes.len())].to_vec();
            let (ours, theirs) = (some(&shown.contents), some(&other.contents));
            panic!("{how}: {path}: contents differ at {at}: {ours:?}, {theirs:?}");
        }
        assert_eq!(shown, other, "{how}: {path}");
    }
}

#[track_caller]
fn as_the_kernel(dir: &Path, pack: &str, kind: ImageKind) {
    // A new file each time: the kernel may still hold blocks of the last one.
    run(dir, &format!("rm -f image; {pack}"));
    println!("{pack}");
    let file = File::open(dir.join("image")).unwrap();
    let root = image::open(&file, kind).unwrap();
    let theirs = draw(&HostTree::at(root));
    same(pack, &draw(&read(dir, kind)), &theirs);
}

#[test]
fn a_squashfs_image_shows_what_the_kernel_shows_of_it() {
    let dir = planted();
    for how in [
        "-comp gzip",
        "-comp xz",
        "-comp xz -Xbcj x86",
        "-comp lz4",
        "-comp zstd -b 1M",
        "-comp zstd -Xcompression-level 22",
        "-noI -noD -noF -noX",
        "-no-fragments -b 4096",
        "-always-use-fragments",
        "-no-xattrs -no-exports -all-root",
    ] {
        let pack = format!("mksquashfs tree image -noappend -quiet -no-progress {how}");
        as_the_kernel(dir.path(), &pack, ImageKind::Squashfs);
    }
}

#[test]
fn an_erofs_image_shows_what_the_kernel_shows_of_it() {
    let dir = planted();
    for how in [
        "",
        "-x1",
        "-zlz4",
        "-zlz4hc",
        "-zlz4 -C65536",
        "-zlz4hc,12 -C1048576 -E legacy-compress",
        "--chunksize=4096",
        "-E force-inode-compact -zlz4 --all-root --ignore-mtime",
        "-E force-inode-extended",
        "-E noinline_data",
    ] {
        let pack = format!("mkfs.erofs --quiet {how} image tree");
        as_the_kernel(dir.path(), &pack, ImageKind::Erofs);
    }
}

#[test]
fn an_iso_image_with_rock_ridge_shows_what_went_into_it() {
    let dir = planted();
    let deep = dir.path().join("tree/1/2/3/4/5/6/7/8/9/10");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "deep").unwrap();
    run(
        dir.path(),
        "genisoimage -quiet -R -J -o image tree 2>/dev/null",
    );
    let mut there = draw(&HostTree::open(&dir.path().join("tree")).unwrap());
    let mut ours = draw(&read(dir.path(), ImageKind::Iso9660));
    // Where deep directories were moved to.
    assert!(ours.remove("/rr_moved").is_some());
    for shown in there.values_mut().chain(ours.values_mut()) {
        // What the format has no place for: fractions of seconds, attributes, sockets' and directories' sizes, identity of links.
        shown.mtime.nanos = 0;
        shown.xattrs.clear();
        shown.first = None;
        if shown.kind == Kind::Dir {
            shown.size = 0;
            shown.nlink = 0;
        }
    }
    same("genisoimage -R", &ours, &there);
}

#[test]
fn an_iso_image_without_rock_ridge_shows_its_other_names() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("tree/Some Directory")).unwrap();
    fs::write(dir.path().join("tree/Some Directory/Größe.text"), "wide").unwrap();
    for (how, name, inner) in [
        ("-J -input-charset utf-8", "Some Directory", "Größe.text"),
        ("-input-charset utf-8", "some_dir", "gr____e.tex"),
    ] {
        run(
            dir.path(),
            &format!("genisoimage -quiet {how} -o image tree 2>/dev/null"),
        );
        let view = draw(&read(dir.path(), ImageKind::Iso9660));
        let paths: Vec<_> = view.keys().map(String::as_str).collect();
        let expected = [
            String::new(),
            format!("/{name}"),
            format!("/{name}/{inner}"),
        ];
        assert_eq!(paths, expected);
        let file = &view[&expected[2]];
        assert_eq!(
            (&*file.contents, file.perm, file.owner),
            (&b"wide"[..], 0o555, (0, 0))
        );
    }
}

#[test]
fn an_image_takes_no_change_and_keeps_its_errors() {
    let dir = planted();
    run(
        dir.path(),
        "mksquashfs tree image -noappend -quiet -no-progress",
    );
    let image = read(dir.path(), ImageKind::Squashfs);
    let top = image.root().unwrap();
    let name = |text: &str| Name::new(text.as_bytes()).unwrap();
    let entry = name("small");
    let refused = Err(Errno::ROFS);
    assert_eq!(image.remove_file(&top, &entry), refused);
    let object = Object::Entry(&top, &entry);
    assert_eq!(
        image.set_xattr(object, b"user.x", b"", XattrHow::Set),
        refused
    );
    assert_eq!(image.xattr(object, b"user.none"), Err(Errno::NODATA));
    let open = |text, access| image.open_file(&top, &name(text), access).map(drop);
    assert_eq!(open("small", Access::ReadWrite), refused);
    assert_eq!(open("long", Access::Read), Err(Errno::LOOP));
    assert_eq!(open("dir", Access::Read), Err(Errno::ISDIR));
    assert_eq!(open("none", Access::Read), Err(Errno::NOENT));
    assert_eq!(image.look(&top, &name("none")), Ok(None));
    assert_eq!(image.open_dir(&top, &entry).map(drop), Err(Errno::NOTDIR));

    // A copy keeps the hole, and the file stays one however often it is opened.
    let sparse = image
        .open_file(&top, &name("sparse"), Access::Read)
        .unwrap();
    assert_eq!(image.seek(&sparse, 0, Seek::Data), Ok(1 << 20));
    let again = image
        .open_file(&top, &name("sparse"), Access::Read)
        .unwrap();
    let inode = |file: &sys::BranchFile| {
        use std::os::fd::AsFd;
        use std::os::unix::fs::MetadataExt;
        File::from(file.as_fd().try_clone_to_owned().unwrap())
            .metadata()
            .unwrap()
            .ino()
    };
    assert_eq!(inode(&sparse), inode(&again));
}
