//! Databases as earlier versions left them: each is opened on either database, brought up to date, and read.
//!
//! What a version may have left is in `migrations/<version>.example.sql`, beside what brought the schema there. A later
//! version has what the ones before it left, brought along.

use super::databases::{Home, on_each_database};
use super::*;
use crate::Error;
use crate::records::connection::migrations;

const EXAMPLES: &[&str] = &[
    include_str!("../migrations/1.example.sql"),
    include_str!("../migrations/2.example.sql"),
    include_str!("../migrations/3.example.sql"),
    include_str!("../migrations/4.example.sql"),
    include_str!("../migrations/5.example.sql"),
    include_str!("../migrations/6.example.sql"),
    include_str!("../migrations/7.example.sql"),
];

/// What is asked of the examples of each version.
async fn check(home: &Home, version: usize) {
    let records = home.open().unwrap();
    builds_and_logs(&records).await;
    if version >= 2 {
        let key = home.folder.path().join("secret.key");
        std::fs::write(&key, format!("buildyard-key-1 {}\n", "07".repeat(32))).unwrap();
        let vault = Vault::open(records.clone(), &key).await.unwrap();
        sealed_values(&vault).await;
        if version >= 3 {
            let found = vault.source_credentials(&scope()).await.unwrap();
            let found: Vec<_> = found.iter().map(|found| (&*found.server_type, &*found.token)).collect();
            assert_eq!(found, [("GITHUB", "a-token")]);
        }
        if version >= 4 {
            let found = vault.access_keys().await.unwrap();
            let found: Vec<_> = found.iter().map(|key| (&*key.id, &*key.secret, key.enabled)).collect();
            assert_eq!(found, [("AKIAEXAMPLE", "a-secret", false)]);
        }
    }
    if version >= 5 {
        reports(&records).await;
    }
    if version >= 7 {
        let (scope, id) = (Scope { region: "us-east-1".into(), ..scope() }, "shop:nine".to_owned());
        let found = records.get_documents(&scope, std::slice::from_ref(&id)).await.unwrap();
        assert_eq!(found, [(id, "{\"id\":\"shop:nine\"}".to_owned())]);
    }
    let forwarded = records.log_streams_to_forward(9).await.unwrap();
    let forwarded: Vec<_> =
        forwarded.iter().map(|(_, stream)| (&*stream.name, stream.forwarding.as_deref())).collect();
    let expect: &[_] = if version >= 6 { &[("three", Some("4e.7"))] } else { &[] };
    assert_eq!(forwarded, expect);
    if version >= 3 {
        let texts = async |query: &'static str| {
            records.read(move |sql| sql.rows(query, [], |row| row.get::<String>(0))).await.unwrap()
        };
        assert_eq!(texts("SELECT project FROM project_aliases WHERE alias = 'an-alias'").await, ["shop"]);
        let policy = texts("SELECT policy FROM resource_policies WHERE modified_ms = 3000").await;
        assert_eq!(policy, ["{\"Version\":\"2012-10-17\",\"Statement\":[]}"]);
        assert_eq!(texts("SELECT name FROM projects WHERE cache_generation = 2").await, ["shop"]);
    }
}

async fn reports(records: &Records) {
    let scope = scope();
    let list = records.list_report_groups(&scope, ReportGroupSort::CreatedTime, Order::Ascending, None, 9);
    assert_eq!(list.await.unwrap().items, ["shop-unit"]);
    let ids = ["shop-unit:one".to_owned()];
    let found = records.get_reports(&scope, &ids).await.unwrap();
    assert_eq!((&*found[0].status, found[0].created_ms, found[0].expires_ms), ("SUCCEEDED", 7000, 9000));
    assert!(records.report_findings(&scope, &ids[0]).await.unwrap().is_some());
}

