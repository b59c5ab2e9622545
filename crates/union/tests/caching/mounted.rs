//! A front end that caches all it may, over branches in memory that anybody changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::collection::vec;
use proptest::prelude::*;
use rules::{Attr, Creation, Errno, Identity, Kind, Name, Powers, Time};
use testkit::{Dir, MemoryTree, draw, plant};
use tree::{Access, DirEntry, Node, Object, RenameHow, Tree};
use union::{
    Branch, BranchId, Caller, DialectKind, DirectChange, DirectChanges, InodeId, Observer,
    OpenFlags, Settings, Union, Watcher,
};

pub(crate) type MemoryUnion = Union<MemoryTree>;

/// What was told, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    Entry(InodeId, Name),
    Attributes(InodeId),
    Contents(InodeId),
}

#[derive(Clone, Default)]
pub(crate) struct Notices(Arc<Mutex<Vec<Notice>>>);

impl Notices {
    pub(crate) fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn note(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

impl Observer for Notices {
    fn entry_changed(&self, parent: InodeId, name: &Name) {
        self.note(Notice::Entry(parent, name.clone()));
    }

    fn attributes_changed(&self, id: InodeId) {
        self.note(Notice::Attributes(id));
    }

    fn contents_changed(&self, id: InodeId) {
        self.note(Notice::Contents(id));
    }

    fn work_is_pending(&self) -> bool {
        false
    }
}

/// Notices changes by comparing, when asked to.
#[derive(Default)]
pub(crate) struct Comparing(Mutex<Compared>);

#[derive(Default)]
pub(crate) struct Compared {
    pub(crate) dirs: BTreeMap<(u64, u64), Seen>,
    /// How often somebody asked for a watch.
    pub(crate) asked: usize,
    pub(crate) refuses: bool,
}

pub(crate) struct Seen {
    pub(crate) dir: Dir,
    pub(crate) members: Vec<(InodeId, BranchId)>,
    /// A name that came and went is heard of, too: the times tell it.
    pub(crate) own: (Look, Time, Time),
    pub(crate) names: BTreeMap<Name, Look>,
}

type Look = (u64, Kind, u32, Option<(u64, Time, Time)>);

pub(crate) fn tree() -> MemoryTree {
    MemoryTree::new()
}

fn look(attr: &Attr) -> Look {
    let data = (attr.kind != Kind::Dir).then_some((attr.size, attr.mtime, attr.ctime));
    (attr.ino, attr.kind, attr.perm, data)
}

fn own_look(attr: &Attr) -> (Look, Time, Time) {
    (look(attr), attr.mtime, attr.ctime)
}

pub(crate) fn looks(dir: &Dir) -> BTreeMap<Name, Look> {
    let entries: Vec<DirEntry> = tree().list(dir).unwrap_or_default();
    let with_look = |entry: DirEntry| {
        let attr = tree().look(dir, &entry.name).unwrap()?;
        Some((entry.name, look(&attr)))
    };
    entries.into_iter().filter_map(with_look).collect()
}

impl Comparing {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Compared> {
        self.0.lock().unwrap()
    }

    /// Tells a union all that changed since the last time.
    pub(crate) fn deliver(&self, union: &MemoryUnion) {
        let mut events = Vec::new();
        for seen in self.lock().dirs.values_mut() {
            let now = looks(&seen.dir);
            let names = seen.names.keys().chain(now.keys());
            let changed: Vec<_> = names
                .filter(|name| seen.names.get(*name) != now.get(*name))
                .cloned()
                .collect();
            let own = own_look(&tree().attr(Object::Dir(&seen.dir)).unwrap());
            for member in &seen.members {
                events.extend(changed.iter().map(|name| (*member, Some(name.clone()))));
                if own != seen.own {
                    events.push((*member, None));
                }
            }
            (seen.names, seen.own) = (now, own);
        }
        for ((id, branch), name) in events {
            let change = match &name {
                Some(name) => DirectChange::Name(name.as_bytes()),
                None => DirectChange::Attributes,
            };
            union.branch_changed(id, branch, change);
        }
    }
}

impl Watcher<MemoryTree> for Comparing {
    fn watch(&self, id: InodeId, branch: BranchId, dir: &Dir) -> bool {
        let mut compared = self.lock();
        compared.asked += 1;
        if compared.refuses {
            return false;
        }
        let attr = tree().attr(Object::Dir(dir)).unwrap();
        let seen = compared
            .dirs
            .entry((attr.dev, attr.ino))
            .or_insert_with(|| Seen {
                dir: dir.clone(),
                members: Vec::new(),
                own: own_look(&attr),
                names: looks(dir),
            });
        if !seen.members.contains(&(id, branch)) {
            seen.members.push((id, branch));
        }
        true
    }

    fn unwatch(&self, id: InodeId) {
        let mut compared = self.lock();
        compared.dirs.retain(|_, seen| {
            seen.members.retain(|(other, _)| *other != id);
            !seen.members.is_empty()
        });
    }
}

/// A watched union and a front end that caches all it may.
pub(crate) struct Mounted {
    pub(crate) union: MemoryUnion,
    /// In the order of the stack.
    pub(crate) trees: Vec<MemoryTree>,
    pub(crate) powers: Vec<Powers>,
    pub(crate) settings: Settings,
    pub(crate) watcher: Arc<Comparing>,
    pub(crate) notices: Notices,
    entries: HashMap<(InodeId, Name), Option<InodeId>>,
    attrs: HashMap<InodeId, Attr>,
    listings: HashMap<InodeId, Vec<Name>>,
    contents: HashMap<InodeId, Vec<u8>>,
}

fn stacked(trees: &[MemoryTree], powers: &[Powers], settings: &Settings) -> MemoryUnion {
    let branch = |(tree, powers): (&MemoryTree, &Powers)| Branch {
        tree: tree.clone(),
        powers: *powers,
    };
    let branches = trees.iter().zip(powers).map(branch).collect();
    Union::new(branches, settings.clone()).unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(crate) const CALLER: Caller = Caller {
    owner: Identity { uid: 0, gid: 0 },
    umask: 0o022,
};

impl Mounted {
    pub(crate) fn new(dialect: DialectKind, branches: [&str; 2]) -> Self {
        let settings = Settings {
            direct_changes: DirectChanges::Watched,
            pseudo_links: false,
            ..Settings::new(dialect)
        };
        Self::over(settings, &branches, &[Powers::WRITABLE, Powers::LAYER])
    }

    pub(crate) fn over(settings: Settings, branches: &[&str], powers: &[Powers]) -> Self {
        let trees: Vec<_> = branches
            .iter()
            .map(|text| {
                let tree = MemoryTree::new();
                plant(&tree, text);
                tree
            })
            .collect();
        let powers = powers.to_vec();
        let union = stacked(&trees, &powers, &settings);
        let (watcher, notices) = (Arc::new(Comparing::default()), Notices::default());
        union.set_watcher(Arc::<Comparing>::clone(&watcher));
        union.set_observer(Box::new(notices.clone()));
        Self {
            union,
            trees,
            powers,
            settings,
            watcher,
            notices,
            entries: HashMap::new(),
            attrs: HashMap::new(),
            listings: HashMap::new(),
            contents: HashMap::new(),
        }
    }

    pub(crate) fn aufs(branches: [&str; 2]) -> Self {
        Self::new(DialectKind::Aufs, branches)
    }

    /// Lets what happened be told, and forgets what is wrong now.
    pub(crate) fn settle(&mut self) -> Vec<Notice> {
        self.watcher.deliver(&self.union);
        let notices = self.notices.take();
        for notice in &notices {
            match notice {
                Notice::Entry(parent, name) => self.forget_entry(*parent, name),
                Notice::Attributes(id) => drop(self.attrs.remove(id)),
                Notice::Contents(id) => self.forget_contents(*id),
            }
        }
        notices
    }

    pub(crate) fn forget_entry(&mut self, parent: InodeId, name: &Name) {
        // As in the kernel, what is below an entry goes with it.
        if let Some(Some(child)) = self.entries.remove(&(parent, name.clone())) {
            let below = self.entries.keys().filter(|(parent, _)| *parent == child);
            let below: Vec<_> = below.cloned().collect();
            for (parent, name) in below {
                self.forget_entry(parent, &name);
            }
        }
    }

    pub(crate) fn forget_everything(&mut self) {
        self.entries.clear();
        self.attrs.clear();
        self.listings.clear();
        self.contents.clear();
    }

    pub(crate) fn forget_attributes(&mut self) {
        self.attrs.clear();
    }

    pub(crate) fn forget_contents(&mut self, id: InodeId) {
        self.attrs.remove(&id);
        self.listings.remove(&id);
        self.contents.remove(&id);
    }

    pub(crate) fn entry(
        &mut self,
        parent: InodeId,
        name: &Name,
    ) -> Result<Option<InodeId>, union::Error> {
        if let Some(known) = self.entries.get(&(parent, name.clone())) {
            return Ok(*known);
        }
        let found = self.union.lookup(parent, name.as_bytes())?;
        let id = found.map(|found| found.id);
        if let Some(found) = found {
            self.remember_attr(found.id, found.attr);
        }
        if self.union.hears(parent) {
            self.entries.insert((parent, name.clone()), id);
        }
        Ok(id)
    }

    fn remember_attr(&mut self, id: InodeId, attr: Attr) {
        if let Some(old) = self.attrs.get(&id)
            && old.size != attr.size
        {
            self.contents.remove(&id);
        }
        self.attrs.remove(&id);
        if self.union.hears(id) {
            self.attrs.insert(id, attr);
        }
    }

    pub(crate) fn attr(&mut self, id: InodeId) -> Result<Attr, union::Error> {
        if let Some(known) = self.attrs.get(&id) {
            return Ok(*known);
        }
        let attr = self.union.attr(id)?;
        self.remember_attr(id, attr);
        Ok(attr)
    }

    pub(crate) fn listing(&mut self, id: InodeId) -> Result<Vec<Name>, union::Error> {
        if let Some(known) = self.listings.get(&id) {
            return Ok(known.clone());
        }
        let stream = self.union.open_dir(id)?;
        let mut names = Vec::new();
        self.union.read_dir(&stream, 0, false, &mut |listed| {
            if listed.name != b"." && listed.name != b".." {
                names.push(Name::new(listed.name).unwrap());
            }
            true
        })?;
        if self.union.hears(id) {
            self.listings.insert(id, names.clone());
        }
        Ok(names)
    }

    pub(crate) fn text(&mut self, id: InodeId) -> Result<Vec<u8>, union::Error> {
        let opened = self.union.open(id, OpenFlags::default())?;
        if !opened.keep_cache {
            self.contents.remove(&id);
        }
        let known = self.contents.get(&id).cloned();
        let text = match known {
            Some(known) => Ok(known),
            None => {
                let mut buffer = vec![0; 64];
                let read = self.union.read(id, &mut buffer, 0);
                read.map(|count| buffer[..count].to_vec())
            }
        };
        self.union.release(id);
        let text = text?;
        self.contents.insert(id, text.clone());
        Ok(text)
    }

    /// Everything there is by path, one line each, as the caches and the union behind them tell.
    pub(crate) fn view(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        self.view_below("", InodeId::ROOT, &mut lines);
        lines.sort();
        lines
    }

    fn view_below(&mut self, path: &str, dir: InodeId, lines: &mut Vec<String>) {
        let attr = self.attr(dir);
        let attr = attr.map(|a| (a.perm, a.nlink, a.mtime));
        lines.push(format!("{path}/ {attr:?}"));
        let names = match self.listing(dir) {
            Ok(names) => names,
            Err(error) => return lines.push(format!("{path}/ {error}")),
        };
        for missing in ["a", "b"].map(name) {
            if !names.contains(&missing) {
                let found = self.entry(dir, &missing);
                if found != Ok(None) {
                    lines.push(format!("{path}/{missing} is not listed and is {found:?}"));
                }
            }
        }
        for name in names {
            let path = format!("{path}/{name}");
            let id = match self.entry(dir, &name) {
                Ok(Some(id)) => id,
                other => {
                    lines.push(format!("{path} is listed and is {other:?}"));
                    continue;
                }
            };
            match self.attr(id) {
                Err(error) => lines.push(format!("{path} {error}")),
                Ok(attr) if attr.kind == Kind::Dir => self.view_below(&path, id, lines),
                Ok(attr) => {
                    let text = self.text(id).map(|text| String::from_utf8(text).unwrap());
                    let (perm, size, mtime) = (attr.perm, attr.size, attr.mtime);
                    lines.push(format!("{path} {perm:o} {size} {mtime:?} {text:?}"));
                }
            }
        }
    }

    /// What a fresh mount of the same branches shows.
    pub(crate) fn fresh_view(&self) -> Vec<String> {
        let union = stacked(&self.trees, &self.powers, &self.settings);
        let mut fresh = Self {
            union,
            trees: self.trees.clone(),
            powers: self.powers.clone(),
            settings: self.settings.clone(),
            watcher: Arc::default(),
            notices: Notices::default(),
            entries: HashMap::new(),
            attrs: HashMap::new(),
            listings: HashMap::new(),
            contents: HashMap::new(),
        };
        fresh.view()
    }

    pub(crate) fn draw(&self) -> String {
        self.trees
            .iter()
            .map(|tree| format!("---\n{}", draw(tree)))
            .collect()
    }

    /// Expects that caches and branches agree once all was told.
    pub(crate) fn agrees(&mut self) -> Result<(), String> {
        self.settle();
        // What lies deeper is told when the way to it is walked again, which the kernel must do.
        self.view();
        self.settle();
        let shown = self.view();
        let fresh = self.fresh_view();
        // A fresh mount may put right what is left over.
        self.settle();
        if shown == fresh {
            return Ok(());
        }
        let only = |a: &[String], b: &[String]| -> Vec<String> {
            a.iter().filter(|line| !b.contains(line)).cloned().collect()
        };
        let (wrong, missed) = (only(&shown, &fresh), only(&fresh, &shown));
        Err(format!(
            "shown {wrong:#?}\ninstead of {missed:#?}\n{}",
            self.draw()
        ))
    }

    fn on(&self, branch: usize, path: &str) -> Result<(Dir, Name), Errno> {
        let tree = &self.trees[branch];
        let mut dir = tree.root()?;
        let mut parts: Vec<_> = path.split('/').collect();
        let last = name(parts.pop().unwrap());
        for part in parts {
            dir = tree.open_dir(&dir, &name(part))?;
        }
        Ok((dir, last))
    }

    pub(crate) fn write_on(&self, branch: usize, path: &str, text: &str) -> Result<(), Errno> {
        let (dir, name) = self.on(branch, path)?;
        let file = match tree().create_file(&dir, &name, &Creation::exact(0o644)) {
            Err(Errno::EXIST) => tree().open_file(&dir, &name, Access::ReadWrite)?,
            made => made?,
        };
        tree().write(&file, text.as_bytes(), 0).map(drop)
    }

    pub(crate) fn remove_on(&self, branch: usize, path: &str) -> Result<(), Errno> {
        let (dir, name) = self.on(branch, path)?;
        remove_all(&dir, &name)
    }

    /// Does something directly on a branch.
    pub(crate) fn outside(&self, branch: usize, op: &Op) -> Result<(), Errno> {
        match op {
            Op::Write(path, text) => self.write_on(branch, path, text),
            Op::MakeDir(path) => {
                let (dir, name) = self.on(branch, path)?;
                tree().make_dir(&dir, &name, &Creation::exact(0o755))
            }
            Op::Remove(path) => self.remove_on(branch, path),
            Op::Rename(from, to) => {
                let ((dir, name), (to, new)) = (self.on(branch, from)?, self.on(branch, to)?);
                tree().rename(&dir, &name, &to, &new, RenameHow::Replace)
            }
            Op::Hide(path) => {
                let (dir, name) = self.on(branch, path)?;
                if branch == 0 && tree().look(&dir, &name)?.is_some() {
                    // It would not count.
                    return Ok(());
                }
                let hidden = rules::whiteout::of(&name);
                tree().make_node(&dir, &hidden, Node::File, &Creation::exact(0o444))
            }
            Op::Reveal(path) => {
                let (dir, name) = self.on(branch, path)?;
                tree().remove_file(&dir, &rules::whiteout::of(&name))
            }
            Op::Mark(path) => self.write_on(branch, &format!("{path}/.wh..wh..opq"), ""),
            Op::Unmark(path) => self.remove_on(branch, &format!("{path}/.wh..wh..opq")),
        }
    }

    pub(crate) fn parent(&mut self, path: &str) -> Result<(InodeId, Name), Errno> {
        let mut id = InodeId::ROOT;
        let mut parts: Vec<_> = path.split('/').collect();
        let last = name(parts.pop().unwrap());
        for part in parts {
            let found = self.entry(id, &name(part)).map_err(|error| error.errno())?;
            id = found.ok_or(Errno::NOENT)?;
            if self.attr(id).map_err(|error| error.errno())?.kind != Kind::Dir {
                return Err(Errno::NOTDIR);
            }
        }
        Ok((id, last))
    }

    /// Does something through the union, as a kernel that knows what follows for its caches.
    pub(crate) fn inside(&mut self, op: &Op) -> Result<(), Errno> {
        let done = self.try_inside(op);
        let paths = match op {
            Op::Rename(from, to) => vec![from, to],
            Op::Write(path, _) | Op::MakeDir(path) | Op::Remove(path) => vec![path],
            _ => vec![],
        };
        for path in paths {
            if let Ok((parent, name)) = self.parent(path) {
                if let Some(Some(id)) = self.entries.get(&(parent, name.clone())) {
                    self.forget_contents(*id);
                }
                self.forget_entry(parent, &name);
                self.forget_contents(parent);
            }
        }
        done
    }

    fn try_inside(&mut self, op: &Op) -> Result<(), Errno> {
        let errno = |error: union::Error| error.errno();
        match op {
            Op::Write(path, text) => {
                let (parent, name) = self.parent(path)?;
                let flags = OpenFlags {
                    write: true,
                    ..OpenFlags::default()
                };
                let (made, _) = self
                    .union
                    .create(&CALLER, parent, name.as_bytes(), 0o644, false, flags)
                    .map_err(errno)?;
                let written = self.union.write(made.id, text.as_bytes(), 0, false);
                self.union.release(made.id);
                self.forget_contents(made.id);
                written.map(drop).map_err(errno)
            }
            Op::MakeDir(path) => {
                let (parent, name) = self.parent(path)?;
                let made = self.union.make_dir(&CALLER, parent, name.as_bytes(), 0o755);
                made.map(drop).map_err(errno)
            }
            Op::Remove(path) => {
                let (parent, name) = self.parent(path)?;
                match self.union.unlink(parent, name.as_bytes()) {
                    Err(error) if error.errno() == Errno::ISDIR => {
                        self.union.rmdir(parent, name.as_bytes()).map_err(errno)
                    }
                    removed => removed.map_err(errno),
                }
            }
            Op::Rename(from, to) => {
                let ((dir, name), (to, new)) = (self.parent(from)?, self.parent(to)?);
                let (old, new) = (name.as_bytes(), new.as_bytes());
                let how = RenameHow::Replace;
                self.union.rename(dir, old, to, new, how).map_err(errno)
            }
            Op::Hide(_) | Op::Reveal(_) | Op::Mark(_) | Op::Unmark(_) => Ok(()),
        }
    }
}

fn remove_all(dir: &Dir, name: &Name) -> Result<(), Errno> {
    if let Ok(inside) = tree().open_dir(dir, name) {
        for entry in tree().list(&inside)? {
            remove_all(&inside, &entry.name)?;
        }
        return tree().remove_dir(dir, name);
    }
    tree().remove_file(dir, name)
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write(String, String),
    MakeDir(String),
    Remove(String),
    Rename(String, String),
    Hide(String),
    Reveal(String),
    Mark(String),
    Unmark(String),
}

pub(crate) fn any_path() -> impl Strategy<Value = String> {
    vec(prop_oneof![Just("a"), Just("b")], 1..4).prop_map(|parts| parts.join("/"))
}

pub(crate) fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (any_path(), "[x-z]{1,3}").prop_map(|(path, text)| Op::Write(path, text)),
        3 => any_path().prop_map(Op::MakeDir),
        2 => any_path().prop_map(Op::Remove),
        3 => (any_path(), any_path()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => any_path().prop_map(Op::Hide),
        1 => any_path().prop_map(Op::Reveal),
        1 => any_path().prop_map(Op::Mark),
        1 => any_path().prop_map(Op::Unmark),
    ]
}
