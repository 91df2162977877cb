//! The pattern dialect of artifacts, reports, cache and `codebuild-glob-search` (BS-180..185), on bytes.
//!
//! `*` and `?` stay inside one path component and match dot files too; `**` as a whole component matches any
//! number of components, none included, so `**/*` takes files at depth 0 (BS-181); `[a-z]` and `[!a-z]` match
//! one character; `{a,b}` either alternative; `\` takes the next character literally. A pattern that names a
//! folder matches that path only: callers offer files, so it selects nothing (BS-143).
//!
//! Matching is a set-of-states simulation, so no pattern makes it slow. Walking folders is the caller's.

use crate::diagnostic::{Code, Error, Span, quoted};
use crate::limits;

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    absolute: bool,
    /// One sequence of parts for each alternative of the braces.
    alternatives: Vec<Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`: any number of components.
    AnyDepth,
    /// One component without wildcards.
    Literal(Vec<u8>),
    /// One component.
    Component(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`.
    AnyCharacter,
    /// `*`.
    AnyRun,
    /// `[...]`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Parses a pattern. A leading `./`, doubled slashes and `.` components mean nothing; a leading `/` makes
    /// it [absolute](Pattern::is_absolute). Unclosed brackets and braces stand for themselves.
    ///
    /// # Errors
    /// [`Code::Limit`] for more than [`limits::GLOB_BYTES`] bytes or [`limits::GLOB_ALTERNATIVES`] alternatives.
    pub fn parse(pattern: &str) -> Result<Pattern, Error> {
        if pattern.len() > limits::GLOB_BYTES {
            return Err(too_large(pattern, "bytes", limits::GLOB_BYTES));
        }
        let spellings = expand_braces(pattern)
            .ok_or_else(|| too_large(pattern, "alternatives", limits::GLOB_ALTERNATIVES))?;
        let alternatives = spellings.iter().filter_map(|spelling| parts(spelling)).collect();
        Ok(Pattern { absolute: pattern.starts_with('/'), alternatives })
    }

    /// Whether the pattern begins with `/`. Its components are then those below the root.
    pub fn is_absolute(&self) -> bool {
        self.absolute
    }

    /// Whether a path, given as its components, matches as a whole.
    pub fn matches(&self, path: &[impl AsRef<[u8]>]) -> bool {
        !path.is_empty()
            && self.alternatives.iter().any(|parts| {
                let states = advance_all(parts, path);
                states.last() == Some(&true)
            })
    }

    /// Whether some path below the folder `directory` could match; `false` lets a walk leave the folder out.
    /// The empty path is the folder the walk begins in.
    pub fn could_match_below(&self, directory: &[impl AsRef<[u8]>]) -> bool {
        self.alternatives.iter().any(|parts| {
            let states = advance_all(parts, directory);
            states[..parts.len()].contains(&true)
        })
    }
}

fn too_large(pattern: &str, what: &str, limit: usize) -> Error {
    let message = format!("Pattern {} has more than {limit} {what}", quoted(pattern));
    Span::START.finding(Code::Limit, message)
}

/// States after `path`: `states[i]` says that the first `i` parts can have matched all of it.
fn advance_all(parts: &[Part], path: &[impl AsRef<[u8]>]) -> Vec<bool> {
    let mut states = vec![false; parts.len() + 1];
    states[0] = true;
    skip_any_depth(parts, &mut states);
    for component in path {
        if !states.contains(&true) {
            break;
        }
        states = advance(parts, &states, component.as_ref());
    }
    states
}

fn advance(parts: &[Part], states: &[bool], component: &[u8]) -> Vec<bool> {
    let mut next = vec![false; states.len()];
    for (i, part) in parts.iter().enumerate().filter(|&(i, _)| states[i]) {
        match part {
            Part::AnyDepth => next[i] = true,
            Part::Literal(literal) => next[i + 1] |= literal == component,
            Part::Component(tokens) => next[i + 1] |= matches_component(tokens, component),
        }
    }
    skip_any_depth(parts, &mut next);
    next
}

/// `**` matches no component as well.
fn skip_any_depth(parts: &[Part], states: &mut [bool]) {
    for (i, part) in parts.iter().enumerate() {
        states[i + 1] |= states[i] && *part == Part::AnyDepth;
    }
}

/// Matches one component by going back to the last `*` only, which is enough for wildcards.
fn matches_component(tokens: &[Token], component: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match tokens.get(token) {
            Some(Token::AnyRun) => {
                retry = Some((token, at));
                token += 1;
                continue;
            }
            Some(single) => match_single(single, &component[at..]),
            None if at == component.len() => return true,
            None => None,
        };
        match (step, retry) {
            (Some(length), _) => {
                token += 1;
                at += length;
            }
            (None, Some((star, from))) if from < component.len() => {
                let from = from + character(&component[from..]).1;
                retry = Some((star, from));
                token = star + 1;
                at = from;
            }
            (None, _) => return false,
        }
    }
}

/// How many bytes of `rest` the token takes, if it matches.
fn match_single(token: &Token, rest: &[u8]) -> Option<usize> {
    let &first = rest.first()?;
    match token {
        Token::Byte(byte) => (first == *byte).then_some(1),
        Token::AnyCharacter => Some(character(rest).1),
        Token::Class { negated, ranges } => {
            let (character, length) = character(rest);
            let inside =
                character.is_some_and(|c| ranges.iter().any(|&(low, high)| (low..=high).contains(&c)));
            (inside != *negated).then_some(length)
        }
        Token::AnyRun => None,
    }
}

