//! What survives `kill -9`, and a disk that takes no more. Each test runs this very binary again as a child that
//! writes, tells us on its standard output what was acknowledged, and is killed in the middle of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use store::Error;
use store::logs::{FrameKind, Position, SegmentReader, SegmentWriter};
use store::objects::{Metadata, Objects};
use store::records::{Acceptance, Project, Records};

use crate::databases::{Home, on_each_database, open};
use crate::records::{new_build, scope};

const FOLDER: &str = "STORE_CRASH_FOLDER";
/// The URL of a PostgreSQL database; without it, records are in the folder.
const DATABASE: &str = "STORE_CRASH_DATABASE";

/// The folder to write to, in the child; `None` in an ordinary run of the tests.
fn childs_folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

fn tell(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {line}").unwrap();
    out.flush().unwrap();
}

fn spawn(mut command: Command, test: &str, folder: &Path) -> Child {
    let arguments = ["--exact", test, "--nocapture", "--test-threads=1"];
    command.args(arguments).env(FOLDER, folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills the child after it has acknowledged `lines` times; gives all it acknowledged.
fn killed_after(lines: usize, test: &str, folder: &Path) -> Vec<String> {
    kill_after(lines, spawn(Command::new(std::env::current_exe().unwrap()), test, folder))
}

fn kill_after(lines: usize, mut child: Child) -> Vec<String> {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut ledger = Vec::new();
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        ledger.extend(line.trim_end().strip_prefix("ack ").map(str::to_owned));
        line.clear();
        if ledger.len() == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(ledger.len() >= lines, "the child ended before it was killed");
    ledger
}

#[test]
fn child_accepts_builds() {
    let Some(folder) = childs_folder() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let records = open(&folder, std::env::var(DATABASE).ok().as_deref()).unwrap();
        let project = Project { name: "p".into(), document: "{}".into(), created_ms: 1, modified_ms: 1 };
        let _ = records.insert_project(&scope(), project).await;
        let first = records.incomplete_builds().await.unwrap().len();
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let records = records.clone();
                tokio::spawn(async move {
                    for round in 0.. {
                        let id = format!("p:{first}-{caller}-{round}");
                        let accepted =
                            records.accept_build(new_build(&id), |n| (n.to_string(), String::new())).await;
                        if let Acceptance::Accepted { number } = accepted.unwrap() {
                            tell(format!("{number} {id}"));
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    });
}

fn accepting_builds(home: &Home) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if let Some(url) = &home.url {
        command.env(DATABASE, url);
    }
    spawn(command, "crash::child_accepts_builds", home.folder.path())
}

/// That everything acknowledged is there, and that build numbers have no gaps.
async fn check(records: &Records, ledger: &[String]) {
    let found = records.incomplete_builds().await.unwrap();
    let numbers: Vec<u64> = found.iter().map(|found| found.build.number).collect();
    assert_eq!(numbers, (1..=found.len() as u64).collect::<Vec<_>>(), "unique, increasing, without gaps");
    let kept: BTreeSet<String> =
        found.iter().map(|found| format!("{} {}", found.build.number, found.build.id)).collect();
    for line in ledger {
        assert!(kept.contains(line), "{line} was acknowledged and is lost");
    }
}

#[test]
fn every_acknowledged_build_is_there_after_a_kill() {
    on_each_database(async |home| {
        let mut ledger = Vec::new();
        for kill in 0..6 {
            ledger.extend(kill_after(10 + kill * 23, accepting_builds(&home)));
            check(&home.open().unwrap(), &ledger).await;
        }
    });
}

#[test]
fn child_writes_a_log() {
    let Some(folder) = childs_folder() else { return };
    let path = folder.join("log");
    let mut writer = SegmentWriter::append(&path).or_else(|_| SegmentWriter::create(&path)).unwrap();
    for round in writer.total().payload_bytes / 100_000.. {
        let line = format!("{round:099}\n").repeat(1000);
        writer.write(1, FrameKind::Raw, line.as_bytes()).unwrap();
        tell(round);
    }
}

#[test]
fn every_log_byte_written_before_a_kill_is_there_and_a_prefix_of_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for kill in 0..6 {
        let ledger = killed_after(1 + kill * 17, "crash::child_writes_a_log", folder.path());
        acknowledged = ledger.last().unwrap().parse::<u64>().unwrap() + 1;
        let path = folder.path().join("log");
        // What a kill leaves is whole lines or a cut one at the very end; the next writer goes on behind it.
        let mut reader = SegmentReader::open(&path).unwrap();
        let (mut position, mut lines) = (Position::START, 0);
        loop {
            let (events, next) = reader.forward(position, 10_000, usize::MAX).unwrap();
            if events.is_empty() {
                break;
            }
            for event in events {
                assert_eq!(event.bytes, format!("{:099}\n", lines / 1000).into_bytes());
                lines += 1;
            }
            position = next;
        }
        assert!(lines >= acknowledged * 1000, "{lines} lines of {acknowledged} thousand");
        assert!(lines <= acknowledged * 1000 + 1000);
        // Rounds are counted in whole hundred thousands of bytes: finish the one that the kill cut.
        let mut writer = SegmentWriter::append(&path).unwrap();
        while !writer.total().payload_bytes.is_multiple_of(100_000) {
            writer.write_raw(1, format!("{:099}\n", lines / 1000).as_bytes()).unwrap();
        }
    }
    assert!(acknowledged > 6);
}

#[test]
fn child_puts_objects() {
    let Some(folder) = childs_folder() else { return };
    let objects = Objects::open(&folder).unwrap();
    let _ = objects.create_bucket("bucket");
    for round in 0.. {
        for key in ["a", "a/b", "a/b/c", "z"] {
            let mut writer = objects.put("bucket", key).unwrap();
            writer.write_all(format!("{key} {round}").repeat(3000).as_bytes()).unwrap();
            writer.finish(Metadata::default()).unwrap();
            tell(key);
        }
        for key in ["a/b/c", "a/b", "a"] {
            objects.delete("bucket", key).unwrap();
            tell(format!("deleted {key}"));
        }
    }
}

#[test]
fn objects_are_absent_old_or_complete_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    for kill in 0..10 {
        killed_after(3 + kill * 3, "crash::child_puts_objects", folder.path());
        let objects = Objects::open(folder.path()).unwrap();
        let listing = objects.list("bucket", "", None, None, 100).unwrap();
        for object in listing.objects {
            let (mut file, info) = objects.get("bucket", &object.key).unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut file, &mut text).unwrap();
            let unit = &text[..text.len() / 3000];
            assert!(unit.starts_with(&format!("{} ", info.key)) && unit.repeat(3000) == text);
            assert_eq!(info, object);
            assert!(info.sha256.is_some(), "its metadata came with it");
        }
        objects.clean().unwrap();
        assert_eq!(fs::read_dir(folder.path().join(".tmp")).unwrap().count(), 0);
    }
}

