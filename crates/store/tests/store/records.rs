//! Records.

use std::collections::BTreeSet;

use store::Error;
use store::records::{
    Acceptance, Build, BuildUpdate, Deletion, LogGroup, LogStream, NewBuild, Order, Page, Project,
    ProjectDeletion, ProjectSort, Records, Scope, Shareable, StreamOrder, Succession, Token,
};

use crate::databases::{Home, on_each_database};

/// A user of the records; every verb names only what its test is about.
struct Tester {
    records: Records,
    scope: Scope,
    home: Home,
}

pub(crate) fn scope() -> Scope {
    Scope { account: "123456789012".into(), region: "eu-west-1".into() }
}

pub(crate) fn new_build(id: &str) -> NewBuild {
    NewBuild {
        scope: scope(),
        id: id.to_owned(),
        project: id.split(':').next().unwrap().to_owned(),
        status: "IN_PROGRESS".into(),
        created_ms: 1000,
        lifecycle: "{}".into(),
        idempotency: None,
    }
}

fn token(token: &str, parameters_hash: &str, expires_ms: i64) -> Option<Token> {
    let (operation, parameters_hash) = ("StartBuild".into(), parameters_hash.into());
    Some(Token { token: token.into(), operation, parameters_hash, expires_ms })
}

fn ended(status: &str) -> BuildUpdate {
    BuildUpdate {
        status: status.into(),
        complete: true,
        ended_ms: Some(2000),
        document: "{\"ended\":true}".into(),
        lifecycle: "{}".into(),
    }
}

impl Tester {
    fn new(home: Home) -> Tester {
        Tester { records: home.open().unwrap(), scope: scope(), home }
    }

    fn reopened(self) -> Tester {
        let Tester { records, home, .. } = self;
        drop(records);
        Tester::new(home)
    }

    async fn project(&self, name: &str, created_ms: i64, modified_ms: i64) {
        let project = Project { name: name.into(), document: "{}".into(), created_ms, modified_ms };
        self.records.insert_project(&self.scope, project).await.unwrap();
    }

    async fn accept(&self, new: NewBuild) -> Acceptance {
        let rendered = |number| (format!("{{\"number\":{number}}}"), format!("plan {number}"));
        self.records.accept_build(new, rendered).await.unwrap()
    }

    async fn number(&self, id: &str) -> u64 {
        match self.accept(new_build(id)).await {
            Acceptance::Accepted { number } => number,
            other => panic!("{other:?}"),
        }
    }

    async fn build(&self, id: &str) -> Build {
        self.records.get_build(&self.scope, id).await.unwrap().unwrap()
    }

    async fn end(&self, id: &str) -> bool {
        self.records.update_build(&self.scope, id, ended("SUCCEEDED")).await.unwrap()
    }
}

/// All pages, each asked for with the token of the one before.
async fn pages<T, F: Future<Output = store::Result<Page<T>>>>(
    list: impl Fn(Option<String>) -> F,
) -> Vec<Vec<T>> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = list(after).await.unwrap();
        pages.push(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return pages,
        }
    }
}

#[test]
fn projects_are_made_changed_read_and_deleted() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        let (records, scope) = (&tester.records, &tester.scope);
        tester.project("one", 1, 1).await;
        let again = Project { name: "one".into(), document: "other".into(), created_ms: 2, modified_ms: 2 };
        assert!(matches!(records.insert_project(scope, again).await, Err(Error::AlreadyExists { .. })));
        assert!(records.update_project(scope, "one", "{}", "changed", 5).await.unwrap());
        assert!(
            !records.update_project(scope, "one", "{}", "too late", 6).await.unwrap(),
            "changed since it was read"
        );
        assert!(matches!(records.update_project(scope, "two", "", "", 5).await, Err(Error::NotFound { .. })));
        let one = Project { name: "one".into(), document: "changed".into(), created_ms: 1, modified_ms: 5 };
        assert_eq!(records.get_project(scope, "one").await.unwrap(), Some(one.clone()));
        let names = ["two".to_owned(), "one".to_owned()];
        assert_eq!(records.get_projects(scope, &names).await.unwrap(), [one]);
        assert_eq!(records.delete_project(scope, "one").await.unwrap(), ProjectDeletion::Deleted);
        assert_eq!(records.delete_project(scope, "one").await.unwrap(), ProjectDeletion::Unknown);
    });
}

