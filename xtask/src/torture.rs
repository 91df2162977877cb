//! `cargo xtask torture`: tries to break the promises of docs/reliability.md on the running product, and counts how often that was possible.
//!
//! A family of faults is a module and a row in [`FAMILIES`]. Each drives a server of its own ([`yard`]) with clients ([`load`]) whose every answer is in a
//! [`ledger`], and has the [`check`]s made after each fault. Figures go to standard output; a violation makes the command fail.

mod api;
mod chance;
mod check;
mod clock;
mod database;
mod disk;
mod elsewhere;
mod host;
mod kills;
mod kind;
mod ledger;
mod load;
mod points;
mod queue;
mod report;
mod tracer;
mod windows;
mod witness;
mod yard;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::Error;
use report::Figures;

pub(crate) const USAGE: &str = "[--short | --percent N] [--seed N] [--ledgers FOLDER] [FAMILY...]    break promises P1 to P12 by kills and other faults \
     (families: kills, points, ready, disk, full, clock, sqlite, postgres, queue, transfers, logs)";

/// What all families are told.
#[derive(Debug, Clone)]
struct Setting {
    binary: PathBuf,
    seed: u64,
    ledgers: PathBuf,
    /// Of the whole, in hundredths; none for the short form.
    percent: Option<usize>,
    /// Between the builds of a client.
    pause_max: Duration,
}

impl Setting {
    /// So much of what the whole run has, or what the short one has.
    fn scaled(&self, whole: usize, short: usize) -> usize {
        self.percent.map_or(short, |percent| (whole * percent / 100).max(1))
    }

    fn ledger(&self, family: &str) -> PathBuf {
        self.ledgers.join(format!("{family}-{}.jsonl", self.seed))
    }
}

struct Family {
    name: &'static str,
    run: fn(&Setting) -> Result<Figures, String>,
    is_in_short: bool,
}

const FAMILIES: &[Family] = &[
    Family { name: "kills", run: kills, is_in_short: true },
    Family { name: "points", run: points, is_in_short: true },
    Family { name: "ready", run: ready, is_in_short: true },
    Family {
        name: "disk",
        run: |setting| disk::failing(setting, setting.scaled(200, 12)),
        is_in_short: true,
    },
    Family { name: "full", run: |setting| disk::full(setting, setting.scaled(200, 5)), is_in_short: true },
    Family { name: "clock", run: clock, is_in_short: true },
    Family {
        name: "sqlite",
        run: |setting| database::sqlite(setting, setting.scaled(200, 8)),
        is_in_short: true,
    },
    Family {
        name: "postgres",
        run: |setting| database::postgres(setting, setting.scaled(100, 2)),
        is_in_short: true,
    },
    Family { name: "queue", run: queue, is_in_short: true },
    Family {
        name: "transfers",
        run: |setting| elsewhere::transfers(setting, setting.scaled(2_000, 40)),
        is_in_short: false,
    },
    Family {
        name: "logs",
        run: |setting| elsewhere::logs(setting, setting.scaled(100, 1)),
        is_in_short: false,
    },
];

fn clock(setting: &Setting) -> Result<Figures, String> {
    clock::run(setting, setting.scaled(200, 8), setting.percent.is_some())
}

fn queue(setting: &Setting) -> Result<Figures, String> {
    let amount = queue::Amount { builds: setting.scaled(10_000, 200), projects: setting.scaled(50, 10) };
    queue::run(setting, amount)
}

fn kills(setting: &Setting) -> Result<Figures, String> {
    let amount = kills::Amount {
        kills: setting.scaled(1_000, 25),
        until_kill: Duration::from_millis(if setting.percent.is_some() { 2_000 } else { 600 }),
        stops: setting.scaled(20, 1),
        stop_length: Duration::from_secs(if setting.percent.is_some() { 10 } else { 2 }),
        told_every: 25,
    };
    kills::run(setting, amount)
}

/// All points, or a few of each.
fn points(setting: &Setting) -> Result<Figures, String> {
    let most = match setting.percent {
        Some(100..) => None,
        Some(percent) => Some(3 * percent),
        None => Some(3),
    };
    points::run(setting, most)
}

fn ready(setting: &Setting) -> Result<Figures, String> {
    kills::ready_with_history(
        setting,
        setting.scaled(100_000, 0),
        setting.scaled(1_000, 20),
        setting.scaled(100, 5),
    )
}

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let (setting, families) = read(arguments)?;
    std::fs::create_dir_all(&setting.ledgers).map_err(crate::error::at(&setting.ledgers))?;
    println!("seed {}, {}", setting.seed, setting.binary.display());
    let (mut kept, mut broken) = (0, 0);
    for family in families {
        let begun = Instant::now();
        let figures = (family.run)(&setting).map_err(|e| Error::Torture(format!("{}: {e}", family.name)))?;
        let figures = figures.with(format!("took {:.0} s", begun.elapsed().as_secs_f64()));
        print!("{}", figures.text());
        let (more_kept, more_broken) = figures.kept_and_broken();
        (kept, broken) = (kept + more_kept, broken + more_broken);
    }
    // Promises, each of them once for each family.
    println!("torture: {kept} passed, {broken} failed");
    match broken {
        0 => Ok(()),
        _ => Err(Error::Torture(format!("{broken} promise(s) broken"))),
    }
}

fn usage() -> Error {
    Error::Usage(format!("  cargo xtask torture {USAGE}"))
}

fn read(arguments: &[String]) -> Result<(Setting, Vec<&'static Family>), Error> {
    let mut setting = Setting {
        binary: binary()?,
        seed: chance::Chance::seed(),
        ledgers: crate::root().join("target/torture"),
        percent: Some(100),
        pause_max: Duration::from_millis(4000),
    };
    let mut names = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--short" => setting.percent = None,
            "--percent" => setting.percent = Some(number(words.next())?),
            "--seed" => setting.seed = number(words.next())? as u64,
            "--ledgers" => setting.ledgers = words.next().ok_or_else(usage)?.into(),
            name => names.push(FAMILIES.iter().find(|family| family.name == name).ok_or_else(usage)?),
        }
    }
    if names.is_empty() {
        names.extend(FAMILIES.iter().filter(|family| setting.percent.is_some() || family.is_in_short));
    }
    Ok((setting, names))
}

fn number(word: Option<&String>) -> Result<usize, Error> {
    word.and_then(|word| word.parse().ok()).ok_or_else(usage)
}

fn binary() -> Result<PathBuf, Error> {
    let built = std::env::var_os("BUILDYARD").map(PathBuf::from);
    let binary = built.unwrap_or_else(|| crate::root().join("target/release/buildyard"));
    match binary.is_file() {
        true => Ok(binary),
        false => {
            Err(Error::Torture(format!("{} is not there; run cargo build --release first", binary.display())))
        }
    }
}
