//! Projects, and lists of builds.

use std::time::Duration;

use agent::journal::Phase;
use api::codebuild::*;
use engine::Error;
use engine::config::LogGrew;

use crate::user::*;

// AP-060..064
#[tokio::test]
async fn projects_are_made_changed_found_and_deleted() {
    let tester = Tester::new().await;
    let made = tester.create_project("web", |_| {}).await.unwrap();
    let again = tester.create_project("web", |_| {}).await;
    let Err(Error::AlreadyExists(message)) = again else { panic!("made twice") };
    assert_eq!(message, format!("Project already exists: {}", made.arn.clone().unwrap()));

    tester.clock.advance(Duration::from_secs(1));
    let input = UpdateProjectInput {
        name: Some("web".to_string()),
        description: Some("the site".to_string()),
        ..UpdateProjectInput::default()
    };
    let changed = tester.engine.update_project(&tester.caller, input).await.unwrap().project.unwrap();
    assert_eq!((changed.description.as_deref(), changed.created), (Some("the site"), made.created));

    let names = vec![made.arn.unwrap(), "nope".to_string(), "web".to_string()];
    let input = BatchGetProjectsInput { names: Some(names) };
    let found = tester.engine.batch_get_projects(&tester.caller, input).await.unwrap();
    assert_eq!(found.projects.unwrap(), [changed]);
    assert_eq!(found.projects_not_found.unwrap(), ["nope"]);

    for _ in 0..2 {
        let input = DeleteProjectInput { name: Some("web".to_string()) };
        tester.engine.delete_project(&tester.caller, input).await.unwrap();
    }
    let input = UpdateProjectInput { name: Some("web".to_string()), ..UpdateProjectInput::default() };
    assert!(matches!(tester.engine.update_project(&tester.caller, input).await, Err(Error::NotFound(_))));
}

// AP-006
#[tokio::test]
async fn long_lists_come_in_pages_of_a_hundred() {
    let tester = Tester::new().await;
    for number in 0..150 {
        tester.create_project(&format!("p{number:03}"), |_| {}).await.unwrap();
    }
    let list = |next_token| {
        let input = ListProjectsInput { next_token, ..ListProjectsInput::default() };
        let engine = &tester.engine;
        async move { engine.list_projects(&caller(), input).await }
    };
    let first = list(None).await.unwrap();
    let mut names = first.projects.unwrap();
    assert_eq!(names.len(), 100);
    let second = list(first.next_token.clone()).await.unwrap();
    assert!(second.next_token.is_none());
    names.extend(second.projects.unwrap());
    let mut expect: Vec<String> = (0..150).map(|number| format!("p{number:03}")).collect();
    expect.insert(0, "demo".to_string());
    assert_eq!(names, expect);
    assert!(matches!(list(Some("zz".to_string())).await, Err(Error::InvalidInput(_))));
    let input = ListBuildsInput { next_token: first.next_token, ..ListBuildsInput::default() };
    let foreign = tester.engine.list_builds(&tester.caller, input).await;
    assert!(matches!(foreign, Err(Error::InvalidInput(_))), "{foreign:?}");
}

// LC-005, LC-006, AP-075
#[tokio::test]
async fn a_projects_builds_are_listed_by_number_and_outlive_it() {
    let tester = Tester::new().await;
    let (first, second) = (tester.start().await, tester.start().await);
    let list = |sort_order| {
        let input = ListBuildsForProjectInput {
            project_name: Some("demo".to_string()),
            sort_order,
            ..ListBuildsForProjectInput::default()
        };
        let engine = &tester.engine;
        async move { engine.list_builds_for_project(&caller(), input).await }
    };
    assert_eq!(list(None).await.unwrap().ids.unwrap(), [second.clone(), first.clone()]);
    let ascending = list(Some(SortOrderType::Ascending)).await.unwrap();
    assert_eq!(ascending.ids.unwrap(), [first.clone(), second]);
    tester.done(&first).await;
    let input = DeleteProjectInput { name: Some("demo".to_string()) };
    tester.engine.delete_project(&tester.caller, input).await.unwrap();
    assert_eq!(tester.get(&first).await.id, Some(first));
    let Err(Error::NotFound(message)) = list(None).await else { panic!("found") };
    let arn = "arn:aws:codebuild:eu-west-1:123456789012:project/demo";
    assert_eq!(message, format!("The provided project {arn} does not exist"));
}

// AP-078
#[tokio::test]
async fn only_builds_that_are_over_are_deleted() {
    let tester = Tester::new().await;
    let done = tester.start().await;
    let done_arn = tester.done(&done).await.arn.unwrap();
    tester.hold_all_in(Phase::Build);
    let running = tester.start().await;
    let input = BatchDeleteBuildsInput { ids: Some(vec![done.clone(), running.clone()]) };
    let deleted = tester.engine.batch_delete_builds(&tester.caller, input).await.unwrap();
    assert_eq!(deleted.builds_deleted.unwrap(), [done_arn]);
    let kept = deleted.builds_not_deleted.unwrap().remove(0);
    assert_eq!(kept.status_code.as_deref(), Some("BUILD_IN_PROGRESS"));
    assert!(kept.id.unwrap().ends_with(&running));
    let input = BatchGetBuildsInput { ids: Some(vec![done.clone(), running]) };
    let found = tester.engine.batch_get_builds(&tester.caller, input).await.unwrap();
    assert_eq!((found.builds.len(), found.builds_not_found), (1, vec![done]));
}

