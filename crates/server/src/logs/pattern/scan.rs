//! Reading a pattern's text from left to right. What the words mean is for the languages to say.

use regex::bytes::{Regex, RegexBuilder};

use super::Parsed;

/// Bytes that a compiled regular expression may take.
const REGEX_MAX_BYTES: usize = 256 * 1024;
/// Regular expressions in one pattern, as in CloudWatch Logs.
const REGEXES_MAX: usize = 2;

#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    regexes: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0, regexes: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// The next character that is no blank; it stays.
    pub(super) fn next_char(&mut self) -> Option<char> {
        self.skip_blanks();
        self.peek()
    }

    /// The next character, blank or not; it stays.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes this text if it comes next, after blanks.
    pub(super) fn take(&mut self, text: &str) -> bool {
        self.skip_blanks();
        self.take_here(text)
    }

    /// Takes this text if it comes next, with nothing between.
    pub(super) fn take_here(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Takes this word, in letters of either case, if it comes next and ends there.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        self.skip_blanks();
        let rest = self.rest();
        let found = rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
            && !rest[word.len()..].starts_with(|next: char| next.is_alphanumeric());
        if found {
            self.at += word.len();
        }
        found
    }

    /// Whether what comes next is so; nothing of it is taken.
    pub(super) fn look_ahead(&mut self, is: impl FnOnce(&mut Scanner<'a>) -> bool) -> bool {
        let at = self.at;
        let is = is(self);
        self.at = at;
        is
    }

    pub(super) fn expect(&mut self, text: &str) -> Parsed<()> {
        if self.take(text) { Ok(()) } else { Err(self.expected(&format!("`{text}`"))) }
    }

    /// Nothing but blanks may follow.
    pub(super) fn end(&mut self) -> Parsed<()> {
        match self.next_char() {
            None => Ok(()),
            Some(_) => Err(self.expected("its end")),
        }
    }

    /// The error that something else should be here.
    pub(super) fn expected(&self, what: &str) -> String {
        format!("expected {what} at character {}", self.text[..self.at].chars().count() + 1)
    }

    /// Takes characters for as long as they are wanted; may be empty.
    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|next| !wanted(next)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Text between two `quote`s, of which the first comes next; a backslash takes the next character as it is.
    pub(super) fn quoted(&mut self, quote: char) -> Parsed<String> {
        let start = self.at;
        let mut text = String::new();
        let mut letters = self.rest().char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                letter if letter == quote => {
                    self.at = start + at + quote.len_utf8();
                    return Ok(text);
                }
                '\\' => text.extend(letters.next().map(|(_, letter)| letter)),
                letter => text.push(letter),
            }
        }
        Err(format!(
            "the quote that begins at character {} never ends",
            self.text[..start].chars().count() + 1
        ))
    }

    /// A regular expression between percent signs, if one comes next.
    pub(super) fn regex(&mut self) -> Parsed<Option<Regex>> {
        let Some((source, _)) = self.rest().strip_prefix('%').and_then(|rest| rest.split_once('%')) else {
            return Ok(None);
        };
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            return Err(format!("more than {REGEXES_MAX} regular expressions"));
        }
        let built =
            RegexBuilder::new(source).size_limit(REGEX_MAX_BYTES).dfa_size_limit(REGEX_MAX_BYTES).build();
        let regex = built.map_err(|error| format!("the regular expression `{source}`: {error}"))?;
        self.at += source.len() + 2;
        Ok(Some(regex))
    }
}
