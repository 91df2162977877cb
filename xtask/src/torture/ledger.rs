//! What the server said, in the order in which it said it: a file that is only appended to, and what it comes to.
//!
//! An answer is written down before its client does anything else. The file is for whoever wants to know how a violation came about.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::kind::Kind;

/// A token means its build for five minutes of the server's clock; it is asked for again well before.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(240);

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// StartBuild or RetryBuild was answered with a build. It was asked for at this time first.
    Accepted {
        token: String,
        build: String,
        number: i64,
        kind: Kind,
        #[serde(skip)]
        asked: Instant,
    },
    /// The same token again, with what it had meant before.
    Repeated {
        token: String,
        build: String,
    },
    /// StopBuild is asked for: whether it comes in time, only the end tells.
    Stopping {
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
    /// Something was read, and not answered, while nothing stood in the way of reading.
    Unread {
        why: String,
    },
    /// The server ended though nobody ended it.
    GaveUp {
        last_words: String,
    },
    /// What was done to the server, or to what belongs to a build.
    Fault {
        what: String,
        hurt: Option<(String, Hurt)>,
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

/// What was done to a build, or to what it stands on. Each permits an end that the build would not have, and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Hurt {
    /// Its agent was killed.
    Agent,
    /// The first process of its container was.
    Init,
    /// The disk that it writes to failed.
    Disk,
}

impl Hurt {
    /// Whether a build that failed in a phase may end so.
    pub(super) fn may_end(self, phase: &str, status: &str) -> bool {
        match self {
            Hurt::Agent => status == "FAULT",
            // A container that is gone before it could be given to the build is no doing of the build's.
            Hurt::Init if phase == "PROVISIONING" => status == "FAULT",
            Hurt::Init => status == "FAILED",
            // What a command or an upload had no room for fails; what could not be recorded is a fault.
            Hurt::Disk => status == "FAULT" || status == "FAILED",
        }
    }
}

/// What is known of an accepted build.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) kind: Kind,
    pub(super) number: i64,
    /// When it was first asked for, and when that was answered.
    pub(super) asked: Instant,
    pub(super) accepted: Instant,
    /// When StopBuild was answered.
    pub(super) stopped: Option<Instant>,
    /// Its processes were looked for when it had to be gone.
    pub(super) is_stop_examined: bool,
    /// A stop was asked for: whether it came in time, only its end tells.
    pub(super) may_be_stopped: bool,
    /// What was done to it, and when.
    pub(super) hurts: Vec<(Hurt, Instant)>,
    /// The furthest that was seen of it: place of its phase, and when.
    pub(super) phase: (usize, Instant),
    /// What it ended as.
    pub(super) ended: Option<String>,
    pub(super) ended_at: Option<Instant>,
    /// Its log, artifact and witnesses were looked at after its end.
    pub(super) is_audited: bool,
}

impl Known {
    /// Since when it was hurt in some way.
    pub(super) fn hurt_since(&self, how: Hurt) -> Option<Instant> {
        self.hurts.iter().find(|(hurt, _)| *hurt == how).map(|(_, at)| *at)
    }
}

