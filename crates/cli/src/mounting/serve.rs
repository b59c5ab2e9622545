//! The life of a server, from the mount to its end.
//!
//! When it ends, for whatever reason, no mount is left that nobody answers.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;

use fuse::{Server, Way};
use rules::options;
use sys::BranchTree;
use sys::mount_table::{self, DeviceNumber};
use sys::mounting::UnmountHow;
use sys::signals::{Signal, Signals};
use tree::{OverrideStat, Record, Tree};
use union::{Branch, OpenError, Union};

use super::attach::{self, DetachError};
use super::branches;
use super::chain_index::IndexKeeper;
use super::live::{Adapt, Live, Opened};
use super::plan::Plan;
use super::predecessor;
use crate::control::{self, Door};
use crate::failure::{Exit, Failure};
use crate::run_state::{self, Recorded, RunState};

/// How far the kernel reads ahead, in KiB.
const READ_AHEAD: u32 = 1024;

/// A mount that is ready to be served, whatever trees are stacked.
pub(crate) struct Ready(Box<dyn FnOnce(OnServing) -> Exit>);

/// What is to be done once the mount can be used.
type OnServing = Box<dyn FnOnce() + Send>;

/// The same, knowing the trees.
struct Prepared<T: Tree> {
    server: Server<T>,
    mounted: Mounted,
    signals: Signals,
    /// What orders are given to; it takes a while to make, which nobody who uses the mount waits for.
    live: Box<dyn FnOnce() -> Live<T> + Send>,
    index: Option<IndexKeeper>,
}

/// Where the mount is, so that exactly it is unmounted.
#[derive(Debug, Clone)]
struct Mounted {
    place: PathBuf,
    device: Option<DeviceNumber>,
}

impl Ready {
    /// Mounts and answers the kernel's first question. Its frame is not to be that of the server.
    #[inline(never)]
    pub(crate) fn make(plan: Plan) -> anyhow::Result<Self> {
        match plan.parsed.settings.override_stat {
            options::OverrideStat::None => Self::over(plan, |_, tree| Ok(tree)),
            options::OverrideStat::User => Self::over(plan, overriding(Record::User)),
            options::OverrideStat::Privileged => Self::over(plan, overriding(Record::Privileged)),
        }
    }

    fn over<T: Tree>(
        plan: Plan,
        adapt: impl Fn(Place<'_>, BranchTree) -> Result<T, Failure> + Send + 'static,
    ) -> anyhow::Result<Self>
    where
        T::Dir: AsFd,
        T::File: AsFd,
    {
        let adapt: Adapt<T> = Box::new(adapt);
        let prepared = Prepared::make(plan, adapt)?;
        Ok(Self(Box::new(|on_serving| prepared.run(on_serving))))
    }

    /// Serves until the mount is gone. `on_serving` is called once it can be used and others can find out about it.
    pub(crate) fn run(self, on_serving: impl FnOnce() + Send + 'static) -> Exit {
        (self.0)(Box::new(on_serving))
    }
}

impl<T: Tree> Prepared<T>
where
    T::Dir: AsFd,
    T::File: AsFd,
{
    fn make(mut plan: Plan, adapt: Adapt<T>) -> anyhow::Result<Self> {
        sys::footprint::limit();
        sys::limits::clear_umask();
        sys::signals::ignore_broken_pipes();
        // Before the first thread, so that none of them is interrupted.
        let signals = Signals::block()
            .map_err(|errno| Failure::mount(format!("cannot wait for signals: {errno}")))?;
        predecessor::wait(&plan);
        let opened = kept(&plan)?;
        let index = IndexKeeper::of(&plan);
        let union = Arc::new(stack(&mut plan, &adapt)?);
        if let Some(index) = &index {
            index.begin(&union);
        }
        let device = attach::attach(&plan)?;
        let mounted = Mounted::at(&plan.place);
        let unwinding = LeaveWhenUnwinding(mounted.clone());
        let mut server = Server::new(device, Arc::clone(&union), plan.serve.clone());
        if let Err(error) = server.initialize() {
            mounted.leave_lazily();
            let what = format!("cannot serve {:?}: {error}", plan.place);
            return Err(Failure::mount(what).into());
        }
        drop(unwinding);
        let (control, counters) = (server.control(), server.counters());
        let device = mounted.device;
        let live = Box::new(move || {
            let state = RunState::of(&plan).mounted_as(device);
            let without_opens = plan.serve.without_opens;
            let Plan { parsed, place, .. } = plan;
            Live::new(
                union,
                control,
                counters,
                adapt,
                parsed,
                place,
                state,
                opened,
                without_opens,
            )
        });
        Ok(Self {
            server,
            live,
            mounted,
            signals,
            index,
        })
    }

    fn run(self, on_serving: OnServing) -> Exit {
        let Self {
            server,
            live,
            mounted,
            signals,
            index,
        } = self;
        let recorded = OnceLock::new();
        let beginning = Beginning {
            live,
            index,
            mounted: &mounted,
            signals,
            on_serving,
        };
        let serving = |way: Way| {
            beginning.announce(way, &recorded);
            sys::footprint::release();
        };
        // What follows is not told on this thread when requests go over io_uring.
        sys::footprint::release_stack();
        let served = catch_unwind(AssertUnwindSafe(|| server.run_and(serving)));
        if let Some(recorded) = recorded.into_inner().flatten() {
            recorded.forget();
        }
        match served {
            Ok(Ok(())) => return Exit::SUCCESS,
            Ok(Err(error)) => tracing::error!(%error, "the server stops"),
            Err(_) => tracing::error!("the server panicked"),
        }
        mounted.leave_lazily();
        Exit::SOFTWARE
    }
}

/// What is to be done once requests are answered.
struct Beginning<'a, T: Tree> {
    live: Box<dyn FnOnce() -> Live<T> + Send>,
    index: Option<IndexKeeper>,
    mounted: &'a Mounted,
    signals: Signals,
    on_serving: OnServing,
}

