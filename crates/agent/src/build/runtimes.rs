//! `runtime-versions`: the image's runtimes are made ready in DOWNLOAD_SOURCE (BS-090..099). What an image offers, and
//! which version is meant, is `buildspec::runtimes`'.

use std::path::Path;

use buildspec::runtimes::{PATH, Runtimes, Selected};
use buildspec::{Buildspec, limits};

use super::context::yaml_error;
use super::{Build, Ended};
use crate::journal::Context;
use crate::session::Halt;
use crate::{inside, shell};

impl Build<'_> {
    /// COMPAT: BS-093 the commands find the build's variables, and what they set reaches the phases.
    pub(super) fn select_runtimes(&mut self, spec: &Buildspec) -> Result<Ended, Halt> {
        let install = spec.phases.install.as_ref();
        let wanted = install.map(|install| install.runtime_versions.as_slice()).unwrap_or_default();
        if wanted.is_empty() {
            // COMPAT: BS-094, BS-096 the image's own defaults.
            self.say("No runtime version selected in buildspec.")?;
            return Ok(Ok(()));
        }
        let runtimes = match self.runtimes()? {
            Ok(Some(runtimes)) => runtimes,
            Ok(None) => {
                // COMPAT: BS-097.
                self.say("Skipping install of runtimes. Runtime version selection is not supported by this build image")?;
                return Ok(Ok(()));
            }
            Err(context) => return Ok(Err(context)),
        };
        let wanted = match self.expanded(wanted)? {
            Ok(wanted) => wanted,
            Err(context) => return Ok(Err(context)),
        };
        let selection = runtimes.select(&wanted);
        for line in &selection.lines {
            self.say(line)?;
        }
        match selection.selected {
            Ok(selected) => self.make_ready(&selected),
            Err(message) => Ok(Err(yaml_error(message))),
        }
    }

    /// What the image offers, if it says so.
    fn runtimes(&mut self) -> Result<Result<Option<Runtimes>, Context>, Halt> {
        let unreadable = |why: String| Ok(Err(yaml_error(format!("{PATH} of the build image: {why}"))));
        match self.read_inside(Path::new(PATH), limits::TEXT_BYTES as u64)? {
            (inside::MISSING, _) => Ok(Ok(None)),
            (inside::DONE, bytes) => match Runtimes::parse(&String::from_utf8_lossy(&bytes)) {
                Ok(runtimes) => Ok(Ok(Some(runtimes))),
                Err(error) => unreadable(error.to_string()),
            },
            _ => unreadable("it is not a regular file".into()),
        }
    }

    /// COMPAT: BS-091, BS-190 a version may name variables.
    fn expanded(
        &mut self,
        wanted: &[(String, String)],
    ) -> Result<Result<Vec<(String, String)>, Context>, Halt> {
        let mut expanded = Vec::new();
        for (runtime, version) in wanted {
            match self.expand(version)? {
                Ok(version) => expanded.push((runtime.clone(), version)),
                Err(error) => return Ok(Err(yaml_error(error))),
            }
        }
        Ok(Ok(expanded))
    }

    fn make_ready(&mut self, selected: &[Selected]) -> Result<Ended, Halt> {
        if !self.changes_environment() {
            return Ok(Ok(()));
        }
        // In version 0.1, too: the phases shall find it.
        let carries = std::mem::replace(&mut self.state.carries, true);
        for one in selected {
            let ended = match one.custom {
                true => self.make_custom_ready(one)?,
                false => self.commands(&one.commands, None)?,
            };
            if ended.is_err() {
                return Ok(ended);
            }
        }
        self.state.carries = carries;
        Ok(Ok(()))
    }

    /// COMPAT: BS-092 with `VERSION` as long as the commands run.
    fn make_custom_ready(&mut self, selected: &Selected) -> Result<Ended, Halt> {
        let before = self.values(&["VERSION"])?;
        let version = format!("\nexport VERSION={}\n", shell::quote(&selected.version));
        self.state.restore.extend_from_slice(version.as_bytes());
        let ended = self.commands(&selected.commands, None)?;
        let after = match before.get("VERSION") {
            Some(value) => format!("\nexport VERSION={}\n", shell::quote(value)),
            None => "\nunset VERSION\n".to_owned(),
        };
        self.state.restore.extend_from_slice(after.as_bytes());
        Ok(ended)
    }
}
