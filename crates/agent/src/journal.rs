//! The journal: what happened to a build, in order, as framed JSON records in one append-only file.
//!
//! Written by the agent alone, read by the driver from any offset. A record counts once it is whole;
//! a torn tail is ignored. The last record of a finished build is [`Event::Finished`], fsynced before
//! the agent leaves.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Phases that an agent goes through; the engine adds SUBMITTED, QUEUED and COMPLETED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    Provisioning,
    DownloadSource,
    Install,
    PreBuild,
    Build,
    PostBuild,
    UploadArtifacts,
    Finalizing,
}

impl Phase {
    /// CodeBuild's name, as in the API and the log.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Provisioning => "PROVISIONING",
            Phase::DownloadSource => "DOWNLOAD_SOURCE",
            Phase::Install => "INSTALL",
            Phase::PreBuild => "PRE_BUILD",
            Phase::Build => "BUILD",
            Phase::PostBuild => "POST_BUILD",
            Phase::UploadArtifacts => "UPLOAD_ARTIFACTS",
            Phase::Finalizing => "FINALIZING",
        }
    }
}

/// How a phase or a build ended (LC-026, LC-040).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    Succeeded,
    Failed,
    Fault,
    TimedOut,
    Stopped,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Succeeded => "SUCCEEDED",
            Outcome::Failed => "FAILED",
            Outcome::Fault => "FAULT",
            Outcome::TimedOut => "TIMED_OUT",
            Outcome::Stopped => "STOPPED",
        }
    }
}

/// A phase context: why a phase ended as it did (LC-025, LC-050..059). Both empty on success.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    pub status_code: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadedArtifact {
    /// Absent for the primary artifact.
    pub identifier: Option<String>,
    /// `arn:aws:s3:::bucket/key`, or a local path for `buildyard run`.
    pub location: String,
    /// Hex; only for ZIP packaging (SA-067).
    pub sha256: Option<String>,
    pub md5: Option<String>,
    pub files: u64,
}

/// A secret to be fetched whole. Without stage and version, `AWSCURRENT` is meant (BS-049).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Secret {
    /// Name or ARN.
    pub id: String,
    pub stage: Option<String>,
    pub version: Option<String>,
}

/// A report group that a build has a report for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportGroup {
    pub name: String,
    pub kind: report::Kind,
    /// Whether it is made if it is not there (BS-110).
    pub create: bool,
}

/// Why a build is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// A command failed, and a shell was wanted then; the build goes on when the shell ends.
    Failure,
    /// `codebuild-breakpoint` was reached; `codebuild-resume` lets the build go on (BS-086).
    Breakpoint,
    /// A kept environment is entered; the end of the shell is the end.
    Visit,
}

/// Times are milliseconds since the Unix epoch. The end of a phase is the start of the next (LC-024).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// First record: the agent has taken the build. `process` is its pid.
    Started {
        at_ms: i64,
        process: u32,
    },
    PhaseStarted {
        phase: Phase,
        at_ms: i64,
    },
    PhaseEnded {
        phase: Phase,
        at_ms: i64,
        outcome: Outcome,
        context: Context,
    },
    /// The build waits in DOWNLOAD_SOURCE until a driver has sent an [`crate::answer::Answer`]. Each is named once,
    /// in the order of need.
    ReferencesNeeded {
        parameters: Vec<String>,
        secrets: Vec<Secret>,
        /// Whether git inside asks for credentials (BS-055).
        #[serde(default)]
        git: bool,
    },
    /// A phase failed whose `on-failure` says RETRY, and its pattern matches: the build may be tried again, so many
    /// times in all (BS-082..084).
    RetryAsked {
        limit: u32,
    },
    /// The build does not go on until somebody has been in its environment; see [`crate::attach`].
    Held {
        at_ms: i64,
        why: Hold,
    },
    SourceResolved {
        version: String,
    },
    ArtifactUploaded(UploadedArtifact),
    Exported {
        variables: BTreeMap<String, String>,
    },
    /// What the build had used when a phase ended, told before that phase's end. Since its beginning, but for what is said otherwise.
    Used {
        phase: Phase,
        /// Of processors, in this phase.
        cpu_millis: u64,
        /// The most at once.
        memory_peak_bytes: Option<u64>,
        /// Where the build's network leads out.
        network_received_bytes: Option<u64>,
        network_sent_bytes: Option<u64>,
        /// From and to disks, in this phase; absent where the kernel does not tell.
        #[serde(default)]
        storage_read_bytes: Option<u64>,
        #[serde(default)]
        storage_written_bytes: Option<u64>,
    },
    /// The build waits in UPLOAD_ARTIFACTS until a driver has sent [`crate::answer::Answer::Reports`] with each of these.
    ReportsNeeded {
        groups: Vec<ReportGroup>,
    },
    /// The answer came; these reports are being made.
    ReportsStarted {
        arns: Vec<String>,
    },
    /// A report is made. Its findings are JSON of a [`report::Findings`], in a file of the build's folder; without them
    /// there were no files.
    ReportEnded {
        arn: String,
        findings: Option<String>,
        /// All its files were found and read.
        is_complete: bool,
    },
    /// Last record: everything is torn down and durable.
    Finished {
        at_ms: i64,
        outcome: Outcome,
    },
}

const HEADER: usize = 8;
const RECORD_LIMIT: u32 = 4 << 20;

/// Appends records. `create` fails with `AlreadyExists` if any agent (or a recovering driver) was here
/// first: whoever creates the journal owns the build, which is how commands run at most once (P3).
#[derive(Debug)]
pub struct Writer {
    file: File,
}

impl Writer {
    pub fn create(path: &Path) -> io::Result<Writer> {
        let file = File::options().append(true).create_new(true).open(path)?;
        Ok(Writer { file })
    }

    pub fn append(&mut self, event: &Event) -> io::Result<()> {
        let body = serde_json::to_vec(event).map_err(io::Error::other)?;
        let length = u32::try_from(body.len()).ok().filter(|length| *length <= RECORD_LIMIT);
        let length = length.ok_or_else(|| io::Error::other("journal record over 4 MiB"))?;
        let mut record = Vec::with_capacity(HEADER + body.len());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        record.extend_from_slice(&body);
        self.file.write_all(&record)
    }

    /// Makes all records durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Reads whole records from `offset`; returns them and the offset after the last.
pub fn read(path: &Path, offset: u64) -> io::Result<(Vec<Event>, u64)> {
    let file = File::open(path)?;
    let mut events = Vec::new();
    let mut at = offset;
    loop {
        let mut header = [0u8; HEADER];
        if !read_whole(&file, &mut header, at)? {
            return Ok((events, at));
        }
        let length = u32::from_le_bytes(header[..4].try_into().expect("4 bytes"));
        let sum = u32::from_le_bytes(header[4..].try_into().expect("4 bytes"));
        if length > RECORD_LIMIT {
            return Err(io::Error::other(format!("journal damaged at byte {at}: record of {length} bytes")));
        }
        let mut body = vec![0; length as usize];
        if !read_whole(&file, &mut body, at + HEADER as u64)? {
            return Ok((events, at));
        }
        if crc32fast::hash(&body) != sum {
            return Err(io::Error::other(format!("journal damaged at byte {at}: checksum differs")));
        }
        events.push(serde_json::from_slice(&body).map_err(io::Error::other)?);
        at += HEADER as u64 + u64::from(length);
    }
}

/// False if the file ends before the buffer is full.
fn read_whole(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
