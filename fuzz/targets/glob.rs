//! Any pattern over any path: parsed within its limits, matched in bounded time, and never a folder left out in which something
//! matches.

#![no_main]

use buildspec::glob::Pattern;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let cut = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let Ok(text) = std::str::from_utf8(&bytes[..cut]) else { return };
    let Ok(pattern) = Pattern::parse(text) else { return };
    let path = bytes.get(cut + 1..).unwrap_or_default();
    let path: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|component| !component.is_empty()).collect();
    if pattern.matches(&path) {
        for depth in 0..path.len() {
            assert!(pattern.could_match_below(&path[..depth]), "{text:?} left out a folder of {path:?}");
        }
    }
    // What has no wildcard is itself, and nothing else; with a slash behind it, it would be a folder.
    let is_plain = !text.is_empty()
        && !text.ends_with('/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'/');
    if is_plain {
        let own: Vec<&[u8]> =
            text.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        assert_eq!(pattern.matches(&path), path == own && !own.is_empty());
        assert_eq!(pattern.matches(&own), !own.is_empty());
    }
});
