//! What the server counts, and how Prometheus reads it.
//!
//! Requests are counted where they are answered (`http`), builds where `engine` tells of them; what others know at any
//! time (how long the queue is) is asked when somebody looks. Every label has few values or a limit with a name, so
//! that nobody can fill our memory by making things up. `listener` serves it: on a port of its own, since
//! nobody signs for it.

mod listener;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::codebuild::{Build, BuildPhaseType, StatusType};
use engine::Utilization;

pub use listener::serve;
use text::{Kind, Text};

/// Projects with numbers of their own; those that come later share one name.
pub const PROJECTS_MAX: usize = 500;
/// What they share. No project can be called so.
const OTHERS: &str = "(others)";
/// Upper bounds of what a request takes, seconds.
const LATENCIES: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];
/// COMPAT: CodeBuild's metrics of phases, by their names there.
const PHASES: [(BuildPhaseType, &str); 10] = [
    (BuildPhaseType::Submitted, "Submitted"),
    (BuildPhaseType::Queued, "Queued"),
    (BuildPhaseType::Provisioning, "Provisioning"),
    (BuildPhaseType::DownloadSource, "DownloadSource"),
    (BuildPhaseType::Install, "Install"),
    (BuildPhaseType::PreBuild, "PreBuild"),
    (BuildPhaseType::Build, "Build"),
    (BuildPhaseType::PostBuild, "PostBuild"),
    (BuildPhaseType::UploadArtifacts, "UploadArtifacts"),
    (BuildPhaseType::Finalizing, "Finalizing"),
];

type Amount = fn(&Utilization) -> Option<f64>;
/// COMPAT: IN-032 CodeBuild's metrics of resources, by their names there and in its units.
const RESOURCES: [(&str, &str, Amount); 6] = [
    ("CPUUtilized", "Processors in use, on average of a build.", |used| Some(used.processors)),
    ("CPUUtilizedPercent", "Of the processors of the compute type.", |used| used.processors_percent),
    ("MemoryUtilized_megabytes", "Memory, the most at once in a build.", |used| {
        used.memory_bytes.map(|bytes| bytes / 1e6)
    }),
    ("MemoryUtilizedPercent", "Of the memory of the compute type.", |used| used.memory_percent),
    ("StorageReadBytes", "Read from disks, bytes per second of a build.", |used| {
        used.storage_read_bytes_per_second
    }),
    ("StorageWriteBytes", "Written to disks, bytes per second of a build.", |used| {
        used.storage_written_bytes_per_second
    }),
];

/// Counts. Cheap to clone; clones count together.
#[derive(Clone, Default)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    counts: Mutex<Counts>,
    asked: Mutex<Vec<Asked>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// A number that is somebody else's.
struct Asked {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
}

#[derive(Default)]
struct Counts {
    requests: BTreeMap<Request, u64>,
    latencies: BTreeMap<(&'static str, &'static str), Latency>,
    /// By account and project.
    projects: BTreeMap<(String, String), Builds>,
}

/// What a request was, and came to. Both names are words of ours, never a client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    service: &'static str,
    operation: &'static str,
    status: u16,
}

#[derive(Default)]
struct Latency {
    /// As many as there are bounds; each counts what is under its bound alone.
    under: [u64; LATENCIES.len()],
    count: u64,
    seconds: f64,
}

#[derive(Default)]
struct Builds {
    accepted: u64,
    succeeded: u64,
    failed: u64,
    whole: Spent,
    phases: [Spent; PHASES.len()],
    resources: [Spent; RESOURCES.len()],
}

#[derive(Default, Clone, Copy)]
struct Spent {
    count: u64,
    sum: f64,
}

impl Spent {
    fn add(&mut self, amount: f64) {
        self.count += 1;
        self.sum += amount.max(0.0);
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// A number that goes up and down, such as the length of a queue; `read` must not block.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.ask(Asked { name, help, kind: Kind::Gauge, read: Box::new(read) });
    }

