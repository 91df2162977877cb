//! Resource policies: what the owner of a project gives away, and to whom.

use api::codebuild::*;
use engine::{Caller, Error};

use crate::user::*;

const PROJECT: &str = "arn:aws:codebuild:eu-west-1:123456789012:project/demo";

fn policy(principal: &str, actions: &[&str]) -> String {
    let actions: Vec<String> = actions.iter().map(|action| format!("\"codebuild:{action}\"")).collect();
    format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Principal": {{"AWS": "{principal}"}},
            "Action": [{}], "Resource": "{PROJECT}"}}]}}"#,
        actions.join(", ")
    )
}

async fn put(tester: &Tester, arn: &str, policy: &str) -> engine::Result<String> {
    let input =
        PutResourcePolicyInput { policy: Some(policy.to_string()), resource_arn: Some(arn.to_string()) };
    let output = tester.engine.put_resource_policy(&tester.caller, input).await?;
    Ok(output.resource_arn.unwrap())
}

async fn get(tester: &Tester, arn: &str) -> engine::Result<String> {
    let input = GetResourcePolicyInput { resource_arn: Some(arn.to_string()) };
    Ok(tester.engine.get_resource_policy(&tester.caller, input).await?.policy.unwrap())
}

async fn delete(tester: &Tester, arn: &str) -> engine::Result<DeleteResourcePolicyOutput> {
    let input = DeleteResourcePolicyInput { resource_arn: Some(arn.to_string()) };
    tester.engine.delete_resource_policy(&tester.caller, input).await
}

async fn shared(
    tester: &Tester,
    caller: &Caller,
    input: ListSharedProjectsInput,
) -> ListSharedProjectsOutput {
    tester.engine.list_shared_projects(caller, input).await.unwrap()
}

async fn projects(tester: &Tester, caller: &Caller, name: &str) -> (usize, usize) {
    let input = BatchGetProjectsInput { names: Some(vec![name.to_string(), name.to_string()]) };
    let found = tester.engine.batch_get_projects(caller, input).await.unwrap();
    (found.projects.unwrap().len(), found.projects_not_found.unwrap().len())
}

async fn builds(tester: &Tester, caller: &Caller, id: &str) -> (usize, usize) {
    let input = BatchGetBuildsInput { ids: Some(vec![id.to_string()]) };
    let found = tester.engine.batch_get_builds(caller, input).await.unwrap();
    (found.builds.len(), found.builds_not_found.len())
}

async fn listed(tester: &Tester, caller: &Caller, project: &str) -> engine::Result<Vec<String>> {
    let input = ListBuildsForProjectInput { project_name: Some(project.to_string()), ..Default::default() };
    Ok(tester.engine.list_builds_for_project(caller, input).await?.ids.unwrap())
}

// AP-113, AP-114, AP-115
#[tokio::test]
async fn a_policy_is_kept_word_for_word_replaced_and_deleted() {
    let tester = Tester::new().await;
    assert!(matches!(get(&tester, PROJECT).await, Err(Error::NotFound(_))));
    let text = policy("999999999999", &["BatchGetProjects"]);
    assert_eq!(put(&tester, PROJECT, &text).await.unwrap(), PROJECT);
    assert_eq!(get(&tester, PROJECT).await.unwrap(), text);
    let other = policy("888888888888", &["BatchGetBuilds"]);
    put(&tester, PROJECT, &other).await.unwrap();
    assert_eq!(get(&tester, PROJECT).await.unwrap(), other);
    for elsewhere in
        [PROJECT.replace("eu-west-1", "us-east-1"), PROJECT.replace("123456789012", "999999999999")]
    {
        delete(&tester, &elsewhere).await.expect("AP-115 declares no NotFound");
    }
    assert_eq!(get(&tester, PROJECT).await.unwrap(), other);
    delete(&tester, PROJECT).await.unwrap();
    delete(&tester, PROJECT).await.unwrap();
    assert!(matches!(get(&tester, PROJECT).await, Err(Error::NotFound(_))));
}

// AP-113
#[tokio::test]
async fn a_policy_that_is_not_understood_or_gives_away_more_is_refused() {
    let tester = Tester::new().await;
    for (text, expect) in [
        ("{", "Invalid resource policy"),
        ("{}", "Invalid resource policy"),
        (policy("999999999999", &["StartBuild"]).as_str(), "its actions can only be"),
        (policy("999999999999", &["*"]).as_str(), "its actions can only be"),
        (policy("somebody", &["BatchGetBuilds"]).as_str(), "somebody"),
        (&policy("9", &["BatchGetBuilds"]).replace("\"Principal\"", "\"Prinzipal\""), "Prinzipal"),
    ] {
        let Err(Error::InvalidInput(message)) = put(&tester, PROJECT, text).await else {
            panic!("{text} is not sound")
        };
        assert!(message.contains(expect), "{message}");
    }
    let sound = policy("999999999999", &["BatchGetBuilds"]);
    for arn in ["demo", "arn:aws:s3:::bucket", "arn:aws:codebuild:eu-west-1:123456789012:build/demo:1"] {
        assert!(matches!(put(&tester, arn, &sound).await, Err(Error::InvalidInput(_))), "{arn}");
    }
    for arn in [
        "arn:aws:codebuild:eu-west-1:123456789012:project/gone",
        "arn:aws:codebuild:eu-west-1:999999999999:project/demo",
        "arn:aws:codebuild:us-east-1:123456789012:project/demo",
    ] {
        assert!(matches!(put(&tester, arn, &sound).await, Err(Error::NotFound(_))), "{arn}");
    }
    // Each kind of resource has its own actions.
    let group = "arn:aws:codebuild:eu-west-1:123456789012:report-group/none";
    assert!(matches!(put(&tester, group, &sound).await, Err(Error::InvalidInput(_))));
    let sound = policy("999999999999", &["BatchGetReports"]);
    assert!(matches!(put(&tester, group, &sound).await, Err(Error::NotFound(_))));
}

