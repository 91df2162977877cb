//! INSTALL to POST_BUILD: which phase follows which, and how a command is run.

use std::path::Path;

use buildspec::{OnFailure, PhaseName};
use container::{ExitStatus, Process};

use super::context::{died_of_memory, failed};
use super::{Build, Ended};
use crate::journal::{Event, Hold, Phase};
use crate::session::{Halt, Ran};
use crate::shells::Surroundings;
use crate::{clock, inside, shell};

impl Build<'_> {
    /// INSTALL to POST_BUILD; true if UPLOAD_ARTIFACTS follows.
    pub(super) fn command_phases(&mut self) -> Result<bool, Halt> {
        self.enter_snapshot()?;
        for (phase, name) in [
            (Phase::Install, PhaseName::Install),
            (Phase::PreBuild, PhaseName::PreBuild),
            (Phase::Build, PhaseName::Build),
            (Phase::PostBuild, PhaseName::PostBuild),
        ] {
            if self.skips(phase)? {
                continue;
            }
            self.border(phase)?;
            if self.phase(phase, |build| build.command_phase(name))?.is_ok() {
                continue;
            }
            self.succeeding = false;
            self.phase_failed(phase);
            match self.phase_spec(name).on_failure {
                Some(OnFailure::Continue) => {}             // COMPAT: BS-081
                Some(OnFailure::Abort) => return Ok(false), // COMPAT: BS-080
                // COMPAT: BS-076 nothing follows; BS-077, BS-078 POST_BUILD and the upload do.
                _ if matches!(phase, Phase::Install | Phase::PreBuild) => return Ok(false),
                _ => {}
            }
        }
        Ok(true)
    }

    fn phase_spec(&self, name: PhaseName) -> buildspec::Phase {
        let phase = self.buildspec.as_ref().and_then(|spec| spec.phases.get(name));
        phase.cloned().unwrap_or_default()
    }

    pub(super) fn spec_of(&self, phase: Phase) -> buildspec::Phase {
        match phase {
            Phase::Install => self.phase_spec(PhaseName::Install),
            Phase::PreBuild => self.phase_spec(PhaseName::PreBuild),
            Phase::Build => self.phase_spec(PhaseName::Build),
            Phase::PostBuild => self.phase_spec(PhaseName::PostBuild),
            _ => buildspec::Phase::default(),
        }
    }

    /// Who runs a phase's commands; `None` is root.
    pub(super) fn user_of(&self, phase: &buildspec::Phase) -> Option<String> {
        phase.run_as.clone().or_else(|| self.buildspec.as_ref().and_then(|spec| spec.run_as.clone()))
    }

    /// COMPAT: BS-071..075.
    fn command_phase(&mut self, name: PhaseName) -> Result<Ended, Halt> {
        self.say(&format!("Entering phase {}", name.as_upper_str()))?;
        let phase = self.phase_spec(name);
        let user = self.user_of(&phase);
        let ended = self.commands(&phase.commands, user.as_deref())?;
        if ended.is_err() && self.plan.hold_on_failure {
            self.hold(user.as_deref())?;
        }
        let finally = self.commands(&phase.finally, user.as_deref())?;
        let ended = ended.and(finally);
        if let (Err(context), Some(on_failure)) = (&ended, &phase.on_failure) {
            self.ask_retry(on_failure, &context.message)?;
        }
        Ok(ended)
    }

    /// Before `finally`, which may clear away what is to be seen.
    fn hold(&mut self, user: Option<&str>) -> Result<(), Halt> {
        self.let_shells_in(user);
        self.say("The build is held for a shell; it goes on when that ends")?;
        self.session.record(&Event::Held { at_ms: clock::now_ms(), why: Hold::Failure })?;
        self.session.hold_for_shells()
    }

    /// What a shell that is opened from now on finds.
    fn let_shells_in(&mut self, user: Option<&str>) {
        let phase = self.open.map_or("", Phase::name);
        self.session.shells.surroundings = Surroundings {
            restore: self.state.restore.clone(),
            shell: self.shell(),
            env: self.foreign_variables(),
            user: user.map(str::to_owned),
            name: format!("{} {phase}", self.plan.build_id),
        };
    }

    /// COMPAT: BS-082..084 not the phase is run again but the build, by who started it.
    fn ask_retry(&mut self, on_failure: &OnFailure, message: &str) -> Result<(), Halt> {
        match (on_failure, on_failure.retries(message)) {
            (OnFailure::Abort | OnFailure::Continue, _) | (_, Some(0)) => Ok(()),
            (_, Some(limit)) => Ok(self.session.record(&Event::RetryAsked { limit })?),
            (OnFailure::Retry { pattern, .. }, None) => {
                self.say(&format!("Skip retry due to: the failure does not match `{}`", pattern.as_str()))
            }
        }
    }

    /// Up to the first that fails.
    pub(super) fn commands(&mut self, commands: &[String], user: Option<&str>) -> Result<Ended, Halt> {
        for command in commands {
            if let Err(context) = self.command(command.trim_end_matches('\n'), user)? {
                return Ok(Err(context));
            }
        }
        Ok(Ok(()))
    }

    fn command(&mut self, command: &str, user: Option<&str>) -> Result<Ended, Halt> {
        self.say(&format!("Running command {command}"))?;
        let script = shell::script(command, self.last_exit, self.succeeding);
        self.let_shells_in(user);
        let killed = self.session.oom_kills();
        let shown = self.session.log.masked(command);
        self.session.account.begin(&shown);
        let ran = self.session.run(&self.process(script, user))?;
        self.session.lap();
        // COMPAT: LC-115, LC-116 whatever follows a command follows an empty line.
        self.session.log.blank()?;
        let code = match ran {
            Ran::Ended(status) => exit_code(status),
            Ran::Refused(reason) => {
                self.say(&format!("Command could not be started {command}: {reason}"))?;
                return Ok(Err(failed(
                    "COMMAND_EXECUTION_ERROR",
                    format!("Error while executing command: {command}. Reason: {reason}"),
                )));
            }
        };
        self.last_exit = code;
        self.carry_state()?;
        if code == 0 {
            return Ok(Ok(()));
        }
        // COMPAT: BS-073, BS-074, LC-116.
        self.say(&format!("Command did not exit successfully {command} exit status {code}"))?;
        let mut message = format!("Error while executing command: {command}. Reason: exit status {code}");
        if self.session.oom_kills() > killed {
            let limit = self.plan.environment.limits.memory_bytes;
            message.push_str(&format!(". {}", died_of_memory(limit)));
        }
        Ok(Err(failed("COMMAND_EXECUTION_ERROR", message)))
    }

    pub(super) fn process(&self, script: String, user: Option<&str>) -> Process<'static> {
        let file = |path: &str, bytes: Vec<u8>, mode| container::File { path: path.into(), bytes, mode };
        Process {
            argv: vec![self.shell().into(), shell::SCRIPT.into()],
            env: self
                .foreign_variables()
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            cwd: "/".into(),
            user: user.map(str::to_owned),
            files: vec![
                file(shell::SCRIPT, script.into_bytes(), 0o700),
                file(shell::RESTORE, self.state.restore.clone(), 0o600),
                file(shell::SAVED, Vec::new(), 0o600),
            ],
            fds: Vec::new(),
            output: None,
            input: None,
        }
    }

    pub(super) fn shell(&self) -> &'static str {
        match self.buildspec.as_ref().and_then(|spec| spec.env.shell) {
            Some(buildspec::Shell::Bash) => "bash",
            _ => "sh", // COMPAT: BS-040
        }
    }
    /// Takes over what the command's shell saved. One that was killed, or replaced itself, saved nothing.
    fn carry_state(&mut self) -> Result<(), Halt> {
        if !self.state.carries {
            return Ok(());
        }
        let (code, saved) = self.read_inside(Path::new(shell::SAVED), shell::SAVED_LIMIT)?;
        if saved.len() as u64 > shell::SAVED_LIMIT {
            return self.say(&format!(
                "Warning: variables over {} bytes are not carried to the next command",
                shell::SAVED_LIMIT
            ));
        }
        if code == inside::DONE && !saved.is_empty() {
            self.state.restore = saved;
        }
        Ok(())
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => 128 + signal,
    }
}
