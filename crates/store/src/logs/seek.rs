//! Finding a time in a segment without reading all of it: a search by halves, over the frames themselves.
//!
//! There is no index that could be lost or disagree with the log. A frame is known wherever one begins to read, by
//! its checksum, which starts from the segment's secret seed and the frame's offset. Output has times that never
//! fall, as its writer sees to; events that clients put come in any order, and are read through.

use super::frame::{FrameKind, HEADER, OVERHEAD, PAYLOAD_LIMIT, TRAILER, read_u32};
use super::position::Position;
use super::reader::SegmentReader;
use crate::error::Result;

/// What is shorter is read through, in bytes.
const NEAR: u64 = 256 * 1024;
/// Bytes that are summed up in the search for one frame; more only where somebody printed what looks like many.
const SUMMED_MAX: usize = 8 << 20;

/// What there is behind a place of a file.
enum Found {
    /// The first frame that begins there or later.
    Frame { start: u64, time_ms: i64, is_output: bool },
    /// The rest is too short for a frame, or none is sound.
    Nothing,
    /// It would take too long to tell.
    Unclear,
}

impl SegmentReader {
    /// A place between `from` and the first event of that time (milliseconds) or a later one, near that event where
    /// times never fall; `from` itself otherwise.
    pub(super) fn place_before(&mut self, from: Position, time_ms: i64) -> Result<Position> {
        if time_ms == i64::MIN {
            return Ok(from);
        }
        let Some(first) = self.frame_at(from.frame)? else { return Ok(from) };
        if first.kind != FrameKind::Raw.code() || first.time_ms >= time_ms {
            return Ok(from);
        }
        let (mut before, mut end) = (from.frame, self.size()?);
        while end.saturating_sub(before) > NEAR {
            let middle = before + (end - before) / 2;
            match self.frame_from(middle)? {
                Found::Frame { is_output: false, .. } | Found::Unclear => return Ok(from),
                Found::Frame { start, time_ms: found, .. } if found < time_ms && start < end => {
                    before = start
                }
                Found::Frame { .. } | Found::Nothing => end = middle,
            }
        }
        Ok(if before == from.frame { from } else { Position::frame(before) })
    }

    /// A place between `before` and the last event that is older than that time (milliseconds), near that event where times
    /// never fall; `before` itself otherwise.
    pub(super) fn place_behind(&mut self, before: Position, time_ms: i64) -> Result<Position> {
        if time_ms == i64::MAX {
            return Ok(before);
        }
        let mut near = self.place_before(Position::START, time_ms)?;
        while near.frame < before.frame {
            match self.frame_at(near.frame)? {
                Some(frame) if frame.kind != FrameKind::Raw.code() => break,
                Some(frame) if frame.time_ms < time_ms => near = Position::frame(near.frame + frame.size()),
                _ => return Ok(near),
            }
        }
        Ok(before)
    }

    fn frame_from(&mut self, at: u64) -> Result<Found> {
        let Some(seed) = self.seed()? else { return Ok(Found::Nothing) };
        // Enough for the end of one frame and the whole of the next.
        let bytes = self.bytes_from(at, 2 * (PAYLOAD_LIMIT + OVERHEAD))?;
        let mut summed = 0;
        for (offset, start) in (0..bytes.len().min(PAYLOAD_LIMIT + OVERHEAD)).zip(at..) {
            let Some(payload) = looks_like_a_frame(&bytes[offset..]) else { continue };
            summed += OVERHEAD + payload;
            if summed > SUMMED_MAX {
                return Ok(Found::Unclear);
            }
            if let Some(frame) = seed.at(start).parse(&bytes[offset..]) {
                let is_output = frame.kind != FrameKind::Event.code();
                return Ok(Found::Frame { start, time_ms: frame.time_ms, is_output });
            }
        }
        Ok(Found::Nothing)
    }
}

