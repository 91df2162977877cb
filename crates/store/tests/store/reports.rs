//! Report groups and reports, through the public face.

use store::Error;
use store::records::{
    Order, Records, Report, ReportGroup, ReportGroupDeletion, ReportGroupSort, ReportSelection, Shareable,
};

use crate::databases::on_each_database;
use crate::records::scope;

async fn group(records: &Records, name: &str, created_ms: i64) {
    let document = "{}".to_owned();
    let group = ReportGroup { name: name.to_owned(), document, created_ms, modified_ms: 10 - created_ms };
    records.insert_report_group(&scope(), group).await.unwrap();
}

fn report(id: &str, status: &str, created_ms: i64) -> Report {
    Report {
        id: id.to_owned(),
        group: id.split(':').next().unwrap().to_owned(),
        status: status.to_owned(),
        created_ms,
        expires_ms: created_ms + 100,
        document: format!("{{\"status\":\"{status}\"}}"),
    }
}

async fn listed(records: &Records, group: Option<&str>, status: Option<&str>) -> Vec<String> {
    let selection = ReportSelection { group: group.map(Into::into), status: status.map(Into::into) };
    let (scope, mut all, mut after) = (scope(), Vec::new(), None);
    loop {
        let list = records.list_reports(&scope, &selection, Order::Ascending, after.as_deref(), 1);
        let page = list.await.unwrap();
        all.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

#[test]
fn report_groups_are_made_changed_listed_and_deleted() {
    on_each_database(async |home| {
        let (records, scope) = (home.open().unwrap(), scope());
        group(&records, "b", 1).await;
        group(&records, "a", 2).await;
        let again = ReportGroup { name: "a".into(), document: "{}".into(), created_ms: 3, modified_ms: 3 };
        assert!(matches!(records.insert_report_group(&scope, again).await, Err(Error::AlreadyExists { .. })));
        for (sort, expect) in [
            (ReportGroupSort::Name, ["a", "b"]),
            (ReportGroupSort::CreatedTime, ["b", "a"]),
            (ReportGroupSort::LastModifiedTime, ["a", "b"]),
        ] {
            let first = records.list_report_groups(&scope, sort, Order::Ascending, None, 1).await.unwrap();
            let next = first.next.as_deref();
            let second = records.list_report_groups(&scope, sort, Order::Ascending, next, 1).await.unwrap();
            assert_eq!([&first.items[0], &second.items[0]], expect, "{sort:?}");
        }
        assert!(records.update_report_group(&scope, "a", "{}", "new", 20).await.unwrap());
        assert!(!records.update_report_group(&scope, "a", "{}", "late", 21).await.unwrap());
        let found = records.get_report_groups(&scope, &["x".into(), "a".into()]).await.unwrap();
        assert_eq!((found.len(), &*found[0].document, found[0].modified_ms), (1, "new", 20));
        let delete = async |name, reports| records.delete_report_group(&scope, name, reports).await.unwrap();
        records.put_report(&scope, report("a:1", "SUCCEEDED", 1), Some("found".into())).await.unwrap();
        assert_eq!(delete("a", false).await, ReportGroupDeletion::HasReports);
        assert_eq!(delete("a", true).await, ReportGroupDeletion::Deleted);
        assert_eq!(records.report_findings(&scope, "a:1").await.unwrap(), None);
        assert_eq!(delete("a", true).await, ReportGroupDeletion::Unknown);
        assert_eq!(delete("b", false).await, ReportGroupDeletion::Deleted);
    });
}

#[test]
fn reports_are_listed_by_time_group_and_status() {
    on_each_database(async |home| {
        let (records, scope) = (home.open().unwrap(), scope());
        let missing = records.put_report(&scope, report("a:1", "FAILED", 1), None).await;
        assert!(matches!(missing, Err(Error::NotFound { .. })));
        group(&records, "a", 1).await;
        group(&records, "b", 1).await;
        for (id, status, created_ms) in
            [("b:1", "SUCCEEDED", 1), ("a:2", "GENERATING", 2), ("a:1", "SUCCEEDED", 2), ("b:2", "FAILED", 3)]
        {
            records.put_report(&scope, report(id, status, created_ms), None).await.unwrap();
        }
        records.put_report(&scope, report("a:2", "FAILED", 9), Some("found".into())).await.unwrap();
        assert_eq!(listed(&records, None, None).await, ["b:1", "a:1", "a:2", "b:2"]);
        assert_eq!(listed(&records, Some("a"), None).await, ["a:1", "a:2"]);
        assert_eq!(listed(&records, None, Some("FAILED")).await, ["a:2", "b:2"]);
        assert_eq!(listed(&records, Some("a"), Some("FAILED")).await, ["a:2"]);
        assert_eq!(records.report_findings(&scope, "a:2").await.unwrap().as_deref(), Some("found"));
        assert_eq!(records.report_findings(&scope, "a:1").await.unwrap(), None);
        assert!(records.delete_report(&scope, "a:2").await.unwrap());
        assert!(!records.delete_report(&scope, "a:2").await.unwrap());
        assert_eq!(records.report_findings(&scope, "a:2").await.unwrap(), None);
    });
}

#[test]
fn reports_go_when_their_time_has_come() {
    // IN-104
    on_each_database(async |home| {
        let (records, scope) = (home.open().unwrap(), scope());
        group(&records, "a", 1).await;
        records.put_report(&scope, report("a:1", "FAILED", 1), Some("found".into())).await.unwrap();
        records.put_report(&scope, report("a:2", "FAILED", 2), None).await.unwrap();
        records.expire_reports(100).await.unwrap();
        assert_eq!(listed(&records, None, None).await, ["a:1", "a:2"]);
        records.expire_reports(101).await.unwrap();
        assert_eq!(listed(&records, None, None).await, ["a:2"]);
    });
}

#[test]
fn a_group_is_shared_by_a_policy_that_goes_with_it() {
    on_each_database(async |home| {
        let records = home.open().unwrap();
        let put = |resource: &'static str| records.put_policy(&SCOPE, resource, "{}", 1);
        static SCOPE: std::sync::LazyLock<store::records::Scope> = std::sync::LazyLock::new(scope);
        assert!(matches!(put("report-group/a").await, Err(Error::NotFound { .. })));
        group(&records, "a", 1).await;
        put("report-group/a").await.unwrap();
        let other = store::records::Scope { account: "999999999999".into(), ..scope() };
        let found = records.foreign_policies(&other, Shareable::ReportGroups).await.unwrap();
        assert_eq!((found.len(), &*found[0].name, found[0].modified_ms), (1, "a", 9));
        assert!(records.foreign_policies(&other, Shareable::Projects).await.unwrap().is_empty());
        records.delete_report_group(&SCOPE, "a", false).await.unwrap();
        assert_eq!(records.get_policy(&SCOPE, "report-group/a").await.unwrap(), None);
    });
}
