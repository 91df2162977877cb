//! Log segments: one append-only file of checked frames per log stream.
//!
//! A segment has one writer and any number of readers in any process, none of which ever waits for another.
//! Readers see what the writer's kernel has seen: a killed writer loses nothing it had written. How segments
//! are found (log groups and streams) is the business of `records`, how readers are woken that of the agent.
//!
//! ```text
//! segment  = magic [8]  seed u32  crc32 u32 of the twelve bytes before  frame*
//! frame    = length u32  time_ms i64  kind u8  crc32 u32  payload  length u32        all little-endian
//! ```
//!
//! The second length lets a reader walk backwards. Every frame's checksum starts from the segment's random seed
//! and the frame's offset. The seed is seen by nobody outside: bytes that a build prints can therefore not pass for
//! a frame, not even where a crash tore the file. A frame that does not check is the end of the log.

mod frame;
mod position;
mod reader;
mod seek;
mod writer;

pub use frame::{FrameKind, PAYLOAD_LIMIT};
pub use position::Position;
pub use reader::{LogEvent, SegmentReader};
pub use writer::{SegmentWriter, Total};

/// Removes a segment, if it is there. Readers that have it open read on.
pub fn remove(path: &std::path::Path) -> crate::Result<()> {
    use crate::error::Doing;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing("removing a log segment"),
    }
}
