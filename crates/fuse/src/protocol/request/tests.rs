//! Requests byte by byte, as `linux/fuse.h` lays them out.

use super::*;

const LONG: Dialect = Dialect {
    long_setxattr: true,
};

/// A field of a request.
enum Field {
    W(u32),
    L(u64),
    S(&'static [u8]),
}
use Field::{L, S, W};

fn body(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        match field {
            W(word) => bytes.extend(word.to_ne_bytes()),
            L(long) => bytes.extend(long.to_ne_bytes()),
            S(text) => bytes.extend(*text),
        }
    }
    bytes
}

fn parse(opcode: Opcode, fields: &[Field]) -> String {
    match Request::parse(opcode, Arguments::new(&body(fields)), LONG) {
        Ok(request) => format!("{request:?}"),
        Err(malformed) => malformed.to_string(),
    }
}

/// Compares with the value that is expected, by what it prints.
fn is(opcode: Opcode, fields: &[Field], expected: Request<'_>) {
    assert_eq!(
        parse(opcode, fields),
        format!("{expected:?}"),
        "{}",
        opcode.name()
    );
}

const PERMISSIONS: Permissions = Permissions {
    perm: 0o1640,
    umask: 0o22,
};

#[test]
fn names_are_found_behind_their_structures() {
    is(
        Opcode::Lookup,
        &[S(b"ab\0")],
        Request::Lookup { name: b"ab" },
    );
    is(
        Opcode::Unlink,
        &[S(b"ab\0")],
        Request::Unlink { name: b"ab" },
    );
    is(Opcode::RmDir, &[S(b"ab\0")], Request::RmDir { name: b"ab" });
    is(
        Opcode::RemoveXattr,
        &[S(b"ab\0")],
        Request::RemoveXattr { name: b"ab" },
    );
    let symlink = Request::Symlink {
        name: b"a",
        target: b"to/b",
    };
    is(Opcode::Symlink, &[S(b"a\0to/b\0")], symlink);
    let link = Request::Link {
        target: InodeId(5),
        name: b"ab",
    };
    is(Opcode::Link, &[L(5), S(b"ab\0")], link);
    let mkdir = Request::MkDir {
        name: b"ab",
        permissions: PERMISSIONS,
    };
    is(Opcode::MkDir, &[W(0o041_640), W(0o22), S(b"ab\0")], mkdir);
    let get = Request::GetXattr {
        name: b"user.x",
        size: 8,
    };
    is(Opcode::GetXattr, &[W(8), W(0), S(b"user.x\0")], get);
    is(
        Opcode::ListXattr,
        &[W(8), W(0)],
        Request::ListXattr { size: 8 },
    );
}

#[test]
fn a_node_has_the_kind_of_its_mode() {
    for (kind, node) in [
        (0o100_000, Node::File),
        (0o010_000, Node::Fifo),
        (0o140_000, Node::Socket),
        (0o020_000, Node::CharDevice(0x103)),
        (0o060_000, Node::BlockDevice(0x103)),
    ] {
        let fields = [W(kind | 0o1640), W(0x103), W(0o22), W(0), S(b"ab\0")];
        let expected = Request::MkNod {
            name: b"ab",
            node,
            permissions: PERMISSIONS,
        };
        is(Opcode::MkNod, &fields, expected);
    }
    let dir = [W(0o041_640), W(0), W(0o22), W(0), S(b"ab\0")];
    assert_eq!(parse(Opcode::MkNod, &dir), "malformed request");
}

#[test]
fn renames_have_three_ways() {
    let (to, name, new): (_, &[u8], &[u8]) = (InodeId(9), b"a", b"b");
    let plain = Request::Rename {
        to,
        name,
        new,
        how: RenameHow::Replace,
    };
    is(Opcode::Rename, &[L(9), S(b"a\0b\0")], plain);
    for (flags, how) in [
        (0, RenameHow::Replace),
        (1, RenameHow::NoReplace),
        (2, RenameHow::Exchange),
    ] {
        let expected = Request::Rename { to, name, new, how };
        is(
            Opcode::Rename2,
            &[L(9), W(flags), W(0), S(b"a\0b\0")],
            expected,
        );
    }
    for flags in [3, 4, 5, 8] {
        let fields = [L(9), W(flags), W(0), S(b"a\0b\0")];
        assert_eq!(parse(Opcode::Rename2, &fields), "malformed request");
    }
}

#[test]
fn opening_takes_what_matters_from_the_flags() {
    let read = OpenFlags::default();
    let write = OpenFlags {
        write: true,
        ..read
    };
    for (flags, fuse_flags, expected) in [
        (0, 0, read),
        (1, 0, write),
        (2, 0, write),
        (0o100_000, 0, read),
        (
            0o1001,
            1,
            OpenFlags {
                write: true,
                truncate: true,
                drop_set_id: true,
                ..read
            },
        ),
        (
            0o100_040,
            0,
            OpenFlags {
                execute: true,
                ..read
            },
        ),
    ] {
        is(
            Opcode::Open,
            &[W(flags), W(fuse_flags)],
            Request::Open { flags: expected },
        );
    }
    let name = b"ab";
    for (raw, exclusive) in [(0o301, true), (0o101, false)] {
        let fields = [W(raw), W(0o101_640), W(0o22), W(0), S(b"ab\0")];
        let permissions = PERMISSIONS;
        let expected = Request::Create {
            name,
            permissions,
            exclusive,
            flags: write,
        };
        is(Opcode::Create, &fields, expected);
    }
    let fields = [W(2), W(0o101_640), W(0o22), W(0), S(b"/\0")];
    is(
        Opcode::TmpFile,
        &fields,
        Request::TmpFile {
            permissions: PERMISSIONS,
            flags: write,
        },
    );
}

