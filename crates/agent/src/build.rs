//! One build from PROVISIONING to FINALIZING: which phase follows which, and what each outcome means.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use buildspec::{Buildspec, OnFailure, PhaseName, Version};
use container::{Container, ExitStatus, Mount, Prepared, Process, Spec};

use crate::artifacts::{Location, Upload};
use crate::journal::{Context, Event, Outcome, Phase};
use crate::plan::{self, Artifacts, Plan, Source};
use crate::session::{Halt, Ran, Session};
use crate::shell::{self, State};
use crate::{clock, inside};

const OUTPUT: &str = "/codebuild/output";
const SCRIPTS: &str = "/codebuild/output/tmp";
/// Room for a command's script and the variables that go from one to the next.
const SCRIPTS_BYTES: u64 = 64 << 20;
const READONLY: &str = "/codebuild/readonly";
const USER_BIN: &str = "/codebuild/user/bin";
/// COMPAT: BS-004 where an inline buildspec is to be found.
const INLINE_BUILDSPEC: &str = "/codebuild/readonly/buildspec.yml";

/// How a phase ended, if not by [`Halt`].
type Ended = Result<(), Context>;

fn failed(status_code: &str, message: impl Into<String>) -> Context {
    Context { status_code: status_code.into(), message: message.into() }
}

/// COMPAT: BS-006..010 what is wrong with a buildspec fails DOWNLOAD_SOURCE with this code.
fn yaml_error(message: impl Into<String>) -> Context {
    failed("YAML_FILE_ERROR", message)
}

/// COMPAT: LC-052.
fn client_error(message: impl Into<String>) -> Context {
    failed("CLIENT_ERROR", message)
}

/// Where the container is made.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// The build's folder on the host.
    pub(crate) folder: &'a Path,
    pub(crate) name: String,
    pub(crate) prepared: Option<Prepared>,
    /// What everything inside prints to.
    pub(crate) output: OwnedFd,
}

/// What has been found out so far.
pub(crate) struct Build<'a> {
    session: &'a mut Session,
    plan: &'a Plan,
    source_folder: PathBuf,
    buildspec: Option<Buildspec>,
    state: State,
    last_exit: i32,
    succeeding: bool,
    /// The phase that is open, if any.
    open: Option<Phase>,
    /// Time of the latest phase border: an end is the next start (LC-024).
    border_ms: i64,
}

