//! Who may do what, over HTTP: every operation for somebody without rights, and two accounts strictly apart.

use api::schema::{Kind, Shape};
use api::{codebuild, logs, secretsmanager, ssm};
use serde_json::{Map, Value, json};

use super::*;

/// Texts of which each string of the models takes one.
const TEXTS: [&str; 7] = [
    "demo",
    "/demo",
    "demo:0f1e2d3c-0000-4000-8000-000000000000",
    "arn:aws:codebuild:us-east-1:123456789012:report-group/demo",
    "0f1e2d3c-0000-4000-8000-000000000000",
    "{}",
    "4111111111111111111111111111111111111111",
];

/// A value that satisfies the shape, with nothing in it that need not be.
fn sample(shape: &'static Shape) -> Value {
    match &shape.kind {
        Kind::Structure(members) => {
            let needed = members.iter().filter(|member| member.required);
            needed.map(|member| (member.name.to_owned(), sample(member.shape))).collect::<Map<_, _>>().into()
        }
        Kind::List(item) => json!([sample(item)]),
        Kind::Map(_, value) => json!({ "demo": sample(value) }),
        Kind::Boolean => json!(false),
        Kind::Integer | Kind::Long | Kind::Double | Kind::Timestamp => json!(shape.min.unwrap_or(1)),
        Kind::Blob => json!("ZGVtbw=="),
        Kind::String if !shape.values.is_empty() => json!(shape.values[0]),
        Kind::String => {
            let texts = TEXTS.iter().map(|text| json!(text));
            let fits = |text: &Value| api::validate(shape, text).is_ok();
            texts.into_iter().find(fits).unwrap_or_else(|| panic!("no text fits {}", shape.name))
        }
    }
}

fn every_operation() -> Vec<(&'static aws::Service, &'static str, Value)> {
    let mut all = Vec::new();
    all.extend(
        codebuild::Operation::ALL.iter().map(|one| (&aws::CODEBUILD, one.name(), sample(one.input()))),
    );
    all.extend(logs::Operation::ALL.iter().map(|one| (&aws::LOGS, one.name(), sample(one.input()))));
    all.extend(ssm::Operation::ALL.iter().map(|one| (&aws::SSM, one.name(), sample(one.input()))));
    let secrets = secretsmanager::Operation::ALL.iter();
    all.extend(secrets.map(|one| (&aws::SECRETS_MANAGER, one.name(), sample(one.input()))));
    all
}

/// Whether an answer is empty but for what is not there.
fn finds_nothing(answer: &Value) -> bool {
    let members = answer.as_object().unwrap();
    members.iter().all(|(name, value)| {
        let is_missing = name.ends_with("NotFound") || name == "buildsNotDeleted";
        value.as_array().is_some_and(|list| list.len() == usize::from(is_missing))
    })
}

// AP-004, AP-005
#[test]
fn without_a_policy_every_operation_is_denied_and_a_batch_finds_nothing() {
    let server = Server::start();
    for (service, operation, input) in every_operation() {
        match server.call_as("AKIDNOBODY", service, operation, input.clone()) {
            Ok(answer) => {
                assert!(operation.starts_with("Batch"), "{operation} {input}: {answer}");
                assert!(
                    !answer.as_object().unwrap().is_empty() && finds_nothing(&answer),
                    "{operation}: {answer}"
                );
            }
            Err(error) => assert!(error.is("AccessDeniedException"), "{operation} {input}: {error}"),
        }
    }
}

// AP-004
#[test]
fn a_denial_names_who_what_and_where_as_aws_does() {
    let server = Server::start();
    let input = json!({ "projectName": "demo" });
    let error = server.call_as("AKIDNOBODY", &aws::CODEBUILD, "StartBuild", input).unwrap_err();
    assert!(
        error.to_string().contains(
            "User: arn:aws:iam::123456789012:user/nobody is not authorized to perform: codebuild:StartBuild on resource: \
             arn:aws:codebuild:us-east-1:123456789012:project/demo because no identity-based policy allows the \
             codebuild:StartBuild action"
        ),
        "{error}"
    );
}

// AP-005
#[test]
fn of_a_mixed_batch_only_what_is_allowed_is_found() {
    let server = Server::start();
    let id = |project: &str| format!("{project}:0f1e2d3c-0000-4000-8000-000000000000");
    let arn =
        |account: &str, project: &str| format!("arn:aws:codebuild:us-east-1:{account}:build/{}", id(project));
    let asked = [
        id("open"),
        id("closed"),
        arn(ACCOUNT, "open"),
        arn(ACCOUNT, "closed"),
        arn("444455556666", "open"),
        id("Open"),
        id("\u{43e}pen"),
        arn(ACCOUNT, "open").replace("arn:aws:", "arn:aws-cn:"),
    ];
    let input = json!({ "ids": asked });
    let answer = server.call_as("AKIDPARTLY", &aws::CODEBUILD, "BatchGetBuilds", input).unwrap();
    // The operations of these tests find whatever they are asked for.
    assert_eq!(answer["builds"], json!([asked[0], asked[2]]), "{answer}");
    assert_eq!(
        answer["buildsNotFound"],
        json!([asked[1], asked[3], asked[4], asked[5], asked[6], asked[7]]),
        "{answer}"
    );
    let deleted = json!({ "ids": [id("open"), id("closed")] });
    let answer = server.call_as("AKIDPARTLY", &aws::CODEBUILD, "BatchDeleteBuilds", deleted).unwrap();
    assert_eq!(
        answer["buildsNotDeleted"],
        json!([{ "id": arn(ACCOUNT, "closed"), "statusCode": "BUILD_NOT_FOUND" }]),
    );
}

#[test]
fn a_key_that_is_withdrawn_is_refused_with_the_next_request() {
    let server = Server::start();
    let list = || server.call_as("AKIDEVE", &aws::CODEBUILD, "ListProjects", json!({}));
    list().unwrap();
    server.keys.remove("AKIDEVE");
    assert!(list().is_err());
}

#[test]
fn accounts_are_strictly_apart_and_policies_hold_for_every_service() {
    Server::start().python(include_str!("../rights.py"));
}
