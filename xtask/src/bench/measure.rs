//! The measurements themselves. Times are milliseconds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Client;
use super::disk::Disk;
use super::host;
use super::rootfs;
use super::served::{Memory, Server, wait};
use super::statistics::Sample;

/// The host is idle before each build: what the one before left to do, and what is made ahead, is done.
const REST: Duration = Duration::from_millis(200);

/// From StartBuild to the first command of a build, and where the time goes.
#[derive(Debug)]
pub(super) struct First {
    /// From the answer to StartBuild to the first command running.
    pub(super) after_answer: Sample,
    /// From the request to the first command running.
    pub(super) after_request: Sample,
    /// How long StartBuild takes to answer.
    pub(super) answer: Sample,
    /// Each phase before the first command, with its median.
    pub(super) phases: Vec<(String, f64)>,
    /// From the answer to the first command, of builds without a rest between them.
    pub(super) without_rest: Sample,
}

/// The command tells the time at which it runs: bash reads the clock without starting anything.
const TELL_TIME: &str = "echo first=$EPOCHREALTIME";

pub(super) fn first_commands(server: &Server, count: usize) -> Result<First, String> {
    let buildspec = json!({
        "version": 0.2,
        "env": { "shell": "bash" },
        "phases": { "build": { "commands": [TELL_TIME] } },
    });
    let mut client = server.project("first", &buildspec)?;
    // The first builds find caches cold; 200 warm ones are what is asked for.
    for _ in 0..5 {
        first_command(&mut client)?;
    }
    let rested = |client: &mut Client| {
        std::thread::sleep(REST);
        first_command(client)
    };
    let rows = (0..count).map(|_| rested(&mut client)).collect::<Result<Vec<_>, _>>()?;
    let hurried = (0..count).map(|_| first_command(&mut client)).collect::<Result<Vec<_>, _>>()?;
    let of =
        |rows: &[Row], pick: fn(&Row) -> f64| Sample::of(rows.iter().map(pick).collect()).ok_or("no builds");
    let column = |pick| of(&rows, pick);
    Ok(First {
        after_answer: column(|row| row.first - row.answered)?,
        after_request: column(|row| row.first - row.asked)?,
        answer: column(|row| row.answered - row.asked)?,
        phases: phases(&rows),
        without_rest: of(&hurried, |row| row.first - row.answered)?,
    })
}

/// From the answer to StartBuild to the first command, in an unpacked image of [`rootfs::IMAGE_BYTES`].
pub(super) fn first_commands_in_image(binary: &Path, count: usize) -> Result<Sample, String> {
    let folder = temporary("image")?;
    let measured = rootfs::large_image(&folder)
        .and_then(|image| Server::start_with_image(binary, &image))
        .and_then(|server| first_commands(&server, count));
    let _ = std::fs::remove_dir_all(&folder);
    measured.map(|first| first.after_answer)
}

