//! A pool: three filesystems of different sizes on loop devices, filled until nothing fits, and one that vanishes.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{Bench, names};
use testkit::{MountGuard, require_root_and_fuse};

const MEBIBYTE: usize = 1 << 20;
const NO_SPACE: i32 = 28;
const IO: i32 = 5;

/// Makes and mounts the disks `b0`, `b1` and `b2` with so many mebibytes.
fn pool(sizes: [u32; 3]) -> Bench {
    let mut guard = MountGuard::new();
    for name in ["b0", "b1", "b2", "m"] {
        guard.mount_point(name);
    }
    let bench = Bench { guard };
    for (at, size) in sizes.into_iter().enumerate() {
        bench
            .shell(&format!(
                "truncate -s {size}M b{at}.img && mkfs.ext4 -q -F -m 0 b{at}.img"
            ))
            .silently();
        attach(&bench, at);
    }
    bench
}

fn attach(bench: &Bench, at: usize) {
    bench
        .shell(&format!("mount -o loop b{at}.img b{at}"))
        .silently();
}

fn mount(bench: &Bench, options: &str) {
    let options = format!("br=b0=rw:b1=rw:b2=rw,{options}");
    bench
        .plywood(&["mount", "-o", &options, "none", "m"])
        .silently();
}

/// Returns bytes that differ from file to file and from place to place.
fn pattern(file: usize, offset: usize, length: usize) -> Vec<u8> {
    let words = (offset / 8..(offset + length) / 8).map(|word| {
        let mixed = (word as u64 ^ (file as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed.to_le_bytes()
    });
    words.flatten().collect()
}

/// Lets a file grow by its pattern until it has `wanted` bytes or there is no space; returns how many it has.
fn grow(file: &File, number: usize, from: usize, wanted: usize) -> usize {
    let mut at = from;
    while at < wanted {
        let piece = pattern(number, at, (wanted - at).min(MEBIBYTE));
        match file.write_at(&piece, at as u64) {
            Ok(written) => at += written,
            Err(error) if error.raw_os_error() == Some(NO_SPACE) => break,
            Err(error) => panic!("{error}"),
        }
    }
    at
}

#[track_caller]
fn holds(path: &Path, number: usize, length: usize) {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), length, "{}", path.display());
    // Only the last word can be cut.
    let whole = length / 8 * 8;
    assert!(
        bytes[..whole] == pattern(number, 0, whole)[..],
        "{} is torn",
        path.display()
    );
}

/// Returns the branches that have a name.
fn homes(bench: &Bench, name: &str) -> Vec<usize> {
    (0..3)
        .filter(|at| bench.exists(&format!("b{at}/{name}")))
        .collect()
}

fn free(bench: &Bench, at: usize) -> u64 {
    let told = bench.shell(&format!("stat -f -c '%a %S' b{at}")).silently();
    let mut numbers = told
        .split_whitespace()
        .map(|word| word.parse::<u64>().unwrap());
    numbers.next().unwrap() * numbers.next().unwrap()
}

/// Fills the pool by files of three mebibytes until nothing fits; returns what each has.
fn fill(bench: &Bench) -> Vec<usize> {
    let mut lengths = Vec::new();
    loop {
        let path = bench.path(&format!("m/fill{}", lengths.len()));
        let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(NO_SPACE) => return lengths,
            Err(error) => panic!("{error}"),
        };
        let length = grow(&file, lengths.len(), 0, 3 * MEBIBYTE);
        lengths.push(length);
        if length < 3 * MEBIBYTE {
            return lengths;
        }
    }
}

fn check_filled(bench: &Bench, lengths: &[usize]) {
    for (number, length) in lengths.iter().enumerate() {
        holds(&bench.path(&format!("m/fill{number}")), number, *length);
    }
    bench.plywood(&["umount", "m"]).silently();
    for (number, length) in lengths.iter().enumerate() {
        let name = format!("fill{number}");
        let [home] = homes(bench, &name)[..] else {
            panic!("{name} is on {:?}", homes(bench, &name));
        };
        holds(&bench.path(&format!("b{home}/{name}")), number, *length);
    }
}

#[test]
fn without_moving_a_pool_is_full_when_the_chosen_branch_is() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = pool([24, 48, 96]);
    mount(&bench, "create=mfs");
    // The measurement holds for half a minute, as in AUFS.
    let lengths = fill(&bench);
    assert!(free(&bench, 2) < 4 << 20);
    assert!(free(&bench, 0) > 10 << 20 && free(&bench, 1) > 30 << 20);
    assert!(
        names(&bench.path("b1"))
            .iter()
            .all(|name| !name.starts_with("fill"))
    );
    check_filled(&bench, &lengths);
}

