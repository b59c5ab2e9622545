//! Programs that run from a union.

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command};

use support::{Bench, NOBODY};
use testkit::require_root_and_fuse;

const O_TRUNC: i32 = 0o1000;
const ETXTBSY: i32 = 26;

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_program_that_runs_is_neither_written_nor_truncated() {
    if !require_root_and_fuse() {
        return;
    }
    for options in [
        "br=b0:b1",
        "compat=aufs,br=b0:b1",
        "lowerdir=b1,upperdir=b0,workdir=w",
    ] {
        let bench = Bench::new();
        for dir in ["b0", "w"] {
            bench.guard.make_dir(dir);
        }
        bench.write("b1/.keep", "");
        for branch in ["b0", "b1"] {
            fs::copy(
                "/bin/sleep",
                bench.path(&format!("{branch}/{branch}-sleep")),
            )
            .unwrap();
        }
        bench
            .plywood(&["mount", "-o", options, "none", "m"])
            .silently();
        for name in ["b0-sleep", "b1-sleep"] {
            let program = bench.path(&format!("m/{name}"));
            let size = fs::metadata(&program).unwrap().len();
            let running = Running(Command::new(&program).arg("60").spawn().unwrap());
            for (write, flags) in [(true, 0), (true, O_TRUNC), (false, O_TRUNC)] {
                let opened = OpenOptions::new()
                    .read(true)
                    .write(write)
                    .custom_flags(flags)
                    .open(&program);
                let error = opened.unwrap_err().raw_os_error();
                assert_eq!(error, Some(ETXTBSY), "{options} {name} {write} {flags}");
            }
            assert_eq!(
                fs::metadata(&program).unwrap().len(),
                size,
                "{options} {name}"
            );
            drop(running);
            let truncated = OpenOptions::new()
                .read(true)
                .custom_flags(O_TRUNC)
                .open(&program);
            assert_eq!(
                truncated.unwrap().metadata().unwrap().len(),
                0,
                "{options} {name}"
            );
        }
        bench.plywood(&["umount", "m"]).silently();
    }
}

#[test]
fn a_change_by_somebody_else_takes_set_id_bits_and_shows_that() {
    if !require_root_and_fuse() {
        return;
    }
    let bench = Bench::new();
    bench.write("b0/.keep", "");
    bench.write("b1/.keep", "");
    let mount = ["mount", "-o", "udba=none,br=b0:b1", "none", "m"];
    bench.plywood(&mount).silently();
    for how in [
        "printf x >>m/f",
        "fallocate -l 8192 m/f",
        "fallocate -p -o 0 -l 4096 m/f",
        "python3 -c \"import os; a = os.open('m/from', 0); b = os.open('m/f', 1); os.copy_file_range(a, b, 4)\"",
    ] {
        let line = format!(
            "rm -f m/f; echo data >m/f; echo data >m/from; chmod 6777 m/f; stat -c %a m/f
             setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups sh -c '{}'; stat -c %a m/f b0/f",
            how.replace('\'', "'\\''")
        );
        assert_eq!(bench.shell(&line).silently(), "6777\n777\n777\n", "{how}");
    }
    bench.plywood(&["umount", "m"]).silently();
}
