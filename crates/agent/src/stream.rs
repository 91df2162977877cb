//! How files cross from the container to the agent: framed records over a pipe.
//!
//! A frame is `[payload length u32][kind u8][payload]`. The agent trusts nothing in it: lengths are bounded, names
//! are checked where they are used.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// A file's bytes come as data frames between its `File` record and `EndOfFile`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// A line for the log.
    Note(String),
    File {
        path: String,
        mode: u32,
    },
    EndOfFile,
    Link {
        path: String,
        target: String,
    },
    /// A report file, by how it begins.
    Recognised {
        path: String,
        format: report::Format,
    },
    /// Why nothing more comes.
    Failed(String),
    Done,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Record(Record),
    Data(&'a [u8]),
}

const RECORD: u8 = 1;
const DATA: u8 = 2;
const HEADER: usize = 5;
/// Largest payload: a data chunk, or a record with two long paths.
const PAYLOAD_LIMIT: usize = 1 << 20;

pub(crate) fn write(out: &mut dyn Write, record: &Record) -> io::Result<()> {
    frame(out, RECORD, &serde_json::to_vec(record).map_err(io::Error::other)?)
}

pub(crate) fn write_data(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    frame(out, DATA, bytes)
}

fn frame(out: &mut dyn Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= PAYLOAD_LIMIT);
    let length = length.ok_or_else(|| io::Error::other("record too long"))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&[kind])?;
    out.write_all(payload)
}

/// Puts frames together again from whatever pieces the pipe gives.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pending: Vec<u8>,
}

impl Decoder {
    /// Hands each complete item to `take`, in order.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        take: &mut dyn FnMut(Item<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        let mut used = 0;
        while let Some((item, length)) = next(&self.pending[used..])? {
            take(item)?;
            used += length;
        }
        self.pending.drain(..used);
        Ok(())
    }
}

/// The first whole frame and its length.
fn next(bytes: &[u8]) -> io::Result<Option<(Item<'_>, usize)>> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if length > PAYLOAD_LIMIT {
        return Err(io::Error::other("frame too long"));
    }
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let item = match header[4] {
        DATA => Item::Data(payload),
        RECORD => Item::Record(serde_json::from_slice(payload).map_err(io::Error::other)?),
        kind => return Err(io::Error::other(format!("frame of unknown kind {kind}"))),
    };
    Ok(Some((item, HEADER + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_whole_however_the_bytes_arrive() {
        let mut bytes = Vec::new();
        let file = Record::File { path: "a/b".into(), mode: 0o644 };
        write(&mut bytes, &file).unwrap();
        write_data(&mut bytes, b"content").unwrap();
        write(&mut bytes, &Record::EndOfFile).unwrap();
        for step in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                let mut take = |item: Item<'_>| {
                    seen.push(format!("{item:?}"));
                    Ok(())
                };
                decoder.feed(piece, &mut take).unwrap();
            }
            let expected =
                [Item::Record(file.clone()), Item::Data(b"content"), Item::Record(Record::EndOfFile)];
            assert_eq!(seen, expected.map(|item| format!("{item:?}")));
        }
    }

    #[test]
    fn nonsense_is_an_error_and_not_an_allocation() {
        let mut decoder = Decoder::default();
        assert!(decoder.feed(&[0xff; 64], &mut |_| Ok(())).is_err());
    }
}
