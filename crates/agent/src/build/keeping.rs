//! Environments kept at phase borders, and builds that begin in one (see [`crate::snapshots`]).
//!
//! At a border the container is ended and the next one made on what it wrote: nothing is copied. What is no file would be lost by
//! that, so there is no border while a process lives or something is in memory; the build goes on in its container as it is.

use std::path::{Path, PathBuf};

use container::Prepared;

use super::context::client_error;
use super::layout::{self, SCRIPTS};
use super::{Build, Ended};
use crate::journal::Phase;
use crate::plan::{Entry, Source};
use crate::session::Halt;
use crate::shells::Surroundings;
use crate::snapshots::{CachedFolder, Kept, Left, Point, Record, Shelf, fingerprint};
use crate::{inside, shell};

/// The phases that commands run in, in their order.
pub(super) const COMMAND_PHASES: [Phase; 4] =
    [Phase::Install, Phase::PreBuild, Phase::Build, Phase::PostBuild];

/// What a build knows of its kept environments.
#[derive(Debug)]
pub(super) struct Keeping {
    pub(super) shelf: Shelf,
    /// The environment this build began in, if it did not begin at its beginning.
    entered: Option<(Entry, Record, Kept)>,
    /// Something has run since the last border.
    pub(super) is_dirty: bool,
    /// Phases without commands since the last border: theirs is the environment of the next one.
    waiting: Vec<Phase>,
    /// The first phase that failed.
    failed: Option<Phase>,
    /// A phase has begun: what was kept before is replaced.
    has_begun: bool,
    /// The layers of the failure, if there was a border after it.
    left: Option<Kept>,
}

