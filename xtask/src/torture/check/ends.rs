//! P2: each build has one end, the one it should have, and goes forward to it; numbers are unique and rise.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use crate::torture::ledger::{Book, Known, Ledger};

use super::{Evidence, Found};

const PHASES: [&str; 11] = [
    "SUBMITTED",
    "QUEUED",
    "PROVISIONING",
    "DOWNLOAD_SOURCE",
    "INSTALL",
    "PRE_BUILD",
    "BUILD",
    "POST_BUILD",
    "UPLOAD_ARTIFACTS",
    "FINALIZING",
    "COMPLETED",
];
const ENDS: [&str; 5] = ["SUCCEEDED", "FAILED", "FAULT", "TIMED_OUT", "STOPPED"];

pub(super) fn ends(evidence: &Evidence) -> Found {
    let book = evidence.ledger.book();
    let mut wrong = wrong_numbers(&book);
    for (id, build) in &evidence.survey.builds {
        let Some(known) = book.builds.get(id) else { continue };
        let number = build["buildNumber"].as_i64().unwrap_or_default();
        if number != known.number {
            wrong.push(format!("{id} was number {} and is {number}", known.number));
        }
    }
    for id in &evidence.survey.audited {
        if let (Some(known), Some(build)) = (book.builds.get(id), evidence.survey.builds.get(id)) {
            wrong.extend(wrong_end(id, known, build));
        }
    }
    Found::of(evidence.survey.audited.len(), wrong)
}

/// Two builds of a project with one number, and those with a lower number than one that was answered before they were asked for.
fn wrong_numbers(book: &Book) -> Vec<String> {
    let mut projects: BTreeMap<&str, Vec<(&String, &Known)>> = BTreeMap::new();
    for (id, known) in &book.builds {
        projects.entry(known.kind.project()).or_default().push((id, known));
    }
    let mut wrong = Vec::new();
    for builds in projects.values_mut() {
        builds.sort_by_key(|(_, known)| known.number);
        let twice = builds.windows(2).filter(|pair| pair[0].1.number == pair[1].1.number);
        wrong.extend(twice.map(|pair| format!("{} and {} have the same number", pair[0].0, pair[1].0)));
        let mut latest = builds[0];
        for build in builds.iter() {
            if latest.1.asked > build.1.accepted {
                let (number, before) = (build.1.number, latest.1.number);
                wrong.push(format!(
                    "{} has number {number}, and {}, asked for later, {before}",
                    build.0, latest.0
                ));
            }
            latest = if build.1.asked > latest.1.asked { *build } else { latest };
        }
    }
    wrong
}

/// An end that this build should not have, or phases that do not follow one another.
fn wrong_end(id: &str, known: &Known, build: &Value) -> Vec<String> {
    let status = build["buildStatus"].as_str().unwrap_or_default();
    let mut wrong = Vec::new();
    if !ENDS.contains(&status) {
        wrong.push(format!("{id} is complete with {status}"));
    }
    if status == "STOPPED" && !known.may_be_stopped {
        wrong.push(format!("{id} ended STOPPED, and nobody asked for that"));
    } else if status != known.kind.end()
        && !known.hurts.iter().any(|(hurt, _)| hurt.may_end(failed_in(build), status))
    {
        wrong.push(format!(
            "{id} ended {status} instead of {} ({:?}): {}",
            known.kind.end(),
            known.hurts,
            told(build)
        ));
    }
    let phases = build["phases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let places: Vec<_> =
        phases.iter().map(|phase| place(phase["phaseType"].as_str().unwrap_or_default())).collect();
    if !places.windows(2).all(|pair| pair[0] < pair[1]) || places.last() != Some(&place("COMPLETED")) {
        wrong.push(format!("{id} has phases out of order: {places:?}"));
    }
    if !phases.windows(2).all(|pair| pair[0]["endTime"] == pair[1]["startTime"]) {
        wrong.push(format!("{id} has gaps between its phases"));
    }
    wrong
}

/// The first phase that did not succeed.
fn failed_in(build: &Value) -> &str {
    let phases = build["phases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_failed =
        |phase: &&Value| phase["phaseStatus"].as_str().is_some_and(|status| status != "SUCCEEDED");
    phases.iter().find(is_failed).and_then(|phase| phase["phaseType"].as_str()).unwrap_or_default()
}

/// What the phases say about themselves.
fn told(build: &Value) -> String {
    let phases = build["phases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let contexts = phases.iter().filter_map(|phase| {
        let context = &phase["contexts"][0];
        context["message"]
            .as_str()
            .filter(|text| !text.is_empty())
            .map(|text| format!("{}: {text}", phase["phaseType"]))
    });
    contexts.collect::<Vec<_>>().join("; ")
}

/// The place of a phase among all.
fn place(phase: &str) -> usize {
    PHASES.iter().position(|name| *name == phase).unwrap_or(PHASES.len())
}

/// What says that a build went back since it was last seen; remembers how far it is. What was asked for before something was seen, and answered later,
/// may be older.
pub(super) fn went_back(ledger: &Ledger, build: &Value, asked: Instant) -> Vec<String> {
    let id = build["id"].as_str().unwrap_or_default();
    let (status, complete) =
        (build["buildStatus"].as_str().unwrap_or_default(), build["buildComplete"] == true);
    let phase = place(build["currentPhase"].as_str().unwrap_or_default());
    let mut book = ledger.book();
    let Some(known) = book.builds.get_mut(id) else {
        return vec![format!("{id} is shown and was never accepted")];
    };
    let mut wrong = Vec::new();
    if let (Some(ended), Some(at)) = (&known.ended, known.ended_at)
        && asked > at
        && (!complete || ended != status)
    {
        wrong.push(format!("{id} had ended {ended} and is {status}, complete: {complete}"));
    }
    let (furthest, at) = known.phase;
    if phase < furthest && asked > at {
        wrong.push(format!("{id} was in {} and is in {}", PHASES[furthest], PHASES[phase]));
    }
    if phase == PHASES.len() {
        wrong.push(format!("{id} is in {}", build["currentPhase"]));
    } else if phase > furthest {
        known.phase = (phase, Instant::now());
    }
    wrong
}
