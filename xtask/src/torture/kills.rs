//! T01: `kill -9` at random moments under load, of the server and of what belongs to builds, and processes that stand still for a while.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::chance::Chance;
use super::host;
use super::kind::Kind;
use super::ledger::{Entry, Hurt, Ledger};
use super::load::{self, CLIENTS, Load, MIX, Mix};
use super::report::Figures;
use super::yard::{Options, Yard};
use super::{Setting, check};

/// Tokens of each operation that are asked for again after each kill.
const REPEATS: usize = 2;

#[derive(Debug, Clone, Copy)]
pub(super) struct Amount {
    /// Of the server.
    pub(super) kills: usize,
    /// Until a kill, at most.
    pub(super) until_kill: Duration,
    /// How often a process stands still.
    pub(super) stops: usize,
    pub(super) stop_length: Duration,
    /// After so many kills it says how far it is.
    pub(super) told_every: usize,
}

/// What is hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Server,
    /// F3: the process that runs one build's phases.
    Agent,
    /// One that waits for a build.
    WaitingAgent,
    /// F4: the first process of a build's container.
    Init,
    /// F6: the server stands still.
    StoppedServer,
    StoppedAgent,
}

pub(super) fn run(setting: &Setting, amount: Amount) -> Result<Figures, String> {
    let mix = Mix { pause_max: setting.pause_max, ..MIX };
    let options = Options { concurrent_builds: 8, ..Options::default() };
    let yard = Arc::new(Yard::make(&setting.binary, options)?);
    let ledger = Arc::new(Ledger::open(&setting.ledger("kills"))?);
    yard.start()?;
    yard.furnish()?;
    let load = Load::start(&yard, &ledger, CLIENTS, mix, setting.seed);
    let mut chance = Chance::of(setting.seed);
    let mut run = Run { yard: &yard, ledger: &ledger, chance: &mut chance, amount };
    let outcome = run.all();
    load.finish()?;
    outcome?;
    check::at_the_end(&yard, &ledger)?;
    Ok(Figures::of("T01 kill -9 at random", &ledger))
}

struct Run<'a> {
    yard: &'a Yard,
    ledger: &'a Ledger,
    chance: &'a mut Chance,
    amount: Amount,
}

