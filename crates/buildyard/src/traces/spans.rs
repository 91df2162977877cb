//! A build as a trace in OTLP's JSON: one span for the build, and below it one for each phase. Pure.
//!
//! The trace has the build's own id, so that whoever knows one knows the other.

use api::Timestamp;
use api::codebuild::{Build, BuildPhase, StatusType};
use serde_json::{Value, json};

use crate::collector::text;

/// OTLP: work within one service.
const INTERNAL: u8 = 1;
const OK: u8 = 1;
const ERROR: u8 = 2;

/// The spans of a build that is over; `None` for what is no such build.
pub(super) fn of(build: &Build) -> Option<Value> {
    let trace = uuid::Uuid::parse_str(build.id.as_deref()?.rsplit(':').next()?).ok()?;
    let (_, low) = trace.as_u64_pair();
    let names = Names { trace: trace.simple().to_string(), root: low };
    let phases = build.phases.iter().flatten().zip(1..);
    let mut spans: Vec<Value> = phases.filter_map(|(phase, number)| names.phase(phase, number)).collect();
    spans.insert(0, names.build(build)?);
    Some(spans.into())
}

/// The body of a request with the spans of several builds.
pub(super) fn request(service: &str, builds: Vec<Value>) -> Value {
    let spans: Vec<Value> = builds
        .into_iter()
        .flat_map(|spans| match spans {
            Value::Array(spans) => spans,
            other => vec![other],
        })
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "resourceSpans": [{
            "resource": { "attributes": [text("service.name", service), text("service.version", version)] },
            "scopeSpans": [{ "scope": { "name": "buildyard", "version": version }, "spans": spans }],
        }]
    })
}

struct Names {
    trace: String,
    root: u64,
}

impl Names {
    /// Span ids that differ within the trace and are never zero: the id's version bits are in them.
    fn span(&self, number: u64) -> String {
        format!("{:016x}", self.root ^ number)
    }

    fn build(&self, build: &Build) -> Option<Value> {
        let given = |name: &str, value: &Option<String>| value.as_deref().map(|value| text(name, value));
        let (account, region) = owner(build.arn.as_deref().unwrap_or_default());
        let attributes = [
            given("cicd.pipeline.name", &build.project_name),
            given("cicd.pipeline.run.id", &build.id),
            build.build_status.as_ref().map(|status| text("cicd.pipeline.result", result(status))),
            given("aws.codebuild.build.arn", &build.arn),
            build.build_number.map(|number| whole("aws.codebuild.build.number", number)),
            given("aws.codebuild.initiator", &build.initiator),
            given("vcs.ref.head.revision", &build.resolved_source_version),
            account.map(|account| text("cloud.account.id", account)),
            region.map(|region| text("cloud.region", region)),
        ];
        Some(json!({
            "traceId": self.trace,
            "spanId": self.span(0),
            "name": build.project_name.as_deref()?,
            "kind": INTERNAL,
            "startTimeUnixNano": nanos(build.start_time?),
            "endTimeUnixNano": nanos(build.end_time?),
            "attributes": attributes.into_iter().flatten().collect::<Vec<_>>(),
            "status": status(build.build_status.as_ref(), ""),
        }))
    }

    fn phase(&self, phase: &BuildPhase, number: u64) -> Option<Value> {
        let name = phase.phase_type.as_ref()?.as_str();
        let context = phase.contexts.iter().flatten().next();
        let code = context.and_then(|context| context.status_code.as_deref()).filter(|code| !code.is_empty());
        let message = context.and_then(|context| context.message.as_deref()).unwrap_or_default();
        let attributes = [
            Some(text("cicd.pipeline.task.name", name)),
            phase.phase_status.as_ref().map(|status| text("cicd.pipeline.task.run.result", result(status))),
            code.map(|code| text("aws.codebuild.phase.status_code", code)),
        ];
        Some(json!({
            "traceId": self.trace,
            "spanId": self.span(number),
            "parentSpanId": self.span(0),
            "name": name,
            "kind": INTERNAL,
            "startTimeUnixNano": nanos(phase.start_time?),
            "endTimeUnixNano": nanos(phase.end_time?),
            "attributes": attributes.into_iter().flatten().collect::<Vec<_>>(),
            "status": status(phase.phase_status.as_ref(), message),
        }))
    }
}

