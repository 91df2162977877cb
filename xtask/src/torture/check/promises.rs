//! P1 to P12, a function each.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::torture::host;
use crate::torture::kind::{self, BUCKET, Kind, SECRET};
use crate::torture::ledger::{Known, Ledger};

use super::{Evidence, Promise};

/// How long a stop may take, and how long what is left over may stay.
const STOP_MAX: Duration = Duration::from_secs(10);
const REST_MAX: Duration = Duration::from_secs(60);
/// Ready again, at most, in a hundred starts but one.
const READY_MAX_MS: f64 = 1000.0;
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

pub(in crate::torture) const PROMISES: [Promise; 12] = [
    Promise { name: "P1", what: "a build that was answered is there", check: answered_builds_are_there },
    Promise {
        name: "P2",
        what: "each build has one end, the one it should have; nothing goes back",
        check: ends,
    },
    Promise { name: "P3", what: "no command runs twice", check: commands_run_once },
    Promise { name: "P4", what: "a token is one build, also across a crash", check: tokens_are_one_build },
    Promise { name: "P5", what: "logs are whole, in order, each line once", check: logs_are_whole },
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
        check: nothing_stays,
    },
    Promise { name: "P10", what: "no secret in records, logs, objects or /proc", check: secrets_stay_secret },
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

fn answered_builds_are_there(evidence: &Evidence) -> Vec<String> {
    evidence.survey.not_found.iter().map(|id| format!("{id} was accepted and is not found")).collect()
}

