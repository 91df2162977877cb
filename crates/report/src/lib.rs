//! What test and coverage tools write into files, in one form: test cases, and coverages of files.
//!
//! Text in, values out. The files are written by builds, so nothing in them is trusted: see [`limits`]. Which files
//! there are, and what becomes of what they say, is not known here.

use std::borrow::Cow;

mod coverage;
mod cucumber;
mod detect;
mod error;
mod format;
mod junit;
pub mod limits;
mod nunit;
mod simplecov;
mod testng;
mod tests;
mod trx;
mod xml;
mod xml_coverage;

pub use coverage::{Coverage, Coverages, Ratio};
pub use detect::detect;
pub use error::{Error, Result};
pub use format::{Format, Kind};
pub use tests::{Status, TestCase, Tests};

/// What the files of one report say together.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Findings {
    Tests(Tests),
    Coverages(Coverages),
}

impl Findings {
    /// Nothing yet, of this kind.
    pub fn none(kind: Kind) -> Findings {
        match kind {
            Kind::Test => Findings::Tests(Tests::default()),
            Kind::CodeCoverage => Findings::Coverages(Coverages::default()),
        }
    }

    /// Adds what another file said. COMPAT: IN-110 the files of a group are one report.
    ///
    /// # Errors
    /// [`Error::TooMany`] beyond what one report may hold; [`Error::OtherKind`] for tests beside coverages.
    pub fn add(&mut self, more: Findings) -> Result<()> {
        match (self, more) {
            (Findings::Tests(tests), Findings::Tests(more)) => tests.add(more),
            (Findings::Coverages(coverages), Findings::Coverages(more)) => coverages.add(more),
            _ => Err(Error::OtherKind),
        }
    }

    /// Puts what was written by programs, which may be anything, through `change`: the texts of the cases that are kept.
    pub fn change_texts(&mut self, change: impl Fn(&str) -> String) {
        let Findings::Tests(tests) = self else { return };
        for case in &mut tests.cases {
            for text in [&mut case.prefix, &mut case.name, &mut case.suite, &mut case.message] {
                *text = change(text);
            }
        }
    }
}

/// Reads one file of this format.
///
/// # Errors
/// What the file is not, or has too much of; then nothing of it counts.
pub fn read(format: Format, text: &[u8]) -> Result<Findings> {
    if text.len() > limits::FILE_BYTES {
        return Err(Error::TooLarge { bytes: text.len(), limit: limits::FILE_BYTES });
    }
    let text = &*decoded(text);
    match format {
        Format::JunitXml => junit::read(text).map(Findings::Tests),
        Format::CucumberJson => cucumber::read(text).map(Findings::Tests),
        Format::NunitXml => nunit::read_2(text).map(Findings::Tests),
        Format::Nunit3Xml => nunit::read_3(text).map(Findings::Tests),
        Format::TestNgXml => testng::read(text).map(Findings::Tests),
        Format::VisualStudioTrx => trx::read(text).map(Findings::Tests),
        Format::CloverXml => xml_coverage::clover(text).map(Findings::Coverages),
        Format::CoberturaXml => xml_coverage::cobertura(text).map(Findings::Coverages),
        Format::JacocoXml => xml_coverage::jacoco(text).map(Findings::Coverages),
        Format::SimpleCov => simplecov::read(text).map(Findings::Coverages),
    }
}

/// As text, whatever it was written in: what is no character is replaced. .NET likes UTF-16.
fn decoded(bytes: &[u8]) -> Cow<'_, str> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        Cow::Owned(String::from_utf16_lossy(&units))
    };
    match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8_lossy(rest),
        [0xFF, 0xFE, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes),
    }
}
