//! What can be made before it is known what to run: cgroups, the system call filter, namespaces, and a small process that is already in
//! the cgroups and from which the container's init is then born.
//!
//! Moving a process between cgroups (version 1) makes the kernel wait some 10 ms for each hierarchy; being born in them is free.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal};
use rustix::thread::move_into_link_name_space;

use crate::ahead::Ahead;
use crate::cgroup::Cgroups;
use crate::error::{Doing, Error};
use crate::ids::rules_the_host;
use crate::inside::{self, Setup};
use crate::profile::{PROFILE, Profile};
use crate::seccomp::Filters;
use crate::sys::{self, Stack};

/// How long the host's secrets are taken to be what they were.
const CURRENT: Duration = Duration::from_secs(1);

/// A container's place on the host, waiting for its [`crate::Spec`].
#[derive(Debug)]
pub struct Prepared {
    pub(crate) name: String,
    pub(crate) filters: Filters,
    /// Paths of the host no build may read, as of `looked`.
    pub(crate) secrets: Vec<PathBuf>,
    looked: Instant,
    pub(crate) cgroups: Option<Cgroups>,
    /// For the host's root.
    ahead: Option<Ahead>,
    cradle: Cradle,
}

impl Prepared {
    /// Makes the cgroups of the container `name` and starts to enter them, without waiting for that.
    ///
    /// # Errors
    /// [`Error::Threads`], [`Error::Invalid`] for a name that cannot be a file name, [`Error::Failed`].
    pub fn new(name: &str) -> Result<Prepared, Error> {
        must_be_single_threaded()?;
        must_be_a_name(name)?;
        let filters = Filters::compile(&PROFILE)?;
        let mut cgroups = Cgroups::create(name)?;
        let cradle = match Cradle::start(&cgroups) {
            Ok(cradle) => cradle,
            Err(error) => {
                cgroups.remove()?;
                return Err(error);
            }
        };
        // Why there is none is told to who needs it.
        let ahead = rules_the_host().then(|| Ahead::make(name, None).ok()).flatten();
        Ok(Prepared {
            name: name.to_owned(),
            filters,
            secrets: crate::masks::secrets_of_host(),
            looked: Instant::now(),
            cgroups: Some(cgroups),
            ahead,
            cradle,
        })
    }

    /// Whether it was so long ago that the host's secrets were looked for that there may be others.
    pub(crate) fn has_waited(&self) -> bool {
        self.looked.elapsed() > CURRENT
    }

    /// What the host's root enters, with the `wanted` range of ids if that is free.
    pub(crate) fn ahead(&mut self, wanted: Option<u32>) -> Result<Ahead, Error> {
        match self.ahead.take().filter(|ahead| ahead.suits(wanted)) {
            Some(ahead) => Ok(ahead),
            None => Ahead::make(&self.name, wanted),
        }
    }

    /// Forks init, which begins with `setup`. Returns once it exists.
    pub(crate) fn give_birth(&mut self, flags: u64, setup: &Setup<'_>) -> io::Result<(Pid, OwnedFd)> {
        self.cradle.give_birth(flags, setup)
    }

    /// For a container that others hold than what was prepared for, with a cgroup of version 2 that was made since.
    pub(crate) fn be_for(&mut self, profile: &'static Profile, cgroups: &Cgroups) -> Result<(), Error> {
        self.filters = Filters::compile(profile)?;
        self.cradle.clone_into(cgroups)
    }

    pub(crate) fn take_cgroups(&mut self) -> Cgroups {
        self.cgroups.take().expect("they are taken once, by the container")
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.cradle.end();
        if let Some(mut cgroups) = self.cgroups.take() {
            // Nobody is in them any more; a sweep would find what is left.
            let _ = cgroups.remove();
        }
    }
}

pub(crate) fn must_be_single_threaded() -> Result<(), Error> {
    match threads().doing("count the threads")? {
        1 => Ok(()),
        threads => Err(Error::Threads(threads)),
    }
}

