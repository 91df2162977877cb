//! What restoring a build's cache costs, with few files in it and with many.

use serde_json::{Value, json};

use super::client::Client;
use super::measure::finished;
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
    pub(super) what: &'static str,
    pub(super) few: Sample,
    pub(super) many: Sample,
}

pub(super) fn measure(server: &Server, amount: Amount) -> Result<Vec<Restored>, String> {
    let bucket = server.folder().join("data/s3/bench-caches");
    std::fs::create_dir_all(&bucket).map_err(|e| format!("{}: {e}", bucket.display()))?;
    let local = json!({ "type": "LOCAL", "modes": ["LOCAL_CUSTOM_CACHE"] });
    let archive = json!({ "type": "S3", "location": "bench-caches" });
    let mut all = Vec::new();
    // Unpacking takes its time, and is there to compare with.
    let unpacked = amount.restores.div_ceil(6);
    for (what, cache, count) in [("LOCAL_CUSTOM_CACHE", local, amount.restores), ("S3", archive, unpacked)] {
        let of = |files| restores(server, &format!("{what}-{files}"), &cache, files, count);
        all.push(Restored { what, few: of(amount.few)?, many: of(amount.many)? });
    }
    Ok(all)
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
    let phases = build["phases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let phase =
        phases.iter().find(|phase| phase["phaseType"] == "DOWNLOAD_SOURCE").ok_or("no DOWNLOAD_SOURCE")?;
    let time = |member: &str| phase[member].as_f64().unwrap_or_default() * 1e3;
    Ok(time("endTime") - time("startTime"))
}
