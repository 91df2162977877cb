//! What a project's `source.buildspec` or a `buildspecOverride` says: where the buildspec is.

/// Where a buildspec comes from (BS-002).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A path relative to the primary source.
    File(&'a str),
    /// The buildspec's text itself.
    Inline(&'a str),
    /// The ARN of an S3 object.
    Object(&'a str),
}

impl<'a> Origin<'a> {
    /// The file used when nothing is said (BS-001).
    pub const DEFAULT_FILE: &'static str = "buildspec.yml";

    /// Tells the three apart; the service's own rule is not published.
    ///
    /// COMPAT: BS-003 an ARN is an object; several lines, `version:` or a brace begin inline text; the rest is
    /// a path, and no text at all is the default file.
    pub fn of(value: &'a str) -> Origin<'a> {
        let trimmed = value.trim();
        if trimmed.is_empty() {
            Origin::File(Self::DEFAULT_FILE)
        } else if trimmed.starts_with("arn:") {
            Origin::Object(trimmed)
        } else if trimmed.contains('\n') || trimmed.starts_with('{') || begins_with_version(trimmed) {
            Origin::Inline(value)
        } else {
            Origin::File(trimmed)
        }
    }
}

fn begins_with_version(text: &str) -> bool {
    let text = text.trim_start_matches(['"', '\'']);
    let Some(rest) = text.strip_prefix("version") else { return false };
    rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':')
}

#[cfg(test)]
mod tests {
    use super::Origin::{self, File, Inline, Object};

    #[track_caller]
    fn check(value: &str, expect: Origin<'_>) {
        assert_eq!(Origin::of(value), expect, "{value:?}");
    }

    // BS-001, BS-002, BS-003
    #[test]
    fn a_buildspec_value_is_a_path_an_object_or_the_text_itself() {
        check("", File("buildspec.yml"));
        check(" \n ", File("buildspec.yml"));
        check("buildspec-release.yml", File("buildspec-release.yml"));
        check("ci/build.yaml", File("ci/build.yaml"));
        check("versions/buildspec.yml", File("versions/buildspec.yml"));
        check("version.yml", File("version.yml"));
        check("arn:aws:s3:::bucket/ci/buildspec.yml", Object("arn:aws:s3:::bucket/ci/buildspec.yml"));
        check("version: 0.2", Inline("version: 0.2"));
        check("version : 0.2", Inline("version : 0.2"));
        check("version: 0.2\nphases: {}\n", Inline("version: 0.2\nphases: {}\n"));
        check("# build\nversion: 0.2", Inline("# build\nversion: 0.2"));
        check("{\"version\": \"0.2\"}", Inline("{\"version\": \"0.2\"}"));
        check("\"version\": 0.2", Inline("\"version\": 0.2"));
    }
}
