//! The build's log as the agent writes it: service lines, raw output, and a durable segment beneath.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use store::logs::SegmentWriter;

use crate::clock;

/// One read of the output pipe.
const READ: usize = 256 << 10;
/// Without a newline for so long, what is there becomes an event of its own.
const HOLD: Duration = Duration::from_millis(200);
/// A host's power failure loses at most this much of a log (P5).
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Bytes are stored as they came; an unfinished line is held back a moment so that events are whole lines.
#[derive(Debug)]
pub(crate) struct Log {
    segment: SegmentWriter,
    /// The read end of the container's output.
    output: File,
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that wait for their newline.
    held: usize,
    held_since: Instant,
    at_line_start: bool,
    /// Set by every write; the session tells the driver.
    pub(crate) grew: bool,
    syncer: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Log {
    /// Creates the segment; returns the log and the write end for the container.
    pub(crate) fn create(path: &Path) -> io::Result<(Log, OwnedFd)> {
        let segment = SegmentWriter::create(path).map_err(io::Error::other)?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // A large pipe lets commands run on while the agent is busy; the default also works.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, 1 << 20);
        rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK)?;
        let log = Log {
            segment,
            output: File::from(read),
            buffer: vec![0; 2 * READ],
            held: 0,
            held_since: Instant::now(),
            at_line_start: true,
            grew: false,
            syncer: None,
        };
        Ok((log, write))
    }

    /// From now on a thread makes the log durable every second. Not before the container exists: it is forked
    /// from a process with one thread.
    pub(crate) fn sync_regularly(&mut self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        let (stop, stopped) = mpsc::channel::<()>();
        let thread =
            std::thread::Builder::new().name("log-sync".into()).stack_size(64 << 10).spawn(move || {
                while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(SYNC_EVERY) {
                    // A failing disk shows at the last sync, whose error ends the build as a fault.
                    let _ = file.sync_data();
                }
            })?;
        self.syncer = Some((stop, thread));
        Ok(())
    }

    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// A line of the service's own. COMPAT: LC-110 `[Container] <time> <text>`.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        let now = clock::now_micros();
        self.service(now, format!("[Container] {} {text}\n", clock::log_time(now)).as_bytes())
    }

    /// COMPAT: LC-115 the empty line after a command's output.
    pub(crate) fn blank(&mut self) -> io::Result<()> {
        self.service(clock::now_micros(), b"\n")
    }

    fn service(&mut self, micros: i64, bytes: &[u8]) -> io::Result<()> {
        self.release()?;
        if !self.at_line_start {
            self.write(micros / 1000, b"\n")?;
        }
        self.write(micros / 1000, bytes)
    }

    fn write(&mut self, time_ms: i64, bytes: &[u8]) -> io::Result<()> {
        let Some(last) = bytes.last() else { return Ok(()) };
        self.segment.write_raw(time_ms, bytes).map_err(io::Error::other)?;
        self.at_line_start = *last == b'\n';
        self.grew = true;
        Ok(())
    }

    /// Reads once what commands printed. False when there is nothing now.
    pub(crate) fn read_output(&mut self) -> io::Result<usize> {
        let room = &mut self.buffer[self.held..];
        let length = match (&self.output).read(room) {
            Ok(length) => length,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(e) => return Err(e),
        };
        if length == 0 {
            return Ok(0);
        }
        if self.held == 0 {
            self.held_since = Instant::now();
        }
        self.keep(self.held + length)?;
        Ok(length)
    }

    /// Writes the whole lines of the first `filled` bytes and holds the rest.
    fn keep(&mut self, filled: usize) -> io::Result<()> {
        let whole = self.buffer[..filled].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let cut = if filled - whole > READ { filled } else { whole };
        if cut > 0 {
            let buffer = std::mem::take(&mut self.buffer);
            let written = self.write(clock::now_ms(), &buffer[..cut]);
            self.buffer = buffer;
            written?;
            self.buffer.copy_within(cut..filled, 0);
            self.held_since = Instant::now();
        }
        self.held = filled - cut;
        Ok(())
    }

    /// When [`Log::release`] is due, if anything is held.
    pub(crate) fn release_due(&self) -> Option<Instant> {
        (self.held > 0).then(|| self.held_since + HOLD)
    }

    /// Writes what is held.
    pub(crate) fn release(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        if held == 0 {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let written = self.write(clock::now_ms(), &buffer[..held]);
        self.buffer = buffer;
        written
    }

    /// Reads what is in the pipe at this moment, and no more: a background process may go on printing for ever.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        let mut left = rustix::io::ioctl_fionread(&self.output)?;
        while left > 0 {
            match self.read_output()? {
                0 => break,
                length => left = left.saturating_sub(length as u64),
            }
        }
        self.release()
    }

    /// Writes the last bytes, makes all durable and marks the end.
    pub(crate) fn seal(mut self) -> io::Result<()> {
        self.drain()?;
        if let Some((stop, thread)) = self.syncer.take() {
            drop(stop);
            let _ = thread.join();
        }
        self.segment.seal().map_err(io::Error::other)
    }
}
