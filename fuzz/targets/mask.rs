//! Any text, secrets and cuts: masking in pieces is masking the whole, and no secret is left.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mask::{Mask, Masker, SHORTEST_BYTES};

// The room it is of would bring SQLite along, which takes minutes to instrument; the module needs nothing of it.
#[path = "../../crates/agent/src/mask.rs"]
mod mask;

// The first byte is the length of the pieces; lines up to an empty one are secrets; the rest is the text.
fuzz_target!(|bytes: &[u8]| {
    let Some((piece, rest)) = bytes.split_first() else { return };
    let Ok(rest) = std::str::from_utf8(rest) else { return };
    let (secrets, text) = rest.split_once("\n\n").unwrap_or(("", rest));
    let secrets: Vec<&str> = secrets.lines().map(|secret| secret.trim_end_matches('\r')).collect();
    let whole = Mask::new(secrets.iter().copied()).text(text).into_owned();
    let mut masker = Masker::new(Mask::new(secrets.iter().copied()));
    let mut masked = Vec::new();
    for piece in text.as_bytes().chunks(usize::from(*piece).max(1)) {
        masker.feed(piece, &mut masked);
    }
    masker.finish(&mut masked);
    assert_eq!(masked, whole.as_bytes());
    // A secret of other characters than the mask's cannot come together from what is left.
    let told =
        |secret: &&&str| secret.len() >= SHORTEST_BYTES && !secret.contains('*') && whole.contains(**secret);
    assert_eq!(secrets.iter().find(told), None);
});
