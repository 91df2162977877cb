//! The container as its caller holds it: requests, events, the end.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, pidfd_send_signal};

use crate::brought::{self, Awaited, Inside};
use crate::cgroup::Cgroups;
use crate::child;
use crate::egress::Pair;
use crate::egress::user::Uplink;
use crate::error::{Doing, Error};
use crate::ids::{self, IdRange, rules_the_host};
use crate::init;
use crate::late::{self, Namespaces};
use crate::outside;
use crate::packet;
use crate::prepared::{self, Prepared};
use crate::removal;
use crate::spec::{Event, ExitStatus, Function, LateOverlay, Process, Spec};
use crate::sys;
use crate::usage::{self, Usage};
use crate::wire::{Reader, Writer};

/// How long a process may take from its request to its first instruction. Beyond that the container is ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running container. Dropping it destroys it.
#[derive(Debug)]
pub struct Container {
    init: Pid,
    pidfd: OwnedFd,
    control: OwnedFd,
    events: OwnedFd,
    cgroups: Cgroups,
    /// Kept until no process can have them any more.
    ids: Option<IdRange>,
    listeners: Vec<OwnedFd>,
    /// Kept until it ends, as they keep its mounts.
    namespaces: Option<Namespaces>,
    /// Interfaces that lead out.
    pair: Option<Pair>,
    /// What leads out for an ordinary user.
    uplink: Option<Uplink>,
    scratch: PathBuf,
    functions: HashMap<&'static str, u32>,
    has_died: bool,
    is_destroyed: bool,
    /// Somebody else has made it, and removes it once init has ended.
    is_brought: bool,
}

impl Container {
    /// Makes a container and waits until it can run something. The spec's name and scratch folder are its own from here on.
    ///
    /// # Errors
    /// [`Error::Forbidden`] where the host does not permit it, [`Error::Threads`], [`Error::Invalid`], [`Error::Failed`]. Nothing is left
    /// behind.
    pub fn create(spec: Spec) -> Result<Container, Error> {
        Container::create_in(Prepared::new(&spec.name)?, spec)
    }

    /// As [`Container::create`], in what was prepared earlier under the same name.
    ///
    /// # Errors
    /// As [`Container::create`].
    pub fn create_in(mut prepared: Prepared, spec: Spec) -> Result<Container, Error> {
        let mut cgroups = prepared.take_cgroups();
        match outside::bear(&mut prepared, &mut cgroups, &spec) {
            Ok(Some(born)) => Ok(Container {
                init: born.init,
                pidfd: born.pidfd,
                control: born.control,
                events: born.events,
                cgroups,
                ids: born.ids,
                listeners: born.told.listeners,
                namespaces: Some(born.told.namespaces),
                pair: born.pair,
                uplink: born.uplink,
                functions: indexed(spec.functions),
                scratch: spec.scratch,
                has_died: false,
                is_destroyed: false,
                is_brought: false,
            }),
            unborn => {
                drop(prepared);
                cgroups.remove()?;
                clear(&spec.scratch)?;
                unborn.and_then(|_| Container::create(spec))
            }
        }
    }

    /// Takes over a container that somebody else has made, whose init has come: [`Awaited::fd`] is readable.
    ///
    /// # Errors
    /// [`Error::Failed`], with the words of [`Awaited::refuse`] if those came instead; [`Error::Gone`].
    pub fn bring(awaited: Awaited, inside: &Inside) -> Result<Container, Error> {
        let met = awaited.meet(inside)?;
        Ok(Container {
            cgroups: Cgroups::around(met.init),
            init: met.init,
            pidfd: met.pidfd,
            control: met.control,
            events: met.events,
            ids: None,
            listeners: met.listeners,
            namespaces: None,
            uplink: None,
            pair: None,
            scratch: PathBuf::new(),
            functions: indexed(inside.functions),
            has_died: false,
            is_destroyed: false,
            is_brought: true,
        })
    }

