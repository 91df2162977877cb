//! Source credentials: what may be imported, how it is shown, and what of it opens a git server. Pure.
//!
//! Which of them a build gets, and when, is `git`'s. The token itself is opaque here and appears in no message.

use api::arn::Resource;
use api::codebuild::{AuthType, ImportSourceCredentialsInput, ServerType, SourceCredentialsInfo};
use api::{AccountId, Arn, Region};
use serde::{Deserialize, Serialize};
use store::records::SourceCredential;

use crate::error::{Error, Result};
use crate::project::required;

/// What is stored beside the token.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    auth_type: AuthType,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
}

/// A user name and password, or where they are.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Opener {
    Password {
        username: String,
        password: String,
    },
    /// The ARN of a secret that holds them (SA-054).
    Secret(String),
    /// A connection, which nobody here can ask.
    Connection,
}

/// A secret's text that holds a credential. COMPAT: SA-054.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SecretText {
    server_type: ServerType,
    auth_type: AuthType,
    token: String,
    username: Option<String>,
}

/// Checks what is to be imported. COMPAT: AP-110, SA-050, SA-052.
pub(crate) fn import(
    input: ImportSourceCredentialsInput,
    region: &Region,
    account: &AccountId,
) -> Result<SourceCredential> {
    let server = required(input.server_type, "serverType")?;
    let auth = required(input.auth_type, "authType")?;
    let token = required(input.token, "token")?.expose().to_string();
    check_kind(&server, &auth)?;
    check_username(&auth, input.username.as_deref())?;
    check_token(&auth, &token, region, account)?;
    let document = Document { auth_type: auth, username: input.username };
    Ok(SourceCredential {
        server_type: server.as_str().to_string(),
        token,
        document: serde_json::to_string(&document)?,
    })
}

fn check_kind(server: &ServerType, auth: &AuthType) -> Result<()> {
    let allowed: &[AuthType] = match server {
        ServerType::Github => {
            &[AuthType::PersonalAccessToken, AuthType::Codeconnections, AuthType::SecretsManager]
        }
        ServerType::GithubEnterprise => &[AuthType::PersonalAccessToken, AuthType::SecretsManager],
        ServerType::Bitbucket => &[
            AuthType::BasicAuth,
            AuthType::PersonalAccessToken,
            AuthType::Codeconnections,
            AuthType::SecretsManager,
        ],
        _ => &[AuthType::Codeconnections],
    };
    if *auth == AuthType::Oauth {
        return Error::invalid(
            "Invalid authType OAUTH: it cannot be imported, only connected in the console",
        );
    }
    if !allowed.contains(auth) {
        let allowed: Vec<&str> = allowed.iter().map(AuthType::as_str).collect();
        let allowed = allowed.join(", ");
        return Error::invalid(format!(
            "Invalid authType {auth} for serverType {server}: use one of {allowed}"
        ));
    }
    Ok(())
}

fn check_username(auth: &AuthType, username: Option<&str>) -> Result<()> {
    match (auth, username) {
        (AuthType::BasicAuth, None) => Error::invalid("Invalid username: authType BASIC_AUTH needs one"),
        (AuthType::BasicAuth, Some(_)) | (_, None) => Ok(()),
        (auth, Some(_)) => Error::invalid(format!("Invalid username: it is not for authType {auth}")),
    }
}

/// Where the token is the name of something else, it must be a name. What it is instead may be secret.
fn check_token(auth: &AuthType, token: &str, region: &Region, account: &AccountId) -> Result<()> {
    let arn: Option<Arn> = token.parse().ok();
    match auth {
        AuthType::SecretsManager => match arn {
            Some(arn) if arn.service() == "secretsmanager" && arn.belongs_to(region, account) => Ok(()),
            _ => Error::invalid(
                "Invalid token: authType SECRETS_MANAGER needs the ARN of a secret in this account and Region",
            ),
        },
        AuthType::Codeconnections => match arn {
            Some(arn) if is_connection(&arn) && arn.is_in_partition_of(region) => Ok(()),
            _ => Error::invalid("Invalid token: authType CODECONNECTIONS needs the ARN of a connection"),
        },
        _ => Ok(()),
    }
}

