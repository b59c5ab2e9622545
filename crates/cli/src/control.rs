//! Talking to a server: questions and orders over a socket that only its user can reach.
//!
//! One line of JSON each way. What changes a union is done by its server alone, which is the only one to know what is in use.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use sys::caller::OwnRoot;

use crate::counters::Counts;
use crate::failure::{Exit, Failure};
use crate::run_state::{self, RunState};

/// How long an answer to a question may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long an order may take: it waits for what is under way.
const LONG_PATIENCE: Duration = Duration::from_secs(120);
/// How long copying a file may take.
const COPY_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// The longest question, and the longest answer.
const MOST_BYTES: u64 = 16 << 20;

/// What a server is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// What it has counted.
    Counters,
    /// To change options and branches, from left to right.
    Remount {
        /// The options, as [`crate::render::path_text`] writes paths.
        options: String,
        /// Where relative paths begin, written likewise.
        from: String,
    },
    /// To change the stack.
    Change {
        /// What to do, one after the other.
        changes: Vec<Change>,
    },
    /// About hard links of lower branches.
    Links {
        /// What to do.
        deed: LinkDeed,
    },
    /// To move a file down to another branch.
    MoveDown(MoveDown),
    /// Who uses a branch.
    Users {
        /// The branch's path, as `path_text` writes paths.
        branch: String,
    },
}

/// A change of the stack that a command asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// Puts a branch at a position, or below all others.
    Add {
        /// Position; none: below all others.
        index: Option<usize>,
        /// Path, as `path_text` writes paths.
        path: String,
        /// Mode, if one is given.
        mode: Option<String>,
    },
    /// Takes a branch out.
    Remove {
        /// Path.
        path: String,
    },
    /// Gives a branch another mode.
    Set {
        /// Path.
        path: String,
        /// Mode.
        mode: String,
    },
    /// Moves a branch to another position.
    Move {
        /// Path.
        path: String,
        /// Position among the others.
        index: usize,
    },
}

/// Moving a file down to another branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MoveDown {
    /// Path from the root of the union, as `path_text` writes paths.
    pub(crate) path: String,
    /// The branch that is to lose it: its path, or its position from the top; none: the one that shows it.
    pub(crate) from: Option<String>,
    /// The branch that is to get it; none: the next writable one below.
    pub(crate) to: Option<String>,
    /// It stays above as well.
    pub(crate) keeps_upper: bool,
    /// What has its name below is replaced.
    pub(crate) replaces_lower: bool,
    /// The upper branch may be one that is mounted read-only.
    pub(crate) from_read_only: bool,
    /// The lower branch may be one that is mounted read-only.
    pub(crate) to_read_only: bool,
}

/// What to do about hard links of lower branches (`auplink`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LinkDeed {
    /// Tell the inode numbers.
    List,
    /// Give all names their links.
    CopyUp,
    /// The same, and empty the store.
    Flush,
}

/// Something in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InUse {
    /// Path in the union, as `path_text` writes paths; empty for the root.
    pub(crate) path: String,
    /// What it is used for.
    pub(crate) what: String,
    /// Inode number in the union, of what is open.
    pub(crate) ino: Option<u64>,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// What it has counted.
    Counters(Counts),
    /// Done, with warnings.
    Done(Vec<String>),
    /// Inode numbers.
    Numbers(Vec<u64>),
    /// What is in use.
    Users(Vec<InUse>),
    /// A file moved, between branches whose paths are written as `path_text` does.
    Moved {
        /// From this one.
        from: String,
        /// To this one.
        to: String,
    },
    /// Not done.
    Refused {
        /// Why, in one line.
        message: String,
        /// With which code a command ends.
        exit: u8,
    },
}

impl Answer {
    /// Phrases a failure.
    pub(crate) fn refused(error: &anyhow::Error) -> Self {
        Self::Refused {
            message: crate::failure::line_of(error),
            exit: crate::failure::exit_of(error).0,
        }
    }
}

/// Who answers.
type Answering = Box<dyn FnMut(Ask) -> Answer + Send>;

