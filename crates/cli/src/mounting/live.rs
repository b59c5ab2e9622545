//! A union whose stack and options change while it is served.
//!
//! Orders come over the control socket, one at a time. Each change takes effect as a whole or not at all; of several, those
//! before the first that fails stay.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuse::Counters;
use rules::options::{
    self, BranchChange, BranchMode, BranchSpec, DirectAccess, MountOptions, Timeouts,
};
use rules::{BranchIndex, Errno, Name};
use sys::busy::{self, Use};
use sys::{BranchDir, BranchTree, mount_table};
use tree::Tree;
use union::{Branch, BranchId, RestackError, Union, Usage};

use super::branches::{self, OpenBranch};
use super::request::gives;
use super::serve::Place;
use super::{move_down, translate, unsupported};
use crate::control::{Answer, Ask, Change, InUse, LinkDeed, MoveDown};
use crate::counters::Counts;
use crate::failure::{Exit, Failure};
use crate::render::path_text;
use crate::run_state::{self, RunState};

/// Makes a branch's tree one of the union's.
pub(crate) type Adapt<T> = Box<dyn Fn(Place<'_>, BranchTree) -> Result<T, Failure> + Send>;

/// A branch in the stack.
struct LiveBranch {
    id: BranchId,
    path: PathBuf,
    mode: BranchMode,
    /// Others reach the branch through it, also where the mount hides its path.
    root: BranchDir,
}

/// A union that is being served.
pub(crate) struct Live<T: Tree> {
    pub(crate) union: Arc<Union<T>>,
    pub(crate) control: Arc<fuse::Control<T>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) adapt: Adapt<T>,
    /// The options as they are now.
    pub(crate) parsed: MountOptions,
    pub(crate) place: PathBuf,
    pub(crate) state: RunState,
    /// Files of the mount are used without being opened, because nobody can ever write to them.
    without_opens: bool,
    branches: Vec<LiveBranch>,
}

/// Whether something that is as it should be already is worth an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// AUFS's at remount: it is not.
    Lenient,
    /// A command's: it is.
    Strict,
}

/// What is kept of a branch that was opened: where it is, its mode and its root.
pub(crate) type Opened = (PathBuf, BranchMode, BranchDir);

