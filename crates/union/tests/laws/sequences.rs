//! Long sequences of operations, with a plain directory kept in step.
//!
//! Open files stay open through copy-ups, renames and removals; inode numbers stay with their objects; in between the
//! union forgets, or is mounted anew.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use rules::{Changes, Creation, Errno};
use testkit::MemoryTree;
use tree::{Access, Node, Object, Tree};
use union::{Caller, InodeId, OpenFlags};

use crate::client::{CALLER, Client, WRITE, errno};
use crate::operation::{Op, any_op, any_path};
use crate::outcomes::{clean, may_say_no, same};
use crate::plain::{self, parent_of};
use crate::stack::{Mode, Plan, Stack, any_plan};
use crate::view::{Numbers, View, numbered_view, view};

/// One step of a sequence.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Do(Op),
    /// Opens a file and keeps it open, for writing or only for reading.
    Open(String, bool),
    /// Does something with the n-th open file.
    With(usize, Deed),
    Release(usize),
    /// Enters a directory and stays in it.
    Enter(String),
    /// Makes a file or a directory in the n-th entered directory, which may have moved or be gone.
    MakeIn(usize, String, bool),
    /// Gives all references back that no open file needs.
    Forget,
    SaveMemory,
    /// Closes everything and mounts the branches again.
    Remount,
    /// Mounts the branches again; the union did not come to its end.
    Crash,
}

/// Something done with an open file.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    Read,
    Write(u64, String),
    Truncate(u64),
    Chmod(u32),
}

fn any_step() -> impl Strategy<Value = Step> {
    let deed = prop_oneof![
        Just(Deed::Read),
        (0..9u64, "[p-r]{1,3}").prop_map(|(at, text)| Deed::Write(at, text)),
        (0..9u64).prop_map(Deed::Truncate),
        Just(Deed::Chmod(0o640)),
    ];
    prop_oneof![
        30 => any_op().prop_map(Step::Do),
        4 => (any_path(), any::<bool>()).prop_map(|(path, write)| Step::Open(path, write)),
        6 => (0..4usize, deed).prop_map(|(n, deed)| Step::With(n, deed)),
        2 => (0..4usize).prop_map(Step::Release),
        2 => any_path().prop_map(Step::Enter),
        3 => (0..3usize, "[a-c]", any::<bool>()).prop_map(|(n, name, dir)| Step::MakeIn(n, name, dir)),
        2 => Just(Step::Forget),
        4 => Just(Step::SaveMemory),
        1 => Just(Step::Remount),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(crate::config(150))]

    #[test]
    fn a_union_stays_in_step_with_a_plain_directory(
        plan in any_plan(),
        steps in vec(any_step(), 1..50),
        limited in any::<bool>(),
    ) {
        // What is given up comes back when it is needed, and nothing looks different.
        let plan = plan.with(|settings| settings.memory_limit = limited.then_some(1));
        // Where readers keep the original, a plain directory says something else.
        let plan = plan.with(|settings| settings.copy_up_on_open = false);
        if let Err(broken) = try_sequence(&plan, &steps) {
            return Err(TestCaseError::fail(format!("{broken}\non {plan:?}after {steps:?}")));
        }
    }
}

/// A file that is open in the union and in the plain directory.
struct Opened {
    id: InodeId,
    plain: <MemoryTree as Tree>::File,
    writable: bool,
}

struct Walk {
    plan: Plan,
    stack: Stack,
    client: Client,
    model: MemoryTree,
    open: Vec<Opened>,
    entered: Vec<(InodeId, <MemoryTree as Tree>::Dir)>,
    /// Numbers in the union by inode number of the plain directory.
    numbers: BTreeMap<u64, u64>,
    /// Pseudo-links of a union that did not come to its end stay.
    crashed: bool,
}

/// Tries a sequence of steps on a stack.
pub(crate) fn try_sequence(plan: &Plan, steps: &[Step]) -> Result<(), String> {
    let stack = plan.build();
    let client = Client::new(stack.mount());
    let model = view(&client.union)?.to_tree();
    let mut walk = Walk {
        plan: plan.clone(),
        stack,
        client,
        model,
        open: Vec::new(),
        entered: Vec::new(),
        numbers: BTreeMap::new(),
        crashed: false,
    };
    for (at, step) in steps.iter().enumerate() {
        let tried = walk.step(step).and_then(|()| walk.compare());
        tried.map_err(|broken| {
            format!(
                "step {at}, {step:?}: {broken}\nbranches {}",
                walk.stack.draw()
            )
        })?;
    }
    if let Some(branch) = walk.stack.touched_read_only_branch() {
        return Err(format!("the read-only branch {branch} was written"));
    }
    walk.remount()?;
    clean(&walk.stack)?;
    walk.client.forget_all();
    match walk.client.union.inodes_held() {
        1 => Ok(()),
        held => Err(format!("{held} inodes are held after all were forgotten")),
    }
}

