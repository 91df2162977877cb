//! Masking: what a build prints, with secrets and AWS access key ids replaced by `***` (BS-052).
//!
//! Pure, and a stream: however the text is cut into pieces, the result is that of replacing in the whole. Only as much is
//! held back as could still become a secret. Which values are secrets is not decided here.
//!
//! COMPAT: BS-052 only the exact value is found; encoded, reversed or otherwise changed it is printed.

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

/// What stands for a secret.
pub const MASK: &str = "***";
/// Shorter values are printed: replacing each `1` or `no` would hide the log and hardly the value.
pub const SHORTEST_BYTES: usize = 3;

const QUICKLY_MADE_BYTES: usize = 4 << 10;

const ID_PREFIXES: [&[u8]; 2] = [b"AKIA", b"ASIA"];
const ID_BYTES: usize = 20;

/// What is to be masked.
#[derive(Debug)]
pub struct Mask {
    ids: AhoCorasick,
    values: Option<Values>,
}

/// The secrets, all to be found at once, and each by itself to tell what may still become one.
struct Values {
    search: AhoCorasick,
    each: Vec<Value>,
}

struct Value {
    bytes: Vec<u8>,
    /// For each beginning of the value, the length of its longest proper end that is a beginning, too.
    borders: Vec<usize>,
}

/// Never shows a value.
impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Values").field("count", &self.each.len()).finish_non_exhaustive()
    }
}

impl Default for Mask {
    /// Access key ids only.
    fn default() -> Mask {
        let ids = AhoCorasick::new(ID_PREFIXES).expect("two short patterns");
        Mask { ids, values: None }
    }
}

impl Mask {
    /// Masks `secrets` besides access key ids. A secret's newlines at the end are no part of it: shells drop them. Those
    /// below [`SHORTEST_BYTES`] are not masked.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Mask {
        let ends: &[char] = &['\n', '\r'];
        let mut all: Vec<&[u8]> =
            secrets.into_iter().map(|secret| secret.trim_end_matches(ends).as_bytes()).collect();
        all.retain(|secret| secret.len() >= SHORTEST_BYTES);
        all.sort_unstable();
        all.dedup();
        if all.is_empty() {
            return Mask::default();
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(kind(all.iter().map(|secret| secret.len()).sum())))
            .build(&all);
        let search = search.expect("an answer's length is limited, and so is the number of states");
        let each = all.into_iter().map(Value::new).collect();
        Mask { values: Some(Values { search, each }), ..Mask::default() }
    }

    /// A whole text, masked.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Vec::new();
        self.settle(text.as_bytes(), None, true, &mut masked);
        match masked == text.as_bytes() {
            true => Cow::Borrowed(text),
            // What is cut out is whole characters, as secrets are text.
            false => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
        }
    }

    /// Appends to `out` what of `text` is certain, masked; returns how many bytes of `text` that took. `before` is the
    /// byte before the text; `at_end` says that none follows.
    fn settle(&self, text: &[u8], before: Option<u8>, at_end: bool, out: &mut Vec<u8>) -> usize {
        let mut finder = Finder { mask: self, text, before, at_end, id: None, value: None };
        let mut done = 0;
        let mut open = finder.open(0);
        loop {
            match finder.next(done) {
                Some(found) if found.start < open => {
                    out.extend_from_slice(&text[done..found.start]);
                    out.extend_from_slice(MASK.as_bytes());
                    done = found.end;
                }
                _ => break,
            }
            if open < done {
                open = finder.open(done);
            }
        }
        out.extend_from_slice(&text[done..open]);
        open
    }
}

/// The automaton that is fastest to search with takes time quadratic in the secrets' length to make.
fn kind(total_bytes: usize) -> AhoCorasickKind {
    match total_bytes <= QUICKLY_MADE_BYTES {
        true => AhoCorasickKind::DFA,
        false => AhoCorasickKind::ContiguousNFA,
    }
}

impl Value {
    fn new(bytes: &[u8]) -> Value {
        let mut borders = vec![0; bytes.len()];
        let mut length = 0;
        for at in 1..bytes.len() {
            length = next_length(bytes, &borders, length, bytes[at]);
            borders[at] = length;
        }
        Value { bytes: bytes.to_vec(), borders }
    }

    /// How many bytes at the end of `text` are a beginning of this value, though not all of it.
    fn begun(&self, text: &[u8]) -> usize {
        let tail = &text[text.len().saturating_sub(self.bytes.len() - 1)..];
        tail.iter().fold(0, |length, byte| next_length(&self.bytes, &self.borders, length, *byte))
    }
}

/// How much of `bytes` is matched after one more byte (Knuth, Morris and Pratt).
fn next_length(bytes: &[u8], borders: &[usize], mut length: usize, byte: u8) -> usize {
    while length > 0 && bytes[length] != byte {
        length = borders[length - 1];
    }
    length + usize::from(bytes[length] == byte)
}

