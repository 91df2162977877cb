//! What a run comes to, printed for people.

use std::collections::BTreeMap;
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
        Figures { family: family.to_owned(), lines, violations: book.violations.clone() }
    }

    /// Of what is checked elsewhere, by a test of its own.
    pub(super) fn told(family: &str, lines: Vec<String>) -> Figures {
        Figures { family: family.to_owned(), lines, violations: Vec::new() }
    }

    pub(super) fn with(mut self, line: String) -> Figures {
        self.lines.push(line);
        self
    }

    pub(super) fn broken(&self) -> usize {
        self.violations.len()
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.family);
        for line in &self.lines {
            let _ = writeln!(text, "  {line}");
        }
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        self.violations.iter().for_each(|(promise, _)| *count.entry(promise).or_default() += 1);
        let each = PROMISES.iter().map(|p| format!("{} {}", p.name, count.get(p.name).unwrap_or(&0)));
        let _ = writeln!(
            text,
            "  violations: {} ({})",
            self.violations.len(),
            each.collect::<Vec<_>>().join(", ")
        );
        for (promise, what) in self.violations.iter().take(20) {
            let _ = writeln!(text, "    {promise}: {what}");
        }
        text
    }
}

fn list(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}