impl Walk {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Do(op) => self.operate(op),
            Step::Open(path, write) => self.open(path, *write),
            Step::With(n, deed) => self.with(*n, deed),
            Step::Release(n) => {
                if *n < self.open.len() {
                    let opened = self.open.remove(*n);
                    self.client.union.release(opened.id);
                    self.client.union.forget(opened.id, 1);
                }
                Ok(())
            }
            Step::Enter(path) => {
                let plain = parent_of(&self.model, path)
                    .and_then(|(dir, name)| self.model.open_dir(&dir, &name));
                if let (Ok(entry), Ok(plain)) = (self.client.find(path), plain) {
                    self.client.keep(entry.id);
                    self.entered.push((entry.id, plain));
                }
                Ok(())
            }
            Step::MakeIn(n, name, dir) => self.make_in(*n, name, *dir),
            Step::Forget => {
                self.client.forget_all();
                Ok(())
            }
            Step::SaveMemory => {
                self.client.union.save_memory();
                Ok(())
            }
            Step::Remount => self.remount(),
            Step::Crash => {
                self.crashed = true;
                self.mount_again()
            }
        }
    }

    fn operate(&mut self, op: &Op) -> Result<(), String> {
        if matches!(op, Op::Chmod(_, perm) if perm & 0o2000 != 0) && !self.plan.inherits() {
            return Ok(());
        }
        let done = self.client.apply(op);
        let before = View::of_tree(&self.model);
        let should = plain::apply(&self.model, op);
        if errno(&done) == should {
            return Ok(());
        }
        if !may_say_no(&self.plan, op, &done, should) {
            return Err(format!(
                "the union says {done:?}, a plain directory {should:?}"
            ));
        }
        if should.is_ok() {
            self.close_all();
            self.model = before.to_tree();
            self.numbers.clear();
        }
        Ok(())
    }

    fn open(&mut self, path: &str, write: bool) -> Result<(), String> {
        let found = self.client.find(path);
        let plain = parent_of(&self.model, path)
            .and_then(|(dir, name)| self.model.open_file(&dir, &name, Access::ReadWrite));
        let (Ok(entry), Ok(plain)) = (found, plain) else {
            return Ok(());
        };
        let flags = if write { WRITE } else { OpenFlags::default() };
        match self.client.union.open(entry.id, flags) {
            Ok(_) => {
                // A reference of its own, so that forgetting the others does not matter.
                let again = self.client.find(path).map_err(|error| error.to_string())?;
                self.client.keep(again.id);
                let opened = Opened {
                    id: entry.id,
                    plain,
                    writable: write,
                };
                self.open.push(opened);
                Ok(())
            }
            Err(error) if write && error.errno() == Errno::ROFS && self.plan.may_be_read_only() => {
                Ok(())
            }
            Err(error) => Err(format!("open: {error:?}")),
        }
    }

    fn make_in(&mut self, n: usize, name: &str, is_dir: bool) -> Result<(), String> {
        let Some((id, plain)) = self.entered.get(n) else {
            return Ok(());
        };
        let how = Creation {
            perm: 0o755,
            umask: 0,
            owner: Some(CALLER.owner),
        };
        let caller = Caller { umask: 0, ..CALLER };
        let union = &self.client.union;
        let done = if is_dir {
            union.make_dir(&caller, *id, name.as_bytes(), 0o755)
        } else {
            union.make_node(&caller, *id, name.as_bytes(), Node::File, 0o755)
        };
        if let Err(error) = &done
            && error.errno() == Errno::ROFS
            && self.plan.may_be_read_only()
        {
            return Ok(());
        }
        let name = plain::name(name);
        let should = if is_dir {
            self.model.make_dir(plain, &name, &how)
        } else {
            self.model.make_node(plain, &name, Node::File, &how)
        };
        let done = done.map(|entry| union.forget(entry.id, 1));
        if errno(&done) == should {
            return Ok(());
        }
        Err(format!(
            "the union says {done:?}, a plain directory {should:?}"
        ))
    }

    fn with(&mut self, n: usize, deed: &Deed) -> Result<(), String> {
        let Some(Opened {
            id,
            plain,
            writable,
        }) = self.open.get(n)
        else {
            return Ok(());
        };
        let (union, changes) = (&self.client.union, Changes::default());
        let (done, should) = match deed {
            Deed::Write(at, text) if *writable => (
                union.write(*id, text.as_bytes(), *at, false).map(drop),
                self.model.write(plain, text.as_bytes(), *at).map(drop),
            ),
            Deed::Truncate(size) if *writable => {
                let changes = Changes {
                    size: Some(*size),
                    ..changes
                };
                (
                    union.set_attr(*id, &changes).map(drop),
                    self.model.set_attr(Object::File(plain), &changes),
                )
            }
            Deed::Chmod(perm) if !self.plan.may_be_read_only() => {
                let changes = Changes {
                    perm: Some(*perm),
                    ..changes
                };
                (
                    union.set_attr(*id, &changes).map(drop),
                    self.model.set_attr(Object::File(plain), &changes),
                )
            }
            _ => (Ok(()), Ok(())),
        };
        if errno(&done) == should {
            return Ok(());
        }
        Err(format!(
            "the union says {done:?}, a plain directory {should:?}"
        ))
    }

    fn remount(&mut self) -> Result<(), String> {
        self.close_all();
        self.client.forget_all();
        let held = self.client.union.inodes_held();
        if held != 1 {
            return Err(format!("{held} inodes are held after all were forgotten"));
        }
        self.client.union.close();
        let early = self.plan.settings.link_names_early && !self.crashed;
        if early && self.stack.has_pseudo_links() {
            return Err("pseudo-links are left after closing".to_owned());
        }
        self.mount_again()
    }

    fn mount_again(&mut self) -> Result<(), String> {
        self.close_all();
        self.client.forget_all();
        self.client = Client::new(self.stack.mount());
        let writable = self
            .plan
            .branches
            .iter()
            .filter(|(mode, _)| *mode == Mode::Rw);
        let parts = !self.plan.settings.pseudo_links && writable.count() > 1;
        if parts || self.stack.has_pseudo_links() {
            // Names of one lower file part now.
            self.model = view(&self.client.union)?.to_tree();
        }
        self.numbers.clear();
        self.compare()
    }

    fn close_all(&mut self) {
        for opened in self.open.drain(..) {
            self.client.union.release(opened.id);
            self.client.union.forget(opened.id, 1);
        }
        for (id, _) in self.entered.drain(..) {
            self.client.union.forget(id, 1);
        }
    }

    /// Compares names, contents, open files and inode numbers.
    fn compare(&mut self) -> Result<(), String> {
        let (shown, numbers) = numbered_view(&self.client.union)?;
        same(&shown, &View::of_tree(&self.model), || "this".to_owned())?;
        self.compare_numbers(&numbers)?;
        for (at, Opened { id, plain, .. }) in self.open.iter().enumerate() {
            let failed = |error: union::Error| format!("open file {at}: {error:?}");
            let union = &self.client.union;
            let (mut bytes, mut expected) = (vec![0; 64], vec![0; 64]);
            let count = union.read(*id, &mut bytes, 0).map_err(failed)?;
            let length = self
                .model
                .read(plain, &mut expected, 0)
                .map_err(|errno| errno.to_string())?;
            if bytes[..count] != expected[..length] {
                let (bytes, expected) = (
                    String::from_utf8_lossy(&bytes[..count]),
                    String::from_utf8_lossy(&expected[..length]),
                );
                return Err(format!(
                    "open file {at} reads {bytes:?} instead of {expected:?}"
                ));
            }
            let attr = union.attr(*id).map_err(failed)?;
            let should = self
                .model
                .attr(Object::File(plain))
                .map_err(|errno| errno.to_string())?;
            if (attr.size, attr.perm, attr.uid, attr.gid)
                != (should.size, should.perm, should.uid, should.gid)
            {
                return Err(format!("open file {at} has {attr:?} instead of {should:?}"));
            }
            if self
                .numbers
                .insert(should.ino, attr.ino)
                .is_some_and(|known| known != attr.ino)
            {
                return Err(format!("open file {at} has another inode number now"));
            }
        }
        Ok(())
    }

    fn compare_numbers(&mut self, numbers: &Numbers) -> Result<(), String> {
        for (path, number) in numbers.iter().filter(|(path, _)| !path.is_empty()) {
            let plain = parent_of(&self.model, path)
                .and_then(|(dir, name)| self.model.attr(Object::Entry(&dir, &name)))
                .map_err(|errno| format!("{path}: {errno}"))?;
            let known = *self.numbers.entry(plain.ino).or_insert(*number);
            if known != *number {
                return Err(format!(
                    "{path} had the inode number {known:#x} and has {number:#x}"
                ));
            }
        }
        Ok(())
    }
}
