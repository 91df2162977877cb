//! P1 to P12, a function each.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::torture::host;
use crate::torture::kind::{self, BUCKET, Kind};

use super::{Evidence, Found, Promise, Survey, ends, left, logs};

/// How long a stop may take.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Ready again, at most, in a hundred starts but one; and in any, where there are fewer than a hundred.
const READY_MAX_MS: f64 = 1000.0;
const READY_EVER_MS: f64 = 5000.0;
/// What StartBuild, RetryBuild and StopBuild are refused with if it is not for what they ask.
const REFUSALS: [(u16, &str); 2] = [(500, "InternalFailure"), (503, "ServiceUnavailableException")];
pub(in crate::torture) const PROMISES: [Promise; 12] = [
    Promise { name: "P1", what: "a build that was answered is there", check: answered_builds_are_there },
    Promise {
        name: "P2",
        what: "each build has one end, the one it should have; nothing goes back",
        check: ends::ends,
    },
    Promise { name: "P3", what: "no command runs twice", check: commands_run_once },
    Promise { name: "P4", what: "a token is one build, also across a crash", check: tokens_are_one_build },
    Promise { name: "P5", what: "logs are whole, in order, each line once", check: logs::logs_are_whole },
    Promise {
        name: "P6",
        what: "artifacts are whole or absent; present if SUCCEEDED",
        check: artifacts_are_whole,
    },
    Promise { name: "P7", what: "what is stopped is gone within 10 s", check: stops_hold },
    Promise { name: "P8", what: "ready again within a second (p99)", check: ready_soon },
    Promise {
        name: "P9",
        what: "nothing stays: processes, cgroups, mounts, loops, files",
        check: left::nothing_stays,
    },
    Promise {
        name: "P10",
        what: "no secret in records, logs, objects or /proc",
        check: left::secrets_stay_secret,
    },
    Promise {
        name: "P11",
        what: "deliveries: webhooks are refused by name, and no build is there that nobody started",
        check: no_builds_of_nobody,
    },
    Promise {
        name: "P12",
        what: "refusals are typed errors, and what is read goes on",
        check: refusals_are_typed,
    },
];

fn answered_builds_are_there(evidence: &Evidence) -> Found {
    let Survey { builds, not_found, .. } = evidence.survey;
    let wrong = not_found.iter().map(|id| format!("{id} was accepted and is not found"));
    Found::of(builds.len() + not_found.len(), wrong)
}

fn commands_run_once(evidence: &Evidence) -> Found {
    let heard = evidence.yard.witness.heard();
    let twice = heard.iter().filter(|(_, (times, _))| *times > 1);
    let mut wrong: Vec<_> = twice
        .map(|((id, command), (times, _))| format!("command {command} of {id} ran {times} times"))
        .collect();
    let book = evidence.ledger.book();
    for id in &evidence.survey.audited {
        let (Some(known), Some(build)) = (book.builds.get(id), evidence.survey.builds.get(id)) else {
            continue;
        };
        let commands: Vec<u32> =
            evidence.yard.witness.of(id).into_iter().map(|(command, _)| command).collect();
        let all: Vec<u32> = (1..=known.kind.commands()).collect();
        let is_right = match build["buildStatus"].as_str().unwrap_or_default() {
            "SUCCEEDED" => commands == all,
            "FAILED" if known.hurts.is_empty() => commands == all,
            _ => all.starts_with(&commands),
        };
        if !is_right {
            wrong.push(format!(
                "{id} ended {} having run commands {commands:?} of {all:?}",
                build["buildStatus"]
            ));
        }
    }
    Found::of(evidence.survey.audited.len(), wrong)
}

/// Answers with another build for a token are seen by the client who gets them. Here: that there are no builds beside the answered ones.
fn tokens_are_one_build(evidence: &Evidence) -> Found {
    let Some(listed) = &evidence.survey.listed else { return Found::default() };
    let book = evidence.ledger.book();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for id in listed {
        if !seen.insert(id) {
            wrong.push(format!("{id} is listed twice"));
        }
        if !book.builds.contains_key(id) {
            wrong.push(format!("{id} is there, though each token was answered with another build"));
        }
    }
    let missing = book.builds.keys().filter(|id| !seen.contains(id));
    wrong.extend(missing.map(|id| format!("{id} was accepted and is not listed")));
    Found::of(listed.len(), wrong)
}

fn artifacts_are_whole(evidence: &Evidence) -> Found {
    let bucket = evidence.yard.data().join("s3").join(BUCKET);
    let audited = evidence.survey.audited.iter().filter(|id| Kind::of(id) == Some(Kind::Steady));
    let ids: Vec<&String> = audited.collect();
    let wrong = super::in_parallel(&ids, |ids| {
        let builds = ids.iter().filter_map(|id| Some((id, evidence.survey.builds.get(*id)?)));
        builds.filter_map(|(id, build)| wrong_artifact(id, build, &bucket)).collect()
    });
    Found::of(ids.len(), wrong)
}

