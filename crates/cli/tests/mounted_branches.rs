//! Branches that come, go, move and change their modes, as the kernel's users see it.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::{Bench, NOBODY, names};
use testkit::require_root_and_fuse;

const EBUSY: &str = "in use";
const EROFS: i32 = 30;
const READERS: [&str; 3] = ["none", "reval", "notify"];

fn bench() -> Option<Bench> {
    if !require_root_and_fuse() {
        return None;
    }
    let bench = Bench::new();
    bench.write("b1/f", "1");
    bench.write("b1/d/one", "1");
    bench.write("b2/f", "two");
    bench.write("b2/d/two", "2");
    bench.write("b2/new", "2");
    bench.write("b2/only/deep/file", "2");
    Some(bench)
}

impl Bench {
    fn mount(&self, options: &str) {
        let words = ["mount", "-o", options, "none", "m"];
        self.plywood(&words).silently();
    }

    fn remount(&self, options: &str) -> support::Ran {
        let options = format!("remount,{options}");
        self.plywood(&["mount", "-o", &options, "m"])
    }

    fn branch(&self, verb: &str, words: &[&str]) -> support::Ran {
        self.plywood(&[&["branch", verb, "m"], words].concat())
    }

    /// Returns the branches as `PATH=MODE`, without the directory they all are in.
    fn stack(&self) -> Vec<String> {
        let words = ["branch", "list", "--format", "aufs-sysfs", "m"];
        let told = self.plywood(&words).silently();
        let above = format!("{}/", self.path("").canonicalize().unwrap().display());
        let branch = |line: &str| line.split_once(' ').unwrap().1.replace(&above, "");
        told.lines().map(branch).collect()
    }

    fn umount(&self) {
        self.plywood(&["umount", "m"]).silently();
    }
}

/// A process that holds something until it is dropped.
struct Holder(Child);

impl Holder {
    /// Runs Python; `print` tells that it holds what it should hold.
    fn python(bench: &Bench, script: &str) -> Self {
        let script = format!("import os, sys, mmap\n{script}\nsys.stdin.read()");
        let mut command = Command::new("python3");
        command.args(["-u", "-c", &script]);
        Self::start(bench, command)
    }

