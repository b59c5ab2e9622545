//! What the kernel answers by itself the second time, counted by the requests that come, and what memory all this takes.

mod support;

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use support::{Bench, wait_until};
use testkit::require_root_and_fuse;

/// Every kind of thing that can be asked of names: listings, attributes, targets of links, names that are missing.
const LOOK: &str = "cd m && ls -lR . && ls -a d big && cat d/f | wc -c && readlink d/link d/deep/link && \
                    for n in 1 2 3; do ls d/missing$n missing$n 2>/dev/null; done; stat d/f d/deep . >/dev/null";

fn bench() -> Bench {
    let bench = Bench::new();
    bench
        .shell(
            "mkdir -p b1/d/deep b0/d b1/big && echo f >b1/d/f && echo g >b0/d/g && ln -s f b1/d/link && \
             ln -s ../f b1/d/deep/link && mkdir b1/empty && cd b1/big && seq 1 2000 | xargs touch",
        )
        .silently();
    bench
}

fn server(bench: &Bench) -> Value {
    let json = bench.plywood(&["status", "--json", "m"]).silently();
    let status: Value = serde_json::from_str(&json).unwrap();
    status["mounts"][0]["server"]["counters"].clone()
}

fn requests(bench: &Bench) -> BTreeMap<String, u64> {
    serde_json::from_value(server(bench)["requests"].clone()).unwrap()
}

#[test]
fn what_was_seen_once_is_not_asked_for_again() {
    if !require_root_and_fuse() {
        return;
    }
    for udba in ["none", "notify"] {
        for stack in ["br=b0=rw:b1=ro", "lowerdir=b1,upperdir=b0,workdir=b2"] {
            let options = format!("udba={udba},{stack}");
            // Whoever empties the kernel's caches meanwhile, for all of the machine, spoils an attempt.
            let undisturbed = (0..10).any(|_| looks_again_without_asking(&options));
            assert!(undisturbed, "the caches are emptied all the time");
        }
    }
}

/// Looks at everything until the kernel knows it, and once more; returns `false` if the kernel was made to forget.
fn looks_again_without_asking(options: &str) -> bool {
    let bench = bench();
    bench
        .plywood(&["mount", "-o", options, "none", "m"])
        .silently();
    // What a first look leaves open, a second one asks for: names of the large directory were listed alone.
    let seen = bench.shell(LOOK).silently();
    assert_eq!(bench.shell(LOOK).silently(), seen);
    let before = requests(&bench);
    assert_eq!(bench.shell(LOOK).silently(), seen);
    let after = requests(&bench);
    bench.plywood(&["umount", "m"]).silently();
    if after.contains_key("FORGET") || after.contains_key("BATCH_FORGET") {
        return false;
    }
    let asked = |kind: &str| after.get(kind).unwrap_or(&0) - before.get(kind).unwrap_or(&0);
    for kind in ["LOOKUP", "READDIR", "READDIRPLUS", "READLINK", "GETATTR"] {
        assert_eq!(
            asked(kind),
            0,
            "{kind} with {options}: {before:?}, {after:?}"
        );
    }
    true
}

#[test]
fn memory_is_published_and_kept_near_its_limit() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = bench();
    bench
        .shell("cd b1 && for d in $(seq 1 40); do mkdir dir$d && (cd dir$d && seq 1 200 | xargs touch); done")
        .silently();
    let limit = 256 << 10;
    bench
        .plywood(&[
            "mount",
            "--memory-limit",
            "256K",
            "-o",
            "udba=none",
            "b0=rw:b1=ro",
            "m",
        ])
        .silently();
    let known = |what: &str| server(&bench)["known"][what].as_u64().unwrap();
    assert_eq!(known("limit"), limit);
    let open = fs::File::open(bench.path("m/dir1/7")).unwrap();
    let seen = bench.shell("ls -lR m | wc").silently();
    // Beside what the last directories take, which are in use.
    let forgets = kernel() >= (6, 18);
    if forgets {
        wait_until("the kernel forgets what nobody uses", || {
            bench.shell("ls -l m/dir* m/big >/dev/null").silently();
            known("bytes") < limit * 5 / 4
        });
        assert!(server(&bench)["inodes"].as_u64().unwrap() < 6_000);
    }
    assert!(known("directories") < 40, "{}", known("directories"));
    assert_eq!(bench.shell("ls -lR m | wc").silently(), seen);
    drop(open);
    let text = bench.plywood(&["status", "m"]).silently();
    assert!(text.contains("of 256 KiB"), "{text}");

    bench
        .plywood(&["mount", "-o", "remount,memory_limit=1G", "m"])
        .silently();
    assert_eq!(known("limit"), 1 << 30);
    bench
        .plywood(&["mount", "-o", "remount,memory_limit=x", "m"])
        .refused(32, &["memory_limit=x", "a number of bytes"]);
    bench.plywood(&["umount", "m"]).silently();
}

fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
