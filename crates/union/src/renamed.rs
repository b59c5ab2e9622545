//! Directories that were renamed while branches below held part of them (`dirren`).
//!
//! On its branch such a directory has a record for each branch below that holds a part of it, see [`rules::renamed`]. Records
//! are read only for directories that are known to have some: by the list in the root of the branch, or because reading the
//! directory showed them. So a list that is missing or out of date (the branch was copied, the server was killed) harms nothing.
//!
//! A union that does not rename such directories does not follow records either. It keeps apart what a record keeps
//! apart: the directory shows its own part, and never what happens to have its name below.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use rules::lookup::{Sighting, dirs};
use rules::renamed::{self, Fit, Form, Origin, Place, TreeId};
use rules::whiteout::{self, Meaning};
use rules::{Attr, BranchIndex, Creation, Errno, Kind, Name};
use tree::{Access, Object, RenameHow, SyncHow, Tree};

use crate::branch::BranchDir;
use crate::error::{Error, Result};
use crate::inode::Inode;
use crate::settings::DialectKind;
use crate::union::Union;

/// The longest list that is read: a million directories.
const LONGEST_LIST: usize = 8 << 20;

/// How much is read of the records of one directory. One file may have thousands of names.
const MOST_BYTES: usize = 8 << 20;

/// How many records about unknown trees are compared with each other. A branch that was copied has one for each branch below.
const MOST_UNKNOWN: usize = 1024;

/// The renamed directories of one branch, by inode number.
pub(crate) struct RenamedDirs {
    inodes: RwLock<HashSet<u64>>,
    /// Whether the list on the branch says something else.
    changed: AtomicBool,
}

