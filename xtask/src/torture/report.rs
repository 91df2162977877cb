//! What a run comes to, printed for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::bench::statistics::Sample;

use super::check::PROMISES;
use super::ledger::Ledger;

/// What one family of faults came to.
#[derive(Debug)]
pub(super) struct Figures {
    family: String,
    lines: Vec<String>,
    violations: Vec<(&'static str, String)>,
    /// Promises for which there was evidence.
    examined: BTreeSet<&'static str>,
    /// Whether what is not among them is told.
    is_of_all: bool,
}

impl Figures {
    pub(super) fn of(family: &str, ledger: &Ledger) -> Figures {
        let book = ledger.book();
        let mut lines = vec![format!("accepted builds: {} ({})", book.builds.len(), list(&book.ends()))];
        lines.push(format!("tokens asked for again: {}", book.repeated));
        if !book.faults.is_empty() {
            lines.push(format!("faults: {}", list(&book.faults)));
        }
        if !book.refusals.is_empty() {
            let refusals =
                book.refusals.iter().map(|((status, code), count)| (format!("{status} {code}"), *count));
            lines.push(format!("refusals: {}", list(&refusals.collect())));
        }
        if let Some(ready) = Sample::of(book.ready_ms.clone()) {
            lines.push(format!(
                "ready after kill -9: p50 {:.0} ms, p99 {:.0} ms, {} starts",
                ready.median(),
                ready.percentile(99),
                ready.count()
            ));
        }
        lines.push(format!("ledger: {}", ledger.path().display()));
        Figures {
            family: family.to_owned(),
            lines,
            violations: book.violations.clone(),
            examined: book.examined.clone(),
            is_of_all: true,
        }
    }

    /// Of what is checked elsewhere, by a test of its own: that is the one thing that is looked at.
    pub(super) fn told(family: &str, lines: Vec<String>) -> Figures {
        let examined = ["the test"].into();
        Figures { family: family.to_owned(), lines, violations: Vec::new(), examined, is_of_all: false }
    }

    pub(super) fn with(mut self, line: String) -> Figures {
        self.lines.push(line);
        self
    }

    /// Promises that were looked at and kept, and those that were not kept.
    pub(super) fn kept_and_broken(&self) -> (usize, usize) {
        let broken: BTreeSet<_> = self.violations.iter().map(|(promise, _)| *promise).collect();
        (self.examined.difference(&broken).count(), broken.len())
    }

    /// Those of which this says nothing.
    fn not_examined(&self) -> Vec<&'static str> {
        let all = PROMISES.iter().map(|promise| promise.name).filter(|_| self.is_of_all);
        all.filter(|name| !self.examined.contains(name)).collect()
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.family);
        for line in &self.lines {
            let _ = writeln!(text, "  {line}");
        }
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        self.violations.iter().for_each(|(promise, _)| *count.entry(promise).or_default() += 1);
        let _ = writeln!(text, "  violations: {}", self.violations.len());
        let not_examined = self.not_examined();
        if !not_examined.is_empty() {
            let _ = writeln!(text, "  not examined: {}", not_examined.join(", "));
        }
        for promise in &PROMISES {
            if let Some(count) = count.get(promise.name) {
                let _ = writeln!(text, "  {} of {}: {}", count, promise.name, promise.what);
            }
        }
        for (promise, what) in self.violations.iter().take(20) {
            let _ = writeln!(text, "    {promise}: {what}");
        }
        text
    }
}

fn list(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}