fn is_connection(arn: &Arn) -> bool {
    matches!(arn.service(), "codeconnections" | "codestar-connections")
        && arn.resource().starts_with("connection/")
}

/// COMPAT: SA-051 the server type in small letters.
pub(crate) fn arn(server_type: &str, region: &Region, account: &AccountId) -> String {
    Arn::codebuild(region, account, Resource::Token(&server_type.to_ascii_lowercase())).to_string()
}

/// As ListSourceCredentials shows it: never the token, unless it is but a name. COMPAT: AP-111, SA-052.
pub(crate) fn shown(
    credential: &SourceCredential,
    region: &Region,
    account: &AccountId,
) -> Result<SourceCredentialsInfo> {
    let Document { auth_type, .. } = serde_json::from_str(&credential.document)?;
    let is_name = matches!(auth_type, AuthType::SecretsManager | AuthType::Codeconnections);
    Ok(SourceCredentialsInfo {
        arn: Some(arn(&credential.server_type, region, account)),
        server_type: Some(ServerType::from(credential.server_type.as_str())),
        auth_type: Some(auth_type),
        resource: is_name.then(|| credential.token.clone()),
    })
}

/// What the credential opens its server with.
pub(crate) fn opener(credential: &SourceCredential) -> Result<(ServerType, Opener)> {
    let Document { auth_type, username } = serde_json::from_str(&credential.document)?;
    let server = ServerType::from(credential.server_type.as_str());
    let opener = match auth_type {
        AuthType::SecretsManager => Opener::Secret(credential.token.clone()),
        AuthType::Codeconnections => Opener::Connection,
        _ => password(&server, username, credential.token.clone()),
    };
    Ok((server, opener))
}

/// What a secret's text opens, and with what; or what is wrong with it, without quoting it.
pub(crate) fn opener_of_secret(text: &str) -> Result<(ServerType, Opener), &'static str> {
    let secret: SecretText = serde_json::from_str(text)
        .map_err(|_| "it is not a JSON object with ServerType, AuthType and Token")?;
    let is_known = matches!(
        secret.server_type,
        ServerType::Github | ServerType::GithubEnterprise | ServerType::Bitbucket
    );
    match secret.auth_type {
        _ if !is_known => Err("its ServerType is not GITHUB, GITHUB_ENTERPRISE or BITBUCKET"),
        AuthType::BasicAuth if secret.username.is_none() => Err("its AuthType BASIC_AUTH needs a Username"),
        AuthType::BasicAuth | AuthType::PersonalAccessToken => {
            let opener = password(&secret.server_type, secret.username, secret.token);
            Ok((secret.server_type, opener))
        }
        _ => Err("its AuthType is not PERSONAL_ACCESS_TOKEN or BASIC_AUTH"),
    }
}

