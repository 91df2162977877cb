//! Reports of builds: from what an agent found to what the API answers.

use std::time::Duration;

use agent::journal::ReportGroup as Wanted;
use api::codebuild::*;
use executor::fake::Script;
use report::Format;

use crate::user::*;

const JUNIT: &str = "<testsuite><testcase name='adds' classname='shop.Cart' time='1'/>\
    <testcase name='removes' classname='shop.Cart' time='3'><failure message='wrong'/></testcase></testsuite>";
const CLOVER: &str = "<coverage><project><file path='b.js'><line type='stmt' count='1'/></file>\
    <file path='a.js'><line type='stmt' count='0'/><line type='stmt' count='1'/></file></project></coverage>";

type Made = (Wanted, Option<String>, bool);

fn made(name: &str, format: Format, text: Option<&str>) -> Made {
    let group = Wanted { name: name.to_owned(), kind: format.kind(), create: true };
    let read = |text: &str| serde_json::to_string(&report::read(format, text.as_bytes()).unwrap()).unwrap();
    (group, text.map(read), text.is_some())
}

fn tests(name: &str) -> Made {
    made(name, Format::JunitXml, Some(JUNIT))
}

/// A build that makes these reports.
async fn build(tester: &Tester, reports: Vec<Made>) -> Build {
    tester.agents.script(move |_| Script { reports: reports.clone(), ..Script::default() });
    let id = tester.start().await;
    tester.done(&id).await
}

fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:codebuild:eu-west-1:123456789012:{kind}/{name}")
}

async fn report(tester: &Tester, arn: &str) -> Option<Report> {
    let input = BatchGetReportsInput { report_arns: Some(vec![arn.to_owned()]) };
    tester.engine.batch_get_reports(&tester.caller, input).await.unwrap().reports.unwrap().pop()
}

async fn cases(tester: &Tester, arn: &str, filter: TestCaseFilter) -> Vec<TestCase> {
    let input = DescribeTestCasesInput {
        report_arn: Some(arn.to_owned()),
        filter: Some(filter),
        ..DescribeTestCasesInput::default()
    };
    tester.engine.describe_test_cases(&tester.caller, input).await.unwrap().test_cases.unwrap()
}

