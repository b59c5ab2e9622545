//! Whiteouts and the format's other names in sight: the option `shwh`.
//!
//! They are listed as something unknown, and found as what they are on their branch. No name of the format can be made,
//! removed or renamed all the same: that would be a change behind the union's back, made through it.

use std::collections::HashSet;
use std::sync::Arc;

use rules::{Attr, Kind, Name, whiteout};
use tree::Tree;

use crate::error::Result;
use crate::index::ListedName;
use crate::inode::{Inode, NewBody};
use crate::settings::DialectKind;
use crate::union::Union;

impl<T: Tree> Union<T> {
    /// Returns whether the format's own names can be seen.
    pub(crate) fn shows_marks(&self) -> bool {
        let settings = self.settings();
        settings.show_whiteouts && settings.dialect == DialectKind::Aufs
    }

    /// Returns the format's own names in a directory, each once. They are read anew each time: the index knows what they
    /// mean, not where they are.
    pub(crate) fn marks_in(&self, inode: &Inode<T>) -> Result<Vec<ListedName>> {
        let members = inode.dir()?.state.read().members.clone();
        let mut seen = HashSet::new();
        let mut marks = Vec::new();
        for member in members {
            for entry in member.tree().list(&*member.open()?)? {
                if whiteout::is_reserved(entry.name.as_bytes()) && seen.insert(entry.name.clone()) {
                    marks.push(ListedName {
                        name: entry.name,
                        kind: None,
                        ino: entry.ino,
                        dev: member.branch.dev,
                    });
                }
            }
        }
        Ok(marks)
    }

    /// Looks one of the format's own names up and takes a reference to what it names.
    pub(crate) fn find_mark(
        &self,
        parent: &Arc<Inode<T>>,
        name: &[u8],
    ) -> Result<Option<(Arc<Inode<T>>, Attr)>> {
        let name = Name::new(name)?;
        let members = parent.dir()?.state.read().members.clone();
        for member in members {
            let Some(mut attr) = member.tree().look(&*member.open()?, &name)? else {
                continue;
            };
            let place = (Arc::clone(&member), name.clone());
            let body = || match attr.kind {
                Kind::Dir => NewBody::Dir(vec![member.child(name.clone())]),
                _ => NewBody::Other {
                    branch: member.index(),
                    place: Some(place.clone()),
                    pseudo_linked: false,
                },
            };
            let inode = self.inodes.intern(&attr, body);
            inode.confirm(|| true);
            if let Ok(other) = inode.other() {
                // Whiteouts are names of one file, and the one that was met before may be gone.
                let mut state = other.state.write();
                (state.branch, state.place) = (member.index(), Some(place));
            } else if let Ok(directory) = inode.dir() {
                let mut state = directory.state.write();
                if state.removed {
                    // A change of branches lost sight of it, for no branch shows it under this name.
                    state.removed = false;
                    state.members = vec![member.child(name.clone())];
                    state.forget_index();
                }
            }
            self.inodes.add_name(&inode, parent, &name);
            attr.ino = inode.number;
            return Ok(Some((inode, attr)));
        }
        Ok(None)
    }
}