impl<T: Tree> Live<T>
where
    T::Dir: AsFd,
    T::File: AsFd,
{
    #[expect(clippy::too_many_arguments, reason = "what a server consists of")]
    pub(crate) fn new(
        union: Arc<Union<T>>,
        control: Arc<fuse::Control<T>>,
        counters: Arc<Counters>,
        adapt: Adapt<T>,
        parsed: MountOptions,
        place: PathBuf,
        state: RunState,
        opened: Vec<Opened>,
        without_opens: bool,
    ) -> Self {
        let ids = union.branches().into_iter().map(|(id, _)| id);
        let branches = ids.zip(opened).map(|(id, (path, mode, root))| LiveBranch {
            id,
            path,
            mode,
            root,
        });
        let mut live = Self {
            branches: branches.collect(),
            union,
            control,
            counters,
            adapt,
            parsed,
            place,
            state,
            without_opens,
        };
        live.describe();
        live
    }

    /// Answers a question or carries out an order.
    pub(crate) fn answer(&mut self, ask: Ask) -> Answer {
        let done = match ask {
            Ask::Counters => {
                return Answer::Counters(Counts::of(&self.counters, &self.union));
            }
            Ask::Remount { options, from } => {
                let options = OsString::from_vec(path_text::read(&options));
                let done = self.remount(&options, &run_state::path_of(&from));
                self.publish();
                done
            }
            Ask::Change { changes } => {
                let done = changes.iter().try_for_each(|change| self.change(change));
                self.publish();
                done.map(|()| Vec::new())
            }
            Ask::Links { deed } => return self.links(deed),
            Ask::MoveDown(wish) => return self.move_down(&wish),
            Ask::Users { branch } => return self.users(&run_state::path_of(&branch)),
        };
        match done {
            Ok(warnings) => Answer::Done(warnings),
            Err(error) => Answer::refused(&error),
        }
    }

    fn remount(&mut self, options: &OsStr, from: &Path) -> anyhow::Result<Vec<String>> {
        let mut parsed =
            options::parse_remount(options, self.parsed.dialect, &self.parsed.settings)
                .map_err(|error| Failure::mount(error.to_string()))?;
        unsupported::refuse(options, &parsed)?;
        let trusts = parsed.settings.direct_access == DirectAccess::None;
        if !(parsed.generic.read_only && trusts) {
            self.refuse_for_good()?;
        }
        let listed = std::mem::take(&mut parsed.branches);
        let listed = listed.into_iter().enumerate();
        // At a remount, `br=` adds what is not there yet on top.
        let listed = listed.map(|(index, branch)| BranchChange::Insert { index, branch });
        let changes: Vec<_> = listed.chain(std::mem::take(&mut parsed.changes)).collect();
        let mut warnings = std::mem::take(&mut parsed.warnings);
        if parsed.settings.chain_index != self.parsed.settings.chain_index {
            let why = "ignored option chain_index: it is for the mount as a whole";
            warnings.push(why.to_owned());
            parsed.settings.chain_index = self.parsed.settings.chain_index.clone();
        }
        self.reconfigure(parsed, gives(options, "udba"))?;
        for change in changes {
            self.apply(absolute(change, from), Manner::Lenient)?;
        }
        if self.parsed.generic.read_only {
            // Somebody may switch the machine off next.
            self.union
                .flush_links()
                .map_err(|error| Failure::mount(format!("hard links: {error}")))?;
        }
        Ok(warnings)
    }

    fn reconfigure(&mut self, parsed: MountOptions, look_again: bool) -> anyhow::Result<()> {
        let mut parsed = parsed;
        let limit = &mut parsed.generic.memory_limit;
        *limit = limit.or(self.parsed.generic.memory_limit);
        let before = self.union.settings();
        let wanted = union::Settings {
            open_dirs: before.open_dirs,
            idle_files: before.idle_files,
            ..translate::settings(&parsed, 0)
        };
        if parsed.settings.direct_access == DirectAccess::Notify {
            self.control.watch();
        }
        if wanted != **self.union.settings() || look_again {
            self.union
                .reconfigure(|settings| *settings = wanted, look_again)
                .map_err(|error| self.failed("the options", error))?;
        }
        let mut kept = parsed;
        let given = std::mem::replace(&mut kept.generic, self.parsed.generic.clone());
        kept.generic.read_only = given.read_only;
        kept.generic.memory_limit = given.memory_limit;
        if given.timeouts != Timeouts::default() {
            kept.generic.timeouts = given.timeouts;
        }
        self.control.set_cache(translate::cache(&kept));
        self.parsed = kept;
        Ok(())
    }

    fn change(&mut self, change: &Change) -> anyhow::Result<()> {
        let path = |path: &str| run_state::path_of(path);
        let mode = |mode: &str| {
            let mut warnings = Vec::new();
            let mode = BranchMode::parse(mode.as_bytes(), &mut warnings);
            match warnings.pop() {
                None => Ok(mode),
                Some(warning) => Err(Failure::new(Exit::MOUNT_USAGE, warning)),
            }
        };
        let change = match change {
            Change::Add {
                index,
                path: at,
                mode: given,
            } => {
                let branch = BranchSpec {
                    path: path(at),
                    mode: given.as_deref().map(mode).transpose()?,
                };
                match index {
                    Some(index) => BranchChange::Insert {
                        index: *index,
                        branch,
                    },
                    None => BranchChange::Append(branch),
                }
            }
            Change::Remove { path: at } => BranchChange::Delete(path(at)),
            Change::Set {
                path: at,
                mode: given,
            } => BranchChange::SetMode {
                path: path(at),
                mode: mode(given)?,
            },
            Change::Move { path: at, index } => return self.shift(&path(at), *index),
        };
        self.apply(change, Manner::Strict)
    }

    fn apply(&mut self, change: BranchChange, manner: Manner) -> anyhow::Result<()> {
        let default = change.index_for_default();
        match change {
            BranchChange::Insert { index, branch } => self.insert((index, default), branch, manner),
            BranchChange::Prepend(branch) => self.insert((0, default), branch, manner),
            BranchChange::Append(branch) => {
                self.insert((self.branches.len(), default), branch, manner)
            }
            BranchChange::Delete(path) => match self.find(&path) {
                Some(at) => self.remove(at),
                None => not_there(&path, manner),
            },
            BranchChange::SetMode { path, mode } => match self.find(&path) {
                Some(at) => self.set_mode(at, mode),
                None => not_there(&path, manner),
            },
        }
    }

    fn insert(
        &mut self,
        (index, default): (usize, usize),
        spec: BranchSpec,
        manner: Manner,
    ) -> anyhow::Result<()> {
        let count = self.branches.len();
        let stack: Vec<_> = self.branches.iter().map(|branch| &*branch.path).collect();
        let read_only = self.parsed.generic.read_only;
        let opened =
            branches::open_one_more(&spec, (index, default), &stack, &self.place, read_only)?;
        let Some(OpenBranch {
            path, mode, tree, ..
        }) = opened
        else {
            return match manner {
                Manner::Lenient => Ok(()),
                Manner::Strict => {
                    let what = format!("{:?}: a branch of {:?} already", spec.path, self.place);
                    Err(Failure::mount(what).into())
                }
            };
        };
        if index > count {
            let what = format!("{path:?}: no position {index}: there are {count} branches");
            return Err(Failure::mount(what)
                .hint("take a position from 0 to the number of branches")
                .into());
        }
        let root = tree
            .root()
            .map_err(|errno| branches::refused(index, &path, errno))?;
        let powers = mode.powers();
        if powers.writable {
            self.refuse_for_good()?;
        }
        if self.without_opens && tree.unpacks_files() {
            let what = format!(
                "{path:?}: an image that is read without the kernel needs its files opened, and {:?} was mounted to do without",
                self.place
            );
            return Err(Failure::mount(what)
                .hint("mount it anew with the image among its branches")
                .into());
        }
        let place = Place {
            index,
            path: &path,
            writable: powers.writable,
        };
        let tree = (self.adapt)(place, tree)?;
        let id = self
            .union
            .insert_branch(index, Branch { tree, powers })
            .map_err(|error| self.failed(&format!("branch {path:?}"), error))?;
        let branch = LiveBranch {
            id,
            path,
            mode,
            root,
        };
        self.branches.insert(index, branch);
        Ok(())
    }

    /// Refuses what cannot be had any more where the kernel was told once that files need not be opened.
    fn refuse_for_good(&self) -> Result<(), Failure> {
        if !self.without_opens {
            return Ok(());
        }
        let what = format!(
            "{:?} is read-only for good: it was mounted with `ro`, `udba=none` and no writable branch",
            self.place
        );
        Err(Failure::mount(what)
            .hint("unmount it and mount it anew, without `ro` or with a writable branch"))
    }

    fn remove(&mut self, at: usize) -> anyhow::Result<()> {
        let LiveBranch { id, path, .. } = &self.branches[at];
        self.union
            .remove_branch(*id, &self.held())
            .map_err(|error| self.failed(&format!("branch {path:?}"), error))?;
        self.branches.remove(at);
        Ok(())
    }

    fn set_mode(&mut self, at: usize, mode: BranchMode) -> anyhow::Result<()> {
        let LiveBranch { id, path, .. } = &self.branches[at];
        branches::refuse_mode_of_place(at, path, mode, &self.place)?;
        if mode.powers().writable {
            self.refuse_for_good()?;
        }
        self.union
            .set_powers(*id, mode.powers())
            .map_err(|error| self.failed(&format!("branch {path:?}"), error))?;
        if self.branches[at].mode.permission != mode.permission {
            // What was promised of the branch may not hold any more.
            self.union.forget_chain_index();
        }
        self.branches[at].mode = mode;
        Ok(())
    }

    fn shift(&mut self, path: &Path, index: usize) -> anyhow::Result<()> {
        let Some(at) = self.find(path) else {
            return not_there(path, Manner::Strict);
        };
        self.union
            .move_branch(self.branches[at].id, index)
            .map_err(|error| self.failed(&format!("branch {path:?}"), error))?;
        let branch = self.branches.remove(at);
        self.branches.insert(index, branch);
        Ok(())
    }

    fn links(&self, deed: LinkDeed) -> Answer {
        let done = match deed {
            LinkDeed::List => return Answer::Numbers(self.union.pseudo_linked()),
            LinkDeed::CopyUp => {
                let _passage = self.union.pass();
                self.union.link_all_names()
            }
            LinkDeed::Flush => self.union.flush_links(),
        };
        match done {
            Ok(()) => Answer::Done(Vec::new()),
            Err(error) => Answer::refused(&Failure::mount(error.to_string()).into()),
        }
    }

    fn users(&self, branch: &Path) -> Answer {
        let Some(at) = self.find(branch) else {
            let what = format!("{branch:?}: not a branch of {:?}", self.place);
            return Answer::refused(&Failure::new(Exit::FAILED, what).into());
        };
        let _passage = self.union.pass();
        let users = self
            .union
            .users_of_branch(self.branches[at].id, &self.held());
        Answer::Users(users.iter().map(in_use).collect())
    }

    fn move_down(&self, wish: &MoveDown) -> Answer {
        let path = run_state::path_of(&wish.path);
        let moved = move_down::wish(wish, |name| self.named(name))
            .and_then(|wish| move_down::carry_out(&self.union, &path, &wish));
        match moved {
            Ok(moved) => {
                let path = |at: BranchIndex| path_text::write(&self.branches[at.get()].path);
                Answer::Moved {
                    from: path(moved.from),
                    to: path(moved.to),
                }
            }
            Err(failure) => Answer::refused(&failure.into()),
        }
    }

    /// Returns the position of a branch that is named by its path or its position.
    fn named(&self, name: &str) -> Option<usize> {
        match name.parse() {
            Ok(position) => Some(position).filter(|at| *at < self.branches.len()),
            Err(_) => self.find(&run_state::path_of(name)),
        }
    }

    /// Returns the position of a branch: by what its path leads to, or by the path it was given when it came.
    fn find(&self, path: &Path) -> Option<usize> {
        let followed = path.canonicalize().ok();
        let by_path = |path: &Path| self.branches.iter().position(|known| known.path == path);
        followed
            .as_deref()
            .and_then(by_path)
            .or_else(|| by_path(path))
    }

    /// Returns what processes hold of the mount without the union's knowledge.
    fn held(&self) -> Vec<Vec<Name>> {
        // It may have been moved since it was mounted.
        let mounts = mount_table::read().unwrap_or_default();
        let Some(mount) = mounts.iter().find(|mount| self.state.is_of(mount)) else {
            return Vec::new();
        };
        let users = busy::users_of(mount).unwrap_or_default();
        let held = users.into_iter().filter_map(|user| {
            let path = match user.what {
                Use::Cwd(path) | Use::Root(path) => path,
                Use::File(path) | Use::Map(path) | Use::Exe(path) if self.without_opens => path,
                Use::File(_) | Use::Map(_) | Use::Exe(_) => return None,
            };
            let inside = path.strip_prefix(&mount.mount_point).ok()?;
            let names = inside.iter().map(|name| Name::new(name.as_bytes()));
            names.collect::<Result<Vec<_>, _>>().ok()
        });
        held.filter(|names| !names.is_empty()).collect()
    }

    /// Lets everybody know what is there now.
    fn publish(&mut self) {
        self.control.settle();
        self.describe();
        drop(run_state::record(&self.state));
    }

    fn describe(&mut self) {
        let branches = self.branches.iter();
        let branches = branches.map(|branch| (&*branch.path, branch.mode, &branch.root));
        self.state.describe(&self.parsed.settings, branches);
    }

    fn failed(&self, what: &str, error: RestackError) -> Failure {
        match error {
            RestackError::InUse(users) => {
                let shown: Vec<_> = users.iter().take(3).map(ToString::to_string).collect();
                let more = match users.len() - shown.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let failure = Failure::mount(format!("{what}: in use: {}{more}", shown.join(", ")));
                let last = users.iter().any(|user| user.what == Usage::LastBranch);
                if last {
                    failure.hint("unmount the union instead")
                } else {
                    failure.hint(format!(
                        "`plywood busy {:?}` names the processes",
                        self.place
                    ))
                }
            }
            RestackError::NoBranch => Failure::mount(format!(
                "{what}: there are {} branches",
                self.branches.len()
            )),
            RestackError::Union(error) => Failure::mount(format!("{what}: {error}")),
        }
    }
}