async fn builds_and_logs(records: &Records) {
    let scope = scope();
    assert_eq!(records.get_setting("a setting").await.unwrap().as_deref(), Some("its value"));
    let list = records.list_projects(&scope, ProjectSort::Name, Order::Ascending, None, 9);
    assert_eq!(list.await.unwrap().items, ["Zoo", "shop"]);
    let shop = records.get_project(&scope, "shop").await.unwrap().unwrap();
    assert_eq!((shop.created_ms, shop.modified_ms), (1000, 2000));
    assert_eq!(shop.document, "{\"name\":\"shop\",\"description\":\"größer\"}");
    let builds = records.list_builds(&scope, Order::Ascending, None, 9).await.unwrap().items;
    assert_eq!(builds, ["shop:one", "gone:seven", "shop:three"]);
    let one = records.get_build(&scope, "shop:one").await.unwrap().unwrap();
    assert_eq!((one.number, &*one.status, one.complete, one.ended_ms), (1, "SUCCEEDED", true, Some(1200)));
    assert_eq!(one.document, "{\"id\":\"shop:one\"}");
    for (id, document) in records.get_documents(&scope, &builds).await.unwrap() {
        assert_eq!(document, format!("{{\"id\":\"{id}\"}}"));
    }
    let incomplete = records.incomplete_builds().await.unwrap();
    let incomplete: Vec<_> =
        incomplete.iter().map(|found| (&*found.build.id, found.build.ended_ms, &*found.plan)).collect();
    assert_eq!(incomplete, [("shop:three", None, "{\"commands\":[]}")]);
    let group = records.get_log_group(&scope, "/aws/codebuild/shop").await.unwrap().unwrap();
    assert_eq!((group.retention_days, &*group.tags), (Some(30), "{\"team\":\"a\"}"));
    let stream = |name| records.get_log_stream(&scope, "/aws/codebuild/shop", name);
    let (one, three) = (stream("one").await.unwrap().unwrap(), stream("three").await.unwrap().unwrap());
    assert_eq!((one.last_event_ms, one.stored_bytes, three.last_event_ms), (Some(1199), 4096, None));
    accepts_more(records).await;
}

/// Numbers, tokens and the order go on where they were.
async fn accepts_more(records: &Records) {
    let token = Token {
        token: "token".into(),
        operation: "StartBuild".into(),
        parameters_hash: "hash".into(),
        expires_ms: 950_000,
    };
    let new = |idempotency| NewBuild {
        scope: scope(),
        id: "shop:four".into(),
        project: "shop".into(),
        status: "IN_PROGRESS".into(),
        created_ms: 5000,
        lifecycle: "{}".into(),
        idempotency,
    };
    let accept = async |new| records.accept_build(new, |_| ("{}".into(), "{}".into())).await.unwrap();
    let replayed =
        Acceptance::Replayed { id: "shop:three".into(), document: "{\"id\":\"shop:three\"}".into() };
    assert_eq!(accept(new(Some(token))).await, replayed);
    assert_eq!(accept(new(None)).await, Acceptance::Accepted { number: 4 });
    let newest = records.list_builds(&scope(), Order::Descending, None, 1).await.unwrap().items;
    assert_eq!(newest, ["shop:four"]);
}

async fn sealed_values(vault: &Vault) {
    let parameter =
        async |version| vault.get_parameter(&scope(), "/app/key", version).await.unwrap().unwrap();
    assert_eq!(parameter(None).await.value, "second value");
    let first = parameter(Some(1)).await;
    assert_eq!(
        (&*first.value, &*first.document, &*first.tags),
        ("first value", "{\"Type\":\"String\"}", "{\"team\":\"a\"}")
    );
    let secret = async |stage| {
        let selection = Selection { stage, version: None };
        vault.get_secret_value(&scope(), "prod/db", selection, 3000).await.unwrap().unwrap().1.unwrap().value
    };
    assert_eq!(secret(None).await, SecretValue::Binary(vec![0, 255]));
    assert_eq!(secret(Some("AWSPREVIOUS")).await, SecretValue::Text("old".into()));
}

fn scope() -> Scope {
    Scope { account: "123456789012".into(), region: "eu-west-1".into() }
}

fn place(home: &Home) -> Place {
    let folder = home.folder.path().to_owned();
    match &home.url {
        Some(url) => Place::Database(url.parse().unwrap(), folder),
        None => Place::Folder(folder),
    }
}

/// On a thread, where a connection lives.
async fn leave(home: &Home, version: usize) {
    let place = place(home);
    let examples: Vec<&str> = EXAMPLES[..version].to_vec();
    tokio::task::spawn_blocking(move || place.leave_examples(&examples)).await.unwrap().unwrap();
}

#[test]
fn what_each_earlier_version_left_is_read_by_this_one() {
    assert_eq!(EXAMPLES.len(), migrations(), "each migration has a file migrations/<version>.example.sql");
    for version in 1..=EXAMPLES.len() {
        on_each_database(async |home| {
            println!("of version {version}");
            leave(&home, version).await;
            check(&home, version).await;
        });
    }
}

#[test]
fn records_of_a_newer_version_are_refused_and_left_alone() {
    on_each_database(async |home| {
        drop(home.open().unwrap());
        let newer = migrations() + 1;
        tokio::task::spawn_blocking(move || {
            home.run_sql(&match &home.url {
                Some(_) => format!("UPDATE records_version SET version = {newer}"),
                None => format!("PRAGMA user_version = {newer}"),
            });
            for _ in 0..2 {
                let refused = home.open();
                assert!(matches!(refused, Err(Error::NewerSchema { .. })), "{refused:?}");
            }
        })
        .await
        .unwrap();
    });
}
