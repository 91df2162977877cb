//! DOWNLOAD_SOURCE: the source, the buildspec, and the lines that tell of them.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use buildspec::{Buildspec, Version};
use container::ExitStatus;

use super::context::{client_error, source_failure, yaml_error};
use super::layout::{ARTIFACTS, INLINE_BUILDSPEC, READONLY, secondary_folder};
use super::objects::Piece;
use super::{Build, Ended};
use crate::fetching;
use crate::inside;
use crate::journal::Context;
use crate::plan::{self, Source};
use crate::session::Halt;
use crate::transfer::Listed;

/// Objects of a folder that are fetched and written at once.
const AT_ONCE: usize = 100;

impl Build<'_> {
    /// COMPAT: LC-113 the order of what happens, and its lines.
    pub(super) fn download_source(&mut self) -> Result<Ended, Halt> {
        let source = self.source_folder.display().to_string();
        self.say(&format!("Running on CodeBuild {}", self.plan.fleet_label))?;
        for line in ["Waiting for agent ping", "Waiting for DOWNLOAD_SOURCE"] {
            self.say(line)?;
        }
        if let Err(context) = self.fetch_sources()? {
            return Ok(Err(context));
        }
        self.say("Phase is DOWNLOAD_SOURCE")?;
        self.say(&format!("CODEBUILD_SRC_DIR={source}"))?;
        let spec = match self.read_spec()? {
            Ok(spec) => spec,
            Err(context) => return Ok(Err(context)),
        };
        for prepare in [
            Build::fetch_references,
            Build::install_git_credentials,
            Build::begin,
            Build::restore_cache,
            Build::select_runtimes,
        ] {
            if let Err(context) = prepare(self, &spec)? {
                return Ok(Err(context));
            }
        }
        self.announce(&spec, &source)?;
        Ok(Ok(()))
    }

    /// Finds the buildspec, shows it where CodeBuild does, and reads it.
    fn read_spec(&mut self) -> Result<Result<Buildspec, Context>, Halt> {
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
        if matches!(self.plan.source, Source::Git(_)) {
            // COMPAT: LC-113, said of every provider.
            self.say(
                "Setting HTTP client timeout to higher timeout for Github and GitHub Enterprise sources",
            )?;
        }
        self.say("Processing environment variables")?;
        let parsed = match buildspec::parse_bytes(&text) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Err(yaml_error(error.to_string()))),
        };
        for warning in &parsed.warnings {
            self.say(&format!("Warning: {warning}"))?;
        }
        match unavailable(&parsed.buildspec) {
            Some(context) => Ok(Err(context)),
            None => Ok(Ok(parsed.buildspec)),
        }
    }

    /// From here on commands can run.
    fn begin(&mut self, spec: &Buildspec) -> Result<Ended, Halt> {
        self.state.carries = spec.version == Version::V02;
        self.buildspec = Some(spec.clone());
        self.state.restore = self.initial_state();
        Ok(Ok(()))
    }

    fn announce(&mut self, spec: &Buildspec, source: &str) -> Result<(), Halt> {
        self.say(&format!("Moving to directory {source}"))?;
        if spec.cache.as_ref().is_none_or(|cache| cache.paths.is_empty()) {
            self.say("Cache is not defined in the buildspec")?;
            match self.cache_section(spec) {
                Some(_) => {
                    self.say("Caching folders of common tools, as no paths are specified to be cached")?
                }
                None => self.say("Skip cache due to: no paths specified to be cached")?,
            }
        }
        if spec.proxy.logs || spec.proxy.upload_artifacts {
            // BS-060: there is no way to them that a proxy could stand in.
            self.say("Skip proxy due to: logs and artifacts are kept where the build runs")?;
        }
        self.say("Registering with agent")?;
        let phases = spec.phases_in_yaml();
        self.say(&format!("Phases found in YAML: {}", phases.len()))?;
        for (name, phase) in phases {
            let commands = phase.commands.len() + phase.finally.len();
            self.say(&format!(" {}: {commands} commands", name.as_upper_str()))?;
        }
        Ok(())
    }

    /// The primary source and the secondary ones, each into its folder.
    fn fetch_sources(&mut self) -> Result<Ended, Halt> {
        let plan = self.plan;
        let folder = self.source_folder.clone();
        // What is shown is there from the start; what is carried in has to come first.
        if !self.begins_within()
            && !self.is_brought()
            && let Err(context) = self.leave_out()?
        {
            return Ok(Err(context));
        }
        if let Err(context) = self.fetch_source(&plan.source, &folder, "primary source")? {
            return Ok(Err(context));
        }
        for (at, secondary) in plan.secondary_sources.iter().enumerate() {
            let (folder, name) =
                (secondary_folder(plan, at), format!("secondary source {}", secondary.identifier));
            if let Err(context) = self.fetch_source(&secondary.source, &folder, &name)? {
                return Ok(Err(context));
            }
        }
        if self.is_brought() { self.leave_out() } else { Ok(Ok(())) }
    }

    /// Whether somebody else has made the environment.
    fn is_brought(&self) -> bool {
        matches!(self.plan.environment.rootfs, plan::Rootfs::Image(_))
    }

    /// Removes inside what the build shall not see of its sources.
    fn leave_out(&mut self) -> Result<Ended, Halt> {
        let plan = self.plan;
        for left in &plan.left_out {
            let at = plan
                .secondary_sources
                .iter()
                .position(|one| left.identifier.as_ref() == Some(&one.identifier));
            let root = at.map_or_else(|| self.source_folder.clone(), |at| secondary_folder(plan, at));
            let left = inside::LeaveOut { root, paths: left.paths.clone() };
            if let Err(context) = self.inside("leave-out", &left, None)? {
                return Ok(Err(context));
            }
        }
        Ok(Ok(()))
    }

    /// Copies a folder of this host into the environment.
    fn carry(&mut self, from: &Path, folder: &Path) -> Result<Ended, Halt> {
        let mut archive = self.passing()?;
        if let Err(error) = fetching::pack(&fetching::Tree::of(from), archive.try_clone()?) {
            return Ok(Err(client_error(format!("the source {} cannot be read: {error}", from.display()))));
        }
        std::io::Seek::rewind(&mut archive)?;
        let unpacked = self.inside("unpack-source", &fetching::Tree::of(folder), Some(archive))?;
        if unpacked.is_err() || !from.join(ARTIFACTS).is_dir() {
            return Ok(unpacked);
        }
        // Artifacts of earlier builds are not part of the source.
        self.inside(
            "leave-out",
            &inside::LeaveOut { root: folder.to_owned(), paths: vec![ARTIFACTS.into()] },
            None,
        )
    }

    /// `name` is what messages call it.
    fn fetch_source(&mut self, source: &Source, folder: &Path, name: &str) -> Result<Ended, Halt> {
        match source {
            Source::Folder(from) if self.is_brought() => self.carry(from, folder),
            Source::None | Source::Folder(_) => Ok(Ok(())),
            Source::ObjectZip { objects, bucket, key, version } => {
                let archive = match self.get_object(objects, (bucket, key), version.as_deref())? {
                    Ok((archive, _)) => archive,
                    Err(failure) => return Ok(Err(source_failure(failure, bucket, key)?)),
                };
                self.inside("unzip", &inside::Unzip { target: folder.to_owned() }, Some(archive))
            }
            Source::ObjectFolder { objects, bucket, prefix } => {
                self.fetch_folder(objects, bucket, prefix, folder)
            }
            Source::Git(git) => self.fetch_repository(git, folder, name),
        }
    }

    fn fetch_folder(
        &mut self,
        root: &Path,
        bucket: &str,
        prefix: &str,
        folder: &Path,
    ) -> Result<Ended, Halt> {
        let mut after: Option<String> = None;
        loop {
            let page = match self.list_objects(root, (bucket, prefix), after)? {
                Ok(page) => page,
                Err(failure) => return Ok(Err(source_failure(failure, bucket, prefix)?)),
            };
            let wanted = |object: &Listed| object.key.len() > prefix.len() && object.key.starts_with(prefix);
            let objects: Vec<Listed> = page.objects.into_iter().filter(wanted).collect();
            for some in objects.chunks(AT_ONCE) {
                let (files, pieces) = match self.get_objects(root, bucket, some)? {
                    Ok(got) => got,
                    Err(failure) => return Ok(Err(source_failure(failure, bucket, prefix)?)),
                };
                let piece = |(object, piece): (&Listed, Piece)| inside::Piece {
                    relative: object.key[prefix.len()..].to_owned(),
                    file: piece.file,
                    offset: piece.offset,
                    size: piece.size,
                };
                let pieces = some.iter().zip(pieces).map(piece).collect();
                let place = inside::PlaceAll { target: folder.to_owned(), pieces };
                if let Err(context) = self.inside("place-all", &place, files)? {
                    return Ok(Err(context));
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(Ok(())),
            }
        }
    }

    /// Calls a function that writes inside; what it complains about fails the phase.
    pub(super) fn inside(
        &mut self,
        function: &str,
        arguments: &impl serde::Serialize,
        content: impl IntoIterator<Item = File>,
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
                let file = match self.get_object(objects, (bucket, key), None)? {
                    Ok((file, _)) => file,
                    Err(failure) => return Ok(Err(source_failure(failure, bucket, key)?)),
                };
                let mut text = Vec::new();
                std::io::Read::read_to_end(&mut std::io::Read::take(file, limit + 1), &mut text)?;
                Ok(Ok(text))
            }
        }
    }

    /// COMPAT: BS-004 a buildspec from S3 is shown read-only.
    fn show_buildspec(&mut self, text: &[u8]) -> Result<Ended, Halt> {
        self.place_inside(READONLY, "buildspec.yml", 0o444, text)
    }

    /// Writes a file of root's inside.
    pub(super) fn place_inside(
        &mut self,
        folder: &str,
        name: &str,
        mode: u32,
        bytes: &[u8],
    ) -> Result<Ended, Halt> {
        let file =
            rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let mut file = File::from(file);
        std::io::Write::write_all(&mut file, bytes)?;
        std::io::Seek::rewind(&mut file)?;
        let place = inside::Place { target: folder.into(), relative: name.into(), mode };
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

    pub(super) fn read_inside(&mut self, path: &Path, limit: u64) -> Result<(i32, Vec<u8>), Halt> {
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
}

/// What a buildspec asks for that this version cannot give, when leaving it out would change what runs.
fn unavailable(spec: &Buildspec) -> Option<Context> {
    let message = |what: &str| Some(yaml_error(format!("{what} is not available in this version")));
    match spec.env.shell {
        Some(buildspec::Shell::PowerShell | buildspec::Shell::Cmd) => message("A Windows shell in env.shell"),
        _ => None,
    }
}
