//! The formats of report files.

use std::fmt;

use serde::{Deserialize, Serialize};

/// COMPAT: BS-113. `Display` gives CodeBuild's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Format {
    CloverXml,
    CoberturaXml,
    CucumberJson,
    JacocoXml,
    JunitXml,
    Nunit3Xml,
    NunitXml,
    SimpleCov,
    TestNgXml,
    VisualStudioTrx,
}

/// What a report of a format holds (BS-114).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    Test,
    CodeCoverage,
}

impl Kind {
    /// CodeBuild's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Test => "TEST",
            Kind::CodeCoverage => "CODE_COVERAGE",
        }
    }
}

impl Format {
    /// All, sorted by name.
    pub const ALL: [Format; 10] = [
        Format::CloverXml,
        Format::CoberturaXml,
        Format::CucumberJson,
        Format::JacocoXml,
        Format::JunitXml,
        Format::Nunit3Xml,
        Format::NunitXml,
        Format::SimpleCov,
        Format::TestNgXml,
        Format::VisualStudioTrx,
    ];

    /// CodeBuild's name.
    pub fn name(self) -> &'static str {
        match self {
            Format::CloverXml => "CLOVERXML",
            Format::CoberturaXml => "COBERTURAXML",
            Format::CucumberJson => "CUCUMBERJSON",
            Format::JacocoXml => "JACOCOXML",
            Format::JunitXml => "JUNITXML",
            Format::Nunit3Xml => "NUNIT3XML",
            Format::NunitXml => "NUNITXML",
            Format::SimpleCov => "SIMPLECOV",
            Format::TestNgXml => "TESTNGXML",
            Format::VisualStudioTrx => "VISUALSTUDIOTRX",
        }
    }

    /// The format of this name, in any case.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// COMPAT: BS-114.
    pub fn kind(self) -> Kind {
        match self {
            Format::CloverXml | Format::CoberturaXml | Format::JacocoXml | Format::SimpleCov => {
                Kind::CodeCoverage
            }
            _ => Kind::Test,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
