//! Prints what the store's budgets are about: log throughput, and lists and reads over 100,000 stored builds.
//! `cargo run --release -p store --example measure [builds]`

use std::time::{Duration, Instant};

use store::logs::{Position, SegmentReader, SegmentWriter};
use store::records::{Acceptance, NewBuild, Order, Project, Records, Scope};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let builds = std::env::args().nth(1).map_or(Ok(100_000), |count| count.parse())?;
    let folder = tempfile::tempdir()?;
    measure_logs(folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    runtime.block_on(measure_records(folder.path(), builds))
}

fn measure_logs(folder: &std::path::Path) -> Outcome {
    let lines =
        "one line of output that a build might print, with its newline 80 bytes in all..\n".repeat(200_000);
    let megabytes = lines.len() as f64 / 1e6;
    for (name, chunk) in [("16 MB", lines.len()), ("64 KiB", 65_536), ("80 bytes", 80)] {
        let path = folder.join(format!("log {name}"));
        let mut writer = SegmentWriter::create(&path)?;
        let start = Instant::now();
        for _ in 0..20 {
            for piece in lines.as_bytes().chunks(chunk) {
                writer.write_raw(1, piece)?;
            }
        }
        let written = start.elapsed();
        let start = Instant::now();
        writer.sync()?;
        println!(
            "log, writes of {name}: {:.0} MB/s, then sync {:?}",
            20.0 * megabytes / written.as_secs_f64(),
            start.elapsed()
        );
        let start = Instant::now();
        let mut reader = SegmentReader::open(&path)?;
        let (mut position, mut bytes) = (Position::START, 0);
        loop {
            let (events, next) = reader.forward(position, 10_000, 1 << 20)?;
            if events.is_empty() {
                break;
            }
            bytes += events.iter().map(|event| event.bytes.len()).sum::<usize>();
            position = next;
        }
        println!("log, read in pages: {:.0} MB/s", bytes as f64 / 1e6 / start.elapsed().as_secs_f64());
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

async fn measure_records(folder: &std::path::Path, builds: usize) -> Outcome {
    let records = Records::open(folder)?;
    let scope = Scope { account: "123456789012".into(), region: "eu-west-1".into() };
    for project in 0..50 {
        let (name, document) = (format!("project-{project}"), "{}".into());
        records.insert_project(&scope, Project { name, document, created_ms: 1, modified_ms: 1 }).await?;
    }
    accept(&records, &scope, builds).await?;
    let ids: Vec<String> = records.list_builds(&scope, Order::Ascending, None, 100).await?.items;
    let scattered: Vec<String> = (0..100).map(|n| id(n * builds / 100)).collect();
    let far = records.list_builds(&scope, Order::Ascending, None, 1000).await?.next;
    for (name, ids) in [("oldest", &ids), ("scattered", &scattered)] {
        measure(&format!("get 100 builds, {name}"), async || {
            records.get_documents(&scope, ids).await.map(|_| ())
        })
        .await?;
    }
    measure("list 100 builds, newest", async || {
        records.list_builds(&scope, Order::Descending, None, 100).await.map(|_| ())
    })
    .await?;
    measure("list 100 builds, a page far in", async || {
        records.list_builds(&scope, Order::Ascending, far.as_deref(), 100).await.map(|_| ())
    })
    .await?;
    measure("list 100 builds of a project", async || {
        records.list_builds_for_project(&scope, "project-7", Order::Descending, None, 100).await.map(|_| ())
    })
    .await?;
    let start = Instant::now();
    drop(records);
    let records = Records::open(folder)?;
    println!("closed and opened again: {:?}", start.elapsed());
    measure("accept one build after the other", async || {
        accept_one(&records, &scope, usize::MAX).await.map(|_| ())
    })
    .await
}

fn id(index: usize) -> String {
    format!("project-{}:{index:036}", index % 50)
}

async fn accept(records: &Records, scope: &Scope, builds: usize) -> Outcome {
    let start = Instant::now();
    let callers: Vec<_> = (0..200)
        .map(|caller| {
            let (records, scope) = (records.clone(), scope.clone());
            tokio::spawn(async move {
                for index in (caller..builds).step_by(200) {
                    accept_one(&records, &scope, index).await?;
                }
                Ok::<_, store::Error>(())
            })
        })
        .collect();
    for caller in callers {
        caller.await??;
    }
    println!("accept from 200 callers: {:.0} builds/s", builds as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

async fn accept_one(records: &Records, scope: &Scope, index: usize) -> store::Result<Acceptance> {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1 << 30);
    let index =
        if index == usize::MAX { NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) } else { index };
    let new = NewBuild {
        scope: scope.clone(),
        id: id(index),
        project: format!("project-{}", index % 50),
        status: "IN_PROGRESS".into(),
        created_ms: 1,
        lifecycle: "{}".into(),
        idempotency: None,
    };
    records.accept_build(new, |_| ("x".repeat(3000), "y".repeat(3000))).await
}

async fn measure<F: Future<Output = store::Result<()>>>(name: &str, work: impl Fn() -> F) -> Outcome {
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..1000 {
        let start = Instant::now();
        work().await?;
        times.push(start.elapsed());
    }
    times.sort();
    println!("{name}: p50 {:?}, p99 {:?}, worst {:?}", times[500], times[990], times[999]);
    Ok(())
}
