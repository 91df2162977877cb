//! Real builds by the real agent, in real containers. An agent must have one thread, so this is no ordinary test harness:
//! the agents are this program executed again, and each case is driven as a driver does it, over socket, journal and log.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::ExitCode;

#[path = "agent/cache.rs"]
mod cache;
#[path = "agent/commands.rs"]
mod commands;
#[path = "agent/logs.rs"]
mod logs;
#[path = "agent/races.rs"]
mod races;
#[path = "agent/references.rs"]
mod references;
#[path = "agent/reports.rs"]
mod reports;
#[path = "agent/runtimes.rs"]
mod runtimes;
#[path = "agent/world.rs"]
mod world;

/// A test and its name; its module is part of it.
type Case = (&'static str, fn());

/// Makes a list of cases of functions.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::Case] =
            &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}
pub(crate) use cases;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, folder] = arguments.as_slice()
        && flag == "--agent"
    {
        return agent::main(Path::new(folder));
    }
    if arguments.iter().any(|a| a == "--update") {
        logs::update();
        return ExitCode::SUCCESS;
    }
    if let [flag, tries] = arguments.as_slice()
        && flag == "--races"
    {
        races::race(tries.parse().expect("a number of tries"));
        return ExitCode::SUCCESS;
    }
    let is_exact = arguments.iter().any(|a| a == "--exact");
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-') && *a != "terse").collect();
    let is_wanted = |name: &str| {
        filters.is_empty() || filters.iter().any(|f| if is_exact { name == *f } else { name.contains(*f) })
    };
    let all = [
        cache::CASES,
        commands::CASES,
        logs::CASES,
        races::CASES,
        references::CASES,
        reports::CASES,
        runtimes::CASES,
    ]
    .into_iter()
    .flatten();
    let wanted: Vec<&Case> = all.filter(|(name, _)| is_wanted(name)).collect();
    if arguments.iter().any(|a| a == "--list") {
        let is_ignored = arguments.iter().any(|a| a == "--ignored");
        wanted.iter().filter(|_| !is_ignored).for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let failed: Vec<&str> = wanted.iter().filter(|case| !passes(case)).map(|(name, _)| *name).collect();
    println!("\n{} passed, {} failed", wanted.len() - failed.len(), failed.len());
    failed.iter().for_each(|name| println!("    {name}"));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes((name, run): &Case) -> bool {
    let passed = std::panic::catch_unwind(run).is_ok();
    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    passed
}
