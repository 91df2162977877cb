//! The embedded executor against real processes. The agents are this test program, executed again: they keep
//! the agent's contract (socket, then journal, then signals) without making a container.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::answer::Answer;
use agent::journal::{Event, Outcome, Secret, Writer};
use agent::plan::{Artifacts, Buildspec, DriverLoss, Environment, Limits, Network, Plan, Rootfs, Source};
use executor::embedded::Options;
use executor::fake::Script;
use executor::{Adopted, Embedded, Error, Executor, Fake, Link, Remains, Signal};

const UUID: &str = "0c8a3fd5-5a2f-4f0e-9d57-8b6d63f3c6a1";

// ---- the stand-in agent -------------------------------------------------------------------------------------

/// Not a test by itself: what this program is when the executor starts it as an agent.
#[test]
fn stand_in_agent() {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(at) = arguments.iter().position(|argument| argument == "--") else { return };
    let folder = match arguments[at + 1].as_str() {
        "--wait" => read_line_from_stdin(),
        folder => folder.to_string(),
    };
    if !folder.is_empty() {
        be_an_agent(Path::new(&folder));
    }
    std::process::exit(0);
}

fn read_line_from_stdin() -> String {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    line.trim_end_matches('\n').to_string()
}

/// What to do is the plan's buildspec: `refuse` with words, `hang` without taking the build, `wait` for a stop,
/// `hurry` to the end before anybody can connect, or `finish`.
fn be_an_agent(folder: &Path) {
    let plan: Plan = serde_json::from_slice(&fs::read(folder.join("plan.json")).unwrap()).unwrap();
    let Buildspec::Inline(what) = plan.buildspec else { panic!("the tests send inline buildspecs") };
    match what.as_str() {
        "refuse" => {
            eprintln!("user namespaces are not permitted here");
            std::process::exit(3);
        }
        "die if it waited" if std::env::args().any(|argument| argument == "--wait") => {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        "hang" => loop {
            std::thread::park();
        },
        _ => {}
    }
    std::env::set_current_dir(folder).unwrap();
    let listener = UnixListener::bind("agent.sock").unwrap();
    if what == "hurry" {
        return hurry(listener);
    }
    let mut journal = Writer::create(Path::new("journal")).unwrap();
    journal.append(&Event::Started { at_ms: 1, process: std::process::id() }).unwrap();
    // The last driver's connection stays open until all is written: its end says that the agent is gone.
    let (outcome, _driver) = match what.as_str() {
        "wait" => (Outcome::Stopped, wait_for_stop(&listener)),
        _ => (Outcome::Succeeded, listener.accept().unwrap().0),
    };
    journal.append(&Event::Finished { at_ms: 2, outcome }).unwrap();
    journal.sync().unwrap();
}

/// The journal appears, whole, when nobody listens any more.
fn hurry(listener: UnixListener) {
    drop(listener);
    let mut journal = Writer::create(Path::new("journal.whole")).unwrap();
    journal.append(&Event::Started { at_ms: 1, process: std::process::id() }).unwrap();
    journal.append(&Event::Finished { at_ms: 2, outcome: Outcome::Succeeded }).unwrap();
    fs::rename("journal.whole", "journal").unwrap();
}

fn wait_for_stop(listener: &UnixListener) -> UnixStream {
    loop {
        let (mut driver, _) = listener.accept().unwrap();
        let mut byte = [0];
        // A driver may be gone by the time it is greeted.
        if driver.write_all(b"LJ").is_ok() && matches!(driver.read(&mut byte), Ok(1)) && byte == *b"S" {
            return driver;
        }
    }
}

// ---- what the tests say -------------------------------------------------------------------------------------

fn open(builds: &Path, warm: usize) -> Embedded {
    let mut options = Options::new(builds.to_path_buf());
    options.program = std::env::current_exe().unwrap();
    options.arguments = ["--exact", "--nocapture", "stand_in_agent", "--"].map(Into::into).to_vec();
    options.warm = warm;
    Embedded::open(options).unwrap()
}

fn plan(what: &str) -> Plan {
    Plan {
        build_id: format!("demo:{UUID}"),
        uuid: UUID.to_string(),
        project_name: "demo".to_string(),
        log: PathBuf::from("/nonexistent/log"),
        log_quota_bytes: None,
        environment: Environment {
            rootfs: Rootfs::Host,
            variables: BTreeMap::new(),
            shared: Vec::new(),
            network: Network::None,
            limits: Limits::default(),
            privileged: false,
            starts_docker: false,
        },
        source: Source::None,
        secondary_sources: Vec::new(),
        left_out: Vec::new(),
        fetching: Default::default(),
        source_number: 1,
        buildspec: Buildspec::Inline(what.to_string()),
        service_variables: BTreeMap::new(),
        variables: BTreeMap::new(),
        artifacts: Artifacts::None,
        timeout_seconds: 60,
        on_driver_loss: DriverLoss::Continue,
        fleet_label: "On-demand".to_string(),
        references: BTreeMap::new(),
        debug_session: false,
        hold_on_failure: false,
        objects_owner: None,
        role: None,
        elsewhere: None,
        reports: None,
        snapshots: None,
        endpoint: None,
        cache: agent::plan::Cache::None,
    }
}

async fn until_lost(link: &mut Link) {
    while link.signal().await != Signal::Lost {}
}

async fn last_event(link: &Link) -> Event {
    link.events_after(0).unwrap().0.pop().unwrap()
}

fn is_finished(event: &Event, with: Outcome) -> bool {
    matches!(event, Event::Finished { outcome, .. } if *outcome == with)
}

async fn running(executor: &Embedded) -> Link {
    match executor.adopt(UUID).await.unwrap() {
        Adopted::Running(link) => link,
        other => panic!("not running but {other:?}"),
    }
}

/// A process that is just ending may still be connected to.
async fn journal_of_the_dead(executor: &Embedded) -> Vec<Event> {
    loop {
        match executor.adopt(UUID).await.unwrap() {
            Adopted::Dead(Remains { events, .. }) => return events,
            Adopted::Running(mut link) => until_lost(&mut link).await,
            Adopted::NeverStarted => panic!("it did start"),
        }
    }
}

// ---- the tests ----------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_build_goes_from_launch_to_finished_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 0);
    let mut link = executor.launch(UUID, &plan("finish")).await.unwrap();
    until_lost(&mut link).await;
    assert!(is_finished(&last_event(&link).await, Outcome::Succeeded));
    executor.remove(UUID).await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_scripted_agent_waits_for_its_references_whoever_its_driver_is() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new(folder.path(), || 1);
    let secret = Secret { id: "db".into(), stage: None, version: None };
    let asked = (vec!["/a".to_string()], vec![secret.clone()]);
    let script = Script { references: Some(asked.clone()), ..Script::default() };
    fake.script(move |_| script.clone());
    drop(fake.launch(UUID, &plan("")).await.unwrap());
    let Adopted::Running(mut link) = fake.adopt(UUID).await.unwrap() else { panic!("it waits") };
    until_asked(&mut link, &asked).await;
    // Long enough to need more than one piece.
    let answer = Answer::Values {
        parameters: BTreeMap::from([("/a".into(), "v".repeat(1 << 20))]),
        secrets: BTreeMap::from([(secret, "s".into())]),
        git: Vec::new(),
    };
    link.answer(answer.clone()).await;
    until_lost(&mut link).await;
    assert!(is_finished(&last_event(&link).await, Outcome::Succeeded));
    assert_eq!(fake.answers(UUID), [answer]);
}

