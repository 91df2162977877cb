//! `codebuild-breakpoint` and `codebuild-resume`: commands of every environment. The first waits inside, on a pipe with a name, until the
//! second is run in a shell; the build's timeout and a stop end it like any command.
//!
//! COMPAT: BS-086 without session debugging a breakpoint is passed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use container::packet;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use crate::inside;

/// Named pipes: who waits and who resumes says so in the first, and waits on the second.
const ASKED: &str = "/codebuild/output/tmp/debug-asked";
const GO: &str = "/codebuild/output/tmp/debug-go";

pub(crate) const BREAKPOINT: (&str, &str) = (
    "/codebuild/user/bin/codebuild-breakpoint",
    "#!/bin/sh\n\
     asked=/codebuild/output/tmp/debug-asked\n\
     [ -p \"$asked\" ] || { echo 'codebuild-breakpoint: session debugging is off, the build goes on'; exit 0; }\n\
     echo b >\"$asked\"\n\
     read -r _ </codebuild/output/tmp/debug-go\n\
     exit 0\n",
);
pub(crate) const RESUME: (&str, &str) = (
    "/codebuild/user/bin/codebuild-resume",
    "#!/bin/sh\n\
     asked=/codebuild/output/tmp/debug-asked\n\
     [ -p \"$asked\" ] || { echo 'codebuild-resume: session debugging is off' >&2; exit 1; }\n\
     echo r >\"$asked\"\n",
);

pub(crate) fn is_ours(path: &str) -> bool {
    path == ASKED || path == GO
}

/// The agent's ends of the pipes.
#[derive(Debug)]
pub(crate) struct Breakpoints {
    asked: File,
    go: File,
    waiting: usize,
}

/// What was said inside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Reached,
    Resumed,
}

impl Breakpoints {
    /// From what [`entry`] sent.
    pub(crate) fn new(descriptors: Vec<OwnedFd>) -> Option<Breakpoints> {
        let mut files = descriptors.into_iter().map(File::from);
        Some(Breakpoints { asked: files.next()?, go: files.next()?, waiting: 0 })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.asked.as_fd()
    }

    /// What is new; whoever waited is let go.
    pub(crate) fn hear(&mut self) -> Vec<Said> {
        let mut bytes = [0_u8; 256];
        let length = self.asked.read(&mut bytes).unwrap_or(0);
        let mut said = Vec::new();
        for byte in &bytes[..length] {
            match byte {
                b'b' => {
                    self.waiting += 1;
                    said.push(Said::Reached);
                }
                b'r' if self.waiting > 0 => {
                    // Each reads one line. A full pipe holds thousands.
                    let _ = self.go.write(&vec![b'\n'; std::mem::take(&mut self.waiting)]);
                    said.push(Said::Resumed);
                }
                _ => {}
            }
        }
        said
    }
}

/// Runs inside. fds: the socket that gets the agent's ends.
pub(crate) fn entry(_: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some(socket) = fds.into_iter().next() else { return inside::REFUSED };
    let made = [ASKED, GO].map(pipe);
    let [Ok(asked), Ok(go)] = made else { return inside::REFUSED };
    match packet::send(socket.as_fd(), b"b", &[asked.as_fd(), go.as_fd()]) {
        Ok(()) => inside::DONE,
        Err(_) => inside::REFUSED,
    }
}

/// Open for both directions, so that it is never at its end.
pub(crate) fn pipe(path: &str) -> io::Result<OwnedFd> {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}
