//! Patterns: `*`, `?` and `${variables}`, and how they match.
//!
//! Matching keeps one place to go back to, the last `*`, so its cost is at most pattern times text.

use std::borrow::Cow;

use crate::context::{Context, is_known_key};
use crate::error::{Error, Result};
use crate::limits;

/// One part of a pattern; what a variable comes to is known only when somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Character(char),
    /// `?`.
    One,
    /// `*`.
    Run,
    Variable {
        key: String,
        default: Option<String>,
    },
}

/// What has a meaning in a text beside itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// `*` and `?`.
    pub(crate) wildcards: bool,
    /// `${aws:username}`, `${*}`: since the version of 2012.
    pub(crate) variables: bool,
}

/// A text to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
    has_variables: bool,
}

impl Pattern {
    pub(crate) fn parse(text: &str, dialect: Dialect, place: &str) -> Result<Pattern> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let after = &rest[next.len_utf8()..];
            let (token, after) = match next {
                '$' if dialect.variables && after.starts_with('{') => variable(&after[1..], text, place)?,
                '*' if dialect.wildcards => (Token::Run, after),
                '?' if dialect.wildcards => (Token::One, after),
                character => (Token::Character(character), after),
            };
            tokens.push(token);
            rest = after;
        }
        if tokens.len() > limits::VALUE_CHARACTERS {
            return Err(Error::wrong(place, text, "is longer than 2048 characters"));
        }
        let has_variables = tokens.iter().any(|token| matches!(token, Token::Variable { .. }));
        Ok(Pattern { tokens, has_variables })
    }

    /// Whether the text is what the pattern describes. A variable without a value matches nothing.
    pub(crate) fn matches(&self, text: &str, context: &Context) -> bool {
        self.resolved(context).is_some_and(|tokens| run(&tokens, text))
    }

    /// The same without regard to upper and lower case.
    pub(crate) fn matches_ignoring_case(&self, text: &str, context: &Context) -> bool {
        let lower = |token: &Token| match token {
            Token::Character(character) => character.to_lowercase().map(Token::Character).collect(),
            other => vec![other.clone()],
        };
        self.resolved(context).is_some_and(|tokens| {
            run(&tokens.iter().flat_map(lower).collect::<Vec<Token>>(), &text.to_lowercase())
        })
    }

    /// Whether it depends on a tag of several values.
    pub(crate) fn is_ambiguous(&self, context: &Context) -> bool {
        let is_ambiguous = |token: &Token| match token {
            Token::Variable { key, .. } => context.is_ambiguous(key),
            _ => false,
        };
        self.has_variables && self.tokens.iter().any(is_ambiguous)
    }

    /// The text, if it can match nothing else.
    pub(crate) fn literal(&self) -> Option<String> {
        let character = |token: &Token| match token {
            Token::Character(character) => Some(*character),
            _ => None,
        };
        self.tokens.iter().map(character).collect()
    }

    fn resolved(&self, context: &Context) -> Option<Cow<'_, [Token]>> {
        if !self.has_variables {
            return Some(Cow::Borrowed(&self.tokens));
        }
        let mut tokens = Vec::with_capacity(self.tokens.len());
        for token in &self.tokens {
            match token {
                Token::Variable { key, default } => {
                    let value = context.single(key).or(default.as_deref())?;
                    tokens.extend(value.chars().map(Token::Character));
                }
                other => tokens.push(other.clone()),
            }
        }
        Some(Cow::Owned(tokens))
    }
}

/// Reads behind `${`; the rest begins behind `}`.
fn variable<'a>(rest: &'a str, whole: &str, place: &str) -> Result<(Token, &'a str)> {
    let end = rest.find('}').ok_or_else(|| Error::wrong(place, whole, "has a variable without an end"))?;
    let (inside, rest) = (&rest[..end], &rest[end + 1..]);
    if let "*" | "?" | "$" = inside {
        return Ok((Token::Character(char::from(inside.as_bytes()[0])), rest));
    }
    let (key, default) = match inside.split_once(',') {
        Some((key, default)) => (key.trim(), Some(unquoted(default.trim(), whole, place)?)),
        None => (inside.trim(), None),
    };
    if !is_known_key(key) {
        return Err(Error::unknown(place, key));
    }
    Ok((Token::Variable { key: key.to_owned(), default }, rest))
}

fn unquoted(text: &str, whole: &str, place: &str) -> Result<String> {
    let inside = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    let inside =
        inside.ok_or_else(|| Error::wrong(place, whole, "has a default that is not in single quotes"))?;
    Ok(inside.to_owned())
}

fn run(tokens: &[Token], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut in_text) = (0, 0);
    // Behind the last `*`, and where in the text it was tried last.
    let mut back: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match tokens.get(at) {
            Some(Token::Run) => {
                at += 1;
                back = Some((at, in_text));
            }
            Some(token) if token.takes(text[in_text]) => {
                at += 1;
                in_text += 1;
            }
            _ => match back {
                Some((behind, tried)) => {
                    at = behind;
                    in_text = tried + 1;
                    back = Some((behind, in_text));
                }
                None => return false,
            },
        }
    }
    tokens[at..].iter().all(|token| *token == Token::Run)
}

impl Token {
    fn takes(&self, found: char) -> bool {
        match self {
            Token::Character(wanted) => *wanted == found,
            Token::One => true,
            Token::Run | Token::Variable { .. } => false,
        }
    }
}

/// A pattern for ARNs: compared part by part, so that a `*` never reaches over a colon into the next part. Behind the
/// account the colons belong to the resource's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ArnPattern {
    /// `*`: every resource.
    Any,
    Parts(Vec<Pattern>),
}

const ARN_PARTS: usize = 6;

