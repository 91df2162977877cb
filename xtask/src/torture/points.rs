//! T02: `kill -9` at each system call that changes anything, one after another, from the server's start through a build's acceptance to its end; and once more
//! from the start of a server that follows a killed one and finds a build on its way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::api::Answer;
use super::kind::Kind;
use super::ledger::{Entry, Hurt, Ledger};
use super::report::Figures;
use super::tracer::{Act, Calls, Fault, Role, Seen, Tracer};
use super::yard::{Options, Yard};
use super::{Setting, check, host};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// How long one walk through a scenario may take, at the pace of a traced server.
const PATIENCE: Duration = Duration::from_secs(60);
/// Walks are never quite the same: a point that is not reached is tried so often.
const TRIES: usize = 3;

/// What happens while points are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// StartBuild to SUCCEEDED, with log and artifact.
    Succeed,
    /// StartBuild, the command runs, StopBuild to STOPPED.
    Stop,
    /// A server was killed while a build ran: the next one finds its agent, and stops it.
    Adopt,
    /// A server was killed, and so was the build's agent: the next one says so.
    Bury,
    /// A server was killed just before it told an agent of a build: the next one begins the build.
    Resume,
}

impl Scenario {
    /// Only what the server that comes second does.
    fn is_of_second_server(self) -> bool {
        matches!(self, Scenario::Adopt | Scenario::Bury | Scenario::Resume)
    }

    fn kind(self) -> Kind {
        match self {
            Scenario::Succeed => Kind::Steady,
            Scenario::Resume => Kind::Quick,
            Scenario::Stop | Scenario::Adopt | Scenario::Bury => Kind::Stubborn,
        }
    }
}

const WALKS: [(Scenario, Role); 7] = [
    (Scenario::Stop, Role::Agent),
    (Scenario::Stop, Role::Server),
    (Scenario::Succeed, Role::Agent),
    (Scenario::Succeed, Role::Server),
    (Scenario::Adopt, Role::Server),
    (Scenario::Bury, Role::Server),
    (Scenario::Resume, Role::Server),
];

struct Run<'a> {
    yard: &'a Yard,
    ledger: &'a Ledger,
    scenario: Scenario,
    role: Role,
    number: usize,
    killed_at: BTreeMap<&'static str, usize>,
}

/// How many points there are of each, and at how many a process was killed.
struct Covered {
    points: usize,
    killed: usize,
    total: usize,
}

/// `points_max`: not all, but so many of each, evenly spread.
pub(super) fn run(setting: &Setting, points_max: Option<usize>) -> Result<Figures, String> {
    let options = Options { concurrent_builds: 1, ..Options::default() };
    let yard = Yard::make(&setting.binary, options)?;
    let ledger = Ledger::open(&setting.ledger("points"))?;
    yard.start()?;
    yard.furnish()?;
    yard.stop()?;
    let mut lines = Vec::new();
    for (scenario, role) in WALKS {
        let killed_at = BTreeMap::new();
        let mut run = Run { yard: &yard, ledger: &ledger, scenario, role, number: 0, killed_at };
        let covered = run.all(points_max)?;
        let calls: Vec<_> = run.killed_at.iter().map(|(call, count)| format!("{call} {count}")).collect();
        let line = format!(
            "{scenario:?}, {role:?}: killed at {} of {} points, of {} there are ({})",
            covered.killed,
            covered.points,
            covered.total,
            calls.join(", ")
        );
        eprintln!("torture: {line}");
        lines.push(line);
    }
    yard.start()?;
    check::at_the_end(&yard, &ledger)?;
    let figures = Figures::of("T02 kill -9 at each system call that changes anything", &ledger);
    Ok(lines.into_iter().fold(figures, Figures::with))
}