#[test]
fn data_and_offsets_are_found() {
    let read = [L(1), L(2), W(3), W(0), L(0), W(0), W(0)];
    is(Opcode::Read, &read, Request::Read { offset: 2, size: 3 });
    is(
        Opcode::ReadDir,
        &read,
        Request::ReadDir {
            handle: 1,
            offset: 2,
            size: 3,
        },
    );
    is(
        Opcode::ReadDirPlus,
        &read,
        Request::ReadDirPlus {
            handle: 1,
            offset: 2,
            size: 3,
        },
    );
    for (flags, drop_set_id) in [(0, false), (4, true), (3, false)] {
        let write = [L(1), L(2), W(3), W(flags), L(0), W(0), W(0), S(b"xyz")];
        is(
            Opcode::Write,
            &write,
            Request::Write {
                offset: 2,
                data: b"xyz",
                drop_set_id,
            },
        );
    }
    let allocate = [L(1), L(2), L(3), W(4), W(0)];
    is(
        Opcode::FAllocate,
        &allocate,
        Request::FAllocate {
            offset: 2,
            length: 3,
            mode: 4,
        },
    );
    for (raw, what) in [(3, Seek::Data), (4, Seek::Hole)] {
        is(
            Opcode::LSeek,
            &[L(1), L(2), W(raw), W(0)],
            Request::LSeek { offset: 2, what },
        );
    }
    assert_eq!(
        parse(Opcode::LSeek, &[L(1), L(2), W(0), W(0)]),
        "malformed request"
    );
    let copy = [L(1), L(2), L(3), L(4), L(5), L(6), L(0)];
    let (from_offset, to, to_offset, length) = (2, InodeId(3), 5, 6);
    let expected = Request::CopyFileRange {
        from_offset,
        to,
        to_offset,
        length,
    };
    is(Opcode::CopyFileRange, &copy, expected);
    let expected = Request::CopyFileRange64 {
        from_offset,
        to,
        to_offset,
        length,
    };
    is(Opcode::CopyFileRange64, &copy, expected);
}

#[test]
fn syncing_knows_its_handle() {
    for (flags, how) in [(0, SyncHow::All), (1, SyncHow::Data)] {
        is(
            Opcode::FSync,
            &[L(3), W(flags), W(0)],
            Request::FSync { handle: 3, how },
        );
    }
    is(
        Opcode::Release,
        &[L(3), W(0), W(0), L(0)],
        Request::Release { handle: 3 },
    );
    is(
        Opcode::ReleaseDir,
        &[L(3), W(0), W(0), L(0)],
        Request::ReleaseDir { handle: 3 },
    );
}

#[test]
fn extended_attributes_come_in_two_dialects() {
    for (flags, how) in [
        (0, XattrHow::Set),
        (1, XattrHow::Create),
        (2, XattrHow::Replace),
    ] {
        let expected = Request::SetXattr {
            name: b"user.x",
            value: b"val",
            how,
        };
        let fields = [W(3), W(flags), W(0), W(0), S(b"user.x\0val")];
        is(Opcode::SetXattr, &fields, expected);
        let short = body(&[W(3), W(flags), S(b"user.x\0val")]);
        let dialect = Dialect {
            long_setxattr: false,
        };
        let parsed = Request::parse(Opcode::SetXattr, Arguments::new(&short), dialect);
        assert_eq!(format!("{:?}", parsed.unwrap()), format!("{expected:?}"));
    }
    let empty = Request::SetXattr {
        name: b"user.x",
        value: b"",
        how: XattrHow::Set,
    };
    is(
        Opcode::SetXattr,
        &[W(0), W(0), W(0), W(0), S(b"user.x\0")],
        empty,
    );
}

#[test]
fn a_batch_gives_back_what_is_there_and_no_more() {
    let bytes = body(&[W(3), W(0), L(5), L(1), L(6), L(2), L(7)]);
    let parsed = Request::parse(Opcode::BatchForget, Arguments::new(&bytes), LONG);
    let Ok(Request::BatchForget(forgotten)) = parsed else {
        panic!("{parsed:?}")
    };
    assert_eq!(
        forgotten.collect::<Vec<_>>(),
        [(InodeId(5), 1), (InodeId(6), 2)]
    );
    is(Opcode::Forget, &[L(4)], Request::Forget { count: 4 });
}

#[test]
fn no_cut_off_request_panics() {
    let bytes = [0_u8; 128];
    for &opcode in Opcode::ALL {
        for length in 0..bytes.len() {
            let _either = Request::parse(opcode, Arguments::new(&bytes[..length]), LONG).is_ok();
        }
    }
    for fields in [[L(9), S(b"a\0b")], [L(9), S(b"a\0")], [L(9), S(b"\0b\0")]] {
        assert_eq!(parse(Opcode::Rename, &fields), "malformed request");
    }
}
