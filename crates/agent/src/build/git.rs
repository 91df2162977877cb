//! `env.git-credential-helper`: git inside the build gets the credentials that the driver sent (BS-055).
//!
//! The credentials are in a script in memory, and git hears of it through its environment, so that the user's own
//! configuration, which git asks first, stays as it is.

use std::collections::BTreeMap;

use buildspec::Buildspec;

use super::layout::SCRIPTS;
use super::{Build, Ended};
use crate::answer::GitCredential;
use crate::session::Halt;
use crate::shell::{GIT_CREDENTIALS, quote};

const NAME: &str = "git-credential-codebuild";

impl Build<'_> {
    pub(super) fn install_git_credentials(&mut self, spec: &Buildspec) -> Result<Ended, Halt> {
        if !spec.env.git_credential_helper {
            return Ok(Ok(()));
        }
        let script = script(&self.fetched.git);
        self.place_inside(SCRIPTS, NAME, 0o755, script.as_bytes())
    }
}

/// Adds the credential source to what `variables` configure already.
pub(super) fn configure(variables: &mut BTreeMap<String, String>) {
    let count: u32 = variables.get("GIT_CONFIG_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
    variables.insert("GIT_CONFIG_COUNT".into(), (count + 1).to_string());
    variables.insert(format!("GIT_CONFIG_KEY_{count}"), "credential.helper".into());
    variables.insert(format!("GIT_CONFIG_VALUE_{count}"), GIT_CREDENTIALS.into());
}

/// Answers git's `get` with the credential whose URL is the longest that fits.
fn script(credentials: &[GitCredential]) -> String {
    let mut credentials: Vec<&GitCredential> = credentials.iter().collect();
    credentials.sort_by_key(|credential| std::cmp::Reverse(credential.url.len()));
    let mut text = String::from(
        "#!/bin/sh\n\
         [ \"$1\" = get ] || exit 0\n\
         protocol= host= path=\n\
         while IFS= read -r line && [ -n \"$line\" ]; do\n\
         case $line in\n\
         protocol=*) protocol=${line#*=} ;;\n\
         host=*) host=${line#*=} ;;\n\
         path=*) path=${line#*=} ;;\n\
         esac\n\
         done\n\
         case $protocol://$host/$path in\n",
    );
    for GitCredential { url, username, password } in credentials {
        let url = quote(url.trim_end_matches('/'));
        let (username, password) = (quote(username), quote(password));
        text.push_str(&format!("{url}/*) printf 'username=%s\\npassword=%s\\n' {username} {password} ;;\n"));
    }
    text.push_str("esac\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[track_caller]
    fn check(question: &str, expect: &str) {
        let credential = |url: &str, username: &str, password: &str| GitCredential {
            url: url.into(),
            username: username.into(),
            password: password.into(),
        };
        let script = script(&[
            credential("https://git.example", "all", "it's $HOME"),
            credential("https://git.example/team/", "team", "t"),
        ]);
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "helper", "get"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = shell.spawn().unwrap();
        running.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
        let output = running.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expect);
    }

    #[test]
    fn git_gets_the_credential_of_its_host() {
        // BS-055
        check("protocol=https\nhost=git.example\n\n", "username=all\npassword=it's $HOME\n");
        check("protocol=https\nhost=git.example\npath=team/x.git\n\n", "username=team\npassword=t\n");
        check("protocol=https\nhost=git.example.evil\n\n", "");
        check("protocol=http\nhost=git.example\n\n", "");
    }

    #[test]
    fn the_users_own_configuration_stays() {
        // BS-055
        let mut variables = BTreeMap::from([
            ("GIT_CONFIG_COUNT".to_owned(), "1".to_owned()),
            ("GIT_CONFIG_KEY_0".into(), "user.name".into()),
        ]);
        configure(&mut variables);
        assert_eq!(variables["GIT_CONFIG_COUNT"], "2");
        assert_eq!(variables["GIT_CONFIG_KEY_0"], "user.name");
        assert_eq!(variables["GIT_CONFIG_KEY_1"], "credential.helper");
    }
}
