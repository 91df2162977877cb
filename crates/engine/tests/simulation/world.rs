//! A history: what happens, step by step, as a seed decides; then everything is mended, and all has to come to its end.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use api::codebuild::EnvironmentType;
use engine::Config;
use engine::clock::Clock;
use engine::config::{FileWork, NewUuid};
use store::records::Fate;
use tempfile::TempDir;

use crate::agents::Agents;
use crate::chance::Chance;
use crate::clients::{self, Answers, Ask, Plan};
use crate::ledger::{Counts, Ledger};
use crate::panics;
use crate::server::{Server, Started};
use crate::time::Time;

/// A step that nobody is to wait for longer than this, once everything is mended.
const ROUNDS: usize = 3000;
/// How much of a broken history is told.
const LAST_LINES: usize = 50;

pub(crate) async fn yields(rounds: u64) {
    for _ in 0..rounds {
        tokio::task::yield_now().await;
    }
}

/// What a history came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct History {
    /// Of all that happened, in its order.
    pub(crate) hash: u64,
    counts: Counts,
}

impl History {
    pub(crate) fn add(&mut self, other: &History) {
        self.counts.builds += other.counts.builds;
        self.counts.answers += other.counts.answers;
        self.counts.kills += other.counts.kills;
        self.counts.faults += other.counts.faults;
    }

    pub(crate) fn summary(&self) -> String {
        let Counts { builds, answers, kills, faults } = self.counts;
        format!("{builds} builds, {answers} answers, {kills} kills, {faults} faults")
    }
}

/// A promise was broken.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) what: String,
    lines: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

type Check = Result<(), String>;

#[derive(Debug, Clone, Copy)]
enum Move {
    RunServer,
    RunAgents,
    Write,
    Read,
    Client,
    Launch,
    Release,
    Wait,
    WaitLong,
    Jump,
    KillAgent,
    Fault,
    Kill,
    ShutDown,
}

const MOVES: &[(u64, Move)] = &[
    (300, Move::RunServer),
    (200, Move::RunAgents),
    (250, Move::Write),
    (180, Move::Read),
    (110, Move::Client),
    (90, Move::Launch),
    (60, Move::Release),
    (140, Move::Wait),
    (8, Move::WaitLong),
    (5, Move::Jump),
    (6, Move::KillAgent),
    (14, Move::Fault),
    (10, Move::Kill),
    (2, Move::ShutDown),
];

/// What is broken just now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Faults {
    store: bool,
    disk: bool,
}

pub(crate) struct World {
    chance: Chance,
    time: Time,
    folder: TempDir,
    config: Config,
    plans: Vec<Plan>,
    agents: Agents,
    server: Option<Server>,
    started: Started,
    faults: Faults,
    asked: Vec<(Ask, bool)>,
    answers: Answers,
    ledger: Arc<Mutex<Ledger>>,
    /// What was found where a step could not fail.
    broken: Arc<Mutex<Option<String>>>,
    hash: DefaultHasher,
    lines: VecDeque<String>,
    is_told: bool,
    /// Something may have begun or ended to run since that was last looked at.
    has_moved: bool,
    /// Uuids of the builds whose commands may be running.
    running: Vec<String>,
}

impl World {
    /// One history, from its beginning to its end.
    pub(crate) fn live(seed: u64) -> Result<History, Broken> {
        World::new(seed, false).go()
    }

    /// The same, told as it happens.
    pub(crate) fn tell(seed: u64) -> Result<History, Broken> {
        World::new(seed, true).go()
    }

