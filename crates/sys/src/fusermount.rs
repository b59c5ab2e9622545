//! Mounting without rights of one's own, through the helper `fusermount3`.
//!
//! The helper is set-user-id: it mounts and hands back the open device over a socket,
//! whose number it learns from `_FUSE_COMMFD`. What it says on its standard error
//! becomes the message of the error.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use rules::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};

use crate::FuseDevice;
use crate::errno::{IntoErrno, uninterrupted};

/// Why the helper did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FusermountError {
    /// The helper could not be started.
    #[error("cannot start the mount helper: {0}")]
    NotStarted(Errno),
    /// The helper refused, in its own words.
    #[error("{message}")]
    Refused {
        /// What it wrote on its standard error, in one line.
        message: String,
    },
    /// The helper could not be talked to.
    #[error("cannot talk to the mount helper: {0}")]
    Broken(Errno),
}

/// How the helper unmounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelperUnmount {
    /// Only when nothing uses the mount.
    Plain,
    /// Out of sight at once, gone when the last user is.
    Lazy,
}

/// Mounts through the helper and returns the device, which is connected already.
///
/// `options` is what follows `-o`; `auto_unmount` must not be among them, for the helper
/// would stay.
pub fn mount_with_fusermount3(
    program: &Path,
    target: &Path,
    options: &str,
) -> Result<FuseDevice, FusermountError> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .errno()
    .map_err(FusermountError::Broken)?;
    let mut command = Command::new(program);
    command.arg("-o").arg(options).arg("--").arg(target);
    // The socket is its standard input: that one is inherited without further ado.
    command.env("_FUSE_COMMFD", "0").stdin(theirs);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let helper = command
        .spawn()
        .errno()
        .map_err(FusermountError::NotStarted)?;
    // Their end must not stay open here, or a helper that dies would not be noticed.
    drop(command);
    let device = receive_descriptor(&ours);
    let output = helper
        .wait_with_output()
        .errno()
        .map_err(FusermountError::Broken)?;
    match device {
        Ok(Some(device)) => Ok(FuseDevice::from(device)),
        Ok(None) => Err(refused(&output.stderr, output.status)),
        Err(errno) => Err(FusermountError::Broken(errno)),
    }
}

/// Unmounts through the helper.
pub fn unmount_with_fusermount3(
    program: &Path,
    target: &Path,
    how: HelperUnmount,
) -> Result<(), FusermountError> {
    let mut command = Command::new(program);
    command.arg("-u");
    match how {
        HelperUnmount::Plain => {}
        HelperUnmount::Lazy => {
            command.arg("-z");
        }
    }
    command.arg("--").arg(target).stdin(Stdio::null());
    let output = command
        .output()
        .errno()
        .map_err(FusermountError::NotStarted)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(refused(&output.stderr, output.status))
    }
}

/// Waits for the descriptor; `None` when the other end closes without sending one.
fn receive_descriptor(socket: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    uninterrupted(|| {
        let parts = &mut [IoSliceMut::new(&mut byte)];
        recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC).errno()
    })?;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(received)
}

fn refused(stderr: &[u8], status: ExitStatus) -> FusermountError {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let message = if lines.is_empty() {
        format!("the mount helper said nothing ({status})")
    } else {
        lines.join("; ")
    };
    FusermountError::Refused { message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount_table::mount_at;
    use crate::mounting::tests::UnmountAtEnd;
    use crate::mounting::{UnmountHow, unmount};

    const HELPER: &str = "/usr/bin/fusermount3";

    #[test]
    fn the_helper_mounts_hands_over_the_device_and_unmounts() {
        let dir = tempfile::tempdir().unwrap();
        let options = "fsname=the source,subtype=plywood,rootmode=40000,user_id=0,group_id=0";
        let device = mount_with_fusermount3(Path::new(HELPER), dir.path(), options).unwrap();
        let _guard = UnmountAtEnd(dir.path());
        assert_eq!(
            mount_at(dir.path()).unwrap().unwrap().fstype,
            "fuse.plywood"
        );
        assert!(device.read(&mut [0; 1 << 17]).unwrap() >= 40);
        unmount_with_fusermount3(Path::new(HELPER), dir.path(), HelperUnmount::Lazy).unwrap();
        assert_eq!(mount_at(dir.path()).unwrap(), None);
        assert_eq!(unmount(dir.path(), UnmountHow::Plain), Err(Errno::INVAL));
    }

    #[test]
    fn a_refusal_carries_the_words_of_the_helper() {
        let gone = Path::new("/nonexistent/target");
        let refusal = mount_with_fusermount3(Path::new(HELPER), gone, "rw").unwrap_err();
        assert!(refusal.to_string().contains("/nonexistent"), "{refusal}");
        let refusal = unmount_with_fusermount3(Path::new(HELPER), gone, HelperUnmount::Plain);
        assert!(matches!(refusal, Err(FusermountError::Refused { .. })));
    }

    #[test]
    fn a_helper_that_is_missing_or_silent_is_told_apart() {
        let mount = |program: &str| {
            mount_with_fusermount3(Path::new(program), Path::new("/"), "rw").unwrap_err()
        };
        assert_eq!(
            mount("/nonexistent/helper"),
            FusermountError::NotStarted(Errno::NOENT)
        );
        let silent = mount("/bin/true").to_string();
        assert!(silent.contains("said nothing"), "{silent}");
    }
}
