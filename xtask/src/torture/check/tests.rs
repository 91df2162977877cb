//! Each check is shown evidence of which one thing is wrong: it says so, and no other does.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::survey::Which;
use super::{Evidence, PROMISES, Survey, observe};
use crate::torture::kind::{Kind, SECRETS};
use crate::torture::ledger::{Entry, Hurt, Known, Ledger};
use crate::torture::report::Figures;
use crate::torture::yard::{Options, Yard};

const BUILD: &str = "quick:0c8a3fd5-5a2f-4f0e-9d57-8b6d63f3c6a1";
const OTHER: &str = "steady:5d1f0a53-3c0e-4a6e-8a43-2a5f6f1d7b90";

const ANOTHER: &str = "quick:7b0f6f9c-0f0e-4d51-a9b6-0c5f3b1d2e11";

/// What StartBuild answers.
fn answered(build: &str, number: i64) -> Value {
    json!({ "build": { "id": build, "buildNumber": number } })
}

/// A server that never ran, and a build of it that did all it should.
struct Case {
    yard: Yard,
    ledger: Ledger,
    survey: Survey,
    processes: Vec<Child>,
}

impl Case {
    fn sound() -> Case {
        // The program only has to be one that waits when it is told to.
        let yard = Yard::make(Path::new("/bin/sh"), Options::default()).unwrap();
        std::fs::create_dir_all(yard.data().join("builds")).unwrap();
        std::fs::create_dir_all(yard.data().join("s3/.tmp")).unwrap();
        let ledger = Ledger::open(&yard.folder().join("ledger")).unwrap();
        ledger.accepted("token", &answered(BUILD, 1), Kind::Quick, Instant::now());
        ledger.write(Entry::Ready { milliseconds: 100 });
        let survey = Survey {
            builds: [(BUILD.to_owned(), document())].into(),
            listed: Some(vec![BUILD.to_owned()]),
            logs: [(BUILD.to_owned(), Ok("[Container] Entering phase BUILD\nquick\n".to_owned()))].into(),
            audited: vec![BUILD.to_owned()],
            webhook: Some(Err(("InvalidInputException".into(), "There are no webhooks".into()))),
            ..Survey::default()
        };
        let case = Case { yard, ledger, survey, processes: Vec::new() };
        case.run_command();
        // Those of other servers are none of its concern.
        case.group("memory/buildyard-agent-7-cd-12");
        case.group("buildyard-5d1f0a53-3c0e-4a6e-8a43-2a5f6f1d7b90");
        case
    }

    /// Tells the witness so, as the build's command does.
    fn run_command(&self) {
        let heard = || self.yard.witness.of(BUILD);
        let before = heard();
        let telling = self.yard.witness.telling(1);
        let told = Command::new("sh").args(["-c", &telling]).env("CODEBUILD_BUILD_ID", BUILD).status();
        assert!(told.unwrap().success());
        while heard() == before {
            std::thread::yield_now();
        }
    }

    /// A process with this in its environment, for as long as the case is there.
    fn start(&mut self, program: &Path, name: &str, value: &str) {
        let mut command = Command::new(program);
        let waiting = command.args(["-c", "read word", "agent-7-ab-3"]).env(name, value);
        self.processes.push(waiting.stdin(Stdio::piped()).spawn().unwrap());
    }

    /// They end with their input.
    fn end_processes(&mut self) {
        for mut process in self.processes.drain(..) {
            drop(process.stdin.take());
            let _ = process.wait();
        }
    }

    fn cgroups(&self) -> PathBuf {
        self.yard.folder().join("cgroups")
    }

    fn group(&self, name: &str) {
        std::fs::create_dir_all(self.cgroups().join(name)).unwrap();
    }

    fn build(&mut self) -> &mut Value {
        self.survey.builds.get_mut(BUILD).unwrap()
    }

    fn ready(&self, starts: usize, milliseconds: u64) {
        (0..starts).for_each(|_| self.ledger.write(Entry::Ready { milliseconds }));
    }

    fn known(&self, change: impl FnOnce(&mut Known)) {
        change(self.ledger.book().builds.get_mut(BUILD).unwrap());
    }

    fn stopped(&self, seconds_ago: u64) {
        self.known(|known| known.stopped = Instant::now().checked_sub(Duration::from_secs(seconds_ago)));
    }

    /// Something happened to the build a while ago, and it ended so.
    fn hurt(&mut self, how: Hurt, status: &str) {
        std::thread::sleep(Duration::from_millis(2));
        self.known(|known| known.hurts.push((how, Instant::now())));
        self.build()["buildStatus"] = status.into();
    }

    fn fail_in(&mut self, phase: &str, status: &str) {
        let phases = self.build()["phases"].as_array_mut().unwrap();
        phases.iter_mut().find(|one| one["phaseType"] == phase).unwrap()["phaseStatus"] = status.into();
    }

