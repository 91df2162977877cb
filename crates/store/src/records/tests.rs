//! What can only be seen from inside: which index answers a list, and what callers are told when the disk is full.

use super::sql::{Sql, text};
use super::*;
use crate::Error;

fn plan(sql: &Sql<'_>, query: &str) -> String {
    let parameters = (0..query.matches('$').count()).map(|_| text("1"));
    sql.rows(&format!("EXPLAIN QUERY PLAN {query}"), parameters, |row| row.get::<String>(3))
        .unwrap()
        .join("; ")
}

#[tokio::test]
async fn no_list_reads_more_rows_than_it_gives() {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::open(folder.path()).unwrap();
    let project = "account = $1 AND region = $2";
    let lists: &[(&str, &[&str], String)] = &[
        ("projects", &["name"], project.into()),
        ("projects", &["created_ms", "name"], project.into()),
        ("projects", &["modified_ms", "name"], project.into()),
        ("builds", &["sequence"], project.into()),
        ("builds", &["number"], format!("{project} AND project = $3")),
        ("log_groups", &["name"], project.into()),
        ("secrets", &["name"], project.into()),
        ("log_streams", &["name"], format!("{project} AND log_group = $3")),
        ("log_streams", &["last_event_ms", "name"], format!("{project} AND log_group = $3")),
    ];
    for (table, keys, condition) in lists {
        for order in [Order::Ascending, Order::Descending] {
            for after in [None, Some(keys.iter().map(|_| text("1")).collect())] {
                let select = format!("SELECT 1 FROM {table} WHERE {condition}");
                let parameters = vec![text("1"); condition.matches('$').count()];
                let (query, _) =
                    page::Paged { select: &select, parameters, keys, order, after, limit: 100 }.build();
                let plan = records.read(move |sql| Ok(plan(sql, &query))).await.unwrap();
                assert!(plan.starts_with("SEARCH") && !plan.contains("TEMP"), "{table} {keys:?}: {plan}");
            }
        }
    }
    let query = "SELECT id FROM builds WHERE complete = 0 ORDER BY sequence";
    let plan = records.read(move |sql| Ok(plan(sql, query))).await.unwrap();
    assert!(plan.contains("builds_incomplete") && !plan.contains("TEMP"), "{plan}");
}

async fn put(records: &Records, key: String, bytes: usize) -> Result<()> {
    records.put_setting(&key, &"x".repeat(bytes)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_to_whom_it_concerns_and_leaves_the_rest_working() {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::open(folder.path()).unwrap();
    put(&records, "before".into(), 1).await.unwrap();
    let limit = |pages: u32| {
        records.write(move |sql| {
            sql.rows(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).map(|_| ())
        })
    };
    limit(1).await.unwrap();
    let calls: Vec<_> = (0..40)
        .map(|index| {
            let records = records.clone();
            tokio::spawn(async move { (index, put(&records, format!("key {index}"), 100_000).await) })
        })
        .collect();
    for call in calls {
        let (index, result) = call.await.unwrap();
        assert!(matches!(result, Err(Error::Full)), "{index}: {result:?}");
        assert_eq!(records.get_setting(&format!("key {index}")).await.unwrap(), None);
    }
    assert_eq!(records.get_setting("before").await.unwrap().as_deref(), Some("x"), "reading goes on");
    limit(1 << 30).await.unwrap();
    put(&records, "after".into(), 100_000).await.unwrap();
}

#[tokio::test]
async fn a_call_that_fails_takes_nothing_of_its_group_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::open(folder.path()).unwrap();
    let insert = |key: &'static str, fail: bool| {
        records.write(move |sql| {
            sql.execute("INSERT INTO settings (key, value) VALUES ($1, $2)", [text(key), text("v")])?;
            if fail { Err(Error::not_found("anything", key)) } else { Ok(()) }
        })
    };
    let (a, b, c) = tokio::join!(insert("a", false), insert("b", true), insert("c", false));
    assert!(a.is_ok() && matches!(b, Err(Error::NotFound { .. })) && c.is_ok());
    assert!(records.get_setting("a").await.unwrap().is_some());
    assert!(records.get_setting("b").await.unwrap().is_none());
    assert!(records.get_setting("c").await.unwrap().is_some());
}