#[test]
fn accounts_and_regions_do_not_see_each_other() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        tester.project("p", 1, 1).await;
        tester.number("p:1").await;
        let others = [
            Scope { account: "999999999999".into(), ..scope() },
            Scope { region: "us-east-1".into(), ..scope() },
        ];
        for other in others {
            assert_eq!(tester.records.get_project(&other, "p").await.unwrap(), None);
            assert_eq!(tester.records.get_build(&other, "p:1").await.unwrap(), None);
            assert_eq!(
                tester.records.list_builds(&other, Order::Ascending, None, 9).await.unwrap().items.len(),
                0
            );
            assert!(!tester.records.update_build(&other, "p:1", ended("FAILED")).await.unwrap());
            let new = NewBuild { scope: other, ..new_build("p:2") };
            assert_eq!(tester.accept(new).await, Acceptance::ProjectNotFound);
        }
    });
}

#[test]
fn projects_are_listed_in_every_order_and_in_pages() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        // Times repeat, so that pages end between equal ones.
        for (name, created_ms, modified_ms) in
            [("d", 1, 9), ("a", 2, 9), ("c", 2, 9), ("b", 2, 3), ("Z", 3, 3)]
        {
            tester.project(name, created_ms, modified_ms).await;
        }
        let expected = [
            (ProjectSort::Name, "Zabcd"),
            (ProjectSort::CreatedTime, "dabcZ"),
            (ProjectSort::LastModifiedTime, "Zbacd"),
        ];
        for (sort, ascending) in expected {
            for limit in [1, 2, 4, 5, 100] {
                for order in [Order::Ascending, Order::Descending] {
                    let found = pages(async |after| {
                        tester
                            .records
                            .list_projects(&tester.scope, sort, order, after.as_deref(), limit)
                            .await
                    })
                    .await;
                    assert_eq!(found.len(), 5_usize.div_ceil(limit));
                    let names: String = match order {
                        Order::Ascending => ascending.to_owned(),
                        Order::Descending => ascending.chars().rev().collect(),
                    };
                    assert_eq!(found.concat().concat(), names, "{sort:?} {order:?} {limit}");
                }
            }
        }
        let list = |after| {
            tester.records.list_projects(&tester.scope, ProjectSort::Name, Order::Ascending, after, 2)
        };
        assert!(matches!(list(Some("nonsense")).await, Err(Error::InvalidToken(_))));
        let token = list(None).await.unwrap().next.unwrap();
        tester.records.delete_project(&tester.scope, "a").await.unwrap();
        assert_eq!(
            list(Some(&token)).await.unwrap().items,
            ["b", "c"],
            "the project of the token may be gone"
        );
        let other = ProjectSort::CreatedTime;
        let wrong =
            tester.records.list_projects(&tester.scope, other, Order::Ascending, Some(&token), 2).await;
        assert!(matches!(wrong, Err(Error::InvalidToken(_))));
    });
}

#[test]
fn build_numbers_go_up_by_one_per_project_and_are_never_used_again() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        tester.project("p", 1, 1).await;
        tester.project("q", 1, 1).await;
        assert_eq!(
            (tester.number("p:1").await, tester.number("p:2").await, tester.number("q:1").await),
            (1, 2, 1)
        );
        let build = tester.build("p:2").await;
        assert_eq!((build.number, build.document.as_str(), build.complete), (2, "{\"number\":2}", false));
        assert_eq!(tester.records.get_plan(&tester.scope, "p:2").await.unwrap().as_deref(), Some("plan 2"));
        assert!(tester.end("p:2").await);
        tester.records.delete_builds(&tester.scope, &["p:2".into()]).await.unwrap();
        assert_eq!(tester.number("p:3").await, 3);
        tester.records.delete_project(&tester.scope, "p").await.unwrap();
        assert_eq!(tester.accept(new_build("p:4")).await, Acceptance::ProjectNotFound);
        tester.project("p", 2, 2).await;
        let tester = tester.reopened();
        assert_eq!(
            tester.number("p:5").await,
            4,
            "the new project's builds are listed with those of the old"
        );
    });
}

#[test]
fn a_build_that_could_not_be_accepted_takes_no_number() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        tester.project("p", 1, 1).await;
        tester.number("p:1").await;
        let twice = tester.records.accept_build(new_build("p:1"), |_| (String::new(), String::new())).await;
        assert!(matches!(twice, Err(Error::AlreadyExists { .. })));
        assert_eq!(tester.number("p:2").await, 2);
    });
}

