//! Services, and where they are reached.

use std::collections::BTreeMap;

use reqwest::Url;

use crate::error::{Error, Result};

/// A service of the JSON 1.1 protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// In host names and in signatures: `ssm`.
    pub name: &'static str,
    /// Before the operation's name in `X-Amz-Target`: `AmazonSSM`.
    pub target: &'static str,
    /// As the variable that overrides its endpoint spells it, behind `AWS_ENDPOINT_URL_`.
    pub variable: &'static str,
}

pub const CODEBUILD: Service =
    Service { name: "codebuild", target: "CodeBuild_20161006", variable: "CODEBUILD" };
pub const LOGS: Service = Service { name: "logs", target: "Logs_20140328", variable: "CLOUDWATCH_LOGS" };
pub const SSM: Service = Service { name: "ssm", target: "AmazonSSM", variable: "SSM" };
pub const SECRETS_MANAGER: Service =
    Service { name: "secretsmanager", target: "secretsmanager", variable: "SECRETS_MANAGER" };

/// Where services are reached if not at AWS: `http://host:port` or `https://host`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// For every service that has none of its own.
    pub all: Option<String>,
    /// By the service's name.
    pub services: BTreeMap<&'static str, String>,
}

impl Endpoints {
    /// One endpoint for everything, such as our own server's.
    pub fn everything_at(url: impl Into<String>) -> Endpoints {
        Endpoints { all: Some(url.into()), services: BTreeMap::new() }
    }

    pub(crate) fn of(&self, service: &Service, region: &str) -> Result<Url> {
        match self.services.get(service.name).or(self.all.as_ref()) {
            Some(url) => overridden(url),
            None => of_aws(service, region),
        }
    }
}

fn of_aws(service: &Service, region: &str) -> Result<Url> {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = format!("https://{}.{region}.{domain}/", service.name);
    let plain = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match Url::parse(&url) {
        Ok(parsed) if plain => Ok(parsed),
        _ => Err(Error::Endpoint { url, rule: "a region has only letters, digits and hyphens" }),
    }
}

pub(crate) fn overridden(url: &str) -> Result<Url> {
    let wrong = |rule| Error::Endpoint { url: url.to_owned(), rule };
    let parsed = Url::parse(url).map_err(|_| wrong("it must be http(s)://host with an optional port"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(wrong("it must begin with http:// or https://"));
    }
    if parsed.path() != "/" || parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong("nothing may follow host and port"));
    }
    match parsed.username().is_empty() && parsed.password().is_none() {
        true => Ok(parsed),
        false => Err(wrong("user names and passwords have no place in it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_services_own_or_everybodys_or_awss() {
        let mut endpoints = Endpoints::default();
        let of = |endpoints: &Endpoints, region| endpoints.of(&SSM, region).unwrap().to_string();
        assert_eq!(of(&endpoints, "eu-west-1"), "https://ssm.eu-west-1.amazonaws.com/");
        assert_eq!(of(&endpoints, "cn-north-1"), "https://ssm.cn-north-1.amazonaws.com.cn/");
        endpoints.all = Some("http://127.0.0.1:4500".into());
        assert_eq!(of(&endpoints, "eu-west-1"), "http://127.0.0.1:4500/");
        endpoints.services.insert("ssm", "https://parameters.example:8443/".into());
        assert_eq!(of(&endpoints, "eu-west-1"), "https://parameters.example:8443/");
        assert_eq!(endpoints.of(&SECRETS_MANAGER, "eu-west-1").unwrap().as_str(), "http://127.0.0.1:4500/");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_rule() {
        for (url, rule) in [
            ("localhost:4500", "http:// or https://"),
            ("ftp://host", "http:// or https://"),
            ("not a url", "http(s)://host"),
            ("http://host/path", "nothing may follow"),
            ("http://host/?a=b", "nothing may follow"),
            ("http://me:secret@host", "user names"),
        ] {
            let refused = Endpoints::everything_at(url).of(&SSM, "us-east-1").unwrap_err().to_string();
            assert!(refused.contains(rule), "{url}: {refused}");
        }
        assert!(Endpoints::default().of(&SSM, "evil.example/").is_err());
    }
}