impl Run<'_> {
    fn all(&mut self, points_max: Option<usize>) -> Result<Covered, String> {
        // One walk without a fault says how many there are; some walks are longer.
        let mut total = self.count()?;
        let (mut killed, mut points, mut point) = (0, 0, 1);
        let step = points_max.map_or(1, |most| (total / most).max(1));
        while point <= total {
            points += 1;
            killed += usize::from(self.is_killed_at(point)?);
            point += step;
        }
        while points_max.is_none() && self.is_killed_at(total + 1)? {
            (killed, points, total) = (killed + 1, points + 1, total + 1);
        }
        Ok(Covered { points, killed, total })
    }

    fn is_killed_at(&mut self, point: usize) -> Result<bool, String> {
        for _ in 0..TRIES {
            if !self.walk(Some(point))?.done.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn count(&mut self) -> Result<usize, String> {
        let seen = self.walk(None)?;
        Ok(match self.role {
            Role::Server => seen.of_server,
            Role::Agent => seen.of_agent,
        })
    }

    /// One build from its acceptance to its end, with a kill at one point on the way or none.
    fn walk(&mut self, point: Option<usize>) -> Result<Seen, String> {
        self.number += 1;
        let left = if self.scenario.is_of_second_server() { self.leave()? } else { None };
        let fault = Fault {
            role: Some(self.role),
            calls: Calls::Changing,
            act: Act::Kill,
            first: point.unwrap_or(usize::MAX),
            count: 1,
        };
        let tracer = Tracer::start(self.yard, Some(fault))?;
        let traced = self.yard.server_id();
        let walked = self.scenario_under(&tracer, left);
        let seen = tracer.end();
        walked?;
        for (call, _) in &seen.done {
            *self.killed_at.entry(call).or_default() += 1;
        }
        // It may have been killed since the build was seen to be over, and not be dead yet.
        let is_killed = self.role == Role::Server && !seen.done.is_empty() && self.yard.server_id() == traced;
        if !is_killed && !self.yard.has_ended() {
            check::after_fault(self.yard, self.ledger)?;
        }
        self.yard.processes();
        self.yard.kill();
        Ok(seen)
    }

    fn scenario_under(&self, tracer: &Tracer, left: Option<String>) -> Result<(), String> {
        let id = match left {
            Some(build) => build,
            None => self.accept(tracer)?,
        };
        if self.scenario == Scenario::Stop {
            self.await_command(tracer, &id)?;
        }
        if matches!(self.scenario, Scenario::Stop | Scenario::Adopt) {
            self.ledger.write(Entry::Stopping { build: id.clone() });
            self.insist(tracer, "StopBuild", &json!({ "id": id }))?;
            self.ledger.write(Entry::Stopped { build: id.clone() });
        }
        self.await_end(tracer, &id)
    }

    fn accept(&self, tracer: &Tracer) -> Result<String, String> {
        let asked = Instant::now();
        let (token, input) = self.request();
        let answered = self.insist(tracer, "StartBuild", &input)?;
        Ok(self.ledger.accepted(&token, &answered, self.scenario.kind(), asked))
    }

    /// Its token, and what is asked of StartBuild.
    fn request(&self) -> (String, Value) {
        let token = format!("point-{:?}-{:?}-{}", self.scenario, self.role, self.number);
        let project = self.scenario.kind().project();
        let input = json!({ "projectName": project, "idempotencyToken": token });
        (token, input)
    }

    /// What the second server finds: a build of a server that was killed; none if that was before it had answered.
    fn leave(&self) -> Result<Option<String>, String> {
        if self.scenario == Scenario::Resume {
            return self.leave_untold();
        }
        let tracer = Tracer::start(self.yard, None)?;
        self.yard.await_ready(PATIENCE)?;
        let id = self.accept(&tracer)?;
        self.await_command(&tracer, &id)?;
        drop(tracer);
        self.kill_first();
        if self.scenario == Scenario::Bury {
            let builds = self.yard.data().join("builds");
            let agents =
                self.yard.processes().into_iter().filter(|one| host::build_of(*one, &builds).is_some());
            let hurt = Some((id.clone(), Hurt::Agent));
            self.ledger.write(Entry::Fault { what: "kill -9 of its agent".into(), hurt });
            agents.for_each(|agent| host::signal(agent, Signal::SIGKILL));
        }
        Ok(Some(id))
    }

    /// The first server is killed as it tells an agent of the build.
    fn leave_untold(&self) -> Result<Option<String>, String> {
        let fault =
            Fault { role: Some(Role::Server), calls: Calls::Pipes, act: Act::Kill, first: 1, count: 1 };
        let tracer = Tracer::start(self.yard, None)?;
        self.yard.await_ready(PATIENCE)?;
        tracer.set(Some(fault));
        let (asked, (token, input)) = (Instant::now(), self.request());
        let build = match self.yard.api().ask("StartBuild", &input) {
            Answer::Done(answer) => Some(self.ledger.accepted(&token, &answer, self.scenario.kind(), asked)),
            Answer::Lost(_) => None,
            refused @ Answer::Refused { .. } => return Err(format!("StartBuild: {refused:?}")),
        };
        let deadline = Instant::now() + PATIENCE;
        while !self.yard.has_ended() {
            if Instant::now() > deadline {
                return Err(format!("no agent is told of {build:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(tracer);
        self.kill_first();
        Ok(build)
    }

    fn kill_first(&self) {
        self.yard.processes();
        self.ledger.write(Entry::Fault { what: "kill -9 of the first server".into(), hurt: None });
        self.yard.kill();
    }

    /// Asks until there is an answer; a server that was killed is started again, and is not traced any more.
    fn insist(&self, tracer: &Tracer, operation: &str, input: &Value) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut last = String::new();
        while Instant::now() < deadline {
            match self.yard.api().ask(operation, input) {
                Answer::Done(value) => return Ok(value),
                Answer::Lost(reason) => last = reason,
                Answer::Refused { status, code, message } if status >= 500 => {
                    last = format!("{code}: {message}")
                }
                Answer::Refused { status, code, message } => {
                    return Err(format!("{operation} is refused: {status} {code}: {message}"));
                }
            }
            self.tend(tracer)?;
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(format!("{operation} is not answered: {last}"))
    }

    /// Starts a killed server again, and notes whose agent was killed.
    fn tend(&self, tracer: &Tracer) -> Result<(), String> {
        if self.role == Role::Agent && !tracer.seen().done.is_empty() {
            // It may have been this build's, or one that waited.
            self.ledger.hurt_open(Hurt::Agent);
        }
        if !self.yard.has_ended() {
            return Ok(());
        }
        if tracer.seen().done.is_empty() {
            return Err(format!("the server ended by itself:\n{}", self.yard.last_words()));
        }
        self.ledger.write(Entry::Fault { what: "kill -9 of the server at a call".into(), hurt: None });
        let took = self.yard.start()?;
        self.ledger.write(Entry::Ready { milliseconds: took.as_millis() as u64 });
        Ok(())
    }

    /// Until the build's command is heard, or the build is over without it.
    fn await_command(&self, tracer: &Tracer, id: &str) -> Result<(), String> {
        self.wait(tracer, id, |run| !run.yard.witness.of(id).is_empty())
    }

    fn await_end(&self, tracer: &Tracer, id: &str) -> Result<(), String> {
        self.wait(tracer, id, |_| false)
    }

    /// Until something is so, or the build is over.
    fn wait(&self, tracer: &Tracer, id: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.tend(tracer)?;
            if is_so(self) {
                return Ok(());
            }
            let asked = Instant::now();
            if let Answer::Done(answer) = self.yard.api().ask("BatchGetBuilds", &json!({ "ids": [id] })) {
                check::observe(self.ledger, &answer, asked);
            }
            if self.ledger.book().builds.get(id).is_none_or(|known| known.ended.is_some()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.ledger.violation("P2", format!("{id} does not come to an end within {PATIENCE:?}"));
        Ok(())
    }
}
