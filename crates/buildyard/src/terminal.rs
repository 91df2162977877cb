//! A person's terminal joined to a shell inside a build's environment.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use agent::attach::{self, Attached, Request, Terminal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// How often the window's size is looked at.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Whether there is a person at standard input and output.
pub(crate) fn is_there() -> bool {
    isatty(io::stdin()) && isatty(io::stdout())
}

/// Runs `command`, or a shell, in the environment of the build in `folder` until it ends: on this terminal if there is one. Returns
/// its exit code; `None` if the environment ended first.
pub(crate) fn enter(folder: &Path, command: &[String]) -> io::Result<Option<i32>> {
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    if !is_there() {
        let request = Request { command: command.to_vec(), terminal: None };
        let standard = [input.as_fd(), output.as_fd(), errors.as_fd()];
        return attach::attach(folder, &request, &standard)?.wait();
    }
    let size = tcgetwinsize(&input)?;
    let kind = std::env::var("TERM").unwrap_or_else(|_| "dumb".into());
    let terminal = Terminal { kind, rows: size.ws_row, columns: size.ws_col };
    let attached =
        attach::attach(folder, &Request { command: command.to_vec(), terminal: Some(terminal) }, &[])?;
    let raw = Raw::make()?;
    relay(&attached, size)?;
    drop(raw);
    attached.wait()
}

/// The terminal in raw mode: every key goes to the other side. It is as before when this is dropped.
struct Raw(Termios);

impl Raw {
    fn make() -> io::Result<Raw> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell if the terminal is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Passes bytes and the window's size until the other side has ended.
fn relay(attached: &Attached, mut size: Winsize) -> io::Result<()> {
    let Some(inner) = attached.terminal() else { return Ok(()) };
    let (input, output) = (io::stdin(), io::stdout());
    let mut reads_input = true;
    loop {
        let mut fds = vec![
            PollFd::from_borrowed_fd(inner, PollFlags::IN),
            PollFd::from_borrowed_fd(attached.fd(), PollFlags::IN),
        ];
        if reads_input {
            fds.push(PollFd::new(&input, PollFlags::IN));
        }
        match poll(&mut fds, Some(&LOOK_EVERY)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready.get(2) == Some(&true) {
            reads_input = pass(input.as_fd(), inner)?;
        }
        // What was printed last is read before the end is believed.
        if ready[0] && pass(inner, output.as_fd())? {
            continue;
        }
        if ready[0] || ready[1] {
            return Ok(());
        }
        let now = tcgetwinsize(&input)?;
        if (now.ws_row, now.ws_col) != (size.ws_row, size.ws_col) {
            tcsetwinsize(inner, now)?;
            size = now;
        }
    }
}

/// Passes what there is; false at the end. A terminal whose other side is closed says `EIO`.
fn pass(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<bool> {
    let mut buffer = [0_u8; 16 << 10];
    let length = match rustix::io::read(from, &mut buffer) {
        Ok(0) | Err(Errno::IO) => return Ok(false),
        Ok(length) => length,
        Err(Errno::INTR | Errno::AGAIN) => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(Errno::IO) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}