    /// Writes the process's files, then starts it. Returns once the program runs, with the handle of its [`Event::Exited`].
    ///
    /// # Errors
    /// [`Error::UnknownUser`], [`Error::WorkingFolder`], [`Error::File`], [`Error::Exec`], [`Error::Full`], [`Error::Gone`].
    pub fn start(&mut self, process: &Process<'_>) -> Result<u32, Error> {
        let mut message = Writer::default();
        message.number(init::START);
        child::encode(process, &mut message);
        let descriptors: Vec<BorrowedFd<'_>> =
            process.output.iter().chain(&process.input).chain(&process.fds).copied().collect();
        self.request(&message, &descriptors)
    }

    /// Runs one of [`Spec::functions`] inside, as root, in a fork of init: nothing is executed. `fds` are passed on to it.
    ///
    /// # Errors
    /// [`Error::UnknownFunction`], [`Error::Full`], [`Error::Gone`].
    pub fn call(&mut self, function: &str, arguments: &[u8], fds: Vec<OwnedFd>) -> Result<u32, Error> {
        let index = self.functions.get(function).ok_or_else(|| Error::UnknownFunction(function.into()))?;
        let mut message = Writer::default();
        message.number(init::CALL).number(*index).bytes(arguments);
        let descriptors: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.request(&message, &descriptors)
    }

    /// Shows kept files in a folder of the running container; programs that are in that folder already do not see them. The caller must have
    /// one thread.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Threads`], [`Error::Invalid`]; [`Error::Failed`] where the host cannot, such as for an overlay within
    /// overlays. The folder is as it was then.
    pub fn show(&mut self, overlay: &LateOverlay) -> Result<(), Error> {
        if self.is_brought {
            let what = "show kept files in a container that is not of our making";
            return Err(io::Error::from(io::ErrorKind::Unsupported)).doing(what);
        }
        prepared::must_be_single_threaded()?;
        let namespaces = self.namespaces.as_ref().ok_or(Error::Gone)?;
        late::show(namespaces, &self.scratch, self.ids.as_ref().map(|ids| ids.first), overlay)
    }

    fn request(&mut self, message: &Writer, descriptors: &[BorrowedFd<'_>]) -> Result<u32, Error> {
        if descriptors.len() > packet::MOST_DESCRIPTORS {
            return Err(Error::Invalid(format!(
                "at most {} descriptors can be passed",
                packet::MOST_DESCRIPTORS
            )));
        }
        self.send(message, descriptors)?;
        if !packet::comes_within(self.control.as_fd(), PATIENCE) {
            // A build can stop a process that is about to start, or leave init no time; it must not stop its caller as well.
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            return Err(Error::Gone);
        }
        let reply = packet::receive(self.control.as_fd());
        // A reset means that init died with the request unread.
        let (reply, _) = reply.ok().flatten().ok_or(Error::Gone)?;
        started(&reply)
    }

    fn send(&self, message: &Writer, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        match packet::send(self.control.as_fd(), &message.0, descriptors) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => {
                Err(Error::Gone)
            }
            other => other.doing("ask init"),
        }
    }