fn in_use(user: &union::InTheWay) -> InUse {
    let what = match user.what {
        Usage::OpenFile => "open file",
        Usage::OpenDirectory => "open directory",
        Usage::Held => "working directory",
        Usage::Written => "written file",
        Usage::LastBranch => "last branch",
    };
    InUse {
        path: path_text::write(Path::new(OsStr::from_bytes(&user.path))),
        what: what.to_owned(),
        ino: user.ino,
    }
}

fn not_there(path: &Path, manner: Manner) -> anyhow::Result<()> {
    match manner {
        Manner::Lenient => Ok(()),
        Manner::Strict => {
            let failure = Failure::mount(format!("{path:?}: {}", Errno::NOENT));
            let failure = failure.hint("`plywood branch list DIR` shows the branches");
            Err(failure.into())
        }
    }
}

/// Lets a relative path begin where the one who asks is.
fn absolute(change: BranchChange, from: &Path) -> BranchChange {
    let branch = |branch: BranchSpec| BranchSpec {
        path: from.join(&branch.path),
        ..branch
    };
    match change {
        BranchChange::Insert { index, branch: new } => BranchChange::Insert {
            index,
            branch: branch(new),
        },
        BranchChange::Append(new) => BranchChange::Append(branch(new)),
        BranchChange::Prepend(new) => BranchChange::Prepend(branch(new)),
        BranchChange::Delete(path) => BranchChange::Delete(from.join(path)),
        BranchChange::SetMode { path, mode } => BranchChange::SetMode {
            path: from.join(path),
            mode,
        },
    }
}
