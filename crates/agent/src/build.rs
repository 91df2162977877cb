//! One build from PROVISIONING to FINALIZING: opening and closing phases, and what each way out means.
//!
//! What happens in the phases is below `build/`, a file for each thing one has to know.

mod cache;
mod commands;
mod context;
mod docker;
mod fetch;
mod git;
mod keeping;
mod layout;
mod objects;
mod references;
mod reports;
mod repositories;
mod runtimes;
mod source;
mod ssh;
mod upload;
mod variables;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use buildspec::Buildspec;
use container::{Awaited, Container, Prepared};

use crate::answer::GitCredential;
use crate::clock;
use crate::hash_files;
use crate::journal::{Context, Event, Hold, Outcome, Phase};
use crate::plan::{Plan, Rootfs, Unpacked};
use crate::session::{Halt, Session};
use crate::shell::State;
use crate::transfer::Transfers;
use context::{client_error, dead, failed, image_removed, no_shell};
use keeping::Keeping;
pub(crate) use layout::{SCRIPTS, SCRIPTS_BYTES};
use references::Fetched;

/// How a phase ended, if not by [`Halt`].
type Ended = Result<(), Context>;
/// Where the container is made.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// The build's folder on the host.
    pub(crate) folder: &'a Path,
    pub(crate) name: String,
    pub(crate) prepared: Option<Prepared>,
    /// The container's init, if it is not of our making.
    pub(crate) awaited: Option<Awaited>,
    /// What everything inside prints to.
    pub(crate) output: OwnedFd,
}

/// No build asks two questions at once.
const OTHER_ANSWER: &str = "a question got the answer to another one";

/// What is the same for every container of the build.
#[derive(Debug)]
struct Home {
    scratch: PathBuf,
    /// Of the present container or of the one prepared.
    name: String,
    prepared: Option<Prepared>,
    output: OwnedFd,
}

impl Home {
    /// One container may be prepared while the other runs.
    fn next_name(&mut self) {
        self.name = match self.name.strip_suffix(NEXT) {
            Some(name) => name.to_owned(),
            None => format!("{}{NEXT}", self.name),
        };
    }
}

/// Ends the name of every other container of a build.
pub(crate) const NEXT: &str = ".next";
/// Ends the name of the container that git sources are fetched in.
pub(crate) const FETCH: &str = ".fetch";

/// What has been found out so far.
pub(crate) struct Build<'a> {
    session: &'a mut Session,
    plan: &'a Plan,
    /// Where the primary source is.
    source_folder: PathBuf,
    /// What git sources are opened with, once it was asked for.
    git_credentials: Option<Vec<GitCredential>>,
    /// The commit of the primary source.
    resolved_version: Option<String>,
    buildspec: Option<Buildspec>,
    fetched: Fetched,
    state: State,
    last_exit: i32,
    succeeding: bool,
    /// The phase that is open, if any.
    open: Option<Phase>,
    environment: Option<Home>,
    keeping: Option<Keeping>,
    /// Locked, so that nobody removes it.
    image: Option<File>,
    cache: Option<cache::Cache>,
    /// What objects elsewhere are read with, from the first one to the end of DOWNLOAD_SOURCE.
    transfers: Option<Transfers>,
    /// Where the containers of the environment have written, the present one last.
    scratches: Vec<PathBuf>,
    /// Time of the latest phase border: an end is the next start (LC-024).
    border_ms: i64,
}

impl<'a> Build<'a> {
    pub(crate) fn new(session: &'a mut Session, plan: &'a Plan) -> Build<'a> {
        Build {
            session,
            plan,
            source_folder: layout::source_folder(plan),
            git_credentials: None,
            resolved_version: None,
            buildspec: None,
            fetched: Fetched::default(),
            state: State { restore: Vec::new(), carries: true },
            last_exit: 0,
            succeeding: true,
            open: None,
            environment: None,
            keeping: None,
            image: None,
            cache: None,
            transfers: None,
            scratches: Vec::new(),
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
        if self.is_visit() {
            self.show_cached_again()?;
            self.session.record(&Event::Held { at_ms: clock::now_ms(), why: Hold::Visit })?;
            self.session.hold_for_shells()?;
            return Ok(Outcome::Succeeded);
        }
        let downloaded = self.phase(Phase::DownloadSource, Build::download_source)?;
        self.transfers = None;
        if downloaded.is_err() {
            return Ok(Outcome::Failed); // COMPAT: LC-029
        }
        let upload = self.command_phases()?;
        self.export_variables()?;
        if upload && self.phase(Phase::UploadArtifacts, Build::upload)?.is_err() {
            self.succeeding = false; // COMPAT: LC-032
        }
        Ok(if self.succeeding { Outcome::Succeeded } else { Outcome::Failed })
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
        // What is told here is stored, and shown to everybody.
        let context = Context { message: self.session.log.masked(&context.message), ..context };
        // COMPAT: LC-114 PROVISIONING and FINALIZING have no lines.
        if !matches!(phase, Phase::Provisioning | Phase::Finalizing) {
            let log = &mut self.session.log;
            log.line(&format!("Phase complete: {} State: {}", phase.name(), outcome.name()))?;
            log.line(&format!(
                "Phase context status code: {} Message: {}",
                context.status_code, context.message
            ))?;
        }
        self.tell_usage(phase)?;
        self.border_ms = clock::now_ms().max(self.border_ms);
        self.session.record(&Event::PhaseEnded { phase, at_ms: self.border_ms, outcome, context })?;
        Ok(())
    }