/// The length of its payload, if it begins and ends as a frame does.
fn looks_like_a_frame(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER)?;
    let payload = read_u32(header) as usize;
    let trailer = (payload <= PAYLOAD_LIMIT).then(|| bytes.get(HEADER + payload..OVERHEAD + payload))??;
    (trailer == &header[..TRAILER]).then_some(payload)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::logs::{FrameKind, SegmentWriter};

    /// A segment of output whose frame number n has the time `time(n)`; the whole of it read.
    fn written(
        path: &Path,
        frames: i64,
        time: impl Fn(i64) -> i64,
        text: impl Fn(i64) -> Vec<u8>,
    ) -> SegmentReader {
        let mut writer = SegmentWriter::create(path).unwrap();
        for number in 0..frames {
            writer.write_raw(time(number), &text(number)).unwrap();
        }
        SegmentReader::open(path).unwrap()
    }

    fn numbers(reader: &mut SegmentReader, times: std::ops::Range<i64>) -> Vec<i64> {
        let (events, _) = reader.forward_within(Position::START, times, usize::MAX, usize::MAX).unwrap();
        let number = |bytes: &[u8]| i64::from_le_bytes(bytes[..8].try_into().unwrap());
        events.iter().map(|event| number(&event.bytes)).collect()
    }

    #[test]
    fn a_search_by_time_finds_what_reading_through_finds() {
        let folder = tempfile::tempdir().unwrap();
        // Lengths without a pattern, and bytes that begin many frames that are none.
        let text = |number: i64| {
            let mut bytes = number.to_le_bytes().to_vec();
            bytes.resize(8 + usize::try_from(number * number % 5_003).unwrap(), 0);
            bytes.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = 1);
            bytes
        };
        let mut reader = written(&folder.path().join("s"), 2_000, |number| number / 3 * 10, text);
        for (start, end) in
            [(0, 6_670), (3_335, 3_336), (3_330, 3_331), (6_660, i64::MAX), (6_661, i64::MAX), (-5, 1)]
        {
            let expect: Vec<i64> =
                (0..2_000).filter(|number| (start..end).contains(&(number / 3 * 10))).collect();
            let found = numbers(&mut reader, start..end);
            // A newline in the number itself makes two events of it.
            let found: Vec<i64> = found.into_iter().filter(|number| (0..2_000).contains(number)).collect();
            assert_eq!(found.len(), expect.len(), "{start}..{end}");
        }
        let end = reader.end().unwrap();
        for times in [3_335..6_000, 0..10, 6_660..i64::MAX, 0..i64::MAX, 3_331..3_335] {
            let (back, _) = reader.backward_within(end, times.clone(), usize::MAX, usize::MAX).unwrap();
            let (there, _) =
                reader.forward_within(Position::START, times.clone(), usize::MAX, usize::MAX).unwrap();
            assert_eq!(back, there, "{times:?}");
        }
        let near = reader.place_before(Position::START, 3_335).unwrap();
        let (events, _) = reader.forward(near, 1, 1).unwrap();
        assert!(near > Position::START && events[0].time_ms < 3_335);
        let size = reader.size().unwrap();
        assert!(near.frame > size / 3 && near.frame < size * 2 / 3, "it is near");
    }

    #[test]
    fn output_never_goes_back_in_time_and_events_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut writer = SegmentWriter::create(&path).unwrap();
        for time in [5, 3, 9] {
            writer.write_raw(time, b"x\n").unwrap();
        }
        drop(writer);
        let mut writer = SegmentWriter::append(&path).unwrap();
        writer.write_raw(7, b"x\n").unwrap();
        writer.write(2, FrameKind::Event, b"event").unwrap();
        let mut reader = SegmentReader::open(&path).unwrap();
        let (events, _) = reader.forward(Position::START, 10, 100).unwrap();
        assert_eq!(events.iter().map(|event| event.time_ms).collect::<Vec<_>>(), [5, 5, 9, 9, 2]);
    }
}
