//! What parameters may be called, and what is asked for with a name.
// COMPAT: names, paths and selectors follow the rules of Parameter Store's own error texts.

use api::ServiceError;

/// Parts of a hierarchy at most.
const LEVELS_MAX: usize = 15;
/// Characters of a name, together with what an ARN has before it.
const NAME_MAX: usize = 1011;

/// What a request asks for: `name`, `name:3`, or an ARN of either form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// Name or ARN.
    pub(super) id: String,
    pub(super) version: Option<i64>,
}

impl Asked {
    pub(super) fn parse(text: &str) -> Result<Asked, ServiceError> {
        // An ARN has five colons before the name.
        let before = if text.starts_with("arn:") { 5 } else { 0 };
        let Some((at, _)) = text.match_indices(':').nth(before) else {
            return Ok(Asked { id: text.to_owned(), version: None });
        };
        let (id, selector) = (&text[..at], &text[at + 1..]);
        match selector.parse() {
            Ok(version) if version > 0 => Ok(Asked { id: id.to_owned(), version: Some(version) }),
            _ => Err(ServiceError::validation(format!(
                "The label {selector} of {id} is not available in this version"
            ))),
        }
    }

    /// As answers repeat it.
    pub(super) fn selector(&self) -> Option<String> {
        self.version.map(|version| format!(":{version}"))
    }
}

/// Whether a new parameter may have this name.
pub(super) fn check(name: &str) -> Result<(), ServiceError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    if !name.chars().all(plain) || name.contains("//") || name.ends_with('/') {
        return Err(ServiceError::validation(
            "Parameter name: can't be prefixed with \"ssm\" (case-insensitive). If formed as a path, it can consist \
             of sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the \
             following 3 symbols .-_",
        ));
    }
    if name.contains('/') && !name.starts_with('/') {
        return Err(ServiceError::validation("Parameter name must be a fully qualified name."));
    }
    let first = name.trim_start_matches('/').to_ascii_lowercase();
    if first.starts_with("ssm") {
        return Err(ServiceError::validation(
            "Parameter name: can't be prefixed with \"ssm\" (case-insensitive).",
        ));
    }
    if first.starts_with("aws") {
        return Err(ServiceError::access_denied(format!("No access to reserved parameter name: {name}.")));
    }
    if name.len() > NAME_MAX {
        return Err(ServiceError::validation(format!(
            "Parameter name: at most {NAME_MAX} characters are allowed."
        )));
    }
    // A path's own slash is no level.
    if name.trim_start_matches('/').split('/').count() > LEVELS_MAX {
        return Err(ServiceError::new(
            "HierarchyLevelLimitExceededException",
            format!("A hierarchy can have a maximum of {LEVELS_MAX} levels."),
            400,
        ));
    }
    Ok(())
}

/// A path as the beginning of the names below it: with one slash at its end.
pub(super) fn path(path: &str) -> Result<String, ServiceError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    if !path.starts_with('/') || path.contains("//") || !path.chars().all(plain) {
        return Err(ServiceError::validation(
            "The parameter doesn't meet the parameter name requirements. The parameter name must begin with a forward \
             slash \"/\". It can't be prefixed with \"aws\" or \"ssm\" (case-insensitive). It must use only letters, \
             numbers, or the following symbols: . (period), - (hyphen), _ (underscore). Special characters are not \
             allowed. All sub-paths, if specified, must use the forward slash symbol \"/\". Valid example: /get/parameters2-/by1./path0_.",
        ));
    }
    Ok(format!("{}/", path.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_follows_the_name_even_of_an_arn() {
        let arn = "arn:aws:ssm:eu-west-1:123456789012:parameter/a/b";
        for (text, id, version) in [
            ("/a/b", "/a/b", None),
            ("/a/b:3", "/a/b", Some(3)),
            (arn, arn, None),
            (&format!("{arn}:12"), arn, Some(12)),
        ] {
            assert_eq!(Asked::parse(text).unwrap(), Asked { id: id.into(), version }, "{text}");
        }
        for label in ["a:prod", "a:", "a:0", "a:1:2"] {
            assert!(Asked::parse(label).unwrap_err().message.contains("not available"), "{label}");
        }
    }

    #[test]
    fn names_keep_to_the_rules() {
        let deep = "/a".repeat(15);
        for name in ["a", "/a", "/a/b.c-d_e/F", "my-ssm", deep.as_str()] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let (deeper, long) = (format!("{deep}/a"), "n".repeat(1012));
        for (name, code) in [
            ("a b", "ValidationException"),
            ("a/b", "ValidationException"),
            ("/a//b", "ValidationException"),
            ("/a/", "ValidationException"),
            ("/", "ValidationException"),
            ("SSM-x", "ValidationException"),
            ("/ssm/x", "ValidationException"),
            ("aws-x", "AccessDeniedException"),
            ("/AWS/x", "AccessDeniedException"),
            (&deeper, "HierarchyLevelLimitExceededException"),
            (&long, "ValidationException"),
        ] {
            assert_eq!(check(name).unwrap_err().code, code, "{name}");
        }
    }

    #[test]
    fn a_path_ends_in_one_slash() {
        for (given, expect) in [("/", "/"), ("/a", "/a/"), ("/a/b/", "/a/b/")] {
            assert_eq!(path(given).unwrap(), expect);
        }
        for wrong in ["a", "", "/a//b", "/a b"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
