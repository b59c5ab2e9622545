//! Making new objects: permissions, owners and what a directory hands down.

use rules::{Creation, Errno, Identity, Kind, Name};
use tree::Node;

use super::acl::{self, Acl};
use super::content::Content;
use super::disk::Table;
use super::inode::{Body, Ino};

/// Longest target of a symbolic link.
const TARGET_MAX: usize = 4095;

impl Table {
    /// Makes an object under a name.
    pub(crate) fn make(
        &mut self,
        dir: Ino,
        name: &Name,
        body: Body,
        how: &Creation,
    ) -> Result<Ino, Errno> {
        self.vacancy(dir, name)?;
        if self.free() == 0 {
            return Err(Errno::NOSPC);
        }
        let ino = self.make_unnamed(dir, body, how);
        self.insert_name(dir, name, ino);
        Ok(ino)
    }

    /// Makes an object without a name, as if it were made in the directory.
    pub(crate) fn make_unnamed(&mut self, dir: Ino, body: Body, how: &Creation) -> Ino {
        let Identity { uid, gid } = how.owner.unwrap_or(Identity::ROOT);
        let parent = self.inode(dir);
        let (hands_down_group, gid) = if parent.perm & 0o2000 != 0 {
            (true, parent.gid)
        } else {
            (false, gid)
        };
        let default = parent.xattrs.get(acl::DEFAULT).cloned();
        let kind = body.kind();
        let mut perm = match kind {
            Kind::Symlink => 0o777,
            // mkdir knows no set-id bits; the directory above decides.
            Kind::Dir => how.perm & 0o1777 | if hands_down_group { 0o2000 } else { 0 },
            _ => how.perm & 0o7777,
        };
        let mut lists = Vec::new();
        match default.filter(|_| kind != Kind::Symlink) {
            Some(default) => {
                if let Ok(Some(list)) = Acl::parse(&default) {
                    let access = list.handed_down(perm);
                    perm = access.decide(perm);
                    if !access.is_plain() {
                        lists.push((acl::ACCESS.to_vec(), access.value()));
                    }
                }
                if kind == Kind::Dir {
                    lists.push((acl::DEFAULT.to_vec(), default));
                }
            }
            None if kind == Kind::Symlink => {}
            None => perm &= !(how.umask & 0o777),
        }
        let ino = self.add(body, perm, uid, gid);
        self.inode_mut(ino).xattrs.extend(lists);
        ino
    }
}

/// Returns what `mknod` makes.
pub(crate) fn node(node: Node) -> Body {
    match node {
        Node::File => Body::File(Content::default()),
        Node::Fifo => Body::Special(Kind::Fifo, 0),
        Node::Socket => Body::Special(Kind::Socket, 0),
        Node::CharDevice(rdev) => Body::Special(Kind::CharDevice, rdev),
        Node::BlockDevice(rdev) => Body::Special(Kind::BlockDevice, rdev),
    }
}

/// Returns what `symlink` makes. An empty target is `ENOENT`, a long one `ENAMETOOLONG`.
pub(crate) fn symlink(target: &[u8]) -> Result<Body, Errno> {
    match target.len() {
        0 => Err(Errno::NOENT),
        _ if target.contains(&0) => Err(Errno::INVAL),
        length if length > TARGET_MAX => Err(Errno::NAMETOOLONG),
        _ => Ok(Body::Symlink(target.into())),
    }
}
