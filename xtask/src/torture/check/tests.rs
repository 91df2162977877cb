//! Each check is shown evidence of which one thing is wrong: it says so, and no other does.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Evidence, PROMISES, Survey, observe};
use crate::torture::kind::{Kind, SECRET};
use crate::torture::ledger::{Entry, Ledger};
use crate::torture::yard::{Options, Yard};

const BUILD: &str = "quick:0c8a3fd5-5a2f-4f0e-9d57-8b6d63f3c6a1";
const OTHER: &str = "steady:5d1f0a53-3c0e-4a6e-8a43-2a5f6f1d7b90";

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
        let (token, build) = ("token".to_owned(), BUILD.to_owned());
        ledger.write(Entry::Accepted { token, build, number: 1, kind: Kind::Quick });
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

    fn broken(&self) -> Vec<&'static str> {
        let Case { yard, ledger, survey, .. } = self;
        let evidence = Evidence { yard, ledger, survey, cgroups: &self.cgroups(), is_patient: false };
        let broken = PROMISES.iter().filter(|promise| !(promise.check)(&evidence).is_empty());
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
    ("P3", |case| case.run_command()),
    ("P4", |case| case.survey.listed.as_mut().unwrap().push(OTHER.into())),
    ("P4", |case| case.survey.listed.as_mut().unwrap().clear()),
    ("P5", |case| drop(case.survey.logs.insert(BUILD.into(), Ok(String::new())))),
    ("P5", |case| drop(case.survey.logs.insert(BUILD.into(), Ok("quick\nquick\n".into())))),
    ("P5", |case| drop(case.survey.logs.insert(BUILD.into(), Err("there is none".into())))),
    ("P6", |case| {
        case.survey.audited.push(OTHER.into());
        case.survey.builds.insert(OTHER.into(), document());
    }),
    ("P7", |case| {
        case.ledger.book().builds.get_mut(BUILD).unwrap().stopped =
            Instant::now().checked_sub(Duration::from_secs(11));
        case.start(Path::new("sh"), "CODEBUILD_BUILD_ID", BUILD);
    }),
    ("P8", |case| case.ready(2, 1001)),
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
    ("P10", |case| case.build()["secret"] = SECRET.into()),
    ("P10", |case| case.start(&case.yard.program(), "HOLDS", SECRET)),
    ("P10", |case| {
        case.survey.is_quiet = true;
        std::fs::write(case.yard.data().join("records"), format!("a {SECRET} in it")).unwrap();
    }),
    ("P11", |case| case.survey.webhook = Some(Ok(json!({ "webhook": {} })))),
    ("P11", |case| case.survey.webhook = Some(Err((String::new(), "no".into())))),
    ("P12", |case| {
        case.ledger.write(Entry::Refused { token: "token".into(), status: 500, code: String::new() });
    }),
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