#[test]
fn a_token_gives_the_same_build_until_it_expires() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        tester.project("p", 1, 1).await;
        let at = |id: &str, created_ms, idempotency| NewBuild { created_ms, idempotency, ..new_build(id) };
        let first = at("p:1", 1000, token("t", "same", 6000));
        assert_eq!(tester.accept(first.clone()).await, Acceptance::Accepted { number: 1 });
        let tester = tester.reopened();
        let replayed =
            |document: &str| Acceptance::Replayed { id: "p:1".into(), document: document.to_owned() };
        assert_eq!(
            tester.accept(at("p:2", 5999, token("t", "same", 9000))).await,
            replayed("{\"number\":1}")
        );
        assert_eq!(
            tester.accept(at("p:2", 2000, token("t", "other", 9000))).await,
            Acceptance::TokenMismatch
        );
        assert_eq!(
            tester.accept(at("p:2", 2000, token("T", "same", 9000))).await,
            Acceptance::Accepted { number: 2 }
        );
        // Looking at a token changes nothing.
        let looked = async |parameters: &str, now_ms| {
            let token = token("t", parameters, 0).unwrap();
            tester.records.earlier_acceptance(&tester.scope, &token, now_ms).await.unwrap()
        };
        assert_eq!(looked("same", 5999).await, Some(replayed("{\"number\":1}")));
        assert_eq!(looked("other", 5999).await, Some(Acceptance::TokenMismatch));
        assert_eq!(looked("same", 6000).await, None);
        let mut retry = at("p:3", 2000, token("t", "other", 9000));
        retry.idempotency.as_mut().unwrap().operation = "RetryBuild".into();
        assert_eq!(tester.accept(retry).await, Acceptance::Accepted { number: 3 });
        tester.end("p:1").await;
        tester.records.delete_project(&tester.scope, "p").await.unwrap();
        assert_eq!(tester.accept(first.clone()).await, replayed("{\"ended\":true}"));
        tester.project("p", 1, 1).await;
        assert_eq!(
            tester.accept(at("p:4", 6000, token("t", "other", 9000))).await,
            Acceptance::Accepted { number: 4 }
        );
    });
}

#[test]
fn a_complete_build_never_changes_again() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        tester.project("p", 1, 1).await;
        tester.number("p:1").await;
        let running = BuildUpdate { complete: false, ended_ms: None, ..ended("IN_PROGRESS") };
        assert!(tester.records.update_build(&tester.scope, "p:1", running.clone()).await.unwrap());
        assert!(tester.end("p:1").await);
        let build = tester.build("p:1").await;
        assert_eq!((build.status.as_str(), build.complete, build.ended_ms), ("SUCCEEDED", true, Some(2000)));
        assert!(!tester.records.update_build(&tester.scope, "p:1", running).await.unwrap());
        assert!(!tester.records.update_build(&tester.scope, "p:1", ended("FAILED")).await.unwrap());
        assert!(!tester.end("p:unknown").await);
        assert_eq!(tester.build("p:1").await, build);
    });
}

// LC-072
#[test]
fn a_build_ends_and_the_next_is_accepted_or_neither() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        tester.project("p", 1, 1).await;
        tester.number("p:1").await;
        let succeed = async |tester: &Tester, id: &str, next: &str| {
            let rendered = |number| (format!("{{\"number\":{number}}}"), format!("plan {number}"));
            tester.records.succeed_build(id, ended("FAILED"), new_build(next), rendered).await
        };
        assert_eq!(succeed(&tester, "p:1", "p:2").await.unwrap(), Succession::Accepted { number: 2 });
        assert!(tester.build("p:1").await.complete);
        assert_eq!(tester.build("p:2").await.document, "{\"number\":2}");
        assert_eq!(succeed(&tester, "p:1", "p:3").await.unwrap(), Succession::NotEnded);
        assert_eq!(succeed(&tester, "p:unknown", "p:3").await.unwrap(), Succession::NotEnded);
        assert!(matches!(succeed(&tester, "p:2", "p:1").await, Err(Error::AlreadyExists { .. })));
        assert!(!tester.build("p:2").await.complete, "its end is taken back with the other's acceptance");
        tester.records.delete_project(&tester.scope, "p").await.unwrap();
        assert_eq!(succeed(&tester, "p:2", "p:3").await.unwrap(), Succession::ProjectNotFound);
        assert!(!tester.build("p:2").await.complete);
        assert_eq!(tester.records.get_build(&tester.scope, "p:3").await.unwrap(), None);
        let tester = tester.reopened();
        tester.project("p", 2, 2).await;
        assert_eq!(tester.number("p:4").await, 3, "numbers of builds that were not accepted are not used up");
    });
}

