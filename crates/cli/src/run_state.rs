//! What running servers tell about themselves: one file each, gone when they are.
//!
//! `PID.json` is that of the server with this id. A file whose server is dead counts as absent and is
//! removed by the next command of its owner. Besides what people are told, `umount` and the next mount of the same branches
//! depend on them: they wait for a server that is about to end.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use fuse::Way;
use rules::Name;
use rules::options::{BranchMode, Dialect, DirectAccess, Settings, render};
use serde::{Deserialize, Serialize};
use sys::capabilities;
use sys::mount_table::{DeviceNumber, MountEntry};
use sys::{BranchDir, HostDir, HostTree};
use tree::{Access, Object, Tree};
use union::{DialectKind, OverlayMarks};

use crate::mounting::plan::Plan;
use crate::render::path_text;
use crate::run_dir::{RunDir, is_safe};
use crate::sysfs_tree::{self, Files};

/// The version of the file's shape.
const SCHEMA: u32 = 1;
/// The longest file that is read, in bytes: a stack with as many branches as there can be.
const LONGEST: u64 = 64 << 20;

/// A running server and its mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunState {
    schema: u32,
    /// Process id of the server.
    pub(crate) pid: u32,
    /// When the process started, in the kernel's ticks since boot.
    start_ticks: u64,
    /// When it was mounted, in seconds since 1970.
    pub(crate) mounted_at: u64,
    /// Where, as [`path_text`] writes paths.
    pub(crate) mount_point: String,
    /// `major:minor` of the mount.
    pub(crate) device: Option<String>,
    /// What the mount table shows as the source.
    pub(crate) source: String,
    /// The type behind `fuse.`.
    pub(crate) subtype: String,
    /// `aufs` or `overlay`.
    pub(crate) dialect: String,
    /// Whether overlay's marks are those of users.
    pub(crate) user_marks: bool,
    /// `none`, `reval` or `notify`.
    pub(crate) udba: String,
    /// Options unlike AUFS's defaults.
    pub(crate) options: String,
    /// The branches, topmost first.
    pub(crate) branches: Vec<BranchState>,
    /// How requests travel; unknown of a server of an older version.
    #[serde(default)]
    pub(crate) transport: Option<TransportState>,
    /// Whose server it is; root's may have mounted for somebody else.
    #[serde(skip)]
    owner: u32,
}

/// How requests travel between the kernel and a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransportState {
    /// `io_uring` or `/dev/fuse`.
    pub(crate) name: String,
    /// Why it is no faster one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) obstacle: Option<String>,
}

/// A branch of a running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BranchState {
    /// Where, as [`path_text`] writes paths.
    pub(crate) path: String,
    /// Permission and attributes.
    pub(crate) mode: String,
    /// The server's descriptor of it.
    pub(crate) descriptor: i32,
}

impl RunState {
    /// Describes a mount that is about to be made by this process, but for what [`RunState::describe`] adds.
    pub(crate) fn of(plan: &Plan) -> Self {
        let pid = std::process::id();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            schema: SCHEMA,
            pid,
            start_ticks: start_of(pid).unwrap_or_default(),
            mounted_at: now.map_or(0, |since| since.as_secs()),
            mount_point: path_text::write(&plan.place),
            device: None,
            source: plan.source.to_string_lossy().into_owned(),
            subtype: plan.subtype.clone(),
            dialect: match plan.parsed.dialect {
                Dialect::Aufs => "aufs",
                Dialect::Overlay => "overlay",
            }
            .to_owned(),
            user_marks: plan.settings.dialect == DialectKind::Overlay(OverlayMarks::User),
            udba: String::new(),
            options: String::new(),
            branches: Vec::new(),
            transport: None,
            owner: 0,
        }
    }

    /// Says how requests travel.
    pub(crate) fn served_by(&mut self, way: Way) {
        self.transport = Some(TransportState {
            name: way.name().to_owned(),
            obstacle: way.obstacle().map(|why| format!("io_uring: {why}")),
        });
    }

    /// Says how the union behaves now and what it is stacked of.
    pub(crate) fn describe<'a>(
        &mut self,
        settings: &Settings,
        branches: impl Iterator<Item = (&'a Path, BranchMode, &'a BranchDir)>,
    ) {
        self.udba = match settings.direct_access {
            DirectAccess::None => "none",
            DirectAccess::Revalidate => "reval",
            DirectAccess::Notify => "notify",
        }
        .to_owned();
        self.options = render::proc_mounts(&shown(settings, &self.dialect), None);
        let branches = branches.map(|(path, mode, root)| BranchState {
            path: path_text::write(path),
            mode: mode.to_string(),
            descriptor: root.as_fd().as_raw_fd(),
        });
        self.branches = branches.collect();
    }

    /// Adds the number of the filesystem.
    #[must_use]
    pub(crate) fn mounted_as(mut self, device: Option<DeviceNumber>) -> Self {
        self.device = device.map(device_text);
        self
    }

    /// Returns the number behind `si=`: 16 hexadecimal digits that stay as long as the server, and
    /// that no other has.
    pub(crate) fn si(&self) -> String {
        // Process ids take 22 bits at most; mixing them only makes it look like AUFS's.
        let mixed = mix(self.start_ticks << 22 | u64::from(self.pid));
        format!("{mixed:016x}")
    }

    /// Tells whether this is the server of a mount. Nobody but root speaks for a mount that somebody else made.
    pub(crate) fn is_of(&self, mount: &MountEntry) -> bool {
        is_of(self.device.as_deref(), self.owner, mount)
    }

    /// Tells whether scripts may look for the branches as for AUFS's: overlayfs never showed any, and two files for each branch
    /// take longer than the mount.
    fn looks_like_aufs(&self) -> bool {
        self.dialect == "aufs" || self.subtype == "aufs"
    }

    /// Tells whether the server still runs, and is not another process of the same id.
    pub(crate) fn is_alive(&self) -> bool {
        start_of(self.pid) == Some(self.start_ticks)
    }
}