    /// A phase that was killed is told as far as it came.
    fn tell_usage(&mut self, phase: Phase) -> Result<(), Halt> {
        if phase == Phase::Finalizing {
            return Ok(());
        }
        self.session.lap();
        let account = std::mem::take(&mut self.session.account);
        let disk = if account.has_commands() { self.session.disk_used_bytes() } else { None };
        Ok(self.session.record(&Event::Used(account.close(phase, disk)))?)
    }

    /// Ends the open phase as the halt says and kills what runs.
    fn halted(&mut self, halt: &Halt) -> Outcome {
        let (outcome, context) = match halt {
            Halt::Stopped => (Outcome::Stopped, Context::default()), // COMPAT: LC-044
            // COMPAT: LC-043, with the trailing space of the sample.
            Halt::TimedOut => (Outcome::TimedOut, failed("BUILD_TIMED_OUT", "Build has timed out. ")),
            Halt::Dead { out_of_memory } => {
                // Whoever found it gone could not know why.
                (Outcome::Failed, dead(*out_of_memory || self.session.oom_kills() > 0))
            }
            Halt::Guest(why) => (Outcome::Failed, client_error(why.clone())),
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
        self.end_environment()?;
        self.keep_layers();
        self.close(Outcome::Succeeded, Context::default())
    }

    fn provision(&mut self, place: Place<'_>) -> Result<Ended, Halt> {
        if let Rootfs::Unpacked(image) = &self.plan.environment.rootfs {
            self.image = locked(image)?;
            if self.image.is_none() {
                return Ok(Err(image_removed()));
            }
        }
        if !self.has_any(&["sh"])? {
            return Ok(Err(no_shell(self.path_of_image())));
        }
        if let Err(context) = self.open_shelf()? {
            self.say(&context.message)?;
            return Ok(Err(context));
        }
        let Place { folder, name, prepared, awaited, output } = place;
        let scratch = folder.join(crate::SCRATCH);
        let printed = output.try_clone()?;
        // What was made beforehand is for a container of our own.
        let prepared = prepared.filter(|_| awaited.is_none());
        self.environment = Some(Home { scratch, name, prepared, output });
        let made = match awaited {
            Some(awaited) => self.receive_container(awaited, printed)?,
            None => self.make_container()?,
        };
        if let Err(error) = made {
            eprintln!("agent: {}: {error}", self.plan.build_id);
            self.session.log.line(&error.to_string())?;
            return Ok(Err(failed("INTERNAL_SERVICE_ERROR", error.to_string())));
        }
        self.session.log.sync_regularly(&self.plan.log)?;
        self.start_docker()
    }

    /// The build's container from whoever makes it.
    fn receive_container(
        &mut self,
        awaited: Awaited,
        output: OwnedFd,
    ) -> Result<Result<(), container::Error>, Halt> {
        if let Some(home) = &self.environment {
            std::fs::create_dir_all(&home.scratch)?;
        }
        let inside = self.container_inside(output);
        match self.session.receive(awaited, &inside)? {
            Ok(container) => self.session.set_container(container)?,
            Err(error) => return Ok(Err(error)),
        }
        if self.plan.debug_session {
            self.session.listen_for_breakpoints()?;
        }
        Ok(Ok(()))
    }

    /// The build's container, or the next one on what earlier ones wrote. There must be one thread.
    fn make_container(&mut self) -> Result<Result<(), container::Error>, Halt> {
        let Some(mut home) = self.environment.take() else {
            return Err(Halt::Fault("there is no place".into()));
        };
        let prepared = home.prepared.take();
        let mut spec = self.container_spec(home.scratch.clone(), home.name.clone(), home.output.try_clone()?);
        self.environment = Some(home);
        if let Some(keeping) = &mut self.keeping {
            let scratch = std::mem::take(&mut spec.scratch);
            (spec.scratch, spec.beneath) = keeping.shelf.next_layer()?;
            spec.may_lie_beneath = true;
            if !container::can_lie_beneath(&spec) {
                if !spec.beneath.is_empty() {
                    let text = "snapshots cannot be used in a folder that is part of what is built";
                    return Ok(Err(container::Error::Invalid(text.into())));
                }
                self.keeping = None;
                (spec.scratch, spec.may_lie_beneath) = (scratch, false);
            }
        }
        std::fs::create_dir_all(&spec.scratch)?;
        self.scratches = spec.beneath.iter().chain([&spec.scratch]).cloned().collect();
        let created = match prepared {
            Some(prepared) => Container::create_in(prepared, spec),
            None => Container::create(spec),
        };
        let created = match created {
            Ok(container) => Ok(self.session.set_container(container)?),
            Err(error) => Err(error),
        };
        if self.plan.debug_session && created.is_ok() {
            self.session.listen_for_breakpoints()?;
        }
        if created.is_ok() && !self.has_any(&hash_files::PROGRAMS)? {
            self.session.listen_for_hashing()?;
        }
        if created.is_ok() {
            self.show_layers()?;
        }
        Ok(created)
    }

    fn say(&mut self, text: &str) -> Result<(), Halt> {
        Ok(self.session.log.line(text)?)
    }
}

/// An image that is used; none if it was removed. Whoever looks whether it is used, or begins to remove it, has it locked for a moment.
fn locked(image: &Unpacked) -> io::Result<Option<File>> {
    let lock = match File::open(&image.lock) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        lock => lock?,
    };
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared)?;
    let ours = lock.metadata()?;
    let there =
        image.lock.metadata().is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
    Ok((there && image.layers.iter().all(|layer| layer.exists())).then_some(lock))
}