impl Run<'_> {
    fn all(&mut self) -> Result<(), String> {
        let mut stops = 0;
        for kill in 1..=self.amount.kills {
            std::thread::sleep(self.chance.up_to(self.amount.until_kill));
            let victim = match self.chance.below(10) {
                0 | 1 => Victim::Agent,
                2 | 3 => Victim::Init,
                4 if stops < self.amount.stops => Victim::StoppedServer,
                5 if stops < self.amount.stops => Victim::StoppedAgent,
                6 => Victim::WaitingAgent,
                _ => Victim::Server,
            };
            stops += usize::from(matches!(victim, Victim::StoppedServer | Victim::StoppedAgent));
            if victim != Victim::Server {
                self.hurt(victim);
            }
            std::thread::sleep(self.chance.up_to(Duration::from_millis(100)));
            self.kill_server()?;
            load::repeat_some(self.yard, self.ledger, self.chance, REPEATS);
            match kill % self.amount.told_every {
                0 => self.tell(kill)?,
                _ => check::after_fault(self.yard, self.ledger)?,
            }
        }
        Ok(())
    }

    fn kill_server(&self) -> Result<(), String> {
        self.yard.processes();
        self.ledger.write(Entry::Fault { what: "kill -9 of the server".into(), hurt: None });
        self.yard.kill();
        let took = self.yard.start()?;
        self.ledger.write(Entry::Ready { milliseconds: took.as_millis() as u64 });
        Ok(())
    }

    /// Says how far it is, and looks where only builds that run leave something.
    fn tell(&self, kill: usize) -> Result<(), String> {
        let (accepted, violations) = {
            let book = self.ledger.book();
            (book.builds.len(), book.violations.len())
        };
        eprintln!("torture: {kill} kills, {accepted} builds, {violations} violations");
        check::while_building(self.yard, self.ledger)
    }

    fn hurt(&mut self, victim: Victim) {
        match victim {
            Victim::Server => {}
            Victim::WaitingAgent => self.kill_waiting(),
            Victim::StoppedServer => {
                self.ledger.write(Entry::Fault { what: "SIGSTOP of the server".into(), hurt: None });
                self.yard.server_id().into_iter().for_each(|server| self.stand_still(server));
            }
            _ => {
                if let Some((agent, build)) = self.agent() {
                    self.hurt_build(victim, agent, build);
                }
            }
        }
    }

    fn hurt_build(&self, victim: Victim, agent: u32, build: String) {
        let process = if victim == Victim::Init { host::init_of(agent) } else { Some(agent) };
        let Some(process) = process else { return };
        // Looking takes its time: it must still be this build's.
        if self.build(agent, &self.yard.data().join("builds")).as_ref() != Some(&build) {
            return;
        }
        // Written before it is done: what it leads to may be seen at once.
        let fault = |what: &str, hurt| self.ledger.write(Entry::Fault { what: what.into(), hurt });
        match victim {
            Victim::StoppedAgent => {
                fault("SIGSTOP of an agent", None);
                return self.stand_still(process);
            }
            Victim::Init => fault("kill -9 of a container's init", Some((build, Hurt::Init))),
            _ => fault("kill -9 of an agent", Some((build, Hurt::Agent))),
        }
        host::signal(process, Signal::SIGKILL);
    }

    fn stand_still(&self, process: u32) {
        host::signal(process, Signal::SIGSTOP);
        std::thread::sleep(self.amount.stop_length);
        host::signal(process, Signal::SIGCONT);
    }

    /// It stands still before it is killed, so that it has no build: one that it was told of and has not taken gets another agent.
    fn kill_waiting(&mut self) {
        let builds = self.yard.data().join("builds");
        let waits =
            |agent: &u32| host::is_told_of_builds(*agent) && host::build_of(*agent, &builds).is_none();
        let waiting: Vec<u32> = self.agents().into_iter().filter(waits).collect();
        let Some(agent) = self.chance.one_of(&waiting).copied() else { return };
        host::signal(agent, Signal::SIGSTOP);
        if waits(&agent) {
            self.ledger.write(Entry::Fault { what: "kill -9 of a waiting agent".into(), hurt: None });
            host::signal(agent, Signal::SIGKILL);
        }
        host::signal(agent, Signal::SIGCONT);
    }

    /// An agent that has a build, and the build.
    fn agent(&mut self) -> Option<(u32, String)> {
        let builds = self.yard.data().join("builds");
        let agents = self.agents().into_iter();
        let busy: Vec<_> = agents.filter_map(|agent| Some((agent, self.build(agent, &builds)?))).collect();
        self.chance.one_of(&busy).cloned()
    }

    /// What else runs of the program is below an agent.
    fn agents(&self) -> Vec<u32> {
        let server = self.yard.server_id();
        let ours: BTreeSet<u32> =
            self.yard.processes().into_iter().filter(|one| Some(*one) != server).collect();
        let is_below = |one: &u32| host::ancestors(*one).iter().any(|above| ours.contains(above));
        ours.iter().copied().filter(|one| !is_below(one)).collect()
    }

    fn build(&self, agent: u32, builds: &Path) -> Option<String> {
        let uuid = host::build_of(agent, builds)?;
        let book = self.ledger.book();
        let open = book.builds.iter().filter(|(_, known)| known.ended.is_none());
        open.map(|(id, _)| id).find(|id| id.ends_with(&uuid)).cloned()
    }
}

/// How soon a server with much history and a long queue answers after it was killed.
pub(super) fn ready_with_history(
    setting: &Setting,
    stored: usize,
    queued: usize,
    kills: usize,
) -> Result<Figures, String> {
    let options = Options { concurrent_builds: 1, ..Options::default() };
    let yard = Yard::make(&setting.binary, options)?;
    let ledger = Ledger::open(&setting.ledger("ready"))?;
    yard.start()?;
    yard.furnish()?;
    for kind in [Kind::Steady, Kind::Failing, Kind::Quick] {
        let id = load::start_one(&yard, &ledger, kind, &format!("first-{}", kind.project()))?;
        load::ended(&yard, &ledger, &id)?;
    }
    if stored > 0 {
        yard.stop()?;
        crate::bench::history::fill_folder(&yard.data(), stored)?;
        yard.start()?;
    }
    let blocker = load::start_one(&yard, &ledger, Kind::Stubborn, "blocker")?;
    for number in 0..queued {
        load::start_one(&yard, &ledger, Kind::Stubborn, &format!("queued-{number}"))?;
    }
    for _ in 0..kills {
        ledger.write(Entry::Fault { what: "kill -9 of the server".into(), hurt: None });
        yard.kill();
        let took = yard.start()?;
        ledger.write(Entry::Ready { milliseconds: took.as_millis() as u64 });
    }
    let begun = Instant::now();
    // The blocker last: no other shall begin.
    let open = ledger.book().open();
    let queued_first = open.iter().filter(|id| **id != blocker).chain([&blocker]);
    queued_first.into_iter().try_for_each(|id| load::stop(&yard, &ledger, id))?;
    open.iter().try_for_each(|id| load::ended(&yard, &ledger, id))?;
    eprintln!("torture: {queued} queued builds were stopped within {:.1} s", begun.elapsed().as_secs_f64());
    check::at_the_end_of_ours(&yard, &ledger)?;
    Ok(Figures::of(&format!("P8 with {stored} stored and {queued} queued builds"), &ledger))
}
