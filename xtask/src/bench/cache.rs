//! What restoring a build's cache costs, with few files in it and with many.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use super::client::Client;
use super::measure::{finished, phase_length};
use super::served::Server;
use super::statistics::Sample;

/// How many files, and how often each cache is restored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amount {
    pub(super) few: usize,
    pub(super) many: usize,
    pub(super) restores: usize,
}

/// DOWNLOAD_SOURCE of builds that find a cache which none has changed: milliseconds.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) layers: Pair,
    pub(super) archives: Pair,
    /// The same archives, unpacked by GNU tar; none if it is not here, or without Zstandard.
    pub(super) tar: Option<Pair>,
}

/// The same with few files and with many.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) few: Sample,
    pub(super) many: Sample,
}

pub(super) fn measure(server: &Server, amount: Amount) -> Result<Restored, String> {
    let bucket = server.folder().join("data/s3/bench-caches");
    std::fs::create_dir_all(&bucket).map_err(|e| format!("{}: {e}", bucket.display()))?;
    let Amount { few, many, restores: count } = amount;
    let local = |files| {
        let cache = json!({ "type": "LOCAL", "modes": ["LOCAL_CUSTOM_CACHE"] });
        restores(server, &format!("local-{files}"), &cache, files, count)
    };
    let unpacked = count.div_ceil(6);
    let archived = |files| {
        let cache = json!({ "type": "S3", "location": format!("bench-caches/{files}") });
        restores(server, &format!("s3-{files}"), &cache, files, unpacked)
    };
    let pair = |of: &dyn Fn(usize) -> Result<Sample, String>| {
        Ok::<_, String>(Pair { few: of(few)?, many: of(many)? })
    };
    let (layers, archives) = (pair(&local)?, pair(&archived)?);
    let tar = |files: usize| untar(&only_file(&bucket.join(files.to_string()))?, unpacked);
    Ok(Restored { layers, archives, tar: pair(&tar).ok() })
}

fn only_file(folder: &Path) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    entries.flatten().map(|entry| entry.path()).next().ok_or_else(|| format!("{} is empty", folder.display()))
}

/// How long tar takes for an archive, each time into a new folder beside it.
fn untar(archive: &Path, count: usize) -> Result<Sample, String> {
    let target = archive.with_extension("unpacked");
    let failed = |e: std::io::Error| format!("{}: {e}", target.display());
    let mut lengths = Vec::new();
    for _ in 0..count {
        std::fs::create_dir(&target).map_err(failed)?;
        let started = Instant::now();
        let status =
            Command::new("tar").arg("--zstd").arg("-xf").arg(archive).arg("-C").arg(&target).status();
        lengths.push(started.elapsed().as_secs_f64() * 1e3);
        std::fs::remove_dir_all(&target).map_err(failed)?;
        if !status.is_ok_and(|status| status.success()) {
            return Err("tar --zstd does not work here".into());
        }
    }
    Sample::of(lengths).ok_or_else(|| "nothing was unpacked".into())
}

/// One build makes the files, of 100 bytes each in folders of 100; the others only find them.
fn restores(
    server: &Server,
    name: &str,
    cache: &Value,
    files: usize,
    count: usize,
) -> Result<Sample, String> {
    let folders = files / 100;
    let make = format!(
        "mkdir -p kept && for d in $(seq {folders}); do mkdir -p kept/$d && yes {} | head -n 100 | split -a 3 -l 1 - kept/$d/; done",
        "x".repeat(99)
    );
    let check = format!("test $(find kept -type f | wc -l) = {files}");
    let buildspec = |command: &str, action: &str| {
        json!({
            "version": 0.2,
            "phases": { "build": { "commands": [command] } },
            "cache": { "paths": ["kept/**/*"], "action": action },
        })
    };
    let mut client = server.project(name, &buildspec("true", "restore"))?;
    build(&mut client, name, cache, &buildspec(&make, "save"))?;
    let check = buildspec(&check, "restore");
    let lengths = (0..count).map(|_| build(&mut client, name, cache, &check)).collect::<Result<_, _>>()?;
    Sample::of(lengths).ok_or_else(|| "no builds".into())
}

/// How long DOWNLOAD_SOURCE took.
fn build(client: &mut Client, name: &str, cache: &Value, buildspec: &Value) -> Result<f64, String> {
    let request =
        json!({ "projectName": name, "cacheOverride": cache, "buildspecOverride": buildspec.to_string() });
    let answer = client.codebuild("StartBuild", &request)?;
    let id = answer["build"]["id"].as_str().ok_or("no build id")?;
    let build = finished(client, id)?;
    phase_length(&build, "DOWNLOAD_SOURCE")
}