/// The first character of `rest`, which is not empty, and its bytes; bytes that are not UTF-8 stand alone.
fn character(rest: &[u8]) -> (Option<char>, usize) {
    let window = &rest[..rest.len().min(4)];
    let valid = match std::str::from_utf8(window) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&window[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => (Some(character), character.len_utf8()),
        None => (None, 1),
    }
}

/// The parts of a pattern without braces; `None` if it can match no file: it is empty or ends with `/`.
fn parts(pattern: &str) -> Option<Vec<Part>> {
    if pattern.ends_with('/') {
        return None;
    }
    let mut parts: Vec<Part> = Vec::new();
    for component in pattern.split('/').filter(|component| !matches!(*component, "" | ".")) {
        let part = part(component);
        // A second `**` in a row adds nothing but work.
        if part != Part::AnyDepth || parts.last() != Some(&Part::AnyDepth) {
            parts.push(part);
        }
    }
    if parts.last() == Some(&Part::AnyDepth) {
        // `dir/**` is everything below, not the folder itself.
        parts.push(Part::Component(vec![Token::AnyRun]));
    }
    (!parts.is_empty()).then_some(parts)
}

fn part(component: &str) -> Part {
    if component == "**" {
        return Part::AnyDepth;
    }
    let tokens = tokens(component);
    let literal: Option<Vec<u8>> = tokens
        .iter()
        .map(|token| match token {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        })
        .collect();
    match literal {
        Some(literal) => Part::Literal(literal),
        None => Part::Component(tokens),
    }
}

fn tokens(component: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = component;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        rest = match first {
            '*' => {
                if tokens.last() != Some(&Token::AnyRun) {
                    tokens.push(Token::AnyRun);
                }
                after
            }
            '?' => {
                tokens.push(Token::AnyCharacter);
                after
            }
            '[' => match class(after) {
                Some((class, after)) => {
                    tokens.push(class);
                    after
                }
                None => literal(&mut tokens, '[', after),
            },
            '\\' => match after.chars().next() {
                Some(escaped) => literal(&mut tokens, escaped, &after[escaped.len_utf8()..]),
                None => literal(&mut tokens, '\\', after),
            },
            other => literal(&mut tokens, other, after),
        };
    }
    tokens
}

fn literal<'a>(tokens: &mut Vec<Token>, character: char, after: &'a str) -> &'a str {
    let mut bytes = [0; 4];
    tokens.extend(character.encode_utf8(&mut bytes).bytes().map(Token::Byte));
    after
}

/// The class that begins after a `[`, and the text after its `]`; `None` if it is never closed.
fn class(text: &str) -> Option<(Token, &str)> {
    let negated = text.starts_with(['!', '^']);
    let body = if negated { &text[1..] } else { text };
    // A `]` in first place is a member, as everywhere.
    let end = body.char_indices().skip(1).find(|&(_, c)| c == ']')?.0;
    let members: Vec<char> = body[..end].chars().collect();
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < members.len() {
        let is_range = members.get(at + 1) == Some(&'-') && at + 2 < members.len();
        let high = if is_range { members[at + 2] } else { members[at] };
        ranges.push((members[at], high));
        at += if is_range { 3 } else { 1 };
    }
    Some((Token::Class { negated, ranges }, &body[end + 1..]))
}

/// The patterns that `{a,b}` stands for; `None` if there are too many. Braces may be nested.
fn expand_braces(pattern: &str) -> Option<Vec<String>> {
    let mut pending = vec![pattern.to_owned()];
    let mut finished = Vec::new();
    while let Some(next) = pending.pop() {
        match first_braces(&next) {
            None => finished.push(next),
            Some((open, choices, close)) => {
                for choice in choices {
                    pending.push(format!("{}{choice}{}", &next[..open], &next[close + 1..]));
                }
            }
        }
        if pending.len() + finished.len() > limits::GLOB_ALTERNATIVES {
            return None;
        }
    }
    Some(finished)
}

/// The first closed braces with a comma: where they open, their choices, where they close.
fn first_braces(pattern: &str) -> Option<(usize, Vec<&str>, usize)> {
    let bytes = pattern.as_bytes();
    let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut found: Option<(usize, Vec<usize>, usize)> = None;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'{' => open.push((at, Vec::new())),
            b',' => {
                if let Some((_, commas)) = open.last_mut() {
                    commas.push(at);
                }
            }
            b'}' => {
                if let Some((start, commas)) = open.pop().filter(|(_, commas)| !commas.is_empty()) {
                    found = Some((start, commas, at));
                }
            }
            _ => {}
        }
        // Inner braces close first; the outermost pair of the first group is complete once none is open.
        if open.is_empty() && found.is_some() {
            break;
        }
        at += 1;
    }
    let (start, commas, close) = found?;
    let mut choices = Vec::with_capacity(commas.len() + 1);
    let mut from = start + 1;
    for comma in commas.into_iter().chain([close]) {
        choices.push(&pattern[from..comma]);
        from = comma + 1;
    }
    Some((start, choices, close))
}

#[cfg(test)]
mod tests;
