//! P9 and P10: nothing stays of builds, and what is secret is written nowhere.

use std::time::{Duration, Instant};

use crate::torture::host;
use crate::torture::kind::SECRETS;

use super::{Evidence, Found};

/// Where the store of objects has what is not an object yet.
const UNFINISHED: [&str; 3] = ["s3/.tmp", "s3/.uploads", "s3/.batches"];
/// How long what is left over may stay.
const REST_MAX: Duration = Duration::from_secs(60);

pub(super) fn nothing_stays(evidence: &Evidence) -> Found {
    if !evidence.survey.is_quiet {
        return Found::default();
    }
    let deadline = Instant::now() + REST_MAX;
    loop {
        let left = left_over(evidence);
        if left.is_empty() || !evidence.is_patient || Instant::now() > deadline {
            return Found::of(1, left);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn left_over(evidence: &Evidence) -> Vec<String> {
    let (yard, data) = (evidence.yard, evidence.yard.data());
    let folder = yard.folder().display().to_string();
    let mut left: Vec<String> = Vec::new();
    left.extend(
        host::running(&yard.program())
            .iter()
            .map(|process| format!("process {process} of our program stays")),
    );
    let marked = host::with_environment(&format!("BUILDYARD_TORTURE={folder}"));
    left.extend(marked.iter().map(|process| format!("process {process} of the server's stays")));
    left.extend(
        host::mounts(&format!("{}/builds", data.display()))
            .into_iter()
            .chain(host::mounts(&format!("{folder}/")))
            .map(|line| format!("mount stays: {line}")),
    );
    left.extend(host::loops(&folder).into_iter().map(|file| format!("loop device stays: {file}")));
    let builds = std::fs::read_dir(data.join("builds")).into_iter().flatten().flatten();
    left.extend(builds.map(|entry| format!("{} stays", entry.path().display())));
    let unfinished = UNFINISHED.iter().flat_map(|folder| host::below(&data.join(folder)));
    let written = host::below(&data.join("caches"));
    let halves = written.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "new"));
    left.extend(unfinished.chain(halves).map(|path| format!("{} stays", path.display())));
    left.extend(
        yard.new_interfaces()
            .iter()
            .map(|name| format!("interface {name} stays, of a range that nobody has")),
    );
    let uuids = evidence
        .ledger
        .book()
        .builds
        .keys()
        .filter_map(|id| id.split(':').nth(1).map(str::to_owned))
        .collect();
    let groups = host::cgroups(evidence.cgroups, &yard.pools(), &uuids);
    left.extend(groups.iter().map(|group| format!("cgroup {} stays", group.display())));
    left
}

/// Where a stranger might find it: files of the server, which keeps it sealed, and what /proc shows of its processes. Files are searched while builds run, too:
/// plans, journals and scratch folders are gone later. Memory is not looked into, nor the environment of commands, which are meant to have it.
pub(super) fn secrets_stay_secret(evidence: &Evidence) -> Found {
    let mut found = Vec::new();
    let is_searched = evidence.survey.is_quiet || evidence.survey.is_searched;
    if is_searched {
        let files = host::files(&evidence.yard.data()).into_iter().chain([evidence.yard.server_log()]);
        let with = files.filter(|file| std::fs::read(file).is_ok_and(|bytes| has_secret(&bytes)));
        found.extend(with.map(|file| format!("a secret is in {}", file.display())));
    }
    for process in host::running(&evidence.yard.program()) {
        for file in ["environ", "cmdline"] {
            if has_secret(&std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default()) {
                found.push(format!("a secret is in the {file} of a process of ours"));
            }
        }
    }
    let answers = evidence.survey.builds.iter().filter(|(_, build)| has_secret(build.to_string().as_bytes()));
    found.extend(answers.map(|(id, _)| format!("a secret is in the document of {id}")));
    Found::of(usize::from(is_searched), found)
}

fn has_secret(text: &[u8]) -> bool {
    SECRETS.iter().any(|secret| host::contains(text, secret.as_bytes()))
}
