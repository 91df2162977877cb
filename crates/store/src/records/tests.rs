//! What can only be seen from inside: which index answers a query, and what callers are told when the disk is full.

use super::sql::{Sql, text};
use super::*;
use crate::Error;

#[allow(dead_code, reason = "the tests outside need more of it")]
#[path = "../../tests/store/databases.rs"]
mod databases;
mod migrations;

use databases::{Home, on_each_database};

/// How the database goes about a query, and whether that is by an index which also gives the order.
fn plan(sql: &Sql<'_>, is_postgres: bool, query: &str, parameters: Vec<sql::Value>) -> (String, bool) {
    let (explain, column) = if is_postgres { ("EXPLAIN", 0) } else { ("EXPLAIN QUERY PLAN", 3) };
    let lines = sql.rows(&format!("{explain} {query}"), parameters, |row| row.get::<String>(column)).unwrap();
    let plan = lines.join("; ");
    let good = match is_postgres {
        true => plan.contains("Index") && !plan.contains("Seq Scan") && !plan.contains("Sort"),
        false => plan.starts_with("SEARCH") && !plan.contains("TEMP"),
    };
    (plan, good)
}

#[test]
fn no_list_reads_more_rows_than_it_gives() {
    on_each_database(async |home| {
        let (records, is_postgres) = (home.open().unwrap(), home.url.is_some());
        let project = "account = $1 AND region = $2";
        let lists: &[(&str, &[&str], String)] = &[
            ("projects", &["name"], project.into()),
            ("projects", &["created_ms", "name"], project.into()),
            ("projects", &["modified_ms", "name"], project.into()),
            ("builds", &["sequence"], project.into()),
            ("builds", &["number"], format!("{project} AND project = $3")),
            ("report_groups", &["name"], project.into()),
            ("report_groups", &["created_ms", "name"], project.into()),
            ("report_groups", &["modified_ms", "name"], project.into()),
            ("reports", &["created_ms", "id"], project.into()),
            ("reports", &["created_ms", "id"], format!("{project} AND status = $3")),
            ("reports", &["created_ms", "id"], format!("{project} AND report_group = $3")),
            ("reports", &["created_ms", "id"], format!("{project} AND report_group = $3 AND status = $4")),
            ("log_groups", &["name"], project.into()),
            ("secrets", &["name"], project.into()),
            ("log_streams", &["name"], format!("{project} AND log_group = $3")),
            ("log_streams", &["last_event_ms", "name"], format!("{project} AND log_group = $3")),
        ];
        for (table, keys, condition) in lists {
            for order in [Order::Ascending, Order::Descending] {
                for after in [None, Some(keys.iter().map(|key| value_of(key)).collect())] {
                    let select = format!("SELECT 1 FROM {table} WHERE {condition}");
                    let parameters = vec![text("1"); condition.matches('$').count()];
                    let (query, parameters) =
                        page::Paged { select: &select, parameters, keys, order, after, limit: 100 }.build();
                    let (plan, good) = records
                        .read(move |sql| Ok(plan(sql, is_postgres, &query, parameters)))
                        .await
                        .unwrap();
                    assert!(good, "{table} {keys:?}: {plan}");
                }
            }
        }
        let queries = [
            "SELECT id FROM builds WHERE complete = 0 ORDER BY sequence",
            "SELECT 1 FROM builds WHERE account = $1 AND region = $2 AND id = $3",
            "SELECT 1 FROM build_documents WHERE key IN ($1, $2)",
            "SELECT 1 FROM projects WHERE account = $1 AND region = $2 AND name IN ($3, $4)",
            "DELETE FROM idempotency_tokens WHERE account = $1 AND region = $2 AND build = $3",
            "DELETE FROM idempotency_tokens WHERE expires_ms <= $1",
            sharing::FOREIGN_POLICIES,
            sharing::FOREIGN_GROUP_POLICIES,
            reports::DUE,
            reports::EXPIRE,
        ];
        for query in queries {
            let is_number = query.contains("expires_ms") || query.contains("key IN");
            let value = if is_number { 1.into() } else { text("1") };
            let parameters = vec![value; query.matches('$').count()];
            let (plan, good) =
                records.read(move |sql| Ok(plan(sql, is_postgres, query, parameters))).await.unwrap();
            assert!(good || plan.contains("builds_incomplete"), "{query}: {plan}");
        }
    });
}

fn value_of(key: &str) -> sql::Value {
    if matches!(key, "name" | "id") { text("1") } else { 1.into() }
}

async fn put(records: &Records, key: String, bytes: usize) -> Result<()> {
    records.put_setting(&key, &"x".repeat(bytes)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_to_whom_it_concerns_and_leaves_the_rest_working() {
    let home = Home::sqlite();
    let records = home.open().unwrap();
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

#[test]
fn a_call_that_fails_takes_nothing_of_its_group_with_it() {
    on_each_database(async |home| {
        let records = home.open().unwrap();
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
    });
}
