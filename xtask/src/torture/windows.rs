//! Times during which calls fail: one of them, or all of a kind for a while. Clients go on meanwhile, and nothing that could not be kept may be accepted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use serde_json::json;

use super::api::{Answer, Api};
use super::chance::Chance;
use super::kind::Kind;
use super::ledger::{Entry, Hurt, Ledger};
use super::load::{self, Load, MIX, Mix};
use super::tracer::{Act, Calls, Fault, Role, Tracer};
use super::yard::Yard;
use super::{Setting, check};

/// Fewer than where only kills are looked for: each call of theirs stops at us.
const CLIENTS: usize = 6;
/// How long the server may take to accept builds again once nothing fails.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// How far in a single call that fails may lie.
const POINTS: usize = 150;

/// One kind of failure.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) what: &'static str,
    pub(super) calls: Calls,
    pub(super) error: Errno,
    pub(super) role: Option<Role>,
    /// Nothing can be kept while all these calls fail.
    pub(super) is_total: bool,
    /// What it does to builds; nothing, if only the server's own records are concerned.
    pub(super) hurts: Option<Hurt>,
    /// Reading takes none of these calls.
    pub(super) reads_go_on: bool,
}

/// What is asked of the server while something fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Nothing may be accepted.
    pub(super) nothing_is_kept: bool,
    /// Whatever is read is answered.
    pub(super) reads_go_on: bool,
}

/// What windows came to, beside what is in the ledger.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) windows: usize,
    pub(super) calls: usize,
    pub(super) refused: usize,
    pub(super) read: usize,
    pub(super) unread: usize,
    pub(super) restarts: usize,
    pub(super) recovery_ms: Vec<f64>,
}

pub(super) struct Windows<'a> {
    pub(super) yard: &'a Arc<Yard>,
    pub(super) ledger: &'a Arc<Ledger>,
    pub(super) chance: Chance,
    pub(super) told: Told,
    tracer: Option<Tracer>,
    /// The server runs under our eyes, and does so again after it was started anew.
    is_traced: bool,
    number: usize,
}

