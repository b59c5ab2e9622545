//! Overlay: a character device 0:0 hides its name, an extended attribute makes a directory opaque.
//!
//! Source: the kernel's overlayfs documentation. Where the host refuses such a device or attribute (some
//! user namespaces and filesystems), AUFS's marks take their place; container engines read both.

use rules::{Creation, Errno, Kind, Name};
use tree::{Node, Object, Tree, XattrHow};

use crate::error::Result;
use crate::settings::OverlayMarks;

pub(super) fn is_whiteout<T: Tree>(tree: &T, dir: &T::Dir, name: &Name) -> Result<bool> {
    let attr = tree.look(dir, name)?;
    Ok(attr.is_some_and(|attr| attr.kind == Kind::CharDevice && attr.rdev == 0))
}

/// Leaves a whiteout; `false` where the host has no such devices.
pub(super) fn leave<T: Tree>(tree: &T, dir: &T::Dir, name: &Name) -> Result<bool> {
    match tree.make_node(dir, name, Node::CharDevice(0), &Creation::exact(0)) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn is_opaque<T: Tree>(tree: &T, dir: &T::Dir, marks: OverlayMarks) -> Result<bool> {
    // Most directories have no attributes: their names are one question instead of one for each mark.
    let names = match tree.xattr_names(Object::Dir(dir)) {
        Err(Errno::OPNOTSUPP | Errno::PERM) => return Ok(false),
        names => names?,
    };
    let is_there = |attribute: &&&[u8]| names.iter().any(|name| name == *attribute);
    for attribute in readable(marks).iter().filter(is_there) {
        match tree.xattr(Object::Dir(dir), attribute) {
            Ok(value) if value == b"y" => return Ok(true),
            Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// Marks a directory; `false` where the host does not allow the attribute.
pub(super) fn mark_opaque<T: Tree>(tree: &T, dir: &T::Dir, marks: OverlayMarks) -> Result<bool> {
    match tree.set_xattr(Object::Dir(dir), readable(marks)[0], b"y", XattrHow::Set) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns whether an extended attribute is the format's own: it is neither shown nor copied.
pub(crate) fn is_private(attribute: &[u8]) -> bool {
    attribute.starts_with(b"trusted.overlay.") || attribute.starts_with(b"user.overlay.")
}

/// The first one is written.
fn readable(marks: OverlayMarks) -> &'static [&'static [u8]] {
    match marks {
        OverlayMarks::Trusted => &[
            b"trusted.overlay.opaque",
            b"user.overlay.opaque",
            b"user.fuseoverlayfs.opaque",
        ],
        OverlayMarks::User => &[b"user.overlay.opaque", b"user.fuseoverlayfs.opaque"],
    }
}