    fn log(&mut self, text: &str) {
        self.survey.logs.insert(BUILD.into(), Ok(text.to_owned()));
    }

    /// Another build of the same project, asked for now.
    fn accept_another(&mut self, number: i64) {
        self.ledger.accepted("other", &answered(ANOTHER, number), Kind::Quick, Instant::now());
        self.survey.listed.as_mut().unwrap().push(ANOTHER.into());
    }

    fn broken(&self) -> Vec<&'static str> {
        let Case { yard, ledger, survey, .. } = self;
        let evidence = Evidence { yard, ledger, survey, cgroups: &self.cgroups(), is_patient: false };
        let broken = PROMISES.iter().filter(|promise| !(promise.check)(&evidence).wrong.is_empty());
        broken.map(|promise| promise.name).collect()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        self.end_processes();
    }
}

fn document() -> Value {
    let phase =
        |name: &str, second: u32| json!({ "phaseType": name, "startTime": second, "endTime": second + 1 });
    let names = ["SUBMITTED", "QUEUED", "PROVISIONING", "BUILD", "FINALIZING", "COMPLETED"];
    json!({
        "id": BUILD, "buildNumber": 1, "buildStatus": "SUCCEEDED", "buildComplete": true, "currentPhase": "COMPLETED",
        "phases": names.iter().zip(0..).map(|(name, second)| phase(name, second)).collect::<Vec<_>>(),
    })
}