impl ArnPattern {
    pub(crate) fn parse(text: &str, variables: bool, place: &str) -> Result<ArnPattern> {
        if text == "*" {
            return Ok(ArnPattern::Any);
        }
        let parts = split(text, variables);
        if parts.len() != ARN_PARTS || parts[0] != "arn" || parts[ARN_PARTS - 1].is_empty() {
            return Err(Error::wrong(place, text, "is neither `*` nor an ARN of six parts"));
        }
        let dialect = Dialect { wildcards: true, variables };
        let parts = parts.into_iter().map(|part| Pattern::parse(part, dialect, place));
        Ok(ArnPattern::Parts(parts.collect::<Result<_>>()?))
    }

    pub(crate) fn matches(&self, arn: &str, context: &Context) -> bool {
        let ArnPattern::Parts(patterns) = self else { return true };
        let parts: Vec<&str> = arn.splitn(ARN_PARTS, ':').collect();
        parts.len() == ARN_PARTS
            && patterns.iter().zip(parts).all(|(pattern, part)| pattern.matches(part, context))
    }

    /// Whether it depends on a tag of several values.
    pub(crate) fn is_ambiguous(&self, context: &Context) -> bool {
        match self {
            ArnPattern::Any => false,
            ArnPattern::Parts(patterns) => patterns.iter().any(|pattern| pattern.is_ambiguous(context)),
        }
    }
}

/// The parts of an ARN; a colon in a variable's name is none of the ARN's.
fn split(text: &str, variables: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut in_variable) = (0, false);
    for (at, character) in text.char_indices() {
        match character {
            '{' if variables && text[..at].ends_with('$') => in_variable = true,
            '}' => in_variable = false,
            ':' if !in_variable && parts.len() < ARN_PARTS - 1 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Dialect = Dialect { wildcards: true, variables: true };

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern, ALL, "a").unwrap().matches(text, &Context::default())
    }

    #[test]
    fn wildcards_match_runs_and_single_characters() {
        for (pattern, text, expect) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("?", "ü", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a**", "a", true),
            ("A", "a", false),
            ("${*}", "*", true),
            ("${*}", "x", false),
            ("${$}{a}", "${a}", true),
            ("${?}", "?", true),
            ("$a}", "$a}", true),
        ] {
            assert_eq!(matches(pattern, text), expect, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_value_put_in_for_a_variable_has_no_wildcards() {
        let pattern = Pattern::parse("u/${aws:username}/*", ALL, "a").unwrap();
        let named = |name: &str| Context::default().with("aws:username", name);
        assert!(pattern.matches("u/ann/x", &named("ann")));
        assert!(!pattern.matches("u/bob/x", &named("*")));
        assert!(pattern.matches("u/*/x", &named("*")));
        assert!(!pattern.matches("u//x", &Context::default()), "a variable without a value matches nothing");
        let fallback = Pattern::parse("u/${aws:username, 'no:body'}", ALL, "a").unwrap();
        assert!(fallback.matches("u/no:body", &Context::default()));
    }

    #[test]
    fn variables_that_cannot_be_understood_are_refused() {
        for text in ["${aws:username", "${aws:frogs}", "${aws:username, nobody}", "${}"] {
            assert!(Pattern::parse(text, ALL, "a").is_err(), "{text}");
        }
        let old = Dialect { wildcards: true, variables: false };
        let pattern = Pattern::parse("${aws:frogs}", old, "a").unwrap();
        assert!(pattern.matches("${aws:frogs}", &Context::default()));
    }

    #[test]
    fn a_star_in_an_arn_stays_in_its_part() {
        let matches = |pattern: &str, arn: &str| {
            ArnPattern::parse(pattern, true, "a").unwrap().matches(arn, &Context::default())
        };
        let project = "arn:aws:codebuild:eu-west-1:123456789012:project/demo";
        assert!(matches("*", project));
        assert!(matches("arn:aws:codebuild:*:*:project/*", project));
        assert!(!matches("arn:*:project/*:x:y:z", project));
        assert!(!matches("arn:aws:codebuild:*:210987654321:project/demo", project));
        assert!(!matches("arn:aws:codebuild:*:*:project/Demo", project), "case counts");
        let group = "arn:aws:logs:eu-west-1:123456789012:log-group:/a:log-stream:b";
        assert!(matches("arn:aws:logs:*:*:log-group:/a:*", group));
        assert!(matches("arn:aws:logs:*:*:*", group));
        for wrong in ["arn:aws:codebuild:*", "project/a", "arn:aws:s3:::", "urn:a:b:c:d:e"] {
            assert!(ArnPattern::parse(wrong, true, "a").is_err(), "{wrong}");
        }
        let own = ArnPattern::parse("arn:aws:s3:::b/${aws:username}/*", true, "a").unwrap();
        assert!(own.matches("arn:aws:s3:::b/ann/k", &Context::default().with("aws:username", "ann")));
    }

    #[test]
    fn a_pattern_full_of_stars_is_not_slow() {
        // Backtracking over every star would take longer than the age of the world.
        let pattern = "*a".repeat(1_000);
        assert!(!matches(&pattern, &format!("{}b", "a".repeat(10_000))));
    }

    proptest! {
        #[test]
        fn a_match_is_what_the_obvious_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn obvious(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.split_first(), text.split_first()) {
                    (None, None) => true,
                    (Some((b'*', rest)), _) => {
                        (0..=text.len()).any(|taken| obvious(rest, &text[taken..]))
                    }
                    (Some((wanted, pattern)), Some((found, text))) => {
                        (*wanted == b'?' || wanted == found) && obvious(pattern, text)
                    }
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&pattern, &text), obvious(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
