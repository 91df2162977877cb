//! The Docker daemon that CodeBuild's own images have running before the first command of a privileged build.

use std::collections::BTreeMap;

use container::{ExitStatus, Process};

use super::context::client_error;
use super::layout::DEFAULT_PATH;
use super::{Build, Ended};
use crate::plan::Environment;
use crate::session::{Halt, Ran};

/// COMPAT: EN-027 where it listens, its log, how long it may take. Which way it stores images is up to it: `overlay2`, or what it finds
/// to work. Without `iptables` its containers reach each other and nothing else.
const START: &str = r#"
command -v dockerd >/dev/null && command -v docker >/dev/null || exit 0
mkdir -p /var/log
set -- --host=unix:///var/run/docker.sock --host=tcp://127.0.0.1:2375
command -v iptables >/dev/null || set -- "$@" --iptables=false
dockerd "$@" </dev/null >/var/log/docker.log 2>&1 &
tries=300
until docker --host unix:///var/run/docker.sock info >/dev/null 2>&1; do
    tries=$((tries - 1))
    if [ $tries -lt 0 ] || ! kill -0 $! 2>/dev/null; then
        cat /var/log/docker.log
        echo "Timed out trying to connect to internal docker host." >&2
        exit 1
    fi
    sleep 0.2
done
"#;

impl Build<'_> {
    /// Goes on once it answers.
    pub(super) fn start_docker(&mut self) -> Result<Ended, Halt> {
        if !self.plan.environment.starts_docker {
            return Ok(Ok(()));
        }
        // Its own settings, and a way out by a proxy, are the image's and the project's.
        let path = ("PATH".to_string(), DEFAULT_PATH.to_string());
        let Environment { variables, .. } = &self.plan.environment;
        let given =
            variables.iter().chain(&self.plan.variables).map(|(name, value)| (name.clone(), value.clone()));
        let variables: BTreeMap<String, String> = std::iter::once(path).chain(given).collect();
        let process = Process {
            argv: ["sh", "-c", START].map(Into::into).into(),
            env: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            cwd: "/".into(),
            ..Process::default()
        };
        Ok(match self.session.run(&process)? {
            Ran::Ended(ExitStatus::Code(0)) => Ok(()),
            Ran::Ended(_) => Err(client_error("Docker's daemon does not answer; the log has what it said")),
            Ran::Refused(reason) => Err(client_error(format!("Docker's daemon cannot be started: {reason}"))),
        })
    }
}
