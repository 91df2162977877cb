//! Logs to an OpenTelemetry collector, in OTLP over HTTP with JSON. A log bears its build's trace id.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use store::logs::LogEvent;
use store::records::{LogStream, Scope};

use super::{Failure, Sent, message};
use crate::collector::{Collector, text};

/// For one request, from connecting to the end of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct OpenTelemetry {
    client: Client,
    collector: Collector,
}

impl OpenTelemetry {
    /// # Errors
    /// A sentence about a header that cannot be one.
    pub(crate) fn new(collector: Collector) -> Result<OpenTelemetry, String> {
        let builder = Client::builder().default_headers(collector.headers("logs")?).timeout(REQUEST_TIMEOUT);
        let builder = builder.redirect(reqwest::redirect::Policy::none());
        aws::use_ring();
        let client = match collector.needs_certificates() {
            true => builder.build(),
            false => builder.tls_certs_only([]).build(),
        };
        let client = client.map_err(|error| format!("no client for logs: {error}"))?;
        Ok(OpenTelemetry { client, collector })
    }

    pub(super) async fn send(&self, scope: &Scope, stream: &LogStream, events: &[LogEvent]) -> Sent {
        let body = request(&self.collector.service, scope, stream, events).to_string();
        let answer = self.client.post(&self.collector.url).body(body).send().await;
        let answer = answer.map_err(|error| Failure::Unavailable(error.without_url().to_string()))?;
        let status = answer.status();
        match status.as_u16() {
            200..300 => Ok(rejected(&answer.bytes().await.unwrap_or_default())),
            // It will not be taken however often it is sent.
            400 | 413 => Ok(events.len() as u64),
            408 | 429 | 500.. => Err(Failure::Unavailable(format!("the logs' collector answers {status}"))),
            _ => Err(Failure::Refused(format!("the logs' collector answers {status}"))),
        }
    }
}

/// Events that were not taken although the request was.
fn rejected(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let count = &answer["partialSuccess"]["rejectedLogRecords"];
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}

fn request(service: &str, scope: &Scope, stream: &LogStream, events: &[LogEvent]) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let one = |name: &str, value: &str| json!({ "key": name, "value": { "arrayValue": { "values": [{ "stringValue": value }] } } });
    let attributes = [
        text("service.name", service),
        text("service.version", version),
        text("cloud.account.id", &scope.account),
        text("cloud.region", &scope.region),
        one("aws.log.group.names", &stream.group),
        one("aws.log.stream.names", &stream.name),
    ];
    let trace = stream.name.rsplit('/').next().and_then(|uuid| uuid::Uuid::parse_str(uuid).ok());
    let records: Vec<Value> = events
        .iter()
        .map(|event| {
            let time = format!("{}000000", event.time_ms.max(0));
            let mut record = json!({
                "timeUnixNano": time,
                "observedTimeUnixNano": time,
                "body": { "stringValue": message(event) },
            });
            if let Some(trace) = trace {
                record["traceId"] = trace.simple().to_string().into();
            }
            record
        })
        .collect();
    json!({
        "resourceLogs": [{
            "resource": { "attributes": attributes },
            "scopeLogs": [{ "scope": { "name": "buildyard", "version": version }, "logRecords": records }],
        }]
    })
}

#[cfg(test)]
mod tests {
    use store::logs::Position;

    use super::*;

    #[test]
    fn a_log_says_whose_it_is_and_bears_its_builds_trace() {
        let stream = LogStream {
            group: "/aws/codebuild/web".into(),
            name: "ci/0f8fad5b-d9cb-469f-a165-70867728950e".into(),
            created_ms: 1,
            segment: String::new(),
            first_event_ms: None,
            last_event_ms: None,
            stored_bytes: 0,
            forwarding: None,
        };
        let scope = Scope { account: "123456789012".into(), region: "eu-west-1".into() };
        let event =
            LogEvent { time_ms: 1_700_000_000_123, position: Position::START, bytes: b"a\xff\n".to_vec() };
        let body = request("yard", &scope, &stream, &[event]);
        let attributes = body["resourceLogs"][0]["resource"]["attributes"].to_string();
        for expect in ["\"yard\"", "123456789012", "eu-west-1", "/aws/codebuild/web", "ci/0f8fad5b"] {
            assert!(attributes.contains(expect), "{attributes}");
        }
        let record = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["traceId"], "0f8fad5bd9cb469fa16570867728950e");
        assert_eq!(record["timeUnixNano"], "1700000000123000000");
        assert_eq!(record["body"]["stringValue"], "a\u{fffd}\n");
    }

    #[test]
    fn a_collector_may_take_a_part() {
        assert_eq!(rejected(b"{}"), 0);
        assert_eq!(rejected(b""), 0);
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"x"}}"#), 3);
    }
}
