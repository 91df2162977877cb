//! The rows of the fact sheet and what is said of them: `docs/conformance/rows.toml` and `differences.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::row::{self, Named};
use crate::error::{Error, at};

/// Something that is known, or not, of CodeBuild.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: String,
    /// The letters of the page's legend, such as `S/?`.
    pub(super) mark: String,
    pub(super) what: String,
}

impl Row {
    /// Whether what CodeBuild does had to be guessed, in part at least.
    pub(super) fn is_unsure(&self) -> bool {
        self.mark.contains(['?', 'R'])
    }
}

/// What Buildyard does about a row, where a test alone would not tell.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Difference {
    pub(super) is: Kind,
    /// What is done here, as a user would notice.
    pub(super) here: String,
    /// The reason.
    pub(super) why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Known, and done in another way.
    Different,
    /// Known, and left out.
    NotThere,
    /// Not known for sure; a choice was made.
    Decided,
}

pub(super) struct Sheet {
    /// By section title, in the order of the page.
    pub(super) sections: Vec<(String, Vec<Row>)>,
    /// By row: the difference's own key in the file, a row or a range, and the difference.
    differences: BTreeMap<String, (Named, Difference)>,
    promised: Vec<Named>,
    /// What the two files say that cannot be.
    pub(super) findings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowsFile {
    promised: Vec<String>,
    section: Vec<SectionEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SectionEntry {
    title: String,
    /// Id, mark, what.
    rows: Vec<(String, String, String)>,
}

impl Sheet {
    pub(super) fn read(rows: &Path, differences: &Path) -> Result<Sheet, Error> {
        Ok(Sheet::new(toml(rows)?, toml(differences)?))
    }

    fn new(file: RowsFile, differences: BTreeMap<String, Difference>) -> Sheet {
        let row = |(id, mark, what)| Row { id, mark, what };
        let section = |entry: SectionEntry| (entry.title, entry.rows.into_iter().map(row).collect());
        let mut sheet = Sheet {
            sections: file.section.into_iter().map(section).collect(),
            differences: BTreeMap::new(),
            promised: Vec::new(),
            findings: Vec::new(),
        };
        sheet.check_rows();
        for text in file.promised {
            match sheet.range(&text) {
                Ok(range) => sheet.promised.push(range),
                Err(finding) => sheet.findings.push(format!("promised: {finding}")),
            }
        }
        for (key, difference) in differences {
            if let Err(finding) = sheet.add(&key, difference) {
                sheet.findings.push(format!("differences: {finding}"));
            }
        }
        sheet
    }

    /// Every row, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections.iter().flat_map(|(_, rows)| rows)
    }

    /// The rows that must be shown by a test or told as a difference.
    pub(super) fn promised(&self) -> impl Iterator<Item = &Row> {
        self.rows().filter(|row| self.promised.iter().any(|range| within(range, &row.id)))
    }

    /// The rows of a citation; none if it names one that is not there.
    pub(super) fn resolve(&self, named: &Named) -> Option<Vec<&str>> {
        let ids: Vec<&str> = self.rows().map(|row| row.id.as_str()).filter(|id| within(named, id)).collect();
        let ends = [&named.first, &named.last];
        ends.iter().all(|end| ids.contains(&end.as_str())).then_some(ids)
    }

    pub(super) fn difference(&self, id: &str) -> Option<&Difference> {
        self.differences.get(id).map(|(_, difference)| difference)
    }

    /// The row under which the difference is told, if it is told of several at once and not under `id`.
    pub(super) fn told_under(&self, id: &str) -> Option<&str> {
        let (key, _) = self.differences.get(id)?;
        (key.first != id).then_some(key.first.as_str())
    }

    pub(super) fn differences(&self) -> impl Iterator<Item = (&str, &Difference)> {
        self.differences.iter().map(|(row, (_, difference))| (row.as_str(), difference))
    }

    fn check_rows(&mut self) {
        let mut seen = std::collections::BTreeSet::new();
        let mut findings = Vec::new();
        for row in self.rows() {
            if row::named(&row.id).first().is_none_or(|named| named.first != row.id) {
                findings.push(format!("rows: {:?} is no id", row.id));
            }
            if !seen.insert(&row.id) {
                findings.push(format!("rows: {} is there twice", row.id));
            }
            if row.mark.is_empty()
                || !row.mark.split('/').all(|mark| ["S", "O", "I", "R", "?"].contains(&mark))
            {
                findings.push(format!("rows: {}: the mark is {:?}, not of S O I R ?", row.id, row.mark));
            }
        }
        self.findings = findings;
    }

    fn add(&mut self, key: &str, difference: Difference) -> Result<(), String> {
        let range = self.range(key)?;
        if difference.here.trim().is_empty() || difference.why.trim().is_empty() {
            return Err(format!("{key}: `here` and `why` say something"));
        }
        let ids: Vec<String> = self.resolve(&range).into_iter().flatten().map(str::to_owned).collect();
        for id in ids {
            let told = (range.clone(), difference.clone());
            if self.differences.insert(id.clone(), told).is_some() {
                return Err(format!("{id} is told of twice"));
            }
        }
        Ok(())
    }

    fn range(&self, text: &str) -> Result<Named, String> {
        let named = row::named(text).pop().ok_or_else(|| format!("{text:?} is no row and no range"))?;
        self.resolve(&named).map(|_| named.clone()).ok_or_else(|| format!("{text}: no such row"))
    }
}

/// Whether the id lies in the range. Ids of one family sort as their text does.
fn within(range: &Named, id: &str) -> bool {
    range.first.as_str() <= id && id <= range.last.as_str()
}

fn toml<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(at(path))?;
    toml::from_str(&text).map_err(|source| Error::Toml { path: path.into(), source })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const ROWS: &str = r#"
promised = ["BS-001..003"]
[[section]]
title = "Where"
rows = [["BS-001", "S", "one"], ["BS-002", "S/?", "two"], ["BS-003", "O", "three"], ["LC-084a", "R", "four"]]
"#;

