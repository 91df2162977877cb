//! CodeBuild's operations as the server sees them: a function from a validated request to an answer.
//!
//! What the operations do belongs to `engine`; here its methods and errors get their names on the wire.

mod public;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use access::{Principal, Rights};
use api::ServiceError;
use api::codebuild::Operation;
use api::publicbuilds;
use engine::{Engine, FoundBuilds, Known};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::keys::Caller;
use crate::reply::Members;

type Answering = Pin<Box<dyn Future<Output = Result<Members, ServiceError>> + Send>>;
type Call = dyn Fn(Operation, Caller, Value) -> Answering + Send + Sync;

/// The 59 operations behind one function.
#[derive(Clone)]
pub struct CodeBuild {
    call: Arc<Call>,
    /// Who answers for public projects, and knows the tags and policies of any.
    public: Option<Engine>,
}

impl CodeBuild {
    /// `call` gets the operation, who asks, and the request's JSON, which satisfies the operation's model
    /// (unknown members may remain in it). It answers with the output's JSON or with an error that goes to the
    /// client as it is.
    pub fn new<F, A, M>(call: F) -> CodeBuild
    where
        F: Fn(Operation, Caller, Value) -> A + Send + Sync + 'static,
        A: Future<Output = Result<M, ServiceError>> + Send + 'static,
        M: Into<Members>,
    {
        CodeBuild {
            call: Arc::new(move |operation, caller, request| {
                let answering = call(operation, caller, request);
                Box::pin(async { answering.await.map(Into::into) })
            }),
            public: None,
        }
    }

    /// The operations of this engine. Those it does not have are refused by name.
    pub fn of(engine: Engine) -> CodeBuild {
        let public = Some(engine.clone());
        let codebuild = CodeBuild::new(move |operation, caller, request| {
            let engine = engine.clone();
            async move { perform(&engine, operation, &engine_caller(caller)?, request).await }
        });
        CodeBuild { public, ..codebuild }
    }

    /// What the resources of these ARNs say themselves to whether the caller may do this; nothing of what is not there.
    pub(crate) async fn known(
        &self,
        caller: &Caller,
        arns: &[String],
        action: &str,
    ) -> Result<HashMap<String, Known>, ServiceError> {
        match &self.public {
            Some(engine) => {
                let caller = engine_caller(caller.clone())?;
                engine.known(&caller, arns, action).await.map_err(refusal)
            }
            None => Ok(HashMap::new()),
        }
    }

    pub(crate) async fn call(
        &self,
        operation: Operation,
        caller: Caller,
        request: Value,
    ) -> Result<Members, ServiceError> {
        (self.call)(operation, caller, request).await
    }
}

impl CodeBuild {
    /// Whether a build, `project:uuid`, has been accepted and is not over.
    pub(crate) fn is_under_way(&self, build_id: &str) -> bool {
        self.public.as_ref().is_some_and(|engine| engine.is_under_way(build_id))
    }

    /// A build of this account as BatchGetBuilds shows it.
    pub(crate) async fn build(&self, account: &str, id: &str) -> Result<Option<Value>, ServiceError> {
        self.first(account, Operation::BatchGetBuilds, json!({ "ids": [id] }), "/builds/0").await
    }

    /// A project of this account as BatchGetProjects shows it.
    pub(crate) async fn project(&self, account: &str, name: &str) -> Result<Option<Value>, ServiceError> {
        self.first(account, Operation::BatchGetProjects, json!({ "names": [name] }), "/projects/0").await
    }

    async fn first(
        &self,
        account: &str,
        operation: Operation,
        request: Value,
        place: &str,
    ) -> Result<Option<Value>, ServiceError> {
        let arn = format!("arn:aws:iam::{account}:root");
        let principal = Principal { account: account.to_owned(), user_id: account.to_owned(), arn };
        let caller = Caller::of(Rights::everything(principal));
        let mut answer = self.call(operation, caller, request).await?;
        Ok(answer.value().pointer_mut(place).map(Value::take))
    }

    /// Answers what is asked about a public project; who asks does not matter.
    pub(crate) async fn public(
        &self,
        operation: publicbuilds::Operation,
        request: Value,
    ) -> Result<Members, ServiceError> {
        match &self.public {
            Some(engine) => public::perform(engine, operation, request).await,
            None => Err(ServiceError::unknown_operation("")),
        }
    }
}

impl fmt::Debug for CodeBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeBuild").finish_non_exhaustive()
    }
}