/// Looks through one text from left to right; remembers what lies ahead.
struct Finder<'a> {
    mask: &'a Mask,
    text: &'a [u8],
    before: Option<u8>,
    at_end: bool,
    id: Option<Ahead>,
    value: Option<Ahead>,
}

/// The next of a kind, searched for from some place on; none if the text has no more.
#[derive(Clone)]
struct Ahead(Option<Range<usize>>);

impl Ahead {
    fn is_current(&self, from: usize) -> bool {
        self.0.as_ref().is_none_or(|found| found.start >= from)
    }
}

impl Finder<'_> {
    /// What is to be masked next from `from` on: the leftmost, and of two that begin together the longer.
    fn next(&mut self, from: usize) -> Option<Range<usize>> {
        if !self.id.as_ref().is_some_and(|ahead| ahead.is_current(from)) {
            self.id = Some(Ahead(self.next_id(from)));
        }
        if !self.value.as_ref().is_some_and(|ahead| ahead.is_current(from)) {
            self.value = Some(Ahead(self.next_value(from)));
        }
        let both = [&self.id, &self.value].into_iter().flatten().filter_map(|ahead| ahead.0.clone());
        both.min_by_key(|found| (found.start, usize::MAX - found.end))
    }

    fn next_value(&self, from: usize) -> Option<Range<usize>> {
        let values = self.mask.values.as_ref()?;
        values.search.find(Input::new(self.text).range(from..)).map(|found| found.range())
    }

    fn next_id(&self, from: usize) -> Option<Range<usize>> {
        let mut from = from;
        loop {
            let start = self.mask.ids.find(Input::new(self.text).range(from..))?.start();
            let end = start + ID_BYTES;
            let whole = self.is_boundary(start)
                && self.text.get(start..end).is_some_and(|id| id.iter().all(|byte| is_of_id(*byte)))
                && match self.text.get(end) {
                    Some(after) => !is_of_word(*after),
                    None => self.at_end,
                };
            if whole {
                return Some(start..end);
            }
            from = start + 1;
        }
    }

    /// From where on, at `from` or behind it, the text might become a secret if more came; its end if nothing can.
    fn open(&self, from: usize) -> usize {
        let length = self.text.len();
        if self.at_end {
            return length;
        }
        let rest = &self.text[from..];
        let values = self.mask.values.iter().flat_map(|values| &values.each);
        let begun = values.map(|value| value.begun(rest)).max().unwrap_or(0);
        let id = (from.max(length.saturating_sub(ID_BYTES))..length).find(|start| self.begins_id(*start));
        id.unwrap_or(length).min(length - begun)
    }

    /// Whether all that follows `start` may be the beginning of an id.
    fn begins_id(&self, start: usize) -> bool {
        let text = &self.text[start..];
        let prefixed = ID_PREFIXES.iter().any(|prefix| text.starts_with(prefix) || prefix.starts_with(text));
        prefixed && text.iter().all(|byte| is_of_id(*byte)) && self.is_boundary(start)
    }

    fn is_boundary(&self, at: usize) -> bool {
        let before = match at.checked_sub(1) {
            Some(before) => Some(self.text[before]),
            None => self.before,
        };
        !before.is_some_and(is_of_word)
    }
}

fn is_of_id(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Masks a text that comes in pieces.
#[derive(Default)]
pub struct Masker {
    mask: Mask,
    /// May still become a secret.
    held: Vec<u8>,
    /// The byte before `held`.
    before: Option<u8>,
}

/// Never shows what is held: it may be most of a secret.
impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masker").field("held_bytes", &self.held.len()).finish_non_exhaustive()
    }
}