// BS-110, BS-114, IN-100, IN-112, LC-004, AP-094, AP-099
#[tokio::test]
async fn a_builds_tests_become_a_report_in_a_group_made_on_first_use() {
    let tester = Tester::new().await;
    let build = build(&tester, vec![tests("demo-unit")]).await;
    let arns = build.report_arns.unwrap();
    let id = build.id.unwrap();
    assert_eq!(arns, [arn("report", &format!("demo-unit:{}", uuid(&id)))]);
    let found = report(&tester, &arns[0]).await.unwrap();
    assert_eq!(found.status, Some(ReportStatusType::Failed));
    assert_eq!(found.execution_id, build.arn);
    assert_eq!(found.report_group_arn.as_deref(), Some(&*arn("report-group", "demo-unit")));
    let summary = found.test_summary.unwrap();
    assert_eq!((summary.total, summary.duration_in_nano_seconds), (Some(2), Some(4_000_000_000)));
    assert_eq!(summary.status_counts.unwrap()["FAILED"], 1);
    let groups =
        BatchGetReportGroupsInput { report_group_arns: Some(vec![arn("report-group", "demo-unit")]) };
    let groups = tester.engine.batch_get_report_groups(&tester.caller, groups).await.unwrap();
    let group = groups.report_groups.unwrap().remove(0);
    assert_eq!(group.r#type, Some(ReportType::Test));
    assert_eq!(group.export_config.unwrap().export_config_type, Some(ReportExportConfigType::NoExport));
    let all = cases(&tester, &arns[0], TestCaseFilter::default()).await;
    assert_eq!(all.iter().map(|case| case.name.as_deref().unwrap()).collect::<Vec<_>>(), ["adds", "removes"]);
    let of = |status: &str, keyword: &str| TestCaseFilter {
        status: Some(status.to_owned()).filter(|status| !status.is_empty()),
        keyword: Some(keyword.to_owned()),
    };
    assert_eq!(cases(&tester, &arns[0], of("FAILED", "shop")).await.len(), 1);
    assert_eq!(cases(&tester, &arns[0], of("", "dds")).await.len(), 1);
    assert!(cases(&tester, &arns[0], of("SKIPPED", "")).await.is_empty());
}

// AP-100, IN-109
#[tokio::test]
async fn coverage_is_sorted_and_filtered_as_asked() {
    let tester = Tester::new().await;
    let build = build(&tester, vec![made("demo-cov", Format::CloverXml, Some(CLOVER))]).await;
    let arn = build.report_arns.unwrap().remove(0);
    let found = report(&tester, &arn).await.unwrap();
    assert_eq!(found.status, Some(ReportStatusType::Succeeded));
    let summary = found.code_coverage_summary.unwrap();
    assert_eq!((summary.lines_covered, summary.lines_missed), (Some(2), Some(1)));
    let of = async |change: fn(&mut DescribeCodeCoveragesInput)| {
        let mut input = DescribeCodeCoveragesInput {
            report_arn: Some(arn.clone()),
            ..DescribeCodeCoveragesInput::default()
        };
        change(&mut input);
        let found = tester.engine.describe_code_coverages(&tester.caller, input).await.unwrap();
        let paths = found.code_coverages.unwrap().into_iter().map(|one| one.file_path.unwrap());
        (paths.collect::<Vec<_>>(), found.next_token.is_some())
    };
    assert_eq!(of(|_| {}).await.0, ["a.js", "b.js"]);
    assert_eq!(of(|input| input.sort_order = Some(SortOrderType::Descending)).await.0, ["b.js", "a.js"]);
    assert_eq!(of(|input| input.min_line_coverage_percentage = Some(60.0)).await.0, ["b.js"]);
    assert_eq!(of(|input| input.max_results = Some(1)).await, (vec!["a.js".to_owned()], true));
}

// IN-100
#[tokio::test]
async fn a_report_without_files_and_one_whose_build_was_lost_are_incomplete() {
    let tester = Tester::new().await;
    let build = build(&tester, vec![made("demo-unit", Format::JunitXml, None)]).await;
    let found = report(&tester, &build.report_arns.unwrap()[0]).await.unwrap();
    assert_eq!((found.status, found.test_summary), (Some(ReportStatusType::Incomplete), None));
}

// BS-114
#[tokio::test]
async fn a_group_of_the_other_type_gets_no_report() {
    let tester = Tester::new().await;
    build(&tester, vec![tests("demo-unit")]).await;
    let build = build(&tester, vec![made("demo-unit", Format::CloverXml, Some(CLOVER))]).await;
    assert_eq!((status(&build), &build.report_arns), ("SUCCEEDED", &None));
}

// AP-092, AP-096, AP-097, AP-098, AP-101, IN-104
#[tokio::test]
async fn reports_are_listed_compared_expired_and_deleted() {
    let tester = Tester::new().await;
    let mut arns = Vec::new();
    for _ in 0..2 {
        arns.extend(build(&tester, vec![tests("demo-unit")]).await.report_arns.unwrap());
        tester.clock.advance(Duration::from_secs(1));
    }
    let (engine, caller, group) = (&tester.engine, &tester.caller, arn("report-group", "demo-unit"));
    let listed = async |status| {
        let filter = Some(ReportFilter { status: Some(status) });
        let input = ListReportsInput { filter, ..ListReportsInput::default() };
        engine.list_reports(caller, input).await.unwrap().reports.unwrap()
    };
    let newest_first: Vec<String> = arns.iter().rev().cloned().collect();
    assert_eq!(listed(ReportStatusType::Failed).await, newest_first);
    assert!(listed(ReportStatusType::Succeeded).await.is_empty());
    let trend = async |field| {
        let input = GetReportGroupTrendInput {
            report_group_arn: Some(group.clone()),
            num_of_reports: None,
            trend_field: Some(field),
        };
        engine.get_report_group_trend(caller, input).await
    };
    let rate = trend(ReportGroupTrendFieldType::PassRate).await.unwrap();
    assert_eq!(rate.stats.unwrap().average.as_deref(), Some("50"));
    assert_eq!(rate.raw_data.unwrap().len(), 2);
    assert!(trend(ReportGroupTrendFieldType::LineCoverage).await.is_err());
    let delete = async |reports| {
        let input = DeleteReportGroupInput { arn: Some(group.clone()), delete_reports: Some(reports) };
        engine.delete_report_group(caller, input).await
    };
    assert!(delete(false).await.is_err());
    engine.delete_report(caller, DeleteReportInput { arn: Some(arns[0].clone()) }).await.unwrap();
    assert_eq!(listed(ReportStatusType::Failed).await, arns[1..]);
    tester.clock.advance(Duration::from_secs(30 * 24 * 3600));
    assert!(listed(ReportStatusType::Failed).await.is_empty());
    delete(false).await.unwrap();
    assert!(trend(ReportGroupTrendFieldType::Total).await.is_err());
}

// AP-090, AP-091, AP-093, AP-095, AP-102, AP-113
#[tokio::test]
async fn a_report_group_is_made_changed_shared_and_listed() {
    let tester = Tester::new().await;
    let (engine, caller, group) = (&tester.engine, &tester.caller, arn("report-group", "unit"));
    let input = |name: &str| CreateReportGroupInput {
        name: Some(name.to_owned()),
        r#type: Some(ReportType::Test),
        export_config: Some(ReportExportConfig {
            export_config_type: Some(ReportExportConfigType::S3),
            s3_destination: Some(S3ReportExportConfig {
                bucket: Some("out".to_owned()),
                ..S3ReportExportConfig::default()
            }),
        }),
        tags: Some(vec![Tag { key: Some("team".to_owned()), value: Some("a".to_owned()) }]),
    };
    let made = engine.create_report_group(caller, input("unit")).await.unwrap().report_group.unwrap();
    let to = made.export_config.unwrap().s3_destination.unwrap();
    assert_eq!((to.packaging, to.path.as_deref()), (Some(ReportPackagingType::None), Some("")));
    assert!(matches!(
        engine.create_report_group(caller, input("unit")).await,
        Err(engine::Error::AlreadyExists(_))
    ));
    assert!(engine.create_report_group(caller, input("no:colons")).await.is_err());
    let update =
        UpdateReportGroupInput { arn: Some(group.clone()), export_config: None, tags: Some(Vec::new()) };
    let updated = engine.update_report_group(caller, update).await.unwrap().report_group.unwrap();
    assert_eq!(updated.tags, Some(Vec::new()));
    let listed = engine.list_report_groups(caller, ListReportGroupsInput::default()).await.unwrap();
    assert_eq!(listed.report_groups.unwrap(), std::slice::from_ref(&group));
    let policy = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"AWS": "444455556666"},
        "Action": ["codebuild:BatchGetReportGroups", "codebuild:BatchGetReports"], "Resource": "RESOURCE"}}"#;
    let put = PutResourcePolicyInput {
        policy: Some(policy.replace("RESOURCE", &group)),
        resource_arn: Some(group.clone()),
    };
    engine.put_resource_policy(caller, put).await.unwrap();
    let other = caller_of("444455556666", "bob");
    let shared = engine.list_shared_report_groups(&other, ListSharedReportGroupsInput::default()).await;
    assert_eq!(shared.unwrap().report_groups.unwrap(), std::slice::from_ref(&group));
    let found = BatchGetReportGroupsInput { report_group_arns: Some(vec![group.clone()]) };
    let found = engine.batch_get_report_groups(&other, found).await.unwrap();
    assert_eq!(found.report_groups.unwrap().len(), 1);
    let hidden = ListReportsForReportGroupInput {
        report_group_arn: Some(group),
        ..ListReportsForReportGroupInput::default()
    };
    assert!(engine.list_reports_for_report_group(&other, hidden).await.is_err());
}
