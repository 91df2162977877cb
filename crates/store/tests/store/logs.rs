//! Log segments.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use store::Error;
use store::logs::{FrameKind, LogEvent, PAYLOAD_LIMIT, Position, SegmentReader, SegmentWriter};
use tempfile::TempDir;

use crate::Dice;

fn segment() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    (folder, path)
}

fn written(path: &Path, writes: &[(i64, FrameKind, &[u8])]) -> SegmentReader {
    let mut writer = SegmentWriter::create(path).unwrap();
    for (time_ms, kind, bytes) in writes {
        writer.write(*time_ms, *kind, bytes).unwrap();
    }
    SegmentReader::open(path).unwrap()
}

fn all(reader: &mut SegmentReader) -> Vec<LogEvent> {
    reader.forward(Position::START, usize::MAX, usize::MAX).unwrap().0
}

fn texts(events: &[LogEvent]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8(event.bytes.clone()).unwrap()).collect()
}

/// All events in pages of `max_events`, forward, each position having gone through its text form.
fn forward_in_pages(reader: &mut SegmentReader, max_events: usize, max_bytes: usize) -> Vec<LogEvent> {
    let (mut found, mut position) = (Vec::new(), reader.start());
    loop {
        let (events, next) = reader.forward(position, max_events, max_bytes).unwrap();
        if events.is_empty() {
            assert_eq!(next, position, "the position at the end is stable");
            return found;
        }
        assert!(events.len() <= max_events);
        found.extend(events);
        position = next.to_string().parse().unwrap();
    }
}

fn backward_in_pages(reader: &mut SegmentReader, max_events: usize, max_bytes: usize) -> Vec<LogEvent> {
    let (mut found, mut position) = (Vec::new(), reader.end().unwrap());
    loop {
        let (mut events, next) = reader.backward(position, max_events, max_bytes).unwrap();
        if events.is_empty() {
            assert_eq!(next, reader.start());
            return found;
        }
        assert_eq!(events[0].position, next);
        events.append(&mut found);
        found = events;
        position = next.to_string().parse().unwrap();
    }
}

#[test]
fn raw_output_becomes_lines_and_an_event_stays_whole() {
    let (_folder, path) = segment();
    let mut reader = written(
        &path,
        &[
            (1, FrameKind::Raw, b"one\ntwo\n\nrest"),
            (2, FrameKind::Event, b"[Container] a\nb\n"),
            (3, FrameKind::Raw, b""),
            (4, FrameKind::Event, b""),
        ],
    );
    let events = all(&mut reader);
    assert_eq!(texts(&events), ["one\n", "two\n", "\n", "rest", "[Container] a\nb\n", ""]);
    assert_eq!(events.iter().map(|event| event.time_ms).collect::<Vec<_>>(), [1, 1, 1, 1, 2, 4]);
}

#[test]
fn pages_of_any_size_in_both_directions_hold_the_same_events() {
    let (_folder, path) = segment();
    let mut dice = Dice::new(3);
    let mut writer = SegmentWriter::create(&path).unwrap();
    for time_ms in 0..300 {
        let lines: Vec<u8> =
            (0..dice.below(400)).map(|_| if dice.below(9) == 0 { b'\n' } else { b'.' }).collect();
        let kind = if dice.below(4) == 0 { FrameKind::Event } else { FrameKind::Raw };
        writer.write(time_ms, kind, &lines).unwrap();
    }
    let mut reader = SegmentReader::open(&path).unwrap();
    let events = all(&mut reader);
    assert!(events.len() > 1000);
    for (max_events, max_bytes) in [(1, 1), (7, usize::MAX), (usize::MAX, 50), (1000, 4000)] {
        assert_eq!(forward_in_pages(&mut reader, max_events, max_bytes), events);
        assert_eq!(backward_in_pages(&mut reader, max_events, max_bytes), events);
    }
    for event in events.iter().step_by(50) {
        let (found, _) = reader.forward(event.position, 1, usize::MAX).unwrap();
        assert_eq!(&found[0], event, "an event is found at its position");
        let (before, _) = reader.backward(event.position, usize::MAX, usize::MAX).unwrap();
        assert_eq!(before.len(), events.iter().position(|other| other == event).unwrap());
    }
    writer.seal().unwrap();
    assert_eq!(forward_in_pages(&mut reader, 100, 1000), events, "the seal is no event");
    assert_eq!(backward_in_pages(&mut reader, 100, 1000), events);
}