impl<T: Tree> Beginning<'_, T>
where
    T::Dir: AsFd,
    T::File: AsFd,
{
    /// Lets others find out about the mount. Its frame is gone when the server runs.
    #[inline(never)]
    fn announce(self, way: Way, recorded: &OnceLock<Option<Recorded>>) {
        if let Some(device) = self.mounted.device
            && let Err(errno) = sys::readahead::set(device, READ_AHEAD)
        {
            // Reading is slower without.
            tracing::debug!(%errno, "cannot set how far the kernel reads ahead");
        }
        let mut live = (self.live)();
        live.state.served_by(way);
        if let Some(index) = self.index {
            index.tend(Arc::clone(&live.union));
        }
        let recorded = recorded.get_or_init(|| run_state::record(&live.state));
        let door = recorded
            .as_ref()
            .and_then(|recorded| control::offer(&recorded.socket(), move |ask| live.answer(ask)));
        (self.on_serving)();
        obey(self.signals, door, self.mounted.clone());
        let (mount_point, transport) = (self.mounted.place.display(), way.name());
        tracing::info!(%mount_point, transport, "serving");
    }
}

/// Returns what is to be remembered of the branches.
fn kept(plan: &Plan) -> Result<Vec<Opened>, Failure> {
    let keep = |(index, branch): (usize, &branches::OpenBranch)| {
        let root = branch.tree.root();
        let root = root.map_err(|errno| branches::refused(index, &branch.path, errno))?;
        Ok((branch.path.clone(), branch.mode, root))
    };
    plan.branches.iter().enumerate().map(keep).collect()
}

/// Where a branch is in the stack.
pub(crate) struct Place<'a> {
    pub(crate) index: usize,
    pub(crate) path: &'a Path,
    pub(crate) writable: bool,
}

/// Lets owners and permissions of a branch be in an attribute.
fn overriding(
    record: Record,
) -> impl Fn(Place<'_>, BranchTree) -> Result<OverrideStat<BranchTree>, Failure> {
    move |place, tree| {
        let tree = OverrideStat::new(tree, record);
        if place.writable {
            tree.mark_root().map_err(|errno| {
                let Place { index, path, .. } = place;
                let name = record.name();
                let what = format!("branch {index}: {path:?}: cannot set {name}: {errno}");
                Failure::mount(what).hint(match record {
                    Record::User => "take a directory on a filesystem with users' attributes",
                    Record::Privileged => "run as root, or mount with xattr_permissions=2",
                })
            })?;
        }
        Ok(tree)
    }
}