impl<'a> Windows<'a> {
    pub(super) fn new(yard: &'a Arc<Yard>, ledger: &'a Arc<Ledger>, seed: u64) -> Windows<'a> {
        let chance = Chance::of(seed);
        Windows { yard, ledger, chance, told: Told::default(), tracer: None, is_traced: false, number: 0 }
    }

    /// So many windows of failures in turn, under load; the server is then as it was left, with no build on its way.
    pub(super) fn run(
        &mut self,
        setting: &Setting,
        failures: &[Failure],
        windows: usize,
    ) -> Result<(), String> {
        self.is_traced = true;
        self.revive()?;
        let load = self.load(setting);
        let outcome = (0..windows).try_for_each(|number| {
            self.window(&failures[number % failures.len()], (number / failures.len()).is_multiple_of(2))
        });
        self.tracer.iter().for_each(|tracer| tracer.set(None));
        load.finish()?;
        self.tracer = None;
        outcome
    }

    pub(super) fn load(&self, setting: &Setting) -> Load {
        let mix = Mix { pause_max: Duration::from_millis(1500), open_max: 1, ..MIX };
        Load::start(self.yard, self.ledger, CLIENTS, mix, setting.seed)
    }

    /// Starts the server once more.
    fn revive(&mut self) -> Result<(), String> {
        self.tracer = None;
        self.yard.kill();
        if !self.is_traced {
            return self.yard.start().map(drop);
        }
        self.tracer = Some(Tracer::start(self.yard, None)?);
        self.yard.await_ready(Duration::from_secs(60))
    }

    fn window(&mut self, failure: &Failure, is_long: bool) -> Result<(), String> {
        let (first, count) = match is_long {
            true => (1, usize::MAX),
            false => (1 + self.chance.below(POINTS), 1),
        };
        let fault = Fault {
            role: failure.role,
            calls: failure.calls.clone(),
            act: Act::Fail(failure.error),
            first,
            count,
        };
        let known = self.known()?;
        self.begin(failure.what, is_long, failure.hurts);
        self.tracer.iter().for_each(|tracer| tracer.set(Some(fault.clone())));
        let length = Duration::from_millis(400) + self.chance.up_to(Duration::from_millis(600));
        let nothing_is_kept = is_long && failure.is_total;
        self.probe(&known, length, Bounds { nothing_is_kept, reads_go_on: failure.reads_go_on });
        self.told.calls += self.tracer.as_ref().map_or(0, |tracer| tracer.seen().done.len());
        self.tracer.iter().for_each(|tracer| tracer.set(None));
        self.end()
    }

    /// `hurts`: what this does to builds that are on their way or come meanwhile.
    pub(super) fn begin(&mut self, what: &str, is_long: bool, hurts: Option<Hurt>) {
        self.told.windows += 1;
        self.yard.processes();
        let what = format!("{what}{}", if is_long { ", for a while" } else { "" });
        self.ledger.write(Entry::Fault { what, hurt: None });
        self.ledger.book().failing = Some(hurts);
        self.hurt_open();
    }

    fn hurt_open(&self) {
        let hurts = self.ledger.book().failing.flatten();
        hurts.into_iter().for_each(|how| self.ledger.hurt_open(how));
    }

    /// Starts builds and reads one while things fail.
    pub(super) fn probe(&mut self, known: &str, length: Duration, bounds: Bounds) {
        let until = Instant::now() + length;
        let mut api = self.yard.api();
        self.ledger.book().nothing_kept_since = bounds.nothing_is_kept.then(Instant::now);
        while Instant::now() < until {
            self.number += 1;
            self.probe_start(&mut api, format!("probe-{}", self.number));
            self.probe_read(&mut api, known, bounds.reads_go_on);
            std::thread::sleep(Duration::from_millis(20));
        }
        self.ledger.book().nothing_kept_since = None;
        self.hurt_open();
    }

    fn probe_start(&mut self, api: &mut Api, token: String) {
        let input = json!({ "projectName": Kind::Quick.project(), "idempotencyToken": token });
        let asked = Instant::now();
        match api.ask("StartBuild", &input) {
            Answer::Done(answer) => drop(self.ledger.accepted(&token, &answer, Kind::Quick, asked)),
            Answer::Refused { status, code, .. } => {
                self.told.refused += 1;
                self.ledger.write(Entry::Refused { token, status, code });
            }
            // It may have been carried out: only its token can tell.
            Answer::Lost(_) => self.pending(&token),
        }
    }

    fn probe_read(&mut self, api: &mut Api, known: &str, must_go_on: bool) {
        let input = json!({ "ids": [known] });
        // Where it may be that nobody answers, asking again would only prolong the fault.
        let answer = match must_go_on {
            true => api.get("BatchGetBuilds", &input),
            false => api.ask("BatchGetBuilds", &input).done(),
        };
        let why = match answer {
            Ok(answer) if answer["builds"][0]["id"] == *known => {
                self.told.read += 1;
                self.ledger.book().reads += 1;
                return;
            }
            Ok(answer) => answer.to_string(),
            Err(why) => why,
        };
        self.told.unread += 1;
        if must_go_on {
            self.ledger.write(Entry::Unread { why });
        }
    }

    fn pending(&mut self, token: &str) {
        self.ledger.book().pending.push(token.to_owned());
    }

    /// Nothing fails any more: the server accepts builds again, by itself or, if it had given up, started again.
    pub(super) fn end(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            if self.yard.has_ended() {
                self.told.restarts += 1;
                self.ledger.write(Entry::GaveUp { last_words: self.yard.last_words() });
                self.revive()?;
            }
            match self.try_one() {
                Ok(()) => break,
                Err(reason) if begun.elapsed() > RECOVERY_MAX => {
                    self.ledger.violation(
                        "P12",
                        format!("no build is accepted {RECOVERY_MAX:?} after a failure: {reason}"),
                    );
                    self.revive()?;
                    break;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        self.told.recovery_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        self.settle_pending()?;
        self.ledger.book().failing = None;
        check::after_fault(self.yard, self.ledger)
    }

    fn try_one(&mut self) -> Result<(), String> {
        let token = format!("after-{}", self.told.windows);
        load::start_one(self.yard, self.ledger, Kind::Quick, &token).map(drop)
    }

    /// What was asked for without an answer is asked for again.
    fn settle_pending(&mut self) -> Result<(), String> {
        let pending = std::mem::take(&mut self.ledger.book().pending);
        pending
            .iter()
            .try_for_each(|token| load::start_one(self.yard, self.ledger, Kind::Quick, token).map(drop))
    }

    /// Any build that was accepted.
    pub(super) fn known(&mut self) -> Result<String, String> {
        let last = self.ledger.book().order.last().cloned();
        match last {
            Some(build) => Ok(build),
            None => load::start_one(self.yard, self.ledger, Kind::Quick, "known"),
        }
    }
}

impl Told {
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("windows: {}, calls that failed: {}", self.windows, self.calls),
            format!(
                "meanwhile: {} builds refused, {} reads answered, {} not",
                self.refused, self.read, self.unread
            ),
        ];
        if let Some(took) = crate::bench::statistics::Sample::of(self.recovery_ms.clone()) {
            lines.push(format!(
                "builds accepted again after p50 {:.0} ms, p99 {:.0} ms; the server had given up and was started again {} times",
                took.median(),
                took.percentile(99),
                self.restarts
            ));
        }
        lines
    }
}
