//! Event streams (`application/vnd.amazon.eventstream`), the writing side: StartLiveTail answers with one.
//!
//! A message is `[total length u32][headers length u32][CRC-32 of these two][headers][payload][CRC-32 of all
//! before]`, big-endian. When messages are sent, and on what connection, is the server's business.

use serde::Serialize;

pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// Two lengths and their checksum before the headers, one checksum after the payload.
const FRAMING_BYTES: usize = 16;
const STRING_HEADER: u8 = 7;

/// The first message of any stream over AWS JSON: clients wait for it before they hand the stream out.
pub fn initial_response() -> Vec<u8> {
    json_message("event", ":event-type", "initial-response", b"{}")
}

/// An event of the stream's model.
pub fn event(name: &str, payload: &impl Serialize) -> Vec<u8> {
    json_message("event", ":event-type", name, &to_json(payload))
}

/// A modelled exception; it ends the stream.
pub fn exception(name: &str, payload: &impl Serialize) -> Vec<u8> {
    json_message("exception", ":exception-type", name, &to_json(payload))
}

/// An error the stream's model does not declare; it ends the stream.
pub fn error(code: &str, message: &str) -> Vec<u8> {
    frame(&[(":message-type", "error"), (":error-code", code), (":error-message", message)], b"")
}

fn to_json(payload: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(payload).expect("generated types have string keys only")
}

fn json_message(sort: &str, type_header: &str, name: &str, payload: &[u8]) -> Vec<u8> {
    let headers = [(":message-type", sort), (type_header, name), (":content-type", "application/json")];
    frame(&headers, payload)
}

/// Encodes one message. Header values longer than 64 KiB are cut, there is no way to write them.
pub fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        write_header(&mut block, name, value);
    }
    let total = FRAMING_BYTES + block.len() + payload.len();
    let mut out = Vec::with_capacity(total);
    write_length(&mut out, total);
    write_length(&mut out, block.len());
    write_checksum(&mut out);
    out.extend_from_slice(&block);
    out.extend_from_slice(payload);
    write_checksum(&mut out);
    out
}

fn write_header(block: &mut Vec<u8>, name: &str, value: &str) {
    let name = &name.as_bytes()[..name.len().min(u8::MAX.into())];
    let value = &value.as_bytes()[..value.floor_char_boundary(u16::MAX.into())];
    block.push(name.len() as u8);
    block.extend_from_slice(name);
    block.push(STRING_HEADER);
    block.extend_from_slice(&(value.len() as u16).to_be_bytes());
    block.extend_from_slice(value);
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a message is far below 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
}

fn write_checksum(out: &mut Vec<u8>) {
    let checksum = crc32fast::hash(out);
    out.extend_from_slice(&checksum.to_be_bytes());
}

/// A stream's messages as the model lists them.
macro_rules! event_stream {
    (pub enum $name:ident { $($variant:ident($payload:ident) = $sort:ident $wire:literal,)* }) => {
        /// One message of the stream.
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name {
            $($variant($payload),)*
        }

        impl $name {
            /// The message as bytes of an event stream.
            pub fn to_bytes(&self) -> Vec<u8> {
                match self {
                    $($name::$variant(payload) => $crate::event_stream::$sort($wire, payload),)*
                }
            }
        }
    };
}
pub(crate) use event_stream;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{LiveTailSessionUpdate, SessionTimeoutException, StartLiveTailResponseStream};

    #[test]
    fn an_empty_message_has_the_published_bytes() {
        let published = [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(frame(&[], b""), published);
    }

    #[test]
    fn lengths_and_checksums_cover_what_they_should() {
        let message = frame(&[(":message-type", "event")], b"{}");
        let number = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
        assert_eq!(number(0) as usize, message.len());
        assert_eq!(number(4) as usize, 1 + 13 + 1 + 2 + 5);
        assert_eq!(number(8), crc32fast::hash(&message[..8]));
        assert_eq!(number(message.len() - 4), crc32fast::hash(&message[..message.len() - 4]));
        assert_eq!(&message[12..14], b"\x0d:");
    }

    #[test]
    fn events_and_exceptions_are_told_apart_by_their_headers() {
        let has = |message: Vec<u8>, text: &[u8]| message.windows(text.len()).any(|window| window == text);
        let update = StartLiveTailResponseStream::SessionUpdate(LiveTailSessionUpdate::default());
        assert!(has(update.to_bytes(), b":event-type\x07\x00\x0dsessionUpdate"));
        let timeout =
            StartLiveTailResponseStream::SessionTimeoutException(SessionTimeoutException::default());
        assert!(has(timeout.to_bytes(), b":exception-type\x07\x00\x17SessionTimeoutException"));
        assert!(has(initial_response(), b":event-type\x07\x00\x10initial-response"));
    }

    #[test]
    fn an_overlong_header_is_cut_between_characters() {
        let message = frame(&[("h", &"é".repeat(40_000))], b"");
        assert_eq!(&message[15..17], 65_534u16.to_be_bytes());
        assert_eq!(message.len(), FRAMING_BYTES + 1 + 1 + 1 + 2 + 65_534);
    }
}
