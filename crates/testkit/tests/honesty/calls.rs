//! Random calls of the trait: few names and handles, so that they meet each other.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rules::{Changes, Creation, Identity, Name, SetTime, Time};
use tree::{Access, Node, RenameHow, Seek, SyncHow, XattrHow};

/// How many calls a sequence may have.
const LONGEST: usize = 100;

/// A directory handle, by number.
pub(crate) type D = usize;
/// A file handle, by number.
pub(crate) type F = usize;
/// A name, by number.
pub(crate) type N = usize;

/// What a call is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About {
    Dir(D),
    Entry(D, N),
    File(F),
}

/// One call of the trait.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    OpenDir(D, N),
    List(D),
    Attr(About),
    SetAttr(About, Changes),
    ReadLink(D, N),
    CreateFile(D, N, Creation),
    UnnamedFile(D, Creation),
    MakeDir(D, N, Creation),
    MakeNode(D, N, Node, Creation),
    MakeSymlink(D, N, Vec<u8>, Creation),
    Link(D, N, D, N),
    LinkFile(F, D, N),
    RemoveFile(D, N),
    RemoveDir(D, N),
    Rename(D, N, D, N, RenameHow),
    Xattr(About, usize),
    XattrNames(About),
    SetXattr(About, usize, usize, XattrHow),
    RemoveXattr(About, usize),
    OpenFile(D, N, Access),
    Read(F, u64, usize),
    Write(F, u64, Vec<u8>),
    Allocate(F, u32, u64, u64),
    Seek(F, u64, Seek),
    CopyRange(F, u64, F, u64, u64),
    CopyData(F, F, u64),
    Sync(F, SyncHow),
    SyncDir(D),
}

/// Returns the names that a number stands for; the last is too long.
pub(crate) fn names() -> Vec<Name> {
    let long = "n".repeat(256);
    let longest = "m".repeat(255);
    let texts = ["a", "b", "c", "d", ".wh.a", &longest, &long];
    texts
        .into_iter()
        .map(|text| Name::new(text.as_bytes()).unwrap())
        .collect()
}

/// The names of extended attributes that a number stands for.
pub(crate) const XATTRS: [&[u8]; 10] = [
    b"user.a",
    b"user.b",
    b"trusted.overlay.opaque",
    b"security.x",
    b"user.",
    b"nothing.a",
    b"a",
    b"",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
];

/// Values; the last ones are access control lists.
pub(crate) fn values() -> Vec<Vec<u8>> {
    let list = |entries: &[(u16, u16, u32)]| {
        let mut value = vec![2, 0, 0, 0];
        for (tag, perm, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(perm.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    };
    const NO_ID: u32 = u32::MAX;
    vec![
        Vec::new(),
        b"v".to_vec(),
        vec![0xff; 300],
        vec![0; 65_537],
        list(&[(1, 7, NO_ID), (4, 5, NO_ID), (0x20, 1, NO_ID)]),
        list(&[
            (1, 6, NO_ID),
            (2, 7, 1000),
            (4, 4, NO_ID),
            (0x10, 5, NO_ID),
            (0x20, 0, NO_ID),
        ]),
        list(&[
            (1, 7, NO_ID),
            (4, 7, NO_ID),
            (8, 6, 5),
            (0x10, 7, NO_ID),
            (0x20, 4, NO_ID),
        ]),
        list(&[(1, 6, NO_ID), (2, 7, 1000), (4, 4, NO_ID), (0x20, 0, NO_ID)]),
        list(&[]),
    ]
}

fn number() -> impl Strategy<Value = usize> {
    0..8_usize
}

fn name() -> impl Strategy<Value = N> {
    prop_oneof![12 => 0..4_usize, 1 => 4..7_usize]
}

fn about() -> impl Strategy<Value = About> {
    prop_oneof![
        1 => number().prop_map(About::Dir),
        3 => (number(), name()).prop_map(|(dir, name)| About::Entry(dir, name)),
        1 => number().prop_map(About::File),
    ]
}

fn creation() -> impl Strategy<Value = Creation> {
    let perm = select(vec![
        0o644, 0o755, 0o700, 0, 0o6755, 0o2775, 0o1777, 0o4644, 0o2644,
    ]);
    let identity = (select(vec![0, 1000]), select(vec![0, 5, 1000]));
    let owner = proptest::option::of(identity.prop_map(|(uid, gid)| Identity { uid, gid }));
    (perm, select(vec![0, 0o022, 0o777, 0o027]), owner).prop_map(|(perm, umask, owner)| Creation {
        perm,
        umask,
        owner,
    })
}

fn changes() -> impl Strategy<Value = Changes> {
    let time = || {
        prop_oneof![
            4 => Just(None),
            1 => Just(Some(SetTime::Now)),
            1 => Just(Some(SetTime::To(Time { seconds: 7, nanos: 9 }))),
        ]
    };
    let rarely =
        |values: Vec<u32>| prop_oneof![3 => Just(None), 2 => select(values).prop_map(Some)];
    let size = prop_oneof![4 => Just(None), 1 => size().prop_map(Some)];
    let perm = rarely(vec![0o644, 0o755, 0o6777, 0o2755, 0o2644, 0o1000]);
    let uid = rarely(vec![0, 1000]);
    let gid = rarely(vec![0, 5]);
    (perm, uid, gid, size, time(), time(), any::<bool>()).prop_map(
        |(perm, uid, gid, size, atime, mtime, drop_set_id)| Changes {
            perm,
            uid,
            gid,
            size,
            atime,
            mtime,
            drop_set_id,
        },
    )
}

/// Offsets around the boundaries of blocks, and a few that are too high.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0..20_u64,
        6 => select(vec![4095, 4096, 4097, 8192, 12_288]),
        1 => select(vec![1 << 44, (1 << 44) - 4096, u64::MAX / 2, u64::MAX - 5]),
    ]
}

