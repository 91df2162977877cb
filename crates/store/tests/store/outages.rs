//! What becomes of records when the database server goes away: nothing is answered that is not kept, everything
//! comes back by itself, and nobody writes to what is somebody else's by now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use store::Error;
use store::records::{Acceptance, Project, Records};

use crate::databases::{Home, Server, block_on, run_sql};
use crate::records::{new_build, scope};

async fn insert_project(records: &Records) {
    let project = Project { name: "p".into(), document: "{}".into(), created_ms: 1, modified_ms: 1 };
    records.insert_project(&scope(), project).await.unwrap();
}

/// Tries until the database is back.
async fn patiently<T, F: Future<Output = store::Result<T>>>(call: impl Fn() -> F) -> T {
    loop {
        match call().await {
            Ok(value) => return value,
            Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_server_that_is_killed_and_started_loses_nothing_acknowledged_and_is_found_again() {
    let server = Server::start();
    let home = Home::of(&server);
    block_on(async {
        let records = home.open().unwrap();
        insert_project(&records).await;
        let done = std::sync::Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let (records, done) = (records.clone(), done.clone());
                tokio::spawn(async move {
                    let (mut kept, mut failed) = (Vec::new(), Vec::new());
                    for round in 0.. {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let id = format!("p:{caller}-{round}");
                        let rendered = |number: u64| (number.to_string(), String::new());
                        match records.accept_build(new_build(&id), rendered).await {
                            Ok(Acceptance::Accepted { number }) => kept.push((number, id)),
                            Err(Error::Unavailable(_)) => {
                                failed.push(id);
                                tokio::time::sleep(Duration::from_millis(5)).await;
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    (kept, failed)
                })
            })
            .collect();
        for _ in 0..2 {
            let before = patiently(|| records.incomplete_builds()).await.len();
            tokio::task::block_in_place(|| server.kill());
            let gone = records.put_setting("key", "value").await;
            assert!(matches!(gone, Err(Error::Unavailable(_))), "{gone:?}");
            assert!(matches!(records.get_setting("key").await, Err(Error::Unavailable(_))));
            tokio::task::block_in_place(|| server.start_again());
            while patiently(|| records.incomplete_builds()).await.len() < before + 20 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        done.store(true, Ordering::Relaxed);
        let (mut kept, mut failed) = (Vec::new(), Vec::new());
        for caller in callers {
            let (k, f) = caller.await.unwrap();
            kept.extend(k);
            failed.extend(f);
        }
        let found = records.incomplete_builds().await.unwrap();
        let numbers: Vec<u64> = found.iter().map(|found| found.build.number).collect();
        assert_eq!(numbers, (1..=found.len() as u64).collect::<Vec<_>>(), "unique, increasing, without gaps");
        let mut found: Vec<_> = found.into_iter().map(|found| (found.build.number, found.build.id)).collect();
        kept.sort();
        found.sort();
        assert_eq!(kept, found, "what was answered is there, and what was refused is not");
        assert!(failed.len() >= 2);
    });
}

/// Ends all of the records' connections, as an administrator can, or a network.
fn cut(server: &Server) {
    run_sql(
        &server.url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'buildyard'",
    );
}

#[test]
fn a_connection_that_was_cut_while_nothing_happened_is_not_noticed_by_callers() {
    let server = Server::start();
    let home = Home::of(&server);
    block_on(async {
        let records = home.open().unwrap();
        for round in 0..5 {
            tokio::task::block_in_place(|| cut(&server));
            let value = round.to_string();
            // The lock may still be with the connection that was cut.
            patiently(|| records.put_setting("key", &value)).await;
            assert_eq!(records.get_setting("key").await.unwrap().as_deref(), Some(&*value));
        }
        let other = tempfile::tempdir().unwrap();
        let (url, folder) = (server.url.clone(), other.path().to_owned());
        let second = move || crate::databases::open(&folder, Some(&url));
        let second = tokio::task::spawn_blocking(second).await.unwrap();
        assert!(matches!(second, Err(Error::Locked(_))), "the lock was taken again: {second:?}");
    });
}

#[test]
fn records_that_somebody_else_took_meanwhile_are_left_alone_for_good() {
    let server = Server::start();
    let (home, other) = (Home::of(&server), Home::of(&server));
    block_on(async {
        let first = home.open().unwrap();
        first.put_setting("key", "first").await.unwrap();
        // Another server comes just while the first one has no connection.
        let second = loop {
            tokio::task::block_in_place(|| cut(&server));
            match other.open() {
                Ok(second) => break second,
                Err(Error::Locked(_) | Error::Unavailable(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        };
        second.put_setting("key", "second").await.unwrap();
        first.taken_over().await;
        for _ in 0..2 {
            let late = first.put_setting("key", "late").await;
            assert!(matches!(late, Err(Error::TakenOver(_))), "{late:?}");
        }
        drop(second);
        let late = first.put_setting("key", "late").await;
        assert!(matches!(late, Err(Error::TakenOver(_))), "also when it is free again: {late:?}");
        drop(first);
        let third = home.open().unwrap();
        assert_eq!(third.get_setting("key").await.unwrap().as_deref(), Some("second"));
    });
}

#[test]
fn a_database_that_promises_too_little_is_refused_by_its_setting() {
    let server = Server::start();
    for (setting, restart) in [("fsync", "off"), ("full_page_writes", "off")] {
        run_sql(&server.url, &format!("ALTER SYSTEM SET {setting} = {restart}"));
        run_sql(&server.url, "SELECT pg_reload_conf()");
        let home = Home::of(&server);
        // The setting reaches new connections a moment after it was made.
        let refused = loop {
            match home.open() {
                Err(Error::Database { rule, .. }) => break rule,
                Ok(records) => drop(records),
                Err(other) => panic!("{other:?}"),
            }
        };
        assert!(refused.contains(setting), "{refused}");
        run_sql(&server.url, &format!("ALTER SYSTEM RESET {setting}"));
        run_sql(&server.url, "SELECT pg_reload_conf()");
    }
    let mut home = Home::of(&server);
    home.url = Some(format!("{}&options=-csearch_path%3Dnowhere", server.url));
    let refused = home.open().unwrap_err().to_string();
    assert!(refused.contains("search_path"), "{refused}");
    home.url = Some(server.url.replace("/postgres?", "/nowhere?"));
    assert!(matches!(home.open(), Err(Error::Unavailable(reason)) if reason.contains("nowhere")));
}

#[test]
fn commits_wait_for_the_disk_even_where_the_server_would_rather_not() {
    let server = Server::start();
    run_sql(&server.url, "ALTER DATABASE postgres SET synchronous_commit = off");
    let home = Home::of(&server);
    block_on(async {
        let records = home.open().unwrap();
        insert_project(&records).await;
        for round in 0..10 {
            let id = format!("p:{round}");
            records.accept_build(new_build(&id), |_| (String::new(), String::new())).await.unwrap();
            if round % 5 == 4 {
                tokio::task::block_in_place(|| {
                    server.kill();
                    server.start_again();
                });
                assert_eq!(patiently(|| records.incomplete_builds()).await.len(), round + 1);
                patiently(|| records.put_setting("key", "value")).await;
            }
        }
    });
}

/// A write that waits in its COMMIT when this returns. Writes are repeated, as what makes them wait may come a moment late: the
/// server's processes read their configuration when they get to it.
async fn committing(server: &Server, records: &Records) -> tokio::task::JoinHandle<store::Result<()>> {
    let (looking, connection) = tokio_postgres::connect(&server.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let waits = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity
        WHERE application_name = 'buildyard' AND state = 'active' AND query = 'COMMIT'
            AND wait_event IN ('SyncRep', 'advisory'))";
    loop {
        let records = records.clone();
        let write = tokio::spawn(async move { records.put_setting("doubt", "resolved").await });
        while !write.is_finished() {
            if looking.query_one(waits, &[]).await.unwrap().get(0) {
                return write;
            }
        }
        write.await.unwrap().expect("nothing is in its way yet");
    }
}

#[test]
fn a_commit_that_nobody_heard_of_is_answered_for_when_the_database_is_back() {
    let server = Server::start();
    let home = Home::of(&server);
    block_on(async {
        let records = home.open().unwrap();
        records.put_setting("before", "value").await.unwrap();
        // On the disk here, and waiting for a copy elsewhere that will never be: then its connection is cut.
        run_sql(&server.url, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        run_sql(&server.url, "SELECT pg_reload_conf()");
        let write = committing(&server, &records).await;
        run_sql(&server.url, "ALTER SYSTEM RESET synchronous_standby_names");
        tokio::task::block_in_place(|| cut(&server));
        run_sql(&server.url, "SELECT pg_reload_conf()");
        write.await.unwrap().expect("it was kept");
        assert_eq!(records.get_setting("doubt").await.unwrap().as_deref(), Some("resolved"));
    });
}

#[test]
fn a_commit_that_was_cut_before_it_was_done_is_answered_as_not_kept() {
    let server = Server::start();
    let home = Home::of(&server);
    block_on(async {
        let records = home.open().unwrap();
        records.put_setting("before", "value").await.unwrap();
        // Something at the end of the transaction waits for a lock that nobody gives.
        run_sql(
            &server.url,
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON settings DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION wait()",
        );
        let (holder, connection) = tokio_postgres::connect(&server.url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        holder.batch_execute("SELECT pg_advisory_lock(7)").await.unwrap();
        let write = committing(&server, &records).await;
        tokio::task::block_in_place(|| cut(&server));
        let answer = write.await.unwrap();
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
        let found = patiently(|| records.get_setting("doubt")).await;
        assert_eq!(found, None);
    });
}
