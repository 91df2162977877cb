//! What clients ask, and what they are answered. A client whose server is killed hears nothing.

use std::sync::{Arc, Mutex};

use api::codebuild::*;
use engine::{Caller, Engine, Error};

/// Names the variable by which a build tells which StartBuild made it.
pub(crate) const MARK: &str = "MARK";

#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Start { project: String, token: Option<String>, mark: String },
    Retry { id: String, token: Option<String> },
    Stop { id: String },
    Delete { id: String },
    Get { id: String },
    List,
}

#[derive(Debug)]
#[allow(dead_code, reason = "all of it is told of a history")]
pub(crate) enum Answer {
    Build(Box<Build>),
    /// Whether it was.
    Deleted(bool),
    Found(Option<Box<Build>>),
    Listed(usize),
    /// The client is wrong, or too early.
    Refused(String),
    /// The server cannot, now.
    Failed(String),
}

/// Answers with the numbers of what was asked, in the order in which they came.
pub(crate) type Answers = Arc<Mutex<Vec<(usize, Answer)>>>;

pub(crate) fn caller() -> Caller {
    let account = "123456789012".to_owned();
    let arn = format!("arn:aws:iam::{account}:user/alice");
    let principal = access::Principal { account, arn, user_id: "AIDA".to_owned() };
    Caller::of(access::Rights::everything(principal)).unwrap()
}

pub(crate) async fn ask(engine: Engine, ask: Ask) -> Answer {
    match answer(&engine, &caller(), ask).await {
        Ok(answer) => answer,
        Err(error @ (Error::Unavailable(_) | Error::Internal(_))) => Answer::Failed(error.to_string()),
        Err(error) => Answer::Refused(error.to_string()),
    }
}

async fn answer(engine: &Engine, caller: &Caller, ask: Ask) -> engine::Result<Answer> {
    Ok(match ask {
        Ask::Start { project, token, mark } => {
            let output = engine.start_build(caller, start(project, token, mark)).await?;
            Answer::Build(Box::new(output.build.unwrap()))
        }
        Ask::Retry { id, token } => {
            let input = RetryBuildInput { id: Some(id), idempotency_token: token };
            Answer::Build(Box::new(engine.retry_build(caller, input).await?.build.unwrap()))
        }
        Ask::Stop { id } => {
            let output = engine.stop_build(caller, StopBuildInput { id: Some(id) }).await?;
            Answer::Build(Box::new(output.build.unwrap()))
        }
        Ask::Delete { id } => {
            let input = BatchDeleteBuildsInput { ids: Some(vec![id]) };
            let output = engine.batch_delete_builds(caller, input).await?;
            Answer::Deleted(output.builds_deleted.is_some_and(|deleted| !deleted.is_empty()))
        }
        Ask::Get { id } => {
            let found = engine.batch_get_builds(caller, BatchGetBuildsInput { ids: Some(vec![id]) }).await?;
            let build = found.builds.into_iter().next().map(|build| build.build()).transpose()?;
            Answer::Found(build.map(Box::new))
        }
        Ask::List => {
            let listed = engine.list_builds(caller, ListBuildsInput::default()).await?;
            Answer::Listed(listed.ids.unwrap_or_default().len())
        }
    })
}

fn start(project: String, token: Option<String>, mark: String) -> StartBuildInput {
    let variable =
        EnvironmentVariable { name: Some(MARK.to_owned()), value: Some(mark), ..Default::default() };
    StartBuildInput {
        project_name: Some(project),
        idempotency_token: token,
        environment_variables_override: Some(vec![variable]),
        ..StartBuildInput::default()
    }
}

/// A project, as far as promises depend on it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) limit: Option<i32>,
    pub(crate) is_large: bool,
    pub(crate) retries: Option<i32>,
    pub(crate) queued_minutes: i32,
}

pub(crate) async fn create(engine: &Engine, plan: Plan) -> engine::Result<()> {
    let compute_type =
        if plan.is_large { ComputeType::BuildGeneral1Large } else { ComputeType::BuildGeneral1Small };
    let input = CreateProjectInput {
        name: Some(plan.name),
        source: Some(ProjectSource {
            r#type: Some(SourceType::NoSource),
            buildspec: Some("version: 0.2\nphases: {}\n".to_owned()),
            ..ProjectSource::default()
        }),
        artifacts: Some(ProjectArtifacts { r#type: Some(ArtifactsType::NoArtifacts), ..Default::default() }),
        environment: Some(ProjectEnvironment {
            r#type: Some(EnvironmentType::LinuxContainer),
            image: Some("host".to_owned()),
            compute_type: Some(compute_type),
            ..ProjectEnvironment::default()
        }),
        service_role: Some("builder".to_owned()),
        concurrent_build_limit: plan.limit,
        auto_retry_limit: plan.retries,
        timeout_in_minutes: Some(5),
        queued_timeout_in_minutes: Some(plan.queued_minutes),
        ..CreateProjectInput::default()
    };
    engine.create_project(&caller(), input).await.map(drop)
}
