//! Runs one build: takes a [`plan::Plan`], makes the container, goes through the phases, collects artifacts,
//! and writes what happened to a [`journal`] and what was printed to a log segment.
//!
//! One agent process per build, apart from the server, so that a build outlives the server that started it.
//! What does not live here: deciding which builds run and when (engine), and making containers (container).

pub mod answer;
mod artifacts;
pub mod attach;
pub mod beneath;
mod breakpoints;
pub mod brought;
mod build;
pub mod cache;
mod clock;
mod endpoint;
mod fetching;
mod hash_files;
mod image_tree;
mod inside;
pub mod journal;
mod log;
pub mod mask;
mod objects;
pub mod plan;
mod quiet;
pub mod role;
mod session;
mod shell;
mod shells;
pub mod snapshots;
mod ssh_agent;
mod stream;
pub mod transfer;
mod usage;

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use container::{Awaited, Prepared};
use journal::{Event, Writer};
use plan::Plan;
pub use usage::MOST_COMMANDS;

/// File names in a build's folder.
pub const PLAN: &str = "plan.json";
pub const JOURNAL: &str = "journal";
pub const SOCKET: &str = "agent.sock";
/// Where shells are asked for, see [`attach`].
pub const SHELL_SOCKET: &str = "shell.sock";
pub const SCRATCH: &str = "scratch";
/// Folder of what was found in report files, see [`journal::Event::ReportEnded`].
pub const REPORTS: &str = "reports";
/// Holds the names that [`container::sweep`] needs, one a line; written before there is a container.
pub const CONTAINER: &str = "container";

/// Waits for a build's folder on standard input, one line, and runs that build. Ends quietly at end of file:
/// its server has gone. What can be made without knowing the build is made before.
///
/// `name` is its container's, and its caller's to sweep should the agent be killed before it has a build.
pub fn wait_and_run(name: &str) -> ExitCode {
    // One that cannot be prepared is told when its build asks for it.
    let prepared = Prepared::new(name).ok().map(|prepared| (name.to_owned(), prepared));
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ended(run(Path::new(line.trim_end_matches('\n')), prepared)),
        Err(error) => ended(Err(error)),
    }
}

/// Runs the build whose plan is in `folder`. Call it with one thread only.
///
/// Exit code 0: the build was run, whatever came of it; 1: it was not, or not to its end.
pub fn main(folder: &Path) -> ExitCode {
    ended(run(folder, None))
}

fn ended(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path, prepared: Option<(String, Prepared)>) -> io::Result<()> {
    let folder: PathBuf = folder.canonicalize()?;
    // The socket's path has to be short whatever the data folder's is.
    std::env::set_current_dir(&folder)?;
    let plan: Plan = serde_json::from_slice(&std::fs::read(PLAN)?).map_err(io::Error::other)?;
    let (name, prepared) = match prepared {
        Some((name, prepared)) => (name, Some(prepared)),
        None => (plan.uuid.clone(), None),
    };
    // Added, as the file must not be empty for a moment in which we are killed.
    let mut names = File::options().append(true).create(true).open(CONTAINER)?;
    names.write_all(format!("{name}\n{name}{}\n{name}{}\n", build::NEXT, build::FETCH).as_bytes())?;
    let awaited = await_init(&plan)?;
    let listener = listen()?;
    // From here on the build is ours, or already somebody's (P3).
    let mut journal = Writer::create(Path::new(JOURNAL))?;
    journal.append(&Event::Started { at_ms: clock::now_ms(), process: std::process::id() })?;
    let (log, output) = log::Log::create(&plan.log, plan.log_quota_bytes)?;
    let timeout = Duration::from_secs(plan.timeout_seconds);
    let shells = shells::Shells::listen()?;
    let mut session = session::Session::new(journal, log, (listener, shells), plan.on_driver_loss, timeout)?;
    if let Some(endpoint) = &plan.endpoint {
        session.endpoint = Some(endpoint::Endpoint::new(endpoint, &plan.build_id)?);
    }
    session.hear_drivers();
    let place = build::Place { folder: &folder, name, prepared, awaited, output };
    let outcome = build::Build::new(&mut session, &plan).run(place);
    session.finish(|| Event::Finished { at_ms: clock::now_ms(), outcome })
}

/// Where the init of a container comes to that is not of our making.
fn await_init(plan: &Plan) -> io::Result<Option<Awaited>> {
    if !matches!(plan.environment.rootfs, plan::Rootfs::Image(_)) {
        return Ok(None);
    }
    std::fs::create_dir(brought::FOLDER)?;
    // Root inside may be somebody else out here.
    std::fs::set_permissions(brought::FOLDER, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Awaited::listen(Path::new(brought::SOCKET)).map(Some).map_err(io::Error::other)
}

/// Listens on [`SOCKET`]. A name is visible from `bind` on but takes connections only after `listen`, and drivers
/// connect the moment they see it: so it gets its name last. Fails with `AlreadyExists` if an agent was here first.
fn listen() -> io::Result<UnixListener> {
    let unseen = format!("{SOCKET}.{}", std::process::id());
    let listener = UnixListener::bind(&unseen)?;
    let linked = std::fs::hard_link(&unseen, SOCKET);
    std::fs::remove_file(&unseen)?;
    linked.map(|()| listener)
}
