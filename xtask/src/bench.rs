//! `cargo xtask bench`: what Buildyard costs, beside what else this host offers, measured in one run.
//!
//! Here: the order of the measurements. [`measure`] takes them, [`page`] writes them down with the budgets.

mod cache;
mod client;
mod history;
mod host;
mod measure;
mod page;
mod served;
mod sign;
mod statistics;

use std::path::PathBuf;

use crate::error::{Error, at};

pub(crate) const USAGE: &str = "[--quick] [--history|--caches]    measure the release binary and write docs/benchmarks.md, or print what history or restored caches cost";

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
}

const FULL: Effort = Effort {
    first_commands: 200,
    containers: 100,
    builds: 300,
    logs: 5,
    log_bytes: 100_000_000,
    history: history::Amount { few: 1_000, many: 100_000, requests: 1_000 },
    caches: cache::Amount { few: 1_000, many: 20_000, restores: 30 },
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
};

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let history = arguments.iter().any(|argument| argument == "--history");
    let caches = arguments.iter().any(|argument| argument == "--caches");
    if arguments.len() != usize::from(quick) + usize::from(history || caches) || history && caches {
        return Err(Error::Usage(format!("  cargo xtask bench {USAGE}")));
    }
    let effort = if quick { QUICK } else { FULL };
    if history {
        let answers = release_binary().and_then(|binary| history::measure(&binary, effort.history));
        print!("{}", page::history(effort.history, &answers.map_err(Error::Bench)?));
        return Ok(());
    }
    if caches {
        let restored = release_binary().and_then(|binary| {
            let server = served::Server::start(&binary)?;
            cache::measure(&server, effort.caches)
        });
        print!("{}", page::caches(effort.caches, &restored.map_err(Error::Bench)?));
        return Ok(());
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

fn measure_all(effort: Effort) -> Result<page::Results, String> {
    let binary = release_binary()?;
    let server = served::Server::start(&binary)?;
    let idle = server.memory()?;
    eprintln!("StartBuild to first command, {} builds", effort.first_commands);
    let first = measure::first_commands(&server, effort.first_commands)?;
    eprintln!("the same inside bubblewrap and docker");
    let bubblewrap = measure::bubblewrap_first(effort.first_commands);
    let docker = measure::docker_first(effort.containers.min(20));
    eprintln!("memory of running builds");
    let running = measure::memory_of_builds(&server)?;
    eprintln!("no-op builds, 2 clients with {} each", effort.builds);
    let throughput = measure::throughput(&server, effort.builds)?;
    eprintln!("{} log bytes, {} times", effort.log_bytes, effort.logs);
    let log = measure::log(&server, effort.logs, effort.log_bytes)?;
    eprintln!("caches of {} and {} files", effort.caches.few, effort.caches.many);
    let restored = cache::measure(&server, effort.caches)?;
    server.stop()?;
    eprintln!("containers alone, {} times", effort.containers);
    let containers = measure::containers(effort.containers)?;
    let answers = history::measure(&binary, effort.history)?;
    Ok(page::Results {
        host: host::describe(),
        idle,
        first,
        bubblewrap,
        docker,
        running,
        throughput,
        log,
        containers,
        history: effort.history,
        caches: effort.caches,
        restored,
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
