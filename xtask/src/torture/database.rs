//! T10: a database that is busy, full or broken while it is written to, and a PostgreSQL that is killed, started again, or stands still.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::ledger::Ledger;
use super::report::Figures;
use super::tracer::Calls;
use super::windows::{Bounds, Failure, Windows};
use super::yard::{Options, Yard};
use super::{Setting, check, host};

/// F38 to F40, by failing the calls that SQLite makes.
pub(super) fn sqlite(setting: &Setting, windows: usize) -> Result<Figures, String> {
    let yard = Arc::new(Yard::make(&setting.binary, Options { concurrent_builds: 4, ..Options::default() })?);
    let ledger = Arc::new(Ledger::open(&setting.ledger("sqlite"))?);
    yard.start()?;
    yard.furnish()?;
    let records = yard.data().join("records.sqlite");
    // Agents have nothing to do with records: their builds end as if nothing were. Who reads needs a lock, and no write.
    let failure = |what, calls, error, is_total| {
        let reads_go_on = !matches!(calls, Calls::Locks(_));
        Failure { what, calls, error, role: None, is_total, hurts: None, reads_go_on }
    };
    let failures = [
        failure("SQLITE_BUSY: locks are held", Calls::Locks(records.clone()), Errno::EAGAIN, false),
        failure("SQLITE_FULL: writes", Calls::Writes(records.clone()), Errno::ENOSPC, true),
        failure("SQLITE_IOERR: writes", Calls::Writes(records.clone()), Errno::EIO, true),
        failure("SQLITE_IOERR: fsync", Calls::Syncs(records), Errno::EIO, true),
    ];
    let mut run = Windows::new(&yard, &ledger, setting.seed);
    run.run(setting, &failures, windows)?;
    let lines = run.told.lines();
    check::at_the_end(&yard, &ledger)?;
    let figures = Figures::of("T10 SQLite under faults", &ledger);
    Ok(lines.into_iter().fold(figures, Figures::with))
}

/// A PostgreSQL server of its own.
struct Postgres {
    folder: PathBuf,
    url: String,
}

impl Postgres {
    fn start(folder: &Path) -> Result<Postgres, String> {
        let url = script("start", folder)?;
        Ok(Postgres { folder: folder.to_owned(), url })
    }

    /// All of its processes stand still, or go on.
    fn signal(&self, signal: Signal) {
        let text = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
        let Some(first) = text.lines().next().and_then(|line| line.parse().ok()) else { return };
        host::descendants(first).into_iter().chain([first]).for_each(|process| host::signal(process, signal));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
        let _ = script("kill", &self.folder);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn script(command: &str, folder: &Path) -> Result<String, String> {
    let script = crate::root().join("tests/postgres");
    let output = Command::new(&script).arg(command).arg(folder).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// F42: the database goes away and comes back, or does not answer for a while.
pub(super) fn postgres(setting: &Setting, times: usize) -> Result<Figures, String> {
    let folder = std::env::temp_dir().join(format!("buildyard-torture-postgres-{}", std::process::id()));
    let database = Postgres::start(&folder)?;
    let options =
        Options { concurrent_builds: 4, database: Some(database.url.clone()), ..Options::default() };
    let yard = Arc::new(Yard::make(&setting.binary, options)?);
    let ledger = Arc::new(Ledger::open(&setting.ledger("postgres"))?);
    yard.start()?;
    yard.furnish()?;
    let mut run = Windows::new(&yard, &ledger, setting.seed);
    let load = run.load(setting);
    let outcome = (0..times).try_for_each(|number| interrupt(&mut run, &database, number % 2 == 0));
    load.finish()?;
    outcome?;
    let lines = run.told.lines();
    check::at_the_end(&yard, &ledger)?;
    let figures = Figures::of("T10 PostgreSQL that goes away", &ledger);
    Ok(lines.into_iter().fold(figures, Figures::with))
}

fn interrupt(run: &mut Windows, database: &Postgres, is_kill: bool) -> Result<(), String> {
    let known = run.known()?;
    let length = Duration::from_millis(200) + run.chance.up_to(Duration::from_secs(1));
    if is_kill {
        run.begin("kill -9 of PostgreSQL", false, None);
        script("kill", &database.folder)?;
        run.probe(&known, length, Bounds { nothing_is_kept: true, reads_go_on: false });
        script("start", &database.folder)?;
    } else {
        run.begin("PostgreSQL stands still", false, None);
        database.signal(Signal::SIGSTOP);
        // Whoever asks now waits for an answer: clients do, the probe does not.
        std::thread::sleep(length);
        database.signal(Signal::SIGCONT);
    }
    run.end()
}