/// Objects of one batch.
const BATCH: usize = 300;

#[test]
fn child_puts_batches() {
    let Some(folder) = childs_folder() else { return };
    let objects = Objects::open(&folder).unwrap();
    let _ = objects.create_bucket("bucket");
    let first: u64 = fs::read_to_string(folder.join("rounds")).map_or(0, |text| text.parse().unwrap());
    for round in first.. {
        let mut batch = objects.batch("bucket").unwrap();
        for number in 0..BATCH {
            // Some are there in every round, some in this one only.
            let key = if number % 3 == 0 { format!("r{round}/{number}") } else { format!("k/{number}") };
            let mut writer = batch.put(&key).unwrap();
            writer.write_all(round.to_string().as_bytes()).unwrap();
            batch.add(writer, Metadata::default()).unwrap();
        }
        batch.finish().unwrap();
        fs::write(folder.join("rounds.new"), (round + 1).to_string()).unwrap();
        fs::rename(folder.join("rounds.new"), folder.join("rounds")).unwrap();
        tell(round);
    }
}

/// Keys by the round that wrote them.
fn rounds(folder: &Path) -> BTreeMap<String, usize> {
    let mut rounds = BTreeMap::new();
    for place in fs::read_dir(folder.join("bucket")).unwrap().flatten() {
        for object in fs::read_dir(place.path()).unwrap().flatten() {
            *rounds.entry(fs::read_to_string(object.path()).unwrap()).or_default() += 1;
        }
    }
    rounds
}