/// As [`RunState::is_of`], by what a file says and whose it is.
fn is_of(device: Option<&str>, owner: u32, mount: &MountEntry) -> bool {
    let made_by_owner = || {
        let mut options = mount.super_options.split(',');
        let user = options.find_map(|option| option.strip_prefix("user_id="));
        user.and_then(|user| user.parse().ok()) == Some(owner)
    };
    device == Some(&device_text(mount.device)) && (owner == 0 || made_by_owner())
}

/// Renaming merged directories is a default that overlay's format has no records for: there it is not claimed.
fn shown(settings: &Settings, dialect: &str) -> Settings {
    Settings {
        rename_directories: settings.rename_directories && dialect == "aufs",
        ..settings.clone()
    }
}

/// Returns another number for each number (the finalizer of splitmix64, which can be undone).
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn device_text(device: DeviceNumber) -> String {
    format!("{}:{}", device.major, device.minor)
}

/// Returns when a process started: the 22nd field of its `stat`, counted behind the name.
/// One that has ended, and that nobody has waited for, is gone.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let behind = stat.rsplit(|byte| *byte == b')').next()?;
    let mut fields = std::str::from_utf8(behind).ok()?.split_whitespace();
    let state = fields.next()?;
    (!["Z", "X"].contains(&state)).then_some(())?;
    fields.nth(18)?.parse().ok()
}

/// What a server tells about itself, to be removed when it ends.
#[derive(Debug)]
pub(crate) struct Recorded {
    state: RunState,
    socket: PathBuf,
}

impl Recorded {
    /// Returns where the server answers questions about itself.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Removes what was recorded.
    pub(crate) fn forget(self) {
        if let Some(own) = OWN.get() {
            own.remove(&self.state);
        }
    }
}

/// Where the servers of a user tell about themselves.
struct Dirs {
    told: RunDir,
    /// Where their branches are shown as in sysfs, if that is possible.
    shown: Option<RunDir>,
    /// What is shown there by this server.
    files: Mutex<Files>,
}

/// This server's, opened when it first told anything.
static OWN: OnceLock<Dirs> = OnceLock::new();

impl Dirs {
    fn open(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            told: RunDir::open(dir)?,
            shown: RunDir::open(&sysfs_tree::place(dir)).ok(),
            files: Mutex::default(),
        })
    }

    fn own(shows: bool) -> anyhow::Result<&'static Self> {
        if let Some(own) = OWN.get() {
            return Ok(own);
        }
        let dir = own_dir();
        // Root's is for all to read; a user's is nobody else's business.
        let perm = if is_host_root() { 0o755 } else { 0o700 };
        let shown = shows.then(|| RunDir::make(&sysfs_tree::place(&dir), perm).ok());
        let own = Self {
            told: RunDir::make(&dir, perm)?,
            shown: shown.flatten(),
            files: Mutex::default(),
        };
        Ok(OWN.get_or_init(|| own))
    }

    fn write(&self, state: &RunState) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(state)?;
        self.told.write(&file_of(state.pid), &text, 0o644)?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // The server works without.
        if let Some(shown) = &self.shown
            && let Err(error) = sysfs_tree::write(shown, state, &mut files)
        {
            tracing::debug!(%error, "the branches are not shown as in sysfs");
            files.clear();
        }
        Ok(())
    }

    /// What is shown goes first: whoever finds the file later knows by it what else to remove.
    fn remove(&self, state: &RunState) {
        if let Some(shown) = &self.shown {
            sysfs_tree::remove(shown, state);
        }
        self.told.remove(&file_of(state.pid));
        self.told.remove(&format!("{}.sock", state.pid));
    }
}