// AP-009, AP-063, AP-065, AP-073, AP-075, AP-113, IN-120, IN-121
#[tokio::test]
async fn another_account_sees_what_is_shared_with_it_by_arn_and_nothing_else() {
    let tester = Tester::new().await;
    let eve = caller_of("999999999999", "eve");
    let id = tester.start().await;
    tester.done(&id).await;
    let build = format!("arn:aws:codebuild:eu-west-1:123456789012:build/{id}");
    let all = ["BatchGetProjects", "BatchGetBuilds", "ListBuildsForProject"];
    for (principal, actions, sees) in [
        ("999999999999", &all[..], [true, true, true]),
        ("*", &all[..], [true, true, true]),
        ("arn:aws:iam::999999999999:user/eve", &all[..], [true, true, true]),
        ("arn:aws:iam::999999999999:user/mallory", &all[..], [false, false, false]),
        ("888888888888", &all[..], [false, false, false]),
        ("999999999999", &all[..1], [true, false, false]),
        ("999999999999", &all[1..2], [false, true, false]),
    ] {
        put(&tester, PROJECT, &policy(principal, actions)).await.unwrap();
        let count = |sees| if sees { (1, 0) } else { (0, 1) };
        let expect = if sees[0] { (1, 0) } else { (0, 2) };
        assert_eq!(projects(&tester, &eve, PROJECT).await, expect, "{principal} {actions:?}");
        assert_eq!(builds(&tester, &eve, &build).await, count(sees[1]), "{principal} {actions:?}");
        let ids = listed(&tester, &eve, PROJECT).await;
        match sees[2] {
            true => assert_eq!(ids.unwrap(), [build.as_str()], "{principal}"),
            false => assert!(matches!(ids, Err(Error::NotFound(_))), "{principal}"),
        }
        let arns = shared(&tester, &eve, ListSharedProjectsInput::default()).await.projects.unwrap();
        assert_eq!(arns.len(), usize::from(sees[0]), "{principal}");
        assert_eq!(projects(&tester, &eve, "demo").await, (0, 2), "a name is one of the own account");
        assert_eq!(builds(&tester, &eve, &id).await, (0, 1));
    }
    let own = shared(&tester, &tester.caller, ListSharedProjectsInput::default()).await;
    assert_eq!(own.projects.unwrap(), Vec::<String>::new());
}

// AP-065
#[tokio::test]
async fn shared_projects_are_listed_in_pages_by_arn_or_time() {
    let tester = Tester::new().await;
    let eve = caller_of("999999999999", "eve");
    let arn = |name: &str| format!("arn:aws:codebuild:eu-west-1:123456789012:project/{name}");
    for name in ["bb", "aa", "cc"] {
        tester.clock.advance(std::time::Duration::from_secs(1));
        tester.create_project(name, |_| {}).await.unwrap();
        let text = policy("999999999999", &["BatchGetProjects"]).replace(PROJECT, &arn(name));
        put(&tester, &arn(name), &text).await.unwrap();
    }
    use {SharedResourceSortByType as By, SortOrderType as Order};
    for (by, order, expect) in [
        (None, None, ["aa", "bb", "cc"]),
        (Some(By::Arn), Some(Order::Descending), ["cc", "bb", "aa"]),
        (Some(By::ModifiedTime), Some(Order::Ascending), ["bb", "aa", "cc"]),
        (Some(By::ModifiedTime), Some(Order::Descending), ["cc", "aa", "bb"]),
    ] {
        let (mut found, mut next_token) = (Vec::new(), None);
        loop {
            let input = ListSharedProjectsInput {
                sort_by: by.clone(),
                sort_order: order.clone(),
                max_results: Some(2),
                next_token,
            };
            let page = shared(&tester, &eve, input).await;
            found.extend(page.projects.unwrap());
            match page.next_token {
                Some(token) => next_token = Some(token),
                None => break,
            }
        }
        assert_eq!(found, expect.map(arn), "{by:?} {order:?}");
    }
}

// AP-062
#[tokio::test]
async fn a_shared_project_with_builds_is_not_deleted() {
    let tester = Tester::new().await;
    let id = tester.start().await;
    tester.done(&id).await;
    put(&tester, PROJECT, &policy("999999999999", &["BatchGetBuilds"])).await.unwrap();
    let input = || DeleteProjectInput { name: Some("demo".to_string()) };
    let Err(Error::InvalidInput(message)) = tester.engine.delete_project(&tester.caller, input()).await
    else {
        panic!("it has builds and a policy")
    };
    assert!(message.contains("demo") && message.contains("policy"), "{message}");
    delete(&tester, PROJECT).await.unwrap();
    tester.engine.delete_project(&tester.caller, input()).await.unwrap();
}