// P6
#[test]
fn a_batch_is_there_whole_or_not_at_all_after_a_kill_in_the_middle_of_its_renames() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join(".batches/bucket");
    let mut torn = 0;
    for _ in 0..3 {
        let mut child =
            spawn(Command::new(std::env::current_exe().unwrap()), "crash::child_puts_batches", folder.path());
        let before = rounds_done(folder.path());
        // While the first one is made there is nothing that could be torn.
        while !(journal.exists() && rounds_done(folder.path()) >= before.max(1)) {
            assert!(child.try_wait().unwrap().is_none(), "the child ended before it was killed");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        torn += usize::from(journal.exists());
        let objects = Objects::open(folder.path()).unwrap();
        objects.clean().unwrap();
        assert!(!journal.exists() && fs::read_dir(folder.path().join(".tmp")).unwrap().count() == 0);
        // Every round before the last has left the third that is its own; the rest is of one round.
        let last = rounds(folder.path());
        let whole: Vec<_> = last.iter().filter(|(_, count)| **count == BATCH).collect();
        let own = last.values().filter(|count| **count == BATCH / 3).count();
        assert!(whole.len() == 1 && own + 1 == last.len(), "{last:?}");
        assert!(
            whole[0].0.parse::<u64>().unwrap() + 1 >= rounds_done(folder.path()),
            "an acknowledged one is gone"
        );
    }
    assert!(torn > 0, "no kill came in the middle");
}

fn rounds_done(folder: &Path) -> u64 {
    fs::read_to_string(folder.join("rounds")).map_or(0, |text| text.parse().unwrap_or(0))
}

#[test]
fn child_fills_the_disk() {
    let Some(folder) = childs_folder() else { return };
    let mut writer = SegmentWriter::create(&folder.join("log")).unwrap();
    writer.write_raw(1, b"kept\n").unwrap();
    let before = (writer.position(), writer.total());
    assert!(matches!(writer.write_raw(2, &vec![b'x'; 10 << 20]), Err(Error::Full)));
    assert_eq!((writer.position(), writer.total()), before);
    writer.write_raw(3, b"there is room again\n").unwrap();
    let objects = Objects::open(&folder).unwrap();
    objects.create_bucket("bucket").unwrap();
    let mut object = objects.put("bucket", "key").unwrap();
    assert!(object.write_all(&vec![b'x'; 10 << 20]).is_err());
    drop(object);
    assert!(matches!(objects.get("bucket", "key"), Err(Error::NoSuchKey(_))));
    tell("done");
}

#[test]
fn what_does_not_fit_is_refused_whole_and_what_fits_again_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    // A limit on the size of files stands in for the end of the disk. Of a large write the kernel first takes a part.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    let child = spawn(shell, "crash::child_fills_the_disk", folder.path());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("ack done"));
    let mut reader = SegmentReader::open(&folder.path().join("log")).unwrap();
    let (events, _) = reader.forward(Position::START, 9, 999).unwrap();
    assert_eq!(events.iter().map(|event| event.bytes.len()).collect::<Vec<_>>(), [5, 20]);
    assert_eq!(fs::read_dir(folder.path().join(".tmp")).unwrap().count(), 0);
}