#[test]
fn events_outside_the_asked_times_are_left_out() {
    let (_folder, path) = segment();
    let writes: Vec<(i64, FrameKind, &[u8])> =
        (0..10).map(|time_ms| (time_ms, FrameKind::Raw, &b"a\nb\n"[..])).collect();
    let mut reader = written(&path, &writes);
    let (events, next) = reader.forward_within(Position::START, 3..5, usize::MAX, usize::MAX).unwrap();
    assert_eq!(events.iter().map(|event| event.time_ms).collect::<Vec<_>>(), [3, 3, 4, 4]);
    let (nothing, same) = reader.forward_within(next, 3..5, usize::MAX, usize::MAX).unwrap();
    assert_eq!((nothing.len(), same), (0, next), "the same place, where nothing more can come");
    let (later, _) = reader.forward_within(next, 0..10, usize::MAX, usize::MAX).unwrap();
    assert_eq!(later.len(), 10, "where later times go on");
    let end = reader.end().unwrap();
    let (events, first) = reader.backward_within(end, 3..5, 3, usize::MAX).unwrap();
    assert_eq!(events.iter().map(|event| event.time_ms).collect::<Vec<_>>(), [3, 4, 4]);
    let (events, _) = reader.backward_within(first, 3..5, usize::MAX, usize::MAX).unwrap();
    assert_eq!(events.len(), 1);
}

#[test]
fn bytes_read_are_bytes_written_however_they_were_chunked() {
    for seed in 1..6 {
        let (_folder, path) = segment();
        let mut dice = Dice::new(seed);
        let mut expected = Sha256::new();
        let mut writer = SegmentWriter::create(&path).unwrap();
        let mut bytes = 0;
        for time_ms in 0..60 {
            let length = dice.below(200_000);
            let newlines = 2 + dice.below(50_000);
            let chunk: Vec<u8> = (0..length)
                .map(|_| if dice.below(newlines) == 0 { b'\n' } else { dice.below(256) as u8 })
                .collect();
            expected.update(&chunk);
            bytes += length as u64;
            writer.write_raw(time_ms, &chunk).unwrap();
            if dice.below(10) == 0 {
                drop(writer);
                writer = SegmentWriter::append(&path).unwrap();
            }
        }
        writer.seal().unwrap();
        let mut reader = SegmentReader::open(&path).unwrap();
        let mut found = Sha256::new();
        for event in forward_in_pages(&mut reader, 1000, 1 << 20) {
            assert!(event.bytes.len() <= PAYLOAD_LIMIT);
            found.update(&event.bytes);
        }
        assert_eq!(found.finalize(), expected.finalize());
        assert_eq!(reader.total().unwrap().unwrap().payload_bytes, bytes);
    }
}

#[test]
fn one_very_long_line_is_cut_into_events_and_nothing_is_lost() {
    let (_folder, path) = segment();
    let line = "äöü€".repeat(3 << 20);
    let mut writer = SegmentWriter::create(&path).unwrap();
    writer.write_raw(1, line.as_bytes()).unwrap();
    let mut reader = SegmentReader::open(&path).unwrap();
    let mut found = 0;
    let mut position = reader.start();
    loop {
        let (events, next) = reader.forward(position, usize::MAX, 1 << 20).unwrap();
        if events.is_empty() {
            break;
        }
        for event in events {
            let text = std::str::from_utf8(&event.bytes).unwrap();
            assert!(line[found..].starts_with(text));
            found += text.len();
        }
        position = next;
    }
    assert_eq!(found, line.len());
}

#[test]
fn a_segment_torn_at_any_byte_keeps_every_whole_frame_and_goes_on() {
    let (folder, path) = segment();
    let mut writer = SegmentWriter::create(&path).unwrap();
    let mut ends = vec![writer.position()];
    for time_ms in 0..4 {
        writer.write_raw(time_ms, format!("line {time_ms}\n").as_bytes()).unwrap();
        ends.push(writer.position());
    }
    let whole = fs::read(&path).unwrap();
    for size in 0..whole.len() {
        for junk in [&b""[..], &[0; 40][..], &whole[20..60]] {
            let torn = folder.path().join("torn");
            fs::write(&torn, [&whole[..size], junk].concat()).unwrap();
            let kept = ends.iter().filter(|end| **end <= size as u64).count().saturating_sub(1);
            // What follows the bytes that are there may well complete a frame, but only the one that was written.
            let mut reader = match SegmentReader::open(&torn) {
                Err(Error::Damaged { .. }) if size < 16 => continue,
                reader => reader.unwrap(),
            };
            let seen = all(&mut reader);
            assert!(seen.len() == kept || whole.starts_with(&fs::read(&torn).unwrap()[..size + 1]));
            let end = reader.end().unwrap();
            assert_eq!(reader.backward(end, usize::MAX, usize::MAX).unwrap().0, seen);
            assert!(!reader.sealed().unwrap());
            let mut writer = SegmentWriter::append(&torn).unwrap();
            writer.write_raw(9, b"after\n").unwrap();
            assert_eq!(fs::metadata(&torn).unwrap().len(), writer.position());
            let mut again = SegmentReader::open(&torn).unwrap();
            let events = all(&mut again);
            assert_eq!(events[..seen.len()], seen);
            assert_eq!(texts(&events[seen.len()..]), ["after\n"]);
        }
    }
}

