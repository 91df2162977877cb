//! Whether answers take longer where there is much history: the same requests over few and over many stored builds,
//! with the records in SQLite and in PostgreSQL.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::client::Client;
use super::host;
use super::served::{Server, wait};
use super::statistics::Sample;

/// Builds are asked for and listed in hundreds.
const PAGE: usize = 100;
const PROJECTS: usize = 10;
/// How many pages in a list is asked for that is not at its beginning.
const PAGES_IN: usize = 5;

/// How many builds there are, first and then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amount {
    pub(super) few: usize,
    pub(super) many: usize,
    /// How often each request is made.
    pub(super) requests: usize,
}

/// One kind of request on one database.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) database: &'static str,
    pub(super) what: &'static str,
    pub(super) few: Times,
    /// Over all of the many.
    pub(super) many: Times,
    /// Over as many builds among the many as the few are, so that caches hold as much of them as of those.
    pub(super) among_many: Times,
}

/// Of the same requests.
#[derive(Debug)]
pub(super) struct Times {
    /// From the signing of a request to the last byte of its answer.
    pub(super) client: Sample,
    /// From a request's head to the beginning of its answer, as the server says.
    pub(super) server: Sample,
}

/// Where the records are.
struct Place {
    name: &'static str,
    folder: PathBuf,
    url: Option<String>,
}

/// PostgreSQL's are missing where it is not installed.
pub(super) fn measure(binary: &Path, amount: Amount) -> Result<Vec<Answers>, String> {
    let folder = std::env::temp_dir().join(format!("buildyard-bench-history-{}", std::process::id()));
    let sqlite = Place { name: "SQLite", folder: folder.join("sqlite"), url: None };
    let answers = measure_on(&sqlite, binary, amount).and_then(|mut answers| {
        let database = folder.join("database");
        if let Some(url) = start_postgres(&database) {
            let postgres = Place { name: "PostgreSQL", folder: folder.join("postgres"), url: Some(url) };
            let more = measure_on(&postgres, binary, amount);
            postgres_script("kill", &database)?;
            answers.extend(more?);
        }
        Ok(answers)
    });
    let _ = std::fs::remove_dir_all(&folder);
    answers
}

fn start_postgres(folder: &Path) -> Option<String> {
    postgres_script("start", folder).inspect_err(|reason| eprintln!("without PostgreSQL: {reason}")).ok()
}

fn postgres_script(command: &str, folder: &Path) -> Result<String, String> {
    let script = crate::root().join("tests/postgres");
    let output = host::output(&[&script.to_string_lossy(), command, &folder.to_string_lossy()])?;
    Ok(output.trim().to_owned())
}

fn measure_on(place: &Place, binary: &Path, amount: Amount) -> Result<Vec<Answers>, String> {
    std::fs::create_dir_all(&place.folder).map_err(|e| e.to_string())?;
    let server = Server::start_on(binary, &place.folder, place.url.as_deref())?;
    (0..PROJECTS).try_for_each(|project| run_one(&server, project))?;
    server.stop()?;
    fill(place, amount.few)?;
    let few = measure_with(place, binary, (amount.few, amount.few), amount.requests)?;
    fill(place, amount.many)?;
    let many = measure_with(place, binary, (amount.many, amount.many), amount.requests)?;
    let among_many = measure_with(place, binary, (amount.many, amount.few), amount.requests)?;
    let all = few.into_iter().zip(many).zip(among_many);
    let answers = |(((what, few), (_, many)), (_, among_many))| Answers {
        database: place.name,
        what,
        few,
        many,
        among_many,
    };
    Ok(all.map(answers).collect())
}

/// The first build of a project, which others will be copies of.
fn run_one(server: &Server, project: usize) -> Result<(), String> {
    let buildspec =
        json!({ "version": 0.2, "phases": { "build": { "commands": ["echo $CODEBUILD_BUILD_ID"] } } });
    let name = format!("project-{project}");
    let mut client = server.project(&name, &buildspec)?;
    let started = client.codebuild("StartBuild", &json!({ "projectName": name }))?;
    wait("the end of a build", || {
        let asked = json!({ "ids": [started["build"]["id"]] });
        let found = client.codebuild("BatchGetBuilds", &asked).ok()?;
        (found["builds"][0]["buildComplete"] == true).then_some(())
    })
}

