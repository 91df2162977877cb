//! `cargo xtask bench`: what Buildyard costs, beside what else this host offers, measured in one run.
//!
//! Here: the order of the measurements. [`measure`] takes them, [`page`] writes them down with the budgets.

mod artifacts;
mod cache;
pub(crate) mod client;
mod disk;
pub(crate) mod history;
mod host;
mod measure;
mod page;
mod rootfs;
mod served;
pub(crate) mod sign;
pub(crate) mod statistics;

use std::path::PathBuf;

use crate::error::{Error, at};

pub(crate) const USAGE: &str = "[--quick] [--history|--caches|--artifacts] | --full [PERCENT]    measure the release binary and write docs/benchmarks.md, or print what history, \
     restored caches or ZIP artifacts cost; --full: logs of 12 GB and 60 million lines (T12), or so much of it";

/// How often each thing is measured.
#[derive(Debug, Clone, Copy)]
struct Effort {
    first_commands: usize,
    containers: usize,
    /// For each of two clients.
    builds: usize,
    logs: usize,
    log_bytes: u64,
    history: history::Amount,
    caches: cache::Amount,
    artifacts: artifacts::Amount,
}

const FULL: Effort = Effort {
    first_commands: 200,
    containers: 100,
    builds: 300,
    logs: 5,
    log_bytes: 100_000_000,
    history: history::Amount { few: 1_000, many: 100_000, requests: 1_000 },
    caches: cache::Amount { few: 1_000, many: 20_000, restores: 30 },
    artifacts: artifacts::Amount { files: 20_000, uploads: 5 },
};
/// Shows that the benchmark works; its numbers mean little and are not written down.
const QUICK: Effort = Effort {
    first_commands: 10,
    containers: 10,
    builds: 10,
    logs: 1,
    log_bytes: 1_000_000,
    history: history::Amount { few: 1_000, many: 2_000, requests: 20 },
    caches: cache::Amount { few: 100, many: 1_000, restores: 2 },
    artifacts: artifacts::Amount { files: 1_000, uploads: 1 },
};

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    if let Some(("--full", percent)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return logs_in_full(percent);
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let effort = if quick { QUICK } else { FULL };
    let parts: Vec<&str> = arguments.iter().map(String::as_str).filter(|part| *part != "--quick").collect();
    match parts.as_slice() {
        [] => {}
        [part] if arguments.len() == 1 + usize::from(quick) => {
            let text = section(part, effort).ok_or_else(usage)?;
            print!("{}", text.map_err(Error::Bench)?);
            return Ok(());
        }
        _ => return Err(usage()),
    }
    let results = measure_all(effort).map_err(Error::Bench)?;
    let text = page::text(&results);
    print!("{text}");
    if quick {
        return Ok(());
    }
    let path = crate::root().join("docs/benchmarks.md");
    std::fs::write(&path, text).map_err(at(&path))
}

fn usage() -> Error {
    Error::Usage(format!("  cargo xtask bench {USAGE}"))
}

/// One section of the page, measured alone; none if there is no such part.
fn section(part: &str, effort: Effort) -> Option<Result<String, String>> {
    let on_server = |measure: &dyn Fn(&served::Server) -> Result<String, String>| {
        measure(&served::Server::start(&release_binary()?)?)
    };
    Some(match part {
        "--history" => release_binary()
            .and_then(|binary| history::measure(&binary, effort.history))
            .map(|answers| page::history(effort.history, &answers)),
        "--caches" => {
            on_server(&|server| Ok(page::caches(effort.caches, &cache::measure(server, effort.caches)?)))
        }
        "--artifacts" => on_server(&|server| {
            Ok(page::artifacts(effort.artifacts, &artifacts::measure(server, effort.artifacts)?))
        }),
        _ => return None,
    })
}

/// T12: the system test of long logs, which is in Python as its clients are; it prints what it measured.
fn logs_in_full(percent: &[String]) -> Result<(), Error> {
    let percent = match percent {
        [] => "100",
        [percent] if percent.parse::<u32>().is_ok() => percent,
        _ => return Err(usage()),
    };
    let python = crate::python();
    let test = ["-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "tests/system/test_log_volume.py"];
    let mut command = std::process::Command::new(&python);
    command.args(test).args(["--log-percent", percent]).current_dir(crate::root());
    let status = command.status().map_err(at(&python))?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::Check { command: format!("python3 {}", test.join(" ")), status }),
    }
}

fn measure_all(effort: Effort) -> Result<page::Results, String> {
    let binary = release_binary()?;
    let server = served::Server::start(&binary)?;
    let idle = server.memory()?;
    eprintln!("StartBuild to first command, {} builds", effort.first_commands);
    let first = measure::first_commands(&server, effort.first_commands)?;
    eprintln!("the same in an image of {} bytes", rootfs::IMAGE_BYTES);
    let in_image = measure::first_commands_in_image(&binary, effort.first_commands)?;
    eprintln!("the same inside bubblewrap and docker");
    let bubblewrap = measure::bubblewrap_first(effort.first_commands);
    let docker = measure::docker_first(effort.containers.min(20));
    eprintln!("memory of running builds");
    let running = measure::memory_of_builds(&server)?;
    eprintln!("no-op builds, 2 clients with {} each", effort.builds);
    let throughput = measure::throughput(&server, effort.builds)?;
    eprintln!("{} log bytes, {} times", effort.log_bytes, effort.logs);
    let log = measure::log(&server, effort.logs, effort.log_bytes)?;
    server.stop()?;
    let server = served::Server::start(&binary)?;
    eprintln!("caches of {} and {} files", effort.caches.few, effort.caches.many);
    let restored = cache::measure(&server, effort.caches)?;
    eprintln!("a ZIP artifact of {} files", effort.artifacts.files);
    let zipped = artifacts::measure(&server, effort.artifacts)?;
    server.stop()?;
    eprintln!("containers alone, {} times", effort.containers);
    let containers = measure::containers(effort.containers)?;
    let answers = history::measure(&binary, effort.history)?;
    Ok(page::Results {
        host: host::describe(),
        idle,
        first,
        in_image,
        bubblewrap,
        docker,
        running,
        throughput,
        log,
        containers,
        history: effort.history,
        caches: effort.caches,
        restored,
        artifacts: effort.artifacts,
        zipped,
        answers,
    })
}

fn release_binary() -> Result<PathBuf, String> {
    let built = std::env::var_os("BUILDYARD").map(PathBuf::from);
    let binary = built.unwrap_or_else(|| crate::root().join("target/release/buildyard"));
    match binary.is_file() {
        true => Ok(binary),
        false => Err(format!("{} is not there; run cargo build --release first", binary.display())),
    }
}
