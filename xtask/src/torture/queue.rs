//! T11: ten thousand builds at once: accepted within a minute, none lost, first in first out in each project, no project left behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Setting;
use super::api::Api;
use super::host;
use super::kind::Kind;
use super::ledger::Ledger;
use super::report::Figures;
use super::yard::{Options, Yard};

const CLIENTS: usize = 20;
const ACCEPT_MAX: Duration = Duration::from_secs(60);
const RESIDENT_MAX_KIB: u64 = 500 << 10;
/// A project's mean wait beside the median of all projects.
const WAIT_RATIO_MAX: f64 = 3.0;
/// For all of them to come to an end.
const DRAIN_MAX: Duration = Duration::from_secs(1800);

#[derive(Debug, Clone, Copy)]
pub(super) struct Amount {
    pub(super) builds: usize,
    pub(super) projects: usize,
}

/// A build that was asked for.
#[derive(Debug)]
struct Started {
    id: String,
    asked: Instant,
    answered: Instant,
}

/// One build as it came out.
#[derive(Debug)]
struct Row {
    asked: Instant,
    answered: Instant,
    project: String,
    number: i64,
    status: String,
    /// Seconds of the wall clock: accepted, and given an environment.
    submitted: f64,
    begun: f64,
    ended: f64,
}

pub(super) fn run(setting: &Setting, amount: Amount) -> Result<Figures, String> {
    let concurrent = std::thread::available_parallelism().map_or(2, usize::from).max(2) * 2;
    let yard = Yard::make(&setting.binary, Options { concurrent_builds: concurrent, ..Options::default() })?;
    let ledger = Ledger::open(&setting.ledger("queue"))?;
    yard.start()?;
    make_projects(&yard, amount.projects)?;
    let resident = watch_memory(&yard);
    let begun = Instant::now();
    let ids = start_all(&yard, amount)?;
    let accepted = begun.elapsed();
    let rows = drain(&yard, &ids)?;
    let drained = begun.elapsed();
    let most_kib = resident.stop();
    let mut wrong = judge(&rows, concurrent);
    if accepted > ACCEPT_MAX {
        wrong.push(("P1", format!("{} builds were accepted within {accepted:?}", ids.len())));
    }
    if most_kib > RESIDENT_MAX_KIB {
        wrong.push(("P8", format!("the server had {most_kib} KiB of memory")));
    }
    wrong.extend(witnesses(&yard, &ids));
    let (ratio, lists) = (wait_ratio(&rows), list_times(&yard)?);
    wrong.into_iter().for_each(|(promise, what)| ledger.violation(promise, what));
    yard.stop()?;
    // That they are kept, in order and number; that they run once; that there is room.
    ledger.book().examined.extend(["P1", "P2", "P3", "P8"]);
    Ok(Figures::of("T11 many builds at once", &ledger)
        .with(format!(
            "{} builds of {} projects accepted within {:.1} s, drained within {:.0} s",
            ids.len(),
            amount.projects,
            accepted.as_secs_f64(),
            drained.as_secs_f64()
        ))
        .with(format!("memory of the server: {:.0} MiB at most", most_kib as f64 / 1024.0))
        .with(format!("mean wait of a project: {ratio:.2} times the median at most"))
        .with(format!("ListBuilds with all of them stored: p99 {lists:.1} ms")))
}

fn project(number: usize) -> String {
    format!("queue-{number:02}")
}

fn make_projects(yard: &Yard, projects: usize) -> Result<(), String> {
    let mut api = yard.api();
    (0..projects).try_for_each(|number| {
        let mut definition = Kind::Quick.definition(&yard.witness);
        definition["name"] = json!(project(number));
        api.ask("CreateProject", &definition).done().map(drop)
    })
}

/// All ids. Clients take turns at the projects.
fn start_all(yard: &Yard, amount: Amount) -> Result<Vec<Started>, String> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| start_some(yard, amount, &next))).collect();
        let started =
            clients.into_iter().map(|client| client.join().map_err(|_| "a client panicked".to_owned())?);
        started.collect::<Result<Vec<_>, String>>().map(|all| all.into_iter().flatten().collect())
    })
}

fn start_some(yard: &Yard, amount: Amount, next: &AtomicUsize) -> Result<Vec<Started>, String> {
    let (mut api, mut all) = (yard.api(), Vec::new());
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= amount.builds {
            return Ok(all);
        }
        let name = project(number % amount.projects);
        let input = json!({ "projectName": name, "idempotencyToken": format!("queue-{number}") });
        let asked = Instant::now();
        let answer = api.ask("StartBuild", &input).done()?;
        let id = answer["build"]["id"].as_str().unwrap_or_default().to_owned();
        all.push(Started { id, asked, answered: Instant::now() });
    }
}

