//! How much is read of what builds write.

/// Bytes of one file.
pub const FILE_BYTES: usize = 50 << 20;
/// Elements within elements.
pub const DEPTH: usize = 256;
/// Attributes of one element.
pub const ATTRIBUTES: usize = 1_000;
/// Test cases of one report, counted.
pub const CASES: u64 = 500_000;
/// Test cases of one report that are kept: the failed ones before others (IN-103).
pub const KEPT_CASES: usize = 500;
/// Source files of one report.
pub const SOURCE_FILES: usize = 20_000;
/// Bytes of a name or prefix that are kept.
pub const NAME_BYTES: usize = 1 << 10;
/// Bytes of a test case's message that are kept.
pub const MESSAGE_BYTES: usize = 16 << 10;
/// Bytes from a file's beginning that its format is told by.
pub const DETECTION_BYTES: usize = 8 << 10;

/// The longest beginning of `text` of at most `bytes` bytes. NUL, which no record can hold, becomes a space.
pub(crate) fn shortened(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', " ")
}
