//! How AWS's clients are told whom to call and as whom: the usual variables and files, of which those are read that
//! hold a static key. Roles to assume, single sign-on and instance metadata are not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws::{Client, CodeCommit, Config, Credentials, Elsewhere, Endpoints};
use engine::clock::{Clock, SystemClock};
use engine::references::{FromAws, Nowhere, References};

/// Where the builds of `buildyard run` find what they refer to: at AWS, as the environment says.
pub(crate) fn references() -> Arc<dyn References> {
    match Environment::ours().config(&Overrides::default()) {
        Ok(config) => Arc::new(FromAws::new(Client::new(config))),
        Err(reason) => Arc::new(Nowhere {
            reason: format!("{reason}; or give the variable its value with -e NAME=VALUE"),
        }),
    }
}

/// What configuration says instead of the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) profile: Option<String>,
}

/// Looks variables up: our own environment's, or a test's.
pub(crate) struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
}

fn our_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Environment<'_> {
    /// Empty variables count as unset.
    pub(crate) fn ours() -> Environment<'static> {
        Environment { variable: &our_variable }
    }

    /// Whom to call and as whom; an error says what could be set.
    pub(crate) fn config(&self, overrides: &Overrides) -> Result<Config, String> {
        let profile = overrides.profile.clone().or_else(|| self.get("AWS_PROFILE"));
        let credentials = self.credentials(profile.as_deref())?;
        let region = overrides.region.clone().or_else(|| self.region(profile.as_deref()));
        let endpoints = match &overrides.endpoint {
            Some(endpoint) => Endpoints::everything_at(endpoint.clone()),
            None => self.endpoints(),
        };
        let clock = SystemClock::new();
        Ok(Config {
            region: region.unwrap_or_else(|| "us-east-1".to_owned()),
            credentials,
            endpoints,
            clock: Arc::new(move || clock.now_ms()),
        })
    }

    /// Where S3 is, if not at AWS.
    pub(crate) fn s3_endpoint(&self) -> Option<String> {
        self.get("AWS_ENDPOINT_URL_S3").or_else(|| self.get("AWS_ENDPOINT_URL"))
    }

    /// Who the user is to CodeCommit, there or at `endpoint` (`AWS_ENDPOINT_URL_CODECOMMIT` if it is not said).
    pub(crate) fn codecommit(
        &self,
        overrides: &Overrides,
        endpoint: Option<String>,
    ) -> Result<CodeCommit, String> {
        let Config { region, credentials, clock, .. } = self.config(overrides)?;
        let origin = endpoint.or_else(|| self.get("AWS_ENDPOINT_URL_CODECOMMIT"));
        let elsewhere =
            origin.map(|origin| Elsewhere { origin: origin.trim_end_matches('/').into(), region });
        if let Some(Elsewhere { origin, .. }) = &elsewhere
            && !origin.starts_with("https://")
        {
            return Err(format!("the endpoint {origin} of CodeCommit does not begin with https://"));
        }
        Ok(CodeCommit { credentials, elsewhere, clock })
    }

    /// Whether something else than AWS is to be called for builds.
    pub(crate) fn names_an_endpoint(&self) -> bool {
        let Endpoints { all, services } = self.endpoints();
        all.is_some() || services.contains_key(aws::CODEBUILD.name)
    }

    /// As AWS's clients: variables first, unless a profile is named, then the files.
    fn credentials(&self, profile: Option<&str>) -> Result<Credentials, String> {
        let key = self.get("AWS_ACCESS_KEY_ID").zip(self.get("AWS_SECRET_ACCESS_KEY"));
        if let Some((access_key_id, secret_access_key)) = key
            && profile.is_none()
        {
            let session_token = self.get("AWS_SESSION_TOKEN");
            return Ok(Credentials { access_key_id, secret_access_key, session_token });
        }
        let name = profile.unwrap_or("default");
        let found = self.files().into_iter().find_map(|path| Credentials::of_profile(&text(&path), name));
        found.ok_or_else(|| match profile {
            None => {
                "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or have a \
                     default profile with a static key in ~/.aws/credentials"
                    .to_owned()
            }
            Some(name) => format!("the AWS profile {name} has no static key in {}", self.names_of_files()),
        })
    }

    fn region(&self, profile: Option<&str>) -> Option<String> {
        let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"];
        let name = profile.unwrap_or("default");
        variables
            .iter()
            .find_map(|name| self.get(name))
            .or_else(|| self.files().iter().find_map(|path| aws::profile_region(&text(path), name)))
    }

    fn endpoints(&self) -> Endpoints {
        let services = [aws::CODEBUILD, aws::LOGS, aws::SECRETS_MANAGER, aws::SSM];
        let named = services.iter().filter_map(|service| {
            Some((service.name, self.get(&format!("AWS_ENDPOINT_URL_{}", service.variable))?))
        });
        Endpoints { all: self.get("AWS_ENDPOINT_URL"), services: named.collect() }
    }

    /// The credentials file, then the configuration file.
    fn files(&self) -> Vec<PathBuf> {
        let home = || self.get("HOME").map(|home| Path::new(&home).join(".aws"));
        let file = |variable: &str, name: &str| {
            self.get(variable).map(PathBuf::from).or_else(|| Some(home()?.join(name)))
        };
        let files = [file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config")];
        files.into_iter().flatten().collect()
    }

    fn names_of_files(&self) -> String {
        let files: Vec<String> = self.files().iter().map(|path| path.display().to_string()).collect();
        files.join(" or ")
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }
}

