//! Clients that start, watch, stop, retry and repeat builds, and do not give up when an answer is lost: they ask again with the same token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{Answer, Api};
use super::chance::Chance;
use super::check;
use super::kind::Kind;
use super::ledger::{Asked, Entry, Ledger};
use super::yard::Yard;

pub(super) const CLIENTS: usize = 20;
/// Longer than any build under any fault.
const DRAIN_PATIENCE: Duration = Duration::from_secs(420);

/// What clients do, of each hundred builds they start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mix {
    pub(super) failing: usize,
    pub(super) stubborn: usize,
    pub(super) quick: usize,
    /// A client's builds that are not over, at most.
    pub(super) open_max: usize,
    /// Before the next one.
    pub(super) pause_max: Duration,
    /// Tokens are asked for again, which is the same build for five minutes of the server's clock.
    pub(super) repeats: bool,
}

pub(super) const MIX: Mix = Mix {
    failing: 10,
    stubborn: 15,
    quick: 10,
    open_max: 2,
    pause_max: Duration::from_millis(1500),
    repeats: true,
};

#[derive(Debug)]
pub(super) struct Load {
    done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

struct Client {
    yard: Arc<Yard>,
    ledger: Arc<Ledger>,
    done: Arc<AtomicBool>,
    name: String,
    mix: Mix,
    chance: Chance,
    api: Api,
    /// Builds of this client that are not known to be over, with when they shall be stopped.
    open: Vec<(String, Option<Instant>)>,
    /// Builds that are over and may be retried.
    over: Vec<String>,
    number: usize,
    /// Of the last StartBuild, if no RetryBuild had it.
    last_token: Option<String>,
}

impl Load {
    pub(super) fn start(yard: &Arc<Yard>, ledger: &Arc<Ledger>, clients: usize, mix: Mix, seed: u64) -> Load {
        // Tokens of two loads on one server are never the same.
        static LOADS: AtomicUsize = AtomicUsize::new(0);
        let load = LOADS.fetch_add(1, Ordering::Relaxed);
        let done = Arc::new(AtomicBool::new(false));
        let threads = (0..clients).map(|number| {
            let client = Client {
                yard: yard.clone(),
                ledger: ledger.clone(),
                done: done.clone(),
                name: format!("load-{load}-client-{number}"),
                mix,
                chance: Chance::of(seed.wrapping_add(number as u64 + 1)),
                api: yard.api(),
                open: Vec::new(),
                over: Vec::new(),
                number: 0,
                last_token: None,
            };
            std::thread::spawn(move || client.run())
        });
        let threads = threads.collect();
        Load { done, threads }
    }