fn file_of(pid: u32) -> String {
    format!("{pid}.json")
}

/// Tells others about this server's mount, or what has become of it since; a server that cannot works
/// without, so that failing is only logged.
pub(crate) fn record(state: &RunState) -> Option<Recorded> {
    match Dirs::own(state.looks_like_aufs()).and_then(|own| own.write(state)) {
        Ok(()) => Some(Recorded {
            state: state.clone(),
            socket: own_dir().join(format!("{}.sock", state.pid)),
        }),
        Err(error) => {
            tracing::debug!(%error, "the mount is not recorded");
            None
        }
    }
}

fn is_host_root() -> bool {
    capabilities::euid() == 0 && capabilities::in_initial_user_namespace()
}

/// Returns where this user's servers tell about themselves.
fn own_dir() -> PathBuf {
    if is_host_root() {
        return ROOT_DIR.into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Path::new(&dir).join("plywood"),
        None => format!("/tmp/plywood-{}", host_user()).into(),
    }
}

/// Returns who this user is outside of the user namespace: inside, many are root.
fn host_user() -> u32 {
    let euid = capabilities::euid();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let outside = map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let distance = euid.checked_sub(inside)?;
        (distance < count).then(|| outside.saturating_add(distance))
    });
    outside.unwrap_or(euid)
}

const ROOT_DIR: &str = "/run/plywood";

/// Reads what this user's servers tell, and root's, but for those that have one of these mounts.
///
/// Of those no more is read than which mount it is: beside five hundred others a mount must not take longer.
pub(crate) fn nearby_without(mounts: &[MountEntry]) -> Vec<RunState> {
    #[derive(Deserialize)]
    struct Device {
        device: Option<String>,
    }
    let mut dirs = vec![own_dir(), PathBuf::from(ROOT_DIR)];
    dirs.dedup();
    let counts = |told: &Told| {
        let Ok(Device { device }) = serde_json::from_slice(&told.text) else {
            return false;
        };
        let mut mounts = mounts.iter();
        !mounts.any(|mount| is_of(device.as_deref(), told.owner, mount))
    };
    dirs.iter().flat_map(|dir| in_dir(dir, counts)).collect()
}

/// Reads what all servers tell that this user may know of.
pub(crate) fn all() -> Vec<RunState> {
    let mut states: Vec<_> = dirs()
        .iter()
        .flat_map(|dir| in_dir(dir, |_| true))
        .collect();
    states.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    states
}

/// Returns where servers may have left their files.
fn dirs() -> Vec<PathBuf> {
    let mut dirs = vec![own_dir(), PathBuf::from(ROOT_DIR)];
    if is_host_root() {
        let users = fs::read_dir("/run/user").into_iter().flatten().flatten();
        dirs.extend(users.map(|user| user.path().join("plywood")));
        let others = fs::read_dir("/tmp").into_iter().flatten().flatten();
        let ours = |name: &OsStr| name.as_encoded_bytes().starts_with(b"plywood-");
        let others = others.filter(|other| ours(&other.file_name()));
        dirs.extend(others.map(|other| other.path()));
    }
    dirs.sort();
    dirs.dedup();
    dirs
}

/// What stands in the file of a server, and whose it is.
struct Told {
    text: Vec<u8>,
    owner: u32,
}

fn in_dir(dir: &Path, counts: impl Fn(&Told) -> bool) -> Vec<RunState> {
    if !is_safe(dir) && !is_host_root() {
        return Vec::new();
    }
    let read = || -> anyhow::Result<Vec<RunState>> {
        let tree = HostTree::open(dir)?;
        let root = tree.root()?;
        let entries = tree.list(&root)?.into_iter();
        let files = entries.filter(|entry| entry.name.as_bytes().ends_with(b".json"));
        Ok(files
            .filter_map(|file| told(&tree, &root, &file.name).ok())
            .filter(&counts)
            .filter_map(|told| alive(dir, told.parse().ok()?))
            .collect())
    };
    read().unwrap_or_default()
}