#[test]
fn incomplete_builds_come_back_in_the_order_they_were_accepted() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        tester.project("p", 1, 1).await;
        for id in ["p:z", "p:a", "p:m", "p:b"] {
            tester.number(id).await;
        }
        tester.end("p:a").await;
        let tester = tester.reopened();
        let found = tester.records.incomplete_builds().await.unwrap();
        let plans: Vec<_> =
            found.iter().map(|found| (found.build.id.as_str(), found.plan.as_str())).collect();
        assert_eq!(plans, [("p:z", "plan 1"), ("p:m", "plan 3"), ("p:b", "plan 4")]);
    });
}

#[test]
fn builds_are_listed_by_acceptance_and_by_number() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        tester.project("p", 1, 1).await;
        tester.project("q", 1, 1).await;
        for id in ["p:9", "q:3", "p:1", "q:7", "p:5"] {
            tester.number(id).await;
        }
        let all = pages(async |after| {
            tester.records.list_builds(&tester.scope, Order::Descending, after.as_deref(), 2).await
        })
        .await;
        assert_eq!(all, [vec!["p:5", "q:7"], vec!["p:1", "q:3"], vec!["p:9"]]);
        let list = |project, order, after| {
            tester.records.list_builds_for_project(&tester.scope, project, order, after, 2)
        };
        let first = list("p", Order::Ascending, None).await.unwrap();
        assert_eq!(first.items, ["p:9", "p:1"]);
        tester.number("p:0").await;
        let second = list("p", Order::Ascending, first.next.as_deref()).await.unwrap();
        assert_eq!((second.items.concat(), second.next), ("p:5p:0".to_owned(), None));
        assert_eq!(list("p", Order::Descending, None).await.unwrap().items, ["p:0", "p:5"]);
        assert_eq!(list("unknown", Order::Ascending, None).await.unwrap().items.len(), 0);
        let wrong =
            tester.records.list_builds(&tester.scope, Order::Ascending, first.next.as_deref(), 2).await;
        assert!(matches!(wrong, Err(Error::InvalidToken(_))));
    });
}

#[test]
fn only_complete_builds_are_deleted_and_each_is_answered_for() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        tester.project("p", 1, 1).await;
        tester.number("p:1").await;
        tester.number("p:2").await;
        tester.end("p:1").await;
        let ids = ["p:1", "p:2", "p:3", "p:1"].map(str::to_owned);
        let deleted = tester.records.delete_builds(&tester.scope, &ids).await.unwrap();
        let outcomes: Vec<_> = deleted.into_iter().map(|(_, deletion)| deletion).collect();
        assert_eq!(outcomes, [Deletion::Deleted, Deletion::InProgress, Deletion::Unknown, Deletion::Unknown]);
        let left = tester.records.get_documents(&tester.scope, &ids).await.unwrap();
        assert_eq!(left.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["p:2"]);
    });
}

#[test]
fn many_callers_at_once_get_numbers_without_gaps() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        tester.project("p", 1, 1).await;
        let calls: Vec<_> = (0..500)
            .map(|index| {
                let records = tester.records.clone();
                tokio::spawn(async move {
                    // Every tenth fails and must leave no gap.
                    let id = if index % 10 == 9 { "p:0".to_owned() } else { format!("p:{index}") };
                    records.accept_build(new_build(&id), |number| (number.to_string(), String::new())).await
                })
            })
            .collect();
        let mut numbers = BTreeSet::new();
        for call in calls {
            match call.await.unwrap() {
                Ok(Acceptance::Accepted { number }) => assert!(numbers.insert(number)),
                Ok(other) => panic!("{other:?}"),
                Err(error) => assert!(matches!(error, Error::AlreadyExists { .. })),
            }
        }
        assert_eq!(numbers, (1..=450).collect());
        assert_eq!(tester.records.incomplete_builds().await.unwrap().len(), 450);
    });
}

