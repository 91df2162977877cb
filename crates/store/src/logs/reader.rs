//! Reading a segment, from anywhere, in both directions, while it may still be growing.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::frame::{FILE_HEADER, Frame, FrameKind, OVERHEAD, PAYLOAD_LIMIT, SEAL, Seed, TRAILER, read_u32};
use super::position::Position;
use super::writer::Total;
use crate::error::{Doing, Error, Result};

/// Bytes read from the file at once: a few whole frames.
const WINDOW: usize = 256 * 1024;

/// One event of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    /// Just before this event.
    pub position: Position,
    /// At most 64 KiB, with the newline that ended the line; any bytes, not only UTF-8.
    pub bytes: Vec<u8>,
}

/// A reader of a segment. It sees what the writer appends meanwhile; no call ever waits.
#[derive(Debug)]
pub struct SegmentReader {
    file: File,
    path: PathBuf,
    /// `None` until the writer has written the header.
    seed: Option<Seed>,
    /// Everything before this was found sound.
    known_end: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl SegmentReader {
    /// `NotFound` if there is no such file, `Damaged` if it is no segment.
    pub fn open(path: &Path) -> Result<SegmentReader> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::not_found("log segment", &path.to_string_lossy()));
            }
            opened => opened.doing("opening a log segment")?,
        };
        let mut reader = SegmentReader {
            file,
            path: path.to_owned(),
            seed: None,
            known_end: Position::START.frame,
            window: Vec::new(),
            window_start: 0,
        };
        reader.seed()?;
        Ok(reader)
    }

    /// Before the first event.
    pub fn start(&self) -> Position {
        Position::START
    }

    /// Behind the last event that is there now.
    pub fn end(&mut self) -> Result<Position> {
        self.forget_window();
        if let Some((start, _)) = self.last_frame()? {
            self.known_end = self.known_end.max(start);
        }
        while let Some(frame) = self.frame_at(self.known_end)? {
            if frame.kind == SEAL {
                break;
            }
            self.known_end += frame.size();
        }
        Ok(Position::frame(self.known_end))
    }

    /// Whether the log is complete: nothing will ever be appended.
    pub fn sealed(&mut self) -> Result<bool> {
        Ok(self.total()?.is_some())
    }

    /// What the segment holds in all, once it is sealed.
    pub fn total(&mut self) -> Result<Option<Total>> {
        self.forget_window();
        Ok(self.last_frame()?.and_then(|(_, total)| total))
    }

    /// Events from `from` on, in order, and where the next call goes on. At the end of the log there are no events
    /// and the position stays the same. Ends after `max_events`, or before the event that would make it more than
    /// `max_bytes` (but the first event always comes).
    pub fn forward(
        &mut self,
        from: Position,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<(Vec<LogEvent>, Position)> {
        self.forward_within(from, i64::MIN..i64::MAX, max_events, max_bytes)
    }

    /// As [`SegmentReader::forward`], leaving out events whose time is not in `times` (milliseconds).
    pub fn forward_within(
        &mut self,
        from: Position,
        times: Range<i64>,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<(Vec<LogEvent>, Position)> {
        self.forget_window();
        let mut page = Page::new(max_events, max_bytes);
        let mut position = self.place_before(from, times.start)?;
        while let Some(frame) = self.frame_at(position.frame)? {
            // Output has times that never fall: nothing that is asked for follows.
            let beyond = frame.kind == FrameKind::Raw.code() && frame.time_ms >= times.end;
            if frame.kind == SEAL || beyond {
                return Ok((page.events, position));
            }
            let after = Position::frame(position.frame + frame.size());
            if times.contains(&frame.time_ms) {
                for range in events(&frame).filter(|range| range.start >= position.byte as usize) {
                    let event = event(position.frame, &frame, range);
                    let at = event.position;
                    if !page.push(event) {
                        return Ok((page.events, at));
                    }
                }
            }
            position = after;
        }
        self.check_whole(position)?;
        Ok((page.events, position))
    }

    /// The events that end at `before`, in order (the oldest first), and where the next call goes on: the position
    /// of the first of them. The limits are those of [`SegmentReader::forward`].
    pub fn backward(
        &mut self,
        before: Position,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<(Vec<LogEvent>, Position)> {
        self.backward_within(before, i64::MIN..i64::MAX, max_events, max_bytes)
    }

    /// As [`SegmentReader::backward`], leaving out events whose time is not in `times` (milliseconds).
    pub fn backward_within(
        &mut self,
        before: Position,
        times: Range<i64>,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<(Vec<LogEvent>, Position)> {
        self.forget_window();
        let mut page = Page::new(max_events, max_bytes);
        let mut position = self.place_behind(before, times.end)?;
        loop {
            let start =
                if position.byte > 0 { Some(position.frame) } else { self.frame_before(position.frame)? };
            let Some(start) = start else { break };
            let Some(frame) = self.frame_at(start)? else { break };
            // Output has times that never fall: nothing that is asked for comes before.
            if frame.kind == FrameKind::Raw.code() && frame.time_ms < times.start {
                break;
            }
            let until = if position.byte > 0 { position.byte as usize } else { PAYLOAD_LIMIT };
            if times.contains(&frame.time_ms) {
                let ranges: Vec<_> = events(&frame).take_while(|range| range.start < until).collect();
                for range in ranges.into_iter().rev() {
                    let after = range.end;
                    if !page.push(event(start, &frame, range)) {
                        let next = end_of_event(start, &frame, after);
                        return Ok((page.reversed(), next));
                    }
                }
            }
            position = Position::frame(start);
        }
        Ok((page.reversed(), position))
    }

    pub(super) fn seed(&mut self) -> Result<Option<Seed>> {
        if self.seed.is_none() {
            let mut header = [0; FILE_HEADER];
            match self.file.read_exact_at(&mut header, 0) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read.doing("reading a log segment")?,
            }
            self.seed = Seed::from_file_header(&header);
            if self.seed.is_none() {
                return Err(Error::Damaged { path: self.path.clone(), offset: 0 });
            }
        }
        Ok(self.seed)
    }

    /// The frame that begins at `start`; `None` if there is none yet, or none that is sound.
    pub(super) fn frame_at(&mut self, start: u64) -> Result<Option<Frame<'_>>> {
        let Some(seed) = self.seed()? else { return Ok(None) };
        self.load(start, start, OVERHEAD)?;
        let Some(length) = self.cached(start, TRAILER).map(read_u32) else { return Ok(None) };
        let size = OVERHEAD + (length as usize).min(PAYLOAD_LIMIT);
        self.load(start, start, size)?;
        Ok(self.cached(start, size).and_then(|bytes| seed.at(start).parse(bytes)))
    }

    /// Where the frame begins that ends at `end`, which is the start of a frame or the end of the file.
    fn frame_before(&mut self, end: u64) -> Result<Option<u64>> {
        let least = Position::START.frame + OVERHEAD as u64;
        if end < least {
            return Ok(None);
        }
        let window = end.saturating_sub(WINDOW as u64);
        self.load(window, end - TRAILER as u64, TRAILER)?;
        let Some(length) = self.cached(end - TRAILER as u64, TRAILER).map(read_u32) else { return Ok(None) };
        let size = OVERHEAD as u64 + u64::from(length);
        if length as usize > PAYLOAD_LIMIT || end < Position::START.frame + size {
            return Ok(None);
        }
        // The whole frame is now in the window, unless the window began with the file's own beginning.
        self.load(window, end - size, size as usize)?;
        Ok(Some(end - size))
    }

    /// The frame that ends with the file, if a sound one does: where it begins, and what it seals.
    fn last_frame(&mut self) -> Result<Option<(u64, Option<Total>)>> {
        let size = self.size()?;
        let Some(start) = self.frame_before(size)? else { return Ok(None) };
        let Some(frame) = self.frame_at(start)? else { return Ok(None) };
        let total = (frame.kind == SEAL).then(|| Total::from_bytes(frame.payload)).flatten();
        Ok((start + frame.size() == size).then_some((start, total)))
    }

    /// A reader that finds no frame where it stands is at the end, or in front of damage: a sealed log has no
    /// unfinished end.
    fn check_whole(&mut self, stopped: Position) -> Result<()> {
        let size = self.size()?;
        if stopped.frame >= size {
            return Ok(());
        }
        match self.last_frame()? {
            // The seal may have come while we looked; only a frame that still cannot be read is damage.
            Some((_, Some(_))) if self.frame_at(stopped.frame)?.is_none() => {
                Err(Error::Damaged { path: self.path.clone(), offset: stopped.frame })
            }
            _ => Ok(()),
        }
    }

    /// Bytes of the file, growing or not.
    pub(super) fn size(&self) -> Result<u64> {
        Ok(self.file.metadata().doing("reading a log segment's size")?.len())
    }

    /// Up to so many bytes from there on, as many as the file has.
    pub(super) fn bytes_from(&mut self, at: u64, length: usize) -> Result<&[u8]> {
        self.load(at, at, length)?;
        let start = usize::try_from(at.saturating_sub(self.window_start)).unwrap_or(usize::MAX);
        let bytes = self.window.get(start..).unwrap_or_default();
        Ok(&bytes[..bytes.len().min(length)])
    }

    /// What was read before may have been the unfinished end of a write.
    fn forget_window(&mut self) {
        self.window.clear();
    }

    fn cached(&self, at: u64, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(at.checked_sub(self.window_start)?).ok()?;
        self.window.get(start..start.checked_add(length)?)
    }

    /// Has the bytes `at..at + length` in the window, as far as the file has them; reads from `window` on if not.
    fn load(&mut self, window: u64, at: u64, length: usize) -> Result<()> {
        if self.cached(at, length).is_some() {
            return Ok(());
        }
        self.window.resize(WINDOW.max(length), 0);
        self.window_start = window;
        let mut filled = 0;
        while filled < self.window.len() {
            match self.file.read_at(&mut self.window[filled..], window + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.window.clear();
                    return Err(error).doing("reading a log segment");
                }
            }
        }
        self.window.truncate(filled);
        Ok(())
    }
}