/// Follows the journal until it has the question.
async fn until_asked(link: &mut Link, asked: &(Vec<String>, Vec<Secret>)) {
    let question =
        Event::ReferencesNeeded { parameters: asked.0.clone(), secrets: asked.1.clone(), git: false };
    while !link.events_after(0).unwrap().0.contains(&question) {
        assert_ne!(link.signal().await, Signal::Lost, "it did not ask");
    }
}

#[tokio::test]
async fn an_agent_that_waited_takes_the_build_and_its_words_land_in_the_builds_folder() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 2);
    for _ in 0..5 {
        let mut link = executor.launch(UUID, &plan("wait")).await.unwrap();
        assert!(folder.path().join(UUID).join("agent.log").exists());
        link.stop().await;
        until_lost(&mut link).await;
        assert!(is_finished(&last_event(&link).await, Outcome::Stopped));
        executor.remove(UUID).await.unwrap();
    }
}

#[tokio::test]
async fn the_plan_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 0);
    let link = executor.launch(UUID, &plan("wait")).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join(UUID)), 0o700);
    assert_eq!(mode(&folder.path().join(UUID).join("plan.json")), 0o600);
    link.kill();
}

#[tokio::test]
async fn signals_of_both_kinds_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 0);
    let mut link = executor.launch(UUID, &plan("wait")).await.unwrap();
    let mut heard = Vec::new();
    while !(heard.contains(&Signal::JournalGrew) && heard.contains(&Signal::LogGrew)) {
        heard.push(link.signal().await);
    }
    link.kill();
}

#[tokio::test]
async fn a_running_agent_is_found_again_after_its_executor_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), 1).launch(UUID, &plan("wait")).await.unwrap());
    let executor = open(folder.path(), 1);
    let mut link = running(&executor).await;
    link.stop().await;
    until_lost(&mut link).await;
    assert!(is_finished(&last_event(&link).await, Outcome::Stopped));
}

