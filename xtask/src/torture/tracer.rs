//! Faults at exact system calls: the kernel stops the server and its agents at each call, and this says what becomes of it.
//!
//! `strace -e inject=` can do the same, but counts for each thread, and the server has several: here the calls of all its threads are one sequence, so that
//! each of them is somebody's N-th. Agents are counted one by one. What agents fork is let go: it is user code, or does a single task for them.

mod calls;
mod machine;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::host;
use super::yard::Yard;
pub(super) use calls::Calls;
use machine::Registers;

/// Whose calls are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Agent,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// The process is killed before the call is made.
    Kill,
    /// The call is not made, and fails with this.
    Fail(Errno),
}

/// Which calls, and what becomes of them.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// None: of the server and of agents.
    pub(super) role: Option<Role>,
    pub(super) calls: Calls,
    pub(super) act: Act,
    /// The first call that is meant, from 1 on.
    pub(super) first: usize,
    /// How many from there on.
    pub(super) count: usize,
}

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Calls that were meant, of the server.
    pub(super) of_server: usize,
    /// Of the agent that made most.
    pub(super) of_agent: usize,
    /// Which calls had something done to them, and the process.
    pub(super) done: Vec<(&'static str, u32)>,
}

#[derive(Debug, Default)]
struct Shared {
    fault: Mutex<Option<Fault>>,
    seen: Mutex<Seen>,
    /// Calls that were meant, of each process, since the fault was given.
    counts: Mutex<HashMap<Pid, usize>>,
    /// All that were ever traced.
    processes: Mutex<HashSet<Pid>>,
    is_over: AtomicBool,
}

/// A server that runs under our eyes.
#[derive(Debug)]
pub(super) struct Tracer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Tracer {
    /// Starts the server of a yard. It may not answer yet, or never.
    pub(super) fn start(yard: &Yard, fault: Option<Fault>) -> Result<Tracer, String> {
        // Stands still until we are there.
        let around = ["sh", "-c", "kill -STOP $$; exec \"$@\"", "sh"].map(str::to_owned);
        let server = Pid::from_raw(yard.launch(&around)?.cast_signed());
        await_stopped(server)?;
        let shared = Arc::new(Shared { fault: Mutex::new(fault), ..Shared::default() });
        lock(&shared.processes).insert(server);
        let (told, seized) = mpsc::channel();
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            let outcome = seize(server);
            let is_seized = outcome.is_ok();
            let _ = told.send(outcome);
            if is_seized {
                Watch { server, shared: of_thread, tasks: HashMap::new() }.run();
            }
        });
        seized.recv().map_err(|e| e.to_string())?.map_err(|e| format!("the server cannot be traced: {e}"))?;
        host::signal(server.as_raw().cast_unsigned(), Signal::SIGCONT);
        Ok(Tracer { shared, thread: Some(thread) })
    }

    /// From now on; counts begin anew.
    pub(super) fn set(&self, fault: Option<Fault>) {
        lock(&self.shared.counts).clear();
        *lock(&self.shared.seen) = Seen::default();
        *lock(&self.shared.fault) = fault;
    }

    pub(super) fn seen(&self) -> Seen {
        lock(&self.shared.seen).clone()
    }

    /// Traces no more, and gives all that was seen until then.
    pub(super) fn end(self) -> Seen {
        let shared = self.shared.clone();
        drop(self);
        lock(&shared.seen).clone()
    }
}

impl Drop for Tracer {
    /// The kernel lets go of what is traced when the thread ends; until then it waits for somebody to stop, which a signal without a meaning makes them do.
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() {
            let processes = lock(&self.shared.processes).clone();
            processes
                .iter()
                .for_each(|process| host::signal(process.as_raw().cast_unsigned(), Signal::SIGCONT));
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = thread.join();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn await_stopped(process: Pid) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).map_err(|e| e.to_string())?;
        if status.lines().any(|line| line.starts_with("State:\tT")) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("the server's shell does not stop".into())
}

fn seize(process: Pid) -> nix::Result<()> {
    let followed = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(process, followed)?;
    ptrace::interrupt(process)
}