/// A request that was answered with a build, and must be for as long as its token holds.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) operation: &'static str,
    pub(super) input: Value,
    pub(super) token: String,
    pub(super) build: String,
    pub(super) at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) builds: BTreeMap<String, Known>,
    /// Builds in the order of their acceptance.
    pub(super) order: Vec<String>,
    pub(super) violations: Vec<(&'static str, String)>,
    said: BTreeSet<String>,
    /// Promises for which there was something to look at.
    pub(super) examined: BTreeSet<&'static str>,
    /// Statuses and types.
    pub(super) refusals: BTreeMap<(u16, String), usize>,
    pub(super) reads: usize,
    pub(super) unread: Vec<String>,
    pub(super) gave_up: Vec<String>,
    pub(super) repeated: usize,
    asked: Vec<Asked>,
    /// Something fails now; whatever is accepted meanwhile may be hurt so.
    pub(super) failing: Option<Option<Hurt>>,
    /// Since when nothing can be kept, as long as it is so.
    pub(super) nothing_kept_since: Option<Instant>,
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
    pub(super) fn hurt_open(&self, how: Hurt) {
        self.book()
            .builds
            .values_mut()
            .filter(|known| known.ended.is_none() && known.hurt_since(how).is_none())
            .for_each(|known| known.hurts.push((how, Instant::now())));
    }

    /// StartBuild or RetryBuild was answered with this: the build's id. `asked`: when it was asked for first, with this token.
    pub(super) fn accepted(&self, token: &str, answer: &Value, kind: Kind, asked: Instant) -> String {
        let build = answer["build"]["id"].as_str().unwrap_or_default().to_owned();
        let number = answer["build"]["buildNumber"].as_i64().unwrap_or_default();
        let (is_known, is_unkept) = {
            let book = self.book();
            (book.builds.contains_key(&build), book.nothing_kept_since.is_some_and(|since| asked > since))
        };
        if is_known {
            self.violation("P4", format!("token {token} is answered with {build}, which is another's"));
        }
        if is_unkept {
            self.violation("P12", format!("{build} was accepted while nothing could be kept"));
        }
        self.write(Entry::Accepted { token: token.to_owned(), build: build.clone(), number, kind, asked });
        build
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
            Entry::Accepted { build, number, kind, asked, .. } => self.accept(build, number, kind, asked),
            Entry::Repeated { .. } => self.repeated += 1,
            Entry::Stopping { build } => {
                if let Some(known) = self.builds.get_mut(&build) {
                    known.may_be_stopped = true;
                }
            }
            Entry::Stopped { build } => {
                if let Some(known) = self.builds.get_mut(&build) {
                    known.stopped = known.stopped.or(Some(Instant::now()));
                }
            }
            Entry::Refused { status, code, .. } => {
                *self.refusals.entry((status, code)).or_default() += 1;
            }
            Entry::Unread { why } => self.unread.push(why),
            Entry::GaveUp { last_words } => self.gave_up.push(last_words),
            Entry::Fault { what, hurt } => {
                *self.faults.entry(what).or_default() += 1;
                let Some((build, how)) = hurt else { return };
                if let Some(known) = self.builds.get_mut(&build) {
                    known.hurts.push((how, Instant::now()));
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

    fn accept(&mut self, build: String, number: i64, kind: Kind, asked: Instant) {
        let now = Instant::now();
        self.order.push(build.clone());
        let known = Known {
            kind,
            number,
            asked,
            accepted: now,
            stopped: None,
            is_stop_examined: false,
            may_be_stopped: false,
            hurts: self.failing.flatten().map(|how| (how, now)).into_iter().collect(),
            phase: (0, now),
            ended: None,
            ended_at: None,
            is_audited: false,
        };
        self.builds.insert(build, known);
    }

    /// What may be asked for again later.
    pub(super) fn remember(&mut self, asked: Asked) {
        self.asked.push(asked);
    }

    /// Requests of an operation whose tokens hold.
    pub(super) fn repeatable(&mut self, operation: &str) -> Vec<Asked> {
        self.asked.retain(|asked| asked.at.elapsed() < TOKEN_AGE_MAX);
        self.asked.iter().filter(|asked| asked.operation == operation).cloned().collect()
    }

    /// Builds whose stop is to be looked at: those that must be gone by now, or all that were not.
    pub(super) fn stopped(&self, is_all: bool, age: Duration) -> BTreeMap<String, Instant> {
        let open = self.builds.iter().filter(|(_, known)| !known.is_stop_examined);
        let stopped = open.filter_map(|(id, known)| Some((id.clone(), known.stopped?)));
        stopped.filter(|(_, at)| is_all || at.elapsed() > age).collect()
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