#[tokio::test]
async fn a_killed_agent_is_dead_with_what_it_had_written() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 0);
    let mut link = executor.launch(UUID, &plan("wait")).await.unwrap();
    link.kill();
    until_lost(&mut link).await;
    let (written, _) = link.events_after(0).unwrap();
    // It owns its build from the journal's creation on, and may be killed before it has written to it.
    assert!(matches!(written[..], [] | [Event::Started { .. }]), "{written:?}");
    assert_eq!(journal_of_the_dead(&executor).await, written);
    executor.remove(UUID).await.unwrap();
}

#[tokio::test]
async fn a_build_that_ended_unseen_is_dead_with_finished_as_its_last_record() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 0);
    let mut link = executor.launch(UUID, &plan("finish")).await.unwrap();
    until_lost(&mut link).await;
    drop(link);
    let events = journal_of_the_dead(&executor).await;
    assert!(is_finished(events.last().unwrap(), Outcome::Succeeded));
}

#[tokio::test]
async fn a_build_that_is_over_before_it_can_be_reached_is_launched_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 0);
    let mut link = executor.launch(UUID, &plan("hurry")).await.unwrap();
    until_lost(&mut link).await;
    assert!(is_finished(&last_event(&link).await, Outcome::Succeeded));
}

#[tokio::test]
async fn a_build_without_a_folder_never_started() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 0);
    assert!(matches!(executor.adopt(UUID).await.unwrap(), Adopted::NeverStarted));
    executor.remove(UUID).await.unwrap();
}

#[tokio::test]
async fn a_folder_without_a_journal_is_closed_to_late_agents_and_the_next_attempt_gets_a_fresh_one() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 0);
    let first = folder.path().join(UUID);
    fs::create_dir(&first).unwrap();
    for _ in 0..2 {
        assert!(matches!(executor.adopt(UUID).await.unwrap(), Adopted::NeverStarted));
    }
    let late = Writer::create(&first.join("journal")).unwrap_err();
    assert_eq!(late.kind(), std::io::ErrorKind::AlreadyExists);
    let link = executor.launch(UUID, &plan("wait")).await.unwrap();
    assert!(folder.path().join(format!("{UUID}.2")).join("journal").exists());
    drop(link);
    running(&executor).await.kill();
    executor.remove(UUID).await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A kill or a full disk may come between any two things that are written.
#[tokio::test]
async fn giving_up_a_folder_is_one_step_which_the_journals_name_alone_decides() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 0);
    let first = folder.path().join(UUID);
    fs::create_dir(&first).unwrap();
    assert!(matches!(executor.adopt(UUID).await.unwrap(), Adopted::NeverStarted));
    for entry in fs::read_dir(&first).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name() != agent::JOURNAL {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    assert!(matches!(executor.adopt(UUID).await.unwrap(), Adopted::NeverStarted));
    let late = Writer::create(&first.join("journal")).unwrap_err();
    assert_eq!(late.kind(), std::io::ErrorKind::AlreadyExists);
}

/// Leaves a folder whose agent is gone, with a journal of these bytes behind `Started`.
fn bury_with(folder: &Path, tail: &[u8]) {
    let first = folder.join(UUID);
    fs::create_dir(&first).unwrap();
    let mut journal = Writer::create(&first.join(agent::JOURNAL)).unwrap();
    journal.append(&Event::Started { at_ms: 1, process: 2 }).unwrap();
    fs::OpenOptions::new().append(true).open(first.join(agent::JOURNAL)).unwrap().write_all(tail).unwrap();
}

/// As a power cut leaves it, on a file system that had given the file its length and not its bytes.
#[tokio::test]
async fn a_damaged_journal_of_a_dead_agent_is_read_up_to_the_damage() {
    for (tail, is_damage) in
        [(&[0u8; 100][..], true), (&[7, 0, 0, 0, 1, 2, 3, 4][..], false), (&[0xff; 64], true)]
    {
        let folder = tempfile::tempdir().unwrap();
        bury_with(folder.path(), tail);
        let Adopted::Dead(remains) = open(folder.path(), 0).adopt(UUID).await.unwrap() else {
            panic!("dead")
        };
        assert_eq!(remains.events, [Event::Started { at_ms: 1, process: 2 }]);
        assert_eq!(remains.damage.is_some(), is_damage, "{:?}", remains.damage);
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_at_all_says_why() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(UUID).join(agent::JOURNAL)).unwrap();
    let Adopted::Dead(remains) = open(folder.path(), 0).adopt(UUID).await.unwrap() else { panic!("dead") };
    assert_eq!(remains.events, []);
    assert!(remains.damage.is_some_and(|damage| damage.contains("directory")));
}

