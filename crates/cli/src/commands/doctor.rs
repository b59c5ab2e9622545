//! `plywood doctor`: what this machine offers, and how to get what is missing.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sys::capabilities::{self, Capability};
use sys::request_ring::{self, Support};

use super::install_helpers::is_ours;
use crate::command_line::Doctor;
use crate::failure::Exit;
use crate::mounting::place::errno_of;
use crate::render::scan as report;
use crate::scan::{self, Found};

/// What one check found.
struct Check {
    what: &'static str,
    result: Outcome,
}

enum Outcome {
    /// All is well; with what was found.
    Good(String),
    /// Something is not there that one can do without; with what to do.
    Optional(String),
    /// Nothing works without; with what to do.
    Missing(String),
}

use Outcome::{Good, Missing, Optional};

/// `plywood doctor [--json] [--scan DIR...]`
pub(crate) fn run(arguments: &Doctor) -> anyhow::Result<Exit> {
    if !arguments.scan.is_empty() {
        return tell(&scan::scan(&arguments.scan)?, arguments.json);
    }
    let mut exit = Exit::SUCCESS;
    for check in checks() {
        let (mark, text) = match &check.result {
            Good(text) => ("OK", text),
            Optional(text) => ("note", text),
            Missing(text) => {
                exit = Exit::FAILED;
                ("MISSING", text)
            }
        };
        crate::print_line(&format!("{mark:<8} {:<16} {text}", check.what));
    }
    Ok(exit)
}

/// Tells what a scan found; lines that need a change make the command fail.
fn tell(found: &Found, json: bool) -> anyhow::Result<Exit> {
    if json {
        crate::print_line(&serde_json::to_string_pretty(found)?);
    } else {
        for line in found.stores.iter().chain(&report::lines(found)) {
            crate::print_line(line);
        }
    }
    Ok(if found.lines.is_empty() {
        Exit::SUCCESS
    } else {
        Exit::FAILED
    })
}

fn checks() -> Vec<Check> {
    let check = |what, result| Check { what, result };
    let kernel = kernel_version();
    vec![
        check("kernel", kernel_result(kernel)),
        check("/dev/fuse", device()),
        check("mounting", mounting()),
        check("fusermount3", helper()),
        check("user namespaces", user_namespaces()),
        check("allow_other", allow_other()),
        check("passthrough", passthrough(kernel)),
        check("io_uring", io_uring()),
        check("open files", open_files()),
        check("mount helpers", mount_helpers()),
    ]
}