/// Where callers knock.
pub(crate) struct Door {
    listener: UnixListener,
    answer: Arc<Mutex<Answering>>,
}

/// Lets people ask. Who waits for them calls [`Door::open`] when somebody knocks.
pub(crate) fn offer(
    socket: &Path,
    answer: impl FnMut(Ask) -> Answer + Send + 'static,
) -> Option<Door> {
    let listening = listen(socket).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    match listening {
        Ok(listener) => Some(Door {
            listener,
            answer: Arc::new(Mutex::new(Box::new(answer))),
        }),
        Err(error) => {
            tracing::warn!(%error, "the branches of this mount cannot be changed");
            None
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Door {
    /// Answers who knocks, in a thread that ends with the answer; orders are carried out one after the other.
    pub(crate) fn open(&self) {
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        let answer = Arc::clone(&self.answer);
        let serve = move || {
            // What callers name is looked up where they see it.
            let followed = OwnRoot::of_this_thread().and_then(|root| root.follow(stream.as_fd()));
            if let Err(errno) = followed {
                tracing::debug!(%errno, "paths begin at the root of the server");
            }
            if let Err(error) = converse(stream, &answer) {
                tracing::debug!(%error, "somebody hung up");
            }
        };
        let thread = std::thread::Builder::new().name("control".into());
        if let Err(error) = thread.spawn(serve) {
            tracing::warn!(%error, "somebody who asked gets no answer");
        }
    }
}

fn listen(socket: &Path) -> std::io::Result<UnixListener> {
    // Of a server that had the same process id.
    if let Err(error) = fs::remove_file(socket)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listening = sys::caller::listen(socket);
    listening.map_err(|errno| std::io::Error::from_raw_os_error(errno.raw()))
}

fn converse(
    mut stream: UnixStream,
    answer: &Mutex<impl FnMut(Ask) -> Answer>,
) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut asked = String::new();
    BufReader::new(&stream)
        .take(MOST_BYTES)
        .read_line(&mut asked)?;
    let asked = serde_json::from_str(&asked)?;
    // An order that panicked has said so; the next one finds the union as it is.
    let told = (answer.lock().unwrap_or_else(PoisonError::into_inner))(asked);
    stream.write_all(&serde_json::to_vec(&told)?)?;
    Ok(())
}

/// Asks a question that the server can answer at once; one that is busy or of another version does not.
pub(crate) fn ask(socket: &Path, question: &Ask) -> Option<Answer> {
    exchange(socket, question, PATIENCE).ok()
}

/// Gives the server of a mount an order and waits until it is carried out.
pub(crate) fn order(server: &RunState, order: &Ask) -> anyhow::Result<Answer> {
    let nobody = || {
        Failure::mount(format!(
            "the server (process {}) does not answer",
            server.pid
        ))
        .hint("it belongs to another user, or is busy: see `plywood status`")
    };
    let sockets = run_state::sockets_of(server);
    let socket = sockets.iter().find(|socket| socket.exists());
    let socket = socket.ok_or_else(nobody)?;
    let patience = match order {
        Ask::MoveDown(_) => COPY_PATIENCE,
        _ => LONG_PATIENCE,
    };
    match exchange(socket, order, patience) {
        Ok(Answer::Refused { message, exit }) => Err(Failure::new(Exit(exit), message).into()),
        Ok(answer) => Ok(answer),
        Err(error) => {
            tracing::debug!(%error, "no answer");
            Err(nobody().into())
        }
    }
}

fn exchange(socket: &Path, question: &Ask, patience: Duration) -> anyhow::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    // It may be anybody's server: it neither keeps us waiting nor fills the memory.
    let until = Instant::now() + patience;
    let (mut told, mut part) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        anyhow::ensure!(!left.is_zero(), "no answer in time");
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut part)?;
        if count == 0 {
            return Ok(serde_json::from_slice(&told)?);
        }
        told.extend_from_slice(&part[..count]);
        anyhow::ensure!(told.len() as u64 <= MOST_BYTES, "an endless answer");
    }
}