/// Tokens go where git has a password, under the user name that each provider has for them.
fn password(server: &ServerType, username: Option<String>, password: String) -> Opener {
    let of_tokens = match server {
        ServerType::Bitbucket => "x-token-auth",
        _ => "x-access-token",
    };
    Opener::Password { username: username.unwrap_or_else(|| of_tokens.to_string()), password }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Sensitive;

    const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:git-AbCdEf";
    const CONNECTION: &str = "arn:aws:codeconnections:eu-west-1:123456789012:connection/0f1e2d3c";

    fn importing(server: &str, auth: &str, token: &str, username: Option<&str>) -> Result<SourceCredential> {
        let input = ImportSourceCredentialsInput {
            server_type: Some(server.into()),
            auth_type: Some(auth.into()),
            token: Some(Sensitive::new(token)),
            username: username.map(str::to_string),
            should_overwrite: None,
        };
        let (region, account) = ("eu-west-1".parse().unwrap(), "123456789012".parse().unwrap());
        import(input, &region, &account)
    }

    // AP-110, SA-050, SA-052
    #[test]
    fn what_a_provider_does_not_have_is_refused_and_the_token_not_quoted() {
        for (server, auth, token, username, expect) in [
            ("GITHUB", "OAUTH", "t0ken", None, "authType OAUTH"),
            ("GITHUB", "BASIC_AUTH", "t0ken", Some("u"), "authType BASIC_AUTH for serverType GITHUB"),
            ("GITHUB", "PERSONAL_ACCESS_TOKEN", "t0ken", Some("u"), "username"),
            ("BITBUCKET", "BASIC_AUTH", "t0ken", None, "username"),
            ("GITLAB", "PERSONAL_ACCESS_TOKEN", "t0ken", None, "use one of CODECONNECTIONS"),
            ("GITHUB_ENTERPRISE", "CODECONNECTIONS", CONNECTION, None, "authType CODECONNECTIONS"),
            ("GITHUB", "SECRETS_MANAGER", "t0ken", None, "ARN of a secret"),
            ("GITHUB", "SECRETS_MANAGER", &SECRET.replace("1234", "9999"), None, "ARN of a secret"),
            ("GITLAB_SELF_MANAGED", "CODECONNECTIONS", SECRET, None, "ARN of a connection"),
        ] {
            let message = importing(server, auth, token, username).unwrap_err().to_string();
            assert!(message.contains(expect), "{message}");
            assert!(!message.contains("t0ken"), "{message}");
        }
    }

    // SA-051, SA-052
    #[test]
    fn only_a_name_is_shown_of_what_was_imported() {
        let (region, account) = ("eu-west-1".parse().unwrap(), "123456789012".parse().unwrap());
        for (server, auth, token, username, resource) in [
            ("GITHUB", "PERSONAL_ACCESS_TOKEN", "t0ken", None, None),
            ("BITBUCKET", "BASIC_AUTH", "t0ken", Some("user"), None),
            ("GITHUB_ENTERPRISE", "SECRETS_MANAGER", SECRET, None, Some(SECRET)),
            ("GITLAB_SELF_MANAGED", "CODECONNECTIONS", CONNECTION, None, Some(CONNECTION)),
        ] {
            let credential = importing(server, auth, token, username).unwrap();
            let shown = shown(&credential, &region, &account).unwrap();
            assert_eq!(shown.resource.as_deref(), resource);
            let arn = format!("arn:aws:codebuild:eu-west-1:123456789012:token/{}", server.to_lowercase());
            assert_eq!(shown.arn, Some(arn));
            assert!(!format!("{shown:?} {credential:?}").contains("t0ken"));
        }
    }

    // SA-054
    #[test]
    fn a_secret_says_what_it_opens_or_what_is_wrong_with_it() {
        let text =
            r#"{"ServerType": "BITBUCKET", "AuthType": "BASIC_AUTH", "Token": "t0ken", "Username": "octo"}"#;
        let Ok((ServerType::Bitbucket, Opener::Password { username, password })) = opener_of_secret(text)
        else {
            panic!("it is sound")
        };
        assert_eq!((username.as_str(), password.as_str()), ("octo", "t0ken"));
        for (text, expect) in [
            ("t0ken", "JSON"),
            (r#"{"ServerType": "GITHUB", "AuthType": "PERSONAL_ACCESS_TOKEN"}"#, "Token"),
            (
                r#"{"ServerType": "GITLAB", "AuthType": "PERSONAL_ACCESS_TOKEN", "Token": "t0ken"}"#,
                "ServerType",
            ),
            (r#"{"ServerType": "BITBUCKET", "AuthType": "BASIC_AUTH", "Token": "t0ken"}"#, "Username"),
            (r#"{"ServerType": "GITHUB", "AuthType": "OAUTH", "Token": "t0ken"}"#, "AuthType"),
        ] {
            let Err(why) = opener_of_secret(text) else { panic!("{text} is not sound") };
            assert!(why.contains(expect) && !why.contains("t0ken"), "{why}");
        }
    }
}
