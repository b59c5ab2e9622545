//! As many branches as images have, and more.

mod support;

use std::fs;

use support::{Bench, names};
use testkit::require_root_and_fuse;

const LAYERS: usize = 2000;

/// Makes branches `l/N`, each with a file of its own in a directory that all have.
fn layers() -> Option<(Bench, Vec<String>)> {
    if !require_root_and_fuse() {
        return None;
    }
    let bench = Bench::new();
    let layers: Vec<_> = (0..LAYERS).map(|layer| format!("l/{layer}")).collect();
    for (layer, path) in layers.iter().enumerate() {
        bench.write(&format!("{path}/d/f{layer}"), &layer.to_string());
    }
    Some((bench, layers))
}

/// Looks at all branches through the union and changes what the lowest have.
#[track_caller]
fn use_and_unmount(bench: &Bench) {
    assert_eq!(fs::read_dir(bench.path("m/d")).unwrap().count(), LAYERS);
    assert_eq!(bench.read("m/d/f0"), "0");
    assert_eq!(bench.read("m/d/f1999"), "1999");
    assert!(!bench.exists("m/d/f2000"));
    bench.write("m/d/f1999", "changed");
    bench.write("m/d/new", "new");
    fs::remove_file(bench.path("m/d/f1998")).unwrap();
    bench.plywood(&["umount", "m"]).silently();
    assert_eq!(bench.read("b0/d/f1999"), "changed");
    assert_eq!(bench.read("l/1999/d/f1999"), "1999");
    assert_eq!(names(&bench.path("b0/d")).len(), 3);
    fs::remove_dir_all(bench.path("b0")).unwrap();
    bench.guard.make_dir("b0");
}

#[test]
fn two_thousand_branches_are_mounted_with_a_descriptor_for_each() {
    let Some((bench, layers)) = layers() else {
        return;
    };
    let lower = layers.join(":");
    // No more open files than many containers allow.
    let line =
        format!("ulimit -n 4096; plywood mount -o lowerdir={lower},upperdir=b0,workdir=b1 m");
    bench.shell(&line).silently();
    use_and_unmount(&bench);
}

#[test]
fn options_that_are_longer_than_a_page_reach_the_helper() {
    let Some((bench, layers)) = layers() else {
        return;
    };
    let here = bench.guard.path().display();
    let lower: String = layers
        .iter()
        .map(|path| format!(":{here}/{path}=ro"))
        .collect();
    let options = format!("rw,udba=none,br={here}/b0=rw{lower}");
    assert!(options.len() > 10 * 4096, "{}", options.len());
    bench.bin();
    let helper = bench.path("bin/mount.fuse.plywood");
    let point = bench.path("m");
    let helper = helper.to_str().unwrap();
    bench
        .run(helper, &["none", point.to_str().unwrap(), "-o", &options])
        .silently();
    // As many files in AUFS's words: two for each branch.
    use_and_unmount(&bench);
}