impl RenamedDirs {
    /// Reads the list of a branch.
    pub(crate) fn load<T: Tree>(tree: &T) -> Self {
        let bytes = tree
            .root()
            .and_then(|root| read_whole(tree, &root, &list_name(), LONGEST_LIST));
        let bytes = bytes.unwrap_or_else(|errno| {
            tracing::warn!(%errno, "the list of renamed directories cannot be read: they are found when they are used");
            None
        });
        let inodes = renamed::decode_list(bytes.as_deref().unwrap_or_default()).collect();
        Self {
            inodes: RwLock::new(inodes),
            changed: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inodes.read().is_empty()
    }

    pub(crate) fn has(&self, ino: u64) -> bool {
        self.inodes.read().contains(&ino)
    }

    /// Adds a directory; returns whether it was not there.
    pub(crate) fn add(&self, ino: u64) -> bool {
        let new = self.inodes.write().insert(ino);
        self.changed.fetch_or(new, Ordering::Relaxed);
        new
    }

    pub(crate) fn remove(&self, ino: u64) {
        let removed = self.inodes.write().remove(&ino);
        self.changed.fetch_or(removed, Ordering::Relaxed);
    }
}

/// Returns how records name a tree.
///
/// # Errors
///
/// What the tree says about its root.
pub fn tree_id<T: Tree>(tree: &T, root: &T::Dir) -> std::result::Result<TreeId, Errno> {
    let attr = tree.attr(Object::Dir(root))?;
    let fsid = tree.stat_fs(root).map_or(0, |stat| stat.fsid);
    Ok(TreeId::new(fsid, attr.dev, attr.ino))
}

/// Returns what the records of a renamed directory say, each about one branch below; of two about the same one, that
/// which counts. Records that are damaged say nothing.
///
/// # Errors
///
/// What reading the directory gives; `EFBIG` for more than anybody writes.
pub fn origins<T: Tree>(
    tree: &T,
    dir: &T::Dir,
) -> std::result::Result<Vec<(TreeId, Origin)>, Errno> {
    let mut found = Vec::new();
    let mut left = MOST_BYTES;
    for (form, id) in records(tree, dir)? {
        let name = renamed::record_name(form, &id);
        let Some(bytes) = read_whole(tree, dir, &name, renamed::LONGEST)? else {
            continue;
        };
        left = left.checked_sub(bytes.len()).ok_or(Errno::FBIG)?;
        match Origin::decode(form, &bytes) {
            Some(origin) => found.push((form, id, origin)),
            None => tracing::warn!(%name, "the record of a renamed directory is damaged"),
        }
    }
    let by_path = found.iter().filter(|(form, ..)| *form == Form::Path);
    let better: HashSet<_> = by_path.map(|(_, id, _)| id).collect();
    let counts =
        |(form, id, _): &&(Form, TreeId, Origin)| *form == Form::Path || !better.contains(id);
    let counting = found.iter().filter(counts);
    Ok(counting
        .map(|(_, id, origin)| (id.clone(), origin.clone()))
        .collect())
}

/// Returns which records a directory has.
pub(crate) fn records<T: Tree>(
    tree: &T,
    dir: &T::Dir,
) -> std::result::Result<Vec<(Form, TreeId)>, Errno> {
    let list = tree.list(dir)?;
    let names = list.iter().map(|entry| entry.name.as_bytes());
    let records = names.filter(|name| whiteout::meaning(name) == Meaning::Origin);
    Ok(records.filter_map(renamed::parse_record_name).collect())
}

fn read_whole<T: Tree>(
    tree: &T,
    dir: &T::Dir,
    name: &Name,
    longest: usize,
) -> std::result::Result<Option<Vec<u8>>, Errno> {
    let file = match tree.open_file(dir, name, Access::Read) {
        Ok(file) => file,
        // Something else than a file says nothing.
        Err(Errno::NOENT | Errno::ISDIR | Errno::LOOP | Errno::NXIO | Errno::INVAL) => {
            return Ok(None);
        }
        Err(errno) => return Err(errno),
    };
    let size = usize::try_from(tree.attr(Object::File(&file))?.size).unwrap_or(usize::MAX);
    if size > longest {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    let count = tree.read(&file, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(Some(bytes))
}

fn list_name() -> Name {
    Name::new(renamed::LIST).expect("the format's names are names")
}

/// A branch below a renamed directory, as far as its records are about it.
pub struct Below<'a, T: Tree> {
    /// The branch.
    pub tree: &'a T,
    /// Its root.
    pub root: &'a T::Dir,
    /// How records name it, see [`tree_id`].
    pub id: TreeId,
    /// Its directory that is merged with the one in which the renamed directory is, if it has one.
    pub beside: Option<&'a T::Dir>,
}

/// What the records of a directory say about a branch below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Nothing: what has the directory's name there is merged.
    Nothing,
    /// That a part is there which is there no more: nothing is merged.
    Nowhere,
    /// Where the part is that is merged.
    At(Place),
}

/// Returns what the records of a directory say about each of the branches below it; one answer for each.
///
/// A record counts when tree, place and inode number agree. Filesystems get other numbers (a loop device, say) and inodes do
/// when a branch is copied: then it counts where the branch is the only one that can be meant. A name alone is
/// enough only where nothing else shows what has it: `is_hidden` is asked about a branch and a name.
///
/// # Errors
///
/// What reading the directory or the branches gives, and what `is_hidden` says.
pub fn told<T: Tree, E: From<Errno>>(
    tree: &T,
    dir: &T::Dir,
    below: &[Below<'_, T>],
    is_hidden: impl Fn(usize, &Name) -> std::result::Result<bool, E>,
) -> std::result::Result<Vec<Told>, E> {
    let mut told = vec![Told::Nothing; below.len()];
    let mut left = Vec::new();
    for (id, mut origin) in origins(tree, dir)? {
        let meant = below.iter().position(|branch| branch.id == id);
        if let Place::Moving(..) = origin.place {
            // Interrupted, and found anew: only the inode tells which of the two places counts.
            origin.place = arrived(&origin, below, meant)?;
        }
        let there = match meant {
            Some(meant) => inode_at(&below[meant], &origin.place)?,
            None => None,
        };
        if let Some(meant) = meant {
            told[meant] = Told::Nowhere;
            if there == Some(origin.ino) {
                told[meant] = Told::At(origin.place);
                continue;
            }
        }
        left.push(origin);
    }
    if left.is_empty() || left.len() > MOST_UNKNOWN {
        return Ok(told);
    }
    let is_free = |branch: &usize| !matches!(told[*branch], Told::At(_));
    let free: Vec<_> = (0..below.len()).filter(is_free).collect();
    let mut fits = Vec::new();
    for origin in &left {
        let mut fit = Vec::new();
        for branch in &free {
            fit.push(match inode_at(&below[*branch], &origin.place)? {
                None => Fit::No,
                Some(ino) if ino == origin.ino => Fit::Inode,
                Some(_) => match &origin.place {
                    // Said by no other program, and not about where the directory was.
                    Place::Path(_) | Place::Moving(..) => Fit::Place,
                    Place::Beside(name) if is_hidden(*branch, name)? => Fit::Place,
                    Place::Beside(_) => Fit::No,
                },
            });
        }
        fits.push(fit);
    }
    let assigned = renamed::assign(&left, &fits);
    for (origin, column) in left.into_iter().zip(assigned) {
        if let Some(column) = column {
            told[free[column]] = Told::At(origin.place);
        }
    }
    Ok(told)
}

/// Returns whether a directory of a branch hides a name on the branches below it.
///
/// # Errors
///
/// What the tree says.
pub fn hides<T: Tree>(tree: &T, dir: &T::Dir, name: &Name) -> std::result::Result<bool, Errno> {
    match tree.look(dir, name)? {
        None => Ok(tree.look(dir, &whiteout::of(name))?.is_some()),
        Some(attr) if attr.kind == Kind::Dir => {
            let mark = Name::new(whiteout::OPAQUE).expect("the format's names are names");
            Ok(tree.look(&tree.open_dir(dir, name)?, &mark)?.is_some())
        }
        Some(_) => Ok(false),
    }
}

/// Returns where a part is that was moved, or is still to be: where its inode is, on the branch that is meant if that is known.
fn arrived<T: Tree>(
    origin: &Origin,
    below: &[Below<'_, T>],
    meant: Option<usize>,
) -> std::result::Result<Place, Errno> {
    let Place::Moving(from, to) = &origin.place else {
        return Ok(origin.place.clone());
    };
    let to = Place::Path(to.clone());
    for (index, branch) in below.iter().enumerate() {
        let asked = meant.is_none_or(|meant| meant == index);
        if asked && inode_at(branch, &to)? == Some(origin.ino) {
            return Ok(to);
        }
    }
    Ok(Place::Path(from.clone()))
}

/// Returns the inode number of the directory that a record means on a branch.
fn inode_at<T: Tree>(
    branch: &Below<'_, T>,
    place: &Place,
) -> std::result::Result<Option<u64>, Errno> {
    let (from, names) = match (place, branch.beside) {
        (Place::Beside(name), Some(beside)) => (beside, std::slice::from_ref(name)),
        (Place::Beside(_), None) => return Ok(None),
        (Place::Path(names) | Place::Moving(names, _), _) => (branch.root, &names[..]),
    };
    let mut dir = None;
    for name in names {
        match branch.tree.open_dir(dir.as_ref().unwrap_or(from), name) {
            Ok(found) => dir = Some(found),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
    match &dir {
        Some(dir) => Ok(Some(branch.tree.attr(Object::Dir(dir))?.ino)),
        None => Ok(None),
    }
}

/// What the records above say about a branch: where its part is, or that it has none.
type Followed<T> = BTreeMap<BranchIndex, Option<Arc<BranchDir<T>>>>;

impl<T: Tree> Union<T> {
    /// Returns whether directories that merge others from below are renamed.
    pub(crate) fn renames_merged(&self) -> bool {
        let settings = self.settings();
        settings.rename_merged && settings.dialect == DialectKind::Aufs
    }

    /// Returns what merges under a name, topmost first: what has the name, and what records lead to. `top` is the
    /// topmost that has it.
    pub(crate) fn merging(
        &self,
        parent: &Inode<T>,
        name: &Name,
        sightings: &[Sighting],
        top: &Attr,
    ) -> Result<Vec<Arc<BranchDir<T>>>> {
        let above = parent.dir()?.state.read().members.clone();
        let at = |branch| above.iter().find(|dir| dir.index() == branch);
        let child = |branch| at(branch).map(|dir| dir.child(name.clone()));
        let native: Vec<_> = dirs(sightings).filter_map(child).collect();
        let mut recorded = false;
        for (place, dir) in native.iter().enumerate() {
            let known = place == 0 && dir.branch.dev == top.dev;
            recorded = recorded || self.has_records(dir, known.then_some(top))?;
        }
        if !recorded {
            return self.merged_natively(parent, name, native);
        }
        let mut members = Vec::new();
        let mut followed = Followed::new();
        let mut natively = true;
        for root in self.roots().iter() {
            let branch = root.index();
            let own = native.iter().find(|dir| dir.index() == branch);
            let member = match followed.remove(&branch) {
                Some(found) if self.renames_merged() => found,
                Some(found) => own
                    .filter(|own| found.is_some_and(|found| found.path() == own.path()))
                    .cloned(),
                None => own.filter(|_| natively).cloned(),
            };
            let Some(member) = member else { continue };
            let opaque = match self.dialect.is_opaque(&member) {
                Err(error) if self.goes_on_without(&member, &error) => false,
                opaque => opaque?,
            };
            if member.powers().whiteouts && opaque {
                natively = false;
                followed.clear();
            }
            if self.has_records(&member, None)? {
                for (branch, found) in self.follow(&member, &above)? {
                    followed.entry(branch).or_insert(found);
                }
            }
            members.push(member);
        }
        Ok(members)
    }

    /// Returns whether a directory is known to have records. Costs nothing on a branch without renamed directories.
    pub(crate) fn has_records(&self, dir: &Arc<BranchDir<T>>, attr: Option<&Attr>) -> Result<bool> {
        if !dir.powers().whiteouts || dir.branch.renamed().is_empty() {
            return Ok(false);
        }
        let ino = match attr {
            Some(attr) => attr.ino,
            None => {
                let asked = dir
                    .open()
                    .and_then(|handle| dir.tree().attr(Object::Dir(&*handle)));
                match asked.map_err(Error::from) {
                    Err(error) if self.goes_on_without(dir, &error) => return Ok(false),
                    attr => attr?.ino,
                }
            }
        };
        Ok(dir.branch.renamed().has(ino))
    }

    /// Follows the records of a directory to the branches below. `above` is what is merged where it is.
    fn follow(
        &self,
        holder: &Arc<BranchDir<T>>,
        above: &[Arc<BranchDir<T>>],
    ) -> Result<Followed<T>> {
        let roots = self.roots();
        let mut below = Vec::new();
        for root in roots.iter().filter(|root| root.index() > holder.index()) {
            let beside = above.iter().find(|dir| dir.index() == root.index());
            let open = beside.map(|dir| dir.open()).transpose()?;
            below.push((root, root.open()?, beside, open));
        }
        let asked: Vec<_> = below
            .iter()
            .map(|(root, handle, _, beside)| Below {
                tree: root.tree(),
                root: handle,
                id: root.branch.tree_id(),
                beside: beside.as_deref(),
            })
            .collect();
        let is_hidden = |branch: usize, name: &Name| {
            let root = below[branch].0;
            let mut covering = above.iter().filter(|dir| {
                let over = dir.index() <= holder.index() && dir.index() < root.index();
                over && dir.powers().whiteouts
            });
            covering.try_fold(false, |hidden, dir| {
                Ok::<_, Error>(hidden || hides(dir.tree(), &*dir.open()?, name)?)
            })
        };
        let told = told(holder.tree(), &*holder.open()?, &asked, is_hidden)?;
        let mut found = Followed::new();
        for ((root, _, beside, _), told) in below.iter().zip(told) {
            let part = match told {
                Told::Nothing => continue,
                Told::Nowhere => None,
                Told::At(Place::Beside(name)) => beside.map(|dir| dir.child(name)),
                Told::At(Place::Path(names) | Place::Moving(names, _)) => {
                    let from = Arc::clone(root);
                    Some(names.into_iter().fold(from, |dir, name| dir.child(name)))
                }
            };
            found.insert(root.index(), part);
        }
        Ok(found)
    }

    /// Notes that reading a directory showed records of which nobody knew; returns whether they say something new.
    pub(crate) fn notice_records(&self, dir: &Arc<BranchDir<T>>) -> Result<bool> {
        if !dir.powers().whiteouts || dir.place().is_none() {
            return Ok(false);
        }
        let attr = dir.tree().attr(Object::Dir(&*dir.open()?))?;
        Ok(dir.branch.renamed().add(attr.ino))
    }

    /// Forgets that a directory had records, which is no more.
    pub(crate) fn forget_records(&self, inode: &Inode<T>) {
        for root in self.roots().iter() {
            let Some(renamed) = root.branch.renamed_if_known() else {
                continue;
            };
            if !renamed.is_empty() {
                let keys = inode.keys();
                let here = keys.iter().filter(|key| key.dev == root.branch.dev);
                here.for_each(|key| renamed.remove(key.ino));
            }
        }
    }

    /// Writes the list of renamed directories of each branch where it says something else.
    pub(crate) fn save_renamed(&self) {
        for root in self.roots().iter() {
            if let Err(error) = self.save_renamed_on(root) {
                tracing::warn!(branch = root.index().0, %error, "the list of renamed directories was not written; they are found when they are used");
            }
        }
    }

    /// Writes the list of renamed directories of a branch if it says something else. AUFS finds them only by it.
    pub(crate) fn save_renamed_on(&self, root: &Arc<BranchDir<T>>) -> Result<()> {
        let Some(renamed) = root.branch.renamed_if_known() else {
            return Ok(());
        };
        if !root.powers().writable || !renamed.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let mut inodes: Vec<_> = renamed.inodes.read().iter().copied().collect();
        inodes.sort_unstable();
        let done = if inodes.is_empty() {
            match root.tree().remove_file(&*root.open()?, &list_name()) {
                Err(Errno::NOENT) => Ok(()),
                removed => Ok(removed?),
            }
        } else {
            self.put_file(root, &list_name(), &renamed::encode_list(inodes))
        };
        done.inspect_err(|_| renamed.changed.store(true, Ordering::Relaxed))
    }

    /// Adds a directory to those that are renamed, and to the list on the branch unless that is written at the end only. The list
    /// tells nothing that the directory does not say itself, so that failing is fine.
    pub(crate) fn add_renamed(&self, root: &Arc<BranchDir<T>>, ino: u64) {
        let renamed = root.branch.renamed();
        let right = !renamed.changed.load(Ordering::Relaxed);
        if !renamed.add(ino) || !self.settings().list_renamed_early {
            return;
        }
        match append(root, ino) {
            Ok(()) => {
                renamed.changed.fetch_and(!right, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::debug!(branch = root.index().0, %error, "a renamed directory is not in the list yet");
            }
        }
    }

    /// Writes a file of the format's own as a whole, in the place of another.
    pub(crate) fn put_file(
        &self,
        dir: &Arc<BranchDir<T>>,
        name: &Name,
        bytes: &[u8],
    ) -> Result<()> {
        let (tree, handle) = (dir.tree(), dir.open()?);
        let of = Name::new(b"record")?;
        let mut build = self.begin(dir, &of);
        let how = Creation::exact(renamed::PERM);
        let file = tree.create_file(&handle, &build.temporary, &how)?;
        build.made = true;
        let mut written = 0;
        while written < bytes.len() {
            match tree.write(&file, &bytes[written..], written as u64)? {
                0 => return Err(Errno::IO.into()),
                count => written += count,
            }
        }
        if self.settings().durable {
            tree.sync_file(&file, SyncHow::Data)?;
        }
        let how = RenameHow::Replace;
        tree.rename(&handle, &build.temporary, &handle, name, how)?;
        build.made = false;
        Ok(())
    }
}

fn append<T: Tree>(root: &Arc<BranchDir<T>>, ino: u64) -> Result<()> {
    let (tree, handle, name) = (root.tree(), root.open()?, list_name());
    let file = match tree.open_file(&handle, &name, Access::ReadWrite) {
        Err(Errno::NOENT) => tree.create_file(&handle, &name, &Creation::exact(renamed::PERM))?,
        file => file?,
    };
    let size = tree.attr(Object::File(&file))?.size;
    // Over what is left of a number that did not arrive as a whole.
    match tree.write(&file, &renamed::encode_list([ino]), size & !7)? {
        8 => Ok(()),
        _ => Err(Errno::IO.into()),
    }
}