/// All builds, once all are over.
fn drain(yard: &Yard, started: &[Started]) -> Result<Vec<Row>, String> {
    let deadline = Instant::now() + DRAIN_MAX;
    let mut api = yard.api();
    let mut rows = Vec::new();
    for page in started.chunks(100) {
        let ids: Vec<&String> = page.iter().map(|one| &one.id).collect();
        loop {
            let answer = api.get("BatchGetBuilds", &json!({ "ids": ids }))?;
            let builds = answer["builds"].as_array().map(Vec::as_slice).unwrap_or_default();
            if builds.len() < page.len() {
                return Err(format!("{} builds of {} are not found", page.len() - builds.len(), page.len()));
            }
            if builds.iter().all(|build| build["buildComplete"] == true) {
                rows.extend(page.iter().zip(builds).map(|(started, build)| row(started, build)));
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("not all builds are over after {DRAIN_MAX:?}"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(rows)
}

/// Answers are in the order in which was asked.
fn row(started: &Started, build: &Value) -> Row {
    let phases = build["phases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let begin = |name: &str| {
        phases.iter().find(|phase| phase["phaseType"] == name).and_then(|phase| phase["startTime"].as_f64())
    };
    Row {
        asked: started.asked,
        answered: started.answered,
        project: build["projectName"].as_str().unwrap_or_default().to_owned(),
        number: build["buildNumber"].as_i64().unwrap_or_default(),
        status: build["buildStatus"].as_str().unwrap_or_default().to_owned(),
        submitted: build["startTime"].as_f64().unwrap_or_default(),
        begun: begin("PROVISIONING").unwrap_or_default(),
        ended: build["endTime"].as_f64().unwrap_or_default(),
    }
}

fn judge(rows: &[Row], concurrent: usize) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let failed = rows.iter().filter(|row| row.status != "SUCCEEDED");
    wrong.extend(
        failed.map(|row| ("P2", format!("build {} of {} ended {}", row.number, row.project, row.status))),
    );
    for (project, mut rows) in by_project(rows) {
        rows.sort_by_key(|row| row.number);
        if !rows.iter().map(|row| row.number).eq(1..=rows.len() as i64) {
            wrong.push(("P2", format!("{project} has gaps in its build numbers, or doubles")));
        }
        if let Some((late, early)) = overtaken(&rows) {
            wrong.push((
                "P2",
                format!("build {} of {project} began before build {}", early.number, late.number),
            ));
        }
    }
    let ratio = wait_ratio(rows);
    if ratio > WAIT_RATIO_MAX {
        wrong.push(("P2", format!("a project waits {ratio:.1} times as long as others")));
    }
    let most = most_at_once(rows);
    if most > concurrent {
        wrong.push(("P2", format!("{most} builds ran at once, where {concurrent} may")));
    }
    wrong
}

/// Two builds of a project of which the second was asked for after the first had been answered, and began before it.
fn overtaken<'a>(rows: &[&'a Row]) -> Option<(&'a Row, &'a Row)> {
    let pairs = rows.iter().flat_map(|first| rows.iter().map(move |second| (*first, *second)));
    pairs.into_iter().find(|(first, second)| first.answered < second.asked && second.begun < first.begun)
}

fn by_project(rows: &[Row]) -> BTreeMap<&str, Vec<&Row>> {
    let mut projects: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| projects.entry(&row.project).or_default().push(row));
    projects
}

/// The longest mean wait of a project, beside the median of all projects'.
fn wait_ratio(rows: &[Row]) -> f64 {
    let mean =
        |rows: &Vec<&Row>| rows.iter().map(|row| row.begun - row.submitted).sum::<f64>() / rows.len() as f64;
    let mut waits: Vec<f64> = by_project(rows).values().map(mean).collect();
    waits.sort_by(f64::total_cmp);
    waits.last().unwrap_or(&0.0) / waits.get(waits.len() / 2).unwrap_or(&1.0).max(0.001)
}

/// How many builds had an environment at the same time. Times are milliseconds: who ends in the millisecond in which another begins made room for it.
fn most_at_once(rows: &[Row]) -> usize {
    let ends = rows.iter().map(|row| (row.ended, -1_i64));
    let mut moments: Vec<(f64, i64)> = rows.iter().map(|row| (row.begun, 1)).chain(ends).collect();
    moments.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
    let counted = moments.iter().scan(0, |count, (_, change)| {
        *count += change;
        Some(*count)
    });
    counted.max().unwrap_or(0).max(0) as usize
}

fn witnesses(yard: &Yard, started: &[Started]) -> Vec<(&'static str, String)> {
    let ids = started.iter().map(|one| &one.id);
    let wrong = ids.filter(|id| yard.witness.of(id) != [(1, 1)]);
    wrong.map(|id| ("P3", format!("the command of {id} was heard {:?}", yard.witness.of(id)))).collect()
}

/// Milliseconds.
fn list_times(yard: &Yard) -> Result<f64, String> {
    let mut api: Api = yard.api();
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        api.get("ListBuilds", &json!({}))?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    crate::bench::statistics::Sample::of(times)
        .map(|times| times.percentile(99))
        .ok_or_else(|| "nothing listed".into())
}

/// The most resident memory that a server is seen to have.
struct Resident {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

fn watch_memory(yard: &Yard) -> Resident {
    let (is_over, server) = (Arc::new(AtomicBool::new(false)), yard.server_id());
    let told = is_over.clone();
    let thread = std::thread::spawn(move || {
        let mut most = 0;
        while !told.load(Ordering::Relaxed) {
            most = most.max(server.map_or(0, host::resident));
            std::thread::sleep(Duration::from_millis(100));
        }
        most
    });
    Resident { is_over, thread }
}

impl Resident {
    fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(u64::MAX)
    }
}
