//! UPLOAD_ARTIFACTS: which artifacts go where.

use std::path::PathBuf;

use super::context::client_error;
use super::{Build, Ended};
use crate::artifacts::{Location, Upload};
use crate::journal::{Context, Event};
use crate::plan::{self, Artifacts};
use crate::session::Halt;
use crate::{inside, shell};

impl Build<'_> {
    /// UPLOAD_ARTIFACTS: what the build has made, then what later builds find again.
    pub(super) fn upload(&mut self) -> Result<Ended, Halt> {
        // COMPAT: BS-115 reports after artifacts, and whatever became of these.
        let uploaded = self.upload_artifacts()?;
        let uploaded = uploaded.and(self.upload_reports()?);
        self.succeeding &= uploaded.is_ok();
        self.save_cache()?;
        Ok(uploaded)
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
            if let Err(context) = self.upload_one(&artifact, identifier, &destination)? {
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

    fn upload_one(
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
                Upload::to_objects(self.place(objects, &target.bucket), target, location)
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
            named: false,
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
        let (uploaded, parcel) = match upload.finish() {
            Ok(uploaded) => uploaded,
            Err(message) => return Ok(Err(client_error(message))),
        };
        if let Some(parcel) = parcel
            && let Err(failure) = self.deliver(parcel)?
        {
            return Ok(Err(client_error(format!("Failed to upload artifacts: {failure}"))));
        }
        Ok(Ok(self.session.record(&Event::ArtifactUploaded(uploaded))?))
    }

    /// COMPAT: BS-190 expanded with the variables of now.
    fn base_directory(&mut self, artifact: &buildspec::Artifacts) -> Result<Result<String, Context>, Halt> {
        let text = artifact.base_directory.as_deref().unwrap_or(".");
        Ok(self.expand(text)?.map_err(client_error))
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
        let printed = self.session.capture(process)?.unwrap_or_default();
        let name = String::from_utf8_lossy(&printed).trim().to_owned();
        Ok(if name.is_empty() { target.name.clone() } else { name })
    }
}

enum Destination {
    Folder(PathBuf),
    Objects(PathBuf, Box<plan::ArtifactTarget>),
}
