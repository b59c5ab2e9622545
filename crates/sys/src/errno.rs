//! Errors of the system calls as our own [`Errno`].
//!
//! The number passes through untouched, whichever library made the call.

use rules::Errno;

/// What `rustix` and `std` report turns into our [`Errno`].
pub(crate) trait IntoErrno<T> {
    /// Keeps the number and drops the library's type.
    fn errno(self) -> Result<T, Errno>;
}

impl<T> IntoErrno<T> for Result<T, rustix::io::Errno> {
    fn errno(self) -> Result<T, Errno> {
        self.map_err(|error| Errno::from_raw(error.raw_os_error()))
    }
}

impl<T> IntoErrno<T> for Result<T, std::io::Error> {
    fn errno(self) -> Result<T, Errno> {
        self.map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw))
    }
}

/// Returns the errno that the last raw call of this thread left.
pub(crate) fn last() -> Errno {
    std::io::Error::last_os_error()
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw)
}

/// Reads the result of a raw call: -1 says that `errno` has the answer.
pub(crate) fn check<N: TryInto<usize>>(result: N) -> Result<usize, Errno> {
    result.try_into().map_err(|_| last())
}

/// Repeats a call that a signal interrupted.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}