fn stream(name: &str, last_event_ms: Option<i64>) -> LogStream {
    LogStream {
        group: "/aws/codebuild/p".into(),
        name: name.into(),
        created_ms: 1,
        segment: format!("logs/{name}"),
        first_event_ms: last_event_ms,
        last_event_ms,
        stored_bytes: 0,
        forwarding: None,
    }
}

fn group(name: &str) -> LogGroup {
    LogGroup { name: name.into(), created_ms: 1, retention_days: None, tags: "{}".into() }
}

#[test]
fn log_groups_are_made_listed_by_prefix_and_deleted_with_their_streams() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        let (records, scope) = (&tester.records, &tester.scope);
        for name in ["/aws/codebuild/p", "/aws/codebuild/q", "/aws/lambda/f", "%x", "/aws/codebuild/p%"] {
            records.create_log_group(scope, group(name)).await.unwrap();
        }
        assert!(matches!(
            records.create_log_group(scope, group("%x")).await,
            Err(Error::AlreadyExists { .. })
        ));
        let found =
            pages(async |after| records.list_log_groups(scope, "/aws/codebuild/", after.as_deref(), 2).await)
                .await;
        let names: Vec<_> = found.concat().into_iter().map(|group| group.name).collect();
        assert_eq!(names, ["/aws/codebuild/p", "/aws/codebuild/p%", "/aws/codebuild/q"]);
        records.set_log_retention(scope, "%x", Some(30)).await.unwrap();
        records.set_log_group_tags(scope, "%x", "{\"a\":\"b\"}").await.unwrap();
        let changed = records.get_log_group(scope, "%x").await.unwrap().unwrap();
        assert_eq!((changed.retention_days, changed.tags.as_str()), (Some(30), "{\"a\":\"b\"}"));
        assert!(matches!(records.set_log_retention(scope, "no", None).await, Err(Error::NotFound { .. })));
        records.create_log_stream(scope, stream("one", None)).await.unwrap();
        assert_eq!(records.delete_log_group(scope, "/aws/codebuild/p").await.unwrap(), ["logs/one"]);
        assert_eq!(records.get_log_stream(scope, "/aws/codebuild/p", "one").await.unwrap(), None);
        let gone = records.delete_log_group(scope, "/aws/codebuild/p").await;
        assert!(matches!(gone, Err(Error::NotFound { .. })));
    });
}

#[test]
fn streams_expire_with_their_last_event_by_the_retention_of_their_group() {
    on_each_database(async |home| {
        const DAY_MS: i64 = 86_400_000;
        let tester = Tester::new(home);
        let (records, scope) = (&tester.records, &tester.scope);
        let now = 100 * DAY_MS;
        for (name, retention_days) in [("week", Some(7)), ("day", Some(1)), ("ever", None)] {
            let made = LogGroup { retention_days, ..group(name) };
            records.create_log_group(scope, made).await.unwrap();
            let at = [("old", Some(now - 8 * DAY_MS)), ("young", Some(now - 2 * DAY_MS)), ("empty", None)];
            for (stream_name, last_event_ms) in at {
                let made = LogStream { group: name.into(), ..stream(stream_name, last_event_ms) };
                records.create_log_stream(scope, made).await.unwrap();
            }
        }
        let mut expired = records.expired_log_streams(now, 10).await.unwrap();
        expired.sort_by_key(|(_, stream)| (stream.group.clone(), stream.name.clone()));
        let named: Vec<_> = expired.iter().map(|(_, s)| (s.group.as_str(), s.name.as_str())).collect();
        assert_eq!(named, [("day", "old"), ("day", "young"), ("week", "old")]);
        assert_eq!(records.expired_log_streams(now, 1).await.unwrap().len(), 1);

        let (whose, old) = expired[2].clone();
        assert_eq!(&whose, scope);
        let grown = LogStream { last_event_ms: Some(now), ..old.clone() };
        assert!(!records.empty_log_stream(scope, &grown).await.unwrap(), "it has other events by now");
        assert!(records.empty_log_stream(scope, &old).await.unwrap());
        let emptied = records.get_log_stream(scope, "week", "old").await.unwrap().unwrap();
        assert_eq!((emptied.last_event_ms, emptied.stored_bytes), (None, 0));
        assert_eq!(records.expired_log_streams(now, 10).await.unwrap().len(), 2);
    });
}