/// A file that is not there, or is none of ours to read, holds no profile.
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)], overrides: &Overrides) -> Result<Config, String> {
        let variable =
            |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        Environment { variable: &variable }.config(overrides)
    }

    const KEY: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKI"), ("AWS_SECRET_ACCESS_KEY", "s")];

    #[test]
    fn variables_say_who_and_where() {
        let variables = [
            &KEY[..],
            &[
                ("AWS_SESSION_TOKEN", "t"),
                ("AWS_DEFAULT_REGION", "eu-west-1"),
                ("AWS_ENDPOINT_URL", "http://all"),
                ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://secrets"),
            ],
        ]
        .concat();
        let config = config(&variables, &Overrides::default()).unwrap();
        assert_eq!(config.credentials.session_token.as_deref(), Some("t"));
        assert_eq!(
            (config.region.as_str(), config.endpoints.all.as_deref()),
            ("eu-west-1", Some("http://all"))
        );
        assert_eq!(config.endpoints.services, [("secretsmanager", "http://secrets".to_owned())].into());
    }

    #[test]
    fn a_named_profile_beats_the_key_in_the_environment() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let text = "[default]\naws_access_key_id=AKID\naws_secret_access_key=d\nregion=eu-north-1\n\
                    [work]\naws_access_key_id=AKIW\naws_secret_access_key=w\n";
        std::fs::write(home.path().join(".aws/credentials"), text).unwrap();
        let place = home.path().to_str().unwrap();
        let key_of = |variables: &[(&str, &str)]| {
            let config = config(variables, &Overrides::default()).unwrap();
            (config.credentials.access_key_id, config.region)
        };
        assert_eq!(key_of(&[("HOME", place)]), ("AKID".to_owned(), "eu-north-1".to_owned()));
        let named = [&KEY[..], &[("HOME", place), ("AWS_PROFILE", "work")]].concat();
        assert_eq!(key_of(&named), ("AKIW".to_owned(), "us-east-1".to_owned()));
        let overrides = Overrides { profile: Some("work".into()), ..Overrides::default() };
        let config = config(&[("HOME", place)], &overrides).unwrap();
        assert_eq!(config.credentials.access_key_id, "AKIW");
    }

    #[test]
    fn without_credentials_the_ways_out_are_named() {
        let missing = config(&[], &Overrides::default()).unwrap_err();
        assert!(missing.contains("AWS_ACCESS_KEY_ID") && missing.contains("~/.aws/credentials"), "{missing}");
        let named = config(&[("AWS_PROFILE", "x"), ("HOME", "/nowhere")], &Overrides::default()).unwrap_err();
        assert!(named.contains("profile x") && named.contains("/nowhere/.aws/config"), "{named}");
    }
}
