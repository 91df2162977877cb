//! The build's log as the agent writes it: service lines and raw output, masked, and a durable segment beneath.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use store::logs::SegmentWriter;

use crate::clock;
use crate::mask::{Mask, Masker};

/// One read of the output pipe.
const READ: usize = 256 << 10;
/// Without a newline for so long, what is there becomes an event of its own.
const HOLD: Duration = Duration::from_millis(200);
/// A host's power failure loses at most this much of a log (P5).
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What of a build's output is kept: all of it, up to a number of bytes.
#[derive(Debug)]
struct Quota {
    bytes: u64,
    kept: u64,
    left_out: u64,
}

impl Quota {
    /// How many of the next bytes are kept.
    fn take(&mut self, length: usize) -> usize {
        let left = usize::try_from(self.bytes - self.kept).unwrap_or(usize::MAX);
        let kept = length.min(left);
        self.kept += kept as u64;
        self.left_out += (length - kept) as u64;
        kept
    }
}

/// Bytes are stored as they came but for what is masked; an unfinished line is held back a moment so that events are
/// whole lines.
#[derive(Debug)]
pub(crate) struct Log {
    segment: SegmentWriter,
    /// The read end of the container's output.
    output: File,
    buffer: Vec<u8>,
    masker: Masker,
    /// Masked output that is not written yet: it waits for its newline.
    held: Vec<u8>,
    held_since: Instant,
    at_line_start: bool,
    /// Bytes that commands may still print into the log.
    quota: Quota,
    /// Set by every write; the session tells the driver.
    pub(crate) grew: bool,
    /// A write failed: what was to be written is lost, and nothing may follow.
    is_broken: bool,
    syncer: Option<(mpsc::Sender<()>, JoinHandle<Lasting>)>,
    /// What the next syncer goes on with.
    lasting: Option<Lasting>,
}

/// What of a build is made durable while it runs, by a thread that nothing waits for.
#[derive(Debug)]
struct Lasting {
    log: File,
    journal: File,
    /// Files and folders that do not change any more, until they are: without their entries there is neither log nor journal.
    once: Vec<PathBuf>,
    due: Instant,
}

impl Lasting {
    fn of(log: &Path) -> io::Result<Lasting> {
        // The build's folder, the one of all builds, that of the logs, and where both of these are.
        let above = log.ancestors().skip(1).take(2).filter(|folder| !folder.as_os_str().is_empty());
        let once =
            [crate::PLAN, ".", ".."].map(Path::new).into_iter().chain(above).map(Path::to_owned).collect();
        Ok(Lasting {
            log: File::open(log)?,
            journal: File::open(crate::JOURNAL)?,
            once,
            due: Instant::now() + SYNC_EVERY,
        })
    }

    /// Until it is told to stop.
    fn run(mut self, stopped: &mpsc::Receiver<()>) -> Lasting {
        let left = |due: Instant| due.saturating_duration_since(Instant::now());
        while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(left(self.due)) {
            self.sync();
        }
        self
    }

    fn sync(&mut self) {
        // A failing disk shows at the last sync, whose error ends the build as a fault.
        let _ = self.log.sync_data();
        let _ = self.journal.sync_data();
        self.once.retain(|path| File::open(path).and_then(|file| file.sync_all()).is_err());
        self.due = Instant::now() + SYNC_EVERY;
    }
}