/// The events of one answer, within its limits.
struct Page {
    events: Vec<LogEvent>,
    max_events: usize,
    bytes_left: usize,
}

impl Page {
    fn new(max_events: usize, max_bytes: usize) -> Page {
        Page { events: Vec::new(), max_events, bytes_left: max_bytes }
    }

    /// False if there is no room: the event then belongs to the next page.
    fn push(&mut self, event: LogEvent) -> bool {
        let first = self.events.is_empty();
        let fits = first || event.bytes.len() <= self.bytes_left;
        if self.events.len() >= self.max_events || !fits {
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(event.bytes.len());
        self.events.push(event);
        true
    }

    fn reversed(mut self) -> Vec<LogEvent> {
        self.events.reverse();
        self.events
    }
}

/// The events of a frame, as ranges of its payload. Kinds that a newer version may write hold none.
fn events<'a>(frame: &Frame<'a>) -> impl Iterator<Item = Range<usize>> + use<'a> {
    let (payload, kind) = (frame.payload, FrameKind::of(frame.kind));
    let mut next = match kind {
        Some(FrameKind::Raw) => (!payload.is_empty()).then_some(0),
        Some(FrameKind::Event) => Some(0),
        None => None,
    };
    std::iter::from_fn(move || {
        let start = next?;
        let newline =
            (kind == Some(FrameKind::Raw)).then(|| memchr::memchr(b'\n', &payload[start..])).flatten();
        let end = newline.map_or(payload.len(), |at| start + at + 1);
        next = (end < payload.len()).then_some(end);
        Some(start..end)
    })
}

fn event(start: u64, frame: &Frame<'_>, range: Range<usize>) -> LogEvent {
    let byte = u32::try_from(range.start).expect("payloads have at most 64 KiB");
    LogEvent {
        time_ms: frame.time_ms,
        position: Position { frame: start, byte },
        bytes: frame.payload[range].to_vec(),
    }
}

/// Behind the event that ends at `end` of a frame's payload.
fn end_of_event(start: u64, frame: &Frame<'_>, end: usize) -> Position {
    match u32::try_from(end) {
        Ok(byte) if end < frame.payload.len() => Position { frame: start, byte },
        _ => Position::frame(start + frame.size()),
    }
}
