//! CodeCommit, as git speaks to it: over https, with a user name and a password that are made of an access key.

use std::fmt;

use reqwest::Url;

use crate::client::Clock;
use crate::credentials::Credentials;
use crate::sign;

/// Where CodeCommit is if not at AWS, and in which region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// `https://host[:port]`.
    pub origin: String,
    pub region: String,
}

/// Makes what git says to CodeCommit.
#[derive(Clone)]
pub struct CodeCommit {
    pub credentials: Credentials,
    /// Beside AWS's own places.
    pub elsewhere: Option<Elsewhere>,
    pub clock: Clock,
}

impl fmt::Debug for CodeCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeCommit")
            .field("credentials", &self.credentials)
            .field("elsewhere", &self.elsewhere)
            .finish_non_exhaustive()
    }
}

impl CodeCommit {
    /// User name and password for a repository, good for some minutes; `None` if it is not at CodeCommit: nobody else may see them.
    #[must_use]
    pub fn credential(&self, url: &str) -> Option<(String, String)> {
        let parsed = Url::parse(url).ok().filter(|url| url.path().starts_with("/v1/repos/"))?;
        let (host, region) = (parsed.host_str()?, self.region(&parsed)?);
        let now_seconds = u64::try_from((self.clock)().div_euclid(1000)).unwrap_or_default();
        let Credentials { access_key_id, session_token, .. } = &self.credentials;
        let username = match session_token {
            Some(token) => format!("{access_key_id}%{token}"),
            None => access_key_id.clone(),
        };
        let place = (host, parsed.path(), region.as_str());
        Some((username, sign::git_password(place, &self.credentials, now_seconds)))
    }

    fn region(&self, url: &Url) -> Option<String> {
        let elsewhere = self.elsewhere.as_ref().filter(|elsewhere| {
            Url::parse(&elsewhere.origin).is_ok_and(|origin| origin.origin() == url.origin())
        });
        if let Some(elsewhere) = elsewhere {
            return Some(elsewhere.region.clone());
        }
        let host = url.host_str().filter(|_| url.scheme() == "https")?;
        let rest =
            host.strip_prefix("git-codecommit.").or_else(|| host.strip_prefix("git-codecommit-fips."))?;
        let region =
            rest.strip_suffix(".amazonaws.com").or_else(|| rest.strip_suffix(".amazonaws.com.cn"))?;
        (!region.contains('.')).then(|| region.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn codecommit(session_token: Option<&str>) -> CodeCommit {
        CodeCommit {
            credentials: Credentials {
                access_key_id: "AKIDEXAMPLE".into(),
                secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
                session_token: session_token.map(str::to_owned),
            },
            elsewhere: Some(Elsewhere {
                origin: "https://localhost:8443".into(),
                region: "eu-west-1".into(),
            }),
            clock: Arc::new(|| 1_709_210_096_500),
        }
    }

    /// What `aws codecommit credential-helper get` makes of the same at that time. SA-055
    #[test]
    fn passwords_are_those_of_awss_own_helper() {
        let of = |url| codecommit(None).credential(url).unwrap();
        assert_eq!(
            of("https://git-codecommit.us-east-2.amazonaws.com/v1/repos/Name"),
            (
                "AKIDEXAMPLE".to_owned(),
                "20240229T123456Z4d8cb384358f2b1fd0013000e2503ba93999473025a31e9e2c94334700fe1f63".to_owned()
            )
        );
        assert_eq!(
            of("https://localhost:8443/v1/repos/a.b").1,
            "20240229T123456Ze330dcfc79b0a9044f9f1ddc5cd1135c79c7807d190da33de87e3e437187f48f"
        );
        let (username, password) =
            codecommit(Some("to/ken==")).credential("https://localhost:8443/v1/repos/a.b").unwrap();
        assert_eq!(
            (username.as_str(), password.as_str()),
            (
                "AKIDEXAMPLE%to/ken==",
                "20240229T123456Ze330dcfc79b0a9044f9f1ddc5cd1135c79c7807d190da33de87e3e437187f48f"
            )
        );
    }

    #[test]
    fn nobody_else_gets_one() {
        for url in [
            "https://git-codecommit.us-east-2.amazonaws.com/other/Name",
            "http://git-codecommit.us-east-2.amazonaws.com/v1/repos/Name",
            "https://git-codecommit.us-east-2.amazonaws.com.evil.example/v1/repos/Name",
            "https://git-codecommit.evil.example.amazonaws.com/v1/repos/Name",
            "https://localhost/v1/repos/Name",
            "http://localhost:8443/v1/repos/Name",
            "git@localhost:v1/repos/Name",
        ] {
            assert_eq!(codecommit(None).credential(url), None, "{url}");
        }
    }
}
