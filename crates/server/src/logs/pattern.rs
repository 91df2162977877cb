//! Filter patterns: which events FilterLogEvents and StartLiveTail let through.
//!
//! Terms: `one two` (all of them), `"a phrase"`, `-without`, `?either ?or`. Matching is case-sensitive. JSON
//! selectors (`{ $.a = 1 }`), columns (`[a, b]`) and regular expressions (`%a.b%`) are refused, not ignored.

use api::ServiceError;

/// A parsed pattern. The empty one lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    required: Vec<String>,
    optional: Vec<String>,
    excluded: Vec<String>,
}

impl Pattern {
    /// # Errors
    /// `InvalidParameterException` for patterns that are malformed or of a kind that is not implemented.
    pub(super) fn parse(text: &str) -> Result<Pattern, ServiceError> {
        let text = text.trim();
        if text.starts_with(['{', '[']) || text.contains('%') {
            return Err(ServiceError::invalid_parameter(
                "Invalid filter pattern: JSON selectors, columns and regular expressions are not supported here; use terms.",
            ));
        }
        let mut pattern = Pattern::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (kind, term) = if let Some(term) = rest.strip_prefix('-') {
                (&mut pattern.excluded, term)
            } else if let Some(term) = rest.strip_prefix('?') {
                (&mut pattern.optional, term)
            } else {
                (&mut pattern.required, rest)
            };
            let (term, after) = take_term(term)?;
            kind.push(term);
            rest = after.trim_start();
        }
        Ok(pattern)
    }

    pub(super) fn matches(&self, message: &[u8]) -> bool {
        let has = |term: &String| contains(message, term.as_bytes());
        if self.excluded.iter().any(has) || !self.required.iter().all(has) {
            return false;
        }
        // COMPAT: CloudWatch Logs ignores `?` terms beside terms that must be there.
        !self.required.is_empty() || self.optional.is_empty() || self.optional.iter().any(has)
    }
}

/// One term, quoted or up to the next blank, and what follows it.
fn take_term(text: &str) -> Result<(String, &str), ServiceError> {
    let invalid = || ServiceError::invalid_parameter("Invalid filter pattern");
    if let Some(quoted) = text.strip_prefix('"') {
        return take_quoted(quoted).ok_or_else(invalid);
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (term, after) = text.split_at(end);
    if term.is_empty() { Err(invalid()) } else { Ok((term.to_owned(), after)) }
}

/// Up to the closing quote; a backslash takes the next character as it is.
fn take_quoted(text: &str) -> Option<(String, &str)> {
    let mut term = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((term, &text[at + 1..])),
            '\\' => term.push(letters.next()?.1),
            letter => term.push(letter),
        }
    }
    None
}

fn contains(message: &[u8], term: &[u8]) -> bool {
    term.is_empty() || message.windows(term.len()).any(|window| window == term)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, message: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(message.as_bytes())
    }

    #[test]
    fn terms_let_events_through() {
        for (pattern, message, expect) in [
            ("", "anything", true),
            ("ERROR", "[ERROR] no", true),
            ("ERROR", "[error] no", false),
            ("ERROR no", "[ERROR] no", true),
            ("ERROR yes", "[ERROR] no", false),
            ("\"a b\"", "x a b y", true),
            ("\"a b\"", "x a  b y", false),
            ("\"say \\\"hi\\\"\"", "say \"hi\"", true),
            ("ERROR -Exit", "ERROR Exit", false),
            ("ERROR -Exit", "ERROR", true),
            ("-\"a b\"", "a b", false),
            ("?A ?B", "B", true),
            ("?A ?B", "C", false),
            ("?A C", "C", true),
            ("ü", "grün", true),
            ("-ü ?ö", "grün", false),
        ] {
            assert_eq!(matches(pattern, message), expect, "{pattern} on {message}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for pattern in ["{ $.a = 1 }", "[a, b]", "%a.b%", "\"open", "-", "?", "a - b"] {
            assert_eq!(Pattern::parse(pattern).unwrap_err().code, "InvalidParameterException", "{pattern}");
        }
    }
}
