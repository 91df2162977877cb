//! Makes much history out of little: copies each project's first build until there are so many builds in all.
//! `cargo run --release -p store --example fill FOLDER|URL BUILDS`, while no server has the records.

#[path = "../src/records/key.rs"]
mod key;

use std::path::Path;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let usage = "fill FOLDER|URL BUILDS";
    let (place, builds) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let builds: u64 = builds.parse()?;
    match place.starts_with("postgres") {
        true => fill_postgres(&place, builds),
        false => fill_sqlite(Path::new(&place), builds),
    }
}

fn fill_sqlite(folder: &Path, builds: u64) -> Outcome {
    let mut connection = rusqlite::Connection::open(folder.join("records.sqlite"))?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(&copies(builds))?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let found: Vec<Copy> = transaction.prepare(NEW)?.query_map([], read)?.collect::<Result<_, _>>()?;
    let mut update = transaction.prepare("UPDATE builds SET key = ?2 WHERE sequence = ?1")?;
    for copy in &found {
        update.execute((copy.0, key(copy)))?;
    }
    drop(update);
    transaction.execute_batch(DOCUMENTS)?;
    Ok(transaction.commit()?)
}

/// What autovacuum does after a while is done at once.
fn fill_postgres(url: &str, builds: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let transaction = client.transaction().await?;
        transaction.batch_execute(&copies(builds)).await?;
        let found = transaction.query(NEW, &[]).await?;
        let found: Vec<Copy> =
            found.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
        let sequences: Vec<i64> = found.iter().map(|copy| copy.0).collect();
        let keys: Vec<i64> = found.iter().map(key).collect();
        let update =
            "UPDATE builds SET key = new.key FROM unnest($1::bigint[], $2::bigint[]) AS new (sequence, key)
             WHERE builds.sequence = new.sequence";
        transaction.execute(update, &[&sequences, &keys]).await?;
        transaction.batch_execute(DOCUMENTS).await?;
        transaction.commit().await?;
        client.batch_execute("VACUUM ANALYZE").await?;
        Ok(())
    })
}

/// Its sequence, account, region and id.
type Copy = (i64, String, String, String);

const NEW: &str = "SELECT sequence, account, region, id FROM builds WHERE key IS NULL";

/// A copy's document differs from its model's in the id alone.
const DOCUMENTS: &str = "
    INSERT INTO build_documents (key, account, region, id, document)
    SELECT b.key, b.account, b.region, b.id, replace(d.document, m.id, b.id)
    FROM builds b
    JOIN builds m ON m.account = b.account AND m.region = b.region AND m.project = b.project AND m.number = 1
    JOIN build_documents d ON d.key = m.key
    WHERE NOT EXISTS (SELECT 1 FROM build_documents e WHERE e.key = b.key)";

fn key((_, account, region, id): &Copy) -> i64 {
    key::key(account, region, id)
}

/// The projects take turns.
fn copies(builds: u64) -> String {
    let id = "m.project || ':00000000-0000-4000-8000-' || CAST(100000000000 + n.number AS TEXT)";
    format!(
        "INSERT INTO builds (account, region, id, project, number, status, complete, created_ms, ended_ms, lifecycle, plan)
         WITH RECURSIVE
             models AS MATERIALIZED (SELECT * FROM builds WHERE number = 1),
             n(number) AS (
                 SELECT (SELECT MAX(number) FROM builds) + 1
                 UNION ALL SELECT number + 1 FROM n WHERE number < {builds} / (SELECT COUNT(*) FROM models)
             )
         SELECT m.account, m.region, {id}, m.project, n.number, m.status, m.complete, m.created_ms + n.number,
             m.ended_ms + n.number, m.lifecycle, m.plan
         FROM n CROSS JOIN models m;
         UPDATE build_numbers SET last = (SELECT MAX(number) FROM builds);"
    )
}