fn wrong_artifact(id: &str, build: &Value, bucket: &Path) -> Option<String> {
    let uuid = id.split(':').nth(1)?;
    let object = bucket.join(uuid).join("made.zip");
    let has_succeeded = build["buildStatus"] == "SUCCEEDED";
    let bytes = match std::fs::read(&object) {
        Ok(bytes) => bytes,
        Err(_) if !has_succeeded => return None,
        Err(error) => {
            return Some(format!("{id} succeeded without its artifact {}: {error}", object.display()));
        }
    };
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if has_succeeded && build["artifacts"]["sha256sum"] != digest {
        return Some(format!("the artifact of {id} has another checksum than the build says"));
    }
    match unzipped(&object) {
        Ok(text) if text == kind::made(id) => None,
        // Its command could write no more of it. What it made is uploaded all the same.
        Ok(text) if !has_succeeded && kind::made(id).starts_with(&text) => None,
        Ok(text) => Some(format!("the artifact of {id} has {} bytes of something else", text.len())),
        Err(reason) => Some(format!("the artifact of {id} is not whole: {reason}")),
    }
}

fn unzipped(archive: &Path) -> Result<String, String> {
    let mut unzip = std::process::Command::new("unzip");
    let mut child = unzip
        .arg("-p")
        .arg(archive)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map_err(|e| format!("unzip: {e}"))?;
    let mut text = String::new();
    let read = child.stdout.take().expect("is piped").read_to_string(&mut text);
    let status = child.wait().map_err(|e| e.to_string())?;
    read.map_err(|e| e.to_string())?;
    if status.success() { Ok(text) } else { Err(format!("unzip: {status}")) }
}

/// Each build whose stop was answered is looked for once it must be gone, whatever the server says of it. After the server all of them are, and what is gone
/// before its time has nobody left to come back by.
fn stops_hold(evidence: &Evidence) -> Found {
    let is_quiet = evidence.survey.is_quiet;
    let due = evidence.ledger.book().stopped(is_quiet, STOP_MAX);
    let mut late = BTreeMap::new();
    while !due.is_empty() {
        late = host::of_builds(evidence.cgroups, &due.keys().cloned().collect());
        let is_in_time = late.keys().any(|id| due[id].elapsed() <= STOP_MAX);
        if !(is_in_time && evidence.is_patient) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut book = evidence.ledger.book();
    for id in due.keys() {
        book.builds.get_mut(id).into_iter().for_each(|known| known.is_stop_examined = true);
    }
    let wrong = late.iter().filter(|(id, _)| due[*id].elapsed() > STOP_MAX);
    Found::of(
        due.len(),
        wrong.map(|(id, what)| format!("{id} runs more than {STOP_MAX:?} after its stop: {what}")),
    )
}

fn ready_soon(evidence: &Evidence) -> Found {
    let starts = &mut evidence.ledger.book().ready_ms;
    starts.sort_by(f64::total_cmp);
    let slow = starts.iter().filter(|ms| **ms > READY_MAX_MS).count();
    let wrong = match starts.last() {
        // Fewer than a hundred say nothing about one in a hundred.
        Some(most) if starts.len() < 100 => {
            let median = starts[(starts.len() - 1) / 2];
            (median > READY_MAX_MS || *most > READY_EVER_MS)
                .then(|| format!("{} starts take {median} ms (median), {most} ms at most", starts.len()))
        }
        _ => (slow > starts.len() / 100)
            .then(|| format!("{slow} of {} starts take more than a second", starts.len())),
    };
    Found::of(starts.len(), wrong)
}

/// There are no webhooks in this version: that is all that can be said, and that they are refused rather than taken and forgotten.
fn no_builds_of_nobody(evidence: &Evidence) -> Found {
    let Some(webhook) = &evidence.survey.webhook else { return Found::default() };
    let wrong = match webhook {
        Ok(answer) => Some(format!("a webhook of a project without a repository was accepted: {answer}")),
        Err((code, message)) if code.is_empty() => {
            Some(format!("CreateWebhook is refused without a type: {message}"))
        }
        Err(_) => None,
    };
    Found::of(1, wrong)
}

/// Those that only a client's mistake deserves are seen by the client who gets them, and so is what was accepted while nothing could be kept.
fn refusals_are_typed(evidence: &Evidence) -> Found {
    let book = evidence.ledger.book();
    let untyped = book.refusals.keys().filter(|(status, code)| !REFUSALS.contains(&(*status, code)));
    let mut wrong: Vec<_> =
        untyped.map(|(status, code)| format!("a refusal with {status} is {code:?}")).collect();
    wrong.extend(book.unread.iter().map(|why| format!("a read is not answered: {why}")));
    wrong.extend(book.gave_up.iter().map(|words| format!("the server ended by itself:\n{words}")));
    Found::of(book.refusals.len() + book.reads + wrong.len(), wrong)
}
