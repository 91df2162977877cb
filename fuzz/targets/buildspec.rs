//! Any bytes as a buildspec: an answer, never a panic, within the limits that `cargo xtask fuzz` sets.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = buildspec::parse_bytes(bytes);
});
