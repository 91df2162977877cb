//! Any filter patterns over any message: parsed within their limits, and what is put together of two lets through what both
//! do, or either; terms of plain words are what a slow reader takes them for.

#![no_main]

// To the module below, this program is the room that it takes its errors from.
extern crate self as api;

use libfuzzer_sys::fuzz_target;

/// As the room of that name has it.
#[derive(Debug)]
pub struct ServiceError {
    pub message: String,
}

impl ServiceError {
    pub fn invalid_parameter(message: String) -> ServiceError {
        ServiceError { message }
    }
}

// The room would bring SQLite and a web server along; this module needs nothing of them.
#[allow(dead_code)]
#[path = "../../crates/server/src/logs"]
mod logs {
    mod pattern;

    /// Whether it lets the message through; `None` if it is no pattern.
    pub fn lets_through(pattern: &str, message: &[u8]) -> Option<bool> {
        pattern::Pattern::parse(pattern).ok().map(|pattern| pattern.matches(message))
    }
}
use logs::lets_through;

fn holds(message: &[u8], word: &str) -> bool {
    message.windows(word.len()).any(|window| window == word.as_bytes())
}

/// Terms, from their description.
fn slowly(words: &[&str], message: &[u8]) -> bool {
    let with = |mark: char| words.iter().filter_map(move |word| word.strip_prefix(mark));
    let mut required = words.iter().filter(|word| !word.starts_with(['-', '?'])).peekable();
    let is_optional = required.peek().is_none() && with('?').next().is_some();
    with('-').all(|word| !holds(message, word))
        && required.all(|word| holds(message, word))
        && (!is_optional || with('?').any(|word| holds(message, word)))
}

// Two lines of patterns, then the message.
fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let (Some(first), Some(second), Some(message)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    let (Ok(first), Ok(second)) = (std::str::from_utf8(first), std::str::from_utf8(second)) else { return };
    let found = lets_through(first, message);
    assert_eq!(lets_through(&format!(" {first} "), message), found, "blanks around it say nothing");
    let words: Vec<&str> = first.split(' ').collect();
    let is_plain = |word: &&str| {
        let word = word.strip_prefix(['-', '?']).unwrap_or(word);
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    if words.iter().all(is_plain) {
        assert_eq!(found, Some(slowly(&words, message)), "{words:?}");
    }
    let selects = |inner: String| lets_through(&format!("{{ {inner} }}"), message);
    let (Some(one), Some(other)) = (selects(first.to_owned()), selects(second.to_owned())) else { return };
    if let Some(both) = selects(format!("({first}) && ({second})")) {
        assert_eq!(both, one && other, "{first} and {second}");
    }
    if let Some(either) = selects(format!("({first}) || ({second})")) {
        assert_eq!(either, one || other, "{first} or {second}");
    }
});
