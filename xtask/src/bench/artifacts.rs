//! What a ZIP artifact of many files costs, beside what zip and 7z take for the same tree.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use super::measure::{finished, phase_length};
use super::served::Server;
use super::statistics::Sample;

#[derive(Debug, Clone, Copy)]
pub(super) struct Amount {
    /// In folders of 100.
    pub(super) files: usize,
    pub(super) uploads: usize,
}

/// Milliseconds, and bytes of the archive.
#[derive(Debug)]
pub(super) struct Zipped {
    pub(super) what: &'static str,
    /// None if the program is not here.
    pub(super) sample: Option<(Sample, u64)>,
}

/// Makes the tree: lines of which no two are the same, some 2 KB a file.
fn making(files: usize) -> String {
    format!(
        "for d in $(seq {}); do mkdir -p tree/$d && seq -f \"line %.0f of folder $d\" 8000 | split -a 3 -l 80 - tree/$d/; done",
        files / 100
    )
}

/// Ours first.
pub(super) fn measure(server: &Server, amount: Amount) -> Result<Vec<Zipped>, String> {
    let data = server.folder().join("data/s3/bench-artifacts");
    std::fs::create_dir_all(&data).map_err(|e| format!("{}: {e}", data.display()))?;
    let folder = server.folder().join("tree");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let made = Command::new("bash").args(["-c", &making(amount.files)]).current_dir(&folder).status();
    if !made.is_ok_and(|status| status.success()) {
        return Err("the tree could not be made".into());
    }
    let beside = |what, words: &[&str]| Zipped { what, sample: packed(&folder, words, amount.uploads) };
    Ok(vec![
        Zipped { what: "UPLOAD_ARTIFACTS", sample: Some(uploads(server, &data, amount)?) },
        beside("`zip -1`", &["zip", "-1qr"]),
        beside("`zip`", &["zip", "-qr"]),
        beside("`7z -tzip -mx1`", &["7z", "a", "-tzip", "-mx1", "-bd"]),
    ])
}

fn uploads(server: &Server, bucket: &Path, amount: Amount) -> Result<(Sample, u64), String> {
    let buildspec = json!({
        "version": 0.2,
        "phases": { "build": { "commands": [making(amount.files)] } },
        "artifacts": { "files": ["tree/**/*"] },
    });
    let mut client = server.project("zipped", &buildspec)?;
    let artifacts =
        json!({ "type": "S3", "location": "bench-artifacts", "packaging": "ZIP", "name": "tree.zip" });
    let mut lengths = Vec::new();
    for _ in 0..amount.uploads {
        let request = json!({ "projectName": "zipped", "artifactsOverride": artifacts });
        let answer = client.codebuild("StartBuild", &request)?;
        let build = finished(&mut client, answer["build"]["id"].as_str().ok_or("no build id")?)?;
        lengths.push(phase_length(&build, "UPLOAD_ARTIFACTS")?);
    }
    let bytes = std::fs::metadata(bucket.join("tree.zip")).map_err(|e| format!("the artifact: {e}"))?.len();
    Ok((Sample::of(lengths).ok_or("no builds")?, bytes))
}

/// A program that packs `tree` below `folder` into the file it is given first.
fn packed(folder: &Path, words: &[&str], count: usize) -> Option<(Sample, u64)> {
    let archive = folder.with_file_name("packed.zip");
    let mut lengths = Vec::new();
    let mut bytes = 0;
    for _ in 0..count {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&archive).arg("tree").current_dir(folder).stdout(Stdio::null());
        let started = Instant::now();
        let status = command.status().ok()?;
        lengths.push(started.elapsed().as_secs_f64() * 1e3);
        bytes = status.success().then(|| std::fs::metadata(&archive)).and_then(Result::ok)?.len();
        std::fs::remove_file(&archive).ok()?;
    }
    Some((Sample::of(lengths)?, bytes))
}