/// Over so many stored builds, of which so many are asked for.
fn measure_with(
    place: &Place,
    binary: &Path,
    (builds, asked): (usize, usize),
    requests: usize,
) -> Result<Vec<(&'static str, Times)>, String> {
    eprintln!("{}: answers about {asked} of {builds} builds", place.name);
    let server = Server::start_on(binary, &place.folder, place.url.as_deref())?;
    let mut client = server.client()?;
    let ids: Vec<String> = ids(&mut client, builds)?.into_iter().step_by(builds / asked).collect();
    let token = page_token(&mut client)?;
    let mut taken = Vec::new();
    let mut ask = |what, operation, input: &dyn Fn(usize) -> Value| -> Result<(), String> {
        let times =
            (0..requests).map(|round| client.timed(operation, &input(round))).collect::<Result<_, _>>()?;
        let sample = |times| Sample::of(times).ok_or("nothing was measured");
        taken.push((what, Times { client: sample(times)?, server: sample(server.took(requests)?)? }));
        Ok(())
    };
    ask(
        "BatchGetBuilds, 100 ids",
        "BatchGetBuilds",
        &|round| json!({ "ids": (0..PAGE).map(|n| &ids[(round * 7919 + n * 104_729) % ids.len()]).collect::<Vec<_>>() }),
    )?;
    ask(
        "BatchGetBuilds, 1 id",
        "BatchGetBuilds",
        &|round| json!({ "ids": [ids[round * 7919 % ids.len()]] }),
    )?;
    ask("ListBuilds", "ListBuilds", &|_| json!({}))?;
    ask("ListBuilds, a later page", "ListBuilds", &|_| json!({ "nextToken": token }))?;
    ask(
        "ListBuildsForProject",
        "ListBuildsForProject",
        &|round| json!({ "projectName": format!("project-{}", round % PROJECTS) }),
    )?;
    server.stop()?;
    Ok(taken)
}

/// Copies the first builds of the projects of a data folder, which no server has, until there are so many builds.
pub(crate) fn fill_folder(folder: &Path, builds: usize) -> Result<(), String> {
    fill(&Place { name: "SQLite", folder: folder.to_owned(), url: None }, builds)
}

fn fill(place: &Place, builds: usize) -> Result<(), String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let folder = place.folder.to_string_lossy();
    let (place, builds) = (place.url.as_deref().unwrap_or(&folder), builds.to_string());
    host::output(&[
        &cargo,
        "run",
        "--release",
        "--quiet",
        "-p",
        "store",
        "--example",
        "fill",
        "--",
        place,
        &builds,
    ])
    .map(drop)
}

/// Ids all over the history, as many as make pages that have little in common.
fn ids(client: &mut Client, builds: usize) -> Result<Vec<String>, String> {
    let (mut ids, mut input) = (Vec::new(), json!({}));
    loop {
        let page = client.codebuild("ListBuilds", &input)?;
        let found = page["ids"].as_array().map(Vec::as_slice).unwrap_or_default();
        ids.extend(found.iter().filter_map(|id| id.as_str().map(str::to_owned)));
        if page["nextToken"].is_null() {
            break;
        }
        input["nextToken"] = page["nextToken"].clone();
    }
    match ids.len() == builds {
        true => Ok(ids),
        false => Err(format!("{} builds are listed, not {builds}", ids.len())),
    }
}

fn page_token(client: &mut Client) -> Result<Value, String> {
    let mut input = json!({});
    for _ in 0..PAGES_IN {
        input["nextToken"] = client.codebuild("ListBuilds", &input)?["nextToken"].clone();
    }
    Ok(input["nextToken"].clone())
}

impl Client {
    /// Milliseconds from sending a request to having all of its answer.
    fn timed(&mut self, operation: &str, input: &Value) -> Result<f64, String> {
        let body = input.to_string();
        let begun = Instant::now();
        let (status, answer) = self.codebuild_bytes(operation, body.as_bytes())?;
        let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
        match status {
            200 => Ok(milliseconds),
            status => Err(format!("{operation}: {status} {}", String::from_utf8_lossy(&answer))),
        }
    }
}
