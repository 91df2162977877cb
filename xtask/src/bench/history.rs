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
/// So many requests are made before it is another's turn.
pub(super) const TURN: usize = 25;
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
    folder: PathBuf,
    url: Option<String>,
}

/// PostgreSQL's are missing where it is not installed.
pub(super) fn measure(binary: &Path, amount: Amount) -> Result<Vec<Answers>, String> {
    let folder = std::env::temp_dir().join(format!("buildyard-bench-history-{}", std::process::id()));
    let place = |database: &str, of: &str| folder.join(format!("{database}-{of}"));
    let sqlite = ["few", "many"].map(|of| Place { folder: place("sqlite", of), url: None });
    let answers = measure_on("SQLite", &sqlite, binary, amount).and_then(|mut answers| {
        let databases = ["few", "many"].map(|of| place("database", of));
        let urls: Option<Vec<String>> = databases.iter().map(|database| start_postgres(database)).collect();
        let more = urls.map(|urls| {
            let place = |(of, url)| Place { folder: place("postgres", of), url: Some(url) };
            let places: Vec<Place> = ["few", "many"].into_iter().zip(urls).map(place).collect();
            measure_on("PostgreSQL", &places, binary, amount)
        });
        for database in databases.iter().filter(|database| database.exists()) {
            let _ = postgres_script("kill", database);
        }
        answers.extend(more.transpose()?.into_iter().flatten());
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

/// A place for the few builds, and one for the many.
fn measure_on(
    database: &'static str,
    places: &[Place],
    binary: &Path,
    amount: Amount,
) -> Result<Vec<Answers>, String> {
    let mut servers = Vec::new();
    for (place, builds) in places.iter().zip([amount.few, amount.many]) {
        eprintln!("{database}: {builds} builds");
        std::fs::create_dir_all(&place.folder).map_err(|e| e.to_string())?;
        let server = Server::start_on(binary, &place.folder, place.url.as_deref())?;
        (0..PROJECTS).try_for_each(|project| run_one(&server, project))?;
        server.stop()?;
        fill(place, builds)?;
        servers.push(Server::start_on(binary, &place.folder, place.url.as_deref())?);
    }
    eprintln!("{database}: answers");
    let mut few = Asker::of(&servers[0], (amount.few, amount.few))?;
    let mut many = Asker::of(&servers[1], (amount.many, amount.many))?;
    let mut among_many = Asker::of(&servers[1], (amount.many, amount.few))?;
    let measured = KINDS.map(|kind| {
        // A host is not as fast at one time as at another: what is compared takes turns.
        let turns = ask(&mut [&mut few, &mut among_many], kind, amount.requests)?;
        let [few, among_many] = <[Times; 2]>::try_from(turns).map_err(|_| "two asked")?;
        let many = ask(&mut [&mut many], kind, amount.requests)?.remove(0);
        Ok(Answers { database, what: kind.what(), few, many, among_many })
    });
    servers.into_iter().try_for_each(Server::stop)?;
    measured.into_iter().collect()
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

#[derive(Debug, Clone, Copy)]
enum Kind {
    Hundred,
    One,
    List,
    LaterPage,
    OfProject,
}

const KINDS: [Kind; 5] = [Kind::Hundred, Kind::One, Kind::List, Kind::LaterPage, Kind::OfProject];

impl Kind {
    fn what(self) -> &'static str {
        match self {
            Kind::Hundred => "BatchGetBuilds, 100 ids",
            Kind::One => "BatchGetBuilds, 1 id",
            Kind::List => "ListBuilds",
            Kind::LaterPage => "ListBuilds, a later page",
            Kind::OfProject => "ListBuildsForProject",
        }
    }

    fn operation(self) -> &'static str {
        match self {
            Kind::Hundred | Kind::One => "BatchGetBuilds",
            Kind::List | Kind::LaterPage => "ListBuilds",
            Kind::OfProject => "ListBuildsForProject",
        }
    }
}

/// Asks one server about some of its builds.
struct Asker<'a> {
    server: &'a Server,
    client: Client,
    ids: Vec<String>,
    /// Of a page that is not the first.
    token: Value,
}

impl<'a> Asker<'a> {
    /// So many builds are stored, of which so many are asked for.
    fn of(server: &'a Server, (builds, asked): (usize, usize)) -> Result<Asker<'a>, String> {
        let mut client = server.client()?;
        let ids = ids(&mut client, builds)?.into_iter().step_by(builds / asked).collect();
        let token = page_token(&mut client)?;
        Ok(Asker { server, client, ids, token })
    }

    fn input(&self, kind: Kind, round: usize) -> Value {
        let id = |number: usize| &self.ids[number % self.ids.len()];
        match kind {
            Kind::Hundred => {
                json!({ "ids": (0..PAGE).map(|n| id(round * 7919 + n * 104_729)).collect::<Vec<_>>() })
            }
            Kind::One => json!({ "ids": [id(round * 7919)] }),
            Kind::List => json!({}),
            Kind::LaterPage => json!({ "nextToken": self.token }),
            Kind::OfProject => json!({ "projectName": format!("project-{}", round % PROJECTS) }),
        }
    }
}

/// How long each asker's requests take; some of one's, then some of the next one's, and so on.
fn ask(askers: &mut [&mut Asker<'_>], kind: Kind, requests: usize) -> Result<Vec<Times>, String> {
    let mut taken = vec![(Vec::new(), Vec::new()); askers.len()];
    for begin in (0..requests).step_by(TURN) {
        let rounds = begin..requests.min(begin + TURN);
        for (asker, (client, server)) in askers.iter_mut().zip(&mut taken) {
            for round in rounds.clone() {
                client.push(asker.client.timed(kind.operation(), &asker.input(kind, round))?);
            }
            server.extend(asker.server.took(rounds.len())?);
        }
    }
    let sample = |times| Sample::of(times).ok_or("nothing was measured");
    let times = |(client, server)| Ok(Times { client: sample(client)?, server: sample(server)? });
    taken.into_iter().map(times).collect()
}

/// Copies the first builds of the projects of a data folder, which no server has, until there are so many builds.
pub(crate) fn fill_folder(folder: &Path, builds: usize) -> Result<(), String> {
    fill(&Place { folder: folder.to_owned(), url: None }, builds)
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