fn text_of(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn kernel_version() -> Option<(u32, u32)> {
    let release = text_of("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?))
}

fn kernel_result(version: Option<(u32, u32)>) -> Outcome {
    match version {
        Some((major, minor)) if (major, minor) >= (5, 4) => Good(format!("Linux {major}.{minor}")),
        Some((major, minor)) => Missing(format!(
            "Linux {major}.{minor} is too old: 5.4 is the oldest that works"
        )),
        None => Optional("the version of the kernel cannot be read: is /proc mounted?".into()),
    }
}

fn device() -> Outcome {
    let opened = fs::File::options().read(true).write(true).open("/dev/fuse");
    match opened.map_err(|error| errno_of(&error)) {
        Ok(_) => Good("can be opened".into()),
        Err(rules::Errno::ACCES | rules::Errno::PERM) => {
            Missing("may not be opened: chmod 666 /dev/fuse, or run as root".into())
        }
        Err(errno) => Missing(format!(
            "{errno}: modprobe fuse, or give the container the device (--device /dev/fuse)"
        )),
    }
}

fn mounting() -> Outcome {
    if capabilities::has(Capability::SysAdmin) {
        return Good("directly, with CAP_SYS_ADMIN".into());
    }
    match (helper(), user_namespaces()) {
        (Good(_), _) => Good("through fusermount3".into()),
        (_, Good(_)) => Optional(
            "in a user namespace only (unshare -Urm): install fuse3 to mount outside".into(),
        ),
        _ => Missing("neither root, nor fusermount3, nor user namespaces: install fuse3".into()),
    }
}

fn helper() -> Outcome {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("fusermount3"));
    let found = found.filter_map(|program| Some((program.metadata().ok()?, program)));
    match found.into_iter().next() {
        None => Optional("not found; only root mounts without it: install fuse3".into()),
        Some((metadata, program)) => {
            let set_id = metadata.permissions().mode() & 0o4000 != 0 && metadata.uid() == 0;
            let shown = program.display();
            if set_id || capabilities::euid() == 0 {
                Good(shown.to_string())
            } else {
                Optional(format!(
                    "{shown} is not set-user-id root: chmod u+s {shown}"
                ))
            }
        }
    }
}

fn user_namespaces() -> Outcome {
    let is = |path: &str, value: &str| text_of(path).as_deref() == Some(value);
    if !Path::new("/proc/self/ns/user").exists() {
        return Optional("this kernel has none".into());
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return Optional("switched off: sysctl user.max_user_namespaces=10000".into());
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return Optional("root only: sysctl kernel.unprivileged_userns_clone=1".into());
    }
    if is(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        return Optional(
            "restricted: sysctl kernel.apparmor_restrict_unprivileged_userns=0".into(),
        );
    }
    Good("for every user".into())
}

fn allow_other() -> Outcome {
    let allowed = text_of("/etc/fuse.conf")
        .is_some_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"));
    if allowed {
        Good("for every user".into())
    } else {
        Optional(
            "root only: a line user_allow_other in /etc/fuse.conf lets users share their mounts"
                .into(),
        )
    }
}

fn passthrough(kernel: Option<(u32, u32)>) -> Outcome {
    if kernel.is_some_and(|version| version < (6, 9)) {
        return Optional("needs Linux 6.9; reading and writing go through the server".into());
    }
    let host_admin =
        capabilities::has(Capability::SysAdmin) && capabilities::in_initial_user_namespace();
    if host_admin {
        Good("the kernel reads and writes branch files itself".into())
    } else {
        Optional("needs CAP_SYS_ADMIN; reading and writing go through the server".into())
    }
}

fn io_uring() -> Outcome {
    let slower = "requests go through /dev/fuse, which takes twice as long";
    match request_ring::support() {
        Support::Off => Optional(format!(
            "switched off: echo Y > /sys/module/fuse/parameters/enable_uring; {slower}"
        )),
        Support::Absent => Optional(format!("not in this kernel (Linux 6.14 has it); {slower}")),
        Support::On => match request_ring::probe() {
            Ok(()) => Good("requests of new mounts go over it".into()),
            Err(errno) => Optional(format!("no ring can be made: {errno}; {slower}")),
        },
    }
}

fn open_files() -> Outcome {
    let limits = text_of("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(1));
    match hard.map(|hard| (hard, hard.parse::<u64>())) {
        Some((hard, Ok(count))) if count < 4096 => Optional(format!(
            "at most {hard}: raise it (ulimit -Hn 1048576) for many branches"
        )),
        Some((hard, _)) => Good(format!("at most {hard}")),
        None => Optional("the limit cannot be read".into()),
    }
}

fn mount_helpers() -> Outcome {
    let names = [
        "mount.aufs",
        "umount.aufs",
        "mount.plywood",
        "mount.fuse.plywood",
    ];
    let place = |name: &str| {
        let dirs = ["/sbin", "/usr/sbin"];
        let paths = dirs.iter().map(|dir| PathBuf::from(dir).join(name));
        paths
            .into_iter()
            .any(|path| is_ours(&path) && path.exists())
    };
    let missing: Vec<_> = names.iter().copied().filter(|name| !place(name)).collect();
    if missing.is_empty() {
        return Good("mount -t aufs and mount -t plywood work".into());
    }
    let program = std::env::current_exe().unwrap_or_default();
    let program = program.file_name().unwrap_or(OsStr::new("plywood"));
    Optional(format!(
        "no {} in /sbin: {} install-helpers",
        missing.join(", "),
        program.display()
    ))
}