    fn new(seed: u64, is_told: bool) -> World {
        let chance = Chance::new(seed);
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let time = Time::default();
        let mut config = Config::new(
            "eu-west-1".parse().unwrap(),
            folder.path().join("objects"),
            folder.path().join("logs"),
        );
        config.environment_types = vec![EnvironmentType::LinuxContainer];
        config.concurrent_builds = 1 + chance.index(4);
        config.concurrent_builds_of = [("BUILD_GENERAL1_LARGE".to_owned(), 1)].into();
        config.queued_builds = 3 + chance.index(8);
        config.clock = Arc::new(time.clone());
        config.file_work = FileWork::AtOnce;
        let uuids = chance.apart();
        config.new_uuid = NewUuid::new(move || uuids.uuid());
        let most = i32::try_from(config.concurrent_builds).unwrap();
        let plans = (0..2 + chance.below(3)).map(|number| plan(&chance, number, most)).collect();
        World {
            agents: Agents::new(&folder.path().join("builds"), &time, &chance),
            chance,
            time,
            folder,
            config,
            plans,
            server: None,
            started: Started::default(),
            faults: Faults::default(),
            asked: Vec::new(),
            answers: Answers::default(),
            ledger: Arc::default(),
            broken: Arc::default(),
            hash: DefaultHasher::new(),
            lines: VecDeque::new(),
            is_told,
            has_moved: true,
            running: Vec::new(),
        }
    }

    fn go(mut self) -> Result<History, Broken> {
        self.watch_launches();
        let lived = self.begin().and_then(|()| self.happen()).and_then(|()| self.come_to_an_end());
        let result = match lived {
            Ok(()) => Ok(History { hash: self.hash.finish(), counts: self.ledger.lock().unwrap().counts }),
            Err(what) => Err(Broken { what, lines: std::mem::take(&mut self.lines).into() }),
        };
        self.kill();
        result
    }

    fn say(&mut self, line: String) {
        line.hash(&mut self.hash);
        if self.is_told {
            println!("{:>9} ms  {line}", self.time.uptime_ms());
        }
        self.lines.push_back(line);
        if self.lines.len() > LAST_LINES {
            self.lines.pop_front();
        }
    }

    // ---- the beginning --------------------------------------------------------------------------------------

    fn begin(&mut self) -> Check {
        self.start_server();
        for plan in self.plans.clone() {
            let done = Arc::new(Mutex::new(None));
            while self.engine().is_none() {
                self.pump()?;
            }
            let (engine, told) = (self.engine().unwrap(), done.clone());
            let creating = async move { *told.lock().unwrap() = Some(clients::create(&engine, plan).await) };
            self.server.as_ref().unwrap().spawn(creating);
            while done.lock().unwrap().is_none() {
                self.pump()?;
            }
            done.lock().unwrap().take().unwrap().map_err(|error| format!("a project: {error}"))?;
        }
        Ok(())
    }

    fn start_server(&mut self) {
        let (config, slow) = (self.config.clone(), self.agents.slow.clone());
        let mut server = Server::start(self.folder.path(), config, slow, &self.started);
        if self.faults.disk {
            server.hand.fill_disk(true).unwrap();
        }
        self.server = Some(server);
        self.ledger.lock().unwrap().life += 1;
        self.say("a server starts".to_owned());
    }

    fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    fn watch_launches(&mut self) {
        let (started, ledger, broken) = (self.started.clone(), self.ledger.clone(), self.broken.clone());
        let (plans, unknown) = (self.plans.clone(), self.agents.slow.unknown());
        self.agents.slow.on_launch(move |uuid| {
            let engine = started.lock().unwrap().as_ref().and_then(|started| started.clone().ok());
            if let Some(engine) = engine {
                let found = ledger
                    .lock()
                    .unwrap()
                    .launched(uuid, &plans, &engine, |uuid| unknown.lock().unwrap().contains(uuid));
                note(&broken, found);
            }
        });
    }

    // ---- what happens ---------------------------------------------------------------------------------------

    fn happen(&mut self) -> Check {
        for _ in 0..200 + self.chance.below(900) {
            let step = self.chance.weighed(MOVES);
            self.take(step)?;
            self.look()?;
        }
        Ok(())
    }