    pub(in crate::conformance) fn sheet(differences: &str) -> Sheet {
        Sheet::new(toml::from_str(ROWS).unwrap(), toml::from_str(differences).unwrap())
    }

    #[test]
    fn a_range_tells_of_every_row_in_it() {
        let sheet = sheet(r#""BS-001..002" = { is = "not-there", here = "refused", why = "later" }"#);
        assert_eq!(sheet.findings, [] as [&str; 0]);
        assert_eq!(sheet.difference("BS-002").unwrap().is, Kind::NotThere);
        assert_eq!((sheet.told_under("BS-001"), sheet.told_under("BS-002")), (None, Some("BS-001")));
        assert!(sheet.difference("BS-003").is_none());
        assert_eq!(sheet.promised().count(), 3);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let findings = |text: &str| sheet(text).findings;
        let entry = r#"{ is = "decided", here = "so", why = "therefore" }"#;
        assert_eq!(findings(&format!("BS-009 = {entry}")), ["differences: BS-009: no such row"]);
        assert_eq!(
            findings(&format!("\"BS-002..001\" = {entry}")),
            ["differences: BS-002..001: no such row"]
        );
        assert_eq!(
            findings(&format!("\"BS-001..002\" = {entry}\nBS-002 = {entry}")),
            ["differences: BS-002 is told of twice"]
        );
        let silent = r#"BS-001 = { is = "decided", here = " ", why = "x" }"#;
        assert_eq!(findings(silent), ["differences: BS-001: `here` and `why` say something"]);
    }

    #[test]
    fn a_row_half_of_which_is_a_guess_is_unsure() {
        let sheet = sheet("");
        let unsure: Vec<&str> =
            sheet.rows().filter(|row| row.is_unsure()).map(|row| row.id.as_str()).collect();
        assert_eq!(unsure, ["BS-002", "LC-084a"]);
    }
}