fn temporary(what: &str) -> Result<PathBuf, String> {
    let folder = std::env::temp_dir().join(format!("buildyard-bench-{what}-{}", std::process::id()));
    std::fs::create_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

#[derive(Debug)]
struct Row {
    asked: f64,
    answered: f64,
    first: f64,
    /// Phase and length; the last one ends where the first command runs.
    phases: Vec<(String, f64)>,
}

fn first_command(client: &mut Client) -> Result<Row, String> {
    let asked = host::wall_ms();
    let id = start(client, "first")?;
    let answered = host::wall_ms();
    let build = finished(client, &id)?;
    let log = client.log(&build)?;
    let told = log.lines().find_map(|line| line.strip_prefix("first="));
    let first =
        told.and_then(|text| text.parse::<f64>().ok()).ok_or("the build does not tell its time")? * 1e3;
    Ok(Row { asked, answered, first, phases: before(&build, first) })
}

/// The lengths of the phases up to the first command, and of BUILD up to it.
fn before(build: &Value, first: f64) -> Vec<(String, f64)> {
    let mut lengths = Vec::new();
    for phase in build["phases"].as_array().into_iter().flatten() {
        let name = phase["phaseType"].as_str().unwrap_or_default().to_owned();
        let start = phase["startTime"].as_f64().unwrap_or_default() * 1e3;
        if name == "BUILD" {
            lengths.push(("BUILD, up to the command".to_owned(), first - start));
            break;
        }
        lengths.push((name, phase["endTime"].as_f64().unwrap_or_default() * 1e3 - start));
    }
    lengths
}

fn phases(rows: &[Row]) -> Vec<(String, f64)> {
    let mut lengths: BTreeMap<usize, (String, Vec<f64>)> = BTreeMap::new();
    for row in rows {
        for (place, (name, length)) in row.phases.iter().enumerate() {
            lengths.entry(place).or_insert_with(|| (name.clone(), Vec::new())).1.push(*length);
        }
    }
    let medians = lengths.into_values();
    medians.filter_map(|(name, lengths)| Some((name, Sample::of(lengths)?.median()))).collect()
}

fn start(client: &mut Client, project: &str) -> Result<String, String> {
    let answer = client.codebuild("StartBuild", &json!({ "projectName": project }))?;
    answer["build"]["id"].as_str().map(str::to_owned).ok_or_else(|| format!("no build id in {answer}"))
}

pub(super) fn finished(client: &mut Client, id: &str) -> Result<Value, String> {
    let mut failure = None;
    let build =
        wait("the end of a build", || match client.codebuild("BatchGetBuilds", &json!({ "ids": [id] })) {
            Ok(mut answer) => Some(answer["builds"][0].take()).filter(|build| build["buildComplete"] == true),
            Err(error) => {
                failure = Some(error);
                Some(Value::Null)
            }
        })?;
    match (failure, build["buildStatus"].as_str()) {
        (None, Some("SUCCEEDED")) => Ok(build),
        (Some(error), _) => Err(error),
        (None, _) => Err(format!("a build did not succeed: {build}")),
    }
}

/// How long a phase of a build took.
pub(super) fn phase_length(build: &Value, name: &str) -> Result<f64, String> {
    let phases = build["phases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let phase = phases.iter().find(|phase| phase["phaseType"] == name).ok_or_else(|| format!("no {name}"))?;
    let time = |member: &str| phase[member].as_f64().unwrap_or_default() * 1e3;
    Ok(time("endTime") - time("startTime"))
}

/// From the start of bubblewrap, which makes the same namespaces without an overlay, to its first command.
pub(super) fn bubblewrap_first(count: usize) -> Option<Sample> {
    let command = bubblewrap(&["bash", "-c", TELL_TIME])?;
    first_of(count, &command)
}

/// From `docker run` to its first command, where a Docker daemon answers: the host's, or that of `tests/docker`. The image holds bash
/// and nothing else.
pub(super) fn docker_first(count: usize) -> Option<Sample> {
    let socket = std::env::var("BUILDYARD_TEST_DOCKER").ok();
    let docker = socket.map_or_else(|| "docker".into(), |path| format!("docker --host unix://{path}"));
    let docker: Vec<&str> = docker.split(' ').collect();
    host::output(&[&docker[..], &["version", "--format", "{{.Server.Version}}"]].concat()).ok()?;
    let folder = temporary("docker").ok()?;
    let image = import_bash(&docker, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    image.ok()?;
    let run = [&docker[..], &["run", "--rm", BASH_IMAGE, "/bin/bash", "-c", TELL_TIME]].concat();
    let sample = first_of(count, &run.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let _ = host::output(&[&docker[..], &["rmi", BASH_IMAGE]].concat());
    sample
}

const BASH_IMAGE: &str = "buildyard-bench:bash";

fn import_bash(docker: &[&str], folder: &Path) -> Result<(), String> {
    let (root, archive) = (folder.join("root"), folder.join("root.tar"));
    rootfs::with_programs(&root, &["/bin/bash"])?;
    let archive = archive.to_string_lossy();
    host::output(&["tar", "-C", &root.to_string_lossy(), "-cf", &archive, "."])?;
    host::output(&[docker, &["import", &archive, BASH_IMAGE]].concat()).map(drop)
}

fn bubblewrap(inside: &[&str]) -> Option<Vec<String>> {
    if !host::has("bwrap") {
        return None;
    }
    let outside = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"];
    Some(outside.iter().chain(inside).map(|text| (*text).to_owned()).collect())
}

fn first_of(count: usize, command: &[String]) -> Option<Sample> {
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let one = || {
        let begun = host::wall_ms();
        let told = host::output(&command).ok()?;
        Some(told.trim().strip_prefix("first=")?.parse::<f64>().ok()? * 1e3 - begun)
    };
    Sample::of((0..count).map_while(|_| one()).collect())
}

/// Memory with no build and with several, each time with all agents waiting that shall wait.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) builds: usize,
    pub(super) before: Memory,
    pub(super) during: Memory,
}

pub(super) fn memory_of_builds(server: &Server) -> Result<Running, String> {
    let buildspec = json!({ "version": 0.2, "phases": { "build": { "commands": ["sleep 600"] } } });
    let mut client = server.project("memory", &buildspec)?;
    let before = server.memory_at_rest()?;
    let ids = (0..2).map(|_| start(&mut client, "memory")).collect::<Result<Vec<_>, _>>()?;
    for id in &ids {
        wait("a running build", || {
            let answer = client.codebuild("BatchGetBuilds", &json!({ "ids": [id] })).ok()?;
            (answer["builds"][0]["currentPhase"] == "BUILD").then_some(())
        })?;
    }
    // The builds took over agents that waited; only when others wait in their place do the builds show.
    let during = wait("an agent in the place of each that a build took", || {
        server.memory_at_rest().ok().filter(|now| now.processes >= before.processes + ids.len())
    })?;
    for id in &ids {
        client.codebuild("StopBuild", &json!({ "id": id }))?;
    }
    for id in &ids {
        wait("the end of a stopped build", || {
            let answer = client.codebuild("BatchGetBuilds", &json!({ "ids": [id] })).ok()?;
            (answer["builds"][0]["buildComplete"] == true).then_some(())
        })?;
    }
    Ok(Running { builds: ids.len(), before, during })
}

/// No-op builds through the whole API.
#[derive(Debug)]
pub(super) struct Throughput {
    pub(super) builds: usize,
    pub(super) succeeded: usize,
    pub(super) seconds: f64,
}

/// Two clients start `each` builds apiece as fast as they are answered; the clock stops when all are complete.
pub(super) fn throughput(server: &Server, each: usize) -> Result<Throughput, String> {
    let buildspec = json!({ "version": 0.2, "phases": { "build": { "commands": ["true"] } } });
    server.project("noop", &buildspec)?;
    let begun = Instant::now();
    let started = std::thread::scope(|scope| {
        let client = || {
            let mut client = server.client()?;
            (0..each).map(|_| start(&mut client, "noop")).collect::<Result<Vec<_>, String>>()
        };
        let threads = [scope.spawn(client), scope.spawn(client)];
        threads.map(|thread| thread.join().unwrap_or_else(|_| Err("a client panicked".into())))
    });
    let ids = started.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    let mut client = server.client()?;
    // Builds end nearly in the order in which they began; the last ones tell when it is worth counting.
    for id in ids.iter().rev().take(1) {
        finished(&mut client, id)?;
    }
    let succeeded = all_succeeded(&mut client, &ids)?;
    Ok(Throughput { builds: ids.len(), succeeded, seconds: begun.elapsed().as_secs_f64() })
}

fn all_succeeded(client: &mut Client, ids: &[String]) -> Result<usize, String> {
    let mut succeeded = 0;
    for ids in ids.chunks(100) {
        succeeded += wait("the end of all builds", || {
            let answer = client.codebuild("BatchGetBuilds", &json!({ "ids": ids })).ok()?;
            let builds = answer["builds"].as_array()?;
            let complete =
                builds.len() == ids.len() && builds.iter().all(|build| build["buildComplete"] == true);
            complete.then(|| builds.iter().filter(|build| build["buildStatus"] == "SUCCEEDED").count())
        })?;
    }
    Ok(succeeded)
}

/// The same output to a build's durable log and to a file.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) bytes: u64,
    /// The BUILD phase.
    pub(super) build: Sample,
    /// `sh -c '... > file'`.
    pub(super) file: Sample,
    /// The same, with the file synced to disk before the clock stops.
    pub(super) synced: Sample,
}

pub(super) fn log(server: &Server, count: usize, bytes: u64) -> Result<Log, String> {
    let command = format!("yes {} | head -c {bytes}", "x".repeat(79));
    let buildspec = json!({ "version": 0.2, "phases": { "build": { "commands": [command] } } });
    let mut client = server.project("log", &buildspec)?;
    let target = server.folder().join("output");
    let (mut build, mut file, mut synced) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        build.push(log_once(&mut client, server.folder(), bytes)?);
        file.push(host::time(&["sh", "-c", &format!("{command} > {}", target.display())])?);
        synced.push(host::time(&["sh", "-c", &format!("{command} > {0} && sync {0}", target.display())])?);
    }
    let sample = |values| Sample::of(values).ok_or("no logs");
    Ok(Log { bytes, build: sample(build)?, file: sample(file)?, synced: sample(synced)? })
}

fn log_once(client: &mut Client, folder: &Path, bytes: u64) -> Result<f64, String> {
    let id = start(client, "log")?;
    let build = finished(client, &id)?;
    let uuid = id.rsplit(':').next().unwrap_or_default();
    let stored =
        std::fs::metadata(folder.join(format!("data/logs/{uuid}.log"))).map_err(|e| e.to_string())?;
    if stored.len() < bytes {
        return Err(format!("the log has {} bytes, the command printed {bytes}", stored.len()));
    }
    let phases = build["phases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let phase = phases.iter().find(|phase| phase["phaseType"] == "BUILD").ok_or("no BUILD phase")?;
    let time = |name: &str| phase[name].as_f64().unwrap_or_default() * 1e3;
    Ok(time("endTime") - time("startTime"))
}

/// A container from nothing to nothing around `/bin/true`, and others' ways to something like it.
#[derive(Debug)]
pub(super) struct Containers {
    /// What the `container` crate's example prints about itself: prepare, create, run, destroy, all.
    pub(super) ours: Vec<(String, f64, f64)>,
    pub(super) others: Vec<(&'static str, Sample)>,
}

pub(super) fn containers(count: usize) -> Result<Containers, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let number = count.to_string();
    let place = temporary("spawn")?;
    let disk = Disk::make(&place);
    let folder = format!("TMPDIR={}", disk.as_ref().map_or(&*place, Disk::folder).display());
    let example = ["run", "--release", "--quiet", "-p", "container", "--example", "spawn", "--", &number];
    let spawned = host::output(&[&["env", &folder, &cargo][..], &example].concat());
    drop(disk);
    let _ = std::fs::remove_dir_all(&place);
    let ours = spawned?.lines().filter_map(spawn_line).collect();
    let mut others = Vec::new();
    let mut add = |name, command: Option<Vec<String>>| {
        let command = command.unwrap_or_default();
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        others.extend(times(count, &command).map(|sample| (name, sample)));
    };
    let owned = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    add("fork and exec, nothing else", owned(&["/bin/true"]));
    let namespaces = ["--user", "--map-root-user", "--pid", "--fork", "--mount", "--net", "--uts", "--ipc"];
    add("unshare: namespaces only", owned(&[&["unshare"][..], &namespaces, &["/bin/true"]].concat()));
    add("bubblewrap: namespaces, bind mounts, no overlay, no cgroup", bubblewrap(&["/bin/true"]));
    let bundle = temporary("bundle")?;
    if rootfs::bundle(&bundle).is_ok() {
        for (name, runtime) in [("crun: an OCI bundle", "crun"), ("runc: an OCI bundle", "runc")] {
            add(name, host::has(runtime).then(|| run_bundle(runtime, &bundle)));
        }
    }
    let _ = std::fs::remove_dir_all(&bundle);
    Ok(Containers { ours, others })
}

fn run_bundle(runtime: &str, bundle: &Path) -> Vec<String> {
    let (bundle, id) = (bundle.to_string_lossy(), format!("buildyard-bench-{}", std::process::id()));
    [runtime, "run", "--bundle", &bundle, &id].map(str::to_owned).into()
}

/// `all      p50   5.01 ms   p90   5.90 ms   p99   7.00 ms` as name, p50 and p99.
fn spawn_line(line: &str) -> Option<(String, f64, f64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |name: &str| {
        words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)?.parse().ok())
    };
    Some(((*words.first()?).to_owned(), after("p50")?, after("p99")?))
}

fn times(count: usize, command: &[&str]) -> Option<Sample> {
    Sample::of((0..count).map_while(|_| host::time(command).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_own_report_is_understood() {
        let line = "all      p50   5.01 ms   p90   5.90 ms   p99   7.00 ms";
        assert_eq!(spawn_line(line), Some(("all".to_owned(), 5.01, 7.0)));
        assert_eq!(spawn_line("nothing"), None);
    }

    #[test]
    fn a_builds_phases_tell_where_the_time_went() {
        let build = json!({ "phases": [
            { "phaseType": "SUBMITTED", "startTime": 1.0, "endTime": 1.5 },
            { "phaseType": "BUILD", "startTime": 1.5, "endTime": 9.0 },
        ]});
        let expect = [("SUBMITTED".to_owned(), 500.0), ("BUILD, up to the command".to_owned(), 250.0)];
        assert_eq!(before(&build, 1750.0), expect);
    }
}
