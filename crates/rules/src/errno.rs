//! Error numbers: the part of the interface that applications branch on.

use std::fmt;

/// A Linux error number, as an application sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = concat!("`E", stringify!($name), "`: ", $text, ".")]
            pub const $name: Self = Self($value);)*

            /// Returns the symbolic name (`ENOENT`), or `None` for a number without one here.
            pub fn symbol(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(concat!("E", stringify!($name))),)*
                    _ => None,
                }
            }

            /// Returns the words for the number, as a person reads them.
            pub fn text(self) -> &'static str {
                match self.0 {
                    $($value => $text,)*
                    _ => "unknown error",
                }
            }
        }
    };
}

errnos! {
    PERM = 1, "operation not permitted";
    NOENT = 2, "no such file or directory";
    INTR = 4, "interrupted system call";
    IO = 5, "input/output error";
    NXIO = 6, "no such device or address";
    BIG = 7, "argument list too long";
    BADF = 9, "bad file descriptor";
    AGAIN = 11, "resource temporarily unavailable";
    NOMEM = 12, "cannot allocate memory";
    ACCES = 13, "permission denied";
    FAULT = 14, "bad address";
    BUSY = 16, "device or resource busy";
    EXIST = 17, "file exists";
    XDEV = 18, "invalid cross-device link";
    NODEV = 19, "no such device";
    NOTDIR = 20, "not a directory";
    ISDIR = 21, "is a directory";
    INVAL = 22, "invalid argument";
    NFILE = 23, "too many open files in system";
    MFILE = 24, "too many open files";
    NOTTY = 25, "inappropriate ioctl for device";
    TXTBSY = 26, "text file busy";
    FBIG = 27, "file too large";
    NOSPC = 28, "no space left on device";
    SPIPE = 29, "illegal seek";
    ROFS = 30, "read-only file system";
    MLINK = 31, "too many links";
    DOM = 33, "numerical argument out of domain";
    RANGE = 34, "numerical result out of range";
    NAMETOOLONG = 36, "file name too long";
    NOSYS = 38, "function not implemented";
    NOTEMPTY = 39, "directory not empty";
    LOOP = 40, "too many levels of symbolic links";
    NODATA = 61, "no data available";
    OVERFLOW = 75, "value too large for defined data type";
    OPNOTSUPP = 95, "operation not supported";
    CONNABORTED = 103, "connection was cut off";
    NOTCONN = 107, "transport endpoint is not connected";
    SHUTDOWN = 108, "cannot send after transport endpoint shutdown";
    TIMEDOUT = 110, "connection timed out";
    CANCELED = 125, "operation canceled";
    HOSTDOWN = 112, "host is down";
    STALE = 116, "stale file handle";
    UCLEAN = 117, "structure needs cleaning";
    REMOTEIO = 121, "remote input/output error";
    DQUOT = 122, "disk quota exceeded";
    NOMEDIUM = 123, "no medium found";
}

impl Errno {
    /// Wraps a raw error number; a number that is not positive becomes `EIO`.
    pub fn from_raw(raw: i32) -> Self {
        if raw > 0 { Self(raw) } else { Self::IO }
    }

    /// Returns the positive number, as `errno` holds it.
    pub fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.symbol() {
            Some(symbol) => f.write_str(symbol),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.symbol() {
            Some(_) => f.write_str(self.text()),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl std::error::Error for Errno {}
