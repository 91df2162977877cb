//! The engine, the store, agents that follow scripts and the clock in one thread, where a seed decides everything that could
//! happen one way or another: what clients ask, when a commit happens or fails, how far each task comes, when agents go on,
//! fail, hang or die, when the server is killed, what the clock says. One seed is one history, always the same.
//!
//! `cargo xtask simulate --seed N` tells one history; `--seeds N` tries many. As an ordinary test it tries a few.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers and all")]

use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use world::{History, World};

#[path = "simulation/agents.rs"]
mod agents;
#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/clients.rs"]
mod clients;
#[path = "simulation/ledger.rs"]
mod ledger;
#[path = "simulation/panics.rs"]
mod panics;
#[path = "simulation/server.rs"]
mod server;
#[path = "simulation/time.rs"]
mod time;
#[path = "simulation/world.rs"]
mod world;

/// What every run of the tests can afford.
const FEW: u64 = 40;
/// So many seeds apart, one is tried twice: it must be the same history.
const TWICE: u64 = 10;

/// Of so many seeds each time it is told how far it is.
const PROGRESS: u64 = 500;

type Case = (&'static str, fn() -> bool);

const CASES: &[Case] = &[
    ("no_history_breaks_a_promise", || many(0, FEW)),
    ("histories_are_as_different_as_their_seeds", || {
        World::live(1).unwrap().hash != World::live(2).unwrap().hash
    }),
];

fn main() -> ExitCode {
    panics::remember();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(at + 1)?.replace('_', "").parse().expect("a number"))
    };
    let passed = match (number("--seed"), number("--seeds")) {
        (Some(seed), _) => tell(seed),
        (None, Some(count)) => many(number("--from").unwrap_or(0), count),
        (None, None) => run_cases(&arguments),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What test runners ask of a program with tests.
fn run_cases(arguments: &[String]) -> bool {
    let is_exact = arguments.iter().any(|a| a == "--exact");
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-') && *a != "terse").collect();
    let is_wanted = |name: &str| {
        filters.is_empty() || filters.iter().any(|f| if is_exact { name == *f } else { name.contains(*f) })
    };
    let wanted = CASES.iter().filter(|(name, _)| is_wanted(name));
    if arguments.iter().any(|a| a == "--list") {
        let is_ignored = arguments.iter().any(|a| a == "--ignored");
        wanted.filter(|_| !is_ignored).for_each(|(name, _)| println!("{name}: test"));
        return true;
    }
    let failed = wanted.filter(|(name, run)| {
        let passed = run();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        !passed
    });
    failed.count() == 0
}

fn tell(seed: u64) -> bool {
    let history = World::tell(seed);
    match &history {
        Ok(history) => println!("seed {seed}: every promise was kept ({})", history.summary()),
        Err(broken) => println!("seed {seed}: {}", broken.what),
    }
    history.is_ok()
}

/// Tries seeds, on all processors; each is one thread's own.
fn many(from: u64, count: u64) -> bool {
    let begun = Instant::now();
    let (next, broken) = (AtomicU64::new(from), AtomicU64::new(0));
    let total = std::sync::Mutex::new(History::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= from + count {
                return;
            }
            if seed > from && (seed - from).is_multiple_of(PROGRESS) {
                println!("... at seed {seed}, {} broke a promise", broken.load(Relaxed));
            }
            match try_seed(seed) {
                Ok(history) => total.lock().unwrap().add(&history),
                Err(what) => {
                    broken.fetch_add(1, Relaxed);
                    println!("seed {seed}: {what}");
                }
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let (seconds, broken) = (begun.elapsed().as_secs_f64(), broken.into_inner());
    println!(
        "{count} seeds in {seconds:.1} s ({:.1}/s), {broken} broke a promise; {}",
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds,
        total.into_inner().unwrap().summary()
    );
    broken == 0
}

fn try_seed(seed: u64) -> Result<History, String> {
    let history = World::live(seed).map_err(|broken| broken.to_string())?;
    if seed.is_multiple_of(TWICE) {
        let again = World::live(seed).map_err(|broken| format!("the second time: {broken}"))?;
        if again.hash != history.hash {
            return Err(format!("two histories: {:016x} and {:016x}", history.hash, again.hash));
        }
    }
    Ok(history)
}
