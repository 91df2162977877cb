//! UpdateProjectVisibility, InvalidateProjectCache, ListCuratedEnvironmentImages.

use api::Timestamp;
use api::arn::Resource;
use api::codebuild::{
    InvalidateProjectCacheInput, InvalidateProjectCacheOutput, ListCuratedEnvironmentImagesInput,
    ListCuratedEnvironmentImagesOutput, Project, ProjectVisibilityType, UpdateProjectVisibilityInput,
    UpdateProjectVisibilityOutput,
};
use uuid::Uuid;

use crate::caller::Caller;
use crate::curated;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::project::{self, required};

impl Engine {
    /// Makes a project public, or private again. COMPAT: AP-067 the alias is the same whenever it is public.
    ///
    /// # Errors
    /// [`Error::InvalidInput`]; [`Error::NotFound`].
    pub async fn update_project_visibility(
        &self,
        caller: &Caller,
        input: UpdateProjectVisibilityInput,
    ) -> Result<UpdateProjectVisibilityOutput> {
        let arn = required(input.project_arn.clone(), "projectArn")?;
        let visibility = required(input.project_visibility.clone(), "projectVisibility")?;
        let parsed = self.arn(&arn);
        let Some(Resource::Project(_)) = parsed.as_ref().and_then(api::Arn::codebuild_resource) else {
            return Error::invalid(format!("Invalid projectArn {arn}: it is not the ARN of a project"));
        };
        let role = input.resource_access_role;
        let role = role.map(|role| project::role_arn(&role, self.setting(caller))).transpose()?;
        let name = self.project_name(caller, &arn).ok_or_else(|| self.no_such_project(caller, &arn))?;
        let project = self.project(caller, &arn).await?;
        let role = role.or(project.resource_access_role);
        let alias = match visibility == ProjectVisibilityType::PublicRead {
            true => {
                let fresh = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
                Some(self.shared.records.project_alias(&self.scope(caller), &name, &fresh).await?)
            }
            false => None,
        };
        let change = |project: Project| {
            Ok(Project {
                project_visibility: Some(visibility.clone()),
                public_project_alias: alias.clone(),
                resource_access_role: role.clone(),
                last_modified: Some(Timestamp::from_millis(self.shared.config.clock.now_ms())),
                ..project
            })
        };
        let project = self.change_project(caller, &arn, change).await?;
        Ok(UpdateProjectVisibilityOutput {
            project_arn: project.arn,
            public_project_alias: alias,
            project_visibility: Some(visibility),
        })
    }

    /// What was cached for the project's builds is not used by later ones. COMPAT: AP-066.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn invalidate_project_cache(
        &self,
        caller: &Caller,
        input: InvalidateProjectCacheInput,
    ) -> Result<InvalidateProjectCacheOutput> {
        let given = required(input.project_name, "projectName")?;
        let missing = || self.no_such_project(caller, &given);
        let name = self.project_name(caller, &given).ok_or_else(missing)?;
        match self.shared.records.invalidate_project_cache(&self.scope(caller), &name).await? {
            true => Ok(InvalidateProjectCacheOutput::default()),
            false => Err(missing()),
        }
    }

    /// The curated images that builds can have here. COMPAT: AP-068, EN-033.
    ///
    /// # Errors
    /// None; there is a `Result` as for every operation.
    pub async fn list_curated_environment_images(
        &self,
        _: &Caller,
        _: ListCuratedEnvironmentImagesInput,
    ) -> Result<ListCuratedEnvironmentImagesOutput> {
        Ok(ListCuratedEnvironmentImagesOutput { platforms: Some(curated::platforms(&self.shared.config)) })
    }
}
