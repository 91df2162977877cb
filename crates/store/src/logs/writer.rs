//! Appending to a segment: one writer at a time, whole frames or nothing, and mending after a crash.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::frame::{FILE_HEADER, FrameKind, HEADER, OVERHEAD, SEAL, Seed, TRAILER, cut, length_of};
use super::position::Position;
use super::reader::SegmentReader;
use crate::error::{Doing, Error, Result};

/// Frames per `writev`: three slices each, and the kernel takes 1024 slices. So few that what was just summed is
/// still in the processor's cache when the kernel copies it.
const FRAMES_AT_ONCE: usize = 16;

/// What a segment holds in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    pub frames: u64,
    pub payload_bytes: u64,
}

impl Total {
    fn add(&mut self, payload: &[u8]) {
        self.frames += 1;
        self.payload_bytes += payload.len() as u64;
    }

    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.frames.to_le_bytes());
        bytes[8..].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Total> {
        let bytes: &[u8; 16] = bytes.try_into().ok()?;
        let (frames, payload_bytes) = bytes.split_at(8);
        Some(Total {
            frames: u64::from_le_bytes(frames.try_into().ok()?),
            payload_bytes: u64::from_le_bytes(payload_bytes.try_into().ok()?),
        })
    }
}

/// The one writer of a segment. Dropping it leaves the segment open for a later `append`.
#[derive(Debug)]
pub struct SegmentWriter {
    file: File,
    path: PathBuf,
    seed: Seed,
    /// Where the next frame goes; everything before it is sound.
    end: u64,
    total: Total,
    /// Of the output so far: its times never fall, so that they can be searched for by halves.
    latest_ms: i64,
    sealed: bool,
    /// The folder's entry for a new file is not yet on the disk.
    entry_unsynced: bool,
}

