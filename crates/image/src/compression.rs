//! Undoing a layer's or archive's compression, and noticing bombs while at it.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use crate::Error;

/// Output below this is harmless, whatever it was made from.
const RATIO_FLOOR_BYTES: u64 = 32 << 20;
const BUFFER_BYTES: usize = 64 << 10;
/// How far back a zstd stream may refer, all of which is held in memory: 2^25 = 32 MiB. What builders of images write needs 8.
const ZSTD_WINDOW_LOG: u32 = 25;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Whether bytes beginning like this are compressed. Builders' media types are not always right; magic is.
pub(crate) fn is_compressed(beginning: &[u8]) -> bool {
    beginning.starts_with(GZIP) || beginning.starts_with(ZSTD)
}

/// Reads `input` uncompressed (gzip and zstd are recognised; all else passes through), failing with
/// [`Error::Limit`] once it has grown more than `ratio` times.
pub(crate) fn reader<'a>(input: impl Read + 'a, ratio: u64) -> io::Result<Box<dyn Read + 'a>> {
    let consumed = Rc::new(Cell::new(0));
    let counted = Counted { inner: input, consumed: Rc::clone(&consumed) };
    let mut input = BufReader::with_capacity(BUFFER_BYTES, counted);
    let beginning = input.fill_buf()?;
    let inner: Box<dyn Read + 'a> = if beginning.starts_with(GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(input))
    } else if beginning.starts_with(ZSTD) {
        let mut decoder = zstd::Decoder::with_buffer(input)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        Box::new(decoder)
    } else {
        return Ok(Box::new(input));
    };
    Ok(Box::new(Bounded { inner, consumed, produced: 0, ratio }))
}

struct Counted<R> {
    inner: R,
    consumed: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.consumed.set(self.consumed.get() + count as u64);
        Ok(count)
    }
}

struct Bounded<'a> {
    inner: Box<dyn Read + 'a>,
    consumed: Rc<Cell<u64>>,
    produced: u64,
    ratio: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.produced += count as u64;
        if self.produced > RATIO_FLOOR_BYTES.max(self.consumed.get().saturating_mul(self.ratio)) {
            return Err(Error::Limit { name: "compression_ratio", limit: self.ratio }.into());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::bufread::GzEncoder::new(bytes, flate2::Compression::best()).read_to_end(&mut out).unwrap();
        out
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let read = reader(bytes, 200).and_then(|mut reader| reader.read_to_end(&mut out));
        read.map(|_| out).map_err(Error::reading("layer"))
    }

    #[test]
    fn every_known_compression_comes_out_plain() {
        let text = b"some text, some text, some text";
        let twice = [gzip(text), gzip(text)].concat();
        assert_eq!(unpacked(&gzip(text)).unwrap(), text);
        assert_eq!(unpacked(&twice).unwrap(), [*text, *text].concat());
        assert_eq!(unpacked(&zstd::encode_all(&text[..], 3).unwrap()).unwrap(), text);
        assert_eq!(unpacked(text).unwrap(), text);
        assert_eq!(unpacked(b"").unwrap(), b"");
    }

    #[test]
    fn a_bomb_is_cut_short() {
        let zeros = vec![0; 64 << 20];
        for bomb in [gzip(&zeros), zstd::encode_all(&zeros[..], 3).unwrap()] {
            assert!(matches!(unpacked(&bomb), Err(Error::Limit { name: "compression_ratio", .. })));
        }
    }

    #[test]
    fn a_stream_that_breaks_off_is_malformed() {
        let whole = gzip(b"some text");
        assert!(matches!(unpacked(&whole[..whole.len() - 4]), Err(Error::Malformed { .. })));
    }
}
