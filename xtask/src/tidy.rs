//! `tidy`: the walls of ARCHITECTURE.md that can be seen in the text.
//!
//! Here: running the rules over the repository and naming what breaks them. The rules live apart: [`walls`] for
//! Rust code, [`dependencies`] for what a crate may use, [`names`] for words, [`files`] for every file, [`links`] for documents. What the
//! compiler, clippy and cargo-deny can tell is left to them.

mod dependencies;
mod files;
mod links;
mod names;
mod text;
mod walls;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use crate::error::Error;
use crate::tree;

pub(crate) const USAGE: &str = "";

/// Something that should not be there, and where.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// From the repository's root, with `/`.
    path: String,
    /// From 1; 0 for the file as a whole.
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    if !arguments.is_empty() {
        return Err(Error::Usage("  cargo xtask tidy".into()));
    }
    let findings = findings(&crate::root())?;
    if findings.is_empty() { Ok(()) } else { Err(Error::Untidy(findings)) }
}

/// What breaks a rule below `root`, one line each.
fn findings(root: &Path) -> Result<Vec<String>, Error> {
    let mut findings = dependencies::check(&dependencies::read(root)?);
    let all = tree::text_files(root)?;
    let paths: BTreeSet<String> = all.iter().map(|file| file.path.clone()).collect();
    for file in all {
        findings.extend(files::check(&file.path, &file.text));
        findings.extend(names::check_path(&file.path));
        if file.path.ends_with(".md") {
            findings.extend(links::check(&file.path, &file.text, &paths));
        }
        if file.path.ends_with(".rs") {
            let rust = text::Rust::read(&file.text);
            findings.extend(walls::check(&file.path, &rust));
            findings.extend(names::check_declarations(&file.path, &rust));
        }
    }
    Ok(findings.iter().map(Finding::to_string).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_keeps_its_own_rules() {
        let findings = super::findings(&crate::root()).unwrap();
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }
}
