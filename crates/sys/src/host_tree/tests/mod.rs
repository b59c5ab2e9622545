//! The host's tree, each test with the younger system calls and again without them.

mod attributes;
mod contents;
mod creating;
mod names;
mod xattrs;

use std::path::{Path, PathBuf};

use rules::{Attr, Creation, Errno, Identity, Name};
use tempfile::TempDir;
use tree::{Object, Tree};

use super::new_calls::NewCalls;
use super::{HostDir, HostFile, HostTree};

/// An empty directory of the host and the tree in it.
struct Scratch {
    dir: TempDir,
    tree: HostTree,
    root: HostDir,
}

impl Scratch {
    fn new() -> Self {
        Self::under(&std::env::temp_dir())
    }

    fn under(place: &Path) -> Self {
        let dir = tempfile::tempdir_in(place).unwrap();
        let tree = HostTree::open(dir.path()).unwrap();
        let root = tree.root().unwrap();
        Self { dir, tree, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn look(&self, name: &str) -> Attr {
        self.tree.look(&self.root, &n(name)).unwrap().unwrap()
    }

    fn make(&self, name: &str) -> HostFile {
        self.tree
            .create_file(&self.root, &n(name), &Creation::exact(0o644))
            .unwrap()
    }

    fn make_dir(&self, name: &str) -> HostDir {
        self.tree
            .make_dir(&self.root, &n(name), &Creation::exact(0o755))
            .unwrap();
        self.tree.open_dir(&self.root, &n(name)).unwrap()
    }

    fn make_symlink(&self, name: &str, target: &str) {
        let how = Creation::exact(0o777);
        self.tree
            .make_symlink(&self.root, &n(name), target.as_bytes(), &how)
            .unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }
}

/// Runs a test as this kernel is and as an old one would be.
fn on_new_and_old_kernels(test: impl Fn(Scratch)) {
    test(Scratch::new());
    let mut old = Scratch::new();
    old.tree.calls = NewCalls::NONE;
    test(old);
}

fn n(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

fn owned_by(uid: u32, gid: u32, perm: u32, umask: u32) -> Creation {
    Creation {
        perm,
        umask,
        owner: Some(Identity { uid, gid }),
    }
}

fn owner(attr: &Attr) -> (u32, u32) {
    (attr.uid, attr.gid)
}

fn set_default_acl(dir: &Path, entry: &str) {
    let done = std::process::Command::new("setfacl")
        .args(["-d", "-m", entry])
        .arg(dir)
        .status()
        .unwrap();
    assert!(done.success());
}

#[test]
fn the_younger_calls_are_found_where_the_kernel_has_them() {
    let release = rustix::system::uname();
    let release = release.release().to_str().unwrap().to_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let found = NewCalls::of_this_kernel();
    assert_eq!(found.openat2, version >= (5, 6));
    assert_eq!(found.fchmodat2, version >= (6, 6));
    assert_eq!(found.xattrat, version >= (6, 13));
}

#[test]
fn a_root_is_followed_through_symbolic_links_and_must_be_a_directory() {
    let s = Scratch::new();
    s.make_dir("real");
    s.make_symlink("link", "real");
    s.make("file");
    let tree = HostTree::open(&s.path("link")).unwrap();
    let root = tree.root().unwrap();
    assert_eq!(
        tree.attr(Object::Dir(&root)).unwrap().ino,
        s.look("real").ino
    );
    assert_eq!(HostTree::open(&s.path("file")).err(), Some(Errno::NOTDIR));
    assert_eq!(HostTree::open(&s.path("none")).err(), Some(Errno::NOENT));
}
