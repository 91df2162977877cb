//! The agent's one loop: output to the log, drivers to their word, the container's news to whoever waits.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use container::{Awaited, Container, Event as ContainerEvent, ExitStatus, Inside, Process};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::answer::{Answer, Hearing, Word};
use crate::breakpoints::{Breakpoints, Said};
use crate::clock;
use crate::endpoint::Endpoint;
use crate::journal::{self, Event, Hold};
use crate::log::Log;
use crate::plan::DriverLoss;
use crate::shells::Shells;
use crate::usage::{Account, Meter};

/// The driver is told at most this often that the log grew.
const WAKE_EVERY: Duration = Duration::from_millis(5);
/// A local build whose driver never shows up does not start.
const DRIVER_WAIT: Duration = Duration::from_secs(10);
/// How long somebody else may take to make the container.
const MAKING: Duration = Duration::from_secs(120);
/// What a captured command may print.
const CAPTURE_LIMIT: usize = 8 << 20;

/// Why the build does not go on.
#[derive(Debug)]
pub(crate) enum Halt {
    Stopped,
    TimedOut,
    /// The container ended under us (LC-058).
    Dead {
        out_of_memory: bool,
    },
    /// The container that stands in for the build's for a while cannot go on; why.
    Guest(String),
    /// The build has used up its processes, so that not even ours can be started inside.
    Exhausted(String),
    /// Our own doing.
    Fault(String),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Halt {
        Halt::Fault(error.to_string())
    }
}

impl From<container::Error> for Halt {
    fn from(error: container::Error) -> Halt {
        match error {
            container::Error::Full(_) => Halt::Exhausted(error.to_string()),
            container::Error::Gone => Halt::Dead { out_of_memory: false },
            error => Halt::Fault(error.to_string()),
        }
    }
}

/// Takes bytes that cross from the container.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// A connected driver.
#[derive(Debug)]
struct Driver {
    stream: UnixStream,
    hearing: Hearing,
}

#[derive(Debug)]
pub(crate) struct Session {
    journal: journal::Writer,
    pub(crate) log: Log,
    listener: UnixListener,
    pub(crate) shells: Shells,
    breakpoints: Option<Breakpoints>,
    /// The pipe by which `codebuild-hash-files` asks for an answer, and the others, which end with it.
    hashing: Vec<File>,
    /// Where commands reach the server.
    pub(crate) endpoint: Option<Endpoint>,
    drivers: Vec<Driver>,
    on_driver_loss: DriverLoss,
    had_driver: bool,
    started: Instant,
    deadline: Instant,
    last_wake: Instant,
    stop_asked: bool,
    /// What a driver said about the build's references.
    answer: Option<Answer>,
    container: Option<Container>,
    meter: Meter,
    /// Whether anything was asked of the container since the latest lap.
    was_asked: bool,
    /// Of the phase that is open.
    pub(crate) account: Account,
    /// How long somebody else may take to make the container.
    awaited_until: Option<Instant>,
    /// Asked in place of the build's container while it is there. No shell is opened in it.
    guest: Option<Guest>,
    /// An exit seen while nobody waited for it.
    ended: Vec<(u32, ExitStatus)>,
}

/// A container that is not the build's.
#[derive(Debug)]
struct Guest {
    container: Container,
    until: Instant,
}

impl Session {
    pub(crate) fn new(
        journal: journal::Writer,
        log: Log,
        (listener, shells): (UnixListener, Shells),
        on_driver_loss: DriverLoss,
        timeout: Duration,
    ) -> io::Result<Session> {
        listener.set_nonblocking(true)?;
        let now = Instant::now();
        Ok(Session {
            journal,
            log,
            listener,
            shells,
            breakpoints: None,
            hashing: Vec::new(),
            endpoint: None,
            drivers: Vec::new(),
            on_driver_loss,
            had_driver: false,
            started: now,
            deadline: now + timeout,
            last_wake: now,
            stop_asked: false,
            answer: None,
            container: None,
            meter: Meter::new(),
            was_asked: false,
            account: Account::default(),
            awaited_until: None,
            guest: None,
            ended: Vec::new(),
        })
    }