/// Threads of this process that may still do something. One that has been joined is listed until the kernel has buried it, which takes as long
/// as others have the processors; from when it is marked as exiting, before its join returns, it runs nothing of the program's any more.
fn threads() -> io::Result<usize> {
    let mut count = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        match std::fs::read_to_string(thread?.path().join("stat")) {
            Ok(stat) => count += usize::from(!is_exiting(&stat)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// The flags are the seventh field after the name, which is in parentheses and may hold anything.
fn is_exiting(stat: &str) -> bool {
    const PF_EXITING: u32 = 4;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let flags = fields.split_ascii_whitespace().nth(6).and_then(|flags| flags.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

/// The thread, since it was listed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

fn must_be_a_name(name: &str) -> Result<(), Error> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=128).contains(&name.len()) && name.bytes().all(is_fine) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{name:?} cannot name a container")))
}

/// The process in the cgroups. It shares memory and descriptors with this one, so that what it forks knows the spec.
#[derive(Debug)]
struct Cradle {
    /// `None` once it has ended.
    process: Option<Pid>,
    shared: Box<Shared>,
    _stack: Stack,
    // Its descriptors, kept open for it.
    _to_join: Vec<File>,
    to_clone_into: Option<OwnedFd>,
    go: OwnedFd,
}

/// What both processes see.
#[derive(Debug)]
struct Shared {
    parent: Pid,
    to_join: Vec<RawFd>,
    /// Or -1.
    to_clone_into: AtomicI32,
    go: RawFd,
    flags: AtomicU64,
    setup: AtomicPtr<c_void>,
    /// Init's process id; 0 before, `-errno` after a failure.
    born: AtomicI32,
    pidfd: AtomicI32,
    /// `errno` of a cgroup that could not be entered, or 0.
    not_joined: AtomicI32,
}

impl Cradle {
    fn start(cgroups: &Cgroups) -> Result<Cradle, Error> {
        let to_join = cgroups.files_to_join()?;
        let to_clone_into = cgroups.folder_to_clone_into()?;
        let go = eventfd(0, EventfdFlags::CLOEXEC).doing("make an event descriptor")?;
        let shared = Box::new(Shared {
            parent: getpid(),
            to_join: to_join.iter().map(AsRawFd::as_raw_fd).collect(),
            to_clone_into: AtomicI32::new(to_clone_into.as_ref().map_or(-1, AsRawFd::as_raw_fd)),
            go: go.as_raw_fd(),
            flags: AtomicU64::new(0),
            setup: AtomicPtr::new(std::ptr::null_mut()),
            born: AtomicI32::new(0),
            pidfd: AtomicI32::new(-1),
            not_joined: AtomicI32::new(0),
        });
        let stack = Stack::new().doing("make a stack")?;
        let argument = std::ptr::from_ref::<Shared>(&shared).cast_mut().cast();
        // SAFETY: `shared` is boxed and freed only after the process has ended (`end`, called by every drop); `lie_in_wait` makes
        // raw system calls only, until this process waits for it.
        let process = unsafe { sys::spawn_sharing(&stack, lie_in_wait, argument) }.doing("fork")?;
        Ok(Cradle { process: Some(process), shared, _stack: stack, _to_join: to_join, to_clone_into, go })
    }

    /// Where init is born, from now on.
    fn clone_into(&mut self, cgroups: &Cgroups) -> Result<(), Error> {
        self.to_clone_into = cgroups.folder_to_clone_into()?;
        let number = self.to_clone_into.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        self.shared.to_clone_into.store(number, Ordering::Release);
        Ok(())
    }

    fn give_birth(&mut self, flags: u64, setup: &Setup<'_>) -> io::Result<(Pid, OwnedFd)> {
        let Some(process) = self.process.take() else { return Err(io::ErrorKind::NotFound.into()) };
        self.shared.setup.store(std::ptr::from_ref(setup).cast_mut().cast(), Ordering::Release);
        self.shared.flags.store(flags, Ordering::Release);
        rustix::io::write(&self.go, &1_u64.to_ne_bytes())?;
        match sys::wait_for_exit(process) {
            // Who ignores SIGCHLD is told of the end this way.
            Err(error) if error.raw_os_error() != Some(libc::ECHILD) => return Err(error),
            _ => {}
        }
        let not_joined = self.shared.not_joined.load(Ordering::Acquire);
        if not_joined != 0 {
            return Err(io::Error::from_raw_os_error(not_joined));
        }
        let born = self.shared.born.load(Ordering::Acquire);
        if born <= 0 {
            return Err(io::Error::from_raw_os_error(if born < 0 { -born } else { libc::ECHILD }));
        }
        let pid = Pid::from_raw(born).expect("it is positive");
        // SAFETY: the kernel has just made this descriptor for us, in the table we share.
        Ok((pid, unsafe { sys::own(self.shared.pidfd.load(Ordering::Acquire)) }))
    }

    fn end(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = kill_process(process, Signal::KILL);
            let _ = sys::wait_for_exit(process);
        }
    }
}

impl Drop for Cradle {
    fn drop(&mut self) {
        self.end();
    }
}

/// The life of the process: enter the cgroups, wait, fork init, end. Until it is told to go it runs beside its parent in the same
/// memory, so it makes no call that touches `errno` or allocates.
extern "C" fn lie_in_wait(argument: *mut c_void) -> c_int {
    // SAFETY: `Cradle::start` passed a `Shared` that outlives this process.
    let shared = unsafe { &*argument.cast::<Shared>() };
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if getppid() != Some(shared.parent) {
        return 1;
    }
    for file in &shared.to_join {
        // SAFETY: the parent keeps the file open.
        let file = unsafe { std::os::fd::BorrowedFd::borrow_raw(*file) };
        if let Err(error) = rustix::io::write(file, b"0") {
            shared.not_joined.store(error.raw_os_error(), Ordering::Release);
        }
    }
    // SAFETY: as above.
    let go = unsafe { std::os::fd::BorrowedFd::borrow_raw(shared.go) };
    let mut word = [0_u8; 8];
    if rustix::io::retry_on_intr(|| rustix::io::read(go, &mut word)).is_err()
        || shared.not_joined.load(Ordering::Acquire) != 0
    {
        return 1;
    }
    fork_init(shared)
}

/// From here on the parent waits.
fn fork_init(shared: &Shared) -> c_int {
    // SAFETY: `give_birth` stored a reference to a `Setup`, which lives as long as the parent waits.
    let setup = unsafe { &*shared.setup.load(Ordering::Acquire).cast::<Setup<'_>>() };
    for namespace in setup.entered {
        if let Err(error) = move_into_link_name_space(*namespace, None) {
            shared.born.store(-error.raw_os_error(), Ordering::Release);
            return 1;
        }
    }
    let mut pidfd = -1;
    let cgroup = Some(shared.to_clone_into.load(Ordering::Acquire)).filter(|number| *number >= 0);
    match sys::clone_sibling(shared.flags.load(Ordering::Acquire), cgroup, &mut pidfd) {
        Ok(None) => {
            // By now its own copy.
            inside::enter(setup)
        }
        Ok(Some(pid)) => {
            shared.pidfd.store(pidfd, Ordering::Release);
            shared.born.store(pid.as_raw_nonzero().get(), Ordering::Release);
            0
        }
        Err(error) => {
            shared.born.store(-error.raw_os_error().unwrap_or(libc::EIO), Ordering::Release);
            1
        }
    }
}