/// As when the agent is killed, and the server before it could do anything about that.
#[tokio::test]
async fn what_was_prepared_for_a_build_that_no_agent_took_is_removed_by_who_looks_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 0);
    let first = folder.path().join(UUID);
    fs::create_dir_all(first.join(agent::SCRATCH)).unwrap();
    fs::write(first.join(agent::SCRATCH).join("prepared"), "").unwrap();
    fs::write(first.join(agent::CONTAINER), format!("no-such-container-{UUID}\n")).unwrap();
    assert!(matches!(executor.adopt(UUID).await.unwrap(), Adopted::NeverStarted));
    assert_eq!(fs::read_dir(first.join(agent::SCRATCH)).unwrap().count(), 0);
}

#[tokio::test]
async fn builds_with_something_left_are_listed_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 1);
    fs::create_dir(folder.path().join(format!("{UUID}.2"))).unwrap();
    let link = executor.launch(UUID, &plan("wait")).await.unwrap();
    assert_eq!(executor.remaining().await.unwrap(), [UUID]);
    link.kill();
}

#[tokio::test]
async fn an_agent_that_cannot_start_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    for warm in [0, 1] {
        let executor = open(folder.path(), warm);
        let Err(Error::NotStarted { reason }) = executor.launch(UUID, &plan("refuse")).await else {
            panic!("it started");
        };
        assert!(reason.contains("user namespaces are not permitted here"), "{reason}");
        executor.remove(UUID).await.unwrap();
    }
}

#[tokio::test]
async fn a_build_whose_waiting_agent_was_killed_gets_another() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 2);
    let mut link = executor.launch(UUID, &plan("die if it waited")).await.unwrap();
    until_lost(&mut link).await;
    assert!(is_finished(&last_event(&link).await, Outcome::Succeeded));
    executor.remove(UUID).await.unwrap();
    assert_eq!(executor.remaining().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn an_agent_that_hangs_before_taking_the_build_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path().to_path_buf());
    options.program = std::env::current_exe().unwrap();
    options.arguments = ["--exact", "--nocapture", "stand_in_agent", "--"].map(Into::into).to_vec();
    options.patience = Duration::from_millis(50);
    let executor = Embedded::open(options).unwrap();
    let launched = executor.launch(UUID, &plan("hang")).await;
    assert!(matches!(launched, Err(Error::NotStarted { .. })), "{launched:?}");
    assert!(matches!(executor.adopt(UUID).await.unwrap(), Adopted::NeverStarted));
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_that_begin_together_leave_no_more_waiting_than_wanted() {
    let builds = tempfile::tempdir().unwrap();
    let executor = Arc::new(open(builds.path(), 3));
    for round in 0..6 {
        let mut launched = tokio::task::JoinSet::new();
        for build in 0..8 {
            let executor = executor.clone();
            let mut plan = plan("finish");
            plan.uuid = format!("0c8a3fd5-5a2f-4f0e-9d57-8b6d63f3{round:02}{build:02}");
            launched.spawn(async move { executor.launch(&plan.uuid, &plan).await.unwrap() });
        }
        while let Some(link) = launched.join_next().await {
            until_lost(&mut link.unwrap()).await;
        }
        while executor.waiting_agents() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(executor.waiting_agents(), 3, "in round {round}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path().to_path_buf());
    options.program = PathBuf::from("/nonexistent/buildyard");
    let executor = Embedded::open(options).unwrap();
    let Err(error) = executor.launch(UUID, &plan("finish")).await else { panic!("it started") };
    assert!(error.to_string().contains("/nonexistent/buildyard"), "{error}");
}

#[tokio::test]
async fn a_data_path_longer_than_a_socket_address_is_fine() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("d".repeat(120)).join("e".repeat(120));
    let executor = open(&deep, 1);
    let mut link = executor.launch(UUID, &plan("finish")).await.unwrap();
    until_lost(&mut link).await;
    assert!(is_finished(&last_event(&link).await, Outcome::Succeeded));
}

#[tokio::test]
async fn waiting_agents_leave_with_their_executor() {
    let folder = tempfile::tempdir().unwrap();
    let executor = open(folder.path(), 2);
    let mut link = executor.launch(UUID, &plan("finish")).await.unwrap();
    until_lost(&mut link).await;
    executor.remove(UUID).await.unwrap();
    drop(executor);
    // A refill may be under way in the background; what it starts ends as its pool is dropped after it.
    let logs = || fs::read_dir(folder.path()).unwrap().count();
    tokio::time::timeout(Duration::from_secs(60), async {
        while logs() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
