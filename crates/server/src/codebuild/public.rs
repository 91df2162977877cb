//! The operations that show public projects and their builds. They are in no SDK, and anybody with a key may call them.

use api::ServiceError;
use api::publicbuilds::Operation;
use engine::Engine;
use serde_json::Value;

use super::{answer, typed};
use crate::reply::Members;

/// COMPAT: AP-160.
pub(super) async fn perform(
    engine: &Engine,
    operation: Operation,
    request: Value,
) -> Result<Members, ServiceError> {
    match operation {
        Operation::DescribeBuildsForPublicProject => {
            answer(engine.describe_builds_for_public_project(typed(request)?).await)
        }
        Operation::GetCloudWatchLogsForPublicBuild => {
            answer(engine.get_cloud_watch_logs_for_public_build(typed(request)?).await)
        }
        Operation::GetPublicBuild => answer(engine.get_public_build(typed(request)?).await),
        Operation::GetPublicProject => answer(engine.get_public_project(typed(request)?).await),
        Operation::DescribeBuildBatchesForPublicProject
        | Operation::GetPresignedUrlsForPublicBuild
        | Operation::GetPublicBuildBatch => {
            let name = operation.name();
            Err(ServiceError::invalid_input(format!("{name} is not available in this version")))
        }
    }
}
