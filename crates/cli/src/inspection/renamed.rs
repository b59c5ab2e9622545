//! Parts of renamed directories, which have another name or place on the branches below.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rules::renamed::Place;
use rules::{Errno, Name};
use sys::BranchDir;
use tree::Tree;
use union::{Below, Told};

use super::{Level, Standing, Unreadable, View};

/// What records say about branches that were not asked yet: where a part is, if it is anywhere.
pub(super) type Parts = BTreeMap<usize, Option<Place>>;

impl View {
    /// Notes what the records of a directory say about the branches below; what was said above counts more.
    pub(super) fn ask_records(
        &self,
        parts: &mut Parts,
        above: &[Standing],
        found: &Standing,
    ) -> Result<(), Unreadable> {
        let holder = &self.branches[found.branch];
        if found.hidden.is_some() || self.overlay || !self.counts(holder) {
            return Ok(());
        }
        let at = |errno| Unreadable {
            branch: found.branch,
            path: found.path.clone(),
            errno,
        };
        if self.is_opaque(holder, &found.dir).map_err(at)? {
            parts.clear();
        }
        let told = self.told(above, found).map_err(at)?;
        for (branch, told) in (found.branch + 1..).zip(told) {
            let place = match told {
                Told::Nothing => continue,
                Told::Nowhere => None,
                Told::At(place) => Some(place),
            };
            parts.entry(branch).or_insert(place);
        }
        Ok(())
    }

    fn told(&self, above: &[Standing], found: &Standing) -> Result<Vec<Told>, Errno> {
        let branches = &self.branches[found.branch + 1..];
        let roots = branches.iter().map(|branch| branch.tree.root());
        let roots = roots.collect::<Result<Vec<BranchDir>, _>>()?;
        let mut below = Vec::new();
        for ((index, branch), root) in (found.branch + 1..).zip(branches).zip(&roots) {
            let beside = above.iter().find(|parent| parent.branch == index);
            below.push(Below {
                tree: &branch.tree,
                root,
                id: union::tree_id(&branch.tree, root)?,
                beside: beside.map(|parent| &parent.dir),
            });
        }
        let is_hidden = |_: usize, name: &Name| {
            let over = above.iter().filter(|parent| parent.branch <= found.branch);
            for parent in over {
                let branch = &self.branches[parent.branch];
                if self.counts(branch) && union::hides(&branch.tree, &parent.dir, name)? {
                    return Ok(true);
                }
            }
            Ok::<_, Errno>(false)
        };
        let tree = &self.branches[found.branch].tree;
        union::told(tree, &found.dir, &below, is_hidden)
    }

    /// Notes what a record leads to.
    pub(super) fn look_at_part(
        &self,
        level: &mut Level,
        index: usize,
        parent: Option<&Standing>,
        name: &Name,
        place: Option<Place>,
    ) -> Result<(), Unreadable> {
        let Some(place) = place else { return Ok(()) };
        let branch = &self.branches[index];
        let mut path = match (&place, parent) {
            (Place::Beside(_), Some(parent)) => parent.path.clone(),
            _ => branch.path.clone(),
        };
        let names = match &place {
            Place::Beside(name) => std::slice::from_ref(name),
            Place::Path(names) | Place::Moving(names, _) => names,
        };
        names.iter().for_each(|name| path.push(name.as_os_str()));
        let own = parent.map(|parent| parent.path.join(name.as_os_str()));
        if !self.renames && own.as_ref() != Some(&path) {
            return Ok(());
        }
        let dir = self
            .open_part(index, parent, names, &place)
            .map_err(|errno| Unreadable {
                branch: index,
                path: PathBuf::clone(&path),
                errno,
            })?;
        // Neither a whiteout nor a mark above is about it.
        let cut = level.cut.take();
        let found = Standing {
            branch: index,
            dir,
            path,
            hidden: None,
        };
        self.directory(level, found)?;
        level.cut = cut.or(level.cut.take());
        Ok(())
    }

    fn open_part(
        &self,
        index: usize,
        parent: Option<&Standing>,
        names: &[Name],
        place: &Place,
    ) -> Result<BranchDir, Errno> {
        let tree = &self.branches[index].tree;
        let (first, rest) = names.split_first().ok_or(Errno::NOENT)?;
        let mut dir = match (place, parent) {
            (Place::Beside(_), Some(parent)) => tree.open_dir(&parent.dir, first)?,
            _ => tree.open_dir(&tree.root()?, first)?,
        };
        for name in rest {
            dir = tree.open_dir(&dir, name)?;
        }
        Ok(dir)
    }
}
