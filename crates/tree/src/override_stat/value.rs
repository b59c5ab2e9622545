//! The text of the attribute: `UID:GID:MODE`, and `:TYPE` where the inode's kind is not meant.
//!
//! Numbers are decimal, the mode is octal. It is what fuse-overlayfs and containers/storage write, and what they
//! have written over the years is read.

use rules::{Attr, Kind};

/// Permission, set-id and sticky bits.
const PERM_MASK: u32 = 0o7777;

/// What an attribute says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    /// The owner; `None`: that of the inode.
    pub(super) uid: Option<u32>,
    /// The group; `None`: that of the inode.
    pub(super) gid: Option<u32>,
    /// Permission, set-id and sticky bits.
    pub(super) perm: u32,
    /// What the object is, if it is not what it is stored as, with its device number.
    pub(super) disguised: Option<(Kind, u64)>,
}

impl Value {
    /// Returns what would say of an object what its attributes say.
    pub(super) fn of(attr: &Attr, disguised: Option<(Kind, u64)>) -> Self {
        Self {
            uid: Some(attr.uid),
            gid: Some(attr.gid),
            perm: attr.perm,
            disguised,
        }
    }

    /// Reads the text; `None` when it is of another form. Bits of the kind in the mode say nothing: some writers put
    /// them there and some do not. So does a type that is unknown or that of the inode anyway.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text)
            .ok()?
            .trim_end_matches(['\0', '\n']);
        let mut fields = text.splitn(4, ':');
        let uid = id(fields.next()?)?;
        let gid = id(fields.next()?)?;
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        Some(Self {
            uid,
            gid,
            perm: mode & PERM_MASK,
            disguised: fields.next().and_then(disguise),
        })
    }

    /// Writes the text of an object whose owner is known.
    pub(super) fn text(&self, inode: &Attr) -> String {
        let uid = self.uid.unwrap_or(inode.uid);
        let gid = self.gid.unwrap_or(inode.gid);
        let kind = match self.disguised {
            Some((Kind::Symlink, _)) => ":symlink".to_owned(),
            Some((Kind::Fifo, _)) => ":pipe".to_owned(),
            Some((Kind::Socket, _)) => ":socket".to_owned(),
            Some((Kind::BlockDevice, device)) => device_word("block", device),
            Some((Kind::CharDevice, device)) => device_word("char", device),
            Some((Kind::File | Kind::Dir, _)) | None => String::new(),
        };
        format!("{uid}:{gid}:{:04o}{kind}", self.perm)
    }

    /// Returns the attributes of an object whose inode has these.
    pub(super) fn over(&self, inode: Attr) -> Attr {
        let (kind, rdev) = match self.disguised {
            // Nothing else can stand for anything: a directory has names, a device is what it is.
            Some(disguised) if inode.kind == Kind::File => disguised,
            _ => (inode.kind, inode.rdev),
        };
        Attr {
            uid: self.uid.unwrap_or(inode.uid),
            gid: self.gid.unwrap_or(inode.gid),
            perm: self.perm,
            kind,
            rdev,
            ..inode
        }
    }
}

/// Old writers said -1 for an owner that nobody had set.
fn id(text: &str) -> Option<Option<u32>> {
    match text.parse::<u32>() {
        Ok(u32::MAX) => Some(None),
        Ok(id) => Some(Some(id)),
        Err(_) if text == "-1" => Some(None),
        Err(_) => None,
    }
}

fn disguise(word: &str) -> Option<(Kind, u64)> {
    let mut parts = word.split('-');
    let kind = match parts.next()? {
        "symlink" => return Some((Kind::Symlink, 0)),
        "pipe" => return Some((Kind::Fifo, 0)),
        "socket" => return Some((Kind::Socket, 0)),
        "block" => Kind::BlockDevice,
        "char" => Kind::CharDevice,
        _ => return None,
    };
    let mut number = || parts.next()?.parse::<u32>().ok();
    Some((kind, device(number()?, number()?)))
}

fn device_word(kind: &str, device: u64) -> String {
    format!(":{kind}-{}-{}", major(device), minor(device))
}

/// Packs a device number as `makedev` of Linux does.
fn device(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & !0xfff) << 32 | (major & 0xfff) << 8 | (minor & !0xff) << 12 | minor & 0xff
}

fn major(device: u64) -> u32 {
    (device >> 32 & 0xffff_f000 | device >> 8 & 0xfff) as u32
}

fn minor(device: u64) -> u32 {
    (device >> 12 & 0xffff_ff00 | device & 0xff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::Time;

    fn inode(kind: Kind) -> Attr {
        Attr {
            dev: 1,
            ino: 2,
            kind,
            perm: 0o755,
            nlink: 1,
            uid: 10,
            gid: 11,
            rdev: 0,
            size: 0,
            blocks: 0,
            block_size: 4096,
            atime: Time::default(),
            mtime: Time::default(),
            ctime: Time::default(),
            btime: None,
            immutable: false,
        }
    }

    #[test]
    fn texts_of_all_writers_are_read_and_ours_are_written() {
        for (text, shown, written) in [
            ("0:0:755", (0, 0, 0o755, Kind::File, 0), "0:0:0755"),
            ("0:0:104711", (0, 0, 0o4711, Kind::File, 0), "0:0:4711"),
            ("5:6:0600:file", (5, 6, 0o600, Kind::File, 0), "5:6:0600"),
            ("5:6:0:dir", (5, 6, 0, Kind::File, 0), "5:6:0000"),
            ("5:6:644:what", (5, 6, 0o644, Kind::File, 0), "5:6:0644"),
            ("5:6:644:char-1", (5, 6, 0o644, Kind::File, 0), "5:6:0644"),
            (
                "5:6:644:pipe",
                (5, 6, 0o644, Kind::Fifo, 0),
                "5:6:0644:pipe",
            ),
            (
                "5:6:777:symlink",
                (5, 6, 0o777, Kind::Symlink, 0),
                "5:6:0777:symlink",
            ),
            (
                "5:6:660:socket",
                (5, 6, 0o660, Kind::Socket, 0),
                "5:6:0660:socket",
            ),
            (
                "5:6:660:block-8-1",
                (5, 6, 0o660, Kind::BlockDevice, 0x801),
                "5:6:0660:block-8-1",
            ),
            (
                "5:6:660:char-4097-300",
                (5, 6, 0o660, Kind::CharDevice, 0x1000_0010_012c),
                "5:6:0660:char-4097-300",
            ),
            (
                "-1:4294967295:0700\0",
                (10, 11, 0o700, Kind::File, 0),
                "10:11:0700",
            ),
        ] {
            let value = Value::parse(text.as_bytes()).unwrap();
            let attr = value.over(inode(Kind::File));
            let told = (attr.uid, attr.gid, attr.perm, attr.kind, attr.rdev);
            assert_eq!(told, shown, "{text}");
            assert_eq!(value.text(&inode(Kind::File)), written, "{text}");
            assert_eq!(value.over(inode(Kind::Dir)).kind, Kind::Dir, "{text}");
        }
    }

    #[test]
    fn other_texts_say_nothing() {
        for text in [
            "",
            "0",
            "0:0",
            "0:0:",
            "0:0:9",
            "a:0:755",
            "0:-2:755",
            "4294967296:0:0",
        ] {
            assert_eq!(Value::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Value::parse(b"0:0:\xff"), None);
    }
}
