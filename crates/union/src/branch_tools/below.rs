//! What lies below a branch: whether a name would show there if the branch did not hide it.

use std::sync::Arc;

use rules::lookup::{Resolution, Seen, Sighting, dirs, resolve};
use rules::renamed::TreeId;
use rules::{BranchIndex, Errno, Kind, Name, Powers, whiteout};
use tree::Tree;

use super::{is_marked, is_opaque};
use crate::renamed::{records, tree_id};

/// A directory of a branch below.
pub struct Layer<'a, T: Tree> {
    tree: &'a T,
    dir: Arc<T::Dir>,
    powers: Powers,
}

/// What lies below a branch, seen from one of its directories.
pub enum Below<'a, T: Tree> {
    /// No branch.
    Nothing,
    /// The directory is opaque, or one that holds it.
    Covered,
    /// These directories merge, topmost first.
    Layers(Vec<Layer<'a, T>>),
    /// Records of renamed directories lead there: anything may show.
    Unknown,
}

impl<'a, T: Tree> Layer<'a, T> {
    /// Opens the root of a branch.
    pub fn root(tree: &'a T, powers: Powers) -> Result<Self, Errno> {
        Ok(Self {
            tree,
            dir: Arc::new(tree.root()?),
            powers,
        })
    }

    fn sees(&self, name: &Name) -> Result<Option<Seen>, Errno> {
        let entry = match self.tree.look(&self.dir, name) {
            Err(Errno::NAMETOOLONG) => None,
            looked => looked?,
        };
        let hides = || match is_marked(self.tree, &self.dir, &whiteout::of(name)) {
            Ok(true) => Ok(Some(Seen::Whiteout)),
            Ok(false) => Ok(None),
            Err(Errno::IO) => Ok(Some(Seen::Damaged)),
            Err(errno) => Err(errno),
        };
        // Where changes are made, an entry beside its whiteout counts.
        if self.powers.whiteouts
            && !(self.powers.writable && entry.is_some())
            && let Some(seen) = hides()?
        {
            return Ok(Some(seen));
        }
        Ok(entry.map(|attr| match attr.kind {
            Kind::Dir => Seen::Dir,
            _ => Seen::File,
        }))
    }
}

impl<'a, T: Tree> Below<'a, T> {
    fn sightings(&self, name: &Name) -> Result<Vec<Sighting>, Errno> {
        let Self::Layers(layers) = self else {
            return Ok(Vec::new());
        };
        let mut sightings = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let branch = BranchIndex(u16::try_from(index).map_err(|_| Errno::INVAL)?);
            sightings.extend(layer.sees(name)?.map(|what| Sighting { branch, what }));
        }
        Ok(sightings)
    }

    /// Returns whether something shows under a name.
    pub fn shows(&self, name: &Name) -> Result<bool, Errno> {
        let unknown = matches!(self, Self::Unknown);
        Ok(unknown || resolve(&self.sightings(name)?) != Resolution::Absent)
    }

    /// Returns whether a directory of this name above would merge with one below.
    pub fn merges(&self, name: &Name) -> Result<bool, Errno> {
        let unknown = matches!(self, Self::Unknown);
        Ok(unknown || dirs(&self.sightings(name)?).next().is_some())
    }

    /// Returns how records name the branches whose directories these are, if they are roots.
    pub(super) fn ids(&self) -> Result<Vec<TreeId>, Errno> {
        let Self::Layers(layers) = self else {
            return Ok(Vec::new());
        };
        let ids = layers.iter().map(|layer| tree_id(layer.tree, &layer.dir));
        ids.collect()
    }

    /// Returns what lies below a directory of a branch above that has this name.
    pub(super) fn inside_of(&self, name: &Name, tree: &T, dir: &T::Dir) -> Result<Self, Errno> {
        if matches!(self, Self::Nothing) {
            return Ok(match is_opaque(tree, dir)? {
                true => Self::Covered,
                false => Self::Nothing,
            });
        }
        if !records(tree, dir)?.is_empty() {
            return Ok(Self::Unknown);
        }
        match is_opaque(tree, dir)? {
            true => Ok(Self::Covered),
            false => self.inside(name),
        }
    }

    /// Returns what lies below a subdirectory.
    pub fn inside(&self, name: &Name) -> Result<Self, Errno> {
        let layers = match self {
            Self::Nothing => return Ok(Self::Nothing),
            Self::Covered => return Ok(Self::Covered),
            Self::Unknown => return Ok(Self::Unknown),
            Self::Layers(layers) => layers,
        };
        let mut merged = Vec::new();
        for branch in dirs(&self.sightings(name)?) {
            let layer = &layers[branch.get()];
            let dir = layer.tree.open_dir(&layer.dir, name)?;
            if layer.powers.whiteouts && !records(layer.tree, &dir)?.is_empty() {
                return Ok(Self::Unknown);
            }
            let ends = layer.powers.whiteouts && is_opaque(layer.tree, &dir)?;
            merged.push(Layer {
                tree: layer.tree,
                dir: Arc::new(dir),
                powers: layer.powers,
            });
            if ends {
                break;
            }
        }
        Ok(Self::Layers(merged))
    }
}
