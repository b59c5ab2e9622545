//! A directory in which servers tell about themselves, held open.
//!
//! While a server runs, directories may move away from their names, as when an initramfs hands over to
//! the system. What was opened before stays the same directory.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use rules::{Creation, Errno, Kind, Name};
use sys::{HostDir, HostTree, capabilities};
use tree::{RenameHow, Tree};

/// An open directory.
#[derive(Debug)]
pub(crate) struct RunDir {
    tree: HostTree,
    root: HostDir,
}

impl RunDir {
    /// Opens a directory, which is made if it is missing, and refused if others can write to it.
    pub(crate) fn make(dir: &Path, perm: u32) -> anyhow::Result<Self> {
        match DirBuilder::new().mode(perm).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        Self::open(dir)
    }

    /// Opens a directory, unless others can write to it.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        if !is_safe(dir) {
            anyhow::bail!("{} belongs to somebody else", dir.display());
        }
        let tree = HostTree::open(dir)?;
        let root = tree.root()?;
        Ok(Self { tree, root })
    }

    /// Writes a file; who reads it sees all of it or the one before.
    pub(crate) fn write(&self, name: &str, content: &[u8], perm: u32) -> anyhow::Result<()> {
        self.write_in(&self.root, name, content, perm)
    }

    fn write_in(&self, dir: &HostDir, name: &str, content: &[u8], perm: u32) -> anyhow::Result<()> {
        let (new, name) = (new_name(name)?, Name::new(name.as_bytes())?);
        absent(self.tree.remove_file(dir, &new))?;
        self.fill(dir, &new, content, perm)?;
        Ok(self
            .tree
            .rename(dir, &new, dir, &name, RenameHow::Replace)?)
    }

    /// Writes some of the files of a directory, one after the other.
    pub(crate) fn write_some<'a>(
        &self,
        name: &str,
        files: impl IntoIterator<Item = &'a (String, Vec<u8>)>,
        perm: u32,
    ) -> anyhow::Result<()> {
        let dir = self
            .tree
            .open_dir(&self.root, &Name::new(name.as_bytes())?)?;
        for (file, content) in files {
            self.write_in(&dir, file, content, perm)?;
        }
        Ok(())
    }

    /// Puts files in the place of all that a directory holds, at once.
    pub(crate) fn replace_dir(
        &self,
        name: &str,
        files: &[(String, Vec<u8>)],
        perm: u32,
    ) -> anyhow::Result<()> {
        let (new, name) = (new_name(name)?, Name::new(name.as_bytes())?);
        let (tree, root) = (&self.tree, &self.root);
        self.remove_dir(&new)?;
        tree.make_dir(root, &new, &Creation::exact(0o755))?;
        let dir = tree.open_dir(root, &new)?;
        for (file, content) in files {
            self.fill(&dir, &Name::new(file.as_bytes())?, content, perm)?;
        }
        match tree.look(root, &name)? {
            None => tree.rename(root, &new, root, &name, RenameHow::NoReplace)?,
            Some(_) => {
                tree.rename(root, &new, root, &name, RenameHow::Exchange)?;
                self.remove_dir(&new)?;
            }
        }
        Ok(())
    }

    /// Removes a file, or a directory with the files in it, and what writing it may have left.
    /// Somebody else may have done that, or may not let us: that is only logged.
    pub(crate) fn remove(&self, name: &str) {
        let remove = || -> anyhow::Result<()> {
            for name in [Name::new(name.as_bytes())?, new_name(name)?] {
                match self.tree.look(&self.root, &name)?.map(|attr| attr.kind) {
                    Some(Kind::Dir) => self.remove_dir(&name)?,
                    Some(_) => absent(self.tree.remove_file(&self.root, &name))?,
                    None => {}
                }
            }
            Ok(())
        };
        if let Err(error) = remove() {
            tracing::debug!(%error, name, "not removed");
        }
    }

    fn fill(&self, dir: &HostDir, name: &Name, content: &[u8], perm: u32) -> Result<(), Errno> {
        let file = self.tree.create_file(dir, name, &Creation::exact(perm))?;
        let mut done = 0;
        while done < content.len() {
            done += self.tree.write(&file, &content[done..], done as u64)?;
        }
        Ok(())
    }

    fn remove_dir(&self, name: &Name) -> Result<(), Errno> {
        let dir = match self.tree.open_dir(&self.root, name) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        for entry in self.tree.list(&dir)? {
            absent(self.tree.remove_file(&dir, &entry.name))?;
        }
        absent(self.tree.remove_dir(&self.root, name))
    }
}

fn new_name(name: &str) -> anyhow::Result<Name> {
    Ok(Name::new(format!(".{name}.new").as_bytes())?)
}

fn absent(removed: Result<(), Errno>) -> Result<(), Errno> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// A directory that others can write to could hold lies.
pub(crate) fn is_safe(dir: &Path) -> bool {
    dir.symlink_metadata().is_ok_and(|metadata| {
        let owner = metadata.uid() == capabilities::euid() || metadata.uid() == 0;
        metadata.is_dir() && owner && metadata.mode() & 0o022 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_directory_is_replaced_and_removed_with_all_that_is_in_it() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("run");
        let run = RunDir::make(&dir, 0o755).unwrap();
        let file = |name: &str, content: &str| (name.to_owned(), content.as_bytes().to_vec());
        run.replace_dir("si", &[file("a", "1"), file("b", "2")], 0o444)
            .unwrap();
        run.write("told", b"1", 0o644).unwrap();
        // As after a server that was killed while it wrote.
        fs::create_dir(dir.join(".si.new")).unwrap();
        fs::write(dir.join(".si.new/x"), "").unwrap();
        fs::write(dir.join(".told.new"), "").unwrap();
        let moved = temporary.path().join("moved");
        fs::rename(&dir, &moved).unwrap();
        run.replace_dir("si", &[file("a", "3")], 0o444).unwrap();
        run.write("told", b"2", 0o644).unwrap();
        run.write_some("si", &[file("c", "4"), file("d", "5")], 0o444)
            .unwrap();
        run.write_some("si", &[file("c", "6")], 0o444).unwrap();
        assert_eq!(fs::read_to_string(moved.join("si/c")).unwrap(), "6");
        assert_eq!(fs::read_dir(moved.join("si")).unwrap().count(), 3);
        assert_eq!(fs::read_to_string(moved.join("si/a")).unwrap(), "3");
        assert_eq!(fs::read_to_string(moved.join("told")).unwrap(), "2");
        assert!(!moved.join("si/b").exists());
        run.remove("si");
        run.remove("told");
        assert_eq!(fs::read_dir(&moved).unwrap().count(), 0);
    }
}
