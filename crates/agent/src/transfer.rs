//! Objects of a store elsewhere, moved by a process of their own.
//!
//! Its standard input is a socket, over which it is asked and answers, a line of JSON each; its standard output is the file that
//! bytes go to or come from. The agent knows no key of the store and speaks to no network, so nothing that it forks does. When the
//! socket closes the process gives up what it does, leaves nothing half done at the store, and ends.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use serde::{Deserialize, Serialize};
use store::objects::Metadata;

use crate::session::{Halt, Session};

/// The command of our own program that does it: `buildyard transfer SETTINGS`.
pub const COMMAND: &str = "transfer";
/// How long it may take to leave nothing half done.
const TIDY_TIME: Duration = Duration::from_secs(3);
/// Longest answer: a page of a listing.
const ANSWER_MAX_BYTES: usize = 8 << 20;

/// What the process is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Makes an object the content of the file.
    Get { bucket: String, key: String, version: Option<String> },
    /// Makes objects the content of the file, one behind the other: each by its key and its size.
    GetAll { bucket: String, objects: Vec<(String, u64)> },
    /// Whether there is such an object.
    Head { bucket: String, key: String },
    /// Keys that begin with `prefix` and come behind `after`.
    List { bucket: String, prefix: String, after: Option<String> },
    /// Makes parts of the file objects: all of them or none.
    Put(Vec<Put>),
    /// Takes back what another process has made of these before it was killed.
    TakeBack(Vec<Put>),
}

/// A part of a file that is to be an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    pub bucket: String,
    pub key: String,
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    pub metadata: Metadata,
    /// Nothing is put where there is an object already.
    pub only_new: bool,
    /// The key of KMS that the store is to encrypt with if it does so at all; not with one if empty.
    pub encryption_key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The object asked for, by its version where the bucket has them.
    Object {
        version: Option<String>,
    },
    /// A page of them; the last key if there are more.
    List {
        objects: Vec<Listed>,
        next: Option<String>,
    },
    /// All objects are there.
    Done,
    Failed(Failure),
}

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// In a form that sorts by time.
    pub modified: String,
}

/// Why something cannot be read or written, in words for the build's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// There is no such object.
    Missing(String),
    /// There is one already.
    Exists(String),
    /// The store, or the way to it, does not let us.
    Refused(String),
    /// A fault of ours.
    Ours(String),
}

impl std::error::Error for Failure {}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Failure::Missing(why) | Failure::Exists(why) | Failure::Refused(why) | Failure::Ours(why)) =
            self;
        f.write_str(why)
    }
}

/// A process that moves objects to or from one file. It ends with this.
#[derive(Debug)]
pub(crate) struct Transfers {
    process: Child,
    /// Closed when nothing more is wanted.
    socket: Option<UnixStream>,
    file: File,
    heard: Vec<u8>,
}

impl Transfers {
    /// `settings` is where the store is described, for the process alone to read.
    pub(crate) fn start(settings: &Path, file: File) -> io::Result<Transfers> {
        let (ours, theirs) = UnixStream::pair()?;
        let process = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .arg(settings)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::from(file.try_clone()?))
            .spawn()?;
        Ok(Transfers { process, socket: Some(ours), file, heard: Vec::new() })
    }

    /// The file from its beginning, for whoever reads it before the next request.
    pub(crate) fn content(&mut self) -> io::Result<File> {
        self.file.rewind()?;
        self.file.try_clone()
    }

    /// Asks, and lets everything else go on until there is an answer.
    pub(crate) fn ask(&mut self, request: &Request, session: &mut Session) -> Result<Answer, Halt> {
        let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
        line.push(b'\n');
        let Some(socket) = &mut self.socket else { return Ok(ended()) };
        // It reads whatever it is asked at once.
        if socket.set_nonblocking(false).and_then(|()| socket.write_all(&line)).is_err() {
            return Ok(ended());
        }
        socket.set_nonblocking(true)?;
        self.heard.clear();
        loop {
            session.attend(socket.as_fd())?;
            if take_available(socket, &mut self.heard)? {
                return Ok(ended());
            }
            if self.heard.last() == Some(&b'\n') {
                return Ok(serde_json::from_slice(&self.heard).unwrap_or_else(|_| ended()));
            }
        }
    }
}

/// What is said in the place of a process that has ended.
pub(crate) fn ended() -> Answer {
    Answer::Failed(Failure::Refused("the process that speaks to the object store has ended".into()))
}

/// True at the end.
fn take_available(socket: &mut UnixStream, heard: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 16 << 10];
    loop {
        match socket.read(&mut piece) {
            Ok(0) => return Ok(true),
            Ok(_) if heard.len() > ANSWER_MAX_BYTES => return Ok(true),
            Ok(count) => heard.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            // It hears that nothing more is wanted, and hangs up when it has nothing more to do.
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let mut hangup = [PollFd::new(&socket, PollFlags::IN)];
            let time = Timespec { tv_sec: TIDY_TIME.as_secs() as i64, tv_nsec: 0 };
            let _ = rustix::event::poll(&mut hangup, Some(&time));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
