//! Builds on this host: one agent process per build, our own program executed again, each with a folder.
//!
//! Layout below the builds folder: `<uuid>/` (`<uuid>.2/` and so on for later attempts) with `plan.json`, and
//! what the agent makes there. Agents are detached: they outlive this process and are found again by their
//! socket. What does not live here: the container, which the agent makes.

mod arrival;
mod descriptor;
mod folder;
mod pool;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use agent::journal;
use agent::plan::Plan;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tokio::net::UnixStream;

use crate::{Adopted, Error, Executor, Future, Link, Remains, Result};
use arrival::Arrival;
use folder::BuildFolder;
pub(crate) use folder::below;
use pool::{Agent, Pool};

/// How agents are started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where build folders are made.
    pub builds: PathBuf,
    /// The program to execute, `/proc/self/exe` for our own.
    pub program: PathBuf,
    /// Its arguments before the build folder or `--wait`: `agent`.
    pub arguments: Vec<OsString>,
    /// Environment variables that are not theirs to know.
    pub hidden: Vec<OsString>,
    /// How many agents wait, already started, for a build.
    pub warm: usize,
    /// How long an agent may take from being told of its build to owning it.
    pub patience: Duration,
}

impl Options {
    pub fn new(builds: PathBuf) -> Options {
        Options {
            builds,
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec![OsString::from("agent")],
            hidden: Vec::new(),
            warm: 2,
            patience: Duration::from_secs(30),
        }
    }
}

/// An attempt that left the build without an agent, for good.
struct Unstarted {
    error: Error,
    /// By a signal that was not ours, before it owned the build.
    was_killed: bool,
}

impl From<Error> for Unstarted {
    fn from(error: Error) -> Unstarted {
        Unstarted { error, was_killed: false }
    }
}

#[derive(Debug)]
pub struct Embedded {
    builds: PathBuf,
    patience: Duration,
    pool: Arc<Pool>,
}

impl Embedded {
    /// Makes the builds folder and starts the waiting agents. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Folder`] if the folder cannot be made or its path holds a newline, which agents cannot be told.
    pub fn open(mut options: Options) -> Result<Embedded> {
        options.builds = folder::make_builds(&options.builds)?;
        let (builds, patience) = (options.builds.clone(), options.patience);
        let pool = Arc::new(Pool::new(options));
        pool.refill();
        Ok(Embedded { builds, patience, pool })
    }

    /// How many agents were started beforehand and wait for a build.
    pub fn waiting_agents(&self) -> usize {
        self.pool.waiting()
    }

    /// The folder of the build's latest attempt.
    pub(crate) fn folder_of(&self, uuid: &str) -> Result<Option<PathBuf>> {
        Ok(BuildFolder::latest(&self.builds, uuid)?.map(|folder| folder.path().to_path_buf()))
    }

    /// A waiting agent may have been killed without our notice, and others with it: then one is started for this build alone.
    async fn launch_surely(&self, uuid: &str, plan: &Plan) -> Result<Link> {
        match self.launch_in_fresh_folder(uuid, plan, true).await {
            Err(Unstarted { was_killed: true, .. }) => {
                self.launch_in_fresh_folder(uuid, plan, false).await.map_err(|unstarted| unstarted.error)
            }
            launched => launched.map_err(|unstarted| unstarted.error),
        }
    }

    async fn launch_in_fresh_folder(
        &self,
        uuid: &str,
        plan: &Plan,
        may_be_warm: bool,
    ) -> std::result::Result<Link, Unstarted> {
        let folder = BuildFolder::create(&self.builds, uuid, plan)?;
        let arrival =
            Arrival::watch(folder.path(), agent::JOURNAL).map_err(Error::folder("watch", folder.path()))?;
        let taken = self.take_agent(&folder, may_be_warm).await;
        self.pool.refill_soon();
        let started = match taken {
            Ok(agent) => self.await_journal(agent, arrival).await,
            Err(error) => Err(error.into()),
        };
        match started {
            // The agent may have won the race against its own lateness after all.
            Err(Unstarted { error, was_killed }) if folder.give_up()? => {
                Err(Unstarted { error: sweep_unstarted(error, folder).await, was_killed })
            }
            _ => Ok(reach(&folder).await.map_err(Error::Unreachable)?),
        }
    }

    async fn take_agent(&self, folder: &BuildFolder, may_be_warm: bool) -> Result<Agent> {
        if may_be_warm && let Some(agent) = self.pool.take_warm(folder.path()) {
            return Ok(agent);
        }
        let (pool, path) = (self.pool.clone(), folder.path().to_path_buf());
        let start = tokio::task::spawn_blocking(move || pool.start_cold(&path));
        start.await.expect("starting an agent does not panic")
    }

    /// Waits until the agent has taken the build, and leaves somebody to reap it.
    async fn await_journal(&self, agent: Agent, arrival: Arrival) -> std::result::Result<(), Unstarted> {
        let process = agent.process();
        let mut reaped = tokio::spawn(agent.ended());
        let mut was_killed = false;
        let result = tokio::select! {
            arrived = arrival.wait() => arrived.map_err(|e| e.to_string()),
            status = &mut reaped => {
                let status = status.expect("waiting for a child does not panic");
                was_killed = status.as_ref().is_ok_and(|status| status.signal().is_some());
                Err(describe_end(status))
            }
            () = tokio::time::sleep(self.patience) => {
                // Not reaped yet, so the id is still its own.
                let _ = kill_process(process, Signal::KILL);
                Err(format!("nothing heard for {:?}", self.patience))
            }
        };
        result.map_err(|reason| Unstarted { error: Error::NotStarted { reason }, was_killed })
    }