#[test]
fn log_streams_are_listed_by_name_and_by_last_event() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        let (records, scope, name) = (&tester.records, &tester.scope, "/aws/codebuild/p");
        let homeless = records.create_log_stream(scope, stream("a", None)).await;
        assert!(matches!(homeless, Err(Error::NotFound { .. })));
        records.create_log_group(scope, group(name)).await.unwrap();
        for (stream_name, last) in [("a", Some(5)), ("b", None), ("ab", Some(9)), ("c", Some(5))] {
            records.create_log_stream(scope, stream(stream_name, last)).await.unwrap();
        }
        let twice = records.create_log_stream(scope, stream("a", None)).await;
        assert!(matches!(twice, Err(Error::AlreadyExists { .. })));
        let list = async |prefix: &str, by, order, limit| {
            let found = pages(async |after| {
                records.list_log_streams(scope, (name, prefix), (by, order), after.as_deref(), limit).await
            })
            .await;
            found.concat().into_iter().map(|stream| stream.name).collect::<Vec<_>>()
        };
        for limit in [1, 2, 50] {
            assert_eq!(
                list("", StreamOrder::LogStreamName, Order::Ascending, limit).await,
                ["a", "ab", "b", "c"]
            );
            assert_eq!(list("a", StreamOrder::LogStreamName, Order::Descending, limit).await, ["ab", "a"]);
            assert_eq!(
                list("", StreamOrder::LastEventTime, Order::Descending, limit).await,
                ["ab", "c", "a", "b"]
            );
        }
        assert!(records.update_log_stream(scope, (name, "b"), (Some(3), Some(99)), 77).await.unwrap());
        assert!(!records.update_log_stream(scope, (name, "no"), (None, None), 0).await.unwrap());
        let changed = records.get_log_stream(scope, name, "b").await.unwrap().unwrap();
        assert_eq!(
            (changed.first_event_ms, changed.last_event_ms, changed.stored_bytes),
            (Some(3), Some(99), 77)
        );
        assert_eq!(list("", StreamOrder::LastEventTime, Order::Descending, 1).await[0], "b");
        assert_eq!(records.delete_log_stream(scope, name, "b").await.unwrap(), "logs/b");
        assert!(matches!(records.delete_log_stream(scope, name, "b").await, Err(Error::NotFound { .. })));
        let order = (StreamOrder::LogStreamName, Order::Ascending);
        let unknown = records.list_log_streams(scope, ("no", ""), order, None, 5).await;
        assert!(matches!(unknown, Err(Error::NotFound { .. })));
    });
}

#[test]
fn settings_are_made_once_and_kept() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        assert_eq!(tester.records.get_setting("key").await.unwrap(), None);
        assert_eq!(tester.records.setting_or_insert("key", "first").await.unwrap(), "first");
        let tester = tester.reopened();
        assert_eq!(tester.records.setting_or_insert("key", "second").await.unwrap(), "first");
        tester.records.put_setting("key", "third").await.unwrap();
        assert_eq!(tester.records.get_setting("key").await.unwrap().as_deref(), Some("third"));
    });
}

#[test]
fn records_are_opened_once_at_a_time() {
    on_each_database(async |home| {
        // Opening blocks: it is for start-up.
        tokio::task::spawn_blocking(move || {
            let records = home.open().unwrap();
            assert!(matches!(home.open(), Err(Error::Locked(_))));
            let clone = records.clone();
            drop(records);
            assert!(matches!(home.open(), Err(Error::Locked(_))));
            drop(clone);
            home.open().unwrap();
        })
        .await
        .unwrap();
    });
}

#[test]
fn the_files_of_records_are_read_by_nobody_else() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::sqlite();
    let records = home.open().unwrap();
    for entry in std::fs::read_dir(home.folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.file_name());
    }
    drop(records);
}

#[test]
fn a_text_that_postgresql_could_not_hold_is_refused_by_both() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        let refused = tester.records.put_setting("key", "a\0b").await;
        assert!(matches!(refused, Err(Error::InvalidText(_))), "{refused:?}");
        let refused = tester.records.get_setting("a\0b").await;
        assert!(matches!(refused, Err(Error::InvalidText(_))), "{refused:?}");
        tester.records.put_setting("key", "\u{1}\u{10FFFF}").await.unwrap();
        assert_eq!(tester.records.get_setting("key").await.unwrap().as_deref(), Some("\u{1}\u{10FFFF}"));
    });
}

