//! The page's Markdown.

use std::collections::BTreeSet;

use super::cited::{Evidence, Test};
use super::row::FAMILIES;
use super::sheet::{Kind, Row, Sheet};

/// Tests named for one row; more of them are counted.
const NAMED_TESTS: usize = 3;

/// Puts counts and tables into the template: `{counts}`, and `{rows:BS}` for each family.
pub(super) fn render(template: &str, sheet: &Sheet, evidence: &Evidence) -> String {
    let mut text = template.replace("{counts}", counts(sheet, evidence).trim_end());
    for (family, _) in FAMILIES {
        text = text.replace(&format!("{{rows:{family}}}"), tables(family, sheet, evidence).trim_end());
    }
    text
}

/// What can be said of a row, in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Shown,
    Decided,
    Different,
    NotThere,
    Kept,
    Silent,
}

const STATES: [(State, &str); 6] = [
    (State::Shown, "as CodeBuild"),
    (State::Decided, "our choice"),
    (State::Different, "different"),
    (State::NotThere, "not there"),
    (State::Kept, "kept, no test"),
    (State::Silent, "not looked at"),
];

fn state(row: &Row, sheet: &Sheet, evidence: &Evidence) -> State {
    match sheet.difference(&row.id).map(|difference| difference.is) {
        Some(Kind::Decided) => State::Decided,
        Some(Kind::Different) => State::Different,
        Some(Kind::NotThere) => State::NotThere,
        None if evidence.tests.contains_key(&row.id) => State::Shown,
        None if evidence.kept.contains_key(&row.id) => State::Kept,
        None => State::Silent,
    }
}

fn counts(sheet: &Sheet, evidence: &Evidence) -> String {
    let heads: Vec<&str> = STATES.iter().map(|(_, name)| *name).collect();
    let mut text = format!("| | rows | {} |\n|---|{}\n", heads.join(" | "), "--:|".repeat(heads.len() + 1));
    for (family, name) in FAMILIES {
        text.push_str(&counted(name, of(family, sheet), sheet, evidence));
    }
    text.push_str(&counted("**all**", sheet.rows().collect(), sheet, evidence));
    let tests: BTreeSet<&Test> = evidence.tests.values().flatten().collect();
    text.push_str(&format!("\n{} tests and case files cite {} rows.\n", tests.len(), evidence.tests.len()));
    text
}

fn counted(name: &str, rows: Vec<&Row>, sheet: &Sheet, evidence: &Evidence) -> String {
    let states: Vec<State> = rows.iter().map(|row| state(row, sheet, evidence)).collect();
    let count = |wanted: State| states.iter().filter(|state| **state == wanted).count().to_string();
    let counts: Vec<String> = STATES.iter().map(|(state, _)| count(*state)).collect();
    format!("| {name} | {} | {} |\n", rows.len(), counts.join(" | "))
}

fn of<'a>(family: &str, sheet: &'a Sheet) -> Vec<&'a Row> {
    sheet.rows().filter(|row| row.id.starts_with(family)).collect()
}

fn tables(family: &str, sheet: &Sheet, evidence: &Evidence) -> String {
    let mut text = String::new();
    for (title, rows) in &sheet.sections {
        if !rows.first().is_some_and(|row| row.id.starts_with(family)) {
            continue;
        }
        text.push_str(&format!("### {title}\n\n| Row | CodeBuild | | Buildyard |\n|---|---|---|---|\n"));
        for row in rows {
            let here = here(row, sheet, evidence);
            text.push_str(&format!("| {} | {} | {} | {here} |\n", row.id, cell(&row.what), row.mark));
        }
        text.push('\n');
    }
    text
}

/// What Buildyard does about a row and where that is shown.
fn here(row: &Row, sheet: &Sheet, evidence: &Evidence) -> String {
    let tests = evidence.tests.get(&row.id).map(|tests| shown_by(tests));
    let kept = || Some(format!("kept in {}", links(evidence.kept.get(&row.id)?)));
    let shown = tests.or_else(kept);
    match (told(row, sheet), shown) {
        (Some(told), Some(shown)) => format!("{told} ({shown})"),
        (Some(told), None) => told,
        (None, Some(shown)) => shown,
        (None, None) => "not looked at".into(),
    }
}

fn told(row: &Row, sheet: &Sheet) -> Option<String> {
    let difference = sheet.difference(&row.id)?;
    let kind = match difference.is {
        Kind::Different => "Different",
        Kind::NotThere => "Not there",
        Kind::Decided => "Our choice",
    };
    Some(match sheet.told_under(&row.id) {
        Some(other) => format!("**{kind}**, see {other}"),
        None => format!("**{kind}**: {}. *{}.*", cell(&difference.here), cell(&difference.why)),
    })
}

fn shown_by(tests: &[Test]) -> String {
    let named: Vec<String> = tests.iter().take(NAMED_TESTS).map(test_link).collect();
    let more = match tests.len().saturating_sub(NAMED_TESTS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", named.join(", "))
}

fn test_link(test: &Test) -> String {
    let file = test.path.rsplit('/').next().unwrap_or(&test.path);
    let name = test.function.as_deref().unwrap_or(file);
    format!("[`{name}`](../{})", test.path)
}

fn links(paths: &[String]) -> String {
    let link = |path: &String| {
        let name = path.trim_start_matches("crates/").replace("/src/", "/");
        format!("[`{name}`](../{path})")
    };
    paths.iter().map(link).collect::<Vec<_>>().join(", ")
}

/// Text that may stand in a cell.
fn cell(text: &str) -> String {
    text.trim().trim_end_matches('.').replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::sheet::tests::sheet;
    use crate::tree::TextFile;

    #[test]
    fn the_page_says_of_each_row_what_is_known() {
        let sheet = sheet(r#"BS-002 = { is = "decided", here = "so | so.", why = "as it is usual" }"#);
        let text = "// BS-001\n#[test]\nfn a() {\n}\n".into();
        let evidence = Evidence::gather(&sheet, &[TextFile { path: "crates/a/tests/a.rs".into(), text }]);
        let page = render("{counts}\n\n{rows:BS}\n", &sheet, &evidence);
        for line in [
            "| **all** | 4 | 1 | 1 | 0 | 0 | 0 | 2 |",
            "1 tests and case files cite 1 rows.",
            "| BS-001 | one | S | [`a`](../crates/a/tests/a.rs) |",
            "| BS-002 | two | S/? | **Our choice**: so \\| so. *as it is usual.* |",
            "| BS-003 | three | O | not looked at |",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}