    fn take(&mut self, step: Move) -> Check {
        match step {
            Move::RunServer => self.run_server(1 + self.chance.below(6)),
            Move::RunAgents => self.run_agents(1 + self.chance.below(4)),
            Move::Write => self.write(1 + self.chance.index(6))?,
            Move::Read => self.read(1 + self.chance.below(4)),
            Move::Client => self.client_asks(),
            Move::Launch => self.launch(true),
            Move::Release => self.release(),
            Move::Wait => self.wait(self.chance.between(0, 300)),
            Move::WaitLong => self.wait_long()?,
            Move::Jump => self.jump(),
            Move::KillAgent => self.kill_agent(),
            Move::Fault => self.fault(),
            Move::Kill => self.kill_or_start(),
            Move::ShutDown => self.shut_down()?,
        }
        Ok(())
    }

    fn engine(&self) -> Option<engine::Engine> {
        self.server.as_ref()?.engine()
    }

    fn run_server(&mut self, rounds: u64) {
        if let Some(server) = &self.server {
            server.run(rounds);
        }
        if self.server.as_ref().is_some_and(Server::has_failed) {
            self.say("the server cannot start".to_owned());
            self.kill();
        }
    }

    fn run_agents(&mut self, rounds: u64) {
        self.has_moved = true;
        self.agents.run(rounds);
    }

    fn fate(&self) -> Fate {
        if self.faults.store && self.chance.one_in(2) { Fate::Failing } else { Fate::Natural }
    }

