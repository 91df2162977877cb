//! Expansion of `$NAME` and `${NAME}` where CodeBuild expands variables without a shell (BS-190):
//! `artifacts.base-directory`, report groups, runtime versions, build status context and URL.
//!
//! Not for commands, `artifacts.name` or cache keys, which a shell evaluates, nor for `env.variables`,
//! which nothing expands.

use crate::diagnostic::{Code, Error, Position};
use crate::limits;

/// `text` with each `$NAME` and `${NAME}` replaced by what `lookup` says, unset ones by nothing.
///
/// A `$` that begins neither is kept, and so is every other shell construct. Values are not expanded again.
///
/// # Errors
/// [`Code::Limit`] once the result is longer than [`limits::EXPANDED_BYTES`].
pub fn expand<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> Result<String, Error> {
    let mut expanded = String::with_capacity(text.len().min(limits::EXPANDED_BYTES));
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        push(&mut expanded, &rest[..dollar])?;
        let after = &rest[dollar + 1..];
        rest = match reference(after) {
            Some((name, after)) => {
                push(&mut expanded, lookup(name).unwrap_or_default())?;
                after
            }
            None => {
                push(&mut expanded, "$")?;
                after
            }
        };
    }
    push(&mut expanded, rest)?;
    Ok(expanded)
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

fn push(expanded: &mut String, part: &str) -> Result<(), Error> {
    if expanded.len() + part.len() > limits::EXPANDED_BYTES {
        let message =
            format!("Text is longer than {} bytes once its variables are expanded", limits::EXPANDED_BYTES);
        return Err(Position::START.finding(Code::Limit, message));
    }
    expanded.push_str(part);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::expand;
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
    fn a_result_beyond_the_limit_is_an_error() {
        let long = "x".repeat(1000);
        let error = expand(&"$A".repeat(1000), |_| Some(&long)).unwrap_err();
        assert_eq!(error.code, Code::Limit);
    }
}
