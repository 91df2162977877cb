//! `logsConfig.s3Logs`: a build's log as an object, written whole when the build is over. Where it lies is pure;
//! writing it reads the sealed segment once, however long it is.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use api::Region;
use api::codebuild::{LogsConfigStatusType, Project, S3LogsConfig};
use aws::s3::{At, Encryption, Headers, Upload};
use flate2::Compression;
use flate2::write::GzEncoder;
use store::logs::SegmentReader;
use store::objects::{Metadata, Objects};

/// Bytes of the log in memory at once, and events of it.
const READ_BYTES: usize = 1 << 20;
const READ_EVENTS: usize = 20_000;

const GZIP: &str = "application/gzip";

/// Where a build's log lies when the build is over. COMPAT: SA-116.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogObject {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// What it is to be encrypted with, if it is.
    pub(crate) encryption_key: Option<String>,
}

impl LogObject {
    /// `None` if the build has no log in S3.
    pub(crate) fn of(settings: &Project, uuid: &str) -> Option<LogObject> {
        let config = enabled(settings)?;
        let (bucket, prefix) = split(config.location.as_deref().unwrap_or_default());
        let key = match prefix.trim_matches('/') {
            "" => format!("{uuid}.gz"),
            prefix => format!("{prefix}/{uuid}.gz"),
        };
        let encryption_key =
            settings.encryption_key.clone().filter(|_| config.encryption_disabled != Some(true));
        Some(LogObject { bucket: bucket.to_string(), key, encryption_key })
    }

    /// COMPAT: SA-115.
    pub(crate) fn deep_link(&self, region: &Region) -> String {
        let LogObject { bucket, key, .. } = self;
        format!("https://s3.console.aws.amazon.com/s3/object/{bucket}/{key}?region={region}")
    }

    /// Writes the log, complete or not at all, over what an earlier attempt left.
    pub(crate) fn write(&self, log: &Path, objects: &Objects) -> io::Result<()> {
        let object = objects.put(&self.bucket, &self.key).map_err(io::Error::other)?;
        let metadata = Metadata { content_type: Some(GZIP.to_string()), ..Metadata::default() };
        packed(log, object)?.finish(metadata).map_err(io::Error::other)?;
        Ok(())
    }

    /// As `write`, to a store elsewhere.
    pub(crate) async fn send(
        self,
        log: &Path,
        store: &aws::s3::Store,
        encryption: Option<Encryption>,
    ) -> io::Result<()> {
        let (from, to) = (log.to_owned(), log.with_extension("gz"));
        let packing = tokio::task::spawn_blocking(move || packed(&from, unnamed(&to)?));
        let file = packing.await.map_err(io::Error::other)??;
        let upload = Upload {
            at: At { bucket: self.bucket, key: self.key },
            offset: 0,
            size: file.metadata()?.len(),
            headers: Headers { content_type: Some(GZIP.to_string()), encryption, ..Headers::default() },
        };
        store.put(&upload, &Arc::new(file)).await.map_err(io::Error::other)?;
        Ok(())
    }
}

fn packed<W: Write>(log: &Path, into: W) -> io::Result<W> {
    let mut reader = SegmentReader::open(log).map_err(io::Error::other)?;
    let mut packed = GzEncoder::new(into, Compression::fast());
    let mut position = reader.start();
    loop {
        let (events, next) = reader.forward(position, READ_EVENTS, READ_BYTES).map_err(io::Error::other)?;
        if events.is_empty() {
            return packed.finish();
        }
        events.iter().try_for_each(|event| packed.write_all(&event.bytes))?;
        position = next;
    }
}

/// A file that is gone with its handle; one of that name may have been left by a crash.
fn unnamed(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Whether no bucket is named.
pub(crate) fn lacks_location(config: &S3LogsConfig) -> bool {
    split(config.location.as_deref().unwrap_or_default()).0.is_empty()
}

fn enabled(settings: &Project) -> Option<&S3LogsConfig> {
    let config = settings.logs_config.as_ref()?.s3_logs.as_ref()?;
    (config.status == Some(LogsConfigStatusType::Enabled)).then_some(config)
}

/// Bucket and prefix of `bucket/prefix`, or of its ARN.
fn split(location: &str) -> (&str, &str) {
    let path = match location.strip_prefix("arn:") {
        Some(arn) => arn.rsplit(':').next().unwrap_or_default(),
        None => location,
    };
    path.split_once('/').unwrap_or((path, ""))
}

#[cfg(test)]
mod tests {
    use api::codebuild::LogsConfig;

    use super::*;

    fn settings(status: LogsConfigStatusType, location: &str) -> Project {
        let s3_logs = S3LogsConfig {
            status: Some(status),
            location: Some(location.to_string()),
            ..S3LogsConfig::default()
        };
        let logs = LogsConfig { s3_logs: Some(s3_logs), cloud_watch_logs: None };
        Project { logs_config: Some(logs), ..Project::default() }
    }

    #[test]
    fn the_key_is_the_prefix_and_the_builds_uuid() {
        // SA-116
        for (location, bucket, key) in [
            ("logs", "logs", "u.gz"),
            ("logs/", "logs", "u.gz"),
            ("logs/a/b", "logs", "a/b/u.gz"),
            ("arn:aws:s3:::logs/a/", "logs", "a/u.gz"),
            ("arn:aws-cn:s3:::logs", "logs", "u.gz"),
        ] {
            let found = LogObject::of(&settings(LogsConfigStatusType::Enabled, location), "u");
            let expected = LogObject { bucket: bucket.into(), key: key.into(), encryption_key: None };
            assert_eq!(found, Some(expected), "{location}");
        }
        assert_eq!(LogObject::of(&settings(LogsConfigStatusType::Disabled, "logs"), "u"), None);
        assert_eq!(LogObject::of(&Project::default(), "u"), None);
    }
}