impl<'a> Build<'a> {
    pub(crate) fn new(session: &'a mut Session, plan: &'a Plan) -> Build<'a> {
        let source_folder = PathBuf::from(format!("{OUTPUT}/src{}/src", plan.source_number));
        Build {
            session,
            plan,
            source_folder,
            buildspec: None,
            state: State { restore: Vec::new(), carries: true },
            last_exit: 0,
            succeeding: true,
            open: None,
            border_ms: clock::now_ms(),
        }
    }

    /// Runs the whole build; never panics on what a build does. The container is gone afterwards.
    pub(crate) fn run(&mut self, place: Place<'_>) -> Outcome {
        let outcome = match self.phases(place) {
            Ok(outcome) => outcome,
            Err(halt) => self.halted(&halt),
        };
        match self.finalize() {
            Ok(()) => outcome,
            Err(halt) => {
                eprintln!("agent: {}: the environment could not be removed: {halt:?}", self.plan.build_id);
                Outcome::Fault
            }
        }
    }

    fn phases(&mut self, place: Place<'_>) -> Result<Outcome, Halt> {
        if let Err(context) = self.phase(Phase::Provisioning, |build| build.provision(place))? {
            // COMPAT: LC-028 a build that cannot be provisioned ends at once.
            return Ok(if context.status_code == "INTERNAL_SERVICE_ERROR" {
                Outcome::Fault
            } else {
                Outcome::Failed
            });
        }
        if self.phase(Phase::DownloadSource, Build::download_source)?.is_err() {
            return Ok(Outcome::Failed); // COMPAT: LC-029
        }
        let upload = self.command_phases()?;
        self.export_variables()?;
        if upload && self.phase(Phase::UploadArtifacts, Build::upload_artifacts)?.is_err() {
            self.succeeding = false; // COMPAT: LC-032
        }
        Ok(if self.succeeding { Outcome::Succeeded } else { Outcome::Failed })
    }

    /// INSTALL to POST_BUILD; true if UPLOAD_ARTIFACTS follows.
    fn command_phases(&mut self) -> Result<bool, Halt> {
        for (phase, name) in [
            (Phase::Install, PhaseName::Install),
            (Phase::PreBuild, PhaseName::PreBuild),
            (Phase::Build, PhaseName::Build),
            (Phase::PostBuild, PhaseName::PostBuild),
        ] {
            if self.phase(phase, |build| build.command_phase(name))?.is_ok() {
                continue;
            }
            self.succeeding = false;
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

    /// Opens a phase, runs it and closes it with its outcome.
    fn phase(
        &mut self,
        phase: Phase,
        run: impl FnOnce(&mut Self) -> Result<Ended, Halt>,
    ) -> Result<Ended, Halt> {
        self.session.record(&Event::PhaseStarted { phase, at_ms: self.border_ms })?;
        self.open = Some(phase);
        let ended = run(self)?;
        let (outcome, context) = match &ended {
            Ok(()) => (Outcome::Succeeded, Context::default()),
            Err(context) if context.status_code == "INTERNAL_SERVICE_ERROR" => {
                (Outcome::Fault, context.clone())
            }
            Err(context) => (Outcome::Failed, context.clone()),
        };
        self.close(outcome, context)?;
        Ok(ended)
    }

    fn close(&mut self, outcome: Outcome, context: Context) -> Result<(), Halt> {
        let Some(phase) = self.open.take() else { return Ok(()) };
        // COMPAT: LC-114 PROVISIONING and FINALIZING have no lines.
        if !matches!(phase, Phase::Provisioning | Phase::Finalizing) {
            let log = &mut self.session.log;
            log.line(&format!("Phase complete: {} State: {}", phase.name(), outcome.name()))?;
            log.line(&format!(
                "Phase context status code: {} Message: {}",
                context.status_code, context.message
            ))?;
        }
        self.border_ms = clock::now_ms().max(self.border_ms);
        self.session.record(&Event::PhaseEnded { phase, at_ms: self.border_ms, outcome, context })?;
        Ok(())
    }

    /// Ends the open phase as the halt says and kills what runs.
    fn halted(&mut self, halt: &Halt) -> Outcome {
        let (outcome, context) = match halt {
            Halt::Stopped => (Outcome::Stopped, Context::default()), // COMPAT: LC-044
            // COMPAT: LC-043, with the trailing space of the sample.
            Halt::TimedOut => (Outcome::TimedOut, failed("BUILD_TIMED_OUT", "Build has timed out. ")),
            Halt::Dead { out_of_memory } => (Outcome::Failed, dead(*out_of_memory)),
            Halt::Exhausted(message) => (Outcome::Failed, client_error(message.clone())),
            Halt::Fault(message) => {
                eprintln!("agent: {}: {message}", self.plan.build_id);
                (Outcome::Fault, failed("INTERNAL_SERVICE_ERROR", message.clone()))
            }
        };
        // A stop must not wait for the log or the journal: first kill, then write.
        let killed = self.session.end_container();
        let closed = self.close(outcome, context);
        match (killed, closed) {
            (Ok(()), Ok(())) => outcome,
            _ => Outcome::Fault,
        }
    }

    fn finalize(&mut self) -> Result<(), Halt> {
        self.session.record(&Event::PhaseStarted { phase: Phase::Finalizing, at_ms: self.border_ms })?;
        self.open = Some(Phase::Finalizing);
        self.session.end_container()?;
        self.close(Outcome::Succeeded, Context::default())
    }

    fn provision(&mut self, place: Place<'_>) -> Result<Ended, Halt> {
        let scratch = place.folder.join(crate::SCRATCH);
        std::fs::create_dir_all(&scratch)?;
        let spec = self.container_spec(scratch, place.name, place.output);
        let created = match place.prepared {
            Some(prepared) => Container::create_in(prepared, spec),
            None => Container::create(spec),
        };
        match created {
            Ok(container) => self.session.set_container(container),
            Err(error) => {
                eprintln!("agent: {}: {error}", self.plan.build_id);
                self.session.log.line(&error.to_string())?;
                return Ok(Err(failed("INTERNAL_SERVICE_ERROR", error.to_string())));
            }
        }
        self.session.log.sync_regularly(&self.plan.log)?;
        Ok(Ok(()))
    }

    fn container_spec(&self, scratch: PathBuf, name: String, output: OwnedFd) -> Spec {
        let environment = &self.plan.environment;
        let mut mounts: Vec<Mount> = Vec::new();
        for folder in &environment.shared {
            mounts.push(Mount::ReadOnly { host: folder.clone(), inside: folder.clone() });
        }
        if let Source::Folder(lower) = &self.plan.source {
            let (inside, upper) = (self.source_folder.clone(), PathBuf::from("source"));
            mounts.push(Mount::Overlay { lower: lower.clone(), inside, upper });
            if lower.join(".buildyard").is_dir() {
                // Artifacts of earlier builds are not part of the source.
                mounts.push(Mount::Tmpfs {
                    inside: self.source_folder.join(".buildyard"),
                    size_bytes: 1 << 20,
                });
            }
        }
        // What the commands' shells need is small and short-lived.
        mounts.push(Mount::Tmpfs { inside: SCRIPTS.into(), size_bytes: SCRIPTS_BYTES });
        // COMPAT: BS-004 a buildspec that is no file of the source is shown read-only.
        let files = match &self.plan.buildspec {
            plan::Buildspec::Inline(text) => {
                vec![container::File {
                    path: INLINE_BUILDSPEC.into(),
                    bytes: text.clone().into(),
                    mode: 0o444,
                }]
            }
            plan::Buildspec::File(_) | plan::Buildspec::Object { .. } => Vec::new(),
        };
        let folders =
            [self.source_folder.as_path(), Path::new(SCRIPTS), Path::new(READONLY), Path::new(USER_BIN)];
        Spec {
            rootfs: match &environment.rootfs {
                plan::Rootfs::Host => container::Rootfs::Host { visible: container::default_visible_paths() },
                plan::Rootfs::Folder(folder) => container::Rootfs::Folder(folder.clone()),
            },
            scratch,
            mounts,
            masks: Vec::new(),
            folders: folders.map(Path::to_owned).into(), // COMPAT: EN-085
            files,
            hostname: self.plan.uuid.chars().filter(char::is_ascii_hexdigit).take(12).collect(),
            network: match environment.network {
                plan::Network::None => container::Network::None,
                plan::Network::Host => container::Network::Host,
            },
            limits: container::Limits {
                memory_bytes: environment.limits.memory_bytes,
                pids: environment.limits.pids,
                cpu_millis: environment.limits.cpu_millis,
            },
            name,
            output,
            functions: inside::FUNCTIONS,
        }
    }

    /// COMPAT: LC-113 the order of what happens, and its lines.
    fn download_source(&mut self) -> Result<Ended, Halt> {
        let source = self.source_folder.display().to_string();
        self.say(&format!("Running on CodeBuild {}", self.plan.fleet_label))?;
        for line in ["Waiting for agent ping", "Waiting for DOWNLOAD_SOURCE"] {
            self.say(line)?;
        }
        if let Err(context) = self.fetch_source()? {
            return Ok(Err(context));
        }
        self.say("Phase is DOWNLOAD_SOURCE")?;
        self.say(&format!("CODEBUILD_SRC_DIR={source}"))?;
        let text = match self.buildspec_text()? {
            Ok(text) => text,
            Err(context) => return Ok(Err(context)),
        };
        if matches!(self.plan.buildspec, plan::Buildspec::Object { .. })
            && let Err(context) = self.show_buildspec(&text)?
        {
            return Ok(Err(context));
        }
        if matches!(self.plan.source, Source::ObjectZip { .. } | Source::ObjectFolder { .. }) {
            self.say("Setting HTTP client timeout to higher timeout for S3 source")?;
        }
        self.say("Processing environment variables")?;
        let parsed = match buildspec::parse_bytes(&text) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Err(yaml_error(error.to_string()))),
        };
        for warning in &parsed.warnings {
            self.say(&format!("Warning: {warning}"))?;
        }
        if let Some(context) = unavailable(&parsed.buildspec) {
            return Ok(Err(context));
        }
        self.announce(&parsed.buildspec, &source)?;
        self.state.carries = parsed.buildspec.version == Version::V02;
        self.state.restore = self.initial_state(&parsed.buildspec);
        self.buildspec = Some(parsed.buildspec);
        Ok(Ok(()))
    }

    fn announce(&mut self, spec: &Buildspec, source: &str) -> Result<(), Halt> {
        let runtimes =
            spec.phases.install.as_ref().is_some_and(|install| !install.runtime_versions.is_empty());
        match runtimes {
            // COMPAT: BS-097 for images without runtimes.yml.
            true => self.say("Skipping install of runtimes. Runtime version selection is not supported by this build image")?,
            false => self.say("No runtime version selected in buildspec.")?,
        }
        self.say(&format!("Moving to directory {source}"))?;
        match spec.cache.as_ref().is_some_and(|cache| !cache.paths.is_empty()) {
            true => self.say("Skip cache due to: caching is not available in this version")?,
            false => {
                self.say("Cache is not defined in the buildspec")?;
                self.say("Skip cache due to: no paths specified to be cached")?;
            }
        }
        if !spec.reports.is_empty() {
            self.say("Skip reports due to: reports are not available in this version")?;
        }
        self.say("Registering with agent")?;
        let phases = spec.phases_in_yaml();
        self.say(&format!("Phases found in YAML: {}", phases.len()))?;
        for (name, phase) in phases {
            let name = name.to_string().to_ascii_uppercase();
            self.say(&format!(" {name}: {} commands", phase.commands.len() + phase.finally.len()))?;
        }
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<(), Halt> {
        Ok(self.session.log.line(text)?)
    }

    fn fetch_source(&mut self) -> Result<Ended, Halt> {
        match &self.plan.source {
            Source::None | Source::Folder(_) => Ok(Ok(())),
            Source::ObjectZip { objects, bucket, key, version } => {
                if let Some(version) = version {
                    return Ok(Err(client_error(format!(
                        "The object version {version} of {bucket}/{key} is not available: this object store keeps no versions"
                    ))));
                }
                let found =
                    store::objects::Objects::open(objects).and_then(|objects| objects.get(bucket, key));
                let (archive, _) = match found {
                    Ok(found) => found,
                    Err(error) => return Ok(Err(source_failure(&error, bucket, key)?)),
                };
                let target = self.source_folder.clone();
                self.inside("unzip", &inside::Unzip { target }, Some(archive))
            }
            Source::ObjectFolder { objects, bucket, prefix } => self.fetch_folder(objects, bucket, prefix),
        }
    }

    fn fetch_folder(&mut self, root: &Path, bucket: &str, prefix: &str) -> Result<Ended, Halt> {
        let objects = match store::objects::Objects::open(root) {
            Ok(objects) => objects,
            Err(error) => return Ok(Err(source_failure(&error, bucket, prefix)?)),
        };
        let mut after: Option<String> = None;
        loop {
            let listing = match objects.list(bucket, prefix, None, after.as_deref(), 1000) {
                Ok(listing) => listing,
                Err(error) => return Ok(Err(source_failure(&error, bucket, prefix)?)),
            };
            for object in &listing.objects {
                let relative = object.key[prefix.len()..].to_owned();
                if relative.is_empty() {
                    continue;
                }
                let content = match objects.get(bucket, &object.key) {
                    Ok((content, _)) => content,
                    Err(error) => return Ok(Err(source_failure(&error, bucket, &object.key)?)),
                };
                let place = inside::Place { target: self.source_folder.clone(), relative, mode: 0o644 };
                if let Err(context) = self.inside("place", &place, Some(content))? {
                    return Ok(Err(context));
                }
            }
            match listing.next.filter(|_| listing.truncated) {
                Some(next) => after = Some(next),
                None => return Ok(Ok(())),
            }
        }
    }

    /// Calls a function that writes inside; what it complains about fails the phase.
    fn inside(
        &mut self,
        function: &str,
        arguments: &impl serde::Serialize,
        content: Option<File>,
    ) -> Result<Ended, Halt> {
        let mut decoder = crate::stream::Decoder::default();
        let mut complaint = None;
        let mut sink = |bytes: &[u8]| {
            decoder.feed(bytes, &mut |item| {
                if let crate::stream::Item::Record(crate::stream::Record::Failed(message)) = item {
                    complaint = Some(message);
                }
                Ok(())
            })
        };
        let status = self.session.call(
            function,
            arguments,
            content.into_iter().map(OwnedFd::from).collect(),
            &mut sink,
        )?;
        match (status, complaint) {
            (ExitStatus::Code(inside::DONE), None) => Ok(Ok(())),
            (_, Some(message)) => Ok(Err(client_error(message))),
            (status, None) => {
                Ok(Err(client_error(format!("{function} ended inside the container with {status:?}"))))
            }
        }
    }

    /// The buildspec's bytes; COMPAT: BS-001..006.
    fn buildspec_text(&mut self) -> Result<Result<Vec<u8>, Context>, Halt> {
        match &self.plan.buildspec {
            plan::Buildspec::File(path) => {
                let path = self.source_folder.join(path);
                self.say(&format!("YAML location is {}", path.display()))?;
                self.read_buildspec(path)
            }
            plan::Buildspec::Inline(text) => {
                self.say(&format!("YAML location is {INLINE_BUILDSPEC}"))?;
                Ok(Ok(text.clone().into_bytes()))
            }
            plan::Buildspec::Object { objects, bucket, key } => {
                self.say(&format!("YAML location is {INLINE_BUILDSPEC}"))?;
                let limit = buildspec::limits::TEXT_BYTES as u64;
                let found =
                    store::objects::Objects::open(objects).and_then(|objects| objects.get(bucket, key));
                let (file, _) = match found {
                    Ok(found) => found,
                    Err(error) => return Ok(Err(source_failure(&error, bucket, key)?)),
                };
                let mut text = Vec::new();
                std::io::Read::read_to_end(&mut std::io::Read::take(file, limit + 1), &mut text)?;
                Ok(Ok(text))
            }
        }
    }

    /// COMPAT: BS-004 a buildspec from S3 is shown read-only.
    fn show_buildspec(&mut self, text: &[u8]) -> Result<Ended, Halt> {
        let file = rustix::fs::memfd_create("buildspec", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(std::io::Error::from)?;
        let mut file = File::from(file);
        std::io::Write::write_all(&mut file, text)?;
        std::io::Seek::rewind(&mut file)?;
        let place = inside::Place { target: READONLY.into(), relative: "buildspec.yml".into(), mode: 0o444 };
        self.inside("place", &place, Some(file))
    }

    fn read_buildspec(&mut self, path: PathBuf) -> Result<Result<Vec<u8>, Context>, Halt> {
        let limit = buildspec::limits::TEXT_BYTES as u64;
        match self.read_inside(&path, limit)? {
            (inside::DONE, text) => Ok(Ok(text)),
            // COMPAT: BS-006.
            (inside::MISSING, _) => Ok(Err(yaml_error("YAML file does not exist"))),
            _ => Ok(Err(yaml_error(format!(
                "YAML file {} cannot be read: it is not a regular file",
                path.display()
            )))),
        }
    }

    fn read_inside(&mut self, path: &Path, limit: u64) -> Result<(i32, Vec<u8>), Halt> {
        let mut bytes = Vec::new();
        let read = inside::ReadFile { path: path.to_owned(), limit };
        let status = self.session.call("read", &read, Vec::new(), &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        match status {
            ExitStatus::Code(code) => Ok((code, bytes)),
            ExitStatus::Signal(_) => Ok((inside::REFUSED, bytes)),
        }
    }

    /// The environment of the first command. COMPAT: BS-043, BS-044 image, buildspec, project and StartBuild
    /// variables in this order, then the service's own.
    fn initial_state(&self, spec: &Buildspec) -> Vec<u8> {
        let mut all: BTreeMap<String, String> = self.plan.environment.variables.clone();
        all.extend(spec.env.variables.iter().cloned());
        all.extend(self.plan.variables.clone());
        all.extend(self.plan.service_variables.clone());
        let source = self.source_folder.display().to_string();
        let root = source.trim_end_matches("/src").to_owned();
        all.insert("CODEBUILD_SRC_DIR".into(), source);
        all.insert("CODEBUILD_GOPATH".into(), root); // COMPAT: EN-061
        all.insert("CODEBUILD_CI".into(), "true".into()); // COMPAT: EN-060
        all.entry("HOME".into()).or_insert_with(|| "/root".into()); // COMPAT: EN-058
        let path = all
            .entry("PATH".into())
            .or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
        path.push_str(&format!(":{USER_BIN}")); // COMPAT: EN-064
        all.insert("OLDPWD".into(), READONLY.into()); // COMPAT: EN-065
        shell::initial(all.iter(), &self.source_folder)
    }

    fn phase_spec(&self, name: PhaseName) -> buildspec::Phase {
        let phase = self.buildspec.as_ref().and_then(|spec| spec.phases.get(name));
        phase.cloned().unwrap_or_default()
    }

    /// COMPAT: BS-071..075.
    fn command_phase(&mut self, name: PhaseName) -> Result<Ended, Halt> {
        self.say(&format!("Entering phase {}", name.to_string().to_ascii_uppercase()))?;
        let phase = self.phase_spec(name);
        let user =
            phase.run_as.clone().or_else(|| self.buildspec.as_ref().and_then(|spec| spec.run_as.clone()));
        let ended = self.commands(&phase.commands, user.as_deref())?;
        let finally = self.commands(&phase.finally, user.as_deref())?;
        if matches!(phase.on_failure, Some(OnFailure::Retry { .. })) && (ended.is_err() || finally.is_err()) {
            self.say("on-failure: RETRY is not available in this version; the phase fails without a retry")?;
        }
        Ok(ended.and(finally))
    }

    /// Up to the first that fails.
    fn commands(&mut self, commands: &[String], user: Option<&str>) -> Result<Ended, Halt> {
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
        let ran = self.session.run(&self.process(script, user))?;
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
        let message = format!("Error while executing command: {command}. Reason: exit status {code}");
        Ok(Err(failed("COMMAND_EXECUTION_ERROR", message)))
    }

    fn process(&self, script: String, user: Option<&str>) -> Process<'static> {
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

    fn shell(&self) -> &'static str {
        match self.buildspec.as_ref().and_then(|spec| spec.env.shell) {
            Some(buildspec::Shell::Bash) => "bash",
            _ => "sh", // COMPAT: BS-040
        }
    }

    /// Variables whose names no shell can hold go to each command directly; and PATH, by which the shell is found.
    fn foreign_variables(&self) -> Vec<(String, String)> {
        let image = &self.plan.environment.variables;
        let all = image.iter().chain(&self.plan.variables);
        let mut foreign: Vec<(String, String)> = all
            .filter(|(name, _)| !shell::is_name(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let path = image.get("PATH").cloned();
        foreign.push((
            "PATH".into(),
            path.unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ));
        foreign
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

    /// COMPAT: BS-053, BS-054 at the end of POST_BUILD, or of the last phase that ran.
    fn export_variables(&mut self) -> Result<(), Halt> {
        let names =
            self.buildspec.as_ref().map(|spec| spec.env.exported_variables.clone()).unwrap_or_default();
        let names: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| shell::is_name(name) && !name.starts_with("AWS_"))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let variables = self.values(&names)?;
        Ok(self.session.record(&Event::Exported { variables })?)
    }

    /// The present values of variables that are set.
    fn values(&mut self, names: &[&str]) -> Result<BTreeMap<String, String>, Halt> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let process = self.process(shell::values(names), None);
        let (_, printed) = self.session.capture(process)?;
        let text = String::from_utf8_lossy(&printed).into_owned();
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// COMPAT: BS-130..143, BS-131 for NO_ARTIFACTS.
    fn upload_artifacts(&mut self) -> Result<Ended, Halt> {
        let Some(artifacts) = self.buildspec.as_ref().and_then(|spec| spec.artifacts.clone()) else {
            return Ok(Ok(()));
        };
        let mut uploads: Vec<(Option<String>, buildspec::Artifacts)> = Vec::new();
        if !artifacts.files.is_empty() {
            uploads.push((None, artifacts.clone()));
        }
        uploads.extend(
            artifacts
                .secondary
                .clone()
                .into_iter()
                .map(|(identifier, artifact)| (Some(identifier), artifact)),
        );
        for (identifier, artifact) in uploads {
            let Some(destination) = self.destination(identifier.as_deref()) else { continue };
            if let Err(context) = self.upload(&artifact, identifier, &destination)? {
                return Ok(Err(context));
            }
        }
        Ok(Ok(()))
    }

    /// COMPAT: BS-140 a secondary artifact goes where the project declares one of that identifier.
    fn destination(&self, identifier: Option<&str>) -> Option<Destination> {
        match &self.plan.artifacts {
            Artifacts::None => None,
            Artifacts::Folder(folder) => Some(Destination::Folder(match identifier {
                Some(identifier) => folder.join(identifier),
                None => folder.clone(),
            })),
            Artifacts::Objects { objects, primary, secondary } => {
                let all = primary.iter().chain(secondary);
                let target = all.into_iter().find(|target| target.identifier.as_deref() == identifier)?;
                Some(Destination::Objects(objects.clone(), Box::new(target.clone())))
            }
        }
    }

    fn upload(
        &mut self,
        artifact: &buildspec::Artifacts,
        identifier: Option<String>,
        destination: &Destination,
    ) -> Result<Ended, Halt> {
        let base_directory = match self.base_directory(artifact)? {
            Ok(base_directory) => base_directory,
            Err(context) => return Ok(Err(context)),
        };
        let opened = match destination {
            Destination::Folder(folder) => Upload::to_folder(folder, identifier),
            Destination::Objects(objects, target) => {
                let name = self.artifact_name(artifact, target)?;
                let location = Location::new(target, &name, &self.plan.uuid, artifact.s3_prefix.as_deref());
                Upload::to_objects(objects, target, location)
            }
        };
        let mut upload = match opened {
            Ok(upload) => upload,
            Err(error) => return Ok(Err(client_error(format!("Failed to upload artifacts: {error}")))),
        };
        let collect = inside::Collect {
            root: self.source_folder.clone(),
            base_directory,
            files: artifact.files.clone(),
            exclude_paths: artifact.exclude_paths.clone(),
            discard_paths: artifact.discard_paths,
            keep_symlinks: artifact.enable_symlinks,
        };
        let mut broken = None;
        self.session.call("collect", &collect, Vec::new(), &mut |bytes| {
            if broken.is_none() {
                broken = upload.feed(bytes).err();
            }
            Ok(())
        })?;
        for note in upload.take_notes() {
            self.say(&note)?;
        }
        if let Some(error) = broken {
            return Ok(Err(client_error(format!("Failed to upload artifacts: {error}"))));
        }
        match upload.finish() {
            Ok(uploaded) => Ok(Ok(self.session.record(&Event::ArtifactUploaded(uploaded))?)),
            Err(message) => Ok(Err(client_error(message))),
        }
    }

    /// COMPAT: BS-190 expanded with the variables of now.
    fn base_directory(&mut self, artifact: &buildspec::Artifacts) -> Result<Result<String, Context>, Halt> {
        let text = artifact.base_directory.clone().unwrap_or_else(|| ".".into());
        let names = buildspec::substitute::names(&text);
        let values = self.values(&names)?;
        let expanded = buildspec::substitute::expand(&text, |name| values.get(name).map(String::as_str));
        Ok(expanded.map_err(|error| client_error(error.to_string())))
    }

    /// COMPAT: BS-133, SA-083 the buildspec's name, as the shell makes it, if the project lets it.
    fn artifact_name(
        &mut self,
        artifact: &buildspec::Artifacts,
        target: &plan::ArtifactTarget,
    ) -> Result<String, Halt> {
        let Some(name) = artifact.name.as_ref().filter(|_| target.override_name) else {
            return Ok(target.name.clone());
        };
        let process = self.process(shell::expansion(name), None);
        let (_, printed) = self.session.capture(process)?;
        let name = String::from_utf8_lossy(&printed).trim().to_owned();
        Ok(if name.is_empty() { target.name.clone() } else { name })
    }
}

enum Destination {
    Folder(PathBuf),
    Objects(PathBuf, Box<plan::ArtifactTarget>),
}

/// What a buildspec asks for that this version cannot give, when leaving it out would change what runs.
fn unavailable(spec: &Buildspec) -> Option<Context> {
    let message = |what: &str| Some(yaml_error(format!("{what} is not available in this version")));
    if !spec.env.parameter_store.is_empty() {
        return message("env.parameter-store");
    }
    if !spec.env.secrets_manager.is_empty() {
        return message("env.secrets-manager");
    }
    match spec.env.shell {
        Some(buildspec::Shell::PowerShell | buildspec::Shell::Cmd) => message("A Windows shell in env.shell"),
        _ => None,
    }
}

/// COMPAT: LC-058.
fn dead(out_of_memory: bool) -> Context {
    let why = match out_of_memory {
        true => {
            "build container died because it was out of memory, or the Docker image is not supported. ErrorCode: 500"
        }
        false => "build container ended unexpectedly. ErrorCode: 500",
    };
    client_error(format!("Build container found dead before completing the build. {why}"))
}

/// What the object store refuses is the client's; what breaks is ours.
fn source_failure(error: &store::Error, bucket: &str, key: &str) -> Result<Context, Halt> {
    use store::Error::{InvalidBucketName, InvalidKey, NoSuchBucket, NoSuchKey};
    if !matches!(error, NoSuchBucket(_) | NoSuchKey(_) | InvalidBucketName { .. } | InvalidKey(_)) {
        return Err(Halt::Fault(format!("cannot read {bucket}/{key}: {error}")));
    }
    Ok(client_error(format!("Error while downloading key {key} of bucket {bucket}, error: {error}")))
}

fn exit_code(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => 128 + signal,
    }
}
