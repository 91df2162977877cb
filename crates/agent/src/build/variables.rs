//! Variables: what the first command finds set, what a build exports.

use std::collections::BTreeMap;

use super::layout::{self, DEFAULT_PATH, OUTPUT, READONLY, USER_BIN};
use super::{Build, git};
use crate::endpoint::Endpoint;
use crate::journal::Event;
use crate::session::Halt;
use crate::shell;

impl Build<'_> {
    /// The environment of the first command.
    pub(super) fn initial_state(&self) -> Vec<u8> {
        shell::initial(self.initial_variables().iter(), &self.source_folder)
    }

    /// COMPAT: BS-043, BS-044 image, buildspec, project and StartBuild variables in this order, then the service's own.
    /// What was fetched is only what wins.
    pub(super) fn initial_variables(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = self.plan.environment.variables.clone();
        if let Some(spec) = &self.buildspec {
            all.extend(spec.env.variables.iter().cloned());
        }
        all.extend(self.plan.variables.clone());
        all.extend(self.fetched.variables.clone());
        all.extend(self.plan.service_variables.clone());
        if self.buildspec.as_ref().is_some_and(|spec| spec.env.git_credential_helper) {
            git::configure(&mut all);
        }
        all.insert("CODEBUILD_SRC_DIR".into(), self.source_folder.display().to_string());
        // COMPAT: SA-042, EN-052.
        for (at, secondary) in self.plan.secondary_sources.iter().enumerate() {
            let folder = layout::secondary_folder(self.plan, at).display().to_string();
            all.insert(format!("CODEBUILD_SRC_DIR_{}", secondary.identifier), folder);
        }
        if let Some(commit) = &self.resolved_version {
            all.insert("CODEBUILD_RESOLVED_SOURCE_VERSION".into(), commit.clone());
        }
        // COMPAT: EN-061.
        all.insert("CODEBUILD_GOPATH".into(), format!("{OUTPUT}/src{}", self.plan.source_number));
        all.insert("CODEBUILD_CI".into(), "true".into()); // COMPAT: EN-060
        all.entry("HOME".into()).or_insert_with(|| "/root".into()); // COMPAT: EN-058
        let path = all.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
        path.push_str(&format!(":{USER_BIN}")); // COMPAT: EN-064
        // COMPAT: EN-065.
        all.insert("OLDPWD".into(), READONLY.into());
        all.entry("HOSTNAME".into()).or_insert_with(|| layout::hostname(self.plan));
        // A project that names another endpoint means it. COMPAT: EN-062 the rest is the service's.
        for (name, value) in self.session.endpoint.iter().flat_map(Endpoint::variables) {
            match name {
                "AWS_ENDPOINT_URL" => drop(all.entry(name.into()).or_insert(value)),
                _ => drop(all.insert(name.into(), value)),
            }
        }
        all
    }

    /// Variables whose names no shell can hold go to each command directly; and PATH, by which the shell is found.
    pub(super) fn foreign_variables(&self) -> Vec<(String, String)> {
        let image = &self.plan.environment.variables;
        let of_buildspec = self.buildspec.iter().flat_map(|spec| &spec.env.variables);
        let all = image.iter().chain(of_buildspec.map(|(name, value)| (name, value)));
        let all = all.chain(&self.plan.variables).chain(&self.fetched.variables);
        let unique: BTreeMap<&String, &String> = all.filter(|(name, _)| !shell::is_name(name)).collect();
        let mut foreign: Vec<(String, String)> =
            unique.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let path = image.get("PATH").cloned();
        foreign.push(("PATH".into(), path.unwrap_or_else(|| DEFAULT_PATH.into())));
        foreign
    }

    /// COMPAT: BS-053, BS-054 at the end of POST_BUILD, or of the last phase that ran.
    pub(super) fn export_variables(&mut self) -> Result<(), Halt> {
        let names =
            self.buildspec.as_ref().map(|spec| spec.env.exported_variables.clone()).unwrap_or_default();
        let names: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| shell::is_name(name) && !name.starts_with("AWS_"))
            .filter(|name| !self.plan.references.contains_key(*name))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let variables = self.values(&names)?;
        Ok(self.session.record(&Event::Exported { variables })?)
    }

    /// `text` with the present values of its variables; COMPAT: BS-190. The inner error says what is wrong with it.
    pub(super) fn expand(&mut self, text: &str) -> Result<Result<String, String>, Halt> {
        let values = self.values(&buildspec::substitute::names(text))?;
        let expanded = buildspec::substitute::expand(text, |name| values.get(name).map(String::as_str));
        Ok(expanded.map_err(|error| error.to_string()))
    }

    /// The present values of variables that are set; none are where no shell is left to tell.
    pub(super) fn values(&mut self, names: &[&str]) -> Result<BTreeMap<String, String>, Halt> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let process = self.process(shell::values(names), None);
        let printed = self.session.capture(process)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&printed).into_owned();
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}
