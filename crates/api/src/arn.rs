//! Amazon Resource Names, and the accounts and Regions in them.
//!
//! How each resource is named is written here once; whether it exists is for others to say.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Twelve digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

/// A Region's code, such as `eu-west-1`. Any name of that form will do: a private endpoint has its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

/// `arn:partition:service:region:account:resource`. Region and account are empty where a service has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arn {
    partition: String,
    service: String,
    region: String,
    account: String,
    resource: String,
}

/// What a CodeBuild ARN names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// By project name.
    Project(&'a str),
    /// By build id, `project:uuid` (LC-001).
    Build(&'a str),
    /// By build batch id, `project:uuid`.
    BuildBatch(&'a str),
    /// By report group name.
    ReportGroup(&'a str),
    /// By `report-group:uuid`.
    Report(&'a str),
    /// By `fleet:uuid`.
    Fleet(&'a str),
    /// By sandbox id, `project:uuid`.
    Sandbox(&'a str),
    /// Source credentials, by `server-type` or `server-type/name`.
    Token(&'a str),
}

const LENGTH_MAX: usize = 2048;

impl AccountId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = Error;

    fn from_str(text: &str) -> Result<AccountId, Error> {
        let sound = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        if sound { Ok(AccountId(text.to_owned())) } else { Err(Error::AccountId(text.to_owned())) }
    }
}

impl Region {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition ARNs of this Region start with.
    pub fn partition(&self) -> &'static str {
        partition(&self.0)
    }
}

/// The partition ARNs of the Region of this code start with.
pub fn partition(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

impl FromStr for Region {
    type Err = Error;

    fn from_str(text: &str) -> Result<Region, Error> {
        let letters = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let edges = !text.starts_with('-') && !text.ends_with('-');
        let sound = letters && edges && (1..=32).contains(&text.len());
        if sound { Ok(Region(text.to_owned())) } else { Err(Error::Region(text.to_owned())) }
    }
}

impl Arn {
    fn new(service: &str, region: &Region, account: &AccountId, resource: String) -> Arn {
        Arn {
            partition: region.partition().to_owned(),
            service: service.to_owned(),
            region: region.as_str().to_owned(),
            account: account.as_str().to_owned(),
            resource,
        }
    }

    pub fn codebuild(region: &Region, account: &AccountId, resource: Resource<'_>) -> Arn {
        Arn::new("codebuild", region, account, resource.to_string())
    }

    /// A log group, in the form that names the group and not, as `:*` would, what is in it.
    pub fn log_group(region: &Region, account: &AccountId, group: &str) -> Arn {
        Arn::new("logs", region, account, format!("log-group:{group}"))
    }

    pub fn log_stream(region: &Region, account: &AccountId, group: &str, stream: &str) -> Arn {
        Arn::new("logs", region, account, format!("log-group:{group}:log-stream:{stream}"))
    }

    /// The key that artifacts name when none is chosen (EN-046).
    pub fn default_encryption_key(region: &Region, account: &AccountId) -> Arn {
        Arn::new("kms", region, account, "alias/aws/s3".to_owned())
    }

    /// An object, or with an empty key its bucket (SA-061). S3's ARNs have neither Region nor account.
    pub fn s3(region: &Region, bucket: &str, key: &str) -> Arn {
        let slash = if key.is_empty() { "" } else { "/" };
        Arn {
            partition: region.partition().to_owned(),
            service: "s3".to_owned(),
            region: String::new(),
            account: String::new(),
            resource: format!("{bucket}{slash}{key}"),
        }
    }

    pub fn partition(&self) -> &str {
        &self.partition
    }

    pub fn service(&self) -> &str {
        &self.service
    }

    /// Empty where the service has no Regions.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Empty where the service's names do not belong to an account.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Everything behind the account: `build/project:uuid`, `log-group:name:*`, `bucket/key`.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Whether the ARN's partition is that of this Region. In any other, nothing has the name that it has here.
    pub fn is_in_partition_of(&self, region: &Region) -> bool {
        self.partition == region.partition()
    }

    /// Whether the ARN names something in this Region of this account.
    pub fn belongs_to(&self, region: &Region, account: &AccountId) -> bool {
        self.is_in_partition_of(region) && self.region == region.as_str() && self.account == account.as_str()
    }

    /// What the ARN names, if it is CodeBuild's.
    pub fn codebuild_resource(&self) -> Option<Resource<'_>> {
        (self.service == "codebuild").then(|| Resource::parse(&self.resource))?
    }

    /// Bucket and key (empty for a bucket), if the ARN is S3's.
    pub fn s3_location(&self) -> Option<(&str, &str)> {
        (self.service == "s3").then(|| self.resource.split_once('/').unwrap_or((&self.resource, "")))
    }

    /// The log group's name, if the ARN is one of a log group, with or without `:*`.
    pub fn log_group_name(&self) -> Option<&str> {
        let name = self.resource.strip_prefix("log-group:").filter(|_| self.service == "logs")?;
        Some(name.split_once(':').map_or(name, |(name, _)| name)).filter(|name| !name.is_empty())
    }
}

impl<'a> Resource<'a> {
    /// Reads the part of an ARN that follows the account.
    pub fn parse(text: &'a str) -> Option<Resource<'a>> {
        let (sort, name) = text.split_once('/').filter(|(_, name)| !name.is_empty())?;
        Some(match sort {
            "project" => Resource::Project(name),
            "build" => Resource::Build(name),
            "build-batch" => Resource::BuildBatch(name),
            "report-group" => Resource::ReportGroup(name),
            "report" => Resource::Report(name),
            "fleet" => Resource::Fleet(name),
            "sandbox" => Resource::Sandbox(name),
            "token" => Resource::Token(name),
            _ => return None,
        })
    }

    /// The kind as an ARN writes it, and the name behind it.
    pub fn parts(&self) -> (&'static str, &'a str) {
        match *self {
            Resource::Project(name) => ("project", name),
            Resource::Build(id) => ("build", id),
            Resource::BuildBatch(id) => ("build-batch", id),
            Resource::ReportGroup(name) => ("report-group", name),
            Resource::Report(id) => ("report", id),
            Resource::Fleet(id) => ("fleet", id),
            Resource::Sandbox(id) => ("sandbox", id),
            Resource::Token(name) => ("token", name),
        }
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sort, name) = self.parts();
        write!(formatter, "{sort}/{name}")
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arn { partition, service, region, account, resource } = self;
        write!(formatter, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

impl FromStr for Arn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Arn, Error> {
        parse(text).ok_or_else(|| Error::Arn(text.chars().take(LENGTH_MAX).collect()))
    }
}

fn parse(text: &str) -> Option<Arn> {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next().map(str::to_owned);
    let (head, partition, service) = (next()?, next()?, next()?);
    let (region, account, resource) = (next()?, next()?, next()?);
    let complete = head == "arn" && ![&partition, &service, &resource].into_iter().any(String::is_empty);
    let sound = (region.is_empty() || region.parse::<Region>().is_ok())
        && (account.is_empty() || account == "aws" || account.parse::<AccountId>().is_ok());
    (complete && sound && text.len() <= LENGTH_MAX).then_some(Arn {
        partition,
        service,
        region,
        account,
        resource,
    })
}

/// Text goes in by parsing and out by `Display`, for every type of this module.
macro_rules! textual {
    ($($type:ty),*) => {
        $(
            impl TryFrom<String> for $type {
                type Error = Error;

                fn try_from(text: String) -> Result<Self, Error> {
                    text.parse()
                }
            }

            impl From<$type> for String {
                fn from(value: $type) -> String {
                    value.to_string()
                }
            }
        )*
    };
}
textual!(AccountId, Region, Arn);

impl fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> (Region, AccountId) {
        ("eu-west-1".parse().unwrap(), "123456789012".parse().unwrap())
    }

    #[test]
    fn a_builds_arn_is_written_and_read_as_codebuild_writes_it() {
        let (region, account) = here();
        let arn = Arn::codebuild(&region, &account, Resource::Build("demo:0f1e2d3c"));
        assert_eq!(arn.to_string(), "arn:aws:codebuild:eu-west-1:123456789012:build/demo:0f1e2d3c");
        let read: Arn = arn.to_string().parse().unwrap();
        assert_eq!(read, arn);
        assert_eq!(read.codebuild_resource(), Some(Resource::Build("demo:0f1e2d3c")));
        assert!(read.belongs_to(&region, &account));
    }

    #[test]
    fn every_kind_of_resource_survives_the_round_trip() {
        let (region, account) = here();
        for text in [
            "project/a",
            "build-batch/a:b",
            "report-group/g",
            "report/g:b",
            "fleet/f:b",
            "sandbox/a:b",
            "token/github",
        ] {
            let resource = Resource::parse(text).unwrap();
            let arn = Arn::codebuild(&region, &account, resource);
            assert_eq!(arn.codebuild_resource(), Some(resource));
            assert_eq!(arn.resource(), text);
        }
    }

    #[test]
    fn a_log_groups_arn_names_it_with_and_without_the_star() {
        let (region, account) = here();
        let arn = Arn::log_stream(&region, &account, "/aws/codebuild/demo", "0f1e");
        assert_eq!(arn.log_group_name(), Some("/aws/codebuild/demo"));
        let starred = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/codebuild/demo:*";
        assert_eq!(starred.parse::<Arn>().unwrap().log_group_name(), Some("/aws/codebuild/demo"));
    }

    #[test]
    fn an_s3_arn_has_neither_region_nor_account() {
        let (region, _) = here();
        let arn = Arn::s3(&region, "bucket", "path/app.zip");
        assert_eq!(arn.to_string(), "arn:aws:s3:::bucket/path/app.zip");
        assert_eq!(arn.s3_location(), Some(("bucket", "path/app.zip")));
        assert_eq!("arn:aws:s3:::bucket".parse::<Arn>().unwrap().s3_location(), Some(("bucket", "")));
    }

    #[test]
    fn other_partitions_have_their_own_arns() {
        let partition = |region: &str| region.parse::<Region>().unwrap().partition();
        assert_eq!(
            [partition("cn-north-1"), partition("us-gov-west-1"), partition("us-east-1")],
            ["aws-cn", "aws-us-gov", "aws"]
        );
    }

    #[test]
    fn an_arn_belongs_to_its_region_and_account_in_its_partition_only() {
        let (_, account) = here();
        for (region, partition) in
            [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-east-1", "aws-us-gov"), ("home", "aws")]
        {
            let region: Region = region.parse().unwrap();
            for other in ["aws", "aws-cn", "aws-us-gov", "aws-iso", "foo", "AWS"] {
                let arn: Arn = format!("arn:{other}:codebuild:{region}:{account}:project/a").parse().unwrap();
                assert_eq!(arn.belongs_to(&region, &account), other == partition, "{arn}");
            }
        }
    }

    #[test]
    fn text_that_is_no_arn_is_refused() {
        for text in [
            "",
            "demo",
            "arn:aws:codebuild:eu-west-1:123456789012",
            "arn:aws:codebuild:eu-west-1:123456789012:",
            "arn:aws:codebuild:EU:123456789012:project/a",
            "arn:aws:codebuild:eu-west-1:1234:project/a",
            "urn:aws:codebuild:eu-west-1:123456789012:project/a",
        ] {
            assert!(text.parse::<Arn>().is_err(), "{text}");
        }
    }
}