/// One bad name spoils no batch, and tells nothing about what another account or Region has.
// AP-005, AP-038, AP-078
#[tokio::test]
async fn an_arn_of_elsewhere_is_answered_as_what_is_not_there() {
    let tester = Tester::new().await;
    let done = tester.start().await;
    let arn = tester.done(&done).await.arn.unwrap();
    let elsewhere = [arn.replace("eu-west-1", "us-east-1"), arn.replace("123456789012", "999999999999")];
    let unknown = arn.replace("demo:", "gone:");
    for id in elsewhere.iter().chain([&unknown]) {
        let missing = format!("Build {id} does not exist");
        let stopped = tester.engine.stop_build(&tester.caller, StopBuildInput { id: Some(id.clone()) }).await;
        assert!(matches!(stopped, Err(Error::NotFound(message)) if message == missing), "{id}");
        let input = RetryBuildInput { id: Some(id.clone()), ..RetryBuildInput::default() };
        let retried = tester.engine.retry_build(&tester.caller, input).await;
        assert!(matches!(retried, Err(Error::NotFound(message)) if message == missing), "{id}");
    }
    let asked = vec![elsewhere[0].clone(), done.clone(), unknown.clone(), elsewhere[1].clone(), arn.clone()];
    let missing = vec![elsewhere[0].clone(), unknown, elsewhere[1].clone()];
    let input = BatchGetBuildsInput { ids: Some(asked.clone()) };
    let found = tester.engine.batch_get_builds(&tester.caller, input).await.unwrap();
    assert_eq!((found.builds.len(), &found.builds_not_found), (1, &missing));
    let delete = |ids| tester.engine.batch_delete_builds(&tester.caller, BatchDeleteBuildsInput { ids });
    let project = arn.replace(":build/", ":project/");
    let partitions = ["foo", "aws-cn"].map(|other| arn.replace("arn:aws:", &format!("arn:{other}:")));
    for nonsense in
        ["nonsense".to_owned(), project, arn.replace(":codebuild:", ":ec2:")].into_iter().chain(partitions)
    {
        let stopped =
            tester.engine.stop_build(&tester.caller, StopBuildInput { id: Some(nonsense.clone()) }).await;
        assert!(matches!(stopped, Err(Error::InvalidInput(_))), "{stopped:?}");
        let refused = delete(Some(vec![nonsense, done.clone()])).await;
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
    }
    let answer = delete(Some(asked)).await.unwrap();
    assert_eq!(answer.builds_deleted.unwrap(), [arn]);
    let kept = answer.builds_not_deleted.unwrap().into_iter();
    let kept: Vec<_> = kept.map(|one| (one.id.unwrap(), one.status_code.unwrap())).collect();
    let not_found = |arn: String| (arn, "BUILD_NOT_FOUND".to_owned());
    assert_eq!(kept, missing.into_iter().map(not_found).collect::<Vec<_>>());
}

// AP-009
#[tokio::test]
async fn an_arn_of_another_partition_names_nothing_here() {
    let tester = Tester::new().await;
    let (engine, caller) = (&tester.engine, &tester.caller);
    for partition in ["foo", "aws-cn", "aws-us-gov"] {
        let arn = format!("arn:{partition}:codebuild:eu-west-1:123456789012:project/demo");
        let input = BatchGetProjectsInput { names: Some(vec![arn.clone()]) };
        let found = engine.batch_get_projects(caller, input).await.unwrap();
        assert_eq!(found.projects_not_found.unwrap().concat(), arn);
        let expected = format!("Invalid project ARN {arn}: the partition here is aws");
        let input = StartBuildInput { project_name: Some(arn.clone()), ..StartBuildInput::default() };
        let refused = engine.start_build(caller, input).await;
        assert!(matches!(refused, Err(Error::InvalidInput(message)) if message == expected));
        let input = UpdateProjectInput { name: Some(arn.clone()), ..UpdateProjectInput::default() };
        let refused = engine.update_project(caller, input).await;
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
        let report = arn.replace("project/demo", "report/unit:0f1e");
        let refused = engine.delete_report(caller, DeleteReportInput { arn: Some(report) }).await;
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
        let group = arn.replace("project/demo", "report-group/unit");
        let input = DeleteReportGroupInput { arn: Some(group), ..DeleteReportGroupInput::default() };
        let refused = engine.delete_report_group(caller, input).await;
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
        let role = Some(format!("arn:{partition}:iam::123456789012:role/builder"));
        let input = UpdateProjectInput {
            name: Some("demo".to_owned()),
            service_role: role,
            ..UpdateProjectInput::default()
        };
        let Err(Error::InvalidInput(message)) = engine.update_project(caller, input).await else {
            panic!("{partition} accepted");
        };
        assert!(message.ends_with("is not in the partition aws"), "{message}");
    }
}

