//! What becomes of a build that ends while nothing can be stored.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use agent::journal::Phase;
use store::logs::SegmentWriter;
use store::records::{Fate, Hand, Records};

use crate::user::*;

const PRINTED: &[u8] = b"compiling\ntesting\n";

/// Does what is asked of the records as it comes, but for writes that are more than it is told to do: they fail.
struct Disk {
    /// How many writes are still done.
    good: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
}

impl Disk {
    fn worked_by(mut hand: Hand) -> Disk {
        let disk = Disk { good: Arc::new(AtomicUsize::new(usize::MAX)), failed: Arc::default() };
        let (good, failed) = (disk.good.clone(), disk.failed.clone());
        tokio::spawn(async move {
            loop {
                while hand.read(Fate::Natural) {}
                if hand.waiting().1 > 0 {
                    let is_good = good.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
                    hand.write(1, if is_good { Fate::Natural } else { Fate::Failing });
                    failed.fetch_add(usize::from(!is_good), Relaxed);
                }
                tokio::task::yield_now().await;
            }
        });
        disk
    }

    fn fail_after(&self, writes: usize) {
        self.good.store(writes, Relaxed);
    }

    fn work_again(&self) {
        self.good.store(usize::MAX, Relaxed);
    }

    /// Waits, as time goes by, for so many failures from now on.
    async fn fails(&self, tester: &Tester, times: usize) {
        let enough = self.failed.load(Relaxed) + times;
        eventually(|| async {
            tester.clock.advance(Duration::from_secs(1));
            self.failed.load(Relaxed) >= enough
        })
        .await;
    }
}

// P5
#[tokio::test]
async fn the_log_of_a_build_that_ended_while_nothing_could_be_stored_is_found_once_the_build_is_over() {
    let folder = fast_folder();
    let (records, hand) = Records::by_hand(folder.path()).unwrap();
    let disk = Disk::worked_by(hand);
    let mut tester = Tester::on(folder, records, |_| {}).await;
    tester.hold_all_in(Phase::Build);
    // The build is accepted; where its log is cannot be stored any more, nor what becomes of it.
    disk.fail_after(1);
    let id = tester.start().await;
    eventually(|| async { tester.agents.agents() == [uuid(&id)] }).await;
    SegmentWriter::create(&tester.log(&id)).unwrap().write_raw(START_MS, PRINTED).unwrap();
    tester.engine.shut_down().await;
    tester.agents.release(uuid(&id));
    eventually(|| async { tester.agents.agents().is_empty() }).await;
    // The next engine finds a build that is over, and nothing of it is left to be stored but its log and its end.
    tester.start_again().await;
    disk.fails(&tester, 3).await;
    assert_eq!(status(&tester.get(&id).await), "IN_PROGRESS");
    disk.work_again();
    assert_eq!(status(&tester.done_in_time(&id, Duration::from_secs(1)).await), "SUCCEEDED");
    let found = tester.records.get_log_stream(&tester.scope(), "/aws/codebuild/demo", uuid(&id)).await;
    let stream = found.unwrap().expect("nobody can find the log of a build that is over");
    assert_eq!(stream.segment, tester.log(&id).to_str().unwrap());
    assert_eq!((stream.stored_bytes, stream.last_event_ms), (PRINTED.len() as u64, Some(START_MS)));
}