    /// A number that only goes up; `read` must not block.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.ask(Asked { name, help, kind: Kind::Counter, read: Box::new(read) });
    }

    fn ask(&self, asked: Asked) {
        self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.inner.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn request_answered(
        &self,
        service: &'static str,
        operation: &'static str,
        status: u16,
        seconds: f64,
    ) {
        let mut counts = self.counts();
        *counts.requests.entry(Request { service, operation, status }).or_default() += 1;
        let latency = counts.latencies.entry((service, operation)).or_default();
        latency.count += 1;
        latency.seconds += seconds;
        if let Some(under) = LATENCIES.iter().position(|bound| seconds <= *bound) {
            latency.under[under] += 1;
        }
    }

    /// Counts a build that was accepted just now. COMPAT: CodeBuild's metric `Builds`.
    pub fn build_accepted(&self, build: &Build) {
        self.of_project(build, |builds| builds.accepted += 1);
    }

    /// Counts what a build came to. COMPAT: CodeBuild's metrics `SucceededBuilds`, `FailedBuilds`, `Duration` and those of
    /// the phases, times in seconds.
    pub fn build_ended(&self, build: &Build) {
        self.of_project(build, |builds| {
            match build.build_status {
                Some(StatusType::Succeeded) => builds.succeeded += 1,
                // COMPAT: what was stopped counts as neither.
                Some(StatusType::Stopped) => {}
                _ => builds.failed += 1,
            }
            if let (Some(start), Some(end)) = (build.start_time, build.end_time) {
                builds.whole.add(end.0 - start.0);
            }
            for phase in build.phases.iter().flatten() {
                let place = PHASES.iter().position(|(kind, _)| Some(kind) == phase.phase_type.as_ref());
                if let (Some(place), Some(start), Some(end)) = (place, phase.start_time, phase.end_time) {
                    builds.phases[place].add(end.0 - start.0);
                }
            }
        });
    }

    /// Counts what a build that ended has used. COMPAT: CodeBuild's metrics of resources, here of every build, however short.
    pub fn build_used(&self, build: &Build, used: &Utilization) {
        self.of_project(build, |builds| {
            for (spent, (_, _, amount)) in builds.resources.iter_mut().zip(RESOURCES) {
                amount(used).into_iter().for_each(|amount| spent.add(amount));
            }
        });
    }

    fn of_project(&self, build: &Build, count: impl FnOnce(&mut Builds)) {
        let account = build.arn.as_deref().and_then(|arn| arn.split(':').nth(4)).unwrap_or_default();
        let project = build.project_name.as_deref().unwrap_or_default();
        let mut counts = self.counts();
        let mut of = (account.to_owned(), project.to_owned());
        if counts.projects.len() >= PROJECTS_MAX && !counts.projects.contains_key(&of) {
            of = (String::new(), OTHERS.to_owned());
        }
        count(counts.projects.entry(of).or_default());
    }

    /// All of it, in Prometheus's text format 0.0.4.
    pub fn to_text(&self) -> String {
        let mut text = Text::default();
        self.write_asked(&mut text);
        let counts = self.counts();
        counts.write_requests(&mut text);
        counts.write_builds(&mut text);
        text.finish()
    }

    fn write_asked(&self, text: &mut Text) {
        for Asked { name, help, kind, read } in
            self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            text.family(name, help, *kind);
            text.sample(name, &[], read());
        }
    }
}

impl Counts {
    fn write_requests(&self, text: &mut Text) {
        let name = "buildyard_requests_total";
        text.family(name, "Requests answered, by HTTP status.", Kind::Counter);
        for (Request { service, operation, status }, count) in &self.requests {
            let status = status.to_string();
            let labels = [("service", *service), ("operation", *operation), ("status", &status)];
            text.sample(name, &labels, *count as f64);
        }
        let name = "buildyard_request_duration_seconds";
        text.family(name, "From a request's head to the beginning of its answer.", Kind::Histogram);
        for ((service, operation), latency) in &self.latencies {
            let mut under = 0;
            for (bound, count) in LATENCIES.iter().zip(latency.under) {
                under += count;
                let bound = bound.to_string();
                let labels = [("service", *service), ("operation", *operation), ("le", &bound)];
                text.sample("buildyard_request_duration_seconds_bucket", &labels, under as f64);
            }
            let labels = [("service", *service), ("operation", *operation), ("le", "+Inf")];
            text.sample("buildyard_request_duration_seconds_bucket", &labels, latency.count as f64);
            text.sample("buildyard_request_duration_seconds_sum", &labels[..2], latency.seconds);
            text.sample("buildyard_request_duration_seconds_count", &labels[..2], latency.count as f64);
        }
    }

