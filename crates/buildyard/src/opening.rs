//! What a server opens in its data folder before it serves, and how it waits for a disk on which that cannot be done.
//!
//! A server that was killed on a full disk opens without writing anything. What has to be written all the same, as on first start, or
//! on a disk that is read-only, is tried until it can be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::config::Elsewhere;
use rustix::io::Errno;
use server::Replays;
use store::objects::Objects;
use store::records::{Records, Vault};
use tokio::net::{TcpListener, UnixListener};

use crate::admin::door;
use crate::config::Settings;
use crate::{credentials, store_settings};

/// Where agents bring their builds' connections, in the data folder.
const BUILDS_SOCKET: &str = "builds.sock";
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// Written to see whether anything can be.
const PROBE: &str = "probe.new";
const FULL: &str = "the disk is full";

/// Everything of the data folder that a server serves from.
pub(crate) struct Opened {
    pub(crate) first_key: credentials::AccessKey,
    pub(crate) records: Records,
    pub(crate) vault: Vault,
    pub(crate) objects: Objects,
    pub(crate) elsewhere: Option<Elsewhere>,
    pub(crate) replays: Replays,
    pub(crate) admin: UnixListener,
    pub(crate) for_builds: UnixListener,
}

/// Why it could not be opened.
struct Refusal {
    why: String,
    cause: Cause,
}

#[derive(Clone, Copy)]
enum Cause {
    /// A disk without room.
    Full,
    /// Perhaps the disk.
    Unknown,
    /// Something else.
    Other,
}

impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal { why, cause: Cause::Unknown }
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Refusal {
        let cause = match error {
            store::Error::Full => Cause::Full,
            store::Error::Internal { .. } => Cause::Unknown,
            _ => Cause::Other,
        };
        Refusal { why: error.to_string(), cause }
    }
}

/// Opens it; while the disk is full or read-only, tries again, and says so to whoever asks at the listener. `now` in seconds since 1970.
///
/// # Errors
/// What is wrong otherwise.
pub(crate) async fn open(settings: &Settings, now: i64, listener: &TcpListener) -> Result<Opened, String> {
    let mut told = None;
    loop {
        let refusal = match try_to_open(settings, now).await {
            Ok(opened) => return Ok(opened),
            Err(refusal) => refusal,
        };
        let Some(trouble) = trouble(&settings.data, refusal.cause) else { return Err(refusal.why) };
        if told != Some(trouble) {
            tracing::error!(data = %settings.data.display(), reason = %refusal.why, "{trouble}; waiting until that is over");
        }
        tokio::select! {
            () = server::stay_closed(listener, trouble) => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
        told = Some(trouble);
    }
}

async fn try_to_open(settings: &Settings, now: i64) -> Result<Opened, Refusal> {
    let data = &settings.data;
    let first_key = credentials::first_key(data)?;
    let records = open_records(settings)?;
    let vault = Vault::open(records.clone(), &settings.secret_key).await?;
    let objects = Objects::open(&data.join("s3"))?;
    objects.clean()?;
    let replays = data.join("replays");
    let builds = builds_socket(data);
    Ok(Opened {
        first_key,
        records,
        vault,
        objects,
        elsewhere: store_settings::elsewhere(settings.s3.clone(), &settings.region, data)?,
        replays: Replays::kept(&replays, now)
            .map_err(|e| format!("cannot keep {}: {e}", replays.display()))?,
        admin: door::listen(data)?,
        for_builds: server::listen_for_builds(&builds)
            .map_err(|e| format!("cannot listen at {}: {e}", builds.display()))?,
    })
}

fn open_records(settings: &Settings) -> Result<Records, Refusal> {
    let data = &settings.data;
    let (opened, what) = match &settings.database {
        Some(address) => (Records::connect(address, data), format!("the database {address}")),
        None => (Records::open(data), format!("the data folder {}", data.display())),
    };
    opened.map_err(|error| {
        let Refusal { why, cause } = error.into();
        Refusal { why: format!("cannot open {what}: {why}"), cause }
    })
}

/// What is wrong with the disk, if that is what it was.
fn trouble(data: &Path, cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::Full => Some(FULL),
        Cause::Unknown => probe(&data.join(PROBE)),
        Cause::Other => None,
    }
}

fn probe(probe: &Path) -> Option<&'static str> {
    let written = std::fs::write(probe, [1; 4096]);
    let _ = std::fs::remove_file(probe);
    match written.map_err(|error| Errno::from_io_error(&error)) {
        Err(Some(Errno::ROFS)) => Some("the disk is read-only"),
        Err(Some(Errno::IO)) => Some("the disk fails"),
        Err(Some(Errno::NOSPC | Errno::DQUOT)) => Some(FULL),
        _ => None,
    }
}

/// Where agents bring their builds' connections.
pub(crate) fn builds_socket(data: &Path) -> PathBuf {
    data.join(BUILDS_SOCKET)
}

/// Leaves word of where the server listens; on a full disk, as soon as there is room.
pub(crate) fn note_endpoint(data: &Path, url: &str) {
    let Err(why) = credentials::note_endpoint(data, url) else { return };
    tracing::error!(%why, "`buildyard env` does not find this server yet");
    let (data, url) = (data.to_owned(), url.to_owned());
    tokio::spawn(async move {
        while credentials::note_endpoint(&data, &url).is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_disk_that_is_in_trouble_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(trouble(folder.path(), Cause::Unknown), None);
        assert_eq!(trouble(&folder.path().join("gone"), Cause::Unknown), None);
        assert_eq!(trouble(folder.path(), Cause::Full), Some(FULL));
        assert_eq!(trouble(Path::new("/proc"), Cause::Other), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
