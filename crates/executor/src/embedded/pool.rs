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

/// What an agent's standard error is called before the agent has a build folder to put it in; the container's name follows,
/// which tells what would have to be swept.
const WAITING_LOG: &str = ".agent-";

/// About as long as a build takes to its first command.
const REFILL_AFTER: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub(super) struct Pool {
    options: Options,
    waiting: Mutex<VecDeque<Waiting>>,
    started: AtomicU64,
    /// Held by who fills it up: two at once would both see what is missing.
    refilling: Mutex<()>,
    /// In the names of our agents' containers, and of nobody else's on this host.
    mark: String,
}

/// An agent that has been told its build.
#[derive(Debug)]
pub(super) struct Agent(Child);

#[derive(Debug)]
struct Waiting {
    child: Child,
    told_by: ChildStdin,
    log: PathBuf,
    /// Its container's, which it prepares while it waits.
    name: String,
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
        sweep_after_earlier(&options.builds);
        let (waiting, refilling) = (Mutex::default(), Mutex::default());
        Pool { options, waiting, started: AtomicU64::new(0), refilling, mark: mark() }
    }

    /// Starts as many waiting agents as are missing, in the background.
    pub(super) fn refill(self: &Arc<Self>) {
        if self.options.warm == 0 {
            return;
        }
        let pool = self.clone();
        // Nobody waits for this; a start that fails here fails again, and is reported, when a build needs it.
        tokio::task::spawn_blocking(move || {
            let _alone = pool.refilling.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// How many agents wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// Tells a waiting agent its build folder. None if no agent waits.
    pub(super) fn take_warm(&self, folder: &Path) -> Option<Agent> {
        loop {
            let waiting = self.lock().pop_front()?;
            match waiting.tell(folder) {
                Ok(agent) => return Some(agent),
                // Killed while it waited: its cgroups are not what this build shall wait for.
                Err(dead) => drop(tokio::task::spawn_blocking(move || dead.end())),
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
        let name = format!("agent-{}-{number}", self.mark);
        let log = self.options.builds.join(format!("{WAITING_LOG}{name}.log"));
        let mut command = self.command(&log)?;
        let mut child = self.spawn(command.args(["--wait", &name]).stdin(Stdio::piped()))?;
        let told_by = child.stdin.take().expect("its standard input is a pipe");
        Ok(Waiting { child, told_by, log, name })
    }

    fn command(&self, log: &Path) -> Result<Command> {
        let errors = File::options().append(true).create(true).mode(0o600).open(log);
        let errors = errors.map_err(Error::folder("make", log))?;
        let mut command = Command::new(&self.options.program);
        command.args(&self.options.arguments).stdout(Stdio::null()).stderr(errors);
        for name in &self.options.hidden {
            command.env_remove(name);
        }
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
    /// Itself again if the agent has ended while it waited. At every moment one of two names leads to its container: that of the log, or the one
    /// in the folder, which is another agent's next.
    fn tell(mut self, folder: &Path) -> std::result::Result<Agent, Waiting> {
        // The agent writes it, too, but may be killed before.
        let named = fs::write(folder.join(agent::CONTAINER), format!("{}\n", self.name));
        // Renamed while open: what the agent writes from here on lands in the build's folder.
        let moved = folder.join("agent.log");
        let _ = fs::rename(&self.log, &moved);
        let mut line = folder.as_os_str().as_bytes().to_vec();
        line.push(b'\n');
        match named.and_then(|()| self.told_by.write_all(&line)) {
            Ok(()) => Ok(Agent(self.child)),
            Err(_) => {
                let _ = fs::rename(moved, &self.log);
                Err(self)
            }
        }
    }

    /// At end of file an agent that waits takes its cgroups away and leaves; killed, it left them behind.
    fn end(self) {
        let Waiting { mut child, told_by, log, name } = self;
        drop(told_by);
        let left = child.wait();
        if left.is_ok_and(|status| status.success()) || sweep(&name) {
            let _ = fs::remove_file(log);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lock().drain(..).for_each(Waiting::end);
    }
}

/// Process ids are used again.
fn mark() -> String {
    let mut random = [0; 8];
    // Early in a host's life there may be none yet; the process id is better than nothing.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK);
    format!("{}-{:016x}", std::process::id(), u64::from_le_bytes(random))
}

/// Agents that waited for an earlier process have left with it, or were killed; either way nothing of theirs is to stay.
fn sweep_after_earlier(builds: &Path) {
    let Ok(entries) = fs::read_dir(builds) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let name = file.to_str().and_then(|file| file.strip_prefix(WAITING_LOG)?.strip_suffix(".log"));
        if name.is_some_and(sweep) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes the cgroups that an agent had prepared. False if they are still there, for a later start to remove.
fn sweep(name: &str) -> bool {
    // It had no build, so it wrote nothing.
    container::sweep(name, Path::new("")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever is killed meanwhile: by one of the two names its cgroups are found.
    #[test]
    fn an_agent_that_was_killed_while_it_waited_is_named_where_the_next_server_looks() {
        let builds = tempfile::tempdir().unwrap();
        let folder = builds.path().join("build");
        fs::create_dir(&folder).unwrap();
        let mut options = Options::new(builds.path().to_path_buf());
        options.program = PathBuf::from("/bin/false");
        let mut killed = Pool::new(options).start_waiting().unwrap();
        killed.child.wait().unwrap();
        let Err(killed) = killed.tell(&folder) else { panic!("it was told") };
        assert_eq!(fs::read_to_string(folder.join(agent::CONTAINER)).unwrap(), format!("{}\n", killed.name));
        assert!(killed.log.exists());
        assert!(!folder.join("agent.log").exists());
    }
}
