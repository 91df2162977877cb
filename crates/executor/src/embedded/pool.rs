//! Agent processes: started ahead of need, handed a build each, reaped.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Options, descriptor};
use crate::{Error, Result};

/// What an agent's standard error is called before the agent has a build folder to put it in.
const WAITING_LOG: &str = ".agent-";

/// About as long as a build takes to its first command.
const REFILL_AFTER: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub(super) struct Pool {
    options: Options,
    waiting: Mutex<VecDeque<Waiting>>,
    started: AtomicU64,
}

/// An agent that has been told its build.
#[derive(Debug)]
pub(super) struct Agent(Child);

#[derive(Debug)]
struct Waiting {
    child: Child,
    told_by: ChildStdin,
    log: PathBuf,
}

impl Agent {
    pub(super) fn process(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Waits for the process to end and reaps it.
    pub(super) async fn ended(mut self) -> io::Result<ExitStatus> {
        let process = descriptor::register(pidfd_open(self.process(), PidfdFlags::empty())?)?;
        let _ = process.readable().await?;
        self.0.wait()
    }
}

impl Pool {
    pub(super) fn new(options: Options) -> Pool {
        remove_waiting_logs(&options.builds);
        Pool { options, waiting: Mutex::default(), started: AtomicU64::new(0) }
    }

    /// Starts as many waiting agents as are missing, in the background.
    pub(super) fn refill(self: &Arc<Self>) {
        if self.options.warm == 0 {
            return;
        }
        let pool = self.clone();
        // Nobody waits for this; a start that fails here fails again, and is reported, when a build needs it.
        tokio::task::spawn_blocking(move || {
            while pool.lock().len() < pool.options.warm {
                let Ok(waiting) = pool.start_waiting() else { return };
                pool.lock().push_back(waiting);
            }
        });
    }

    /// As [`Pool::refill`], but while agents wait a moment later: a build that was just handed out needs the processors more.
    pub(super) fn refill_soon(self: &Arc<Self>) {
        if self.lock().is_empty() {
            return self.refill();
        }
        let pool = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(REFILL_AFTER).await;
            pool.refill();
        });
    }

    /// Tells a waiting agent its build folder. None if no agent waits.
    pub(super) fn take_warm(&self, folder: &Path) -> Option<Agent> {
        loop {
            let waiting = self.lock().pop_front()?;
            if let Some(agent) = waiting.tell(folder) {
                return Some(agent);
            }
        }
    }

    /// Starts an agent for one build folder.
    pub(super) fn start_cold(&self, folder: &Path) -> Result<Agent> {
        let mut command = self.command(&folder.join("agent.log"))?;
        command.arg(folder).stdin(Stdio::null());
        self.spawn(&mut command).map(Agent)
    }

    fn start_waiting(&self) -> Result<Waiting> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.options.builds.join(format!("{WAITING_LOG}{}-{number}.log", std::process::id()));
        let mut command = self.command(&log)?;
        let mut child = self.spawn(command.arg("--wait").stdin(Stdio::piped()))?;
        let told_by = child.stdin.take().expect("its standard input is a pipe");
        Ok(Waiting { child, told_by, log })
    }

    fn command(&self, log: &Path) -> Result<Command> {
        let errors = File::options().append(true).create(true).mode(0o600).open(log);
        let errors = errors.map_err(Error::folder("make", log))?;
        let mut command = Command::new(&self.options.program);
        command.args(&self.options.arguments).stdout(Stdio::null()).stderr(errors);
        Ok(command)
    }

    fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = self.options.program.display();
        container::spawn_detached(command)
            .map_err(|e| Error::NotStarted { reason: format!("cannot execute {program}: {e}") })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// None if the agent has ended while it waited.
    fn tell(mut self, folder: &Path) -> Option<Agent> {
        // Renamed while open: what the agent writes from here on lands in the build's folder.
        let _ = fs::rename(&self.log, folder.join("agent.log"));
        let mut line = folder.as_os_str().as_bytes().to_vec();
        line.push(b'\n');
        match self.told_by.write_all(&line) {
            Ok(()) => Some(Agent(self.child)),
            Err(_) => {
                self.end();
                None
            }
        }
    }

    /// At end of file an agent that waits takes its cgroups away and leaves; killed, it would leave them behind.
    fn end(self) {
        let Waiting { mut child, told_by, log } = self;
        drop(told_by);
        let _ = child.wait();
        let _ = fs::remove_file(log);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lock().drain(..).for_each(Waiting::end);
    }
}

/// Logs of agents that waited for an earlier process, which left with it.
fn remove_waiting_logs(builds: &Path) {
    let Ok(entries) = fs::read_dir(builds) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_bytes().starts_with(WAITING_LOG.as_bytes()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
