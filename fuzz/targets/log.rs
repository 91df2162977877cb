//! A log that is written, torn, spoiled and written on: readers see a beginning of what was written and nothing else, the same
//! from either end, and all of it where nothing was spoiled.

#![no_main]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use logs::{FrameKind, LogEvent, SegmentReader, SegmentWriter};
use store::{error, logs};

use error::{Error, Result};

// The room would bring SQLite along, which takes minutes; these modules need nothing of it.
#[allow(dead_code, unused_imports)]
#[path = "../../crates/store/src"]
mod store {
    pub mod error;
    pub mod logs;
}

/// A file of this process's own, in memory where that can be.
static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("fuzzed-log-{}", std::process::id()))
});

/// Longer than a frame, so that it is cut.
const LONG: usize = 66_000;

/// All events. Where a bit has flipped, those behind it are found from the end alone.
fn all(path: &Path, is_flipped: bool) -> Option<Vec<LogEvent>> {
    let mut reader = SegmentReader::open(path).ok()?;
    let (start, end) = (reader.start(), reader.end().ok()?);
    let forward = reader.forward(start, usize::MAX, usize::MAX);
    let backward = reader.backward(end, usize::MAX, usize::MAX);
    let (Ok((events, _)), Ok((backward, _))) = (forward, backward) else {
        assert!(is_flipped, "it cannot be read");
        return None;
    };
    assert!(is_flipped || events == backward, "the same from either end: {events:?} {backward:?}");
    Some(events)
}

/// A few lines of it; an event for each of so many bytes would take long and show no more.
fn long(payload: &[u8]) -> Vec<u8> {
    let bytes = payload.iter().copied().cycle().take(LONG).enumerate();
    bytes.map(|(at, byte)| if byte == b'\n' && at % 997 > 0 { b'.' } else { byte }).collect()
}

fn text(events: &[LogEvent]) -> Vec<u8> {
    events.iter().flat_map(|event| event.bytes.iter().copied()).collect()
}

/// Appends, and gives what was written.
fn append(path: &Path, kind: u8, payload: &[u8], at_ms: i64) -> Result<Vec<u8>> {
    let mut writer = match path.exists() {
        true => SegmentWriter::append(path)?,
        false => SegmentWriter::create(path)?,
    };
    let payload = if kind & 2 == 0 { payload.to_vec() } else { long(payload) };
    let kind = if kind & 1 == 0 { FrameKind::Raw } else { FrameKind::Event };
    writer.write(at_ms, kind, &payload)?;
    Ok(payload)
}

// Steps: what to do, how many bytes it takes, those bytes.
fuzz_target!(|bytes: &[u8]| {
    let path = &*PLACE;
    let _ = std::fs::remove_file(path);
    let (mut written, mut left) = (Vec::new(), bytes);
    let (mut at_ms, mut is_torn, mut is_flipped) = (1, false, false);
    while let [what, length, rest @ ..] = left {
        let (operand, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        left = rest;
        match what % 8 {
            0..=3 => {
                let before = all(path, is_flipped).map(|events| text(&events)).unwrap_or_default();
                match append(path, what % 4, operand, at_ms) {
                    Ok(_) if is_flipped => return,
                    // What was torn or beside it is cut off.
                    Ok(payload) => (written, is_torn) = ([before, payload].concat(), false),
                    Err(Error::Sealed(_) | Error::Damaged { .. }) => assert!(path.exists()),
                    Err(error) => panic!("{error}"),
                }
                at_ms += 1;
            }
            4 if path.exists() => {
                let file = OpenOptions::new().write(true).open(path).expect("it is ours");
                let size = file.metadata().expect("it is ours").len();
                file.set_len(size.saturating_sub(u64::from(*length))).expect("it is ours");
                is_torn = true;
            }
            5 if path.exists() => {
                let file = OpenOptions::new().write(true).open(path).expect("it is ours");
                let size = file.metadata().expect("it is ours").len();
                file.write_at(operand, size).expect("it is ours");
            }
            6 if path.exists() && !operand.is_empty() => {
                let file = OpenOptions::new().read(true).write(true).open(path).expect("it is ours");
                let size = file.metadata().expect("it is ours").len();
                let at = u64::from(operand[0]).min(size.saturating_sub(1));
                let mut byte = [0];
                if file.read_at(&mut byte, at).expect("it is ours") == 1 {
                    file.write_at(&[byte[0] ^ 1], at).expect("it is ours");
                    is_flipped = true;
                }
            }
            7 if path.exists() && !is_flipped => {
                if let Ok(mut writer) = SegmentWriter::append(path) {
                    let _ = writer.seal();
                }
            }
            _ => {}
        }
        let Some(events) = all(path, is_flipped) else { continue };
        let found = text(&events);
        assert!(written.starts_with(&found), "only what was written is read");
        assert!(is_torn || is_flipped || found == written, "and all of it");
        assert!(events.iter().all(|event| event.bytes.len() <= logs::PAYLOAD_LIMIT));
    }
    let _ = std::fs::remove_file(path);
});
