//! From a project and the overrides of one StartBuild to the build that will be: its API document and the plan
//! its agent follows. Pure.
//!
//! Here: putting it together. [`available`] refuses what cannot run in this version, `environment`, `source`
//! and `artifacts` say what each part of the project means, `variables` what a build finds set.

use agent::plan::{DriverLoss, Fetching, Plan, Reports};
use api::arn::Resource;
use api::codebuild::{Build, Project, StartBuildInput};
use api::{AccountId, Arn};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::Config;
use crate::document;
use crate::error::Result;
use crate::lifecycle::State;
use crate::overrides;
use crate::project::Setting;
use crate::retry::Tries;

mod artifacts;
mod available;
mod cache;
mod environment;
mod source;
#[cfg(test)]
mod tests;
mod variables;

pub(crate) use artifacts::expected_key;
pub(crate) use cache::cache;
pub(crate) use environment::is_available as is_compute_type;

/// Who wants the build, and when.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) uuid: Uuid,
    pub(crate) account: AccountId,
    /// LC-009.
    pub(crate) initiator: String,
    pub(crate) now_ms: i64,
    pub(crate) tries: Tries,
    /// How often the project's cache was invalidated.
    pub(crate) cache_generation: i64,
}

/// A build as it is stored beside its document: all that is needed to run it, and to run it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) plan: Plan,
    /// An image to be resolved in PROVISIONING. Absent: the plan's root file system is already known.
    pub(crate) image: Option<String>,
    /// The project as this build saw it; a retry starts from here.
    pub(crate) settings: Project,
    /// Where readers find the log. Absent if CloudWatch Logs are disabled.
    pub(crate) stream: Option<Stream>,
    #[serde(default)]
    pub(crate) tries: Tries,
}

/// A log stream's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) group: String,
    pub(crate) name: String,
}

/// A build that is complete but for its number, which the store gives when it accepts it.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) id: String,
    settings: Project,
    request: Request,
    plan: Plan,
    image: Option<String>,
    arn: String,
}

/// Plans a build, or says which member of the request or project stands in the way.
pub(crate) fn draft(
    project: Project,
    over: StartBuildInput,
    request: Request,
    config: &Config,
) -> Result<Draft> {
    let setting = Setting {
        region: &config.region,
        account: &request.account,
        now_ms: request.now_ms,
        concurrent_builds: config.concurrent_builds,
        codecommit: config.codecommit_origin(),
    };
    let debug_session = over.debug_session_enabled == Some(true);
    let settings = overrides::apply(project, over, setting)?;
    available::check(&settings, config)?;
    let name = settings.name.clone().unwrap_or_default();
    let id = format!("{name}:{}", request.uuid);
    let arn = Arn::codebuild(&config.region, &request.account, Resource::Build(&id)).to_string();
    let (environment, image) = environment::environment(&settings, config)?;
    let plan = Plan {
        build_id: id.clone(),
        uuid: request.uuid.to_string(),
        project_name: name,
        log: config.logs.join(format!("{}.log", request.uuid)),
        log_quota_bytes: config.log_quota_bytes,
        environment,
        source: source::primary(&settings, config)?,
        secondary_sources: source::secondary(&settings, config)?,
        left_out: Vec::new(),
        fetching: Fetching {
            kept: cache::repositories(&settings, &request, config),
            ..config.fetching.clone()
        },
        source_number: source_number(request.uuid),
        buildspec: source::buildspec(&settings, config)?,
        service_variables: Default::default(),
        variables: variables::of_project(&settings),
        artifacts: artifacts::artifacts(&settings, &arn, config)?,
        timeout_seconds: minutes(settings.timeout_in_minutes) * 60,
        on_driver_loss: DriverLoss::Continue,
        fleet_label: "On-demand".to_string(),
        references: variables::references(&settings),
        debug_session,
        hold_on_failure: false,
        objects_owner: Some(config.buckets_of(&request.account)),
        role: None,
        elsewhere: config.elsewhere_for(&request.account),
        reports: Some(reports(&request.account, config)),
        snapshots: None,
        endpoint: None,
        cache: cache(&settings, &request.account, request.cache_generation, config)?,
    };
    Ok(Draft { id, settings, request, plan, image, arn })
}

impl Draft {
    pub(crate) fn project(&self) -> &str {
        &self.plan.project_name
    }

    pub(crate) fn accepted_ms(&self) -> i64 {
        self.request.now_ms
    }

    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    /// The build with this number: its document as StartBuild answers it, and what is stored to run it.
    pub(crate) fn numbered(mut self, number: u64, config: &Config) -> (Build, Order) {
        self.plan.service_variables = variables::of_service(&self, number, config);
        let order = Order {
            stream: self.stream(),
            plan: self.plan,
            image: self.image,
            settings: self.settings,
            tries: self.request.tries,
        };
        let identity = document::Identity {
            id: &self.id,
            arn: &self.arn,
            number,
            initiator: &self.request.initiator,
            started_ms: self.request.now_ms,
            account: &self.request.account,
        };
        let mut build = document::accepted(&order, identity, config);
        document::render(&mut build, &order, &State::accepted(self.request.now_ms));
        (build, order)
    }

    /// COMPAT: SA-111, SA-112 where the log is found; a configured stream name is a prefix.
    fn stream(&self) -> Option<Stream> {
        let config = self.settings.logs_config.as_ref()?.cloud_watch_logs.as_ref()?;
        if config.status == Some(api::codebuild::LogsConfigStatusType::Disabled) {
            return None;
        }
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let group = filled(&config.group_name);
        Some(Stream {
            group: group.unwrap_or_else(|| format!("/aws/codebuild/{}", self.plan.project_name)),
            name: match filled(&config.stream_name) {
                Some(prefix) => format!("{prefix}/{}", self.plan.uuid),
                None => self.plan.uuid.clone(),
            },
        })
    }
}

/// COMPAT: BS-116, BS-117.
fn reports(account: &AccountId, config: &Config) -> Reports {
    Reports {
        group_arns: Some(Arn::codebuild(&config.region, account, Resource::ReportGroup("")).to_string()),
        objects: Some(config.objects.clone()),
        discover: true,
    }
}

/// EN-080: digits that differ from build to build.
fn source_number(uuid: Uuid) -> u32 {
    let [a, b, c, d, ..] = *uuid.as_bytes();
    u32::from_be_bytes([a, b, c, d]).max(10)
}

fn minutes(minutes: Option<i32>) -> u64 {
    minutes.and_then(|minutes| u64::try_from(minutes).ok()).unwrap_or_default()
}
