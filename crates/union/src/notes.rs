//! What a rename notes down so that a directory keeps what it merges from below (`dirren`).
//!
//! Records are in place before the rename that makes them count. Until then, they tell nothing else than what is merged anyhow, so
//! that they lead to the same parts at the old place and at the new one. What is not needed at the new place goes afterwards.

use std::sync::Arc;

use rules::BranchIndex;
use rules::lookup::{Sighting, below, dirs};
use rules::renamed::{self, Form, Origin, Place, TreeId};
use tree::{Object, Tree};

use crate::branch::BranchDir;
use crate::error::{Refusal, Result};
use crate::inode::Inode;
use crate::renamed::{origins, records};
use crate::union::Union;

/// What is noted about one directory that is renamed.
pub(crate) struct Notes<T: Tree> {
    /// The directory on the branch where it is renamed.
    dir: Arc<BranchDir<T>>,
    ino: u64,
    parts: Vec<Part>,
    /// Which records it had.
    had: Vec<(Form, TreeId)>,
    /// Whether it has to be opaque at its new place, and is not yet.
    opaque: bool,
}

/// The part of a directory that is on a branch below.
struct Part {
    tree: TreeId,
    /// What holds at the old place and at the new one.
    meanwhile: Origin,
    /// Whether a record says so already.
    noted: bool,
    /// What is left at the new place; nothing when it has the name there.
    after: Option<Origin>,
}

/// One end of a rename, as far as records depend on it.
pub(crate) struct End<'a, T: Tree> {
    pub(crate) parent: &'a Inode<T>,
    pub(crate) name: &'a rules::Name,
    pub(crate) sightings: &'a [Sighting],
}

impl<T: Tree> Union<T> {
    /// Decides what to note about a directory that is renamed on a branch; `None` when it merges nothing from below.
    /// `EXDEV` when that cannot be said in a record.
    pub(crate) fn notes(
        &self,
        inode: &Inode<T>,
        target: BranchIndex,
        from: &End<'_, T>,
        to: &End<'_, T>,
    ) -> Result<Option<Notes<T>>> {
        let Ok(directory) = inode.dir() else {
            return Ok(None);
        };
        let members = directory.state.read().members.clone();
        let lower: Vec<_> = members.iter().filter(|m| m.index() > target).collect();
        let top = members.iter().find(|m| m.index() == target);
        let (Some(dir), true, false) = (top, self.renames_merged(), lower.is_empty()) else {
            return Ok(None);
        };
        let handle = dir.open()?;
        let had = records(dir.tree(), &handle)?;
        let nothing_below = {
            let state = directory.state.read();
            let index = state.index.as_ref().filter(|index| !index.is_stale());
            index.is_some_and(|index| index.all().all(|seen| below(seen, target).is_empty()))
        };
        if had.is_empty() && nothing_below {
            // Nothing has to be found again, also not by a record in it, as for what is only hidden.
            return Ok(None);
        }
        let visible: Vec<_> = dirs(below(to.sightings, target)).collect();
        let covered = |branch: &BranchIndex| lower.iter().any(|part| part.index() == *branch);
        let is_opaque = self.dialect.is_opaque(dir)?;
        let opaque = !is_opaque && !visible.iter().all(covered);
        let mut merges_by_name = !is_opaque && !opaque;
        for part in &lower {
            // Its own records were about its old place.
            merges_by_name = merges_by_name && !self.has_records(part, None)?;
        }
        let old = parent_paths(from.parent)?;
        let new = parent_paths(to.parent)?;
        let known = if had.is_empty() {
            Vec::new()
        } else {
            origins(dir.tree(), &handle)?
        };
        let mut parts = Vec::new();
        for part in lower {
            let branch = part.index();
            let (path, ino) = (
                part.path(),
                part.tree().attr(Object::Dir(&*part.open()?))?.ino,
            );
            let (Some(name), at) = (path.last(), &path[..path.len().saturating_sub(1)]) else {
                return Err(Refusal::CrossBranch.into());
            };
            let is_in = |paths: &[(BranchIndex, Vec<rules::Name>)]| {
                paths.iter().any(|(b, path)| *b == branch && path == at)
            };
            let beside = Origin {
                place: Place::Beside(name.clone()),
                ino,
            };
            let by_path = Origin {
                place: Place::Path(path.clone()),
                ino,
            };
            let keeps_name = name == to.name && visible.contains(&branch) && merges_by_name;
            let after = if is_in(&new) { &beside } else { &by_path };
            let tree = part.branch.tree_id();
            // A path that is noted counts more than a name.
            let by_name = is_in(&old) && !had.contains(&(Form::Path, tree.clone()));
            let meanwhile = if by_name { after } else { &by_path };
            if meanwhile.encode().is_none() || after.encode().is_none() {
                return Err(Refusal::CrossBranch.into());
            }
            parts.push(Part {
                noted: known.contains(&(tree.clone(), meanwhile.clone())),
                tree,
                meanwhile: meanwhile.clone(),
                after: (!(keeps_name && is_in(&new))).then(|| after.clone()),
            });
        }
        Ok(Some(Notes {
            ino: dir.tree().attr(Object::Dir(&*handle))?.ino,
            had,
            dir: Arc::clone(dir),
            parts,
            opaque,
        }))
    }

