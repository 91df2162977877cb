//! T08: a wall clock that jumps while builds wait, run and are asked for. Only the server and its agents see it: libfaketime reads the
//! present lie from a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::chance::Chance;
use super::kind::{Kind, TIMEOUT_MINUTES};
use super::ledger::{Entry, Ledger};
use super::load::{self, CLIENTS, Load, MIX, Mix};
use super::report::Figures;
use super::yard::{Options, Yard};
use super::{Setting, check};

/// F22 to F26: seconds by which the clock is then ahead, and what that is called.
const JUMPS: [(i64, &str); 6] = [
    (6 * 60, "+6 min"),
    (-6 * 60, "-6 min"),
    (365 * 86_400, "+1 year"),
    (-365 * 86_400, "-1 year"),
    (2, "+2 s"),
    (-2, "-2 s"),
];
/// How far off a timeout may be.
const TIMEOUT_SLACK: Duration = Duration::from_secs(5);

/// `is_whole`: with a build whose time runs out meanwhile, which takes five minutes.
pub(super) fn run(setting: &Setting, jumps: usize, is_whole: bool) -> Result<Figures, String> {
    let lie = setting.ledgers.join(format!("clock-{}", setting.seed));
    tell(&lie, 0)?;
    let variables = [
        ("LD_PRELOAD", library()?.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", lie.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let options = Options { concurrent_builds: 5, variables, ..Options::default() };
    let yard = Arc::new(Yard::make(&setting.binary, options)?);
    let ledger = Arc::new(Ledger::open(&setting.ledger("clock"))?);
    yard.start()?;
    yard.furnish()?;
    let endless = if is_whole { Some(watch_endless(&yard, &ledger)?) } else { None };
    let mix = Mix { repeats: false, pause_max: setting.pause_max / 2, ..MIX };
    let load = Load::start(&yard, &ledger, CLIENTS, mix, setting.seed);
    let mut chance = Chance::of(setting.seed);
    let jumped = (0..jumps).try_for_each(|_| jump(&yard, &ledger, &lie, &mut chance));
    let ran_out =
        endless.map(|watch| watch.join().unwrap_or_else(|_| Err("its watch panicked".into()))).transpose();
    tell(&lie, 0)?;
    yard.set_ahead(0);
    load.finish()?;
    jumped?;
    let ran_out = ran_out?;
    check::at_the_end(&yard, &ledger)?;
    let figures = Figures::of("T08 clock jumps", &ledger);
    Ok(match ran_out {
        Some(took) => {
            figures.with(format!("a timeout of {TIMEOUT_MINUTES} min came after {:.1} s", took.as_secs_f64()))
        }
        None => figures,
    })
}

fn jump(yard: &Yard, ledger: &Ledger, lie: &Path, chance: &mut Chance) -> Result<(), String> {
    let (seconds, name) = JUMPS[chance.below(JUMPS.len())];
    ledger.write(Entry::Fault { what: format!("clock {name}"), hurt: None });
    tell(lie, seconds)?;
    yard.set_ahead(seconds);
    std::thread::sleep(Duration::from_millis(200) + chance.up_to(Duration::from_millis(1500)));
    // A request that was signed before the jump may be refused after it; nothing else may.
    check::after_fault(yard, ledger)
}

/// Starts a build whose time runs out, and watches it from here on.
fn watch_endless(
    yard: &Arc<Yard>,
    ledger: &Arc<Ledger>,
) -> Result<JoinHandle<Result<Duration, String>>, String> {
    let id = load::start_one(yard, ledger, Kind::Endless, "endless")?;
    let (yard, ledger, begun) = (yard.clone(), ledger.clone(), Instant::now());
    Ok(std::thread::spawn(move || run_out(&yard, &ledger, &id, begun)))
}

/// How long a build ran whose time has run out (P7), by a clock that does not jump.
fn run_out(yard: &Yard, ledger: &Ledger, build: &str, begun: Instant) -> Result<Duration, String> {
    load::ended(yard, ledger, build)?;
    let took = begun.elapsed();
    let expected = Duration::from_secs(60 * TIMEOUT_MINUTES);
    ledger.book().examined.insert("P7");
    if took.abs_diff(expected) > TIMEOUT_SLACK {
        ledger.violation("P7", format!("{build} timed out after {took:?} instead of {expected:?}"));
    }
    Ok(took)
}

/// Written beside and renamed, so that nobody reads half of it.
fn tell(lie: &Path, seconds: i64) -> Result<(), String> {
    let beside = lie.with_extension("new");
    std::fs::write(&beside, format!("{seconds:+}\n"))
        .and_then(|()| std::fs::rename(&beside, lie))
        .map_err(|e| format!("{}: {e}", lie.display()))
}

fn library() -> Result<PathBuf, String> {
    let path =
        PathBuf::from(format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH));
    match path.is_file() {
        true => Ok(path),
        false => Err(format!("{} is not there: apt-get install libfaketime", path.display())),
    }
}
