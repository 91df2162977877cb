//! References to secrets: `secret-id:json-key:version-stage:version-id`. Fetching them happens elsewhere.

/// What `env.secrets-manager` and variables of type `SECRETS_MANAGER` name (BS-049, BS-050).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretReference {
    /// Name or ARN of the secret.
    pub secret_id: String,
    /// Key of a JSON secret; `None` is the whole secret.
    pub json_key: Option<String>,
    /// Version by stage; where neither stage nor id is given, `AWSCURRENT` is meant.
    pub version_stage: Option<String>,
    /// Version by id.
    pub version_id: Option<String>,
}

impl SecretReference {
    /// Colons inside a secret's ARN: `arn:partition:secretsmanager:region:account:secret:name`.
    const ARN_COLONS: usize = 6;

    /// Takes a reference apart; empty parts count as not given. `None`: no secret is named, the ARN is not
    /// whole, or there are more parts than four.
    pub fn parse(text: &str) -> Option<SecretReference> {
        let (secret_id, rest) = split_secret_id(text)?;
        if secret_id.is_empty() {
            return None;
        }
        let mut parts = rest.split(':').map(|part| (!part.is_empty()).then(|| part.to_owned()));
        let reference = SecretReference {
            secret_id: secret_id.to_owned(),
            json_key: parts.next().flatten(),
            version_stage: parts.next().flatten(),
            version_id: parts.next().flatten(),
        };
        parts.next().is_none().then_some(reference)
    }
}

/// COMPAT: BS-049 an ARN holds colons itself, so the id ends at the seventh, not at the first.
fn split_secret_id(text: &str) -> Option<(&str, &str)> {
    let colons_inside = if text.starts_with("arn:") { SecretReference::ARN_COLONS } else { 0 };
    let mut colons = text.match_indices(':').map(|(at, _)| at).skip(colons_inside.saturating_sub(1));
    if colons_inside > 0 {
        let last_inside = colons.next()?;
        if matches!(text.as_bytes().get(last_inside + 1), None | Some(b':')) {
            return None;
        }
    }
    Some(match colons.next() {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    })
}

#[cfg(test)]
mod tests {
    use super::SecretReference;

    #[track_caller]
    fn check(text: &str, expect: Option<[&str; 4]>) {
        let parts = SecretReference::parse(text).map(|reference| {
            let part = |part: Option<String>| part.unwrap_or_default();
            [
                reference.secret_id,
                part(reference.json_key),
                part(reference.version_stage),
                part(reference.version_id),
            ]
        });
        assert_eq!(parts, expect.map(|parts| parts.map(str::to_owned)), "{text}");
    }

    #[test]
    fn a_named_secret_is_split_at_its_colons() {
        check("db", Some(["db", "", "", ""]));
        check("prod/db:password", Some(["prod/db", "password", "", ""]));
        check("db:password:AWSPREVIOUS", Some(["db", "password", "AWSPREVIOUS", ""]));
        check("db:password::11-22", Some(["db", "password", "", "11-22"]));
        check("db::AWSCURRENT", Some(["db", "", "AWSCURRENT", ""]));
        check("db:::", Some(["db", "", "", ""]));
        check("db:a:b:c:d", None);
        check("db::::", None);
        check("", None);
        check(":key", None);
    }

    #[test]
    fn an_arn_keeps_its_own_colons() {
        let arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:prod/db-AbCdEf";
        check(arn, Some([arn, "", "", ""]));
        check(&format!("{arn}:password"), Some([arn, "password", "", ""]));
        check(&format!("{arn}:password:AWSPENDING"), Some([arn, "password", "AWSPENDING", ""]));
        check(&format!("{arn}:::v1"), Some([arn, "", "", "v1"]));
        check(&format!("{arn}:a:b:c:d"), None);
        check("arn:aws:secretsmanager:eu-west-1:111122223333:secret", None);
        check("arn:aws:secretsmanager:eu-west-1:111122223333:secret:", None);
        check("arn:aws:secretsmanager:eu-west-1:111122223333:secret::key", None);
        check("arn:", None);
    }
}