impl Build<'_> {
    /// Takes the folder for environments, and the one to begin in.
    pub(super) fn open_shelf(&mut self) -> Result<Ended, Halt> {
        let Some(snapshots) = &self.plan.snapshots else { return Ok(Ok(())) };
        let Some(mut shelf) = Shelf::open(&snapshots.folder, self.plan)? else {
            return match snapshots.entry {
                Some(_) => {
                    Ok(Err(client_error("Another build of this folder is running and uses the snapshots")))
                }
                None => self.say("No snapshots are kept: another build of this folder is running").map(Ok),
            };
        };
        let entered = match &snapshots.entry {
            None => None,
            Some(entry) => match find(shelf.folder(), entry)? {
                Ok((record, kept)) => Some((entry.clone(), record, kept)),
                Err(why) => return Ok(Err(client_error(why))),
            },
        };
        if let Some((_, _, kept)) = &entered {
            shelf.stand_on(kept);
        }
        self.keeping = Some(Keeping {
            shelf,
            entered,
            is_dirty: false,
            waiting: Vec::new(),
            failed: None,
            has_begun: false,
            left: None,
        });
        Ok(Ok(()))
    }

    /// Takes up variables and outcome of the environment this build began in, and says what is not as it was.
    pub(super) fn enter_snapshot(&mut self) -> Result<(), Halt> {
        let phases = COMMAND_PHASES.map(|phase| (phase, self.phase_fingerprint(phase)));
        let variables = self.initial_variables();
        let known = variables.iter().filter(|(name, _)| !self.fetched.variables.contains_key(*name));
        let now = known.map(|(name, value)| (name.clone(), fingerprint(value.as_bytes()))).collect();
        let fetched = &self.fetched.variables;
        let is_bash = self.shell() == "bash";
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        keeping.shelf.record.is_bash = is_bash;
        keeping.shelf.record.phases = phases.into();
        keeping.shelf.record.variables = now;
        let Some((Entry::Before { phase: first, .. }, record, kept)) = keeping.entered.clone() else {
            return Ok(());
        };
        let mut said = keeping.shelf.record.follow(&record, first);
        // What was fetched is not known to have changed, but is in no snapshot.
        let changed: Vec<(&str, &str)> = variables
            .iter()
            .filter(|(name, _)| fetched.contains_key(*name) || keeping.has_changed(&record, name))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        // Each build has a host of its own.
        let hostname = layout::hostname(self.plan);
        let is_ours = |name: &str, value: &str| {
            self.plan.service_variables.contains_key(name) || (name == "HOSTNAME" && value == hostname)
        };
        let news =
            changed.iter().filter(|(name, value)| !fetched.contains_key(*name) && !is_ours(name, value));
        let told: Vec<&str> = news.map(|(name, _)| *name).collect();
        if !told.is_empty() {
            said.push(format!(
                "Warning: {} changed since the snapshot: what ran before had other values",
                told.join(", ")
            ));
        }
        if let Some(state) = keeping.shelf.state(&kept)? {
            self.state.restore = state;
            self.state.restore.extend(shell::exports(changed.into_iter()));
        }
        (self.last_exit, self.succeeding) = (kept.last_exit, kept.succeeding);
        said.iter().try_for_each(|line| self.say(line))
    }

    /// Whether this is no build but a look at what one left; shells find its variables then.
    pub(super) fn is_visit(&mut self) -> bool {
        let entered = self.keeping.as_ref().and_then(|keeping| Some((keeping, keeping.entered.as_ref()?)));
        let Some((keeping, (Entry::Left { build_id }, record, kept))) = entered else { return false };
        let state = keeping.shelf.state(kept).ok().flatten();
        let left = record.left.as_ref();
        let name = match left.and_then(|left| left.failed) {
            Some(failed) => format!("{build_id} {}", failed.name()),
            None => build_id.clone(),
        };
        self.session.shells.surroundings = Surroundings {
            restore: state.unwrap_or_else(|| self.initial_state()),
            shell: record.shell(),
            env: self.foreign_variables(),
            user: left.and_then(|left| left.user.clone()),
            name,
        };
        true
    }

    /// Whether the environment is one that an earlier build left, its sources as they were.
    pub(super) fn begins_within(&self) -> bool {
        let entered = self.keeping.as_ref().and_then(|keeping| keeping.entered.as_ref());
        matches!(entered, Some((_, _, kept)) if !kept.is_empty())
    }

    /// Shows the cached folders of the environment that is looked at.
    pub(super) fn show_cached_again(&mut self) -> Result<(), Halt> {
        let entered = self.keeping.as_ref().and_then(|keeping| keeping.entered.as_ref());
        let folders = entered.map(|(_, record, _)| record.cached.clone()).unwrap_or_default();
        if folders.is_empty() {
            return Ok(());
        }
        self.session.log.stop_syncing();
        self.show_folders(&folders)?;
        Ok(self.session.log.sync_regularly(&self.plan.log)?)
    }

    /// Something is about to run before the phases; false if the environment this build began in has it behind it.
    pub(super) fn changes_environment(&mut self) -> bool {
        let Some(keeping) = &mut self.keeping else { return true };
        if matches!(&keeping.entered, Some((_, _, kept)) if !kept.is_empty()) {
            return false;
        }
        keeping.is_dirty = true;
        true
    }

    /// Whether the phase is one that the environment this build began in has behind it; says so.
    pub(super) fn skips(&mut self, phase: Phase) -> Result<bool, Halt> {
        let entered = self.keeping.as_ref().and_then(|keeping| keeping.entered.as_ref());
        let Some((Entry::Before { phase: first, build_id }, ..)) = entered else { return Ok(false) };
        if phase >= *first {
            return Ok(false);
        }
        let line = format!("Skipping phase {}: its environment is kept from {build_id}", phase.name());
        self.say(&line)?;
        Ok(true)
    }

    /// The border before a phase: the environment is kept, if it can be.
    pub(super) fn border(&mut self, phase: Phase) -> Result<(), Halt> {
        let has_commands = self.has_commands(phase);
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        keeping.has_begun = true;
        keeping.waiting.push(phase);
        if !has_commands {
            return Ok(());
        }
        let point = self.point()?;
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        if let (Some(_), Point::Kept(kept)) = (keeping.failed, &point) {
            keeping.left.get_or_insert_with(|| kept.clone());
        }
        // Until something has run, what the build before kept is worth more.
        let is_worth_it = matches!(&point, Point::Kept(kept) if !kept.is_empty());
        keeping.settle(point);
        keeping.is_dirty = true;
        if is_worth_it {
            keeping.save();
        }
        self.prepare_next(phase)
    }

    /// What can be made of the next container is made before it is needed: the kernel is slow with cgroups.
    fn prepare_next(&mut self, phase: Phase) -> Result<(), Halt> {
        let has_next = COMMAND_PHASES.into_iter().any(|later| later > phase && self.has_commands(later));
        let Some(home) = self.environment.as_mut().filter(|_| has_next) else { return Ok(()) };
        self.session.log.stop_syncing();
        home.next_name();
        // One that cannot be prepared is told when it is needed.
        home.prepared = Prepared::new(&home.name).ok();
        self.session.log.sync_regularly(&self.plan.log).map_err(Halt::from)
    }

    /// The environment of now. Its container has ended then and another taken its place.
    fn point(&mut self) -> Result<Point, Halt> {
        let (last_exit, succeeding) = (self.last_exit, self.succeeding);
        let is_dirty = self.keeping.as_ref().is_some_and(|keeping| keeping.is_dirty);
        if is_dirty {
            if let Some(why) = self.unquiet()?.or_else(|| self.keep_state().err()) {
                return Ok(Point::Missing(why));
            }
            self.end_layer()?;
            self.make_container()?.map_err(|error| Halt::Fault(error.to_string()))?;
            self.session.log.sync_regularly(&self.plan.log)?;
            if let Some(spec) = self.buildspec.clone() {
                let _ = self.install_git_credentials(&spec)?;
            }
        }
        let shelf = self.keeping.as_ref().map(|keeping| &keeping.shelf);
        Ok(match shelf {
            Some(shelf) => Point::Kept(shelf.kept(last_exit, succeeding)),
            None => Point::Missing("no environments are kept".into()),
        })
    }

    /// Ends the container and closes its layer.
    fn end_layer(&mut self) -> Result<(), Halt> {
        self.session.log.stop_syncing();
        self.session.end_container()?;
        if let Some(keeping) = &mut self.keeping {
            keeping.shelf.close_layer();
            keeping.is_dirty = false;
        }
        Ok(())
    }

    /// The variables go into the open layer while there is still a way back.
    fn keep_state(&mut self) -> Result<(), String> {
        let state = self.state_without_secrets()?;
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        let kept = keeping.shelf.write_state(&state);
        kept.map_err(|error| format!("its variables could not be kept: {error}"))
    }

    /// What was fetched from elsewhere never goes to the disk (P10); it is fetched again.
    fn state_without_secrets(&mut self) -> Result<Vec<u8>, String> {
        if self.fetched.variables.is_empty() {
            return Ok(self.state.restore.clone());
        }
        let names: Vec<&str> = self.fetched.variables.keys().map(String::as_str).collect();
        let process = self.process(shell::saved_without(&names), None);
        let printed = self.session.capture(process);
        let saved = printed.map_err(|halt| format!("its variables could not be read: {halt:?}"))?;
        let saved = saved.ok_or("there is no shell to read its variables")?;
        match self.fetched.variables.iter().find(|(_, value)| shell::holds(&saved, value)) {
            Some((name, _)) => {
                Err(format!("another variable holds the value of {name}, which must not be kept"))
            }
            None => Ok(saved),
        }
    }

    /// What would be lost with the container, in words.
    fn unquiet(&mut self) -> Result<Option<String>, Halt> {
        let mut folders = vec![PathBuf::from(SCRIPTS)];
        if let Source::Folder(_) = self.plan.source {
            folders.push(self.source_folder.join(".buildyard"));
        }
        let mut found = Vec::new();
        let status = self.session.call("quiet", &folders, Vec::new(), &mut |piece| {
            found.extend_from_slice(piece);
            Ok(())
        })?;
        if status != container::ExitStatus::Code(inside::DONE) {
            return Ok(Some(format!("looking around inside ended with {status:?}")));
        }
        Ok(Some(String::from_utf8_lossy(&found).into_owned()).filter(|found| !found.is_empty()))
    }

    /// A phase failed; its environment is the one to look into.
    pub(super) fn phase_failed(&mut self, phase: Phase) {
        if let Some(keeping) = &mut self.keeping {
            keeping.failed.get_or_insert(phase);
        }
    }

    /// The end of the container, whatever led to it; what it wrote is kept.
    pub(super) fn end_environment(&mut self) -> Result<(), Halt> {
        if self.keeping.is_none() {
            return self.session.end_container();
        }
        if let Some(home) = &mut self.environment {
            home.prepared = None;
        }
        let why = match self.session.has_container() {
            true => {
                self.unquiet().unwrap_or_else(|halt| Some(format!("it could not be looked into: {halt:?}")))
            }
            false => Some("the build was ended before".into()),
        };
        let state = self.keep_state();
        self.end_layer()?;
        let (user, last_exit, succeeding) = (self.user_of_failure(), self.last_exit, self.succeeding);
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        if !keeping.has_begun {
            return Ok(());
        }
        let kept = keeping.shelf.kept(last_exit, succeeding);
        keeping.settle(match why.or(state.err()) {
            None => Point::Kept(kept.clone()),
            Some(why) => Point::Missing(why),
        });
        let kept = keeping.left.take().unwrap_or(kept);
        keeping.shelf.record.left = Some(Left { kept, failed: keeping.failed, user });
        keeping.save();
        Ok(())
    }

    fn user_of_failure(&self) -> Option<String> {
        let failed = self.keeping.as_ref().and_then(|keeping| keeping.failed)?;
        self.user_of(&self.spec_of(failed))
    }

    fn has_commands(&self, phase: Phase) -> bool {
        let spec = self.spec_of(phase);
        !spec.commands.is_empty() || !spec.finally.is_empty()
    }

    /// Changes with what the phase does.
    fn phase_fingerprint(&self, phase: Phase) -> u64 {
        let spec = self.spec_of(phase);
        let runtimes = format!("{:?}", spec.runtime_versions);
        let user = self.user_of(&spec).unwrap_or_default();
        let parts = spec.commands.iter().chain(&spec.finally).chain([&runtimes, &user]);
        let parts: Vec<&str> = parts.map(String::as_str).collect();
        fingerprint(parts.join("\0").as_bytes())
    }
}