    /// Puts records in place before a rename. The caller holds `change` of the directory's parent.
    pub(crate) fn put_notes(&self, inode: &Inode<T>, notes: &Notes<T>) -> Result<()> {
        let put = self.keeping_own_time(inode, &notes.dir, || {
            let root = self.root_of(notes.dir.index());
            self.add_renamed(&root, notes.ino);
            for part in &notes.parts {
                if !part.noted {
                    self.put_record(&notes.dir, &part.tree, &part.meanwhile)?;
                }
            }
            if notes.opaque {
                self.dialect.mark_opaque(&root, &*notes.dir.open()?)?;
            }
            Ok(())
        });
        put.inspect_err(|_| self.take_notes_back(inode, notes))
    }

    /// Takes back what was put in place for a rename that did not happen. It tells nothing new, so that failing is fine.
    pub(crate) fn take_notes_back(&self, inode: &Inode<T>, notes: &Notes<T>) {
        let undone = self.keeping_own_time(inode, &notes.dir, || {
            if notes.opaque {
                let handle = notes.dir.open()?;
                self.dialect.unmark_opaque(notes.dir.tree(), &handle)?;
            }
            for part in &notes.parts {
                let form = part.meanwhile.place.form();
                if !notes.had.contains(&(form, part.tree.clone())) {
                    self.remove_record(&notes.dir, form, &part.tree)?;
                }
            }
            if notes.had.is_empty() {
                notes.dir.branch.renamed().remove(notes.ino);
            }
            Ok(())
        });
        if let Err(error) = undone {
            tracing::debug!(%error, "records stay in a directory that was not renamed");
        }
    }

    /// Leaves only the records that are needed at the new place. More would say the same, so that failing is fine.
    pub(crate) fn tidy_notes(&self, inode: &Inode<T>, notes: &Notes<T>) {
        let done = self.keeping_own_time(inode, &notes.dir, || {
            let mut kept: Vec<_> = notes.had.clone();
            for part in &notes.parts {
                let wanted = part.after.as_ref().map(|after| after.place.form());
                let there = |form| {
                    let put = part.meanwhile.place.form() == form;
                    put || notes.had.contains(&(form, part.tree.clone()))
                };
                kept.retain(|(_, tree)| *tree != part.tree);
                if let Some(after) = &part.after {
                    if part.meanwhile != *after {
                        self.put_record(&notes.dir, &part.tree, after)?;
                    }
                    kept.push((after.place.form(), part.tree.clone()));
                }
                for form in [Form::Path, Form::Beside] {
                    if wanted != Some(form) && there(form) {
                        self.remove_record(&notes.dir, form, &part.tree)?;
                    }
                }
            }
            if kept.is_empty() {
                notes.dir.branch.renamed().remove(notes.ino);
            }
            Ok(())
        });
        if let Err(error) = done {
            tracing::debug!(%error, "a renamed directory keeps records that it does not need");
        }
    }

    fn put_record(&self, dir: &Arc<BranchDir<T>>, tree: &TreeId, origin: &Origin) -> Result<()> {
        let bytes = origin.encode().ok_or(Refusal::CrossBranch)?;
        let name = renamed::record_name(origin.place.form(), tree);
        self.put_file(dir, &name, &bytes)
    }

    fn remove_record(&self, dir: &Arc<BranchDir<T>>, form: Form, tree: &TreeId) -> Result<()> {
        let name = renamed::record_name(form, tree);
        match dir.tree().remove_file(&*dir.open()?, &name) {
            Ok(()) | Err(rules::Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Changes what nobody sees in a directory, whose time stays unless somebody changes it just now.
    fn keeping_own_time(
        &self,
        inode: &Inode<T>,
        dir: &Arc<BranchDir<T>>,
        deed: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        match inode.dir()?.change.try_lock() {
            Some(_change) => self.keeping_time(dir, deed),
            None => deed(),
        }
    }
}

/// Returns where the members of a directory are on their branches.
fn parent_paths<T: Tree>(inode: &Inode<T>) -> Result<Vec<(BranchIndex, Vec<rules::Name>)>> {
    let members = inode.dir()?.state.read().members.clone();
    Ok(members
        .iter()
        .map(|dir| (dir.index(), dir.path()))
        .collect())
}
