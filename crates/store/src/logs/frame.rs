//! The bytes of a segment: its header, its frames, and where long payloads are cut.
//! No files here.

use std::fmt;

/// Longest payload of a frame, and so of an event, in bytes.
pub const PAYLOAD_LIMIT: usize = 64 * 1024;

pub(super) const FILE_HEADER: usize = 16;
pub(super) const HEADER: usize = 17;
pub(super) const TRAILER: usize = 4;
/// Bytes of a frame beside its payload.
pub(super) const OVERHEAD: usize = HEADER + TRAILER;

/// The last byte is the version of the format.
const MAGIC: [u8; 8] = *b"BYLOG\0\0\x01";
pub(super) const SEAL: u8 = 2;

/// What a frame's payload is to its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Output as it came: readers make an event of each line.
    Raw,
    /// One event, whatever newlines it holds.
    Event,
}

impl FrameKind {
    pub(super) fn code(self) -> u8 {
        match self {
            FrameKind::Raw => 0,
            FrameKind::Event => 1,
        }
    }

    pub(super) fn of(code: u8) -> Option<FrameKind> {
        match code {
            0 => Some(FrameKind::Raw),
            1 => Some(FrameKind::Event),
            _ => None,
        }
    }
}

/// What the checksums of one segment start from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(pub(super) u32);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl Seed {
    /// What the checksum of the frame at this offset starts from: no frame passes for one elsewhere.
    pub(super) fn at(self, offset: u64) -> Seed {
        let folded = (offset ^ (offset >> 32)) & u64::from(u32::MAX);
        Seed(self.0.wrapping_add(u32::try_from(folded).expect("masked")))
    }

    /// The first bytes of a segment.
    pub(super) fn file_header(self) -> [u8; FILE_HEADER] {
        let mut header = [0; FILE_HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&self.0.to_le_bytes());
        let sum = crc32fast::hash(&header[..12]);
        header[12..].copy_from_slice(&sum.to_le_bytes());
        header
    }

    /// `None` if these are not the first bytes of a segment.
    pub(super) fn from_file_header(header: &[u8; FILE_HEADER]) -> Option<Seed> {
        let sound = header[..8] == MAGIC && read_u32(&header[12..]) == crc32fast::hash(&header[..12]);
        sound.then(|| Seed(read_u32(&header[8..12])))
    }

    /// A frame's header for this payload.
    pub(super) fn header(self, time_ms: i64, kind: u8, payload: &[u8]) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&length_of(payload));
        header[4..12].copy_from_slice(&time_ms.to_le_bytes());
        header[12] = kind;
        let sum = self.checksum(&header[..13], payload);
        header[13..].copy_from_slice(&sum.to_le_bytes());
        header
    }

    /// The frame that begins at the start of `bytes`, if it is whole and sound.
    pub(super) fn parse(self, bytes: &[u8]) -> Option<Frame<'_>> {
        let header = bytes.get(..HEADER)?;
        let length = read_u32(header) as usize;
        if length > PAYLOAD_LIMIT {
            return None;
        }
        let payload = bytes.get(HEADER..HEADER + length)?;
        let trailer = bytes.get(HEADER + length..OVERHEAD + length)?;
        let sound =
            trailer == &header[..4] && read_u32(&header[13..]) == self.checksum(&header[..13], payload);
        sound.then(|| Frame {
            time_ms: i64::from_le_bytes(header[4..12].try_into().expect("eight bytes")),
            kind: header[12],
            payload,
        })
    }

    fn checksum(self, header: &[u8], payload: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(header);
        hasher.update(payload);
        hasher.finalize()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) time_ms: i64,
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes from the start of this frame to the start of the next.
    pub(super) fn size(&self) -> u64 {
        (OVERHEAD + self.payload.len()) as u64
    }
}

/// A frame's trailer, which is also the beginning of its header.
pub(super) fn length_of(payload: &[u8]) -> [u8; TRAILER] {
    u32::try_from(payload.len()).expect("payloads are cut to 64 KiB").to_le_bytes()
}

pub(super) fn read_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"))
}

/// How many of `bytes` go into the next frame: all that fit, but for a line or a character that would be split
/// where it need not be.
pub(super) fn cut(bytes: &[u8], kind: FrameKind) -> usize {
    if bytes.len() <= PAYLOAD_LIMIT {
        return bytes.len();
    }
    let window = &bytes[..PAYLOAD_LIMIT];
    let newline = (kind == FrameKind::Raw).then(|| memchr::memrchr(b'\n', window)).flatten();
    newline.map_or_else(|| whole_characters(window), |at| at + 1)
}

/// The length of `window` without a UTF-8 character cut off at its end. Bytes that are no UTF-8 are cut anywhere.
fn whole_characters(window: &[u8]) -> usize {
    let tail = window.iter().rev().take(4).position(|byte| byte & 0xC0 != 0x80);
    let Some(back) = tail else { return window.len() };
    let start = window.len() - 1 - back;
    let needs = match window[start] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    if needs > back + 1 { start } else { window.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let seed = Seed(7);
        let mut bytes = seed.header(-5, 1, b"text").to_vec();
        bytes.extend_from_slice(b"text");
        bytes.extend_from_slice(&length_of(b"text"));
        assert_eq!(seed.parse(&bytes), Some(Frame { time_ms: -5, kind: 1, payload: b"text" }));
        assert_eq!(Seed(8).parse(&bytes), None, "another segment's frame");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(seed.parse(&flipped), None, "bit flip in byte {at}");
            assert_eq!(seed.parse(&bytes[..at]), None, "torn at byte {at}");
        }
    }

    #[test]
    fn a_header_of_another_kind_of_file_is_refused() {
        let header = Seed(9).file_header();
        assert_eq!(Seed::from_file_header(&header), Some(Seed(9)));
        for at in 0..header.len() {
            let mut flipped = header;
            flipped[at] ^= 1;
            assert_eq!(Seed::from_file_header(&flipped), None);
        }
    }

    #[test]
    fn cuts_fall_behind_the_last_newline_that_fits() {
        let mut bytes = vec![b'x'; PAYLOAD_LIMIT + 10];
        assert_eq!(cut(&bytes, FrameKind::Raw), PAYLOAD_LIMIT);
        bytes[99] = b'\n';
        assert_eq!(cut(&bytes, FrameKind::Raw), 100);
        assert_eq!(cut(&bytes, FrameKind::Event), PAYLOAD_LIMIT);
        assert_eq!(cut(&bytes[..200], FrameKind::Raw), 200, "what fits is not cut");
    }

    #[test]
    fn cuts_never_split_a_character() {
        let text = "ä€𝄞".repeat(10_000);
        for shift in 0..9 {
            let bytes = &text.as_bytes()[shift..];
            let cut = cut(bytes, FrameKind::Raw);
            assert!(text.is_char_boundary(shift + cut) && cut > PAYLOAD_LIMIT - 4);
        }
        assert_eq!(cut(&vec![0x80; PAYLOAD_LIMIT + 1], FrameKind::Raw), PAYLOAD_LIMIT);
    }
}
