//! Test cases, and what they come to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits;
use crate::limits::shortened;

/// COMPAT: IN-102.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    Succeeded,
    Failed,
    Error,
    Skipped,
    Unknown,
}

impl Status {
    pub const ALL: [Status; 5] =
        [Status::Succeeded, Status::Failed, Status::Error, Status::Skipped, Status::Unknown];

    /// CodeBuild's name.
    pub fn name(self) -> &'static str {
        match self {
            Status::Succeeded => "SUCCEEDED",
            Status::Failed => "FAILED",
            Status::Error => "ERROR",
            Status::Skipped => "SKIPPED",
            Status::Unknown => "UNKNOWN",
        }
    }

    /// Whether it is the first that a reader wants to see.
    pub fn is_bad(self) -> bool {
        matches!(self, Status::Failed | Status::Error)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCase {
    /// What groups cases in the file: a class, a feature.
    pub prefix: String,
    pub name: String,
    /// The suite's name; empty if the file has none.
    pub suite: String,
    pub status: Status,
    /// Nanoseconds.
    pub duration_ns: u64,
    /// Why it did not succeed; empty if the file does not say.
    pub message: String,
}

/// All cases counted, and some of them kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tests {
    pub counts: BTreeMap<Status, u64>,
    /// Nanoseconds of all cases together.
    pub duration_ns: u64,
    /// In the order of the file, at most [`limits::KEPT_CASES`].
    pub cases: Vec<TestCase>,
}

impl Tests {
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether there were more cases than are kept.
    pub fn is_truncated(&self) -> bool {
        self.total() > self.cases.len() as u64
    }

    /// COMPAT: IN-100 a report succeeds if every case did, and one that was skipped did not.
    pub fn succeeded(&self) -> bool {
        self.counts.iter().all(|(status, count)| *status == Status::Succeeded || *count == 0)
    }

    pub(crate) fn push(&mut self, case: TestCase) -> Result<()> {
        *self.counts.entry(case.status).or_default() += 1;
        if self.total() > limits::CASES {
            return Err(Error::TooMany { what: "test cases", limit: limits::CASES as usize });
        }
        self.duration_ns = self.duration_ns.saturating_add(case.duration_ns);
        self.keep(case);
        Ok(())
    }

    /// COMPAT: IN-103 what failed is kept before what did not.
    fn keep(&mut self, case: TestCase) {
        if self.cases.len() >= limits::KEPT_CASES {
            // A case is displaced at most once, so this does not happen more often than there is room.
            let displaced = match case.status.is_bad() {
                true => self.cases.iter().rposition(|kept| !kept.status.is_bad()),
                false => None,
            };
            let Some(displaced) = displaced else { return };
            self.cases.remove(displaced);
        }
        self.cases.push(TestCase {
            prefix: shortened(&case.prefix, limits::NAME_BYTES),
            name: shortened(&case.name, limits::NAME_BYTES),
            suite: shortened(&case.suite, limits::NAME_BYTES),
            message: shortened(&case.message, limits::MESSAGE_BYTES),
            ..case
        });
    }

    pub(crate) fn add(&mut self, more: Tests) -> Result<()> {
        for (status, count) in more.counts {
            *self.counts.entry(status).or_default() += count;
        }
        if self.total() > limits::CASES {
            return Err(Error::TooMany { what: "test cases", limit: limits::CASES as usize });
        }
        self.duration_ns = self.duration_ns.saturating_add(more.duration_ns);
        more.cases.into_iter().for_each(|case| self.keep(case));
        Ok(())
    }
}

/// Nanoseconds, from seconds as tools write them: `1.5`, `1,234.5`. What is no number took no time.
pub(crate) fn seconds(text: &str) -> u64 {
    let number = if text.contains('.') { text.replace(',', "") } else { text.replace(',', ".") };
    nanoseconds(number.trim().parse().unwrap_or(0.0))
}

pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    // Rounded to microseconds, below which no tool writes: binary fractions would show.
    let microseconds = (seconds * 1e6).round();
    if microseconds.is_finite() { (microseconds.max(0.0) as u64).saturating_mul(1000) } else { 0 }
}

/// A message and the text below it.
pub(crate) fn joined(message: &str, text: &str) -> String {
    let (message, text) = (message.trim(), text.trim());
    match (message.is_empty(), text.is_empty()) {
        (_, true) => message.to_owned(),
        (true, _) => text.to_owned(),
        _ => format!("{message}\n{text}"),
    }
}
