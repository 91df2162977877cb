//! OpenTelemetry traces of builds, sent to a collector over OTLP/HTTP in JSON.
//!
//! `spans` makes a build's trace, whole, once it is over. Here it waits in a bounded queue for a thread of its own, which
//! sends what has come together. No build ever waits for a collector: what has no room, or was refused for too long, is
//! dropped and counted.

mod spans;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use api::codebuild::Build;
use reqwest::blocking::Client;
use reqwest::redirect::Policy;
use serde_json::Value;

use crate::collector::Collector;

/// Builds that may wait to be sent.
const QUEUE_MAX: usize = 1_000;
/// Builds in one request.
const BATCH_MAX: usize = 50;
/// How long builds are gathered for one request.
const GATHER: Duration = Duration::from_millis(500);
/// For one request, from connecting to the end of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses before a request is sent again; then its builds are dropped.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// How long a server that stops waits for the last request.
const LAST_TIMEOUT: Duration = Duration::from_secs(3);

/// Takes builds to be sent. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Traces {
    waiting: SyncSender<Waiting>,
    dropped: Arc<AtomicU64>,
}

enum Waiting {
    /// The spans of a build.
    Build(Value),
    /// Nothing more will come.
    Last,
}

/// The thread that sends.
#[derive(Debug)]
pub(crate) struct Sending {
    waiting: SyncSender<Waiting>,
    thread: JoinHandle<()>,
    /// The thread holds the other end until it is done.
    over: Receiver<()>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}

/// Starts the thread.
///
/// # Errors
/// A sentence about a header that cannot be one.
pub(crate) fn start(collector: Collector) -> Result<(Traces, Sending), String> {
    let client = client(&collector)?;
    let (waiting, queue) = sync_channel(QUEUE_MAX);
    let (alive, over) = sync_channel::<()>(1);
    let dropped = Arc::new(AtomicU64::new(0));
    let exporter = Exporter { client, collector, queue, dropped: dropped.clone() };
    let thread = std::thread::Builder::new().name("traces".into()).spawn(move || {
        exporter.run();
        drop(alive);
    });
    let thread = thread.map_err(|error| format!("no thread for traces: {error}"))?;
    Ok((Traces { waiting: waiting.clone(), dropped }, Sending { waiting, thread, over }))
}

