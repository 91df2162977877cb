//! What the server said, in the order in which it said it: a file that is only appended to, and what it comes to.
//!
//! An answer is written down before its client does anything else. The file is for whoever wants to know how a violation came about.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use super::kind::Kind;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// StartBuild or RetryBuild was answered with a build.
    Accepted {
        token: String,
        build: String,
        number: i64,
        kind: Kind,
    },
    /// The same token again, with what it had meant before.
    Repeated {
        token: String,
        build: String,
    },
    /// StopBuild was answered.
    Stopped {
        build: String,
    },
    /// An answer that is an error of the server's own, to whom it does not matter.
    Refused {
        token: String,
        status: u16,
        code: String,
    },
    /// What was done to the server, or to what belongs to a build.
    Fault {
        what: String,
        build: Option<String>,
    },
    /// It answers again.
    Ready {
        milliseconds: u64,
    },
    Ended {
        build: String,
        status: String,
    },
    Violation {
        promise: &'static str,
        what: String,
    },
}

/// What is known of an accepted build.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) kind: Kind,
    pub(super) number: i64,
    /// When StopBuild was answered.
    pub(super) stopped: Option<Instant>,
    /// A stop was asked for: whether it came in time, only its end tells.
    pub(super) may_be_stopped: bool,
    /// Its own processes were hurt: it may end as a fault of ours, but only once.
    pub(super) was_hurt: bool,
    /// The furthest that was seen of it: place of its phase, and when.
    pub(super) phase: (usize, Instant),
    /// What it ended as.
    pub(super) ended: Option<String>,
    pub(super) ended_at: Option<Instant>,
    /// Its log, artifact and witnesses were looked at after its end.
    pub(super) is_audited: bool,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) builds: BTreeMap<String, Known>,
    /// Project and number to build.
    pub(super) numbers: BTreeMap<(String, i64), String>,
    /// Builds in the order of their acceptance.
    pub(super) order: Vec<String>,
    pub(super) violations: Vec<(&'static str, String)>,
    said: BTreeSet<String>,
    pub(super) refusals: BTreeMap<String, usize>,
    pub(super) repeated: usize,
    /// Whatever is accepted now may be hurt.
    pub(super) is_hurting: bool,
    /// Tokens that were asked for outside of any load, and not answered.
    pub(super) pending: Vec<String>,
    pub(super) faults: BTreeMap<String, usize>,
    pub(super) ready_ms: Vec<f64>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    file: Mutex<File>,
    book: Mutex<Book>,
    begun: Instant,
}

impl Ledger {
    pub(super) fn open(path: &Path) -> Result<Ledger, String> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.map_err(|e| format!("{}: {e}", path.display()))?;
        let (file, book) = (Mutex::new(file), Mutex::default());
        Ok(Ledger { path: path.to_owned(), file, book, begun: Instant::now() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, entry: Entry) {
        let line = json!({ "ms": self.begun.elapsed().as_millis() as u64, "did": entry });
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{line}") {
            eprintln!("torture: the ledger cannot be written: {error}");
        }
        drop(file);
        self.book().learn(entry);
    }

    /// Something was done that may have hurt any of the builds that are not over.
    pub(super) fn hurt_open(&self) {
        self.book()
            .builds
            .values_mut()
            .filter(|known| known.ended.is_none())
            .for_each(|known| known.was_hurt = true);
    }

    /// The same is said once.
    pub(super) fn violation(&self, promise: &'static str, what: String) {
        if self.book().said.insert(what.clone()) {
            eprintln!("torture: VIOLATION of {promise}: {what}");
            self.write(Entry::Violation { promise, what });
        }
    }
}

impl Book {
    fn learn(&mut self, entry: Entry) {
        match entry {
            Entry::Accepted { build, number, kind, .. } => self.accept(build, number, kind),
            Entry::Repeated { .. } => self.repeated += 1,
            Entry::Stopped { build } => {
                if let Some(known) = self.builds.get_mut(&build) {
                    known.stopped = known.stopped.or(Some(Instant::now()));
                }
            }
            Entry::Refused { status, code, .. } => {
                *self.refusals.entry(format!("{status} {code}")).or_default() += 1;
            }
            Entry::Fault { what, build } => {
                *self.faults.entry(what).or_default() += 1;
                if let Some(known) = build.and_then(|build| self.builds.get_mut(&build)) {
                    known.was_hurt = true;
                }
            }
            Entry::Ready { milliseconds } => self.ready_ms.push(milliseconds as f64),
            Entry::Ended { build, status } => {
                if let Some(known) = self.builds.get_mut(&build) {
                    known.ended = Some(status);
                    known.ended_at = Some(Instant::now());
                }
            }
            Entry::Violation { promise, what } => self.violations.push((promise, what)),
        }
    }

    fn accept(&mut self, build: String, number: i64, kind: Kind) {
        let project = build.split(':').next().unwrap_or_default().to_owned();
        self.numbers.insert((project, number), build.clone());
        self.order.push(build.clone());
        let known = Known {
            kind,
            number,
            stopped: None,
            may_be_stopped: false,
            was_hurt: self.is_hurting,
            phase: (0, Instant::now()),
            ended: None,
            ended_at: None,
            is_audited: false,
        };
        self.builds.insert(build, known);
    }

    /// Builds that are not known to be over.
    pub(super) fn open(&self) -> Vec<String> {
        let open = self.builds.iter().filter(|(_, known)| known.ended.is_none());
        open.map(|(build, _)| build.clone()).collect()
    }

    /// How many builds ended as what.
    pub(super) fn ends(&self) -> BTreeMap<String, usize> {
        let mut ends = BTreeMap::new();
        for known in self.builds.values() {
            *ends.entry(known.ended.clone().unwrap_or_else(|| "not over".into())).or_default() += 1;
        }
        ends
    }
}