    fn write_builds(&self, text: &mut Text) {
        type Count = fn(&Builds) -> u64;
        let counters: [(&str, &str, Count); 3] = [
            ("codebuild_Builds_total", "Builds accepted.", |builds| builds.accepted),
            ("codebuild_SucceededBuilds_total", "Builds that succeeded.", |builds| builds.succeeded),
            (
                "codebuild_FailedBuilds_total",
                "Builds that failed, timed out or ended by a fault.",
                |builds| builds.failed,
            ),
        ];
        for (name, help, count) in counters {
            text.family(name, help, Kind::Counter);
            for ((account, project), builds) in &self.projects {
                text.sample(name, &[("account", account), ("project", project)], count(builds) as f64);
            }
        }
        self.write_spent(text, "codebuild_Duration_seconds", "From acceptance to the end.", |builds| {
            builds.whole
        });
        for (place, (_, phase)) in PHASES.iter().enumerate() {
            let name = format!("codebuild_{phase}Duration_seconds");
            self.write_spent(text, &name, "Spent in the phase.", |builds| builds.phases[place]);
        }
        for (place, (resource, help, _)) in RESOURCES.iter().enumerate() {
            self.write_spent(text, &format!("codebuild_{resource}"), help, |builds| builds.resources[place]);
        }
    }