async fn perform(
    engine: &Engine,
    operation: Operation,
    caller: &engine::Caller,
    request: Value,
) -> Result<Members, ServiceError> {
    match operation {
        Operation::BatchDeleteBuilds => answer(engine.batch_delete_builds(caller, typed(request)?).await),
        Operation::BatchGetBuilds => {
            let found = engine.batch_get_builds(caller, typed(request)?).await;
            found.and_then(FoundBuilds::into_json).map_err(refusal).map(Members::written)
        }
        Operation::BatchGetProjects => answer(engine.batch_get_projects(caller, typed(request)?).await),
        Operation::CreateProject => answer(engine.create_project(caller, typed(request)?).await),
        Operation::DeleteProject => answer(engine.delete_project(caller, typed(request)?).await),
        Operation::DeleteResourcePolicy => {
            answer(engine.delete_resource_policy(caller, typed(request)?).await)
        }
        Operation::DeleteSourceCredentials => {
            answer(engine.delete_source_credentials(caller, typed(request)?).await)
        }
        Operation::GetResourcePolicy => answer(engine.get_resource_policy(caller, typed(request)?).await),
        Operation::ImportSourceCredentials => {
            answer(engine.import_source_credentials(caller, typed(request)?).await)
        }
        Operation::InvalidateProjectCache => {
            answer(engine.invalidate_project_cache(caller, typed(request)?).await)
        }
        Operation::ListBuilds => answer(engine.list_builds(caller, typed(request)?).await),
        Operation::ListBuildsForProject => {
            answer(engine.list_builds_for_project(caller, typed(request)?).await)
        }
        Operation::ListCuratedEnvironmentImages => {
            answer(engine.list_curated_environment_images(caller, typed(request)?).await)
        }
        Operation::ListProjects => answer(engine.list_projects(caller, typed(request)?).await),
        Operation::ListSharedProjects => answer(engine.list_shared_projects(caller, typed(request)?).await),
        Operation::ListSourceCredentials => {
            answer(engine.list_source_credentials(caller, typed(request)?).await)
        }
        Operation::PutResourcePolicy => answer(engine.put_resource_policy(caller, typed(request)?).await),
        Operation::RetryBuild => answer(engine.retry_build(caller, typed(request)?).await),
        Operation::StartBuild => answer(engine.start_build(caller, typed(request)?).await),
        Operation::StopBuild => answer(engine.stop_build(caller, typed(request)?).await),
        Operation::UpdateProject => answer(engine.update_project(caller, typed(request)?).await),
        Operation::UpdateProjectVisibility => {
            answer(engine.update_project_visibility(caller, typed(request)?).await)
        }
        Operation::BatchGetReportGroups => {
            answer(engine.batch_get_report_groups(caller, typed(request)?).await)
        }
        Operation::BatchGetReports => answer(engine.batch_get_reports(caller, typed(request)?).await),
        Operation::CreateReportGroup => answer(engine.create_report_group(caller, typed(request)?).await),
        Operation::DeleteReport => answer(engine.delete_report(caller, typed(request)?).await),
        Operation::DeleteReportGroup => answer(engine.delete_report_group(caller, typed(request)?).await),
        Operation::DescribeCodeCoverages => {
            answer(engine.describe_code_coverages(caller, typed(request)?).await)
        }
        Operation::DescribeTestCases => answer(engine.describe_test_cases(caller, typed(request)?).await),
        Operation::GetReportGroupTrend => {
            answer(engine.get_report_group_trend(caller, typed(request)?).await)
        }
        Operation::ListReportGroups => answer(engine.list_report_groups(caller, typed(request)?).await),
        Operation::ListReports => answer(engine.list_reports(caller, typed(request)?).await),
        Operation::ListReportsForReportGroup => {
            answer(engine.list_reports_for_report_group(caller, typed(request)?).await)
        }
        Operation::ListSharedReportGroups => {
            answer(engine.list_shared_report_groups(caller, typed(request)?).await)
        }
        Operation::UpdateReportGroup => answer(engine.update_report_group(caller, typed(request)?).await),
        other => {
            Err(ServiceError::invalid_input(format!("{} is not available in this version", other.name())))
        }
    }
}

fn engine_caller(caller: Caller) -> Result<engine::Caller, ServiceError> {
    let account = caller.account.parse().map_err(|_| ServiceError::internal_failure())?;
    Ok(engine::Caller { account, arn: caller.arn, rights: caller.rights })
}

fn typed<T: DeserializeOwned>(request: Value) -> Result<T, ServiceError> {
    serde_json::from_value(request).map_err(|error| ServiceError::serialization(error.to_string()))
}

fn answer<T: Serialize>(result: engine::Result<T>) -> Result<Members, ServiceError> {
    result.map_err(refusal).map(|output| Members::of(&output))
}

/// COMPAT: AP-003.
fn refusal(error: engine::Error) -> ServiceError {
    match error {
        engine::Error::InvalidInput(message) => ServiceError::invalid_input(message),
        engine::Error::NotFound(message) => ServiceError::resource_not_found(message),
        engine::Error::AlreadyExists(message) => ServiceError::resource_already_exists(message),
        engine::Error::AccountLimitExceeded(message) => ServiceError::account_limit_exceeded(message),
        engine::Error::Unavailable(message) => ServiceError::service_unavailable(message),
        engine::Error::Internal(source) => {
            tracing::error!(error = %source, "a CodeBuild operation could not be done");
            ServiceError::internal_failure()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_type_on_the_wire() {
        let text = || "why".to_string();
        for (error, code, status) in [
            (engine::Error::InvalidInput(text()), "InvalidInputException", 400),
            (engine::Error::NotFound(text()), "ResourceNotFoundException", 400),
            (engine::Error::AlreadyExists(text()), "ResourceAlreadyExistsException", 400),
            (engine::Error::AccountLimitExceeded(text()), "AccountLimitExceededException", 400),
            (engine::Error::Unavailable(text()), "ServiceUnavailableException", 503),
            (engine::Error::Internal("why".into()), "InternalFailure", 500),
        ] {
            let refusal = refusal(error);
            assert_eq!((refusal.code.as_ref(), refusal.http_status), (code, status));
        }
    }
}