#[tokio::test]
async fn a_batch_of_projects_or_reports_names_what_is_elsewhere_among_what_is_missing() {
    let tester = Tester::new().await;
    let arn =
        |region: &str, account: &str, name: &str| format!("arn:aws:codebuild:{region}:{account}:{name}");
    let asked = |name: &str| {
        let here = arn("eu-west-1", "123456789012", name);
        vec![here.replace("eu-west-1", "us-east-1"), here.replace("1234", "9999"), here]
    };
    let (engine, caller) = (&tester.engine, &tester.caller);
    let mut names = asked("project/demo");
    let input = BatchGetProjectsInput { names: Some(names.clone()) };
    let found = engine.batch_get_projects(caller, input).await.unwrap();
    names.pop();
    assert_eq!((found.projects.unwrap().len(), found.projects_not_found.unwrap()), (1, names));
    let groups = asked("report-group/unit");
    let input = BatchGetReportGroupsInput { report_group_arns: Some(groups.clone()) };
    let found = engine.batch_get_report_groups(caller, input).await.unwrap();
    assert_eq!(found.report_groups_not_found.unwrap(), groups);
    let reports = asked("report/unit:0f1e");
    let input = BatchGetReportsInput { report_arns: Some(reports.clone()) };
    let found = engine.batch_get_reports(caller, input).await.unwrap();
    assert_eq!(found.reports_not_found.unwrap(), reports);
}

#[tokio::test]
async fn another_account_sees_and_stops_nothing() {
    let tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    let arn = tester.get(&id).await.arn.unwrap();
    let stranger = caller_of("999999999999", "eve");
    let asked = vec![id.clone(), arn];
    let input = BatchGetBuildsInput { ids: Some(asked.clone()) };
    let found = tester.engine.batch_get_builds(&stranger, input).await.unwrap();
    assert_eq!((found.builds.len(), found.builds_not_found), (0, asked.clone()));
    for id in asked {
        let input = StopBuildInput { id: Some(id) };
        assert!(tester.engine.stop_build(&stranger, input).await.is_err());
    }
    let input = StartBuildInput { project_name: Some("demo".to_string()), ..StartBuildInput::default() };
    assert!(matches!(tester.engine.start_build(&stranger, input).await, Err(Error::NotFound(_))));
    assert_eq!(tester.get(&id).await.build_complete, Some(false));
}

#[tokio::test]
async fn readers_of_the_log_are_told_when_the_build_ends() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let tester = Tester::with(|config| {
        config.log_grew = LogGrew::new(move |account, group, stream| {
            tell.send((account.to_string(), group.to_string(), stream.to_string())).unwrap();
        });
    })
    .await;
    let id = tester.start().await;
    tester.done(&id).await;
    let expect = ("123456789012".to_string(), "/aws/codebuild/demo".to_string(), uuid(&id).to_string());
    assert_eq!(told.recv().await, Some(expect));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_different_members_at_the_same_time_are_all_kept() {
    let tester = std::sync::Arc::new(Tester::new().await);
    let update = |change: fn(&mut UpdateProjectInput, i32), value: i32| {
        let tester = tester.clone();
        tokio::spawn(async move {
            let mut input =
                UpdateProjectInput { name: Some("demo".to_string()), ..UpdateProjectInput::default() };
            change(&mut input, value);
            tester.engine.update_project(&tester.caller, input).await.unwrap();
        })
    };
    for value in 5..25 {
        let changes = [
            update(|input, value| input.timeout_in_minutes = Some(value), value),
            update(|input, value| input.queued_timeout_in_minutes = Some(value), value),
            update(|input, value| input.description = Some(value.to_string()), value),
        ];
        for change in changes {
            change.await.unwrap();
        }
        let input = BatchGetProjectsInput { names: Some(vec!["demo".to_string()]) };
        let found = tester.engine.batch_get_projects(&tester.caller, input).await.unwrap();
        let project = found.projects.unwrap().remove(0);
        assert_eq!(
            (project.timeout_in_minutes, project.queued_timeout_in_minutes),
            (Some(value), Some(value))
        );
        assert_eq!(project.description, Some(value.to_string()));
    }
}

// EN-006
#[tokio::test]
async fn the_hosts_kernel_may_be_chosen_and_is_shown() {
    let tester = Tester::new().await;
    let chosen = |environment: Option<ProjectEnvironment>| environment.unwrap().host_kernel.unwrap();
    let made = tester.create_project("kernel", |input| {
        input.environment.as_mut().unwrap().host_kernel = Some(HostKernel::LinuxKernel4);
    });
    assert_eq!(chosen(made.await.unwrap().environment), HostKernel::LinuxKernel4);
    let build = tester.start_with(|input| {
        input.project_name = Some("kernel".to_string());
        input.host_kernel_override = Some(HostKernel::LinuxKernel6);
    });
    assert_eq!(chosen(build.await.unwrap().environment), HostKernel::LinuxKernel6);
}
