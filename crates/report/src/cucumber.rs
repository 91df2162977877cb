//! Cucumber's JSON. COMPAT: IN-107.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use crate::error::Result;
use crate::limits;
use crate::tests::{Status, TestCase, Tests, joined};

/// A feature; its name may come after its scenarios.
#[derive(Deserialize)]
struct Feature {
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "scenarios")]
    elements: Vec<Scenario>,
}

#[derive(Deserialize)]
struct Scenario {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "outcome")]
    before: Outcome,
    #[serde(default, deserialize_with = "outcome")]
    steps: Outcome,
    #[serde(default, deserialize_with = "outcome")]
    after: Outcome,
}

#[derive(Deserialize)]
struct Clause {
    #[serde(default)]
    result: ClauseResult,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClauseResult {
    status: String,
    /// Nanoseconds.
    duration: f64,
    error_message: Option<String>,
}

/// What steps come to, without keeping them.
#[derive(Debug, Default)]
struct Outcome {
    status: Option<Status>,
    duration_ns: u64,
    message: String,
}

impl Outcome {
    fn take(&mut self, result: ClauseResult) {
        let status = match result.status.as_str() {
            "passed" => Status::Succeeded,
            "failed" => Status::Failed,
            "ambiguous" => Status::Error,
            "skipped" | "pending" | "undefined" => Status::Skipped,
            _ => Status::Unknown,
        };
        let message = result.error_message.unwrap_or_default();
        self.add(Outcome { status: Some(status), duration_ns: result.duration.max(0.0) as u64, message });
    }

    /// The worst counts; COMPAT: IN-107 a scenario fails if a step does.
    fn add(&mut self, more: Outcome) {
        let rank = |status: &Option<Status>| match status {
            None => 0,
            Some(Status::Succeeded) => 1,
            Some(Status::Unknown) => 2,
            Some(Status::Skipped) => 3,
            Some(Status::Error) => 4,
            Some(Status::Failed) => 5,
        };
        if rank(&more.status) > rank(&self.status) {
            self.status = more.status;
        }
        self.duration_ns = self.duration_ns.saturating_add(more.duration_ns);
        if self.message.len() < limits::MESSAGE_BYTES {
            self.message = joined(&self.message, &more.message);
        }
    }
}

struct Fold<S, T, F> {
    state: S,
    add: F,
    item: std::marker::PhantomData<T>,
}

impl<'de, S, T: Deserialize<'de>, F: FnMut(&mut S, T) -> Result<(), String>> Visitor<'de> for Fold<S, T, F> {
    type Value = S;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<S, A::Error> {
        while let Some(item) = list.next_element()? {
            (self.add)(&mut self.state, item).map_err(serde::de::Error::custom)?;
        }
        Ok(self.state)
    }
}

/// Goes through a list without keeping it.
fn fold<'de, D: Deserializer<'de>, S, T: Deserialize<'de>>(
    deserializer: D,
    state: S,
    add: impl FnMut(&mut S, T) -> Result<(), String>,
) -> Result<S, D::Error> {
    deserializer.deserialize_seq(Fold { state, add, item: std::marker::PhantomData })
}

fn outcome<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Outcome, D::Error> {
    fold(deserializer, Outcome::default(), |outcome, clause: Clause| {
        outcome.take(clause.result);
        Ok(())
    })
}

fn scenarios<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Scenario>, D::Error> {
    fold(deserializer, Vec::new(), |scenarios, scenario: Scenario| {
        scenarios.push(scenario);
        match scenarios.len() as u64 > limits::CASES {
            true => Err(format!("more than {} test cases", limits::CASES)),
            false => Ok(()),
        }
    })
}

pub(crate) fn read(text: &str) -> Result<Tests> {
    let mut json = serde_json::Deserializer::from_str(text);
    let tests = fold(&mut json, Tests::default(), |tests, feature: Feature| {
        cases(feature).try_for_each(|case| tests.push(case)).map_err(|error| error.to_string())
    })?;
    json.end()?;
    Ok(tests)
}

/// What happens in a background belongs to the scenario after it.
fn cases(feature: Feature) -> impl Iterator<Item = TestCase> {
    let Feature { name: prefix, elements } = feature;
    let mut background = Outcome::default();
    elements.into_iter().filter_map(move |scenario| {
        let mut outcome = std::mem::take(&mut background);
        [scenario.before, scenario.steps, scenario.after].into_iter().for_each(|one| outcome.add(one));
        if scenario.kind == "background" {
            background = outcome;
            return None;
        }
        Some(TestCase {
            prefix: prefix.clone(),
            name: scenario.name,
            suite: prefix.clone(),
            status: outcome.status.unwrap_or(Status::Unknown),
            duration_ns: outcome.duration_ns,
            message: outcome.message,
        })
    })
}
