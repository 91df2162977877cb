//! `buildyard why`: what a build waits for, does, or ended of, in words.

use aws::Client;
use engine::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::builds::{self, Asked};

/// Lines of the log that are shown.
const LINES: usize = 15;
/// What the service itself writes begins so. It says what became of phases, which is told above.
const OF_SERVICE: &str = "[Container] ";
/// Events that are fetched to find them; the last lines may be empty or a program's progress.
const EVENTS: usize = 60;

/// Prints the explanation.
pub(crate) fn why(asked: &Asked) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let text = runtime.map_err(|e| e.to_string())?.block_on(explained(asked))?;
    print!("{text}");
    Ok(())
}

async fn explained(asked: &Asked) -> Result<String, String> {
    let client = asked.client()?;
    let build = asked.build(&client).await?;
    let log = last_lines(&client, &build).await;
    Ok(explain(&build, &log, SystemClock::new().now_ms()))
}

/// What the build printed last; nothing if it has no log, or none that we may read.
async fn last_lines(client: &Client, build: &Value) -> Vec<String> {
    let Some((group, stream)) = builds::log_of(build) else { return Vec::new() };
    let asked =
        json!({ "logGroupName": group, "logStreamName": stream, "startFromHead": false, "limit": EVENTS });
    let answer = client.call(&aws::LOGS, "GetLogEvents", &asked).await.unwrap_or_default();
    let events = answer["events"].as_array().cloned().unwrap_or_default();
    let text: String = events.iter().filter_map(|event| event["message"].as_str()).collect();
    let lines: Vec<String> = text.lines().map(printable).collect();
    let is_said = |line: &String| !line.trim().is_empty() && !line.starts_with(OF_SERVICE);
    let lines: Vec<String> = lines.into_iter().filter(is_said).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

/// A build's log must not move the cursor of whoever looks at it.
fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

// ---- words ------------------------------------------------------------------------------------------------------

fn explain(build: &Value, log: &[String], now_ms: i64) -> String {
    let id = build["id"].as_str().unwrap_or_default();
    let mut lines = match (build["buildComplete"].as_bool(), build["currentPhase"].as_str()) {
        (Some(true), _) => ended(build, id),
        (_, Some("QUEUED" | "SUBMITTED")) => waiting(build, id, now_ms),
        (_, phase) => running(build, id, phase.unwrap_or_default(), now_ms),
    };
    if !log.is_empty() {
        lines.push("The last lines that its commands printed:".to_owned());
        lines.extend(log.iter().map(|line| format!("  {line}")));
    }
    lines.join("\n") + "\n"
}

fn waiting(build: &Value, id: &str, now_ms: i64) -> Vec<String> {
    let since = since(build, "QUEUED", now_ms);
    let most = build["queuedTimeoutInMinutes"].as_i64().unwrap_or_default();
    let mut lines = vec![format!("{id} has been waiting for {since}, and waits for {most} min at most.")];
    let Some((code, message)) = context(build, "QUEUED") else {
        lines.push("No limit holds it back: it starts at any moment.".to_owned());
        return lines;
    };
    lines.push(format!("It waits because {message}"));
    let project = build["projectName"].as_str().unwrap_or_default();
    let compute = build["environment"]["computeType"].as_str().unwrap_or_default();
    let remedy = match code.strip_prefix("QUEUED: ").unwrap_or(code) {
        "PROJECT_LIMIT" => format!("raise concurrentBuildLimit of project {project}"),
        "COMPUTE_TYPE_LIMIT" => format!("raise concurrent_builds_of {compute} in buildyard.toml"),
        _ => "raise concurrent_builds of the server".to_owned(),
    };
    lines.push(format!(
        "To have it start sooner, stop a build that runs (aws codebuild stop-build --id ...), or {remedy}."
    ));
    lines
}

fn running(build: &Value, id: &str, phase: &str, now_ms: i64) -> Vec<String> {
    let since = since(build, phase, now_ms);
    let most = build["timeoutInMinutes"].as_i64().unwrap_or_default();
    vec![format!("{id} has been in {phase} for {since}; the whole build may take {most} min.")]
}

fn ended(build: &Value, id: &str) -> Vec<String> {
    let status = build["buildStatus"].as_str().unwrap_or_default();
    let took = seconds(&build["endTime"]).zip(seconds(&build["startTime"])).map(|(end, start)| end - start);
    let took = took.map(duration).unwrap_or_default();
    let mut lines = vec![format!("{id} is {status}, {took} after it was asked for.")];
    for phase in build["phases"].as_array().into_iter().flatten() {
        let name = phase["phaseType"].as_str().unwrap_or_default();
        match phase["phaseStatus"].as_str() {
            None | Some("SUCCEEDED") => continue,
            Some(status) => lines.push(match context(build, name) {
                Some((code, message)) => format!("{name} is {status}: {code}: {message}"),
                None => format!("{name} is {status}."),
            }),
        }
    }
    if let Some(next) = build["autoRetryConfig"]["nextAutoRetry"].as_str() {
        let next = next.rsplit_once('/').map_or(next, |(_, id)| id);
        lines.push(format!("It is tried again as {next}."));
    }
    lines
}

/// Status code and message of a phase that has something to say.
fn context<'b>(build: &'b Value, phase: &str) -> Option<(&'b str, &'b str)> {
    let context = find_phase(build, phase)?["contexts"].get(0)?;
    let (code, message) = (context["statusCode"].as_str()?, context["message"].as_str()?);
    (!code.is_empty() || !message.is_empty()).then_some((code, message))
}

