//! Runs one build: takes a [`plan::Plan`], makes the container, goes through the phases, collects artifacts,
//! and writes what happened to a [`journal`] and what was printed to a log segment.
//!
//! One agent process per build, apart from the server, so that a build outlives the server that started it.
//! What does not live here: deciding which builds run and when (engine), and making containers (container).

mod artifacts;
mod build;
mod clock;
mod inside;
pub mod journal;
mod log;
pub mod plan;
mod session;
mod shell;
mod stream;

use std::io::{self, BufRead};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use journal::{Event, Writer};
use plan::Plan;

/// File names in a build's folder.
pub const PLAN: &str = "plan.json";
pub const JOURNAL: &str = "journal";
pub const SOCKET: &str = "agent.sock";
pub const SCRATCH: &str = "scratch";

/// Waits for a build's folder on standard input, one line, and runs that build. Ends quietly at end of file:
/// its server has gone.
pub fn wait_and_run() -> ExitCode {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => main(Path::new(line.trim_end_matches('\n'))),
        Err(error) => refuse(&error),
    }
}

/// Runs the build whose plan is in `folder`. Call it with one thread only.
///
/// Exit code 0: the build was run, whatever came of it; 1: it was not, or not to its end.
pub fn main(folder: &Path) -> ExitCode {
    match run(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &io::Error) -> ExitCode {
    eprintln!("agent: {error}");
    ExitCode::FAILURE
}

fn run(folder: &Path) -> io::Result<()> {
    let folder: PathBuf = folder.canonicalize()?;
    // The socket's path has to be short whatever the data folder's is.
    std::env::set_current_dir(&folder)?;
    let plan: Plan = serde_json::from_slice(&std::fs::read(PLAN)?).map_err(io::Error::other)?;
    let listener = UnixListener::bind(SOCKET)?;
    // From here on the build is ours, or already somebody's (P3).
    let mut journal = Writer::create(Path::new(JOURNAL))?;
    journal.append(&Event::Started { at_ms: clock::now_ms(), process: std::process::id() })?;
    let (log, output) = log::Log::create(&plan.log)?;
    let timeout = Duration::from_secs(plan.timeout_seconds);
    let mut session = session::Session::new(journal, log, listener, plan.on_driver_loss, timeout)?;
    session.hear_drivers();
    let outcome = build::Build::new(&mut session, &plan, &folder).run(output);
    session.finish(|| Event::Finished { at_ms: clock::now_ms(), outcome })
}