fn ends(evidence: &Evidence) -> Vec<String> {
    let book = evidence.ledger.book();
    let mut wrong = Vec::new();
    let mut numbers: BTreeMap<(&str, i64), &str> = BTreeMap::new();
    for (id, build) in &evidence.survey.builds {
        let Some(known) = book.builds.get(id) else { continue };
        let number = build["buildNumber"].as_i64().unwrap_or_default();
        if number != known.number {
            wrong.push(format!("{id} was number {} and is {number}", known.number));
        }
        if let Some(other) = numbers.insert((known.kind.project(), number), id) {
            wrong.push(format!("{id} and {other} have the same number {number}"));
        }
        if evidence.survey.audited.contains(id) {
            wrong.extend(wrong_end(id, known, build));
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
    let is_right =
        status == known.kind.end() || (known.was_hurt && status != "SUCCEEDED" && status != "TIMED_OUT");
    if !is_right {
        wrong.push(format!("{id} ended {status} instead of {}: {}", known.kind.end(), told(build)));
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

fn commands_run_once(evidence: &Evidence) -> Vec<String> {
    let heard = evidence.yard.witness.heard();
    let twice = heard.iter().filter(|(_, times)| **times > 1);
    let mut wrong: Vec<_> =
        twice.map(|((id, command), times)| format!("command {command} of {id} ran {times} times")).collect();
    let book = evidence.ledger.book();
    for id in &evidence.survey.audited {
        let (Some(known), Some(build)) = (book.builds.get(id), evidence.survey.builds.get(id)) else {
            continue;
        };
        let commands: Vec<u32> =
            evidence.yard.witness.of(id).into_iter().map(|(command, _)| command).collect();
        let all: Vec<u32> = (1..=known.kind.commands()).collect();
        let is_right = match build["buildStatus"].as_str().unwrap_or_default() {
            "SUCCEEDED" | "FAILED" if !known.was_hurt => commands == all,
            _ => all.starts_with(&commands),
        };
        if !is_right {
            wrong.push(format!(
                "{id} ended {} having run commands {commands:?} of {all:?}",
                build["buildStatus"]
            ));
        }
    }
    wrong
}

/// Answers with another build for a token are seen by the client who gets them. Here: that there are no builds beside the answered ones.
fn tokens_are_one_build(evidence: &Evidence) -> Vec<String> {
    let Some(listed) = &evidence.survey.listed else { return Vec::new() };
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
    wrong
}

fn logs_are_whole(evidence: &Evidence) -> Vec<String> {
    let book = evidence.ledger.book();
    let wrong = evidence.survey.logs.iter().filter_map(|(id, log)| {
        let known = book.builds.get(id)?;
        match log {
            // A build that never began has none.
            Err(_) if evidence.yard.witness.of(id).is_empty() => None,
            Err(reason) => Some(format!("the log of {id} cannot be read: {reason}")),
            Ok(log) => wrong_log(id, known, evidence.survey.builds[id]["buildStatus"].as_str()?, log),
        }
    });
    wrong.collect()
}

fn wrong_log(id: &str, known: &Known, status: &str, log: &str) -> Option<String> {
    let said: Vec<&str> = log.lines().filter(|line| is_printed_by_commands(line)).collect();
    let expected = known.kind.lines();
    // Of a build that ended as it should, all; of another, what there was before.
    let is_right = match status == "SUCCEEDED" || (status == known.kind.end() && !known.was_hurt) {
        true => said == expected,
        false => {
            expected.iter().map(String::as_str).take(said.len()).eq(said.iter().copied().take(expected.len()))
        }
    };
    let phases: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("Entering phase ")).map(|(_, phase)| phase).collect();
    let once: BTreeSet<_> = phases.iter().collect();
    if once.len() != phases.len() {
        return Some(format!("the log of {id} enters phases twice: {phases:?}"));
    }
    (!is_right).then(|| {
        format!(
            "the log of {id} ({status}) has {} lines that are not what was printed: {:?}",
            said.len(),
            last_of(&said)
        )
    })
}

/// Neither ours nor the shell's, which says it of a full disk.
fn is_printed_by_commands(line: &str) -> bool {
    !line.is_empty() && !line.starts_with("[Container]") && !line.ends_with(": No space left on device")
}

fn last_of<'a>(lines: &'a [&'a str]) -> &'a [&'a str] {
    &lines[lines.len().saturating_sub(3)..]
}

fn artifacts_are_whole(evidence: &Evidence) -> Vec<String> {
    let bucket = evidence.yard.data().join("s3").join(BUCKET);
    let audited = evidence.survey.audited.iter().filter(|id| Kind::of(id) == Some(Kind::Steady));
    audited.filter_map(|id| wrong_artifact(id, evidence.survey.builds.get(id)?, &bucket)).collect()
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

fn stops_hold(evidence: &Evidence) -> Vec<String> {
    let due: Vec<String> = {
        let book = evidence.ledger.book();
        let stopped =
            book.builds.iter().filter(|(_, known)| known.stopped.is_some_and(|at| at.elapsed() > STOP_MAX));
        let new = stopped.filter(|(id, known)| !known.is_audited || evidence.survey.audited.contains(id));
        new.map(|(id, _)| id.clone()).collect()
    };
    let is_there = |id: &String| !host::with_environment(&format!("CODEBUILD_BUILD_ID={id}")).is_empty();
    due.into_iter()
        .filter(is_there)
        .map(|id| format!("{id} runs more than {STOP_MAX:?} after its stop"))
        .collect()
}

fn ready_soon(evidence: &Evidence) -> Vec<String> {
    let starts = &mut evidence.ledger.book().ready_ms;
    starts.sort_by(f64::total_cmp);
    // Fewer than a hundred say nothing about one in a hundred: half of them must be in time.
    let allowed = if starts.len() < 100 { starts.len() / 2 } else { starts.len() / 100 };
    let slow = starts.iter().filter(|ms| **ms > READY_MAX_MS).count();
    match slow > allowed.max(1) {
        true => vec!["too many starts take more than a second".to_owned()],
        false => Vec::new(),
    }
}

fn nothing_stays(evidence: &Evidence) -> Vec<String> {
    if !evidence.survey.is_quiet {
        return Vec::new();
    }
    let deadline = Instant::now() + REST_MAX;
    loop {
        let left = left_over(evidence);
        if left.is_empty() || !evidence.is_patient || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn left_over(evidence: &Evidence) -> Vec<String> {
    let (yard, data) = (evidence.yard, evidence.yard.data());
    let folder = yard.folder().display().to_string();
    let mut left: Vec<String> = Vec::new();
    left.extend(
        host::running(&yard.program())
            .iter()
            .map(|process| format!("process {process} of our program stays")),
    );
    let marked = host::with_environment(&format!("BUILDYARD_TORTURE={folder}"));
    left.extend(marked.iter().map(|process| format!("process {process} of the server's stays")));
    left.extend(
        host::mounts(&format!("{}/builds", data.display()))
            .into_iter()
            .map(|line| format!("mount stays: {line}")),
    );
    left.extend(host::loops(&folder).into_iter().map(|file| format!("loop device stays: {file}")));
    let builds = std::fs::read_dir(data.join("builds")).into_iter().flatten().flatten();
    left.extend(builds.map(|entry| format!("{} stays", entry.path().display())));
    left.extend(host::files(&data.join("s3/.tmp")).iter().map(|file| format!("{} stays", file.display())));
    let uuids = evidence
        .ledger
        .book()
        .builds
        .keys()
        .filter_map(|id| id.split(':').nth(1).map(str::to_owned))
        .collect();
    let groups = host::cgroups(evidence.cgroups, &yard.pools(), &uuids);
    left.extend(groups.iter().map(|group| format!("cgroup {} stays", group.display())));
    left
}

/// Where a stranger might find it: files of the server but for the sealed ones' key, and what /proc shows of its processes.
fn secrets_stay_secret(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    if evidence.survey.is_quiet {
        let files = host::files(&evidence.yard.data()).into_iter().chain([evidence.yard.server_log()]);
        let with = files
            .filter(|file| std::fs::read(file).is_ok_and(|bytes| host::contains(&bytes, SECRET.as_bytes())));
        found.extend(with.map(|file| format!("a secret is in {}", file.display())));
        return found;
    }
    for process in host::running(&evidence.yard.program()) {
        for file in ["environ", "cmdline"] {
            let text = std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
            if host::contains(&text, SECRET.as_bytes()) {
                found.push(format!("a secret is in the {file} of a process of ours"));
            }
        }
    }
    let answers = evidence.survey.builds.iter().filter(|(_, build)| build.to_string().contains(SECRET));
    found.extend(answers.map(|(id, _)| format!("a secret is in the document of {id}")));
    found
}

/// There are no webhooks in this version: that is all that can be said, and that they are refused rather than taken and forgotten.
fn no_builds_of_nobody(evidence: &Evidence) -> Vec<String> {
    match &evidence.survey.webhook {
        Some(Ok(answer)) => {
            vec![format!("a webhook of a project without a repository was accepted: {answer}")]
        }
        Some(Err((code, message))) if code.is_empty() => {
            vec![format!("CreateWebhook is refused without a type: {message}")]
        }
        _ => Vec::new(),
    }
}

/// Untyped refusals, and those that only a client's mistake deserves, are seen by the client who gets them. Here: that reading goes on.
fn refusals_are_typed(evidence: &Evidence) -> Vec<String> {
    let untyped = evidence
        .ledger
        .book()
        .refusals
        .keys()
        .filter(|code| code.ends_with(' '))
        .cloned()
        .collect::<Vec<_>>();
    untyped.into_iter().map(|status| format!("a refusal with {status} has no type")).collect()
}
