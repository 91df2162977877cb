//! Buildspecs as teams write them, in tests/cases/buildspecs, and what each comes to, in the `.plan` beside it.
//! `UPDATE=1 cargo test -p buildspec plans` writes the plans anew; read the difference before committing it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use buildspec::{Severity, check, parse_bytes, plan};

/// As many as were promised, at least.
const CASES: usize = 60;

fn cases(extension: &str) -> Vec<PathBuf> {
    let folder = super::repository().join("tests/cases/buildspecs");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    cases.sort();
    cases
}

// BS-010..016, BS-020, BS-021, BS-030, BS-040, BS-042, BS-046, BS-049, BS-053, BS-055, BS-060, BS-070, BS-071, BS-075
// BS-080..083, BS-086, BS-090, BS-091, BS-110, BS-112, BS-113, BS-130, BS-133..140, BS-150, BS-152..154, BS-160..165, BS-168
#[test]
fn every_buildspec_comes_to_its_plan() {
    let cases = cases("yml");
    assert!(cases.len() >= CASES, "{}", cases.len());
    let update = std::env::var_os("UPDATE").is_some();
    let mut differ = Vec::new();
    for case in &cases {
        let parsed = parse_bytes(&std::fs::read(case).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let plan = plan(&parsed.buildspec);
        let path = case.with_extension("plan");
        if update {
            std::fs::write(&path, &plan).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != plan {
            differ.push(format!("{}:\n{plan}", path.display()));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn every_plan_has_its_buildspec() {
    let stems = |extension| -> BTreeSet<PathBuf> {
        cases(extension).iter().map(|path| path.with_extension("")).collect()
    };
    assert_eq!(stems("plan"), stems("yml"));
}

/// What the checker says about buildspecs that work is said in vain.
#[test]
fn buildspecs_that_work_are_hardly_warned_about() {
    for case in cases("yml") {
        let checked = check(&std::fs::read(&case).unwrap(), &[]);
        assert_eq!(checked.count(Severity::Error), 0, "{}", case.display());
        let warned: Vec<&str> = checked.findings.iter().map(|finding| finding.code.id()).collect();
        let expect: &[&str] = if case.ends_with(Path::new("sam-application.yml")) { &["BY104"] } else { &[] };
        assert_eq!(warned, expect, "{}", case.display());
    }
}