fn find_phase<'b>(build: &'b Value, phase: &str) -> Option<&'b Value> {
    build["phases"].as_array()?.iter().find(|one| one["phaseType"] == phase)
}

fn since(build: &Value, phase: &str, now_ms: i64) -> String {
    let begun = find_phase(build, phase).and_then(|phase| seconds(&phase["startTime"]));
    begun.map_or_else(|| "no time".to_owned(), |begun| duration(now_ms / 1000 - begun))
}

/// A moment, in whole seconds since 1970.
fn seconds(time: &Value) -> Option<i64> {
    time.as_f64().map(|seconds| seconds as i64)
}

fn duration(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(build: &Value, log: &[&str], expect: &[&str]) {
        let log: Vec<String> = log.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(explain(build, &log, 1_000_130_000).lines().collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_build_that_waits_is_told_for_what_since_when_and_what_to_do() {
        let context = json!({ "statusCode": "QUEUED: PROJECT_LIMIT", "message": "1 of 1 builds of project p are running." });
        let queued = json!({ "phaseType": "QUEUED", "startTime": 1_000_000.5, "contexts": [context] });
        let build = json!({
            "id": "p:1", "projectName": "p", "buildComplete": false, "currentPhase": "QUEUED",
            "queuedTimeoutInMinutes": 480, "phases": [queued],
        });
        check(
            &build,
            &[],
            &[
                "p:1 has been waiting for 2 min 10 s, and waits for 480 min at most.",
                "It waits because 1 of 1 builds of project p are running.",
                "To have it start sooner, stop a build that runs (aws codebuild stop-build --id ...), or raise \
                 concurrentBuildLimit of project p.",
            ],
        );
    }

    #[test]
    fn a_build_that_failed_is_told_with_the_command_and_the_end_of_its_log() {
        let message = "Error while executing command: make. Reason: exit status 2";
        let contexts = [json!({ "statusCode": "COMMAND_EXECUTION_ERROR", "message": message })];
        let build = json!({
            "id": "p:1", "buildComplete": true, "buildStatus": "FAILED", "startTime": 100.0, "endTime": 112.9,
            "phases": [
                { "phaseType": "INSTALL", "phaseStatus": "SUCCEEDED", "contexts": [{ "statusCode": "", "message": "" }] },
                { "phaseType": "BUILD", "phaseStatus": "FAILED", "contexts": contexts },
                { "phaseType": "COMPLETED" },
            ],
            "autoRetryConfig": { "nextAutoRetry": "arn:aws:codebuild:r:1:build/p:2" },
        });
        check(
            &build,
            &["make: nothing to do"],
            &[
                "p:1 is FAILED, 12 s after it was asked for.",
                "BUILD is FAILED: COMMAND_EXECUTION_ERROR: Error while executing command: make. Reason: exit status 2",
                "It is tried again as p:2.",
                "The last lines that its commands printed:",
                "  make: nothing to do",
            ],
        );
    }

    #[test]
    fn a_build_that_runs_is_told_with_its_phase() {
        let phase = json!({ "phaseType": "BUILD", "startTime": 996_500.0 });
        let build = json!({
            "id": "p:1", "buildComplete": false, "currentPhase": "BUILD", "timeoutInMinutes": 60, "phases": [phase],
        });
        check(&build, &[], &["p:1 has been in BUILD for 1 h 0 min; the whole build may take 60 min."]);
    }

    #[test]
    fn lines_of_a_log_cannot_move_the_cursor() {
        assert_eq!(printable("\u{1b}[2Jred\r\tgreen\u{9b}"), "[2Jred\tgreen");
    }
}
