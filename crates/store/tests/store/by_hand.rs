//! Records whose work is done by hand, and so whatever there is to do can fail at any moment.

use std::pin::pin;

use store::Error;
use store::records::{Acceptance, Fate, Hand, Project, Records};
use tempfile::TempDir;

use crate::records::{new_build, scope};

struct Tester {
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    records: Records,
    hand: Hand,
}

impl Tester {
    fn new() -> Tester {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (records, hand) = Records::by_hand(folder.path()).unwrap();
        let mut tester = Tester { folder, runtime, records, hand };
        let project = Project { name: "demo".into(), created_ms: 1, modified_ms: 1, document: "{}".into() };
        let made = tester.records.clone();
        tester.answer(Fate::Natural, async move { made.insert_project(&scope(), project).await }).unwrap();
        tester
    }

    /// What somebody is answered once the hand has done what they ask for.
    fn answer<T>(&mut self, fate: Fate, asking: impl Future<Output = T>) -> T {
        let Tester { runtime, hand, .. } = self;
        let mut asking = pin!(asking);
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = &mut asking => panic!("nobody has done anything yet"),
                () = std::future::ready(()) => {}
            }
        });
        hand.write(usize::MAX, fate);
        hand.read(fate);
        runtime.block_on(asking)
    }

    fn accept(&mut self, id: &str, fate: Fate) -> store::Result<Acceptance> {
        let (records, new) = (self.records.clone(), new_build(id));
        self.answer(fate, async move { records.accept_build(new, |_| ("{}".into(), "{}".into())).await })
    }

    fn kept(&self) -> Vec<String> {
        self.hand.kept_builds().unwrap().into_iter().map(|build| build.id).collect()
    }
}

#[test]
fn what_is_asked_is_done_when_the_hand_does_it() {
    let mut tester = Tester::new();
    let records = tester.records.clone();
    let accepted = tester.accept("demo:1", Fate::Natural).unwrap();
    assert_eq!(accepted, Acceptance::Accepted { number: 1 });
    assert_eq!(tester.kept(), ["demo:1"]);
    let found = tester.answer(Fate::Natural, async move { records.get_build(&scope(), "demo:1").await });
    assert_eq!(found.unwrap().unwrap().number, 1);
    assert_eq!(tester.hand.waiting(), (0, 0));
}

#[test]
fn nobody_is_told_that_something_is_kept_whose_commit_failed() {
    let mut tester = Tester::new();
    assert!(tester.accept("demo:1", Fate::Failing).is_err());
    assert_eq!(tester.kept(), [""; 0]);
    assert_eq!(tester.accept("demo:2", Fate::Natural).unwrap(), Acceptance::Accepted { number: 1 });
    let records = tester.records.clone();
    let failed = tester.answer(Fate::Failing, async move { records.get_build(&scope(), "demo:2").await });
    assert!(matches!(failed, Err(Error::Unavailable(_))));
}

#[test]
fn a_full_disk_is_told_and_is_over_when_there_is_room() {
    let mut tester = Tester::new();
    tester.hand.fill_disk(true).unwrap();
    let refused = (1..1000).find_map(|number| tester.accept(&format!("demo:{number}"), Fate::Natural).err());
    assert!(matches!(refused, Some(Error::Full)), "{refused:?}");
    let before = tester.kept().len();
    tester.hand.fill_disk(false).unwrap();
    tester.accept("demo:again", Fate::Natural).unwrap();
    assert_eq!(tester.kept().len(), before + 1);
}

#[test]
fn what_was_not_done_when_the_hand_is_gone_never_happens() {
    let mut tester = Tester::new();
    tester.accept("demo:1", Fate::Natural).unwrap();
    let (records, new) = (tester.records.clone(), new_build("demo:2"));
    let asking =
        tester.runtime.spawn(async move { records.accept_build(new, |_| ("{}".into(), "{}".into())).await });
    tester.runtime.block_on(tokio::task::yield_now());
    let Tester { folder, runtime, records, hand } = tester;
    assert_eq!(hand.waiting(), (0, 1));
    drop(hand);
    assert!(runtime.block_on(asking).unwrap().is_err());
    drop(records);
    let (_, hand) = Records::by_hand(folder.path()).unwrap();
    assert_eq!(hand.kept_builds().unwrap().len(), 1);
}