impl Masker {
    pub fn new(mask: Mask) -> Masker {
        Masker { mask, ..Masker::default() }
    }

    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// Takes in a piece and appends to `out` what is certain by now. Holds back fewer bytes than the longest secret has,
    /// and none unless they begin one.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if self.held.is_empty() {
            let settled = self.mask.settle(piece, self.before, false, out);
            self.keep(piece, settled);
            return;
        }
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(piece);
        let settled = self.mask.settle(&text, self.before, false, out);
        self.keep(&text, settled);
    }

    fn keep(&mut self, text: &[u8], settled: usize) {
        self.before = text[..settled].last().copied().or(self.before);
        self.held = text[settled..].to_vec();
    }

    /// The text ends here: appends the rest. What is fed next is another text.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        self.mask.settle(&held, self.before.take(), true, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "AKIAIOSFODNN7EXAMPLE";

    /// What masking means, one byte after the other.
    fn plainly(secrets: &[&str], text: &[u8]) -> Vec<u8> {
        let word = |at: usize| text.get(at).is_some_and(|byte| is_of_word(*byte));
        let mut out = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let value = secrets
                .iter()
                .map(|secret| secret.trim_end_matches(['\n', '\r']).as_bytes())
                .filter(|secret| secret.len() >= SHORTEST_BYTES && rest.starts_with(secret))
                .map(<[u8]>::len)
                .max();
            let id = (ID_PREFIXES.iter().any(|prefix| rest.starts_with(prefix))
                && rest.len() >= ID_BYTES
                && rest[..ID_BYTES].iter().all(|byte| is_of_id(*byte))
                && !word(at + ID_BYTES)
                && (at == 0 || !word(at - 1)))
            .then_some(ID_BYTES);
            match value.max(id) {
                Some(length) => {
                    out.extend_from_slice(MASK.as_bytes());
                    at += length;
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out
    }

    fn in_pieces(secrets: &[&str], pieces: &[&[u8]]) -> Vec<u8> {
        let mut masker = Masker::new(Mask::new(secrets.iter().copied()));
        let mut out = Vec::new();
        for piece in pieces {
            masker.feed(piece, &mut out);
        }
        masker.finish(&mut out);
        out
    }

    #[track_caller]
    fn check(secrets: &[&str], text: &str, expect: &str) {
        assert_eq!(Mask::new(secrets.iter().copied()).text(text), expect);
        for size in 1..=text.len().max(1) {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let out = in_pieces(secrets, &pieces);
            assert_eq!(String::from_utf8(out).unwrap(), expect, "in pieces of {size}");
        }
    }

    #[test]
    fn secrets_are_replaced_wherever_they_stand() {
        // BS-052
        check(&["hunter2"], "password=hunter2;hunter2hunter2", "password=***;******");
        check(&["abc", "abcdef"], "abc abcd abcdef abcde", "*** ***d *** ***de");
        check(&["abab"], "abababab ababab", "****** ***ab");
        check(&["line one\nline two\n"], "[line one\nline two]\nline one\n", "[***]\nline one\n");
        check(&["grün"], "das grüne Gras", "das ***e Gras");
    }

    #[test]
    fn changed_forms_of_a_secret_are_printed() {
        // BS-052
        check(&["hunter2"], "Hunter2 2retnuh aHVudGVyMg== hunter 2", "Hunter2 2retnuh aHVudGVyMg== hunter 2");
    }

    #[test]
    fn access_key_ids_are_replaced_when_they_stand_alone() {
        // BS-052
        check(&[], &format!("id={ID}, {ID}"), "id=***, ***");
        check(&[], "ASIAIOSFODNN7EXAMPLE", "***");
        for text in [
            &format!("x{ID}"),
            &format!("{ID}X"),
            &format!("_{ID}"),
            &ID[1..],
            "AKIAIOSFODNN7EXAMPLe",
            "AKIA",
        ] {
            check(&[], text, text);
        }
        check(&["SFODNN7EX"], ID, "***");
        check(&["=AKIAIO"], &format!("id={ID}"), "id***SFODNN7EXAMPLE");
    }

    #[test]
    fn very_short_values_are_printed() {
        check(&["", "1", "no", "\n", "no\n", "yes"], "1 no yes", "1 no ***");
    }

    #[test]
    fn nothing_is_held_back_that_cannot_become_a_secret() {
        let mut masker = Masker::new(Mask::new(["secret"]));
        let mut out = Vec::new();
        masker.feed(b"Continue? [y/n] s", &mut out);
        assert_eq!(out, b"Continue? [y/n] ");
        masker.feed(b"ecrets, and se", &mut out);
        assert_eq!(out, b"Continue? [y/n] ***s, and ");
        masker.finish(&mut out);
        assert_eq!(out, b"Continue? [y/n] ***s, and se");
    }

    #[test]
    fn a_long_text_of_almost_secrets_is_done_in_bounded_memory_and_time() {
        let secret = format!("{}b", "a".repeat(60_000));
        let mut masker = Masker::new(Mask::new([secret.as_str()]));
        let mut out = Vec::new();
        for _ in 0..40 {
            masker.feed(&[b'a'; 10_000], &mut out);
            assert!(masker.held.len() <= 60_000);
        }
        masker.feed(b"b", &mut out);
        assert_eq!(out.len(), 400_000 - 60_000 + MASK.len());
    }

    proptest! {
        #[test]
        fn however_a_text_is_cut_the_result_is_that_of_the_whole(
            secrets in prop::collection::vec("[abA\n]{0,6}|AKIA[A-Z]{0,3}", 0..4),
            parts in prop::collection::vec(
                prop_oneof![
                    3 => "[abA =\n]{0,5}",
                    1 => "(AKIA|ASIA)[A-Z0-9]{15,17}",
                    1 => "AKIA[A-Z]{0,3}",
                ],
                0..12,
            ),
            cuts in prop::collection::vec(0usize..400, 0..12),
        ) {
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let text = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> =
                cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let expect = plainly(&secrets, text.as_bytes());
            prop_assert_eq!(in_pieces(&secrets, &pieces), expect.clone());
            let mask = Mask::new(secrets.iter().copied());
            prop_assert_eq!(mask.text(&text).into_owned().into_bytes(), expect);
        }
    }
}
