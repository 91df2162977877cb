//! A Rust file taken apart into its code and its string literals, both with the line numbers of the whole.
//!
//! A lexer just good enough to tell the two from comments; it knows nothing of grammar.

/// Code and literals, each with everything else blanked out: same length, same lines.
pub(super) struct Rust {
    pub(super) code: String,
    pub(super) literals: String,
    /// The line on which the unit tests begin, from 0; the number of lines if there are none.
    tests_from: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Literal,
    Comment,
}

impl Rust {
    pub(super) fn read(text: &str) -> Rust {
        let kinds = kinds(text.as_bytes());
        let only = |wanted| -> String {
            let pairs = text.bytes().zip(&kinds);
            pairs.map(|(byte, kind)| visible(byte, *kind == wanted)).collect()
        };
        let code = only(Kind::Code);
        Rust { tests_from: tests_from(&code), literals: only(Kind::Literal), code }
    }

    /// Lines of code without unit tests, which stand at a file's end; numbered from 1.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.code).take(self.tests_from)
    }

    /// Lines of code, unit tests included; numbered from 1.
    pub(super) fn all_code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.code)
    }

    /// Lines of string literals without unit tests; numbered from 1.
    pub(super) fn literal_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.literals).take(self.tests_from)
    }
}

/// Where `mod tests { ... }` stands, which ends a file; `mod tests;` does not.
fn tests_from(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    let begins =
        |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    lines.windows(2).position(begins).unwrap_or(lines.len())
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn visible(byte: u8, wanted: bool) -> char {
    match byte {
        b'\n' => '\n',
        byte if wanted && byte.is_ascii() => char::from(byte),
        _ => ' ',
    }
}

/// What each byte belongs to.
fn kinds(text: &[u8]) -> Vec<Kind> {
    let mut kinds = Vec::with_capacity(text.len());
    while kinds.len() < text.len() {
        let rest = &text[kinds.len()..];
        let follows_word = kinds.len().checked_sub(1).is_some_and(|at| is_word(text[at]));
        let (length, kind) = token(rest, follows_word);
        kinds.resize(kinds.len() + length.min(rest.len()), kind);
    }
    kinds
}

/// The length and kind of what `rest` begins with.
fn token(rest: &[u8], follows_word: bool) -> (usize, Kind) {
    match rest {
        [b'/', b'/', ..] => (until(rest, b"\n"), Kind::Comment),
        [b'/', b'*', ..] => (block_comment(rest), Kind::Comment),
        [b'"', ..] => (quoted(rest, b'"'), Kind::Literal),
        [b'\'', b'\\', ..] => (quoted(rest, b'\''), Kind::Literal),
        [b'\'', first, ..] if rest.get(1 + width(*first)) == Some(&b'\'') => {
            (2 + width(*first), Kind::Literal)
        }
        [b'r', ..] if !follows_word => {
            raw_string(rest).map_or((1, Kind::Code), |length| (length, Kind::Literal))
        }
        _ => (1, Kind::Code),
    }
}

/// Bytes of the UTF-8 character that begins so.
fn width(first: u8) -> usize {
    usize::try_from(first.leading_ones()).expect("at most eight").max(1)
}

fn is_word(byte: u8) -> bool {
    // `br"..."` is a raw string although a letter comes first.
    (byte.is_ascii_alphanumeric() || byte == b'_') && byte != b'b'
}

/// Bytes before `end`, or all.
fn until(text: &[u8], end: &[u8]) -> usize {
    text.windows(end.len()).position(|window| window == end).unwrap_or(text.len())
}

fn block_comment(text: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 && at < text.len() {
        let (step, change) = match &text[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth += change;
    }
    at
}

fn quoted(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of `r"..."` or `r#"..."#`; none if it is only a word that begins with r.
fn raw_string(text: &[u8]) -> Option<usize> {
    let hashes = text[1..].iter().take_while(|byte| **byte == b'#').count();
    let start = 1 + hashes;
    (text.get(start) == Some(&b'"')).then(|| {
        let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
        start + 1 + until(&text[start + 1..], &end) + end.len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: &str, literals: &str) {
        let rust = Rust::read(text);
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            (squeezed(&rust.code).as_str(), squeezed(&rust.literals).as_str()),
            (code, literals),
            "{text}"
        );
        assert_eq!(rust.code.len(), text.len());
    }

    #[test]
    fn comments_code_and_literals_are_told_apart() {
        check("a // b \"c\"\nd", "a d", "");
        check("a /* b /* c */ d */ e", "a e", "");
        check(r#"a("b \" // c") d"#, "a( ) d", r#""b \" // c""#);
        check("let r = r#\"a \" b\"#; c", "let r = ; c", "r#\"a \" b\"#");
        check(r"br'x'", "br", "'x'");
        check("fn a<'b>(c: &'b str) { '\"'; '\\''; d }", "fn a<'b>(c: &'b str) { ; ; d }", "'\"' '\\''");
        check("['é','\"'] a", "[ , ] a", "' ' '\"'");
        check("for r in ranges", "for r in ranges", "");
    }

    #[test]
    fn a_file_that_stops_in_the_middle_is_no_trouble() {
        for text in ["\"a", "/* a", "r##\"a\"#", "'\\", "\"\\"] {
            assert_eq!(Rust::read(text).code.len(), text.len(), "{text}");
        }
    }

    #[test]
    fn unit_tests_are_left_out() {
        let rust = Rust::read("#[cfg(test)]\nmod tests;\na\n#[cfg(test)]\nmod tests {\nb }\n");
        let lines: Vec<_> = rust.code_lines().collect();
        assert_eq!(lines, [(1, "#[cfg(test)]"), (2, "mod tests;"), (3, "a")]);
    }
}
