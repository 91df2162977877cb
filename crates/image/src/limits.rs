//! Everything in an image that can grow, and how far. What exceeds a limit is refused, never cut.

use crate::Error;

/// How large an image may be. The defaults suit any image CodeBuild itself would accept.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries in all layers together, counting folders made only to hold another entry.
    pub entries: u64,
    /// Bytes of file content in all layers together.
    pub unpacked_bytes: u64,
    /// How many times larger than its compressed form a layer may be (once past a floor of 32 MiB,
    /// below which even pure zeros do no harm).
    pub compression_ratio: u64,
    /// Bytes of one manifest, index or config.
    pub document_bytes: u64,
    /// Layers of one image.
    pub layers: u64,
    /// Bytes of one tar entry's name, link target and attributes.
    pub entry_metadata_bytes: u64,
    /// Bytes that the index of an archive (not of a layer) may take up in memory.
    pub archive_index_bytes: u64,
    /// Folders inside each other.
    pub depth: u64,
    /// How slowly a registry may answer.
    pub slowest: Pace,
}

/// So much at least in each stretch of time.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub bytes: u64,
    pub seconds: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            entries: 1_000_000,
            // COMPAT: EN-016 custom images may be 100 GB uncompressed on the largest compute type.
            unpacked_bytes: 100_000_000_000,
            compression_ratio: 200,
            document_bytes: 4 << 20,
            layers: 1024,
            entry_metadata_bytes: 1 << 20,
            archive_index_bytes: 32 << 20,
            depth: 256,
            // 16 KiB a second: a modem's pace, which nobody waits for who could ask another registry.
            slowest: Pace { bytes: 480 << 10, seconds: 30 },
        }
    }
}

/// Counts down what an image may still use of one limit.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    name: &'static str,
    limit: u64,
    left: u64,
}

impl Allowance {
    pub(crate) fn new(name: &'static str, limit: u64) -> Allowance {
        Allowance { name, limit, left: limit }
    }

    pub(crate) fn take(&mut self, amount: u64) -> Result<(), Error> {
        self.left =
            self.left.checked_sub(amount).ok_or(Error::Limit { name: self.name, limit: self.limit })?;
        Ok(())
    }
}