    fn write(&mut self, most: usize) -> Check {
        let fate = self.fate();
        let Some(server) = &mut self.server else { return Ok(()) };
        let count = server.hand.write(most, fate);
        self.has_moved |= count > 0;
        if count == 0 {
            return Ok(());
        }
        let kept = server.hand.kept_builds().map_err(|error| error.to_string())?;
        self.say(format!("{count} writes, {fate:?}"));
        let mut ledger = self.ledger.lock().unwrap();
        ledger.stored(kept, self.time.uptime_ms())?;
        for uuid in std::mem::take(&mut ledger.just_over) {
            // What could not be told for too long ends without its agent.
            if let Some(said) = self.agents.outcome(&uuid).filter(|_| !self.agents.slow.was_unknown(&uuid)) {
                ledger.agrees(&uuid, said)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, most: u64) {
        for _ in 0..most {
            let fate = self.fate();
            let Some(server) = &mut self.server else { return };
            if !server.hand.read(fate) {
                return;
            }
            self.say(format!("a read, {fate:?}"));
        }
    }

    fn launch(&mut self, may_fail: bool) {
        if let Some(what) = self.agents.attempt(&self.chance, may_fail) {
            self.say(format!("a launch {what}"));
        }
    }

    fn release(&mut self) {
        let held = self.agents.held();
        if !held.is_empty() {
            let uuid = self.chance.pick(&held);
            self.say(format!("{uuid} may go on"));
            self.agents.fake.release(&uuid);
        }
    }

    fn kill_agent(&mut self) {
        let agents = self.agents.fake.agents();
        if !agents.is_empty() {
            let uuid = self.chance.pick(&agents);
            self.say(format!("the agent of {uuid} is killed"));
            self.agents.fake.kill(&uuid);
        }
    }

    fn wait(&mut self, ms: i64) {
        self.time.pass(ms);
    }

    /// Up to some minutes, in which everybody does what their time has come for.
    fn wait_long(&mut self) -> Check {
        let mut left_ms = self.chance.between(1_000, 400_000);
        self.say(format!("{left_ms} ms pass"));
        while left_ms > 0 {
            self.pump()?;
            let step_ms = self.time.until_next_ms().map_or(left_ms, |next| next.clamp(1, left_ms));
            self.wait(step_ms);
            // What should have happened before now is not what somebody does about it now.
            self.look()?;
            left_ms -= step_ms;
        }
        self.pump()
    }

    fn jump(&mut self) {
        let minutes = self.chance.pick(&[-525_600, -60, -6, -1, 1, 6, 60, 525_600]);
        self.say(format!("the wall clock jumps by {minutes} min"));
        self.time.jump(minutes * 60_000);
        self.ledger.lock().unwrap().jumped();
    }

    fn fault(&mut self) {
        self.ledger.lock().unwrap().counts.faults += 1;
        match self.chance.below(4) {
            0 => self.faults.store = !self.faults.store,
            1 => {
                self.faults.disk = !self.faults.disk;
                if let Some(server) = &mut self.server {
                    server.hand.fill_disk(self.faults.disk).unwrap();
                }
            }
            2 => self.agents.slow.fail(!self.agents.slow.is_failing()),
            _ => self.mend(),
        }
        let (faults, is_failing) = (format!("{:?}", self.faults), self.agents.slow.is_failing());
        self.say(format!("{faults}, executor: {is_failing}"));
    }

    fn mend(&mut self) {
        self.faults = Faults::default();
        self.agents.slow.fail(false);
        if let Some(server) = &mut self.server {
            server.hand.fill_disk(false).unwrap();
        }
    }

    fn is_sound(&self) -> bool {
        self.engine().is_some() && self.faults == Faults::default() && !self.agents.slow.is_failing()
    }

    fn kill_or_start(&mut self) {
        if self.server.is_some() {
            self.ledger.lock().unwrap().counts.kills += 1;
            self.say("the server is killed".to_owned());
            self.kill();
            // Others may come to do something before it is there again.
            for _ in 0..self.chance.below(4) {
                self.run_agents(4);
                self.launch(true);
                self.release();
                self.wait(self.chance.between(0, 20_000));
            }
        }
        self.start_server();
    }

    fn shut_down(&mut self) -> Check {
        let Some(engine) = self.engine() else { return Ok(()) };
        self.say("the server shuts down".to_owned());
        let done = Arc::new(Mutex::new(false));
        let told = done.clone();
        let ending = async move {
            engine.shut_down().await;
            *told.lock().unwrap() = true;
        };
        self.server.as_ref().unwrap().spawn(ending);
        // A service manager's patience is limited.
        for _ in 0..self.chance.below(60) {
            if !*done.lock().unwrap() {
                self.pump()?;
                self.launch(false);
            }
        }
        self.kill();
        self.start_server();
        Ok(())
    }

    // ---- clients --------------------------------------------------------------------------------------------

    fn client_asks(&mut self) {
        let Some(engine) = self.engine() else { return };
        let ask = self.choose_ask();
        self.ledger.lock().unwrap().sent(&ask, self.time.uptime_ms());
        let number = self.asked.len();
        self.say(format!("asked {number}: {ask:?}"));
        self.asked.push((ask.clone(), false));
        let answers = self.answers.clone();
        let asking = async move {
            let answer = clients::ask(engine, ask).await;
            answers.lock().unwrap().push((number, answer));
        };
        self.server.as_ref().unwrap().spawn(asking);
    }

    fn choose_ask(&self) -> Ask {
        let chance = &self.chance;
        let ledger = self.ledger.lock().unwrap();
        let known: Vec<&String> = ledger.order.iter().filter(|id| !ledger.rows[*id].gone).collect();
        let known_one = || known[chance.index(known.len())].clone();
        let again: Vec<&Ask> = self
            .asked
            .iter()
            .map(|(ask, _)| ask)
            .filter(|ask| matches!(ask, Ask::Start { token: Some(_), .. }))
            .collect();
        match chance.below(100) {
            0..15 if !again.is_empty() => again[chance.index(again.len())].clone(),
            0..55 => Ask::Start {
                project: chance.pick(&self.plans).name,
                token: chance.one_in(2).then(|| format!("token {}", self.asked.len())),
                mark: format!("mark {}", self.asked.len()),
            },
            55..80 if !known.is_empty() => Ask::Stop { id: known_one() },
            80..86 if !known.is_empty() => Ask::Retry { id: known_one(), token: None },
            86..90 if !known.is_empty() => Ask::Delete { id: known_one() },
            90..97 if !known.is_empty() => Ask::Get { id: known_one() },
            _ => Ask::List,
        }
    }

    fn hear_answers(&mut self) -> Check {
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        for (number, answer) in answers {
            let told = format!("{answer:?}");
            self.say(format!("answered {number}: {}", &told[..told.len().min(120)]));
            self.asked[number].1 = true;
            let (ask, _) = &self.asked[number];
            self.ledger.lock().unwrap().answered(ask, &answer, self.time.uptime_ms())?;
        }
        Ok(())
    }

    // ---- whether all is well --------------------------------------------------------------------------------

    fn look(&mut self) -> Check {
        self.hear_answers()?;
        if let Some(panic) = panics::last() {
            return Err(format!("panic: {panic}"));
        }
        if let Some(broken) = self.broken.lock().unwrap().take() {
            return Err(broken);
        }
        if std::mem::take(&mut self.has_moved) {
            // An agent that cannot be asked after is given up once its build's time is over, and may still be there.
            let (ledger, slow) = (self.ledger.lock().unwrap(), &self.agents.slow);
            self.running = self.agents.running();
            self.running.retain(|uuid| !(slow.was_unknown(uuid) && ledger.is_over(uuid)));
        }
        let (is_sound, uptime_ms) = (self.is_sound(), self.time.uptime_ms());
        let mut ledger = self.ledger.lock().unwrap();
        ledger.running(&self.running, &self.plans, (self.config.concurrent_builds, 1))?;
        ledger.stopped(&self.running, uptime_ms, is_sound)
    }

    /// Lets everybody do what they can without waiting.
    fn pump(&mut self) -> Check {
        let mut quiet = 0;
        while quiet < 4 {
            self.run_server(3);
            self.run_agents(3);
            let waiting = self.server.as_ref().map_or((0, 0), |server| server.hand.waiting());
            quiet = if waiting == (0, 0) { quiet + 1 } else { 0 };
            self.read(u64::MAX);
            self.write(usize::MAX)?;
            self.look()?;
        }
        Ok(())
    }

    // ---- the end --------------------------------------------------------------------------------------------

    /// From here on nothing breaks any more, and whoever was held goes on: everything has to end, and to leave nothing.
    fn come_to_an_end(&mut self) -> Check {
        self.say("all is mended".to_owned());
        self.mend();
        for round in 0..ROUNDS {
            if self.server.is_none() {
                self.start_server();
            }
            while !self.agents.waiting_launches().is_empty() {
                self.launch(false);
            }
            self.agents.held().iter().for_each(|uuid| self.agents.fake.release(uuid));
            self.pump()?;
            let all_over = self.ledger.lock().unwrap().rows.values().all(|row| row.complete || row.gone);
            let is_idle = self.engine().is_some_and(|engine| engine.load()() == engine::Load::default());
            if all_over && is_idle && round > 0 {
                break;
            }
            let next_ms = self.time.until_next_ms().unwrap_or(1000).max(1);
            self.wait(next_ms);
            self.look()?;
        }
        self.must_be_over()
    }

    fn must_be_over(&mut self) -> Check {
        let agents = self.agents.fake.clone();
        self.ledger.lock().unwrap().ended(|uuid| agents.starts(uuid), self.time.uptime_ms())?;
        // What was left behind while it could not be removed is removed by the next start.
        self.kill();
        self.start_server();
        while self.engine().is_none() {
            self.pump()?;
        }
        self.pump()?;
        let left: Vec<_> = std::fs::read_dir(self.folder.path().join("builds")).unwrap().flatten().collect();
        match left.is_empty() {
            true => Ok(()),
            false => Err(format!("P9: builds left {left:?}")),
        }
    }
}

fn note(broken: &Mutex<Option<String>>, found: Check) {
    if let Err(what) = found {
        broken.lock().unwrap().get_or_insert(what);
    }
}

fn plan(chance: &Chance, number: u64, most: i32) -> Plan {
    Plan {
        name: format!("project-{number}"),
        limit: chance.pick(&[None, Some(1), Some(most.min(2))]),
        is_large: chance.one_in(4),
        retries: chance.pick(&[None, None, Some(1), Some(2)]),
        queued_minutes: chance.pick(&[5, 30, 480]),
    }
}