/// A promise, and what breaks it and no other one.
type Breach = (&'static str, fn(&mut Case));

const BREACHES: &[Breach] = &[
    ("P1", |case| case.survey.not_found.extend([BUILD.into()])),
    ("P2", |case| case.build()["buildStatus"] = "FAILED".into()),
    ("P2", |case| case.build()["buildNumber"] = 2.into()),
    ("P2", |case| case.build()["phases"].as_array_mut().unwrap().swap(2, 3)),
    ("P2", |case| case.build()["phases"][3]["startTime"] = 7.into()),
    // Nothing was done to its agent, or nothing that ends a build so.
    ("P2", |case| case.build()["buildStatus"] = "FAULT".into()),
    ("P2", |case| case.hurt(Hurt::Init, "FAULT")),
    ("P2", |case| case.hurt(Hurt::Agent, "FAILED")),
    ("P2", |case| case.hurt(Hurt::Disk, "TIMED_OUT")),
    // Nobody asked for that.
    ("P2", |case| case.hurt(Hurt::Disk, "STOPPED")),
    ("P2", |case| case.accept_another(1)),
    ("P2", |case| case.accept_another(0)),
    ("P3", |case| case.run_command()),
    ("P4", |case| case.survey.listed.as_mut().unwrap().push(OTHER.into())),
    ("P4", |case| case.survey.listed.as_mut().unwrap().clear()),
    ("P5", |case| drop(case.survey.logs.insert(BUILD.into(), Ok(String::new())))),
    ("P5", |case| drop(case.survey.logs.insert(BUILD.into(), Ok("quick\nquick\n".into())))),
    ("P5", |case| drop(case.survey.logs.insert(BUILD.into(), Err("there is none".into())))),
    // Whatever its agent died of: it had all of that.
    ("P5", |case| {
        case.hurt(Hurt::Agent, "FAULT");
        case.log("");
    }),
    ("P5", |case| {
        case.hurt(Hurt::Init, "FAILED");
        case.log("");
    }),
    ("P5", |case| {
        case.hurt(Hurt::Agent, "FAULT");
        case.log("[Container] Entering phase BUILD\nquick\nquick\n");
    }),
    // Ten seconds before the disk failed.
    ("P5", |case| {
        case.hurt(Hurt::Disk, "FAULT");
        case.known(|known| known.hurts[0].1 += Duration::from_secs(10));
        case.log("");
    }),
    // Its disk failed, and its log did not.
    ("P5", |case| {
        case.hurt(Hurt::Disk, "FAILED");
        case.log("");
    }),
    ("P6", |case| {
        case.survey.audited.push(OTHER.into());
        case.survey.builds.insert(OTHER.into(), document());
    }),
    ("P7", |case| {
        case.stopped(11);
        case.start(Path::new("sh"), "CODEBUILD_BUILD_ID", BUILD);
    }),
    // The server has long said that it is over.
    ("P7", |case| {
        case.stopped(11);
        case.known(|known| known.is_audited = true);
        case.survey.audited.clear();
        case.start(Path::new("sh"), "CODEBUILD_BUILD_ID", BUILD);
    }),
    ("P7", |case| {
        case.stopped(11);
        case.known(|known| known.is_audited = true);
        case.survey.audited.clear();
        let group = format!("cpu/buildyard-{}.next", BUILD.split(':').nth(1).unwrap());
        case.group(&group);
        std::fs::write(case.cgroups().join(group).join("cgroup.procs"), "7\n").unwrap();
    }),
    ("P8", |case| case.ready(2, 1001)),
    ("P8", |case| case.ready(1, 5001)),
    ("P8", |case| {
        case.ready(97, 100);
        case.ready(2, 1001);
    }),
    ("P9", |case| {
        case.survey.is_quiet = true;
        case.start(&case.yard.program(), "OURS", "yes");
    }),
    ("P9", |case| {
        case.survey.is_quiet = true;
        let mark = case.yard.folder().display().to_string();
        case.start(Path::new("sh"), "BUILDYARD_TORTURE", &mark);
    }),
    ("P9", |case| {
        case.survey.is_quiet = true;
        std::fs::create_dir(case.yard.data().join("builds").join("left")).unwrap();
    }),
    ("P9", |case| {
        case.survey.is_quiet = true;
        std::fs::write(case.yard.data().join("s3/.tmp/left"), "half").unwrap();
    }),
    ("P9", |case| {
        case.survey.is_quiet = true;
        std::fs::create_dir_all(case.yard.data().join("s3/.uploads/begun")).unwrap();
    }),
    ("P9", |case| {
        case.survey.is_quiet = true;
        std::fs::create_dir_all(case.yard.data().join("s3/.batches")).unwrap();
        std::fs::write(case.yard.data().join("s3/.batches/bucket"), "names").unwrap();
    }),
    ("P9", |case| {
        case.survey.is_quiet = true;
        std::fs::create_dir_all(case.yard.data().join("caches/project")).unwrap();
        std::fs::write(case.yard.data().join("caches/project/list.7.new"), "half").unwrap();
    }),
    ("P9", |case| {
        case.survey.is_quiet = true;
        case.group("cpu/buildyard-0c8a3fd5-5a2f-4f0e-9d57-8b6d63f3c6a1.next");
    }),
    ("P9", |case| {
        case.survey.is_quiet = true;
        case.start(&case.yard.program(), "OURS", "yes");
        // Their names are known when they are gone.
        case.yard.processes();
        case.end_processes();
        case.group("memory/slice/buildyard-agent-7-ab-12");
    }),
    ("P10", |case| case.build()["secret"] = SECRETS[0].into()),
    ("P10", |case| case.start(&case.yard.program(), "HOLDS", SECRETS[1])),
    ("P10", |case| {
        case.survey.is_quiet = true;
        std::fs::write(case.yard.data().join("records"), format!("a {} in it", SECRETS[0])).unwrap();
    }),
    ("P10", |case| {
        case.survey.is_searched = true;
        std::fs::create_dir(case.yard.data().join("builds/runs")).unwrap();
        std::fs::write(case.yard.data().join("builds/runs/plan.json"), SECRETS[1]).unwrap();
    }),
    ("P11", |case| case.survey.webhook = Some(Ok(json!({ "webhook": {} })))),
    ("P11", |case| case.survey.webhook = Some(Err((String::new(), "no".into())))),
    ("P12", |case| {
        case.ledger.write(Entry::Refused { token: "token".into(), status: 500, code: String::new() });
    }),
    ("P12", |case| {
        let code = "ResourceNotFoundException".to_owned();
        case.ledger.write(Entry::Refused { token: "token".into(), status: 400, code });
    }),
    ("P12", |case| case.ledger.write(Entry::Unread { why: "500 InternalFailure".into() })),
    ("P12", |case| case.ledger.write(Entry::GaveUp { last_words: "no disk".into() })),
];

#[test]
fn each_check_finds_its_promise_broken_and_no_other_does() {
    for (number, (promise, breach)) in BREACHES.iter().enumerate() {
        let mut case = Case::sound();
        breach(&mut case);
        assert_eq!(case.broken(), [*promise], "breach {number}");
    }
    let promises = PROMISES.iter().filter(|one| BREACHES.iter().any(|(name, _)| *name == one.name));
    assert_eq!(promises.count(), PROMISES.len(), "a promise without a breach");
}

#[test]
fn where_all_is_well_no_promise_is_broken() {
    let mut case = Case::sound();
    case.ready(1, 1001);
    assert_eq!(case.broken(), [""; 0]);
    case.survey.is_quiet = true;
    assert_eq!(case.broken(), [""; 0]);
    case.survey.is_quiet = false;
    case.start(&case.yard.program(), "OURS", "yes");
    assert_eq!(case.broken(), [""; 0], "its processes may be there while the server is");
}

#[test]
fn what_was_done_to_a_build_permits_what_comes_of_that() {
    for (how, status, log) in [
        (Hurt::Agent, "FAULT", "[Container] Entering phase BUILD\n"),
        (Hurt::Agent, "SUCCEEDED", "[Container] Entering phase BUILD\nquick\n"),
        (Hurt::Init, "FAILED", "[Container] Entering phase BUILD\n"),
        (Hurt::Disk, "FAILED", "[Container] Entering phase BUILD\n"),
        // All of it may have been printed within the last second.
        (Hurt::Disk, "FAULT", ""),
    ] {
        let mut case = Case::sound();
        case.hurt(how, status);
        case.log(log);
        assert_eq!(case.broken(), [""; 0], "{how:?} {status}");
    }
    for (status, expect) in [("FAULT", &[][..]), ("FAILED", &["P2"])] {
        let mut case = Case::sound();
        case.hurt(Hurt::Init, status);
        case.fail_in("PROVISIONING", status);
        assert_eq!(case.broken(), expect, "a container that was never given to the build");
    }
}

#[test]
fn a_build_that_is_seen_stopped_is_looked_for_when_its_time_is_over() {
    let mut case = Case::sound();
    case.start(Path::new("sh"), "CODEBUILD_BUILD_ID", BUILD);
    case.stopped(5);
    assert_eq!(case.broken(), [""; 0], "it has five seconds left");
    case.known(|known| known.is_audited = true);
    case.survey.audited.clear();
    case.stopped(11);
    assert_eq!(case.broken(), ["P7"]);
    assert_eq!(case.broken(), [""; 0], "once is enough");
}

#[test]
fn after_the_server_no_stop_is_left_to_be_looked_at() {
    let mut case = Case::sound();
    case.survey.is_quiet = true;
    case.stopped(1);
    case.start(Path::new("sh"), "CODEBUILD_BUILD_ID", BUILD);
    case.stopped(11);
    assert_eq!(case.broken(), ["P7"]);
}

#[test]
fn at_the_end_what_was_whole_once_is_read_again() {
    let case = Case::sound();
    case.known(|known| known.is_audited = true);
    assert!(case.survey.to_audit(&case.ledger, Which::New).is_empty());
    assert_eq!(case.survey.to_audit(&case.ledger, Which::All), [BUILD]);
}

#[test]
fn nobody_may_be_answered_with_a_build_while_nothing_can_be_kept_nor_with_anothers() {
    let broken = |build: &str, asked: fn() -> Instant| {
        let case = Case::sound();
        case.ledger.book().nothing_kept_since = Instant::now().checked_sub(Duration::from_secs(2));
        case.ledger.accepted("other", &answered(build, 2), Kind::Quick, asked());
        case.ledger.book().violations.iter().map(|(promise, _)| *promise).collect::<Vec<_>>()
    };
    let before = || Instant::now().checked_sub(Duration::from_secs(3)).unwrap();
    assert_eq!(broken(ANOTHER, Instant::now), ["P12"]);
    assert_eq!(broken(ANOTHER, before), [""; 0], "it may have been kept before");
    assert_eq!(broken(BUILD, before), ["P4"]);
}

#[test]
fn what_there_was_no_evidence_of_is_not_counted_as_kept() {
    let case = Case::sound();
    let Case { yard, ledger, .. } = &case;
    let kept = |survey: &Survey| {
        let evidence = Evidence { yard, ledger, survey, cgroups: &case.cgroups(), is_patient: false };
        PROMISES.iter().for_each(|promise| super::examine(promise, &evidence));
        let figures = Figures::of("a family", ledger);
        (figures.kept_and_broken(), figures.text())
    };
    let (counted, text) = kept(&Survey::default());
    assert_eq!(counted, (1, 0), "only a start was seen");
    assert!(text.contains("not examined: P1, P2, P3, P4, P5, P6, P7, P9, P10, P11, P12"), "{text}");
    assert_eq!(kept(&case.survey).0, (7, 0), "but no artifact, stop, refusal, and nothing after the server");
}

#[test]
fn a_build_that_goes_back_or_is_gone_is_found() {
    let seen = |document: &Value| {
        let case = Case::sound();
        observe(&case.ledger, &json!({ "builds": [self::document()] }), Instant::now());
        observe(&case.ledger, document, Instant::now());
        case.ledger.book().violations.iter().map(|(promise, _)| *promise).collect::<Vec<_>>()
    };
    let again = |name: &str, value: &str| {
        let mut build = document();
        build[name] = value.into();
        seen(&json!({ "builds": [build] }))
    };
    assert_eq!(again("buildStatus", "SUCCEEDED"), [""; 0]);
    assert_eq!(again("buildStatus", "FAILED"), ["P2"]);
    assert_eq!(again("currentPhase", "BUILD"), ["P2"]);
    assert_eq!(again("id", OTHER), ["P2"]);
    assert_eq!(seen(&json!({ "buildsNotFound": [BUILD] })), ["P1"]);
}
