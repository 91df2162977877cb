//! ImportSourceCredentials, ListSourceCredentials, DeleteSourceCredentials.

use api::arn::Resource;
use api::codebuild::{
    DeleteSourceCredentialsInput, DeleteSourceCredentialsOutput, ImportSourceCredentialsInput,
    ImportSourceCredentialsOutput, ListSourceCredentialsInput, ListSourceCredentialsOutput,
};

use crate::caller::Caller;
use crate::credentials;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::project::required;

impl Engine {
    /// Keeps what opens a provider's repositories, in the place of what was there for its server type unless
    /// `shouldOverwrite` is false. COMPAT: AP-110, SA-050, SA-051.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::AlreadyExists`].
    pub async fn import_source_credentials(
        &self,
        caller: &Caller,
        input: ImportSourceCredentialsInput,
    ) -> Result<ImportSourceCredentialsOutput> {
        let overwrite = input.should_overwrite.unwrap_or(true);
        let credential = credentials::import(input, self.region(), &caller.account)?;
        let server = credential.server_type.clone();
        if !self.shared.vault.put_source_credential(&self.scope(caller), credential, overwrite).await? {
            return Err(Error::AlreadyExists(format!(
                "Access token with server type {server} already exists. Delete its access token and try again."
            )));
        }
        let arn = credentials::arn(&server, self.region(), &caller.account);
        Ok(ImportSourceCredentialsOutput { arn: Some(arn) })
    }

    /// All of the account's, without what they open anything with. COMPAT: AP-111, SA-052.
    pub async fn list_source_credentials(
        &self,
        caller: &Caller,
        _: ListSourceCredentialsInput,
    ) -> Result<ListSourceCredentialsOutput> {
        let found = self.shared.vault.source_credentials(&self.scope(caller)).await?;
        let infos = found.iter().map(|one| credentials::shown(one, self.region(), &caller.account));
        Ok(ListSourceCredentialsOutput { source_credentials_infos: Some(infos.collect::<Result<_>>()?) })
    }

    /// COMPAT: AP-112.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for what is no ARN of source credentials, [`Error::NotFound`].
    pub async fn delete_source_credentials(
        &self,
        caller: &Caller,
        input: DeleteSourceCredentialsInput,
    ) -> Result<DeleteSourceCredentialsOutput> {
        let arn = required(input.arn, "arn")?;
        let parsed = self.arn(&arn);
        let Some(Resource::Token(server)) = parsed.as_ref().and_then(api::Arn::codebuild_resource) else {
            return Error::invalid(format!("Invalid arn {arn}: it is not the ARN of source credentials"));
        };
        let is_own = parsed.as_ref().is_some_and(|arn| arn.belongs_to(self.region(), &caller.account));
        let server = server.to_ascii_uppercase();
        let (vault, scope) = (&self.shared.vault, self.scope(caller));
        if !is_own || !vault.delete_source_credential(&scope, &server).await? {
            return Err(Error::NotFound(format!("The source credentials {arn} do not exist")));
        }
        // As it was when they were imported, however it is written here.
        let arn = credentials::arn(&server, self.region(), &caller.account);
        Ok(DeleteSourceCredentialsOutput { arn: Some(arn) })
    }
}
