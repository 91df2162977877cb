//! A shell in a build's environment, as whoever opens it has it: what is asked of the agent, and what comes back.
//!
//! The agent listens in the build's folder, which is its owner's alone. Asked for a terminal, it makes one inside and sends its other
//! side; otherwise the caller's own descriptors go in. Bytes pass the agent by. Serving it is `shells.rs`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use container::packet;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::{Deserialize, Serialize};

/// How long an agent may take to start what it was asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// A command and its arguments; none for a shell to type into.
    pub command: Vec<String>,
    /// `None`: standard input, output and error are sent beside.
    pub terminal: Option<Terminal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// `$TERM`.
    pub kind: String,
    pub rows: u16,
    pub columns: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It runs; the terminal's other side is sent beside.
    Started,
    Refused(String),
    /// As a shell has it: 128 and the signal's number for one that was killed.
    Exited(i32),
}

/// Something that runs in a build's environment. It is hung up when this is dropped.
#[derive(Debug)]
pub struct Attached {
    socket: OwnedFd,
    terminal: Option<OwnedFd>,
}

/// Asks the agent of the build in `folder`. `standard` are input, output and error for a request without a terminal.
///
/// # Errors
/// `NotFound` or `ConnectionRefused`: there is no such build, or no longer; else with the agent's words.
pub fn attach(folder: &Path, request: &Request, standard: &[BorrowedFd<'_>]) -> io::Result<Attached> {
    let opened = File::open(folder)?;
    // A socket's path may not exceed 107 bytes.
    let short = format!("/proc/self/fd/{}/{}", opened.as_raw_fd(), crate::SHELL_SOCKET);
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new(short)?)?;
    packet::send(socket.as_fd(), &serde_json::to_vec(request)?, standard)?;
    if !packet::comes_within(socket.as_fd(), PATIENCE) {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the build's agent does not answer"));
    }
    match receive(&socket)? {
        Some((Reply::Started, mut descriptors)) => Ok(Attached { socket, terminal: descriptors.pop() }),
        Some((Reply::Refused(why), _)) => Err(io::Error::other(why)),
        Some((Reply::Exited(_), _)) | None => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

fn receive(socket: &OwnedFd) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
    let received = match packet::receive(socket.as_fd()) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => None,
        other => other?,
    };
    received.map(|(body, descriptors)| Ok((serde_json::from_slice(&body)?, descriptors))).transpose()
}

impl Attached {
    /// The side of the terminal that a person is at.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// Readable when [`Attached::wait`] will not block.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The exit code; `None` if the environment ended first.
    ///
    /// # Errors
    /// The connection's.
    pub fn wait(&self) -> io::Result<Option<i32>> {
        match receive(&self.socket)? {
            Some((Reply::Exited(code), _)) => Ok(Some(code)),
            _ => Ok(None),
        }
    }
}