impl SegmentWriter {
    /// A new segment; its folder must exist. `AlreadyExists` if the file does.
    pub fn create(path: &Path) -> Result<SegmentWriter> {
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).open(path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::already_exists("log segment", &path.to_string_lossy()));
            }
            opened => opened.doing("creating a log segment")?,
        };
        lock(&file, path)?;
        SegmentWriter::begin(file, path)
    }

    /// Goes on with a segment, after cutting off what a crash left unfinished at its end.
    /// `NotFound` if there is no file, `Locked` while another writer has it, `Sealed` if it is complete.
    pub fn append(path: &Path) -> Result<SegmentWriter> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::not_found("log segment", &path.to_string_lossy()));
            }
            opened => opened.doing("opening a log segment")?,
        };
        lock(&file, path)?;
        // A crash so early that not even the header was written leaves nothing to lose.
        if file.metadata().doing("reading a log segment's size")?.len() < FILE_HEADER as u64 {
            return SegmentWriter::begin(file, path);
        }
        SegmentWriter::mend(file, path)
    }

    fn begin(file: File, path: &Path) -> Result<SegmentWriter> {
        let seed = Seed(random_u32()?);
        let header = seed.file_header();
        file.write_all_at(&header, 0).doing("writing a log segment's header")?;
        let (path, end) = (path.to_owned(), header.len() as u64);
        let mut writer = SegmentWriter {
            file,
            path,
            seed,
            end,
            total: Total::default(),
            latest_ms: i64::MIN,
            sealed: false,
            entry_unsynced: true,
        };
        writer.seek_to_end()?;
        Ok(writer)
    }

    fn mend(file: File, path: &Path) -> Result<SegmentWriter> {
        let mut reader = SegmentReader::open(path)?;
        let seed = reader.seed()?.ok_or(Error::Damaged { path: path.to_owned(), offset: 0 })?;
        let mut total = Total::default();
        let mut latest_ms = i64::MIN;
        let mut end = Position::START.frame;
        while let Some(frame) = reader.frame_at(end)? {
            if frame.kind == SEAL {
                return Err(Error::Sealed(path.to_owned()));
            }
            total.add(frame.payload);
            if frame.kind == FrameKind::Raw.code() {
                latest_ms = latest_ms.max(frame.time_ms);
            }
            end += frame.size();
        }
        file.set_len(end).doing("cutting off a log segment's torn end")?;
        let mut writer = SegmentWriter {
            file,
            path: path.to_owned(),
            seed,
            end,
            total,
            latest_ms,
            sealed: false,
            entry_unsynced: true,
        };
        writer.seek_to_end()?;
        Ok(writer)
    }

    /// Appends output as it came. See [`SegmentWriter::write`].
    pub fn write_raw(&mut self, time_ms: i64, bytes: &[u8]) -> Result<()> {
        self.write(time_ms, FrameKind::Raw, bytes)
    }

    /// Appends `bytes` in frames of at most [`PAYLOAD_LIMIT`](super::PAYLOAD_LIMIT) bytes, cut behind a newline
    /// (`Raw`) or else between characters where possible. Returns once the kernel has them, which a kill of this
    /// process cannot undo; for a power cut see [`SegmentWriter::sync`]. After an error nothing of `bytes` is kept.
    /// `time_ms` is the events' time in milliseconds since the epoch; output that is older than what came before it gets the
    /// time of that.
    pub fn write(&mut self, time_ms: i64, kind: FrameKind, bytes: &[u8]) -> Result<()> {
        let time_ms = match kind {
            FrameKind::Raw => {
                self.latest_ms = self.latest_ms.max(time_ms);
                self.latest_ms
            }
            FrameKind::Event => time_ms,
        };
        let before = (self.end, self.total);
        let written = self.write_frames(time_ms, kind.code(), &payloads(bytes, kind));
        if written.is_err() {
            self.roll_back(before)?;
        }
        written
    }

    /// Appends events, whose times are in milliseconds since the epoch. They survive a power cut when this returns; after an
    /// error none of them is kept, so that what comes next does not lie behind bytes of which the kernel believes, since it
    /// has told us of the failure, that they are on the disk.
    pub fn write_durably<'a>(&mut self, mut events: impl Iterator<Item = (i64, &'a [u8])>) -> Result<()> {
        let before = (self.end, self.total);
        let written = events.try_for_each(|(time_ms, bytes)| self.write(time_ms, FrameKind::Event, bytes));
        let kept = written.and_then(|()| self.sync());
        if kept.is_err() {
            self.roll_back(before)?;
        }
        kept
    }

    fn write_frames(&mut self, time_ms: i64, kind: u8, payloads: &[&[u8]]) -> Result<()> {
        if self.sealed {
            return Err(Error::Sealed(self.path.clone()));
        }
        for batch in payloads.chunks(FRAMES_AT_ONCE) {
            let mut offset = self.end;
            let mut frame = |payload| {
                let header = self.seed.at(offset).header(time_ms, kind, payload);
                offset += (OVERHEAD + payload.len()) as u64;
                (header, payload, length_of(payload))
            };
            let frames: Vec<([u8; HEADER], &[u8], [u8; TRAILER])> =
                batch.iter().map(|payload| frame(*payload)).collect();
            let mut slices: Vec<IoSlice<'_>> = frames
                .iter()
                .flat_map(|(header, payload, trailer)| [&header[..], payload, &trailer[..]].map(IoSlice::new))
                .collect();
            self.end += write_all_vectored(&mut self.file, &mut slices).doing("writing a log")?;
            batch.iter().for_each(|payload| self.total.add(payload));
        }
        Ok(())
    }

    /// A full disk must not leave half a frame, or half of what the caller was told is lost.
    fn roll_back(&mut self, (end, total): (u64, Total)) -> Result<()> {
        self.end = end;
        self.total = total;
        self.seek_to_end()?;
        self.file.set_len(end).doing("cutting off an unfinished log write")
    }

    fn seek_to_end(&mut self) -> Result<()> {
        io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.end)).doing("seeking in a log segment")?;
        Ok(())
    }

    /// Makes everything written so far survive a power cut.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().doing("syncing a log segment")?;
        if self.entry_unsynced {
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder =
                File::open(folder.unwrap_or(Path::new("."))).doing("opening a log segment's folder")?;
            folder.sync_all().doing("syncing a log segment's folder")?;
            self.entry_unsynced = false;
        }
        Ok(())
    }

    /// Size of the segment in bytes: grows with every write.
    pub fn position(&self) -> u64 {
        self.end
    }

    /// What was written since the segment was created, by whichever writers.
    pub fn total(&self) -> Total {
        self.total
    }

    /// Marks the log as complete, for good, and syncs it. Sealing twice is sealing once.
    pub fn seal(&mut self) -> Result<()> {
        if !self.sealed {
            let (before, total) = ((self.end, self.total), self.total.to_bytes());
            if let Err(error) = self.write_frames(0, SEAL, &[&total[..]]) {
                self.roll_back(before)?;
                return Err(error);
            }
            self.total = before.1;
            self.sealed = true;
        }
        self.sync()
    }
}

fn lock(file: &File, path: &Path) -> Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Error::Locked(path.display().to_string())),
        locked => locked.doing("locking a log segment"),
    }
}

fn random_u32() -> Result<u32> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .doing("drawing a random number")?;
    Ok(u32::from_le_bytes(bytes))
}

fn payloads(bytes: &[u8], kind: FrameKind) -> Vec<&[u8]> {
    let mut payloads = Vec::with_capacity(bytes.len() / super::PAYLOAD_LIMIT + 1);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (payload, after) = rest.split_at(cut(rest, kind));
        payloads.push(payload);
        rest = after;
    }
    // An empty line is no output, but an empty event is an event.
    if bytes.is_empty() && kind == FrameKind::Event {
        payloads.push(bytes);
    }
    payloads
}

fn write_all_vectored(file: &mut File, mut slices: &mut [IoSlice<'_>]) -> io::Result<u64> {
    let mut written = 0;
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                written += count as u64;
                IoSlice::advance_slices(&mut slices, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
