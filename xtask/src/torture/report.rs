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
    /// How many promises were looked at.
    promises: usize,
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
            lines.push(format!("refusals: {}", list(&book.refusals)));
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
            promises: PROMISES.len(),
        }
    }

    /// Of what is checked elsewhere, by a test of its own.
    pub(super) fn told(family: &str, lines: Vec<String>) -> Figures {
        Figures { family: family.to_owned(), lines, violations: Vec::new(), promises: 1 }
    }

    /// Not all of them, but so many.
    pub(super) fn of_promises(self, promises: usize) -> Figures {
        Figures { promises, ..self }
    }

    pub(super) fn with(mut self, line: String) -> Figures {
        self.lines.push(line);
        self
    }

    /// Promises that were kept, and those that were not.
    pub(super) fn kept_and_broken(&self) -> (usize, usize) {
        let broken: BTreeSet<_> = self.violations.iter().map(|(promise, _)| promise).collect();
        (self.promises.saturating_sub(broken.len()), broken.len())
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.family);
        for line in &self.lines {
            let _ = writeln!(text, "  {line}");
        }
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        self.violations.iter().for_each(|(promise, _)| *count.entry(promise).or_default() += 1);
        let _ = writeln!(text, "  violations: {}", self.violations.len());
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