fn stack<T: Tree>(plan: &mut Plan, adapt: &Adapt<T>) -> Result<Union<T>, Failure> {
    let opened = std::mem::take(&mut plan.branches);
    let paths: Vec<_> = opened.iter().map(|branch| branch.path.clone()).collect();
    let stacked = opened.into_iter().enumerate().map(|(index, branch)| {
        let powers = branch.mode.powers();
        let place = Place {
            index,
            path: &branch.path,
            writable: powers.writable,
        };
        let tree = adapt(place, branch.tree)?;
        Ok(Branch { powers, tree })
    });
    let stacked = stacked.collect::<Result<_, Failure>>()?;
    Union::new(stacked, plan.settings.clone()).map_err(|error| match error {
        OpenError::NoBranch => Failure::mount("no branch"),
        OpenError::Branch { index, error } => {
            let path = paths.get(index).map_or(Path::new("?"), PathBuf::as_path);
            match error {
                union::Error::Branch(errno) => branches::refused(index, path, errno),
                union::Error::Refused(refusal) => Failure::mount(format!(
                    "branch {index}: {path:?}: {refusal}"
                ))
                .hint("something else has the name of one of AUFS's own files there (.wh..wh.*)"),
            }
        }
    })
}

impl Mounted {
    fn at(place: &Path) -> Self {
        Self {
            place: place.to_owned(),
            device: mount_table::device_at(place).ok(),
        }
    }

    /// Returns where the mount is now, unless it is gone or something is mounted over it.
    fn found(&self) -> Option<PathBuf> {
        let device = self.device?;
        let table = mount_table::read().ok()?;
        let ours = table.iter().find(|entry| entry.device == device)?;
        let topmost = table
            .iter()
            .rfind(|entry| entry.mount_point == ours.mount_point)?;
        (topmost.device == device).then(|| ours.mount_point.clone())
    }

    /// Takes the mount out of sight.
    fn leave_lazily(&self) {
        // A failure on the way must not make this go round for ever.
        for _ in 0..16 {
            let Some(place) = self.found() else { return };
            if let Err(error) = attach::detach(&place, UnmountHow::Lazy) {
                tracing::error!(?error, "cannot unmount");
                return;
            }
        }
    }

    /// Unmounts, lazily when somebody uses the mount.
    fn leave(&self) {
        let Some(place) = self.found() else { return };
        match attach::detach(&place, UnmountHow::Plain) {
            Ok(()) => {}
            Err(DetachError::Busy) => {
                // Finding the users takes a while: only for a log that somebody reads.
                if tracing::enabled!(tracing::Level::WARN) {
                    let users = crate::render::busy::line(&place);
                    tracing::warn!("still in use, gone when its users are: {users}");
                }
                self.leave_lazily();
            }
            Err(DetachError::Failed(failure)) => {
                tracing::warn!(%failure, "cannot unmount");
                self.leave_lazily();
            }
        }
    }
}

/// Takes the mount away when what comes after it panics.
struct LeaveWhenUnwinding(Mounted);

impl Drop for LeaveWhenUnwinding {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.leave_lazily();
        }
    }
}

/// Opens the door to who knocks. Unmounts at the first signal to end; ends at once at the second, for then the users of
/// the mount do not go.
fn obey(signals: Signals, door: Option<Door>, mounted: Mounted) {
    let mut asked_to_end = false;
    let next = move || match &door {
        Some(door) => signals.wait_beside(door.as_fd()).inspect(|signal| {
            if signal.is_none() {
                door.open();
            }
        }),
        None => signals.wait().map(Some),
    };
    let wait = move || {
        while let Ok(signal) = next() {
            match signal {
                None | Some(Signal::Hangup) => {}
                Some(Signal::Terminate | Signal::Interrupt) => {
                    if std::mem::replace(&mut asked_to_end, true) {
                        mounted.leave_lazily();
                        std::process::exit(i32::from(Exit::FAILED.0));
                    }
                    mounted.leave();
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("waiting".into());
    if let Err(error) = thread.spawn(wait) {
        tracing::warn!(%error, "signals and orders are not obeyed");
    }
}