    pub(crate) fn record(&mut self, event: &Event) -> io::Result<()> {
        self.journal.append(event)?;
        self.tell(b'J');
        Ok(())
    }

    pub(crate) fn set_container(&mut self, mut container: Container) -> io::Result<()> {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.attend(container.take_listeners())?;
        }
        self.container = Some(container);
        self.meter = Meter::new();
        // Numbers begin anew.
        self.ended.clear();
        Ok(())
    }

    /// Waits for the container that somebody else makes; drivers are heard meanwhile.
    pub(crate) fn receive(
        &mut self,
        awaited: Awaited,
        inside: &Inside,
    ) -> Result<Result<Container, container::Error>, Halt> {
        let until = Instant::now() + MAKING;
        self.awaited_until = Some(until);
        let mut has_come = is_readable(awaited.fd())?;
        while !has_come && Instant::now() < until {
            self.turn(Some(awaited.fd()))?;
            has_come = is_readable(awaited.fd())?;
        }
        self.awaited_until = None;
        if has_come {
            return Ok(Container::bring(awaited, inside));
        }
        let what = "wait for the environment to be made".into();
        Ok(Err(container::Error::Failed { what, source: io::ErrorKind::TimedOut.into() }))
    }

    /// Asks this container in place of the build's until [`Session::end_guest`]. It has so long to do what it is for.
    pub(crate) fn set_guest(&mut self, container: Container, time: Duration) {
        self.guest = Some(Guest { container, until: Instant::now() + time });
        self.ended.clear();
    }

    /// Ends it with all that it wrote. It may have ended by itself.
    pub(crate) fn end_guest(&mut self) -> Result<(), Halt> {
        self.ended.clear();
        match self.guest.take() {
            Some(guest) => Ok(guest.container.destroy()?),
            None => Ok(()),
        }
    }

    /// From now on breakpoints hold the build.
    pub(crate) fn listen_for_breakpoints(&mut self) -> Result<(), Halt> {
        let Some(container) = &mut self.container else { return Ok(()) };
        self.breakpoints = Breakpoints::new(self.shells.made_inside(container, "breakpoints")?);
        Ok(())
    }

    /// From now on `codebuild-hash-files` is answered by a function of ours.
    pub(crate) fn listen_for_hashing(&mut self) -> Result<(), Halt> {
        let Some(container) = &mut self.container else { return Ok(()) };
        self.hashing =
            self.shells.made_inside(container, "hash-pipes")?.into_iter().map(File::from).collect();
        Ok(())
    }

    /// One ring is one question.
    fn hear_hashing(&mut self) {
        let (Some(bell), Some(container)) = (self.hashing.first_mut(), &mut self.container) else { return };
        let mut rings = [0_u8; 16];
        for _ in 0..bell.read(&mut rings).unwrap_or(0) {
            self.shells.run_inside(container, "hash-files");
        }
    }

    fn hear_breakpoints(&mut self) -> Result<(), Halt> {
        for said in self.breakpoints.as_mut().map(Breakpoints::hear).unwrap_or_default() {
            if said == Said::Resumed {
                self.log.line("The build was resumed")?;
                continue;
            }
            let build = self.shells.surroundings.name.split(' ').next().unwrap_or_default();
            self.log.line(&format!(
                "The build is held at a breakpoint. Enter it with `buildyard shell {build}`; `codebuild-resume` there lets it go on"
            ))?;
            self.record(&Event::Held { at_ms: clock::now_ms(), why: Hold::Breakpoint })?;
        }
        Ok(())
    }

    /// Waits until somebody has been in a shell and nobody is any more.
    pub(crate) fn hold_for_shells(&mut self) -> Result<(), Halt> {
        let (before, _) = self.shells.so_far();
        loop {
            self.turn(None)?;
            let (opened, is_open) = self.shells.so_far();
            if opened > before && !is_open {
                return Ok(());
            }
        }
    }

    /// What was used since the latest lap goes to the phase's account, and to the command's that ran. There is none where nothing was to be
    /// done: nobody waits for it before the first command.
    pub(crate) fn lap(&mut self) {
        let was_asked = std::mem::take(&mut self.was_asked);
        if let Some(container) = self.container.as_mut().filter(|_| was_asked) {
            self.account.add(self.meter.lap(container));
        }
    }

    /// How much room what commands wrote takes.
    pub(crate) fn disk_used_bytes(&self) -> Option<u64> {
        self.container.as_ref().and_then(Container::disk_used_bytes)
    }

    /// How much of the build's the kernel has killed for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.container.as_ref().map_or(0, Container::oom_kills)
    }

    pub(crate) fn has_container(&self) -> bool {
        self.container.is_some()
    }

    pub(crate) fn container(&mut self) -> Result<&mut Container, Halt> {
        self.was_asked = true;
        let guest = self.guest.as_mut().map(|guest| &mut guest.container);
        guest.or(self.container.as_mut()).ok_or_else(|| Halt::Fault("there is no container".into()))
    }

    /// Ends everything that runs and the container with it. What was written inside is removed with the build's
    /// folder, which nobody waits for.
    pub(crate) fn end_container(&mut self) -> Result<(), Halt> {
        self.shells.close();
        self.breakpoints = None;
        self.hashing.clear();
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.close();
        }
        self.end_guest()?;
        self.lap();
        match self.container.take() {
            Some(container) => Ok(container.end()?),
            None => Ok(()),
        }
    }

    /// Asks for the values of references and waits for a driver that has them. A driver that comes later reads the
    /// question in the journal, and may answer an earlier one once more.
    pub(crate) fn ask(&mut self, question: &Event) -> Result<Answer, Halt> {
        self.record(question)?;
        loop {
            if let Some(answer) = self.answer.take().filter(|answer| answer.is_to(question)) {
                return Ok(answer);
            }
            self.turn(None)?;
        }
    }

    /// Shows kept files in a folder of the container. There must be one thread.
    pub(crate) fn show(&mut self, overlay: &container::LateOverlay) -> Result<(), container::Error> {
        self.container.as_mut().ok_or(container::Error::Gone)?.show(overlay)
    }

    /// Runs a process and waits for it; its output goes to the log.
    pub(crate) fn run(&mut self, process: &Process<'_>) -> Result<Ran, Halt> {
        let handle = match self.container()?.start(process) {
            Ok(handle) => handle,
            Err(error) => return refused(error),
        };
        let status = self.wait(handle, None)?;
        self.log.drain()?;
        Ok(Ran::Ended(status))
    }

    /// Runs a process and returns what it printed on standard output instead of logging it; `None` if it cannot be
    /// started, because commands have taken from the environment what it needs.
    pub(crate) fn capture(&mut self, process: Process<'_>) -> Result<Option<Vec<u8>>, Halt> {
        let (read, write) = pipe()?;
        let process = Process { output: Some(write.as_fd()), ..process };
        let handle = match self.container()?.start(&process) {
            Ok(handle) => handle,
            Err(error) => return refused(error).map(|_| None),
        };
        drop(write);
        let mut bytes = Vec::new();
        self.wait(handle, Some((read, &mut |piece: &[u8]| bounded(&mut bytes, piece))))?;
        Ok(Some(bytes))
    }

    /// Runs a process; `sink` gets what it prints, piece by piece.
    pub(crate) fn stream(&mut self, process: Process<'_>, sink: &mut Sink<'_>) -> Result<ExitStatus, Halt> {
        let (read, write) = pipe()?;
        let process = Process { output: Some(write.as_fd()), ..process };
        let handle = self.container()?.start(&process)?;
        drop(write);
        self.wait(handle, Some((read, sink)))
    }

    /// Calls a function inside the container; `sink` gets what it writes to its first descriptor.
    pub(crate) fn call(
        &mut self,
        function: &str,
        arguments: &impl serde::Serialize,
        extra: Vec<OwnedFd>,
        sink: &mut Sink<'_>,
    ) -> Result<ExitStatus, Halt> {
        let (read, write) = pipe()?;
        let arguments = serde_json::to_vec(arguments).map_err(|e| Halt::Fault(e.to_string()))?;
        let fds = std::iter::once(write).chain(extra).collect();
        let handle = self.container()?.call(function, &arguments, fds)?;
        self.wait(handle, Some((read, sink)))
    }

    /// Everything happens here while a process of the container runs.
    fn wait(&mut self, handle: u32, mut from: Option<(File, &mut Sink<'_>)>) -> Result<ExitStatus, Halt> {
        loop {
            if let Some(at) = self.ended.iter().position(|(ended, _)| *ended == handle) {
                let (_, status) = self.ended.swap_remove(at);
                if let Some((file, sink)) = &mut from {
                    copy_available(file, sink)?;
                }
                return Ok(status);
            }
            self.turn(from.as_ref().map(|(file, _)| file.as_fd()))?;
            if let Some((file, sink)) = &mut from {
                copy_available(file, sink)?;
            }
        }
    }

    /// Waits until something can be read there, or for anything else to happen.
    pub(crate) fn attend(&mut self, other: BorrowedFd<'_>) -> Result<(), Halt> {
        self.turn(Some(other))
    }

    /// Waits for something to happen and deals with it.
    fn turn(&mut self, also: Option<BorrowedFd<'_>>) -> Result<(), Halt> {
        let ready = self.poll(also)?;
        if ready.output {
            self.log.read_output()?;
        }
        if self.log.release_due().is_some_and(|due| due <= Instant::now()) {
            self.log.release()?;
        }
        if ready.drivers {
            self.hear_drivers();
        }
        if ready.shells {
            self.shells.hear(self.container.as_mut());
        }
        if ready.endpoint
            && let Some(endpoint) = &mut self.endpoint
        {
            endpoint.hear();
        }
        if ready.container {
            self.hear_container()?;
        }
        self.hear_breakpoints()?;
        self.hear_hashing();
        if let Some(container) = self.container.as_ref().filter(|_| self.meter.due() <= Instant::now()) {
            self.meter.sample(container);
        }
        self.wake_drivers(false);
        self.check_halt()
    }

    fn poll(&self, also: Option<BorrowedFd<'_>>) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.log.output(), PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        let guest = self.guest.as_ref().map(|guest| &guest.container);
        let container = guest.or(self.container.as_ref()).map(|container| {
            fds.push(PollFd::from_borrowed_fd(container.fd(), PollFlags::IN));
            fds.len() - 1
        });
        fds.extend(also.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let first_shell = fds.len();
        fds.extend(self.shells.fds().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.extend(
            self.breakpoints
                .iter()
                .map(|breakpoints| PollFd::from_borrowed_fd(breakpoints.fd(), PollFlags::IN)),
        );
        fds.extend(self.hashing.first().map(|bell| PollFd::new(bell, PollFlags::IN)));
        let first_of_endpoint = fds.len();
        let interests = self.endpoint.iter().flat_map(Endpoint::interests);
        fds.extend(interests.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
        let first_driver = fds.len();
        fds.extend(self.drivers.iter().map(|driver| PollFd::new(&driver.stream, PollFlags::IN)));
        let left = self.next_due().saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            output: is_ready(0),
            drivers: is_ready(1) || (first_driver..fds.len()).any(is_ready),
            container: container.is_some_and(is_ready),
            shells: (first_shell..first_of_endpoint).any(is_ready),
            endpoint: (first_of_endpoint..first_driver).any(is_ready),
        })
    }

    fn next_due(&self) -> Instant {
        let mut due = self.guest.as_ref().map_or(self.deadline, |guest| self.deadline.min(guest.until));
        if let Some(until) = self.awaited_until {
            due = due.min(until);
        }
        if self.container.is_some() {
            due = due.min(self.meter.due());
        }
        if let Some(release) = self.log.release_due() {
            due = due.min(release);
        }
        if self.log.grew && !self.drivers.is_empty() {
            due = due.min(self.last_wake + WAKE_EVERY);
        }
        if self.on_driver_loss == DriverLoss::Stop && !self.had_driver {
            due = due.min(self.started + DRIVER_WAIT);
        }
        due
    }

    /// Accepts new drivers and takes in what they say.
    pub(crate) fn hear_drivers(&mut self) {
        while let Ok((driver, _)) = self.listener.accept() {
            if driver.set_nonblocking(true).is_ok() {
                self.drivers.push(Driver { stream: driver, hearing: Hearing::default() });
                self.had_driver = true;
                // What happened before it came: it reads the files from where it was.
                self.tell(b'J');
                self.log.grew = true;
            }
        }
        let mut words = Vec::new();
        self.drivers.retain_mut(|driver| driver.listen(&mut words));
        for word in words {
            match word {
                Word::Stop => self.stop_asked = true,
                Word::Answer(answer) => self.answer = Some(answer),
            }
        }
    }

    fn hear_container(&mut self) -> Result<(), Halt> {
        let is_guest = self.guest.is_some();
        match self.container()?.next_event()? {
            ContainerEvent::Exited { handle, status } => {
                if is_guest || !self.shells.ended(handle, status) {
                    self.ended.push((handle, status));
                }
            }
            ContainerEvent::Died { .. } if is_guest => {
                return Err(Halt::Guest("its container ended unexpectedly".into()));
            }
            ContainerEvent::Died { oom } => return Err(Halt::Dead { out_of_memory: oom }),
        }
        Ok(())
    }

    fn check_halt(&mut self) -> Result<(), Halt> {
        let alone = self.drivers.is_empty() && (self.had_driver || self.started.elapsed() >= DRIVER_WAIT);
        if self.stop_asked || alone && self.on_driver_loss == DriverLoss::Stop {
            return Err(Halt::Stopped);
        }
        if Instant::now() >= self.deadline {
            return Err(Halt::TimedOut);
        }
        if self.guest.as_ref().is_some_and(|guest| Instant::now() >= guest.until) {
            return Err(Halt::Guest("it took too long".into()));
        }
        Ok(())
    }

    /// A driver that does not read has wakes enough in its socket already.
    fn tell(&mut self, word: u8) {
        for driver in &mut self.drivers {
            let _ = driver.stream.write(&[word]);
        }
    }

    fn wake_drivers(&mut self, now: bool) {
        if self.log.grew && (now || self.last_wake.elapsed() >= WAKE_EVERY) {
            self.log.grew = false;
            self.last_wake = Instant::now();
            self.tell(b'L');
        }
    }

    /// The last words: the log is sealed, then the last record is durable, then the drivers hear of both.
    pub(crate) fn finish(mut self, last: impl FnOnce() -> Event) -> io::Result<()> {
        let (journal, log) = (&mut self.journal, self.log);
        log.seal()?;
        journal.append(&last())?;
        journal.sync()?;
        for driver in &mut self.drivers {
            let _ = driver.stream.write(b"LJ");
        }
        Ok(())
    }
}

/// How starting a process went.
#[derive(Debug)]
pub(crate) enum Ran {
    Ended(ExitStatus),
    /// It could not be started, by the build's own doing: an unknown user, a missing shell.
    Refused(String),
}

fn refused(error: container::Error) -> Result<Ran, Halt> {
    use container::Error::{Exec, File, Full, UnknownUser, WorkingFolder};
    match error {
        UnknownUser(_) | WorkingFolder { .. } | Exec { .. } | File { .. } | Full(_) => {
            Ok(Ran::Refused(error.to_string()))
        }
        error => Err(error.into()),
    }
}

impl Driver {
    /// Takes in what the driver says; false when it is gone, or speaks what nobody understands.
    fn listen(&mut self, words: &mut Vec<Word>) -> bool {
        let mut bytes = [0u8; 16 << 10];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(length) => match self.hearing.feed(&bytes[..length]) {
                    Ok(heard) => words.extend(heard),
                    Err(_) => return false,
                },
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

#[derive(Debug)]
struct Ready {
    output: bool,
    drivers: bool,
    container: bool,
    shells: bool,
    endpoint: bool,
}

fn is_readable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&Timespec::default())))? > 0)
}

fn pipe() -> io::Result<(File, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK)?;
    Ok((File::from(read), write))
}

fn bounded(bytes: &mut Vec<u8>, piece: &[u8]) -> io::Result<()> {
    if bytes.len() + piece.len() > CAPTURE_LIMIT {
        return Err(io::Error::other(format!("more than {CAPTURE_LIMIT} bytes of output")));
    }
    bytes.extend_from_slice(piece);
    Ok(())
}

fn copy_available(file: &mut File, sink: &mut Sink<'_>) -> io::Result<()> {
    let mut buffer = [0u8; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => sink(&buffer[..length])?,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