    fn write_spent(&self, text: &mut Text, name: &str, help: &str, spent: impl Fn(&Builds) -> Spent) {
        text.family(name, help, Kind::Summary);
        for ((account, project), builds) in &self.projects {
            let labels = [("account", account.as_str()), ("project", project.as_str())];
            let Spent { count, sum } = spent(builds);
            text.sample(&format!("{name}_sum"), &labels, sum);
            text.sample(&format!("{name}_count"), &labels, count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use api::Timestamp;
    use api::codebuild::BuildPhase;

    use super::*;

    fn build(project: &str, status: StatusType) -> Build {
        let phase = |kind, start, end| BuildPhase {
            phase_type: Some(kind),
            start_time: Some(Timestamp(start)),
            end_time: end,
            ..BuildPhase::default()
        };
        Build {
            arn: Some(format!("arn:aws:codebuild:us-east-1:123456789012:build/{project}:1")),
            project_name: Some(project.into()),
            build_status: Some(status),
            start_time: Some(Timestamp(10.0)),
            end_time: Some(Timestamp(14.5)),
            phases: Some(vec![
                phase(BuildPhaseType::Queued, 10.0, Some(Timestamp(11.0))),
                phase(BuildPhaseType::DownloadSource, 11.0, Some(Timestamp(13.0))),
                phase(BuildPhaseType::Completed, 14.5, None),
            ]),
            ..Build::default()
        }
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|each| each == line), "{line} is not in\n{text}");
    }

    // IN-031
    #[test]
    fn builds_are_counted_by_what_they_came_to_and_where_their_time_went() {
        let metrics = Metrics::new();
        let statuses = [StatusType::Succeeded, StatusType::Failed, StatusType::TimedOut, StatusType::Stopped];
        for status in statuses {
            metrics.build_accepted(&build("p", StatusType::InProgress));
            metrics.build_ended(&build("p", status));
        }
        let text = metrics.to_text();
        let of = "{account=\"123456789012\",project=\"p\"}";
        has(&text, "# TYPE codebuild_Builds_total counter");
        has(&text, &format!("codebuild_Builds_total{of} 4"));
        has(&text, &format!("codebuild_SucceededBuilds_total{of} 1"));
        has(&text, &format!("codebuild_FailedBuilds_total{of} 2"));
        has(&text, "# TYPE codebuild_Duration_seconds summary");
        has(&text, &format!("codebuild_Duration_seconds_sum{of} 18"));
        has(&text, &format!("codebuild_QueuedDuration_seconds_sum{of} 4"));
        has(&text, &format!("codebuild_DownloadSourceDuration_seconds_sum{of} 8"));
        has(&text, &format!("codebuild_BuildDuration_seconds_count{of} 0"));
    }

    // IN-032
    #[test]
    fn what_builds_used_is_summed_up_in_codebuilds_names_and_units() {
        let metrics = Metrics::new();
        let used = Utilization {
            processors: 1.5,
            processors_percent: Some(75.0),
            memory_bytes: Some(300e6),
            memory_percent: None,
            storage_read_bytes_per_second: Some(4_096.0),
            storage_written_bytes_per_second: Some(512.0),
        };
        metrics.build_used(&build("p", StatusType::Succeeded), &used);
        metrics.build_used(&build("p", StatusType::Failed), &used);
        let text = metrics.to_text();
        let of = "{account=\"123456789012\",project=\"p\"}";
        has(&text, "# TYPE codebuild_CPUUtilized summary");
        for (name, sum, count) in [
            ("CPUUtilized", "3", 2),
            ("CPUUtilizedPercent", "150", 2),
            ("MemoryUtilized_megabytes", "600", 2),
            ("MemoryUtilizedPercent", "0", 0),
            ("StorageReadBytes", "8192", 2),
            ("StorageWriteBytes", "1024", 2),
        ] {
            has(&text, &format!("codebuild_{name}_sum{of} {sum}"));
            has(&text, &format!("codebuild_{name}_count{of} {count}"));
        }
    }

    #[test]
    fn projects_beyond_the_limit_share_one_name() {
        let metrics = Metrics::new();
        for number in 0..PROJECTS_MAX + 50 {
            metrics.build_accepted(&build(&format!("p{number}"), StatusType::InProgress));
        }
        metrics.build_accepted(&build("p0", StatusType::InProgress));
        let text = metrics.to_text();
        has(&text, "codebuild_Builds_total{account=\"\",project=\"(others)\"} 50");
        has(&text, "codebuild_Builds_total{account=\"123456789012\",project=\"p0\"} 2");
        let lines = text.lines().filter(|line| line.starts_with("codebuild_Builds_total{")).count();
        assert_eq!(lines, PROJECTS_MAX + 1);
    }

    #[test]
    fn requests_are_counted_by_operation_and_status_and_timed_in_buckets_that_add_up() {
        let metrics = Metrics::new();
        for (status, seconds) in [(200, 0.0005), (200, 0.03), (400, 0.001), (200, 60.0)] {
            metrics.request_answered("codebuild", "ListBuilds", status, seconds);
        }
        let text = metrics.to_text();
        has(
            &text,
            "buildyard_requests_total{service=\"codebuild\",operation=\"ListBuilds\",status=\"200\"} 3",
        );
        let bucket = |le: &str, count: u64| {
            let labels = format!("service=\"codebuild\",operation=\"ListBuilds\",le=\"{le}\"");
            has(&text, &format!("buildyard_request_duration_seconds_bucket{{{labels}}} {count}"));
        };
        [("0.001", 2), ("0.025", 2), ("0.05", 3), ("10", 3), ("+Inf", 4)]
            .into_iter()
            .for_each(|(le, count)| bucket(le, count));
    }

    #[test]
    fn numbers_of_others_are_asked_when_somebody_looks() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let metrics = Metrics::new();
        let number = Arc::new(AtomicU32::new(1));
        let read = number.clone();
        metrics.gauge("buildyard_builds_waiting", "Builds in the queue.", move || {
            f64::from(read.load(Ordering::Relaxed))
        });
        number.store(7, Ordering::Relaxed);
        has(&metrics.to_text(), "buildyard_builds_waiting 7");
    }
}
