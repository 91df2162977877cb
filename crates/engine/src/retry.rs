//! Whether a build that is over is tried again by itself, and what the next try is. Pure.

use api::codebuild::{AutoRetryConfig, Project, StartBuildInput};
use api::{AccountId, Arn};
use serde::{Deserialize, Serialize};

use agent::journal::Outcome;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::lifecycle::{Phase, State};
use crate::plan::{self, Draft, Order, Request};

/// As many as a buildspec's `on-failure` may ask for (BS-083).
const RETRY_LIMIT: i32 = 100;

/// A build's place among its tries (LC-072).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tries {
    /// 0 for the first.
    pub(crate) number: u32,
    /// How many further tries there were to be when this one was made; 0 for the first.
    pub(crate) limit: u32,
    /// ARN of the try before.
    pub(crate) previous: Option<String>,
}

/// Checks an `autoRetryLimit`, or its override.
pub(crate) fn check_limit(limit: Option<i32>) -> Result<Option<i32>> {
    match limit {
        Some(limit) if !(0..=RETRY_LIMIT).contains(&limit) => {
            Error::invalid(format!("Invalid autoRetryLimit: {limit} is not between 0 and {RETRY_LIMIT}"))
        }
        limit => Ok(limit),
    }
}

/// How many further tries there may be in all, if this build is to be followed by one.
///
/// COMPAT: LC-071, LC-074 what fails is tried again, by whatever fault: FAILED, TIMED_OUT and FAULT count, as they do in
/// CodeBuild's metric FailedBuilds. What somebody stopped is not, nor what never left the queue, where another try would only
/// wait longer. BS-084 a buildspec's RETRY adds to the project's limit; the greater of the two counts.
pub(crate) fn tries_left(order: &Order, state: &State) -> Option<u32> {
    let counts = match state.outcome? {
        Outcome::Failed | Outcome::Fault => true,
        Outcome::TimedOut => state.was_in(Phase::Provisioning),
        Outcome::Stopped | Outcome::Succeeded => false,
    };
    if !counts || state.stop_requested {
        return None;
    }
    let asked = if state.outcome == Some(Outcome::Failed) { state.retry_asked } else { None };
    let limit = project_limit(order).max(asked.unwrap_or_default());
    (order.tries.number < limit).then_some(limit)
}

/// The next try: a new build with the settings of the last one, as RetryBuild makes it, but for a debug session: where somebody
/// looked at the last one, nobody waits at the breakpoints of this one, and it would stand still there for hours.
///
/// # Errors
/// [`Error::InvalidInput`] if its settings cannot run here (any more).
pub(crate) fn next(
    order: &Order,
    arn: &str,
    account: AccountId,
    limit: u32,
    now_ms: i64,
    config: &Config,
) -> Result<Draft> {
    let request = Request {
        uuid: config.new_uuid.make(),
        account,
        initiator: initiator(order),
        now_ms,
        tries: Tries { number: order.tries.number + 1, limit, previous: Some(arn.to_string()) },
        cache_generation: order.plan.cache.generation(),
    };
    plan::draft(order.settings.clone(), StartBuildInput::default(), request, config)
}

/// COMPAT: LC-009, LC-071 the service calls RetryBuild with the project's service role.
fn initiator(order: &Order) -> String {
    let role: Option<Arn> = order.settings.service_role.as_deref().and_then(|role| role.parse().ok());
    let name = role.as_ref().and_then(|role| role.resource().rsplit('/').next());
    format!("{}/AWSCodeBuild-{}", name.unwrap_or("codebuild"), order.plan.uuid)
}

/// COMPAT: LC-072 what a build shows of its tries; nothing if there is but one.
pub(crate) fn shown(order: &Order, state: &State) -> Option<AutoRetryConfig> {
    let limit = project_limit(order).max(order.tries.limit).max(state.retry_asked.unwrap_or_default());
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    (limit > 0).then(|| AutoRetryConfig {
        auto_retry_limit: Some(number(limit)),
        auto_retry_number: Some(number(order.tries.number)),
        next_auto_retry: state.next_try.clone(),
        previous_auto_retry: order.tries.previous.clone(),
    })
}

fn project_limit(order: &Order) -> u32 {
    let Project { auto_retry_limit, .. } = &order.settings;
    auto_retry_limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or_default()
}