impl Log {
    /// Creates the segment; returns the log and the write end for the container. Of what comes from there, `quota_bytes`
    /// are kept.
    pub(crate) fn create(path: &Path, quota_bytes: Option<u64>) -> io::Result<(Log, OwnedFd)> {
        let segment = SegmentWriter::create(path).map_err(io::Error::other)?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // A large pipe lets commands run on while the agent is busy; the default also works.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, 1 << 20);
        rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK)?;
        let log = Log {
            segment,
            output: File::from(read),
            buffer: vec![0; READ],
            masker: Masker::default(),
            held: Vec::with_capacity(2 * READ),
            held_since: Instant::now(),
            at_line_start: true,
            quota: Quota { bytes: quota_bytes.unwrap_or(u64::MAX), kept: 0, left_out: 0 },
            grew: false,
            is_broken: false,
            syncer: None,
            lasting: None,
        };
        Ok((log, write))
    }

    /// From now on a thread makes log and journal durable every second. Not before the container exists: it is forked
    /// from a process with one thread.
    pub(crate) fn sync_regularly(&mut self, path: &Path) -> io::Result<()> {
        let lasting = self.lasting.take().map_or_else(|| Lasting::of(path), Ok)?;
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("log-sync".into()).stack_size(64 << 10);
        self.syncer = Some((stop, thread.spawn(move || lasting.run(&stopped))?));
        Ok(())
    }

    /// From now on there is one thread again.
    pub(crate) fn stop_syncing(&mut self) {
        if let Some((stop, thread)) = self.syncer.take() {
            drop(stop);
            self.lasting = thread.join().ok();
        }
    }

    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// From now on this is masked, too.
    pub(crate) fn set_mask(&mut self, mask: Mask) -> io::Result<()> {
        self.end_output()?;
        self.masker = Masker::new(mask);
        Ok(())
    }

    /// The text as the log would show it, for what is told elsewhere as well.
    pub(crate) fn masked(&self, text: &str) -> String {
        self.masker.mask().text(text).into_owned()
    }

    /// A line of the service's own. COMPAT: LC-110 `[Container] <time> <text>`.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.end_output()?;
        self.service_line(text)
    }

    /// COMPAT: LC-115, LC-116 the empty line after a command's output.
    pub(crate) fn blank(&mut self) -> io::Result<()> {
        self.end_output()?;
        self.service(clock::now_micros(), b"\n")
    }

    fn service_line(&mut self, text: &str) -> io::Result<()> {
        let now = clock::now_micros();
        let text = self.masker.mask().text(text);
        let line = format!("[Container] {} {text}\n", clock::log_time(now));
        self.service(now, line.as_bytes())
    }

    fn service(&mut self, micros: i64, bytes: &[u8]) -> io::Result<()> {
        if !self.at_line_start {
            self.write(micros / 1000, b"\n")?;
        }
        self.write(micros / 1000, bytes)
    }

    fn write(&mut self, time_ms: i64, bytes: &[u8]) -> io::Result<()> {
        let Some(last) = bytes.last() else { return Ok(()) };
        if self.is_broken {
            // Whoever was told of the first failure ends the build as a fault.
            return Ok(());
        }
        let written = self.segment.write_raw(time_ms, bytes);
        // What follows a gap would pass for what was printed next: a log that lost something ends there.
        self.is_broken = written.is_err();
        written.map_err(io::Error::other)?;
        self.at_line_start = *last == b'\n';
        self.grew = true;
        Ok(())
    }

    /// Reads once what commands printed; 0 when there is nothing now.
    pub(crate) fn read_output(&mut self) -> io::Result<usize> {
        let length = match (&self.output).read(&mut self.buffer) {
            Ok(length) => length,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(e) => return Err(e),
        };
        if length == 0 {
            return Ok(0);
        }
        if self.held.is_empty() {
            self.held_since = Instant::now();
        }
        let seen = self.held.len();
        self.masker.feed(&self.buffer[..length], &mut self.held);
        self.keep_unfinished(seen)?;
        Ok(length)
    }

    /// Writes the whole lines of what is held; there is none in the first `seen` bytes.
    fn keep_unfinished(&mut self, seen: usize) -> io::Result<()> {
        let newline = self.held[seen..].iter().rposition(|byte| *byte == b'\n');
        let whole = newline.map_or(0, |at| seen + at + 1);
        let cut = if self.held.len() - whole > READ { self.held.len() } else { whole };
        if cut > 0 {
            self.write_held(cut)?;
            self.held_since = Instant::now();
        }
        Ok(())
    }

    fn write_held(&mut self, length: usize) -> io::Result<()> {
        let mut held = std::mem::take(&mut self.held);
        let first = self.quota.left_out == 0;
        let kept = self.quota.take(length);
        let mut written = self.write(clock::now_ms(), &held[..kept]);
        if first && kept < length && written.is_ok() {
            let quota = self.quota.bytes;
            written = self.service_line(&format!(
                "The log has reached its quota of {quota} bytes of output; what commands print from here on is left out"
            ));
        }
        held.drain(..length);
        self.held = held;
        written
    }

    /// When [`Log::release`] is due, if anything is held.
    pub(crate) fn release_due(&self) -> Option<Instant> {
        (!self.held.is_empty()).then(|| self.held_since + HOLD)
    }

    /// Writes what is held, but not what may still become a secret.
    pub(crate) fn release(&mut self) -> io::Result<()> {
        self.write_held(self.held.len())
    }

    /// Something else than output follows: writes all there is.
    fn end_output(&mut self) -> io::Result<()> {
        self.masker.finish(&mut self.held);
        self.release()
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
        self.end_output()?;
        if self.quota.left_out > 0 {
            self.service_line(&format!("{} bytes of output were left out", self.quota.left_out))?;
        }
        self.stop_syncing();
        self.segment.seal().map_err(io::Error::other)
    }
}