    fn start(bench: &Bench, mut command: Command) -> Self {
        command.current_dir(bench.guard.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let told = child.stdout.as_mut().unwrap();
        BufReader::new(told).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Lets it go on and returns what else it prints.
    fn finish(mut self) -> String {
        drop(self.0.stdin.take());
        let mut told = String::new();
        let mut out = self.0.stdout.take().unwrap();
        out.read_to_string(&mut told).unwrap();
        assert!(self.0.wait().unwrap().success());
        told
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // One that ended is as good.
        if self.0.kill().is_ok() {
            assert!(self.0.wait().is_ok());
        }
    }
}

#[test]
fn what_a_branch_brings_and_takes_shows_at_once() {
    for udba in READERS {
        let Some(bench) = bench() else { return };
        bench.mount(&format!("br=b0=rw:b1=ro,udba={udba}"));
        for round in 0..20 {
            for _ in 0..3 {
                assert!(!bench.exists("m/new"), "{udba} {round}");
                assert!(!bench.exists("m/d/two") && !bench.exists("m/only/deep"));
                assert_eq!(bench.read("m/f"), "1");
                assert_eq!(names(&bench.path("m")), ["d", "f"]);
                assert_eq!(names(&bench.path("m/d")), ["one"]);
            }
            bench.remount("add:1:b2=ro").silently();
            for _ in 0..3 {
                assert!(bench.exists("m/new"), "{udba} {round}");
                assert_eq!(bench.read("m/d/two"), "2");
                assert_eq!(bench.read("m/only/deep/file"), "2");
                assert_eq!(bench.read("m/f"), "two");
                assert_eq!(bench.path("m/f").metadata().unwrap().len(), 3);
                assert_eq!(names(&bench.path("m")), ["d", "f", "new", "only"]);
                assert_eq!(names(&bench.path("m/d")), ["one", "two"]);
            }
            bench.remount("del:b2").silently();
        }
        bench.umount();
    }
}

#[test]
fn an_open_file_goes_on_and_a_reopened_one_is_the_new_one() {
    let Some(bench) = bench() else { return };
    bench.mount("br=b0=rw:b1=ro");
    let old = File::open(bench.path("m/f")).unwrap();
    bench.branch("add", &["b2=ro"]).silently();
    let mut buffer = [0; 8];
    let count = old.read_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer[..count], b"1");
    assert_eq!(bench.read("m/f"), "two");
    bench
        .branch("remove", &["b1"])
        .refused(32, &[EBUSY, "plywood busy"]);
    drop(old);
    bench.branch("remove", &["b1"]).silently();
    assert_eq!(bench.stack(), ["b0=rw", "b2=ro"]);
    bench.umount();
}

#[test]
fn what_is_in_use_on_a_branch_alone_keeps_it_and_is_named() {
    let Some(bench) = bench() else { return };
    fs::copy("/bin/sleep", bench.path("b2/prog")).unwrap();
    bench.mount("br=b0=rw:b1=ro:b2=ro");
    let uses = [
        ("f = open('m/new'); print('ready')", "open file", "m/new"),
        (
            "f = open('m/new'); a = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); f.close(); print('ready')",
            "mapped file",
            "m/new",
        ),
        (
            "d = os.open('m/d', os.O_RDONLY); print('ready')",
            "open file",
            "m/d",
        ),
        (
            "os.chdir('m/only/deep'); print('ready')",
            "working directory",
            "m/only/deep",
        ),
        (
            "print('ready', flush=True); os.execv('m/prog', ['prog', '1000'])",
            "program",
            "m/prog",
        ),
    ];
    for (script, what, path) in uses {
        let holder = Holder::python(&bench, script);
        let pid = holder.pid().to_string();
        if what == "program" {
            support::wait_until("it runs", || {
                let exe = fs::read_link(format!("/proc/{pid}/exe"));
                exe.is_ok_and(|exe| exe.ends_with("m/prog"))
            });
        }
        bench.remount("del:b2").refused(32, &[EBUSY]);
        bench.branch("remove", &["b2"]).refused(32, &[EBUSY]);
        assert_eq!(bench.read("m/d/two"), "2", "{what}");
        let busy = bench.plywood(&["busy", "m", "b2"]);
        let line = busy.out.lines().find(|line| line.contains(what));
        let line = line.unwrap_or_else(|| panic!("{what}: {busy:?}"));
        assert!(line.starts_with(&format!("{pid}\t")), "{line}");
        let at = bench.path(path).canonicalize().unwrap();
        assert!(line.ends_with(at.to_str().unwrap()), "{line}");
        assert_eq!(busy.code, Some(1));
        assert_eq!(
            bench.shell("aubusy m b2").silently(),
            format!("{pid}\n"),
            "{what}"
        );
        let verbose = bench.shell("aubusy -v m b2").silently();
        assert!(verbose.contains(line), "{verbose}");
        drop(holder);
        bench.remount("del:b2").silently();
        assert!(!bench.exists("m/new"));
        assert_eq!(bench.plywood(&["busy", "m", "b1"]).silently(), "");
        bench.remount("append:b2=ro").silently();
    }
    bench.umount();
}

#[test]
fn a_working_directory_that_others_merge_stays_one() {
    let Some(bench) = bench() else { return };
    bench.mount("br=b0=rw:b1=ro:b2=ro");
    let script = "os.chdir('m/d'); print('ready'); sys.stdin.readline()\n\
        print(os.getcwd()); print(sorted(os.listdir('.')), os.path.exists('two'))\n\
        open('made', 'w').write('x')";
    let mut holder = Holder::python(&bench, script);
    bench.branch("remove", &["b2"]).silently();
    bench.branch("add", &["--bottom", "b2=ro"]).silently();
    bench.branch("remove", &["b2"]).silently();
    holder.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let place = bench.path("m/d").canonicalize().unwrap();
    assert_eq!(
        holder.finish(),
        format!("{}\n['one'] False\n", place.display())
    );
    assert_eq!(bench.read("b0/d/made"), "x");
    bench.umount();
}

#[test]
fn a_remount_is_silent_about_what_is_done_already_and_a_command_is_not() {
    let Some(bench) = bench() else { return };
    bench.mount("br=b0=rw:b1=ro");
    let stack = bench.stack();
    for silent in [
        "del:b2",
        "del:/nowhere",
        "mod:b2=rr",
        "add:1:b1",
        "append:b1=ro",
        "prepend:b0",
        "br=b0:b1",
    ] {
        bench.remount(silent).silently();
        assert_eq!(bench.stack(), stack, "{silent}");
    }
    for (words, said) in [
        (&["remove", "b2"][..], "no such file"),
        (&["remove", "/nowhere"], "no such file"),
        (&["set", "b2=rr"], "no such file"),
        (&["move", "b2", "0"], "no such file"),
        (&["add", "b1"], "already"),
        (&["add", "--at", "7", "b2"], "no position 7"),
        (&["move", "b1", "2"], "2 branches"),
        (&["add", "gone"], "no such file"),
        (&["add", "m/d"], "lies in this union itself"),
        (&["add", "b1/d"], "inside branch 1"),
        (&["add", "--at", "0", "/proc/self"], "proc"),
    ] {
        bench.branch(words[0], &words[1..]).refused(32, &[said]);
        assert_eq!(bench.stack(), stack, "{words:?}");
    }
    bench.remount("add:7:b2").refused(32, &["no position 7"]);
    bench.remount("add:0:b2=rw,bogus").refused(32, &["bogus"]);
    bench.branch("set", &["b1"]).refused(2, &["no mode"]);
    bench.branch("add", &["b2=ro+x"]).refused(2, &["ro+x"]);
    bench
        .branch("add", &["b2:b1"])
        .refused(2, &["not one branch"]);
    assert_eq!(bench.stack(), stack);
    bench.branch("remove", &["b1"]).silently();
    bench
        .branch("remove", &["b0"])
        .refused(32, &["last branch", "unmount"]);
    bench.umount();
}

#[test]
fn puppys_chain_saves_a_session_that_goes_on() {
    let Some(bench) = bench() else { return };
    bench.mount("br=b0=rw:b1=ro");
    bench.write("m/session", "saved");
    fs::remove_file(bench.path("m/d/one")).unwrap();
    bench.run("cp", &["-a", "b0/.", "b2"]).silently();
    let reader = File::open(bench.path("m/f")).unwrap();
    let stack = "prepend:b2=rw,mod:b0=ro,del:b0";
    let on_old = File::open(bench.path("m/session")).unwrap();
    // The first two stay done, as in AUFS.
    let refused = bench.remount(stack);
    refused.refused(32, &[EBUSY, "a file without a name"]);
    assert_eq!(bench.stack(), ["b2=rw", "b0=ro", "b1=ro"]);
    let busy = bench.shell("aubusy m b0").silently();
    assert_eq!(busy, format!("{}\n", std::process::id()));
    drop(on_old);
    bench.remount(stack).silently();
    assert_eq!(bench.stack(), ["b2=rw", "b1=ro"]);
    assert_eq!(bench.read("m/session"), "saved");
    assert_eq!(std::io::read_to_string(reader).unwrap(), "1");
    assert!(!bench.exists("m/d/one"));
    bench.write("m/later", "x");
    assert!(bench.exists("b2/later") && !bench.exists("b0/later"));
    assert!(!bench.exists("b0/.wh..wh.aufs"));
    bench.umount();
}

#[test]
fn new_files_go_to_the_branch_that_was_put_on_top() {
    let Some(bench) = bench() else { return };
    bench.mount("br=b0=rw:b1=ro");
    bench.write("m/before", "x");
    bench.remount("prepend:b2=rw").silently();
    bench.write("m/after", "x");
    assert!(bench.exists("b0/before") && bench.exists("b2/after"));
    bench.branch("move", &["b0", "0"]).silently();
    assert_eq!(bench.stack(), ["b0=rw", "b2=rw", "b1=ro"]);
    bench.write("m/last", "x");
    assert!(bench.exists("b0/last"));
    bench.umount();
}

#[test]
fn a_moved_branch_wins_at_once() {
    for udba in READERS {
        let Some(bench) = bench() else { return };
        bench.mount(&format!("br=b0=rw:b1=ro:b2=ro,udba={udba}"));
        for _ in 0..5 {
            assert_eq!(bench.read("m/f"), "1");
            bench.branch("move", &["b2", "1"]).silently();
            assert_eq!(bench.stack(), ["b0=rw", "b2=ro", "b1=ro"]);
            assert_eq!(bench.read("m/f"), "two");
            bench.branch("move", &["b2", "2"]).silently();
        }
        bench.umount();
    }
}

fn writer(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn a_writer_goes_on_above_the_branch_that_became_read_only() {
    let Some(bench) = bench() else { return };
    bench.mount("compat=aufs,br=b0=rw:b1=rw");
    let mut open = writer(&bench.path("m/d/one"));
    open.write_all(b"a").unwrap();
    bench.remount("mod:b1=ro").silently();
    open.write_all(b"b").unwrap();
    open.sync_all().unwrap();
    assert_eq!(bench.read("b1/d/one"), "a");
    assert_eq!(bench.read("b0/d/one"), "ab");
    assert_eq!(bench.read("m/d/one"), "ab");
    // Nothing is above now.
    bench.remount("mod:b0=ro").silently();
    let error = open.write_all(b"c").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EROFS));
    assert_eq!(bench.read("m/d/one"), "ab");
    bench.remount("mod:b0=rw").silently();
    open.write_all(b"c").unwrap();
    drop(open);
    assert_eq!(bench.read("b0/d/one"), "abc");
    bench.umount();
}