    /// The sockets listening at [`Spec::listen`], in its order; once.
    pub fn take_listeners(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.listeners)
    }

    /// Readable when [`Container::next_event`] will not block.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Waits for something to happen.
    ///
    /// # Errors
    /// [`Error::Gone`] after [`Event::Died`].
    pub fn next_event(&mut self) -> Result<Event, Error> {
        if self.has_died {
            return Err(Error::Gone);
        }
        let received = packet::receive(self.events.as_fd()).ok().flatten();
        if let Some(event) = received.and_then(|(message, _)| exited(&message)) {
            return Ok(event);
        }
        self.has_died = true;
        Ok(Event::Died { oom: self.oom_kills() > 0 })
    }

    /// How many processes the kernel has killed inside so far for want of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.cgroups.oom_kills()
    }

    /// What has been used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            cpu_millis: usage::cpu_millis(self.init.as_raw_nonzero().get()),
            memory_peak_bytes: self.cgroups.memory_peak_bytes(),
            storage: usage::storage(self.init.as_raw_nonzero().get()),
            network: self.pair.as_ref().and_then(|pair| usage::traffic(pair.name())),
        }
    }

    /// Signals a started process and its process group. One that has ended is left in peace.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Failed`].
    pub fn signal(&mut self, handle: u32, signal: Signal) -> Result<(), Error> {
        let mut message = Writer::default();
        message.number(init::SIGNAL).number(handle).number(signal.as_raw() as u32);
        self.send(&message, &[])
    }

    /// Ends everything inside and removes every trace: processes, mounts, cgroups, the content of the scratch folder.
    ///
    /// # Errors
    /// [`Error::Failed`] with what could not be removed; [`sweep`] may try again.
    pub fn destroy(mut self) -> Result<(), Error> {
        self.tear_down()
    }

    /// Ends everything inside at once: processes, mounts, cgroups. What was written stays in the scratch folder for [`sweep`],
    /// because removing many folders may take longer than a caller wants to wait.
    ///
    /// # Errors
    /// [`Error::Failed`] with what could not be ended; [`sweep`] may try again.
    pub fn end(mut self) -> Result<(), Error> {
        self.is_destroyed = true;
        self.end_processes()
    }

    fn tear_down(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.is_destroyed, true) {
            return Ok(());
        }
        self.end_processes()?;
        if self.is_brought { Ok(()) } else { clear(&self.scratch) }
    }

    fn end_processes(&mut self) -> Result<(), Error> {
        if self.is_brought {
            self.listeners.clear();
            return brought::end(&self.pidfd);
        }
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Err(error) if error != rustix::io::Errno::SRCH => return Err(error).doing("kill init"),
            _ => {}
        }
        self.namespaces = None;
        // With init ends its namespace: the kernel kills and waits for everything else first.
        match sys::wait_for_exit(self.init) {
            Err(error) if error.raw_os_error() != Some(libc::ECHILD) => {
                return Err(error).doing("wait for init");
            }
            _ => {}
        }
        self.cgroups.kill()?;
        self.cgroups.remove()?;
        self.listeners.clear();
        self.uplink = None;
        self.pair.take().map_or(Ok(()), |pair| pair.remove())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Whoever wants to know calls `destroy`; a sweep finds what this could not.
        let _ = self.tear_down();
    }
}

/// Cleans up after a caller that died: ends what is left of the container `name`, removes its cgroups and empties its scratch folder.
/// There being nothing to do is fine.
///
/// # Errors
/// [`Error::Failed`] with what could not be removed.
pub fn sweep(name: &str, scratch: &Path) -> Result<(), Error> {
    let mut cgroups = Cgroups::find(name);
    cgroups.kill()?;
    cgroups.remove()?;
    if rules_the_host() {
        ids::sweep();
    }
    clear(scratch)
}

/// Empties the scratch folder and takes it back.
fn clear(scratch: &Path) -> Result<(), Error> {
    removal::empty(scratch).doing(format!("empty {}", scratch.display()))?;
    if rules_the_host() && fs::symlink_metadata(scratch).is_ok() {
        std::os::unix::fs::lchown(scratch, Some(0), Some(0)).doing("take the scratch folder back")?;
    }
    Ok(())
}

fn indexed(functions: &[Function]) -> HashMap<&'static str, u32> {
    (0..).zip(functions).map(|(index, function)| (function.name, index)).collect()
}

fn exited(message: &[u8]) -> Option<Event> {
    let mut reader = Reader(message);
    let (handle, kind, value) = (reader.number()?, reader.number()?, reader.number()? as i32);
    let status = if kind == 0 { ExitStatus::Code(value) } else { ExitStatus::Signal(value) };
    Some(Event::Exited { handle, status })
}

fn started(reply: &[u8]) -> Result<u32, Error> {
    let mut reader = Reader(reply);
    let (Some(kind), Some(number)) = (reader.number(), reader.number()) else { return Err(Error::Gone) };
    if kind == init::STARTED {
        return Ok(number);
    }
    let source = io::Error::from_raw_os_error(number as i32);
    let about = reader.text().unwrap_or_default();
    let text = about.to_string_lossy().into_owned();
    Err(match kind {
        init::NO_ROOM => Error::Full(source),
        init::UNKNOWN_USER => Error::UnknownUser(text),
        init::NO_WORKING_FOLDER => Error::WorkingFolder { path: about.into(), source },
        init::FILE => Error::File { path: about.into(), source },
        init::EXEC => Error::Exec { program: text, source },
        _ => Error::Failed { what: text, source },
    })
}