impl Traces {
    /// Queues a build that is over. Never waits.
    pub(crate) fn build_ended(&self, build: &Build) {
        let Some(trace) = spans::of(build) else { return };
        if self.waiting.try_send(Waiting::Build(trace)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Builds whose traces were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Sending {
    /// Waits a little for what is on its way.
    pub(crate) fn finish(self) {
        // With a full queue there is no hope of sending it all now.
        let told = self.waiting.try_send(Waiting::Last).is_ok();
        if told && !matches!(self.over.recv_timeout(LAST_TIMEOUT), Err(RecvTimeoutError::Timeout)) {
            let _ = self.thread.join();
        }
    }
}

fn client(collector: &Collector) -> Result<Client, String> {
    aws::use_ring();
    let builder = Client::builder().default_headers(collector.headers("traces")?).timeout(REQUEST_TIMEOUT);
    let builder = builder.redirect(Policy::none());
    let client = match collector.needs_certificates() {
        true => builder.build(),
        false => builder.tls_certs_only([]).build(),
    };
    client.map_err(|error| format!("no client for traces: {error}"))
}

struct Exporter {
    client: Client,
    collector: Collector,
    queue: Receiver<Waiting>,
    dropped: Arc<AtomicU64>,
}

impl Exporter {
    fn run(self) {
        let mut is_last = false;
        while let (false, Ok(Waiting::Build(first))) = (is_last, self.queue.recv()) {
            let batch;
            (batch, is_last) = self.gather(first);
            let builds = batch.len() as u64;
            let body = spans::request(&self.collector.service, batch);
            if !self.send(&body) {
                self.dropped.fetch_add(builds, Ordering::Relaxed);
                tracing::warn!(builds, "traces were dropped: the collector did not take them");
            }
        }
    }

    /// What comes soon after, and whether it was the last.
    fn gather(&self, first: Value) -> (Vec<Value>, bool) {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX {
            match self.queue.recv_timeout(GATHER) {
                Ok(Waiting::Build(next)) => batch.push(next),
                Ok(Waiting::Last) => return (batch, true),
                Err(_) => break,
            }
        }
        (batch, false)
    }

    /// Whether the collector took it, in the end.
    fn send(&self, body: &Value) -> bool {
        for pause in PAUSES.into_iter().map(Some).chain([None]) {
            match self.client.post(&self.collector.url).body(body.to_string()).send() {
                Ok(answer) if answer.status().is_success() => return true,
                // OTLP: the rest will not be taken however often it is sent.
                Ok(answer) if !matches!(answer.status().as_u16(), 429 | 502 | 503 | 504) => {
                    tracing::debug!(status = answer.status().as_u16(), "the traces' collector refused");
                    return false;
                }
                Ok(_) | Err(_) => pause.into_iter().for_each(std::thread::sleep),
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use api::Timestamp;
    use api::codebuild::StatusType;

    use super::*;

    fn build(number: u32) -> Build {
        Build {
            id: Some(format!("p:00000000-0000-4000-8000-{number:012}")),
            project_name: Some("p".into()),
            build_status: Some(StatusType::Succeeded),
            start_time: Some(Timestamp(1.0)),
            end_time: Some(Timestamp(2.0)),
            ..Build::default()
        }
    }

    /// Answers each request with the next of the statuses; gives the requests back.
    fn collector(statuses: Vec<u16>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let answer = |status: u16| {
                let mut stream = listener.accept().unwrap().0;
                let mut request = Vec::new();
                let mut some = [0; 4096];
                loop {
                    let count = stream.read(&mut some).unwrap();
                    request.extend_from_slice(&some[..count]);
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if length.is_some_and(|length| length.parse() == Ok(body.len())) {
                        break;
                    }
                }
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
                stream.write_all(head.as_bytes()).unwrap();
                String::from_utf8(request).unwrap()
            };
            statuses.into_iter().map(answer).collect()
        });
        (url, thread)
    }

    fn sending_to(url: String) -> (Traces, Sending) {
        let headers = vec![("x-token".into(), "secret".into())];
        start(Collector { url, headers, service: "buildyard".into() }).unwrap()
    }

    #[test]
    fn a_collector_gets_what_ended_in_batches_and_once_more_what_it_had_no_time_for() {
        let (url, collector) = collector(vec![503, 200]);
        let (traces, sending) = sending_to(url);
        (0..3).for_each(|number| traces.build_ended(&build(number)));
        let requests = collector.join().unwrap();
        let body = |request: &str| -> Value {
            serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
        };
        assert_eq!(body(&requests[0]), body(&requests[1]));
        assert!(requests[0].starts_with("POST /v1/traces HTTP/1.1\r\n"), "{}", requests[0]);
        assert!(requests[0].contains("content-type: application/json\r\n"), "{}", requests[0]);
        assert!(requests[0].contains("x-token: secret\r\n"), "{}", requests[0]);
        sending.finish();
        assert_eq!(traces.dropped(), 0);
    }

    #[test]
    fn what_a_collector_refuses_or_has_no_room_is_dropped_and_counted() {
        let (url, collector) = collector(vec![400]);
        let (traces, sending) = sending_to(url);
        traces.build_ended(&build(1));
        collector.join().unwrap();
        sending.finish();
        assert_eq!(traces.dropped(), 1);
        let (waiting, _queue) = sync_channel(1);
        let full = Traces { waiting, dropped: Arc::default() };
        (0..5).for_each(|number| full.build_ended(&build(number)));
        assert_eq!(full.dropped(), 4);
    }
}