#[test]
fn without_passthrough_a_writer_goes_on_above_the_branch_that_became_read_only() {
    let Some(bench) = bench() else { return };
    bench.mount("nopassthrough,br=b0=rw:b1=rw");
    let mut open = writer(&bench.path("m/d/one"));
    open.write_all(b"a").unwrap();
    bench.remount("mod:b1=ro").silently();
    open.write_all(b"b").unwrap();
    drop(open);
    assert_eq!(
        (bench.read("b0/d/one"), bench.read("b1/d/one")),
        ("ab".into(), "a".into())
    );
    bench.umount();
}

#[test]
fn a_writer_whose_data_the_server_does_not_see_is_named() {
    let Some(bench) = bench() else { return };
    bench.mount("br=b0=rw:b1=rw");
    let mut open = writer(&bench.path("m/d/one"));
    bench
        .remount("mod:b1=ro")
        .refused(32, &[EBUSY, "d/one", "writing"]);
    open.write_all(b"a").unwrap();
    assert_eq!(bench.stack(), ["b0=rw", "b1=rw"]);
    drop(open);
    assert_eq!(bench.read("b1/d/one"), "a");
    bench.remount("mod:b1=ro").silently();
    bench.write("m/d/one", "again");
    assert_eq!(
        (bench.read("b0/d/one"), bench.read("b1/d/one")),
        ("again".into(), "a".into())
    );
    bench.umount();
}