#[test]
fn with_moving_a_pool_is_full_when_all_branches_are() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = pool([24, 48, 96]);
    mount(&bench, "create=mfs,moveonenospc");
    let paths = ["m/linked", "m/second", "m/growing"].map(|name| bench.path(name));
    let [linked, second, growing] = &paths;
    fs::write(linked, pattern(700, 0, MEBIBYTE)).unwrap();
    fs::hard_link(linked, second).unwrap();
    let writer = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(growing)
        .unwrap();
    let grown = grow(&writer, 800, 0, 4 * MEBIBYTE);
    let reader = File::open(growing).unwrap();
    let number = reader.metadata().unwrap().ino();
    assert_eq!(homes(&bench, "growing"), [2]);

    // Until the first branch is full, and the file that is open has to go on elsewhere.
    let filler = File::create(bench.path("m/filler")).unwrap();
    let filled = grow(&filler, 900, 0, 96 * MEBIBYTE);
    assert_eq!(homes(&bench, "filler"), [2]);
    let grown = grow(&writer, 800, grown, 12 * MEBIBYTE);
    assert_eq!((grown, homes(&bench, "growing")), (12 * MEBIBYTE, vec![1]));
    writer.sync_all().unwrap();
    let mut word = [0; 8];
    reader
        .read_exact_at(&mut word, 9 * MEBIBYTE as u64)
        .unwrap();
    assert_eq!(word[..], pattern(800, 9 * MEBIBYTE, 8));
    assert_eq!(fs::metadata(growing).unwrap().ino(), number);
    drop((writer, reader));
    holds(growing, 800, grown);

    let lengths = fill(&bench);
    for at in 0..3 {
        assert!(
            free(&bench, at) < 4 << 20,
            "b{at} has {} bytes left",
            free(&bench, at)
        );
    }
    // A file with two names stays where it is; both go on to be one.
    let both = OpenOptions::new().write(true).open(linked).unwrap();
    let length = grow(&both, 700, MEBIBYTE, 40 * MEBIBYTE);
    assert!(length < 40 * MEBIBYTE);
    assert_eq!(
        fs::metadata(linked).unwrap().ino(),
        fs::metadata(second).unwrap().ino()
    );
    drop(both);
    holds(second, 700, length);
    holds(&bench.path("m/filler"), 900, filled);
    drop(filler);
    check_filled(&bench, &lengths);
    assert_eq!(homes(&bench, "linked"), [2]);
    assert_eq!(homes(&bench, "second"), [2]);
}

/// Takes a disk away under its mounted filesystem, which notices when it writes; `intact` keeps what is on it.
fn vanish(bench: &Bench, at: usize) {
    bench
        .shell(&format!(
            "sync && cp --sparse=always b{at}.img intact.img && loop=$(losetup -n -O NAME -j b{at}.img) && \
             : >b{at}.img && losetup -c $loop && losetup -d $loop && touch b{at}/probe; sync && echo 3 >/proc/sys/vm/drop_caches"
        ))
        .silently();
}

fn bring_back(bench: &Bench, at: usize) {
    bench.plywood(&["umount", "m"]).silently();
    bench
        .shell(&format!("umount -l b{at} && mv intact.img b{at}.img"))
        .silently();
    attach(bench, at);
}

fn errno<T>(done: io::Result<T>) -> Option<i32> {
    done.err().and_then(|error| error.raw_os_error())
}

#[test]
fn a_pool_outlives_the_device_of_one_branch_and_nothing_on_that_is_lost() {
    if !require_root_and_fuse() {
        return;
    }
    for gone in 0..3 {
        for options in [
            "create=mfs:0",
            "create=rr,udba=none",
            "create=pmfs:0,moveonenospc,udba=notify",
        ] {
            let bench = pool([16, 20, 24]);
            for at in 0..3 {
                bench.write(&format!("b{at}/top{at}"), "at the top");
                fs::create_dir(bench.path(&format!("b{at}/d"))).unwrap();
                fs::write(
                    bench.path(&format!("b{at}/d/big{at}")),
                    pattern(at, 0, 2 * MEBIBYTE),
                )
                .unwrap();
            }
            mount(&bench, options);
            assert_eq!(names(&bench.path("m/d")), ["big0", "big1", "big2"]);
            vanish(&bench, gone);

            let start = Instant::now();
            let others: Vec<usize> = (0..3).filter(|at| *at != gone).collect();
            let lost = fs::read(bench.path(&format!("m/d/big{gone}")));
            assert_eq!(errno(lost), Some(IO), "b{gone} {options}");
            for at in &others {
                let names = names(&bench.path("m"));
                assert!(names.contains(&format!("top{at}")), "{names:?}");
                holds(&bench.path(&format!("m/d/big{at}")), *at, 2 * MEBIBYTE);
            }
            let mut made: Vec<PathBuf> = Vec::new();
            for name in ["new1", "new2", "new3", "d/new1", "d/new2", "dir/new"] {
                let path = bench.path(&format!("m/{name}"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let mut file = File::create(&path)
                    .unwrap_or_else(|error| panic!("{path:?}: {error}, {options}"));
                file.write_all(name.as_bytes()).unwrap();
                file.sync_all().unwrap();
                made.push(PathBuf::from(name));
            }
            fs::remove_file(bench.path(&format!("m/top{}", others[0]))).unwrap();
            assert!(start.elapsed() < Duration::from_secs(20), "it hangs");

            bring_back(&bench, gone);
            mount(&bench, options);
            assert_eq!(bench.read(&format!("m/top{gone}")), "at the top");
            assert!(!bench.exists(&format!("m/top{}", others[0])));
            for at in 0..3 {
                holds(&bench.path(&format!("m/d/big{at}")), at, 2 * MEBIBYTE);
            }
            for name in made {
                let text = fs::read(bench.path("m").join(&name)).unwrap();
                assert_eq!(text, name.as_os_str().as_encoded_bytes());
            }
        }
    }
}