#[test]
fn a_sealed_segment_tells_its_total_and_takes_no_more() {
    let (_folder, path) = segment();
    let mut writer = SegmentWriter::create(&path).unwrap();
    writer.write_raw(1, b"12345\n").unwrap();
    let mut reader = SegmentReader::open(&path).unwrap();
    assert!(!reader.sealed().unwrap());
    writer.seal().unwrap();
    writer.seal().unwrap();
    let end = reader.end().unwrap();
    assert!(reader.sealed().unwrap());
    let total = reader.total().unwrap().unwrap();
    assert_eq!((total.frames, total.payload_bytes), (1, 6));
    assert_eq!(reader.forward(end, 9, 9).unwrap(), (vec![], end));
    assert!(matches!(writer.write_raw(2, b"x"), Err(Error::Sealed(_))));
    drop(writer);
    assert!(matches!(SegmentWriter::append(&path), Err(Error::Sealed(_))));
}

#[test]
fn a_reader_sees_what_is_appended_after_it_opened() {
    let (_folder, path) = segment();
    fs::write(&path, b"").unwrap();
    let mut reader = SegmentReader::open(&path).unwrap();
    assert_eq!(reader.forward(Position::START, 9, 9).unwrap(), (vec![], Position::START));
    let mut writer = SegmentWriter::append(&path).unwrap();
    let mut position = reader.end().unwrap();
    for text in ["a\n", "b", "c\nd"] {
        writer.write_raw(1, text.as_bytes()).unwrap();
        let (events, next) = reader.forward(position, 9, 9).unwrap();
        assert_eq!(texts(&events).concat(), text);
        assert_eq!(next, reader.end().unwrap());
        position = next;
    }
}

#[test]
fn what_a_build_prints_cannot_pass_for_a_frame() {
    let (folder, path) = segment();
    let mut writer = SegmentWriter::create(&path).unwrap();
    writer.write(1, FrameKind::Event, b"forged").unwrap();
    let forged = fs::read(&path).unwrap()[16..].to_vec();
    let other = folder.path().join("other");
    let mut writer = SegmentWriter::create(&other).unwrap();
    writer.write_raw(1, &[b"before ", &forged[..]].concat()).unwrap();
    // Torn so that the file ends with the frame that the build printed.
    let size = fs::metadata(&other).unwrap().len() - 4;
    OpenOptions::new().write(true).open(&other).unwrap().set_len(size).unwrap();
    let mut reader = SegmentReader::open(&other).unwrap();
    assert_eq!(reader.end().unwrap(), Position::START);
    assert_eq!(reader.backward("1000.0".parse().unwrap(), 9, 9).unwrap().0, []);
}

#[test]
fn damage_in_a_sealed_segment_is_reported_and_not_taken_for_its_end() {
    let (_folder, path) = segment();
    let mut writer = SegmentWriter::create(&path).unwrap();
    for time_ms in 0..5 {
        writer.write_raw(time_ms, b"line\n").unwrap();
    }
    writer.seal().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[16 + 26 * 2 + 18] ^= 4;
    fs::write(&path, bytes).unwrap();
    let mut reader = SegmentReader::open(&path).unwrap();
    let damaged = reader.forward(Position::START, 99, 999);
    assert!(matches!(damaged, Err(Error::Damaged { offset: 68, .. })), "{damaged:?}");
}

#[test]
fn a_segment_has_one_writer_and_a_name_of_its_own() {
    let (folder, path) = segment();
    assert!(matches!(SegmentReader::open(&path), Err(Error::NotFound { .. })));
    assert!(matches!(SegmentWriter::append(&path), Err(Error::NotFound { .. })));
    let writer = SegmentWriter::create(&path).unwrap();
    assert!(matches!(SegmentWriter::create(&path), Err(Error::AlreadyExists { .. })));
    assert!(matches!(SegmentWriter::append(&path), Err(Error::Locked(_))));
    drop(writer);
    SegmentWriter::append(&path).unwrap();
    let foreign = folder.path().join("foreign");
    fs::write(&foreign, "a text file that is no log segment").unwrap();
    assert!(matches!(SegmentReader::open(&foreign), Err(Error::Damaged { .. })));
    assert!(matches!(SegmentWriter::append(&foreign), Err(Error::Damaged { .. })));
    assert_eq!(fs::read(&foreign).unwrap().len(), 34, "what is not ours is left alone");
}

#[test]
fn positions_beyond_the_end_or_between_frames_find_nothing() {
    let (_folder, path) = segment();
    let mut reader = written(&path, &[(1, FrameKind::Raw, b"one\ntwo\n")]);
    for token in ["fffffffffffffff.0", "fffffffffffffff.ffffffff", "11.0", "1000.3"] {
        let position: Position = token.parse().unwrap();
        assert_eq!(reader.forward(position, 9, 99).unwrap().0, []);
        assert_eq!(reader.backward(position, 9, 99).unwrap().0, []);
    }
    assert_eq!(texts(&reader.forward("10.1".parse().unwrap(), 9, 99).unwrap().0), ["two\n"]);
}
