//! `conformance`: docs/conformance.md, from the rows of the fact sheet, the tests that cite them and the differences.
//!
//! Here: writing or comparing the page, and what must hold before it may be written. The rows and what was said about
//! them are read by [`sheet`], citations are found by [`cited`] and told from other text by [`row`], and the page's
//! Markdown is [`page`]'s.

mod cited;
mod page;
mod row;
mod sheet;

use std::path::Path;

use crate::error::{Error, at};
use crate::tree;
use cited::Evidence;
use sheet::{Kind, Sheet};

pub(crate) const USAGE: &str = "[--check]";

const PAGE: &str = "docs/conformance.md";
const ROWS: &str = "docs/conformance/rows.toml";
const DIFFERENCES: &str = "docs/conformance/differences.toml";
const TEMPLATE: &str = "docs/conformance/template.md.in";

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err(Error::Usage(format!("  cargo xtask conformance {USAGE}"))),
    };
    let root = crate::root();
    let text = generate(&root)?;
    let path = root.join(PAGE);
    if !check {
        return std::fs::write(&path, text).map_err(at(&path));
    }
    if std::fs::read_to_string(&path).map_err(at(&path))? == text {
        Ok(())
    } else {
        Err(Error::Stale { command: "conformance", files: vec![PAGE.into()] })
    }
}

/// The page as it should be, unless something that it would say is not true.
fn generate(root: &Path) -> Result<String, Error> {
    let sheet = Sheet::read(&root.join(ROWS), &root.join(DIFFERENCES))?;
    let files = tree::text_files(root)?;
    let evidence = Evidence::gather(&sheet, &files);
    let mut findings = evidence.findings.clone();
    findings.extend(sheet.findings.iter().cloned());
    findings.extend(contradictions(&sheet, &evidence));
    findings.extend(missing(&sheet, &evidence));
    if !findings.is_empty() {
        return Err(Error::Untidy(findings));
    }
    let template = root.join(TEMPLATE);
    let template = std::fs::read_to_string(&template).map_err(at(&template))?;
    Ok(page::render(&template, &sheet, &evidence))
}

/// Rows that are said not to be there and are marked as kept in the code.
fn contradictions(sheet: &Sheet, evidence: &Evidence) -> Vec<String> {
    let absent = sheet.differences().filter(|(_, difference)| difference.is == Kind::NotThere);
    let kept = absent.filter_map(|(row, _)| Some((row, evidence.kept.get(row)?.first()?)));
    kept.map(|(row, path)| format!("{row} is not there, says {DIFFERENCES}, and kept, says {path}")).collect()
}

/// Promised rows about which nothing can be said, one line each.
fn missing(sheet: &Sheet, evidence: &Evidence) -> Vec<String> {
    let line = |row: &sheet::Row| {
        let said = sheet.difference(&row.id).is_some();
        let why = match (said, evidence.tests.contains_key(&row.id)) {
            (false, false) => "no test cites it, and no difference is told",
            (false, true) if row.is_unsure() => {
                "CodeBuild's way is not known for sure: the choice is to be told"
            }
            _ => return None,
        };
        Some(format!("{} [{}] {}: {why}", row.id, row.mark, row.what))
    };
    sheet.promised().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_page_is_what_the_repository_shows() {
        super::run(&["--check".into()]).unwrap();
    }
}
