//! Expansion of `$NAME` and `${NAME}` where CodeBuild expands variables without a shell (BS-190):
//! `artifacts.base-directory`, report groups, runtime versions, build status context and URL.
//!
//! Not for commands, `artifacts.name` or cache keys, which a shell evaluates, nor for `env.variables`,
//! which nothing expands.

use std::collections::HashSet;

use crate::diagnostic::{Code, Error, Span, quoted};
use crate::limits;

/// A run of text without references, or the name of one.
enum Piece<'t> {
    Text(&'t str),
    Name(&'t str),
}

/// `text` with each `$NAME` and `${NAME}` replaced by what `lookup` says, unset ones by nothing.
///
/// A `$` that begins neither is kept, and so is every other shell construct. Values are not expanded again.
///
/// # Errors
/// [`Code::Limit`] once the result is longer than [`limits::EXPANDED_BYTES`].
pub fn expand<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> Result<String, Error> {
    let mut expanded = String::new();
    for piece in pieces(text) {
        let part = match piece {
            Piece::Text(text) => text,
            Piece::Name(name) => lookup(name).unwrap_or_default(),
        };
        if expanded.len() + part.len() > limits::EXPANDED_BYTES {
            let rule =
                format!("longer than {} bytes once its variables are expanded", limits::EXPANDED_BYTES);
            return Err(Span::START.finding(Code::Limit, format!("{} is {rule}", quoted(text))));
        }
        expanded.push_str(part);
    }
    Ok(expanded)
}

/// The names that [`expand`] would look up, each once, in the order they first appear.
pub fn names(text: &str) -> Vec<&str> {
    let mut seen = HashSet::new();
    let names = pieces(text).filter_map(|piece| match piece {
        Piece::Name(name) => Some(name),
        Piece::Text(_) => None,
    });
    names.filter(|&name| seen.insert(name)).collect()
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if let Some((name, after)) = rest.strip_prefix('$').and_then(reference) {
            rest = after;
            return Some(Piece::Name(name));
        }
        // A `$` in first place is no reference: it belongs to the text up to the next one.
        let own = usize::from(rest.starts_with('$'));
        let length = rest[own..].find('$').map_or(rest.len(), |next| own + next);
        let (literal, after) = rest.split_at(length);
        rest = after;
        (!literal.is_empty()).then_some(Piece::Text(literal))
    })
}

/// The name that follows a `$`, and the text after the reference.
fn reference(after: &str) -> Option<(&str, &str)> {
    if let Some(braced) = after.strip_prefix('{') {
        let (name, rest) = split_name(braced);
        return Some((name, rest.strip_prefix('}')?)).filter(|_| !name.is_empty());
    }
    Some(split_name(after)).filter(|(name, _)| !name.is_empty())
}

/// The variable name `text` begins with, possibly empty, and the rest.
fn split_name(text: &str) -> (&str, &str) {
    let length = text.bytes().take_while(|&byte| byte == b'_' || byte.is_ascii_alphanumeric()).count();
    let length = if text.starts_with(|first: char| first.is_ascii_digit()) { 0 } else { length };
    text.split_at(length)
}

#[cfg(test)]
mod tests {
    use super::{expand, names};
    use crate::Code;

    fn lookup(name: &str) -> Option<&'static str> {
        match name {
            "DIR" => Some("out"),
            "CODEBUILD_SRC_DIR_source1" => Some("/codebuild/output/src1/src"),
            "NESTED" => Some("$DIR"),
            "EMPTY" => Some(""),
            _ => None,
        }
    }

    #[track_caller]
    fn check(text: &str, expect: &str) {
        assert_eq!(expand(text, lookup).as_deref(), Ok(expect), "{text}");
    }

    #[test]
    fn names_with_and_without_braces_are_replaced() {
        check("", "");
        check("target/release", "target/release");
        check("$DIR", "out");
        check("${DIR}", "out");
        check("$DIR/bin", "out/bin");
        check("${DIR}_x", "out_x");
        check("$DIR_x", "");
        check("$DIR$DIR", "outout");
        check("a${DIR}b$DIR", "aoutbout");
        check("$CODEBUILD_SRC_DIR_source1/dist", "/codebuild/output/src1/src/dist");
        check("é$DIRé", "éouté");
    }

    #[test]
    fn unset_names_are_replaced_by_nothing() {
        check("$UNSET", "");
        check("a/$UNSET/b", "a//b");
        check("a${EMPTY}b", "ab");
    }

    #[test]
    fn values_are_not_expanded_again() {
        check("$NESTED", "$DIR");
    }

    #[test]
    fn what_is_no_reference_stays_as_written() {
        for text in
            ["$", "a$", "$$", "$1", "${}", "${", "${DIR", "${DIR:-x}", "$(date)", "$-", "${1}", "`id`"]
        {
            check(text, text);
        }
        check("$$DIR", "$out");
    }

    #[test]
    fn the_names_a_text_refers_to_are_told_once_each() {
        assert_eq!(names("$A/${B}x$A$${C}${D:-x}$1$"), ["A", "B", "C"]);
        assert_eq!(names("plain"), Vec::<&str>::new());
    }

    #[test]
    fn a_result_beyond_the_limit_is_an_error() {
        let long = "x".repeat(1000);
        let error = expand(&"$A".repeat(1000), |_| Some(&long)).unwrap_err();
        assert_eq!(error.code, Code::Limit);
    }
}
