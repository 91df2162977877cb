//! The builds that are started: what they do, and what must be true of each when it is over.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::witness::Witness;

/// One project each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Succeeds, with a log of known lines and a ZIP artifact of known content.
    Steady,
    /// Fails by its own doing.
    Failing,
    /// Would go on for long, and does not listen to signals: it is stopped.
    Stubborn,
    /// Succeeds with nothing but its witness.
    Quick,
    /// Nobody stops it: its time runs out.
    Endless,
}

pub(super) const ALL: [Kind; 5] = [Kind::Steady, Kind::Failing, Kind::Stubborn, Kind::Quick, Kind::Endless];
/// The least there is.
pub(super) const TIMEOUT_MINUTES: u64 = 5;
pub(super) const BUCKET: &str = "torture-made";
pub(super) const PARAMETER: &str = "/torture/secret";
/// Of Secrets Manager.
pub(super) const SECRET_NAME: &str = "torture/secret";
/// Of Parameter Store and of Secrets Manager: they stand in no file, log, answer or process of ours, but for the commands they are meant for.
pub(super) const SECRETS: [&str; 2] = ["t0rture-S3cret-9f2c71aa5b", "t0rture-0ther-S3cret-41d0be7c"];
const LINES: usize = 40;

impl Kind {
    pub(super) fn project(self) -> &'static str {
        match self {
            Kind::Steady => "steady",
            Kind::Failing => "failing",
            Kind::Stubborn => "stubborn",
            Kind::Quick => "quick",
            Kind::Endless => "endless",
        }
    }

    /// The kind of a build by its id.
    pub(super) fn of(build: &str) -> Option<Kind> {
        let project = build.split(':').next()?;
        ALL.into_iter().find(|kind| kind.project() == project)
    }

    /// As what it ends if nobody interferes.
    pub(super) fn end(self) -> &'static str {
        match self {
            Kind::Steady | Kind::Quick => "SUCCEEDED",
            Kind::Failing => "FAILED",
            Kind::Stubborn => "STOPPED",
            Kind::Endless => "TIMED_OUT",
        }
    }

    /// How many commands tell the witness, if it ends as it should.
    pub(super) fn commands(self) -> u32 {
        match self {
            Kind::Steady => 4,
            Kind::Failing => 2,
            Kind::Stubborn | Kind::Quick | Kind::Endless => 1,
        }
    }

    /// How many of its [`Kind::lines`] were printed before this command began.
    pub(super) fn lines_before(self, command: u32) -> usize {
        match (self, command) {
            (Kind::Steady, 3) => 1 + LINES,
            (Kind::Steady, 4..) => 2 + LINES,
            (Kind::Steady | Kind::Failing, 2..) => 1,
            _ => 0,
        }
    }

    /// The phase whose command this is.
    pub(super) fn phase(self, command: u32) -> &'static str {
        match (self, command) {
            (Kind::Steady | Kind::Failing, 1) => "PRE_BUILD",
            (Kind::Steady, 4..) => "POST_BUILD",
            _ => "BUILD",
        }
    }

    pub(super) fn definition(self, witness: &Witness) -> Value {
        let artifacts = match self {
            Kind::Steady => json!({
                "type": "S3", "location": BUCKET, "packaging": "ZIP", "namespaceType": "BUILD_ID", "path": "", "name": "made.zip",
            }),
            _ => json!({ "type": "NO_ARTIFACTS" }),
        };
        json!({
            "name": self.project(),
            "source": { "type": "NO_SOURCE", "buildspec": self.buildspec(witness).to_string() },
            "artifacts": artifacts,
            "environment": {
                "type": "LINUX_CONTAINER",
                "image": "aws/codebuild/standard:7.0",
                "computeType": "BUILD_GENERAL1_SMALL",
            },
            "serviceRole": "arn:aws:iam::123456789012:role/torture",
            "timeoutInMinutes": TIMEOUT_MINUTES,
        })
    }

    fn buildspec(self, witness: &Witness) -> Value {
        let tell = |command, then: &str| format!("{}; {then}", witness.telling(command));
        let phases = match self {
            Kind::Steady => json!({
                "pre_build": { "commands": [tell(1, "echo begun")] },
                "build": { "commands": [tell(2, &counting()), tell(3, "echo the secrets are $SECRET and $OTHER; seq 1 5000 > made && echo $CODEBUILD_BUILD_ID >> made")] },
                "post_build": { "commands": [tell(4, "echo ended")] },
            }),
            Kind::Failing => json!({
                "pre_build": { "commands": [tell(1, "echo begun")] },
                "build": { "commands": [tell(2, "exit 3"), tell(3, "echo never")] },
            }),
            Kind::Stubborn | Kind::Endless => json!({
                "build": { "commands": [tell(1, "trap '' TERM INT HUP; while :; do sleep 0.2; done")] },
            }),
            Kind::Quick => json!({ "build": { "commands": [tell(1, "echo quick")] } }),
        };
        let mut spec = json!({ "version": 0.2, "env": { "shell": "bash" }, "phases": phases });
        if self == Kind::Steady {
            spec["env"]["parameter-store"] = json!({ "SECRET": PARAMETER });
            spec["env"]["secrets-manager"] = json!({ "OTHER": SECRET_NAME });
            spec["artifacts"] = json!({ "files": ["made"] });
        }
        spec
    }

    /// What the build's own commands print, in this order and once, if it ends as it should.
    pub(super) fn lines(self) -> Vec<String> {
        match self {
            Kind::Steady => {
                let mut lines = vec!["begun".to_owned()];
                lines.extend((1..=LINES).map(|n| format!("line {n} of {LINES}")));
                lines.extend(["the secrets are *** and ***".to_owned(), "ended".to_owned()]);
                lines
            }
            Kind::Failing => vec!["begun".to_owned()],
            Kind::Stubborn | Kind::Endless => Vec::new(),
            Kind::Quick => vec!["quick".to_owned()],
        }
    }
}

/// Lines with pauses between them, so that most faults come while it runs.
fn counting() -> String {
    format!("for n in {{1..{LINES}}}; do echo line $n of {LINES}; (( n % 8 )) || sleep 0.05; done")
}

/// What the artifact of a steady build has in it.
pub(super) fn made(build: &str) -> String {
    let mut text = String::new();
    (1..=5000).for_each(|n| {
        let _ = writeln!(text, "{n}");
    });
    let _ = writeln!(text, "{build}");
    text
}
