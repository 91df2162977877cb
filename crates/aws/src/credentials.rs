//! Who calls: an access key, and how AWS's shared credentials file spells one. Files and variables are read elsewhere.

use std::fmt;

/// An access key, temporary if it has a session token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

impl Credentials {
    /// The static key of a profile in the text of a shared credentials (or configuration) file; `None` if there is no
    /// such profile or it holds no static key, but a role or a program to run, say.
    pub fn of_profile(text: &str, profile: &str) -> Option<Credentials> {
        let access_key_id = value(text, profile, "aws_access_key_id")?;
        let secret_access_key = value(text, profile, "aws_secret_access_key")?;
        let session_token = value(text, profile, "aws_session_token");
        Some(Credentials { access_key_id, secret_access_key, session_token })
    }
}

/// The region that a profile names.
pub fn profile_region(text: &str, profile: &str) -> Option<String> {
    value(text, profile, "region")
}

/// A setting of a profile; as AWS's clients read it, the last one counts and names know no case.
fn value(text: &str, profile: &str, name: &str) -> Option<String> {
    let mut inside = false;
    let mut found = None;
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let header = header.trim();
            // `~/.aws/config` writes `[profile name]`.
            let header = header.strip_prefix("profile ").map_or(header, str::trim);
            inside = header == profile;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside)
            && key.trim().eq_ignore_ascii_case(name)
            && !value.trim().is_empty()
        {
            found = Some(value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\n[default]\naws_access_key_id = AKIDEFAULT\nAWS_SECRET_ACCESS_KEY=se/cret=+\n\n\
        [ temporary ]\naws_access_key_id=ASIATEMPORARY # for today\naws_secret_access_key = s\naws_session_token = t\n\
        [profile work]\naws_access_key_id = AKIWORK\naws_secret_access_key = w\nregion = eu-west-1\n\
        [role]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = default\n";

    #[test]
    fn a_profile_gives_its_own_static_key() {
        let of = |profile| Credentials::of_profile(FILE, profile);
        let key = of("default").unwrap();
        assert_eq!((key.access_key_id.as_str(), key.secret_access_key.as_str()), ("AKIDEFAULT", "se/cret=+"));
        assert_eq!(key.session_token, None);
        let key = of("temporary").unwrap();
        assert_eq!((key.access_key_id.as_str(), key.session_token.as_deref()), ("ASIATEMPORARY", Some("t")));
        assert_eq!(of("work").unwrap().access_key_id, "AKIWORK");
        assert_eq!(profile_region(FILE, "work").as_deref(), Some("eu-west-1"));
        assert_eq!((of("role"), of("nobody")), (None, None));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let key = Credentials::of_profile(FILE, "temporary").unwrap();
        let text = format!("{key:?}");
        assert!(text.contains("ASIATEMPORARY") && !text.contains("secret"), "{text}");
    }
}