#[test]
fn texts_are_ordered_byte_by_byte_whatever_the_database_speaks() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        for name in ["a", "B", "_", "ä", "é", "z", "-", "Z"] {
            tester.project(name, 1, 1).await;
        }
        let (sort, order) = (ProjectSort::Name, Order::Ascending);
        let found = tester.records.list_projects(&tester.scope, sort, order, None, 100).await.unwrap();
        assert_eq!(found.items, ["-", "B", "Z", "_", "a", "z", "ä", "é"]);
    });
}

// AP-062, AP-113
#[test]
fn a_project_with_builds_and_a_policy_is_not_deleted() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        let (records, scope) = (&tester.records, &tester.scope);
        tester.project("p", 1, 1).await;
        tester.number("p:1").await;
        records.put_policy(scope, "project/p", "{}", 5).await.unwrap();
        assert_eq!(records.delete_project(scope, "p").await.unwrap(), ProjectDeletion::Shared);
        assert_eq!(records.get_policy(scope, "project/p").await.unwrap().as_deref(), Some("{}"));
        assert!(records.delete_policy(scope, "project/p").await.unwrap());
        assert!(!records.delete_policy(scope, "project/p").await.unwrap());
        assert_eq!(records.delete_project(scope, "p").await.unwrap(), ProjectDeletion::Deleted);
        let gone = records.put_policy(scope, "project/p", "{}", 5).await;
        assert!(matches!(gone, Err(Error::NotFound { .. })));
    });
}

// AP-065
#[test]
fn the_policies_of_others_are_those_of_the_region_and_go_with_their_projects() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        let (records, scope) = (&tester.records, &tester.scope);
        tester.project("p", 1, 7).await;
        records.put_policy(scope, "project/p", "old", 5).await.unwrap();
        records.put_policy(scope, "project/p", "new", 6).await.unwrap();
        assert_eq!(records.foreign_policies(scope, Shareable::Projects).await.unwrap(), []);
        let other = Scope { account: "999999999999".into(), ..scope.clone() };
        let found = records.foreign_policies(&other, Shareable::Projects).await.unwrap();
        let policy = |found: &store::records::ForeignPolicy| {
            (found.scope.clone(), found.name.clone(), found.modified_ms, found.policy.clone())
        };
        let expect = (scope.clone(), "p".to_owned(), 7, "new".to_owned());
        assert_eq!(found.iter().map(policy).collect::<Vec<_>>(), [expect]);
        let both = ["project/none", "project/p"].map(str::to_owned);
        let found = records.get_policies(scope, &both).await.unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("project/p".to_owned(), "new".to_owned())]);
        assert!(records.get_policies(&other, &both).await.unwrap().is_empty());
        let elsewhere = Scope { region: "us-east-1".into(), ..other.clone() };
        assert_eq!(records.foreign_policies(&elsewhere, Shareable::Projects).await.unwrap(), []);
        records.delete_project(scope, "p").await.unwrap();
        assert_eq!(records.foreign_policies(&other, Shareable::Projects).await.unwrap(), []);
        tester.project("p", 1, 7).await;
        assert_eq!(records.get_policy(scope, "project/p").await.unwrap(), None);
    });
}

// AP-066, AP-067
#[test]
fn a_project_has_one_alias_and_a_generation_of_its_cache() {
    on_each_database(async |home| {
        let tester = Tester::new(home);
        let (records, scope) = (&tester.records, &tester.scope);
        tester.project("p", 1, 1).await;
        assert_eq!(records.project_alias(scope, "p", "first").await.unwrap(), "first");
        assert_eq!(records.project_alias(scope, "p", "second").await.unwrap(), "first");
        assert_eq!(records.project_of_alias("first").await.unwrap(), Some((scope.clone(), "p".to_owned())));
        assert_eq!(records.project_of_alias("second").await.unwrap(), None);
        assert_eq!(records.cache_generation(scope, "p").await.unwrap(), Some(0));
        assert!(records.invalidate_project_cache(scope, "p").await.unwrap());
        assert!(!records.invalidate_project_cache(scope, "q").await.unwrap());
        assert_eq!(records.cache_generation(scope, "p").await.unwrap(), Some(1));
        records.delete_project(scope, "p").await.unwrap();
        assert_eq!(records.project_of_alias("first").await.unwrap(), None);
    });
}
