//! `on-failure`: what comes after a phase that failed.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::limits;

/// `on-failure` (BS-080..083).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnFailure {
    /// No later command phase runs.
    Abort,
    /// The next phase runs.
    Continue,
    /// The build is tried again.
    Retry {
        /// Tries, 0 to [`limits::RETRY_COUNT`].
        count: u32,
        /// What the error message has to match.
        pattern: ErrorPattern,
    },
}

/// A regular expression for error messages, in the syntax of RE2: checked, bounded in size, matched in linear time.
#[derive(Clone)]
pub struct ErrorPattern(Regex);

/// Why a text is no `on-failure`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoOnFailure {
    Form,
    Count,
    /// What is wrong with the regular expression.
    Pattern(String),
}

impl OnFailure {
    pub(crate) const FORMS: &str = "ABORT,CONTINUE,RETRY,RETRY-<count>,RETRY-<regex>,RETRY-<count>-<regex>";
    const DEFAULT_RETRIES: u32 = 3;
    const ANY_ERROR: &str = ".*";

    /// The tries that are wanted after a failure with the error message `message`; `None`: no retry.
    ///
    /// COMPAT: BS-082, BS-083 the pattern may match anywhere in the message, and `.` is any character, line feeds included.
    pub fn retries(&self, message: &str) -> Option<u32> {
        match self {
            OnFailure::Retry { count, pattern } if pattern.0.is_match(message) => Some(*count),
            _ => None,
        }
    }

    /// COMPAT: BS-083 `ABORT`, `CONTINUE`, `RETRY[-count][-regex]`, keywords in any case.
    ///
    /// Digits are a count when they stand alone between the dashes: `RETRY-503.*` is a pattern.
    pub(crate) fn parse(text: &str) -> Result<OnFailure, NoOnFailure> {
        let (keyword, rest) = match text.split_once('-') {
            Some((keyword, rest)) => (keyword, Some(rest)),
            None => (text, None),
        };
        match (keyword.to_ascii_uppercase().as_str(), rest) {
            ("ABORT", None) => Ok(OnFailure::Abort),
            ("CONTINUE", None) => Ok(OnFailure::Continue),
            ("RETRY", None) => retry(None, None),
            ("RETRY", Some(rest)) => match rest.split_once('-') {
                Some((count, pattern)) if digits(count) => retry(Some(count), Some(pattern)),
                None if digits(rest) => retry(Some(rest), None),
                _ => retry(None, Some(rest)),
            },
            _ => Err(NoOnFailure::Form),
        }
    }
}

fn retry(count: Option<&str>, pattern: Option<&str>) -> Result<OnFailure, NoOnFailure> {
    let pattern = pattern.filter(|pattern| !pattern.is_empty()).unwrap_or(OnFailure::ANY_ERROR);
    // A count too long for a number is too high for the limit as well.
    let count = count.map_or(OnFailure::DEFAULT_RETRIES, |digits| digits.parse().unwrap_or(u32::MAX));
    if count > limits::RETRY_COUNT {
        return Err(NoOnFailure::Count);
    }
    Ok(OnFailure::Retry { count, pattern: ErrorPattern::parse(pattern).map_err(NoOnFailure::Pattern)? })
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl ErrorPattern {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The error is one sentence without a line feed.
    fn parse(pattern: &str) -> Result<ErrorPattern, String> {
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(limits::RETRY_PATTERN_BYTES).nest_limit(limits::RETRY_PATTERN_DEPTH);
        builder.dot_matches_new_line(true).build().map(ErrorPattern).map_err(|error| match error {
            regex::Error::CompiledTooBig(bytes) => {
                format!("the regular expression takes more than {bytes} bytes")
            }
            // The library draws the expression with a mark below and says in the last line what is wrong.
            other => other
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .replace("error: ", "regular expression: "),
        })
    }
}

impl PartialEq for ErrorPattern {
    fn eq(&self, other: &ErrorPattern) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ErrorPattern {}

impl fmt::Debug for ErrorPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnFailure::Abort => f.write_str("ABORT"),
            OnFailure::Continue => f.write_str("CONTINUE"),
            OnFailure::Retry { count, pattern } => write!(f, "RETRY-{count}-{}", pattern.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: OnFailure) {
        assert_eq!(OnFailure::parse(text), Ok(expect), "{text}");
    }

    fn retries(count: u32, pattern: &str) -> OnFailure {
        OnFailure::Retry { count, pattern: ErrorPattern::parse(pattern).unwrap() }
    }

    // BS-080..083
    #[test]
    fn on_failure_takes_every_documented_form() {
        check("ABORT", OnFailure::Abort);
        check("abort", OnFailure::Abort);
        check("CONTINUE", OnFailure::Continue);
        check("Continue", OnFailure::Continue);
        check("RETRY", retries(3, ".*"));
        check("Retry", retries(3, ".*"));
        check("RETRY-5", retries(5, ".*"));
        check("RETRY-0", retries(0, ".*"));
        check("RETRY-100", retries(100, ".*"));
        check("RETRY-.*timeout.*", retries(3, ".*timeout.*"));
        check("Retry-3-.*connection timed out.*", retries(3, ".*connection timed out.*"));
        check("RETRY-12-a-b", retries(12, "a-b"));
        check("RETRY-a-b", retries(3, "a-b"));
        check("RETRY-503.*", retries(3, "503.*"));
        check("RETRY-", retries(3, ".*"));
        check("RETRY-7-", retries(7, ".*"));
    }

    // BS-083
    #[test]
    fn on_failure_refuses_everything_else() {
        for text in ["", "STOP", "ABORT-1", "CONTINUE-x", "RETRY 3", "RETRY3", " ABORT"] {
            assert_eq!(OnFailure::parse(text), Err(NoOnFailure::Form), "{text}");
        }
        for text in ["RETRY-101", "RETRY-99999999999", "RETRY-101-x"] {
            assert_eq!(OnFailure::parse(text), Err(NoOnFailure::Count), "{text}");
        }
        for text in ["RETRY-(", "RETRY-2-[a", "RETRY-*", "RETRY-a{1000}{1000}", "RETRY-(?=a)"] {
            let Err(NoOnFailure::Pattern(rule)) = OnFailure::parse(text) else { panic!("{text} is taken") };
            assert!(rule.contains("regular expression") && !rule.contains('\n'), "{rule}");
        }
        let deep = format!("RETRY-{}a{}", "(".repeat(1000), ")".repeat(1000));
        assert!(matches!(OnFailure::parse(&deep), Err(NoOnFailure::Pattern(_))));
    }

    // BS-082, BS-083
    #[test]
    fn a_retry_is_wanted_when_the_message_matches() {
        #[track_caller]
        fn check(on_failure: &str, message: &str, expect: Option<u32>) {
            assert_eq!(
                OnFailure::parse(on_failure).unwrap().retries(message),
                expect,
                "{on_failure}: {message}"
            );
        }
        let message = "Error while executing command: curl x\ny. Reason: exit status 28";
        check("RETRY", message, Some(3));
        check("RETRY", "", Some(3));
        check("RETRY-0", message, Some(0));
        check("RETRY-2-.*exit status 28.*", message, Some(2));
        check("RETRY-2-curl.*Reason", message, Some(2));
        check("RETRY-2-exit status 28", message, Some(2));
        check("RETRY-2-^exit", message, None);
        check("RETRY-wget", message, None);
        check("ABORT", message, None);
        check("CONTINUE", message, None);
    }
}