impl Keeping {
    /// That snapshots cannot be kept is no reason for a build to fail.
    fn save(&self) {
        if let Err(error) = self.shelf.save() {
            eprintln!("agent: the record of snapshots could not be written: {error}");
        }
    }

    fn has_changed(&self, since: &Record, variable: &str) -> bool {
        since.variables.get(variable) != self.shelf.record.variables.get(variable)
    }

    /// What the environments show besides their layers.
    pub(super) fn note_cached(&mut self, folders: Vec<CachedFolder>) {
        self.shelf.record.cached = folders;
        if self.has_begun {
            self.save();
        }
    }

    fn settle(&mut self, point: Point) {
        for phase in self.waiting.drain(..) {
            self.shelf.record.points.insert(phase, point.clone());
        }
    }
}

/// The environment to begin in, or why there is none.
fn find(folder: &Path, entry: &Entry) -> Result<Result<(Record, Kept), String>, Halt> {
    let (Entry::Before { build_id, .. } | Entry::Left { build_id }) = entry;
    let Some(record) =
        Record::read(folder)?.filter(|record| record.build_id == *build_id && record.is_trusted())
    else {
        return Ok(Err(format!("The snapshots of {build_id} are no longer there")));
    };
    let kept = match entry {
        Entry::Before { phase, .. } => match record.points.get(phase) {
            Some(Point::Kept(kept)) => Ok(kept.clone()),
            Some(Point::Missing(why)) => Err(format!("There is no snapshot before {}: {why}", phase.name())),
            None => Err(format!("There is no snapshot before {}", phase.name())),
        },
        Entry::Left { .. } => match &record.left {
            Some(left) => Ok(left.kept.clone()),
            None => Err(format!("{build_id} left no environment")),
        },
    };
    Ok(kept.map(|kept| (record, kept)))
}
