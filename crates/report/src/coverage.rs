//! Coverages of source files, and what they come to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits;
use crate::limits::shortened;

/// Of lines, or of branches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ratio {
    pub covered: u64,
    pub missed: u64,
}

impl Ratio {
    /// 0..100; COMPAT: IN-109. Of nothing, 0.
    pub fn percentage(self) -> f64 {
        match self.covered.saturating_add(self.missed) {
            0 => 0.0,
            total => self.covered as f64 * 100.0 / total as f64,
        }
    }

    pub(crate) fn count(&mut self, is_covered: bool) {
        match is_covered {
            true => self.add(Ratio { covered: 1, missed: 0 }),
            false => self.add(Ratio { covered: 0, missed: 1 }),
        }
    }

    pub(crate) fn add(&mut self, more: Ratio) {
        self.covered = self.covered.saturating_add(more.covered).min(COUNT_MAX);
        self.missed = self.missed.saturating_add(more.missed).min(COUNT_MAX);
    }
}

/// What the API's integers hold; no source is that long.
const COUNT_MAX: u64 = i32::MAX as u64;

/// Of one source file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub lines: Ratio,
    pub branches: Ratio,
}

impl Coverage {
    pub(crate) fn add(&mut self, more: Coverage) {
        self.lines.add(more.lines);
        self.branches.add(more.branches);
    }
}

/// Of all source files, by path. What is said of one path more than once is added up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverages {
    pub files: BTreeMap<String, Coverage>,
}

impl Coverages {
    /// All files together.
    pub fn sum(&self) -> Coverage {
        let mut sum = Coverage::default();
        self.files.values().for_each(|one| sum.add(*one));
        sum
    }

    pub(crate) fn push(&mut self, path: &str, coverage: Coverage) -> Result<()> {
        self.files.entry(shortened(path, limits::NAME_BYTES)).or_default().add(coverage);
        if self.files.len() > limits::SOURCE_FILES {
            return Err(Error::TooMany { what: "source files", limit: limits::SOURCE_FILES });
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, more: Coverages) -> Result<()> {
        more.files.into_iter().try_for_each(|(path, coverage)| self.push(&path, coverage))
    }
}