    /// No new builds; returns when each token has its answer and each build its end, which takes a server that answers.
    pub(super) fn finish(self) -> Result<(), String> {
        self.done.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a client panicked".to_owned()))
    }
}

impl Client {
    fn run(mut self) {
        while !self.is_done() {
            if self.open.len() < self.mix.open_max {
                self.start_something();
            }
            self.look_after();
            let pause = self.chance.up_to(self.mix.pause_max);
            self.rest(pause);
        }
        let deadline = Instant::now() + DRAIN_PATIENCE;
        while !self.open.is_empty() && Instant::now() < deadline {
            self.look_after();
            std::thread::sleep(Duration::from_millis(100));
        }
        for (build, _) in &self.open {
            self.ledger.violation("P2", format!("{build} does not come to an end within {DRAIN_PATIENCE:?}"));
        }
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends early when nothing new is wanted.
    fn rest(&self, length: Duration) {
        let until = Instant::now() + length;
        while !self.is_done() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A retry takes the token of the build that was started before it: the two operations' tokens are apart.
    fn start_something(&mut self) {
        self.number += 1;
        let token = format!("{}-{}", self.name, self.number);
        let retried = if self.chance.percent(8) { self.chance.one_of(&self.over).cloned() } else { None };
        match retried {
            Some(build) => {
                let token = self.last_token.take().unwrap_or(token);
                let kind = Kind::of(&build).expect("ids of accepted builds have a project");
                self.accept("RetryBuild", &json!({ "id": build, "idempotencyToken": token }), kind, &token);
            }
            None => {
                let kind = self.kind();
                let input = json!({ "projectName": kind.project(), "idempotencyToken": token });
                self.accept("StartBuild", &input, kind, &token);
                self.last_token = Some(token);
            }
        }
    }

    fn kind(&mut self) -> Kind {
        let Mix { failing, stubborn, quick, .. } = self.mix;
        match self.chance.below(100) {
            at if at < failing => Kind::Failing,
            at if at < failing + stubborn => Kind::Stubborn,
            at if at < failing + stubborn + quick => Kind::Quick,
            _ => Kind::Steady,
        }
    }

    /// Asks until there is an answer, which is then in the ledger.
    fn accept(&mut self, operation: &'static str, input: &Value, kind: Kind, token: &str) {
        let at = Instant::now();
        let Some(answered) = self.insist(operation, input, token) else { return };
        let build = self.ledger.accepted(token, &answered, kind, at);
        let stop =
            (kind == Kind::Stubborn).then(|| Instant::now() + self.chance.up_to(Duration::from_millis(2500)));
        self.open.push((build.clone(), stop));
        if !self.mix.repeats {
            return;
        }
        let asked = Asked { operation, input: input.clone(), token: token.to_owned(), build, at };
        if self.chance.percent(10) {
            let other = self.over.iter().find(|build| input["id"] != **build);
            repeat(&mut self.api, &self.ledger, &asked, other);
        }
        self.ledger.book().remember(asked);
    }

    /// The answer, however often it is lost or refused for a reason that passes; none if it is refused for good, which nothing here should be.
    fn insist(&mut self, operation: &str, input: &Value, token: &str) -> Option<Value> {
        let deadline = Instant::now() + DRAIN_PATIENCE;
        while Instant::now() < deadline {
            match self.api.ask(operation, input) {
                Answer::Done(value) => return Some(value),
                Answer::Lost(_) => {}
                refused if refused.is_skew() => {}
                Answer::Refused { status, code, .. } if status >= 500 && !code.is_empty() => {
                    self.ledger.write(Entry::Refused { token: token.to_owned(), status, code });
                }
                Answer::Refused { status, code, message } => {
                    let what = format!("{operation} {token} is refused: {status} {code}: {message}");
                    self.ledger.violation("P12", what);
                    return None;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
            self.api = self.yard.api();
        }
        self.ledger.violation("P1", format!("{operation} {token} is not answered within {DRAIN_PATIENCE:?}"));
        None
    }

    /// Looks how far the client's builds are, and stops those that are to be stopped.
    fn look_after(&mut self) {
        let due: Vec<String> = self
            .open
            .iter()
            .filter(|(_, stop)| stop.is_some_and(|stop| stop <= Instant::now()))
            .map(|(build, _)| build.clone())
            .collect();
        due.iter().for_each(|build| self.stop(build));
        if self.open.is_empty() {
            return;
        }
        let ids: Vec<&String> = self.open.iter().map(|(build, _)| build).collect();
        let asked = Instant::now();
        let Answer::Done(answer) = self.api.ask("BatchGetBuilds", &json!({ "ids": ids })) else {
            self.api = self.yard.api();
            return;
        };
        check::observe(&self.ledger, &answer, asked);
        let book = self.ledger.book();
        let (over, open) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|(build, _)| book.builds.get(build).is_some_and(|known| known.ended.is_some()));
        self.open = open;
        let over: Vec<(String, _)> = over;
        self.over.extend(over.into_iter().map(|(build, _)| build));
    }

    fn stop(&mut self, build: &str) {
        self.ledger.write(Entry::Stopping { build: build.to_owned() });
        if let Answer::Done(_) = self.api.ask("StopBuild", &json!({ "id": build })) {
            self.ledger.write(Entry::Stopped { build: build.to_owned() });
            if let Some((_, stop)) = self.open.iter_mut().find(|(id, _)| id == build) {
                *stop = None;
            }
        }
    }
}

/// The same token means the same build, and nothing but what it was given for. `other`: another build that can be retried.
fn repeat(api: &mut Api, ledger: &Ledger, asked: &Asked, other: Option<&String>) {
    let Asked { operation, input, token, build, .. } = asked;
    match api.ask(operation, input) {
        Answer::Done(again) if again["build"]["id"] == **build => {
            ledger.write(Entry::Repeated { token: token.clone(), build: build.clone() });
        }
        answer => complain(ledger, asked, "is asked for again", answer, |_| false),
    }
    if let Some(other) = with_other_parameters(asked, other) {
        let is_right = |answer: &Answer| {
            matches!(answer, Answer::Refused { status: 400, code, message }
                if code == "InvalidInputException" && message.contains("idempotency token"))
        };
        complain(ledger, asked, "is given for another request", api.ask(operation, &other), is_right);
    }
}

/// An answer that is not right breaks P4, unless it is lost or says that it is not the time: then nobody knows.
fn complain(ledger: &Ledger, asked: &Asked, what: &str, answer: Answer, is_right: impl Fn(&Answer) -> bool) {
    let is_failing = ledger.book().failing.is_some();
    if is_right(&answer) {
        return;
    }
    let told = match answer {
        Answer::Lost(_) => return,
        Answer::Refused { status, code, .. } if says_not_now(status, &code, is_failing) => {
            return ledger.write(Entry::Refused { token: asked.token.clone(), status, code });
        }
        Answer::Refused { status, code, message } => format!("{status} {code}: {message}"),
        Answer::Done(answer) => format!("build {}", answer["build"]["id"]),
    };
    let Asked { operation, token, build, .. } = asked;
    ledger.violation("P4", format!("{operation} {token} of {build} {what}, and answered with {told}"));
}

/// An inner failure is one only while something fails.
fn says_not_now(status: u16, code: &str, is_failing: bool) -> bool {
    status == 503 || code.starts_with("Throttling") || (is_failing && code == "InternalFailure")
}

/// A request of the same operation that is not the one the token was given for.
fn with_other_parameters(asked: &Asked, other: Option<&String>) -> Option<Value> {
    let token = &asked.token;
    if asked.operation == "RetryBuild" {
        return Some(json!({ "id": other?, "idempotencyToken": token }));
    }
    Some(json!({
        "projectName": Kind::Quick.project(),
        "idempotencyToken": token,
        "environmentVariablesOverride": [{ "name": "OTHER", "value": token }],
    }))
}

/// Asks again for a few of each operation that were answered before.
pub(super) fn repeat_some(yard: &Yard, ledger: &Ledger, chance: &mut Chance, count: usize) {
    let mut api = yard.api();
    for operation in ["StartBuild", "RetryBuild"] {
        let all = ledger.book().repeatable(operation);
        let Some(other) = ledger.book().order.first().cloned() else { return };
        for _ in 0..count {
            let Some(asked) = chance.one_of(&all) else { break };
            repeat(&mut api, ledger, asked, Some(&other).filter(|other| asked.input["id"] != ***other));
        }
    }
}

/// Starts one build of a kind, outside of any load.
pub(super) fn start_one(yard: &Yard, ledger: &Ledger, kind: Kind, token: &str) -> Result<String, String> {
    let asked = Instant::now();
    let answer = yard
        .api()
        .ask("StartBuild", &json!({ "projectName": kind.project(), "idempotencyToken": token }))
        .done()?;
    Ok(ledger.accepted(token, &answer, kind, asked))
}

pub(super) fn stop(yard: &Yard, ledger: &Ledger, build: &str) -> Result<(), String> {
    ledger.write(Entry::Stopping { build: build.to_owned() });
    yard.api().ask("StopBuild", &json!({ "id": build })).done()?;
    ledger.write(Entry::Stopped { build: build.to_owned() });
    Ok(())
}

/// Waits until a build is over.
pub(super) fn ended(yard: &Yard, ledger: &Ledger, build: &str) -> Result<(), String> {
    let deadline = Instant::now() + DRAIN_PATIENCE;
    let mut api = yard.api();
    while Instant::now() < deadline {
        let asked = Instant::now();
        if let Answer::Done(answer) = api.ask("BatchGetBuilds", &json!({ "ids": [build] })) {
            check::observe(ledger, &answer, asked);
        }
        if ledger.book().builds.get(build).is_none_or(|known| known.ended.is_some()) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("{build} does not come to an end"))
}

#[cfg(test)]
mod tests {
    use super::super::yard::Options;
    use super::*;

    #[test]
    fn a_repeat_that_is_answered_otherwise_breaks_its_promise() {
        let yard = Yard::make(std::path::Path::new("/bin/sh"), Options::default()).unwrap();
        let ledger = Ledger::open(&yard.folder().join("ledger")).unwrap();
        let input = json!({ "projectName": "quick", "idempotencyToken": "token" });
        let (token, build) = ("token".to_owned(), "quick:1".to_owned());
        let asked = Asked { operation: "StartBuild", input, token, build, at: Instant::now() };
        let refused =
            |status, code: &str| Answer::Refused { status, code: code.into(), message: "No".into() };
        let broken = |answer| {
            let before = ledger.book().violations.len();
            complain(&ledger, &asked, &format!("is asked for the {before}th time"), answer, |_| false);
            ledger.book().violations.len() > before
        };
        assert!(broken(Answer::Done(json!({ "build": { "id": "quick:2" } }))));
        assert!(broken(refused(400, "InvalidInputException")));
        assert!(broken(refused(500, "InternalFailure")));
        assert!(!broken(refused(503, "ServiceUnavailableException")));
        assert!(!broken(refused(400, "ThrottlingException")));
        assert!(!broken(Answer::Lost("reset".into())));
        ledger.book().failing = Some(None);
        assert!(!broken(refused(500, "InternalFailure")), "while something fails");
    }

    #[test]
    fn tokens_are_repeated_with_what_they_were_not_given_for() {
        let asked = |operation, input| Asked {
            operation,
            input,
            token: "token".into(),
            build: "quick:1".into(),
            at: Instant::now(),
        };
        let start = asked("StartBuild", json!({ "projectName": "quick", "idempotencyToken": "token" }));
        assert_ne!(with_other_parameters(&start, None).unwrap(), start.input);
        let retry = asked("RetryBuild", json!({ "id": "quick:1", "idempotencyToken": "token" }));
        assert_eq!(with_other_parameters(&retry, None), None);
        let other = with_other_parameters(&retry, Some(&"quick:2".to_owned())).unwrap();
        assert_eq!(other, json!({ "id": "quick:2", "idempotencyToken": "token" }));
    }
}