/// A thread that is traced.
#[derive(Debug, Clone, Copy)]
struct Task {
    process: Pid,
    role: Role,
    /// What its present call is to fail with.
    failing: Option<Errno>,
}

/// The thread that alone may speak to what is traced.
struct Watch {
    server: Pid,
    shared: Arc<Shared>,
    tasks: HashMap<Pid, Task>,
}

impl Watch {
    fn run(&mut self) {
        // Not what other threads of ours have started.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while !self.shared.is_over.load(Ordering::Relaxed) {
            match waitpid(None, Some(flags)) {
                Ok(status) => self.take_in(status),
                Err(Errno::EINTR) => {}
                // Nobody is left.
                Err(Errno::ECHILD) => return,
                Err(_) => {}
            }
        }
    }

    fn take_in(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::PtraceSyscall(task) => self.at_call(task),
            // Something began, or started another program.
            WaitStatus::PtraceEvent(task, ..) => self.go_on(task, None),
            WaitStatus::Stopped(task, signal) => self.go_on(task, Some(signal)),
            WaitStatus::Exited(task, _) | WaitStatus::Signaled(task, ..) => {
                self.tasks.remove(&task);
            }
            _ => {}
        }
    }

    /// A task that is gone by now needs nothing.
    fn go_on(&mut self, task: Pid, signal: Option<Signal>) {
        let _ = match self.task(task) {
            Some(_) => ptrace::syscall(task, signal),
            None => ptrace::detach(task, signal),
        };
    }

    /// What is known of a task; none if it is not of interest.
    fn task(&mut self, id: Pid) -> Option<Task> {
        if let Some(task) = self.tasks.get(&id) {
            return Some(*task);
        }
        let process = number(id, "Tgid:")?;
        let role = match process {
            process if process == self.server => Role::Server,
            process if self.tasks.values().any(|task| task.process == process) => Role::Agent,
            process => (number(process, "PPid:")? == self.server).then_some(Role::Agent)?,
        };
        let task = Task { process, role, failing: None };
        self.tasks.insert(id, task);
        lock(&self.shared.processes).insert(process);
        Some(task)
    }

    fn at_call(&mut self, id: Pid) {
        if let Some(task) = self.task(id) {
            self.do_to_call(id, task);
        }
        self.go_on(id, None);
    }

    fn do_to_call(&mut self, id: Pid, task: Task) {
        let Ok(info) = ptrace::syscall_info(id) else { return };
        let Ok(mut registers) = Registers::of(id) else { return };
        if info.op == nix::libc::PTRACE_SYSCALL_INFO_EXIT {
            if let Some(error) = task.failing {
                let _ = registers.answer(error);
                self.tasks.insert(id, Task { failing: None, ..task });
            }
            return;
        }
        match self.verdict(id, task, &registers) {
            Some(Act::Kill) => host::signal(task.process.as_raw().cast_unsigned(), Signal::SIGKILL),
            Some(Act::Fail(error)) if registers.skip().is_ok() => {
                self.tasks.insert(id, Task { failing: Some(error), ..task });
            }
            _ => {}
        }
    }

    /// What shall become of the call that a task is about to make.
    fn verdict(&self, id: Pid, task: Task, registers: &Registers) -> Option<Act> {
        let fault = lock(&self.shared.fault);
        let fault = fault.as_ref()?;
        if fault.role.is_some_and(|role| role != task.role) {
            return None;
        }
        let call = fault.calls.name(id, registers)?;
        let mut counts = lock(&self.shared.counts);
        let count = counts.entry(task.process).or_default();
        *count += 1;
        let mut seen = lock(&self.shared.seen);
        match task.role {
            Role::Server => seen.of_server = *count,
            Role::Agent => seen.of_agent = seen.of_agent.max(*count),
        }
        let is_meant = *count >= fault.first && *count - fault.first < fault.count;
        // Only one process is killed for each fault.
        if !is_meant || (matches!(fault.act, Act::Kill) && !seen.done.is_empty()) {
            return None;
        }
        seen.done.push((call, task.process.as_raw().cast_unsigned()));
        Some(fault.act)
    }
}

fn number(process: Pid, name: &str) -> Option<Pid> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok().map(Pid::from_raw)
}
