//! What a server counts, told over a socket to `plywood status`.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fuse::Counters;
use serde::{Deserialize, Serialize};
use tree::Tree;
use union::Union;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a server has counted since it was mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Requests of the kernel by kind.
    pub(crate) requests: BTreeMap<String, u64>,
    /// Requests answered with an error that is part of normal life.
    pub(crate) refused: u64,
    /// Requests that failed because something is wrong.
    pub(crate) failed: u64,
    /// Objects that the kernel holds.
    pub(crate) inodes: u64,
}

/// Answers everybody who connects. A server that cannot works without.
pub(crate) fn offer<T: Tree>(socket: &Path, counters: Arc<Counters>, union: Arc<Union<T>>) {
    let listener = match listen(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::debug!(%error, "counters are not offered");
            return;
        }
    };
    let answer = move || {
        for stream in listener.incoming().flatten() {
            let counts = Counts::of(&counters, &union);
            if let Err(error) = tell(stream, &counts) {
                tracing::debug!(%error, "counters are not told");
            }
        }
    };
    let thread = std::thread::Builder::new().name("counters".into());
    if let Err(error) = thread.spawn(answer) {
        tracing::debug!(%error, "counters are not offered");
    }
}

fn listen(socket: &Path) -> std::io::Result<UnixListener> {
    // Of a server that had the same process id.
    if let Err(error) = fs::remove_file(socket)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn tell(mut stream: UnixStream, counts: &Counts) -> anyhow::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&serde_json::to_vec(counts)?)?;
    Ok(())
}

/// Asks a server, which may be of an older version or busy: then there is no answer.
pub(crate) fn ask(socket: &Path) -> Option<Counts> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut told = Vec::new();
    stream.read_to_end(&mut told).ok()?;
    serde_json::from_slice(&told).ok()
}

impl Counts {
    fn of<T: Tree>(counters: &Counters, union: &Union<T>) -> Self {
        let requests = counters.requests();
        Self {
            requests: requests
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
            refused: counters.refused(),
            failed: counters.failed(),
            inodes: union.inodes_held() as u64,
        }
    }
}
