//! The container's first process: starts what it is asked to, buries every orphan, tells how those it started ended. It
//! holds descriptors 0 (null), 1 and 2 (output), 3 (requests), 4 (events) and nothing else.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, wait};

use crate::child;
use crate::inside::READY;
use crate::landlock;
use crate::late::Namespaces;
use crate::packet;
use crate::seccomp::Filters;
use crate::spec::{ExitStatus, Function};
use crate::sys::{self, Fork};
use crate::wire::{Reader, Writer};

/// What the caller asks: the first number of a request.
pub(crate) const START: u32 = 1;
pub(crate) const CALL: u32 = 2;
pub(crate) const SIGNAL: u32 = 3;

/// How init answers: the first number of a reply. All but the first carry an error number and a text.
pub(crate) const STARTED: u32 = 1;
pub(crate) const NO_ROOM: u32 = 2;
pub(crate) const UNKNOWN_USER: u32 = 3;
pub(crate) const NO_WORKING_FOLDER: u32 = 4;
pub(crate) const FILE: u32 = 5;
pub(crate) const EXEC: u32 = 6;
pub(crate) const FAILED: u32 = 7;

pub(crate) fn control() -> BorrowedFd<'static> {
    sys::standard(3)
}

/// Never returns: init ends with its caller, or killed.
pub(crate) fn run(functions: &'static [Function], filters: &Filters) -> ! {
    let code = match Init::ready(functions, filters).and_then(|mut init| init.serve()) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    sys::exit_now(code)
}

struct Init {
    functions: &'static [Function],
    signals: OwnedFd,
    /// Those whose end is to be told.
    handles: BTreeMap<i32, u32>,
    last_handle: u32,
}

impl Init {
    fn ready(functions: &'static [Function], filters: &Filters) -> io::Result<Init> {
        sys::close_on_exec_from(3)?;
        // The caller's handlers would run for signals from inside; by default the first process is deaf to those.
        sys::reset_signals();
        let signals = sys::child_signals()?;
        let namespaces = Namespaces::own()?;
        if !filters.are_none() {
            landlock::hold(filters.profile())?;
        }
        // The last thing before what is untrusted.
        filters.load()?;
        let namespaces = namespaces.each_ref().map(AsFd::as_fd);
        packet::send(control(), &Writer::default().number(READY).0, &namespaces)?;
        Ok(Init { functions, signals, handles: BTreeMap::new(), last_handle: 0 })
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            let (request, child) = self.wait()?;
            if child {
                self.reap()?;
            }
            if request && !self.answer()? {
                return Ok(());
            }
        }
    }

    /// Whether there is a request, and whether a child has ended.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let mut polled = [
            PollFd::from_borrowed_fd(control(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
        Ok((!polled[0].revents().is_empty(), !polled[1].revents().is_empty()))
    }

    fn reap(&mut self) -> io::Result<()> {
        let mut drained = [0_u8; 1024];
        while rustix::io::read(&self.signals, &mut drained).is_ok() {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(handle) = self.handles.remove(&pid.as_raw_nonzero().get()) {
                let (kind, value) = match sys::exit_status(status) {
                    ExitStatus::Code(code) => (0, code),
                    ExitStatus::Signal(signal) => (1, signal),
                };
                let mut event = Writer::default();
                event.number(handle).number(kind).number(value as u32);
                packet::send(sys::standard(4), &event.0, &[])?;
            }
        }
        Ok(())
    }

    /// Whether there will be more requests.
    fn answer(&mut self) -> io::Result<bool> {
        let Some((request, descriptors)) = packet::receive(control())? else { return Ok(false) };
        let mut reader = Reader(&request);
        match reader.number() {
            Some(START) => self.start(reader.0, descriptors)?,
            Some(CALL) => self.call(reader, descriptors)?,
            Some(SIGNAL) => self.signal(reader),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn start(&mut self, request: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let (report, reporting) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let pid = match sys::fork() {
            Ok(Fork::Child) => child::start(request, descriptors, reporting),
            Ok(Fork::Parent(pid)) => pid,
            Err(error) => return refuse(NO_ROOM, &error),
        };
        drop(reporting);
        // Closed by exec, or after the reason why there was none.
        let mut reason = Vec::new();
        io::Read::read_to_end(&mut std::fs::File::from(report), &mut reason)?;
        if reason.is_empty() {
            return self.started(pid);
        }
        let _ = sys::wait_for_exit(pid);
        packet::send(control(), &reason, &[])
    }

    fn call(&mut self, mut request: Reader<'_>, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let function = request.number().and_then(|index| self.functions.get(index as usize));
        let (Some(function), Some(arguments)) = (function, request.bytes()) else {
            return refuse(FAILED, &io::ErrorKind::InvalidInput.into());
        };
        match sys::fork() {
            Ok(Fork::Child) => child::call(function, arguments, descriptors),
            Ok(Fork::Parent(pid)) => self.started(pid),
            Err(error) => refuse(NO_ROOM, &error),
        }
    }

    fn started(&mut self, pid: Pid) -> io::Result<()> {
        self.last_handle += 1;
        self.handles.insert(pid.as_raw_nonzero().get(), self.last_handle);
        packet::send(control(), &Writer::default().number(STARTED).number(self.last_handle).0, &[])
    }

    /// To the whole process group, as a terminal does. Who has ended needs no signal.
    fn signal(&self, mut request: Reader<'_>) {
        let (Some(handle), Some(number)) = (request.number(), request.number()) else { return };
        let found = self.handles.iter().find(|(_, other)| **other == handle);
        let Some(pid) = found.and_then(|(pid, _)| Pid::from_raw(*pid)) else { return };
        let Some(signal) = Signal::from_named_raw(number as i32) else { return };
        if kill_process_group(pid, signal).is_err() {
            // It has only just been forked.
            let _ = kill_process(pid, signal);
        }
    }
}

fn refuse(kind: u32, error: &io::Error) -> io::Result<()> {
    packet::send(control(), &refusal(kind, error, ""), &[])
}

/// The reply for something that could not be started.
pub(crate) fn refusal(kind: u32, error: &io::Error, about: impl AsRef<std::ffi::OsStr>) -> Vec<u8> {
    let mut message = Writer::default();
    message.number(kind).number(error.raw_os_error().unwrap_or(libc::EIO) as u32).text(about);
    message.0
}
