//! The driver of a local build: starts it, shows its log, and tells its end.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use agent::answer::{Answer, GitCredential};
use agent::journal::{Event, Hold, Outcome};
use agent::plan::{Git, Plan, Source};
use engine::references::Lookup;
use executor::{Adopted, Docker, Embedded, Executor, Link, Signal};
use store::logs::{Position, SegmentReader};
use store::records::Scope;

use super::{Arguments, Build, ReportFormat, reports};
use crate::aws_environment::{Environment, Overrides};
use crate::config::{DockerSetting, ExecutorSetting};
use crate::screen::Screen;
use crate::{aws_environment, environment_report, kept, leftovers, terminal, usage_report};

/// Starts the build, shows its log, and tells its end.
pub(super) fn watch_to_the_end(arguments: &Arguments, build: &Build) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let watched = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let watched = watch(arguments, build).await;
            leftovers::sweep(&build.data).await;
            if let Some(kept) = &build.kept
                && let Err(error) = kept::sweep(&build.data, kept)
            {
                eprintln!("buildyard run: old snapshots cannot be removed: {error}");
            }
            watched
        }),
        Err(error) => Err(error.to_string()),
    };
    match watched {
        Ok(outcome) => ExitCode::from(exit_code(outcome)),
        Err(message) => {
            eprintln!("buildyard run: {message}");
            ExitCode::from(exit_code(Outcome::Fault))
        }
    }
}

fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::Failed => 1,
        Outcome::Fault => 3,
        Outcome::TimedOut => 124,
        Outcome::Stopped => 130,
    }
}

/// What the journal told so far.
#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    journal: u64,
    log: Option<(SegmentReader, Position)>,
}

async fn watch(arguments: &Arguments, build: &Build) -> Result<Outcome, String> {
    let mut options = executor::embedded::Options::new(build.folder.path.join("builds"));
    options.warm = 0;
    let executor = open(arguments, options).await?;
    let executor = executor.as_ref();
    let mut interrupts = Interrupts::listen().map_err(|e| e.to_string())?;
    let mut link = executor.launch(&build.plan.uuid, &build.plan).await.map_err(|e| e.to_string())?;
    let mut screen = if arguments.env_report.is_some() { Screen::stderr() } else { Screen::stdout() };
    let mut seen = Seen::default();
    let mut interrupted = 0;
    let references = aws_environment::references();
    let mut lookup = Lookup::default();
    loop {
        let signal = tokio::select! {
            signal = link.signal() => signal,
            answer = lookup.answer() => {
                link.answer(with_codecommit(answer.map_err(|e| e.to_string())?, &build.plan)).await;
                continue;
            }
            () = interrupts.next() => {
                interrupted += 1;
                if interrupted == 1 {
                    eprintln!("buildyard run: stopping; interrupt again to kill");
                    link.stop().await;
                } else {
                    link.kill();
                }
                continue;
            }
        };
        let new = seen.catch_up(&link, build, &mut screen)?;
        if let Some(answer) = reports::answer(&seen.events[new..]) {
            link.answer(answer).await;
        }
        lookup.begin(&references, &scope(build), &seen.events[new..]);
        if seen.events[new..].iter().any(|event| matches!(event, Event::Held { why: Hold::Failure, .. })) {
            let shell = let_in(build);
            tokio::select! {
                entered = shell => if let Err(message) = entered {
                    eprintln!("buildyard run: {message}");
                    link.stop().await;
                },
                () = interrupts.next() => {
                    interrupted += 1;
                    link.stop().await;
                }
            }
        }
        if signal == Signal::Lost {
            break;
        }
    }
    drop(link);
    if !matches!(seen.events.last(), Some(Event::Finished { .. })) {
        seen.events = bury(executor, &build.plan.uuid).await?;
    }
    let reported = reports::keep(executor, build, &seen.events).await?;
    executor.remove(&build.plan.uuid).await.map_err(|e| e.to_string())?;
    finish(arguments, build, &seen, &reported, interrupted > 0)
}

/// Adds what opens the sources that are at CodeCommit, if the user is anybody there.
fn with_codecommit(answer: Answer, plan: &Plan) -> Answer {
    let Answer::Values { parameters, secrets, mut git } = answer else { return answer };
    let all = std::iter::once(&plan.source).chain(plan.secondary_sources.iter().map(|one| &one.source));
    if let Ok(codecommit) = Environment::ours().codecommit(&Overrides::default(), None) {
        git.extend(all.filter_map(|source| {
            let Source::Git(Git { location, .. }) = source else { return None };
            let (username, password) = codecommit.credential(location)?;
            Some(GitCredential { url: location.clone(), username, password })
        }));
    }
    Answer::Values { parameters, secrets, git }
}

async fn open(
    arguments: &Arguments,
    agents: executor::embedded::Options,
) -> Result<Box<dyn Executor>, String> {
    if arguments.executor == ExecutorSetting::Embedded {
        return Ok(Box::new(Embedded::open(agents).map_err(|e| e.to_string())?));
    }
    let DockerSetting { socket, init } = DockerSetting::new(None, None)?;
    let opened = Docker::open(executor::docker::Options { agents, socket, init }).await;
    Ok(Box::new(opened.map_err(|e| format!("--executor docker: {e}"))?))
}