#[test]
fn a_mapped_file_keeps_what_is_written_when_its_branch_becomes_read_only() {
    let Some(bench) = bench() else { return };
    bench.write("b1/map", &"x".repeat(4096));
    bench.mount("compat=aufs,br=b0=rw:b1=rw");
    let script = "f = open('m/map', 'r+b'); a = mmap.mmap(f.fileno(), 0); f.close(); a[0] = 65\n\
        print('ready'); sys.stdin.readline(); a[1] = 66; a.flush(); print(a[:3].decode())";
    let mut holder = Holder::python(&bench, script);
    bench.remount("mod:b1=ro").silently();
    holder.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert_eq!(holder.finish(), "ABx\n");
    assert!(bench.read("m/map").starts_with("ABx"));
    bench.umount();
    assert!(bench.read("b0/map").starts_with("ABx"));
}

#[test]
fn settings_change_while_files_are_open() {
    let Some(bench) = bench() else { return };
    bench.mount("br=b0=rw:b1=ro,udba=none");
    let open = File::open(bench.path("m/f")).unwrap();
    assert!(!bench.exists("m/direct"));
    bench.write("b1/direct", "1");
    assert!(!bench.exists("m/direct"), "nobody looks");
    bench.remount("udba=notify").silently();
    assert_eq!(bench.read("m/direct"), "1");
    for round in 0..20 {
        let name = format!("direct{round}");
        assert!(!bench.exists(&format!("m/{name}")));
        bench.write(&format!("b1/{name}"), "1");
        support::wait_until("it shows", || bench.exists(&format!("m/{name}")));
    }
    let status = bench.plywood(&["status", "m"]).silently();
    assert!(status.contains("notify"), "{status}");
    bench.remount("udba=none").silently();
    bench.remount("udba=reval").silently();
    bench.write("b1/last", "1");
    support::wait_until("it shows", || bench.exists("m/last"));
    bench.remount("noplink").silently();
    assert!(!bench.exists("b0/.wh..wh.plnk/x"));
    bench.remount("ro").silently();
    let error = fs::write(bench.path("m/x"), "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EROFS));
    bench.remount("rw,add:1:b2=ro").silently();
    bench.write("m/x", "x");
    assert_eq!(std::io::read_to_string(open).unwrap(), "1");
    bench.umount();
}

#[test]
fn a_flush_by_remounting_shows_direct_changes() {
    let Some(bench) = bench() else { return };
    bench.mount("br=b0=rw:b1=ro,udba=none");
    assert_eq!(names(&bench.path("m/d")), ["one"]);
    bench.write("b0/d/.wh.one", "");
    bench.write("b0/d/direct", "0");
    assert_eq!(names(&bench.path("m/d")), ["one"]);
    bench.remount("udba=none").silently();
    assert_eq!(names(&bench.path("m/d")), ["direct"]);
    assert!(!bench.exists("m/d/one"));
    bench.umount();
}

#[test]
fn status_and_lists_show_the_new_stack() {
    let Some(bench) = bench() else { return };
    bench.mount("br=b0=rw:b1=ro");
    bench.branch("add", &["b2=rr+wh"]).silently();
    let path = |name: &str| {
        let path = bench.path(name).canonicalize().unwrap();
        path.to_str().unwrap().to_owned()
    };
    let status = bench.plywood(&["status", "--json", "m"]).silently();
    let positions = ["b0", "b2", "b1"].map(|name| status.find(&path(name)).unwrap());
    assert!(positions.is_sorted(), "{status}");
    let told = bench.plywood(&["which", "m/d/two"]).silently();
    assert!(told.contains(&path("b2")), "{told}");
    let option = bench
        .plywood(&["branch", "list", "--format", "options", "m"])
        .silently();
    let expected = format!(
        "br={}=rw:{}=rr+wh:{}=ro\n",
        path("b0"),
        path("b2"),
        path("b1")
    );
    assert_eq!(option, expected);
    let json = bench
        .plywood(&["branch", "list", "--format", "json", "m"])
        .silently();
    assert!(json.contains("\"index\": 2") && json.contains("\"mode\": \"rr+wh\""));
    bench.umount();
    let words = ["mount", "-o", option.trim(), "none", "m"];
    bench.plywood(&words).silently();
    assert_eq!(bench.stack(), ["b0=rw", "b2=rr+wh", "b1=ro"]);
    bench.umount();
}

#[test]
fn clients_that_change_branches_at_once_do_not_disturb_each_other() {
    let Some(bench) = bench() else { return };
    bench.mount("br=b0=rw");
    std::thread::scope(|scope| {
        for name in ["b1", "b2"] {
            let bench = &bench;
            scope.spawn(move || {
                for _ in 0..25 {
                    bench.branch("add", &[&format!("{name}=ro")]).silently();
                    assert!(bench.exists("m/d"));
                    bench.branch("remove", &[name]).silently();
                }
            });
        }
        for n in 0..200 {
            bench.write(&format!("m/w{n}"), "x");
        }
    });
    assert_eq!(bench.stack(), ["b0=rw"]);
    assert_eq!(names(&bench.path("m")).len(), 200);
    bench.umount();
}

#[test]
fn a_users_own_union_changes_its_branches() {
    let Some(bench) = bench() else { return };
    bench.bin();
    bench.give_to(NOBODY);
    let user =
        format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env -u XDG_RUNTIME_DIR");
    let script = "plywood mount -o br=b0=rw:b1=ro none m && plywood branch add m b2=ro && \
        cat m/new && echo x > m/made && plywood mount -o remount,del:b1 m && \
        plywood branch list m --format aufs-sysfs && plywood branch remove m b2 && ls -A m && \
        plywood umount m";
    let told = bench.shell(&format!("{user} sh -c '{script}'")).silently();
    assert!(
        told.starts_with('2') && told.ends_with("\nmade\n"),
        "{told}"
    );
    assert!(told.contains("b2=ro") && !told.contains("b1=ro"), "{told}");
    assert_eq!(bench.path("b0/made").metadata().unwrap().uid(), NOBODY);
    assert!(!bench.is_mounted());
    // Another user cannot: the server does not listen to them.
    bench.mount("br=b0=rw");
    bench
        .shell(&format!("{user} plywood branch add m b1"))
        .refused(32, &["does not answer", "another user"]);
    bench.umount();
}
