//! How values become bytes between the caller and init: lengths and bytes, both ends being the same program.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Builds a message.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn number(&mut self, value: u32) -> &mut Writer {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Writer {
        // A message is bounded by memory long before four gibibytes.
        self.number(value.len() as u32);
        self.0.extend(value);
        self
    }

    pub(crate) fn text(&mut self, value: impl AsRef<OsStr>) -> &mut Writer {
        self.bytes(value.as_ref().as_bytes())
    }
}

/// Takes a message apart. Every method is `None` where the message is too short.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn number(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*head))
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn text(&mut self) -> Option<OsString> {
        self.bytes().map(|bytes| OsString::from_vec(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let mut message = Writer::default();
        message.number(7).bytes(b"").text("text\n");
        let mut reader = Reader(&message.0);
        assert_eq!(reader.number(), Some(7));
        assert_eq!(reader.bytes(), Some(&b""[..]));
        assert_eq!(reader.text(), Some("text\n".into()));
        assert_eq!(reader.number(), None);
    }

    #[test]
    fn a_length_beyond_the_end_reads_as_nothing() {
        let mut message = Writer::default();
        message.number(100);
        assert_eq!(Reader(&message.0).bytes(), None);
    }
}