    async fn adopt_from_folder(&self, uuid: &str) -> Result<Adopted> {
        let Some(folder) = BuildFolder::latest(&self.builds, uuid)? else {
            return Ok(Adopted::NeverStarted);
        };
        if folder.give_up()? {
            return clear(folder).await;
        }
        match connect(&folder).await {
            Ok(link) => Ok(Adopted::Running(link)),
            Err(e) if is_gone(&e) => bury(folder).await,
            Err(e) => Err(Error::Unreachable(e)),
        }
    }
}

impl Executor for Embedded {
    fn launch<'a>(&'a self, uuid: &'a str, plan: &'a Plan) -> Future<'a, Link> {
        Box::pin(self.launch_surely(uuid, plan))
    }

    fn adopt<'a>(&'a self, uuid: &'a str) -> Future<'a, Adopted> {
        Box::pin(self.adopt_from_folder(uuid))
    }

    fn left<'a>(&'a self, uuid: &'a str, file: &'a str) -> Future<'a, Vec<u8>> {
        Box::pin(async move {
            let found = BuildFolder::latest(&self.builds, uuid)?;
            let gone = || Error::folder("read", Path::new(file))(io::ErrorKind::NotFound.into());
            let path = found.ok_or_else(gone)?.path().join(file);
            tokio::fs::read(&path).await.map_err(Error::folder("read", &path))
        })
    }

    fn remove<'a>(&'a self, uuid: &'a str) -> Future<'a, ()> {
        let (builds, uuid) = (self.builds.clone(), uuid.to_string());
        Box::pin(async move {
            let removal = tokio::task::spawn_blocking(move || folder::remove_all(&builds, &uuid));
            removal.await.expect("removing a folder does not panic")
        })
    }

    fn remaining<'a>(&'a self) -> Future<'a, Vec<String>> {
        Box::pin(async move { folder::remaining(&self.builds) })
    }
}

/// The link to an agent that has taken its build. One that has ended it already gets a link that is lost: the journal
/// tells the rest.
async fn reach(folder: &BuildFolder) -> io::Result<Link> {
    match connect(folder).await {
        Err(e) if is_gone(&e) => {
            let (ours, _) = UnixStream::pair()?;
            Ok(Link::new(ours, folder.journal(), Box::new(|| {})))
        }
        reached => reached,
    }
}

/// Nobody listens (any more). A reset: the agent left, its journal complete, with our connection still unaccepted.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | NotFound)
}

/// Connects by way of the folder's descriptor, because a socket's path may not exceed 107 bytes.
async fn connect(folder: &BuildFolder) -> io::Result<Link> {
    let handle = folder.open()?;
    let stream = UnixStream::connect(below(&handle, agent::SOCKET)).await?;
    let process = rustix::net::sockopt::socket_peercred(&stream)?.pid;
    let process = pidfd_open(process, PidfdFlags::empty());
    let kill = move || {
        // No descriptor, or no process behind it: the agent is gone, which is what was wanted.
        if let Ok(process) = &process {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    };
    Ok(Link::new(stream, folder.journal(), Box::new(kill)))
}

/// An agent may have been killed, with what it had prepared, before it took the build; one that comes too late leaves by itself.
async fn clear(folder: BuildFolder) -> Result<Adopted> {
    let clearing = tokio::task::spawn_blocking(move || folder.sweep().map(|()| Adopted::NeverStarted));
    clearing.await.expect("cleaning up does not panic")
}

/// Cleans up what a dead agent left, then reads what it had written.
async fn bury(folder: BuildFolder) -> Result<Adopted> {
    let burial = tokio::task::spawn_blocking(move || {
        folder.sweep()?;
        exhume(&folder.journal()).map(Adopted::Dead)
    });
    burial.await.expect("cleaning up does not panic")
}

/// What a dead agent had written. A journal that may be read another time is an error; one that never will be is damaged.
fn exhume(journal: &Path) -> Result<Remains> {
    match journal::salvage(journal) {
        Ok((events, damage)) => Ok(Remains { events, damage: damage.map(|error| error.to_string()) }),
        Err(error) if may_pass(&error) => Err(Error::folder("read", journal)(error)),
        Err(error) => {
            Ok(Remains { events: Vec::new(), damage: Some(format!("the journal cannot be read: {error}")) })
        }
    }
}

/// A disk or a server that is in trouble may get over it.
fn may_pass(error: &io::Error) -> bool {
    let passing = [
        Errno::IO,
        Errno::INTR,
        Errno::AGAIN,
        Errno::NOMEM,
        Errno::MFILE,
        Errno::NFILE,
        Errno::STALE,
        Errno::TIMEDOUT,
    ];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

/// What an agent had prepared that never took its build is nobody's. It tells why it did not.
async fn sweep_unstarted(error: Error, folder: BuildFolder) -> Error {
    let sweep = tokio::task::spawn_blocking(move || {
        // Who looks for the agent next tries again; why there is no agent is what counts here.
        let _ = folder.sweep();
        with_last_words(error, &folder)
    });
    sweep.await.expect("cleaning up does not panic")
}

fn describe_end(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("it ended with {status}"),
        Err(e) => format!("it is lost: {e}"),
    }
}

fn with_last_words(error: Error, folder: &BuildFolder) -> Error {
    match error {
        Error::NotStarted { reason } => {
            Error::NotStarted { reason: format!("{reason}{}", last_words(&folder.agent_log())) }
        }
        other => other,
    }
}

/// The end of what the agent wrote to its standard error.
fn last_words(log: &Path) -> String {
    const KEPT: usize = 1000;
    let text = std::fs::read(log).unwrap_or_default();
    let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(KEPT)..]).trim().to_string();
    if tail.is_empty() { tail } else { format!(": {tail}") }
}
