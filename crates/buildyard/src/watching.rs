//! How a server is watched: its log, whether it is ready, its metrics, and traces of its builds. Wiring only.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::Engine;
use engine::config::{BuildNews, TellBuilds};
use server::{Metrics, Ready};
use store::records::Records;
use tracing_subscriber::EnvFilter;

use crate::collector::Collector;
use crate::config::LogFormat;
use crate::forwarding::Counts;
use crate::traces::{self, Sending, Traces};

/// Room that there must be where the data is: a server without it accepts nothing.
const DISK_MIN_BYTES: u64 = 64 * 1024 * 1024;
/// How long the database may take to answer before the server counts as not ready.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// The server's own log goes to standard error; `BUILDYARD_LOG` sets the level, as `info` or `engine=debug`.
pub(crate) fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("BUILDYARD_LOG").unwrap_or_else(|_| EnvFilter::new("warn,s3s=off"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Everything that looks on.
#[derive(Debug)]
pub(crate) struct Watching {
    pub(crate) metrics: Metrics,
    traces: Option<Traces>,
}

impl Watching {
    /// # Errors
    /// A sentence about what the collector's address or headers lack.
    pub(crate) fn start(collector: Option<Collector>) -> Result<(Watching, Option<Sending>), String> {
        let metrics = Metrics::new();
        let (traces, sending) = collector.map(traces::start).transpose()?.unzip();
        if let Some(traces) = traces.clone() {
            let help = "Builds whose traces were not sent.";
            metrics.counter("buildyard_traces_dropped_total", help, move || traces.dropped() as f64);
        }
        Ok((Watching { metrics, traces }, sending))
    }

    /// Whom the engine tells of builds.
    pub(crate) fn tell_builds(&self) -> TellBuilds {
        let (metrics, traces) = (self.metrics.clone(), self.traces.clone());
        TellBuilds::new(move |news| match news {
            BuildNews::Accepted(build) => metrics.build_accepted(build),
            BuildNews::Ended(build, used) => {
                if let Some(used) = used {
                    metrics.build_used(build, &used);
                }
                metrics.build_ended(build);
                if let Some(traces) = &traces {
                    traces.build_ended(build);
                }
            }
        })
    }

    /// Numbers that the engine and the executor know at any time.
    pub(crate) fn ask(&self, engine: &Engine, waiting_agents: impl Fn() -> usize + Send + Sync + 'static) {
        let (load, again) = (engine.load(), engine.load());
        let help = "Builds in the queue.";
        self.metrics.gauge("buildyard_builds_waiting", help, move || load().waiting as f64);
        let help = "Builds that have an agent, or are being given one.";
        self.metrics.gauge("buildyard_builds_running", help, move || again().running as f64);
        let help = "Agents that were started beforehand and wait for a build.";
        self.metrics.gauge("buildyard_agents_waiting", help, move || waiting_agents() as f64);
    }

    /// What became of events that were to be forwarded.
    pub(crate) fn count_forwarded(&self, counts: Arc<Counts>) {
        let again = counts.clone();
        let help = "Log events that were forwarded.";
        self.metrics.counter("buildyard_log_events_forwarded_total", help, move || counts.forwarded() as f64);
        let help = "Log events that were to be forwarded and will never be taken.";
        self.metrics.counter("buildyard_log_events_refused_total", help, move || again.refused() as f64);
    }

    /// Serves the metrics at an address of their own.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub(crate) async fn serve_metrics(&self, address: SocketAddr) -> Result<(), String> {
        let listener = server::listen(address).await.map_err(|e| format!("metrics_listen: {e}"))?;
        tokio::spawn(server::metrics::serve(listener, self.metrics.clone()));
        Ok(())
    }
}

/// Ready is who is not about to stop, and can store what it accepts.
pub(crate) fn ready(wanted: Arc<AtomicBool>, records: Records, data: &Path) -> Ready {
    let data: Arc<Path> = data.into();
    Ready::new(move || {
        let (wanted, records, data) = (wanted.clone(), records.clone(), data.clone());
        async move {
            if !wanted.load(Ordering::Relaxed) {
                return Err("the server is stopping".to_owned());
            }
            let answer = tokio::time::timeout(DATABASE_TIMEOUT, records.get_setting("ready")).await;
            match answer {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the database cannot be read");
                    return Err("the database cannot be read".to_owned());
                }
                Err(_) => return Err("the database does not answer".to_owned()),
            }
            check_disk(&data)
        }
    })
}

fn check_disk(data: &Path) -> Result<(), String> {
    let disk = rustix::fs::statvfs(data).map_err(|e| format!("the data folder cannot be read: {e}"))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match free >= DISK_MIN_BYTES {
        true => Ok(()),
        false => Err(format!("the disk is full: {free} of at least {DISK_MIN_BYTES} bytes are free")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_room_is_fine_and_one_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check_disk(folder.path()), Ok(()));
        assert!(check_disk(&folder.path().join("gone")).unwrap_err().contains("data folder"));
    }
}
