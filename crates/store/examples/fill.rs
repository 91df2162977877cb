//! Makes much history out of little: copies each project's first build until there are so many builds in all.
//! `cargo run --release -p store --example fill FOLDER|URL BUILDS`, while no server has the records.

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
    let connection = rusqlite::Connection::open(folder.join("records.sqlite"))?;
    connection.execute_batch(&copies(builds))?;
    Ok(())
}

/// What autovacuum does after a while is done at once.
fn fill_postgres(url: &str, builds: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(&copies(builds)).await?;
        client.batch_execute("VACUUM ANALYZE").await?;
        Ok(())
    })
}

/// The projects take turns. A copy's document differs from its model's in the id alone.
fn copies(builds: u64) -> String {
    let id = "m.project || ':00000000-0000-4000-8000-' || CAST(100000000000 + n.number AS TEXT)";
    format!(
        "BEGIN;
         INSERT INTO builds (account, region, id, project, number, status, complete, created_ms, ended_ms,
             document, lifecycle, plan)
         WITH RECURSIVE
             models AS MATERIALIZED (SELECT * FROM builds WHERE number = 1),
             n(number) AS (
                 SELECT (SELECT MAX(number) FROM builds) + 1
                 UNION ALL SELECT number + 1 FROM n WHERE number < {builds} / (SELECT COUNT(*) FROM models)
             )
         SELECT m.account, m.region, {id}, m.project, n.number, m.status, m.complete, m.created_ms + n.number,
             m.ended_ms + n.number, replace(m.document, m.id, {id}), m.lifecycle, m.plan
         FROM n CROSS JOIN models m;
         UPDATE build_numbers SET last = (SELECT MAX(number) FROM builds);
         COMMIT;"
    )
}
