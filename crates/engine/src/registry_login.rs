//! Who pulls a build's image, and with which login: `imagePullCredentialsType` and `registryCredential`.
//!
//! The login is looked up when the image is about to be pulled, and told to nobody else: it is in no record and no log.

use agent::answer::Answer;
use agent::journal::Secret;
use api::codebuild::{ImagePullCredentialsType, Project, RegistryCredential};
use serde::Deserialize;
use store::records::Scope;

use crate::config::{Login, Puller};
use crate::error::Result;
use crate::references::{Asked, References};

/// COMPAT: EN-025 what such a secret holds; other keys do not matter.
#[derive(Deserialize)]
struct Stored {
    username: String,
    password: String,
}

/// Who pulls the image of this project as a build sees it, or why nobody can, for the build's owner.
///
/// COMPAT: EN-024 with CODEBUILD the service pulls, which here is whoever runs the server; with SERVICE_ROLE the project does.
pub(crate) async fn puller(
    settings: &Project,
    references: &dyn References,
    scope: &Scope,
) -> Result<std::result::Result<Puller, String>> {
    let environment = settings.environment.as_ref();
    let by_role = environment.and_then(|environment| environment.image_pull_credentials_type.as_ref())
        == Some(&ImagePullCredentialsType::ServiceRole);
    if !by_role {
        return Ok(Ok(Puller::Server));
    }
    let credential = environment.and_then(|environment| environment.registry_credential.as_ref());
    match credential {
        None => Ok(Ok(Puller::Project(None))),
        Some(credential) => {
            let login = login(credential, references, scope).await?;
            Ok(login.map(|login| Puller::Project(Some(login))))
        }
    }
}

async fn login(
    credential: &RegistryCredential,
    references: &dyn References,
    scope: &Scope,
) -> Result<std::result::Result<Login, String>> {
    let id = credential.credential.clone().unwrap_or_default();
    let secret = Secret { id: id.clone(), stage: None, version: None };
    let asked = Asked { secrets: vec![secret.clone()], ..Asked::default() };
    let text = match references.resolve(scope, &asked).await? {
        Answer::Values { mut secrets, .. } => secrets.remove(&secret).unwrap_or_default(),
        Answer::Refused { message, .. } => return Ok(Err(format!("registryCredential {message}"))),
        _ => String::new(),
    };
    // What a JSON parser says may quote the password.
    Ok(match serde_json::from_str::<Stored>(&text) {
        Ok(Stored { username, password }) => Ok(Login { username, password }),
        Err(_) => Err(format!(
            "registryCredential {id}: the secret is no JSON object with the texts username and password"
        )),
    })
}