/// Reads what a server tells. The directory may be anybody's: nothing but a regular file of a sane size is read.
fn told(tree: &HostTree, dir: &HostDir, name: &Name) -> anyhow::Result<Told> {
    let file = tree.open_file(dir, name, Access::Read)?;
    let attr = tree.attr(Object::File(&file))?;
    anyhow::ensure!(attr.size <= LONGEST, "{name} is too long");
    let mut text = vec![0; usize::try_from(attr.size)?];
    let mut count = 0;
    while count < text.len() {
        match tree.read(&file, &mut text[count..], count as u64)? {
            0 => break,
            more => count += more,
        }
    }
    text.truncate(count);
    let owner = attr.uid;
    Ok(Told { text, owner })
}

impl Told {
    fn parse(&self) -> anyhow::Result<RunState> {
        let mut state: RunState = serde_json::from_slice(&self.text)?;
        state.owner = self.owner;
        Ok(state)
    }
}

fn alive(dir: &Path, state: RunState) -> Option<RunState> {
    if !state.is_alive() {
        // Others leave it to its owner, who may also remove the rest.
        if state.owner == capabilities::euid()
            && let Ok(dirs) = Dirs::open(dir)
        {
            dirs.remove(&state);
        }
        return None;
    }
    // Nobody speaks for somebody else's server.
    let process = fs::metadata(format!("/proc/{}", state.pid)).ok()?;
    (state.owner == 0 || process.uid() == state.owner).then_some(state)
}

/// Returns the server of a mount.
pub(crate) fn server_of(mount: &MountEntry) -> Option<RunState> {
    among(&all(), mount).cloned()
}

/// Returns the server of a mount among those that are known.
///
/// The number of a filesystem is free again before its server has ended, so of several
/// the one that says it is mounted there counts, or else the last that started.
pub(crate) fn among<'a>(servers: &'a [RunState], mount: &MountEntry) -> Option<&'a RunState> {
    let place = path_text::write(&mount.mount_point);
    servers
        .iter()
        .filter(|server| server.is_of(mount))
        .max_by_key(|server| (server.mount_point == place, server.start_ticks))
}

/// Returns where a server answers questions about itself.
pub(crate) fn sockets_of(state: &RunState) -> Vec<PathBuf> {
    let name = format!("{}.sock", state.pid);
    dirs().into_iter().map(|dir| dir.join(&name)).collect()
}

/// Returns a path that [`path_text`] wrote.
pub(crate) fn path_of(text: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(path_text::read(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let start = start_of(std::process::id()).unwrap();
        assert!(start > 0);
        assert_eq!(start_of(u32::MAX), None);
    }

    #[test]
    fn nothing_but_a_file_is_read_of_what_strangers_leave() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        std::os::unix::fs::symlink("/dev/zero", dir.join("link.json")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(dir.join("pipe.json"))
            .status();
        assert!(made.unwrap().success());
        let sparse = fs::File::create(dir.join("long.json")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        assert_eq!(in_dir(dir, |_| true), []);
    }

    #[test]
    fn a_user_speaks_for_his_own_mounts_only() {
        let state = |owner| RunState {
            schema: SCHEMA,
            pid: 1,
            start_ticks: 1,
            mounted_at: 0,
            mount_point: "/m".to_owned(),
            device: Some("0:7".to_owned()),
            source: String::new(),
            subtype: String::new(),
            dialect: String::new(),
            user_marks: false,
            udba: String::new(),
            options: String::new(),
            transport: None,
            branches: Vec::new(),
            owner,
        };
        let mount = |user: u32| MountEntry {
            id: 1,
            parent: 1,
            device: DeviceNumber { major: 0, minor: 7 },
            root: "/".into(),
            mount_point: "/m".into(),
            options: String::new(),
            fstype: "fuse.aufs".to_owned(),
            source: OsString::new(),
            super_options: format!("rw,user_id={user},group_id=0"),
        };
        for (owner, user, expected) in [(0, 0, true), (0, 7, true), (7, 7, true), (7, 0, false)] {
            assert_eq!(state(owner).is_of(&mount(user)), expected, "{owner} {user}");
        }
    }

    #[test]
    fn no_two_numbers_are_mixed_into_one() {
        let mixed: std::collections::BTreeSet<_> = (0..100_000).map(mix).collect();
        assert_eq!(mixed.len(), 100_000);
    }
}