/// Sizes that are small, or too large for any file.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![6 => low_offset(), 1 => select(vec![1 << 44, u64::MAX / 2, u64::MAX - 5])]
}

fn low_offset() -> impl Strategy<Value = u64> {
    prop_oneof![1 => 0..20_u64, 1 => select(vec![4095, 4096, 4097, 8192, 12_288])]
}

fn node() -> impl Strategy<Value = Node> {
    select(vec![
        Node::File,
        Node::Fifo,
        Node::Socket,
        Node::CharDevice(0),
        Node::BlockDevice(0),
    ])
}

fn target() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => select(vec!["a", "b/c", "../a", "."]).prop_map(|text| text.as_bytes().to_vec()),
        1 => select(vec![0, 59, 60, 4095, 4096]).prop_map(|length| vec![b't'; length]),
    ]
}

fn name_calls() -> impl Strategy<Value = Call> {
    use Call::*;
    let how = select(vec![
        RenameHow::Replace,
        RenameHow::Replace,
        RenameHow::NoReplace,
        RenameHow::Exchange,
    ]);
    let access = select(vec![Access::Read, Access::ReadQuietly, Access::ReadWrite]);
    prop_oneof![
        4 => (number(), name(), creation()).prop_map(|(d, n, how)| CreateFile(d, n, how)),
        5 => (number(), name(), creation()).prop_map(|(d, n, how)| MakeDir(d, n, how)),
        5 => (number(), name()).prop_map(|(d, n)| OpenDir(d, n)),
        3 => (number(), name(), access).prop_map(|(d, n, access)| OpenFile(d, n, access)),
        1 => (number(), creation()).prop_map(|(d, how)| UnnamedFile(d, how)),
        2 => (number(), name(), node(), creation())
            .prop_map(|(d, n, node, how)| MakeNode(d, n, node, how)),
        2 => (number(), name(), target(), creation())
            .prop_map(|(d, n, target, how)| MakeSymlink(d, n, target, how)),
        3 => (number(), name(), number(), name()).prop_map(|(d, n, t, m)| Link(d, n, t, m)),
        2 => (number(), number(), name()).prop_map(|(f, d, n)| LinkFile(f, d, n)),
        3 => (number(), name()).prop_map(|(d, n)| RemoveFile(d, n)),
        3 => (number(), name()).prop_map(|(d, n)| RemoveDir(d, n)),
        8 => (number(), name(), number(), name(), how)
            .prop_map(|(d, n, t, m, how)| Rename(d, n, t, m, how)),
        1 => (number(), name()).prop_map(|(d, n)| ReadLink(d, n)),
        1 => number().prop_map(List),
        1 => number().prop_map(SyncDir),
    ]
}

fn attribute_calls() -> impl Strategy<Value = Call> {
    use Call::*;
    let how = select(vec![
        XattrHow::Set,
        XattrHow::Set,
        XattrHow::Create,
        XattrHow::Replace,
    ]);
    let xattr = || 0..XATTRS.len();
    prop_oneof![
        3 => about().prop_map(Attr),
        4 => (about(), changes()).prop_map(|(about, changes)| SetAttr(about, changes)),
        2 => (about(), xattr()).prop_map(|(about, name)| Xattr(about, name)),
        1 => about().prop_map(XattrNames),
        6 => (about(), xattr(), 0..values().len(), how)
            .prop_map(|(about, name, value, how)| SetXattr(about, name, value, how)),
        2 => (about(), xattr()).prop_map(|(about, name)| RemoveXattr(about, name)),
    ]
}

fn file_calls() -> impl Strategy<Value = Call> {
    use Call::*;
    let bytes = (0..=255_u8, select(vec![0, 1, 10, 4096, 5000]))
        .prop_map(|(byte, length)| vec![byte; length]);
    let mode = select(vec![0, 1, 2, 3, 8, 9, 0x10, 0x11, 0x20, 0x21]);
    let length = || select(vec![0, 1, 10, 4096, 8192]);
    let what = select(vec![tree::Seek::Data, tree::Seek::Hole]);
    let how = select(vec![SyncHow::All, SyncHow::Data]);
    prop_oneof![
        4 => (number(), offset(), 0..6000_usize).prop_map(|(f, at, length)| Read(f, at, length)),
        6 => (number(), offset(), bytes).prop_map(|(f, at, bytes)| Write(f, at, bytes)),
        4 => (number(), mode, low_offset(), length())
            .prop_map(|(f, mode, at, length)| Allocate(f, mode, at, length)),
        3 => (number(), low_offset(), what).prop_map(|(f, at, what)| Seek(f, at, what)),
        4 => (number(), low_offset(), number(), low_offset(), length())
            .prop_map(|(f, at, to, to_at, length)| CopyRange(f, at, to, to_at, length)),
        3 => (number(), number(), low_offset())
            .prop_map(|(f, to, length)| CopyData(f, to, length)),
        1 => (number(), how).prop_map(|(f, how)| Sync(f, how)),
    ]
}

/// Sequences of calls.
pub(crate) fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![4 => name_calls(), 2 => attribute_calls(), 2 => file_calls()];
    vec(call, 1..LONGEST)
}