/// A shell in the environment of a command that failed, until it ends.
async fn let_in(build: &Build) -> Result<(), String> {
    let folder = build.folder.path.join("builds").join(&build.plan.uuid);
    let entered = tokio::task::spawn_blocking(move || terminal::enter(&folder, &[]));
    entered.await.map_err(|e| e.to_string())?.map_err(|e| format!("no shell can be opened: {e}"))?;
    Ok(())
}

/// AWS's credentials say whose parameters are meant; a build here belongs to no account.
fn scope(build: &Build) -> Scope {
    let region = build.plan.service_variables.get("AWS_REGION").cloned().unwrap_or_default();
    Scope { account: String::new(), region }
}

/// What the agent had written when it died; what it left running is gone then. One that is only just dying may still be connected to.
async fn bury(executor: &dyn Executor, uuid: &str) -> Result<Vec<Event>, String> {
    loop {
        match executor.adopt(uuid).await.map_err(|e| e.to_string())? {
            Adopted::Dead(remains) => return Ok(remains.events),
            Adopted::NeverStarted => return Ok(Vec::new()),
            Adopted::Running(mut link) => while link.signal().await != Signal::Lost {},
        }
    }
}

impl Seen {
    /// Reads what is new in the journal and prints what is new in the log. Gives the place of the first new event.
    fn catch_up(&mut self, link: &Link, build: &Build, screen: &mut Screen) -> Result<usize, String> {
        let (events, journal) = link.events_after(self.journal).map_err(|e| e.to_string())?;
        let new = self.events.len();
        self.events.extend(events);
        self.journal = journal;
        match self.print(&build.plan.log, screen) {
            // Nobody reads on (`| head`): the build goes on, its end is what counts.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(new),
            result => result.map(|()| new).map_err(|e| format!("cannot show the log: {e}")),
        }
    }

    fn print(&mut self, log: &Path, screen: &mut Screen) -> io::Result<()> {
        if self.log.is_none() {
            if !log.exists() {
                return Ok(());
            }
            let reader = SegmentReader::open(log).map_err(io::Error::other)?;
            let start = reader.start();
            self.log = Some((reader, start));
        }
        let Some((reader, position)) = &mut self.log else { return Ok(()) };
        loop {
            let (events, next) = reader.forward(*position, 10_000, 4 << 20).map_err(io::Error::other)?;
            *position = next;
            if events.is_empty() {
                return screen.flush();
            }
            for event in &events {
                screen.event(&event.bytes)?;
            }
        }
    }
}

fn finish(
    arguments: &Arguments,
    build: &Build,
    seen: &Seen,
    reported: &[(String, bool)],
    interrupted: bool,
) -> Result<Outcome, String> {
    let outcome = match seen.events.last() {
        Some(Event::Finished { outcome, .. }) => *outcome,
        _ if interrupted => Outcome::Stopped,
        _ => return Err("the build's process ended before the build; nothing of it is left running".into()),
    };
    let took = Duration::from_millis(took_ms(&seen.events));
    let mut closing = Screen::stderr();
    for event in &seen.events {
        match event {
            Event::PhaseEnded { phase, outcome: ended, context, .. } if !context.message.is_empty() => {
                let text = format!("{} {}: {}", phase.name(), ended.name(), context.message);
                closing.say(&text, false).map_err(|e| e.to_string())?;
            }
            Event::ArtifactUploaded(artifact) => {
                let text = format!("Artifacts: {} file(s) in {}", artifact.files, artifact.location);
                closing.say(&text, true).map_err(|e| e.to_string())?;
            }
            _ => {}
        }
    }
    for (text, good) in reported {
        closing.say(text, *good).map_err(|e| e.to_string())?;
    }
    let text = format!("{} {} in {:.1} s", build.plan.project_name, outcome.name(), took.as_secs_f64());
    closing.say(&text, outcome == Outcome::Succeeded).map_err(|e| e.to_string())?;
    if let Some(text) = usage_report::sentence(&seen.events) {
        closing.say(&text, true).map_err(|e| e.to_string())?;
    }
    if outcome == Outcome::Failed
        && let Some(ways) = ways_on(arguments, build)
    {
        closing.tell(&ways).map_err(|e| e.to_string())?;
    }
    if let Some(ReportFormat::Json) = arguments.env_report {
        println!("{:#}", environment_report::json(&build.plan, &build.data, &seen.events, outcome));
    }
    Ok(outcome)
}

/// What to do after a command failed, if this build's environments are kept.
fn ways_on(arguments: &Arguments, build: &Build) -> Option<String> {
    let record = build.kept.as_ref()?.record().ok()?;
    if record.build_id != build.plan.build_id {
        return None;
    }
    let phase = kept::way_on(&record)?.name().to_ascii_lowercase();
    let (mut run, mut shell) = (String::new(), String::new());
    if arguments.source != "." {
        let folder = &arguments.source;
        (run, shell) = (format!(" {folder}"), format!(" --folder {folder}"));
    }
    Some(format!("Look around: buildyard shell{shell}\nGo on:       buildyard run{run} --from {phase}"))
}

fn took_ms(events: &[Event]) -> u64 {
    let start = events.iter().find_map(|event| match event {
        Event::Started { at_ms, .. } => Some(*at_ms),
        _ => None,
    });
    let end = events.iter().rev().find_map(|event| match event {
        Event::Finished { at_ms, .. } => Some(*at_ms),
        _ => None,
    });
    start.zip(end).map_or(0, |(start, end)| (end - start).max(0).unsigned_abs())
}

/// Ctrl-C and a polite kill.
struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupts {
    fn listen() -> io::Result<Interrupts> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Interrupts {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