/// Account and region of an ARN.
fn owner(arn: &str) -> (Option<&str>, Option<&str>) {
    let part = |number| arn.split(':').nth(number).filter(|part| !part.is_empty());
    (part(4), part(3))
}

/// OpenTelemetry's words for what a run came to.
fn result(status: &StatusType) -> &'static str {
    match status {
        StatusType::Succeeded => "success",
        StatusType::Failed => "failure",
        StatusType::Stopped => "cancellation",
        StatusType::TimedOut => "timeout",
        _ => "error",
    }
}

/// A build that somebody stopped is no error.
fn status(status: Option<&StatusType>, message: &str) -> Value {
    match status {
        Some(StatusType::Succeeded) => json!({ "code": OK }),
        Some(StatusType::Stopped) | None => json!({}),
        Some(_) if message.is_empty() => json!({ "code": ERROR }),
        Some(_) => json!({ "code": ERROR, "message": message }),
    }
}

/// OTLP writes 64 bits as text.
fn whole(key: &str, value: i64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn nanos(moment: Timestamp) -> String {
    (i128::from(moment.millis()) * 1_000_000).to_string()
}

#[cfg(test)]
mod tests {
    use api::codebuild::{BuildPhaseType, PhaseContext};

    use super::*;

    fn phase(
        kind: BuildPhaseType,
        start: f64,
        end: Option<f64>,
        status: StatusType,
        message: &str,
    ) -> BuildPhase {
        let context = PhaseContext { status_code: Some("CODE".into()), message: Some(message.into()) };
        BuildPhase {
            phase_type: Some(kind),
            start_time: Some(Timestamp(start)),
            end_time: end.map(Timestamp),
            phase_status: Some(status),
            contexts: Some(vec![context]),
            ..BuildPhase::default()
        }
    }

    #[test]
    fn a_build_is_a_trace_with_its_own_id_and_a_span_for_each_phase() {
        let build = Build {
            id: Some("demo:0af76519-16cd-43dd-8448-eb211c80319c".into()),
            arn: Some("arn:aws:codebuild:eu-west-1:111122223333:build/demo:0af76519".into()),
            project_name: Some("demo".into()),
            build_number: Some(7),
            build_status: Some(StatusType::Failed),
            start_time: Some(Timestamp(1472848787.882)),
            end_time: Some(Timestamp(1472848790.0)),
            phases: Some(vec![
                phase(
                    BuildPhaseType::Submitted,
                    1472848787.882,
                    Some(1472848788.0),
                    StatusType::Succeeded,
                    "",
                ),
                phase(
                    BuildPhaseType::Build,
                    1472848788.0,
                    Some(1472848790.0),
                    StatusType::Failed,
                    "exit status 1",
                ),
                phase(BuildPhaseType::Completed, 1472848790.0, None, StatusType::Succeeded, ""),
            ]),
            ..Build::default()
        };
        let spans = of(&build).unwrap();
        let spans = spans.as_array().unwrap();
        let names: Vec<&str> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["demo", "SUBMITTED", "BUILD"]);
        assert!(spans.iter().all(|span| span["traceId"] == "0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(spans[0]["spanId"], "8448eb211c80319c");
        assert_eq!(spans[0]["startTimeUnixNano"], "1472848787882000000");
        assert_eq!(spans[0]["status"], json!({ "code": 2 }));
        let attributes = spans[0]["attributes"].as_array().unwrap();
        for expected in [
            text("cicd.pipeline.result", "failure"),
            text("cloud.account.id", "111122223333"),
            text("cloud.region", "eu-west-1"),
            whole("aws.codebuild.build.number", 7),
        ] {
            assert!(attributes.contains(&expected), "{expected}");
        }
        assert_eq!(spans[2]["parentSpanId"], spans[0]["spanId"]);
        assert_ne!(spans[1]["spanId"], spans[2]["spanId"]);
        assert_eq!(spans[2]["status"], json!({ "code": 2, "message": "exit status 1" }));
    }

    #[test]
    fn what_is_not_over_has_no_trace() {
        assert_eq!(of(&Build::default()), None);
    }
}
