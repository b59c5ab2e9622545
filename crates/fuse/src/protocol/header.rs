//! What every request starts with.

use super::arguments::{Arguments, Malformed};

/// Bytes of `struct fuse_in_header`.
pub const IN_HEADER_BYTES: usize = 40;

/// `struct fuse_in_header`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The kind of request, see [`super::Opcode`].
    pub opcode: u32,
    /// The number by which the reply names the request.
    pub unique: u64,
    /// The object it is about.
    pub node: u64,
    /// The caller's filesystem user id.
    pub uid: u32,
    /// The caller's filesystem group id.
    pub gid: u32,
    /// The calling thread, as the server's process namespace knows it; 0 where that does not.
    pub pid: u32,
}

/// A request: its header, and what it carries.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The header.
    pub header: Header,
    /// Everything behind it, except extensions.
    pub arguments: Arguments<'a>,
}

impl<'a> Message<'a> {
    /// Reads a request that lies in one piece, as `/dev/fuse` delivers it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, end) = Header::parse(bytes)?;
        let body = bytes.get(IN_HEADER_BYTES..end).ok_or(Malformed)?;
        Ok(Self {
            header,
            arguments: Arguments::new(body),
        })
    }

    /// Reads a request in three pieces, as io_uring delivers it: the header, the structure of the operation, which other bytes may
    /// follow, and names or data.
    pub fn in_pieces(
        header: &[u8],
        operation: &'a [u8],
        names: &'a [u8],
    ) -> Result<Self, Malformed> {
        let length = Arguments::new(header).u32()? as usize;
        let (header, end) = Header::parse(header)?;
        let fixed = length.checked_sub(IN_HEADER_BYTES + names.len());
        let fixed = fixed.ok_or(Malformed)?;
        let extensions = length - end;
        let names = names.len().checked_sub(extensions).map(|end| &names[..end]);
        Ok(Self {
            header,
            arguments: Arguments::in_two(
                operation.get(..fixed).ok_or(Malformed)?,
                names.ok_or(Malformed)?,
            ),
        })
    }
}

impl Header {
    /// Reads it; returns also where the extensions begin.
    fn parse(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let mut reader = Arguments::new(bytes);
        let length = reader.u32()? as usize;
        let header = Self {
            opcode: reader.u32()?,
            unique: reader.u64()?,
            node: reader.u64()?,
            uid: reader.u32()?,
            gid: reader.u32()?,
            pid: reader.u32()?,
        };
        let extensions = usize::from(reader.u16()?) * 8;
        let end = length.checked_sub(extensions).ok_or(Malformed)?;
        Ok((header, end))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Builds a request as the kernel would send it.
    pub(crate) fn request(opcode: u32, node: u64, extensions: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(((IN_HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        bytes.extend(opcode.to_ne_bytes());
        bytes.extend(77_u64.to_ne_bytes());
        bytes.extend(node.to_ne_bytes());
        bytes.extend(1000_u32.to_ne_bytes());
        bytes.extend(1001_u32.to_ne_bytes());
        bytes.extend(1234_u32.to_ne_bytes());
        bytes.extend(extensions.to_ne_bytes());
        bytes.extend(0_u16.to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn extensions_are_not_arguments() {
        let bytes = request(1, 5, 1, b"name\0extended");
        let mut message = Message::parse(&bytes).unwrap();
        let expected = Header {
            opcode: 1,
            unique: 77,
            node: 5,
            uid: 1000,
            gid: 1001,
            pid: 1234,
        };
        assert_eq!(message.header, expected);
        assert_eq!(message.arguments.string(), Ok(&b"name"[..]));
        assert_eq!(message.arguments.take(1), Err(Malformed));
    }

    #[test]
    fn a_header_that_lies_about_its_length_is_malformed() {
        let bytes = request(1, 5, 0, b"name\0");
        assert!(Message::parse(&bytes[..bytes.len() - 1]).is_err());
        assert!(Message::parse(&bytes[..20]).is_err());
        assert!(Message::parse(&request(1, 5, 9, b"")).is_err());
    }

    #[test]
    fn a_request_in_pieces_reads_as_in_one() {
        let whole = request(45, 5, 1, b"operationold\0new\0extended");
        let (header, body) = whole.split_at(IN_HEADER_BYTES);
        let (operation, names) = body.split_at(9);
        let padded = [operation, &[9; 20]].concat();
        let mut message = Message::in_pieces(header, &padded, names).unwrap();
        assert_eq!(message.header, Message::parse(&whole).unwrap().header);
        assert_eq!(message.arguments.take(9), Ok(&b"operation"[..]));
        assert_eq!(message.arguments.string(), Ok(&b"old"[..]));
        assert_eq!(message.arguments.string(), Ok(&b"new"[..]));
        assert_eq!(message.arguments.take(1), Err(Malformed));
        assert!(Message::in_pieces(header, &[], names).is_err());
        assert!(Message::in_pieces(header, operation, &[0; 99]).is_err());
        assert!(Message::in_pieces(&header[..20], operation, names).is_err());
        assert!(Message::in_pieces(&request(1, 5, 9, b"")[..], &[], &[]).is_err());
    }
}
