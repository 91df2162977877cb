//! How the model's names are written in Rust.

/// `timeoutInMinutes` -> `timeout_in_minutes`, `S3LogsConfig` -> `s3_logs_config`.
pub(super) fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, letter) in letters.iter().enumerate() {
        if i > 0 && starts_word(&letters, i) {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

fn starts_word(letters: &[char], i: usize) -> bool {
    let after_small = !letters[i - 1].is_ascii_uppercase();
    let before_small = letters.get(i + 1).is_some_and(char::is_ascii_lowercase);
    letters[i].is_ascii_uppercase() && (after_small || before_small)
}

/// The static that holds a shape: `BuildIds` -> `BUILD_IDS`.
pub(super) fn constant(name: &str) -> String {
    snake(name).to_ascii_uppercase()
}

/// A structure's field; Rust's keywords are escaped.
pub(super) fn field(name: &str) -> String {
    match snake(name) {
        keyword if keyword == "type" => format!("r#{keyword}"),
        plain => plain,
    }
}

/// What serde's `rename_all = "camelCase"` makes of a field, to know when it needs help.
pub(super) fn serde_camel(field: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for letter in field.trim_start_matches("r#").chars() {
        match letter {
            '_' => upper = true,
            _ if upper => {
                out.push(letter.to_ascii_uppercase());
                upper = false;
            }
            _ => out.push(letter),
        }
    }
    out
}

/// `IN_PROGRESS` -> `InProgress`, `LogStreamName` stays, `BUILD_GENERAL1_2XLARGE` -> `BuildGeneral1_2xlarge`.
pub(super) fn variant(value: &str) -> String {
    let mut out = String::new();
    for word in value.split(|letter: char| !letter.is_ascii_alphanumeric()) {
        let between_digits =
            out.ends_with(|c: char| c.is_ascii_digit()) && word.starts_with(|c: char| c.is_ascii_digit());
        if between_digits {
            out.push('_');
        }
        out.push_str(&title(word));
    }
    out
}

fn title(word: &str) -> String {
    let shouted = !word.chars().any(|letter| letter.is_ascii_lowercase());
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let rest = letters.map(|letter| if shouted { letter.to_ascii_lowercase() } else { letter });
    first.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_become_snake_case_and_serde_can_find_the_way_back() {
        for (name, expect) in [
            ("timeoutInMinutes", "timeout_in_minutes"),
            ("s3Logs", "s3_logs"),
            ("md5sum", "md5sum"),
            ("type", "r#type"),
            ("securityGroupIds", "security_group_ids"),
        ] {
            assert_eq!(field(name), expect);
            assert_eq!(serde_camel(expect), name);
        }
        assert_ne!(serde_camel(&field("UserId")), "UserId");
    }

    #[test]
    fn acronyms_stay_one_word() {
        assert_eq!(constant("S3LogsConfig"), "S3_LOGS_CONFIG");
        assert_eq!(constant("SSEAlgorithm"), "SSE_ALGORITHM");
    }

    #[test]
    fn enum_values_become_variants() {
        for (value, expect) in [
            ("IN_PROGRESS", "InProgress"),
            ("BUILD_GENERAL1_2XLARGE", "BuildGeneral1_2xlarge"),
            ("LogStreamName", "LogStreamName"),
            ("WINDOWS_SERVER_2019_CONTAINER", "WindowsServer2019Container"),
        ] {
            assert_eq!(variant(value), expect);
        }
    }
}
