//! The parts of an archive: Zstandard frames, each a tar stream of whole entries, so that none needs those before it.
//! All of them together are one tar stream in one Zstandard file, which any program for these can read.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a part, unpacked, after which the next one begins: small enough that some processors have something to do, large
/// enough to be worth packing.
const PART_BYTES: u64 = 2 << 20;
/// Parts of one archive.
const PARTS_MAX: usize = 1_000_000;
/// Memory that a frame may ask for when it is unpacked, as a power of two.
const WINDOW_LOG_MAX: u32 = 27;
/// Fast, and half the size of nothing.
const LEVEL: i32 = 3;
const BUFFER: usize = 256 << 10;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Writes parts.
pub(super) struct Writer<W: Write> {
    /// Absent only while one part ends and the next begins.
    encoder: Option<zstd::Encoder<'static, W>>,
    /// Of the present part.
    bytes: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> io::Result<Writer<W>> {
        Ok(Writer { encoder: Some(encoder(out)?), bytes: 0 })
    }

    /// An entry has ended here, so a part may.
    pub(super) fn end_entry(&mut self) -> io::Result<()> {
        if self.bytes >= PART_BYTES
            && let Some(full) = self.encoder.take()
        {
            (self.encoder, self.bytes) = (Some(encoder(full.finish()?)?), 0);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.encoder.map_or(Ok(()), |encoder| encoder.finish().map(drop))
    }
}

fn encoder<W: Write>(out: W) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(out, LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let encoder = self.encoder.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let written = encoder.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.as_mut().map_or(Ok(()), zstd::Encoder::flush)
    }
}

/// Where one part lies in its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    start: u64,
    end: u64,
}

/// All parts of an archive; nothing is unpacked to find them.
pub(super) fn find(archive: &File) -> io::Result<Vec<Part>> {
    let length = archive.metadata()?.len();
    let (mut parts, mut start) = (Vec::new(), 0);
    while start < length {
        let end = frame_end(archive, start)?;
        if end > length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if parts.len() == PARTS_MAX {
            return Err(io::Error::other(format!("more than {PARTS_MAX} parts")));
        }
        parts.push(Part { start, end });
        start = end;
    }
    Ok(parts)
}

/// Behind the frame that begins at `start`, by what its header and those of its blocks say (RFC 8878, 3.1.1).
fn frame_end(archive: &File, start: u64) -> io::Result<u64> {
    let mut head = [0; 5];
    archive.read_exact_at(&mut head, start)?;
    let [magic @ .., descriptor] = head;
    if magic != MAGIC {
        return Err(io::Error::other("no Zstandard frame where one should begin"));
    }
    let is_single_segment = descriptor & 0x20 != 0;
    let window = u64::from(!is_single_segment);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content_size = [u64::from(is_single_segment), 2, 4, 8][usize::from(descriptor >> 6)];
    let checksum = if descriptor & 4 != 0 { 4 } else { 0 };
    let mut at = start + head.len() as u64 + window + dictionary + content_size;
    loop {
        let mut block = [0; 4];
        archive.read_exact_at(&mut block[..3], at)?;
        let block = u32::from_le_bytes(block);
        let size = match block >> 1 & 3 {
            // One byte, repeated.
            1 => 1,
            _ => u64::from(block >> 3),
        };
        at += 3 + size;
        if block & 1 != 0 {
            return Ok(at + checksum);
        }
    }
}

/// A part's tar stream. What all readers of `unpacked` give together may not be more than `max` bytes.
pub(super) fn read<'a>(
    archive: &'a File,
    part: Part,
    unpacked: &'a AtomicU64,
    max: u64,
) -> io::Result<impl Read + 'a> {
    let packed = Packed { archive, at: part.start, end: part.end };
    let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(BUFFER, packed))?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    // Headers are read in small pieces.
    Ok(BufReader::with_capacity(BUFFER, Counted { inner: decoder, unpacked, max }))
}

/// A part as it lies in the file; readers do not share a position.
struct Packed<'a> {
    archive: &'a File,
    at: u64,
    end: u64,
}

impl Read for Packed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.archive.read_at(&mut buffer[..left], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

struct Counted<'a, R> {
    inner: R,
    unpacked: &'a AtomicU64,
    max: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let before = self.unpacked.fetch_add(count as u64, Ordering::Relaxed);
        match before + count as u64 > self.max {
            true => Err(io::Error::other(format!("it unpacks to more than {} bytes", self.max))),
            false => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_whatever_their_frames_say_of_themselves() {
        let noise: Vec<u8> =
            (0..700_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let contents: [&[u8]; 5] = [b"", b"a", &[7; 1_000_000], &noise, b"last"];
        let mut file = tempfile::tempfile().unwrap();
        for (number, content) in contents.iter().enumerate() {
            let mut encoder = zstd::Encoder::new(&mut file, 1 + number as i32).unwrap();
            encoder.include_checksum(number % 2 == 0).unwrap();
            encoder.set_pledged_src_size((number > 1).then_some(content.len() as u64)).unwrap();
            encoder.include_contentsize(number != 3).unwrap();
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap();
        }
        let parts = find(&file).unwrap();
        assert_eq!(parts.len(), contents.len());
        for (part, content) in parts.iter().zip(contents) {
            let (mut found, unpacked) = (Vec::new(), AtomicU64::new(0));
            read(&file, *part, &unpacked, u64::MAX).unwrap().read_to_end(&mut found).unwrap();
            assert!(found == content);
        }
        let unpacked = AtomicU64::new(0);
        let one =
            |part: Part| io::copy(&mut read(&file, part, &unpacked, 1_000_000).unwrap(), &mut io::sink());
        assert!(one(parts[2]).is_ok() && one(parts[1]).is_err(), "all of them together have the limit");
    }
}
