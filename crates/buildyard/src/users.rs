//! Who may ask the server for what, as the configuration says: accounts, users, their access keys and policies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use access::{Policy, Principal, Rights, limits};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::credentials::{AccessKey, BASE32};

/// The name of the user who may do everything in the default account, and whose key is the first.
pub(crate) const ADMIN: &str = "admin";

/// `[[users]]` of `buildyard.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserSetting {
    name: String,
    /// The default one if there is none.
    account: Option<String>,
    /// Files with policies, from the configuration's folder.
    #[serde(default)]
    policies: Vec<PathBuf>,
    /// A policy here and now.
    policy: Option<String>,
    #[serde(default)]
    keys: Vec<KeySetting>,
}

/// `[[roles]]`: what builds may do whose project has this service role.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleSetting {
    /// As in the role's ARN, without its path.
    name: String,
    /// The default one if there is none.
    account: Option<String>,
    /// Files with policies, from the configuration's folder.
    #[serde(default)]
    policies: Vec<PathBuf>,
    /// A policy here and now.
    policy: Option<String>,
}

/// `[[users.keys]]`. The secret itself is never in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySetting {
    id: String,
    secret_file: Option<PathBuf>,
    secret_variable: Option<String>,
}

/// A user, checked.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) policies: Vec<Policy>,
    pub(crate) keys: Vec<AccessKey>,
}

/// All accounts and users that the configuration has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users {
    /// The first is the default.
    pub(crate) accounts: Vec<String>,
    pub(crate) users: Vec<User>,
    /// By account and name.
    pub(crate) roles: BTreeMap<(String, String), Vec<Policy>>,
    /// Environment variables that hold secrets of access keys, for nobody else to see.
    pub(crate) secret_variables: Vec<String>,
}

/// Accounts and users as the configuration has them; what they refer to is not read yet.
#[derive(Debug, Default)]
pub(crate) struct UserSettings {
    pub(crate) accounts: Vec<String>,
    pub(crate) users: Vec<UserSetting>,
    pub(crate) roles: Vec<RoleSetting>,
    /// The configuration's.
    pub(crate) folder: PathBuf,
}

impl UserSettings {
    /// Reads the files and variables that are referred to.
    pub(crate) fn read(self, default_account: &str) -> Result<Users, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let places = Places { folder: &self.folder, variable: &variable };
        Users::read(default_account, self.accounts, self.users, self.roles, &places)
    }
}

/// Where settings of users refer to: files from this folder, variables of this environment.
struct Places<'a> {
    folder: &'a Path,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Users {
    /// Reads what the settings refer to; an error names user, key and rule.
    fn read(
        default_account: &str,
        further: Vec<String>,
        users: Vec<UserSetting>,
        roles: Vec<RoleSetting>,
        places: &Places<'_>,
    ) -> Result<Users, String> {
        let mut accounts = vec![default_account.to_owned()];
        for account in further {
            if !is_account(&account) {
                return Err(format!("accounts: `{account}` is not twelve digits"));
            }
            if !accounts.contains(&account) {
                accounts.push(account);
            }
        }
        let mut all = Users { accounts, ..Users::default() };
        let mut ids = BTreeSet::new();
        for setting in users {
            let variables = setting.keys.iter().filter_map(|key| key.secret_variable.clone());
            all.secret_variables.extend(variables);
            let user = setting.checked(&all, places)?;
            if let Some(key) = user.keys.iter().find(|key| !ids.insert(key.id.clone())) {
                return Err(format!("users: access key {} is there twice", key.id));
            }
            all.users.push(user);
        }
        for role in roles {
            let (key, policies) = role.checked(&all, places)?;
            if all.roles.contains_key(&key) {
                return Err(format!("roles: {}: account {} has this role already", key.1, key.0));
            }
            all.roles.insert(key, policies);
        }
        Ok(all)
    }

    /// The user of that name in the account.
    pub(crate) fn find(&self, account: &str, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.account == account && user.name == name)
    }

    /// What a user may do: by the configuration, and by a policy that one of its keys carries.
    pub(crate) fn rights(&self, account: &str, name: &str, of_key: Option<Policy>) -> Rights {
        let principal = principal(account, name);
        if account == self.accounts[0] && name == ADMIN && of_key.is_none() {
            return Rights::everything(principal);
        }
        let configured = self.find(account, name).map(|user| user.policies.clone()).unwrap_or_default();
        Rights::new(principal, configured.into_iter().chain(of_key).collect::<Vec<_>>())
    }

    /// # Errors
    /// If there is no such account.
    pub(crate) fn check_account(&self, account: &str) -> Result<(), String> {
        match self.accounts.iter().any(|known| known == account) {
            true => Ok(()),
            false => Err(format!(
                "there is no account {account}; `accounts` of the configuration has those there are: {}",
                self.accounts.join(", ")
            )),
        }
    }
}

impl UserSetting {
    fn checked(self, all: &Users, places: &Places<'_>) -> Result<User, String> {
        let account = self.account.unwrap_or_else(|| all.accounts[0].clone());
        check_name(&self.name).map_err(|rule| format!("users: name `{}` {rule}", self.name))?;
        let wrong = |what: &dyn fmt::Display| format!("users: {}: {what}", self.name);
        all.check_account(&account).map_err(|e| wrong(&e))?;
        if all.find(&account, &self.name).is_some() || (account == all.accounts[0] && self.name == ADMIN) {
            return Err(wrong(&format_args!("account {account} has this user already")));
        }
        let policies = places.policies(&self.policies, self.policy.as_deref()).map_err(|e| wrong(&e))?;
        let keys = self.keys.iter().map(|key| key.read(places));
        let keys = keys.collect::<Result<_, _>>().map_err(|e| wrong(&e))?;
        Ok(User { account, name: self.name, policies, keys })
    }
}

impl RoleSetting {
    fn checked(self, all: &Users, places: &Places<'_>) -> Result<((String, String), Vec<Policy>), String> {
        let account = self.account.unwrap_or_else(|| all.accounts[0].clone());
        check_name(&self.name).map_err(|rule| format!("roles: name `{}` {rule}", self.name))?;
        let wrong = |what: String| format!("roles: {}: {what}", self.name);
        all.check_account(&account).map_err(wrong)?;
        let policies = places.policies(&self.policies, self.policy.as_deref()).map_err(wrong)?;
        Ok(((account, self.name), policies))
    }
}

impl Places<'_> {
    /// Those in the files, and the one that is written out.
    fn policies(&self, files: &[PathBuf], written: Option<&str>) -> Result<Vec<Policy>, String> {
        let mut policies = Vec::new();
        for path in files.iter().map(|path| self.folder.join(path)) {
            let wrong = |e: &dyn fmt::Display| format!("policy {}: {e}", path.display());
            let text = std::fs::read_to_string(&path).map_err(|e| wrong(&e))?;
            policies.push(Policy::of_user(&text).map_err(|e| wrong(&e))?);
        }
        if let Some(text) = written {
            policies.push(Policy::of_user(text).map_err(|e| format!("policy: {e}"))?);
        }
        if policies.len() > limits::POLICIES {
            return Err(format!("at most {} policies are allowed", limits::POLICIES));
        }
        Ok(policies)
    }
}

impl KeySetting {
    fn read(&self, places: &Places<'_>) -> Result<AccessKey, String> {
        let id = &self.id;
        if !(4..=128).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(format!("access key `{id}` may hold only letters and digits, 4 to 128"));
        }
        let secret = match (&self.secret_file, &self.secret_variable) {
            (Some(path), None) => {
                let path = places.folder.join(path);
                std::fs::read_to_string(&path)
                    .map_err(|e| format!("secret of access key {id} in {}: {e}", path.display()))?
            }
            (None, Some(name)) => (places.variable)(name)
                .ok_or_else(|| format!("secret of access key {id}: the variable {name} is not set"))?,
            _ => return Err(format!("access key {id} needs either secret_file or secret_variable")),
        };
        match secret.trim() {
            "" => Err(format!("the secret of access key {id} is empty")),
            secret => Ok(AccessKey { id: id.clone(), secret: secret.to_owned() }),
        }
    }
}

/// COMPAT: the names that IAM allows.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    match (1..=64).contains(&name.len()) && name.bytes().all(letters) {
        true => Ok(()),
        false => Err("may hold only letters, digits and +=,.@_-, at most 64"),
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn principal(account: &str, name: &str) -> Principal {
    Principal {
        account: account.to_owned(),
        arn: format!("arn:aws:iam::{account}:user/{name}"),
        user_id: user_id(account, name),
    }
}

/// Like AWS's ids of users, and always the same for the same user.
fn user_id(account: &str, name: &str) -> String {
    if name == ADMIN {
        return "AIDABUILDYARDADMIN000".to_owned();
    }
    let digest = Sha256::digest(format!("{account}/{name}"));
    let id = digest.iter().take(17).map(|byte| char::from(BASE32[usize::from(byte % 32)]));
    format!("AIDA{}", id.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str =
        r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#;

    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        accounts: Vec<String>,
        #[serde(default)]
        users: Vec<UserSetting>,
        #[serde(default)]
        roles: Vec<RoleSetting>,
    }

    fn users(text: &str) -> Result<Users, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("all.json"), ALL).unwrap();
        std::fs::write(folder.path().join("odd.json"), "{}").unwrap();
        std::fs::write(folder.path().join("secret"), "from the file\n").unwrap();
        let variable = |name: &str| (name == "SECRET").then(|| "from the variable".to_owned());
        let File { accounts, users, roles } = toml::from_str(text).unwrap();
        let places = Places { folder: folder.path(), variable: &variable };
        Users::read("111122223333", accounts, users, roles, &places)
    }

    #[test]
    fn users_have_accounts_policies_and_keys_whose_secrets_are_elsewhere() {
        let users = users(
            "accounts = ['444455556666']\n\
             [[users]]\nname = 'ci'\naccount = '444455556666'\npolicies = ['all.json']\n\
             keys = [{ id = 'AKIAONE', secret_file = 'secret' }, { id = 'AKIATWO', secret_variable = 'SECRET' }]\n\
             [[users]]\nname = 'ci'\n",
        )
        .unwrap();
        let ci = users.find("444455556666", "ci").unwrap();
        let secrets: Vec<&str> = ci.keys.iter().map(|key| key.secret.as_str()).collect();
        assert_eq!(secrets, ["from the file", "from the variable"]);
        let request = access::Request::new("codebuild:ListProjects", "*");
        assert!(users.rights("444455556666", "ci", None).may(&request).is_ok());
        assert!(users.rights("111122223333", "ci", None).may(&request).is_err());
        assert!(users.rights("111122223333", "admin", None).may(&request).is_ok());
        assert!(users.rights("444455556666", "admin", None).may(&request).is_err());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expect) in [
            ("accounts = ['1']", "`1` is not twelve digits"),
            ("[[users]]\nname = 'a b'", "`a b`"),
            ("[[roles]]\nname = 'a b'", "`a b`"),
            ("[[roles]]\nname = 'a'\n[[roles]]\nname = 'a'", "already"),
            ("[[roles]]\nname = 'a'\naccount = '999999999999'", "no account 999999999999"),
            ("[[roles]]\nname = 'a'\npolicies = ['odd.json']", "no Statement"),
            ("[[users]]\nname = 'admin'", "already"),
            ("[[users]]\nname = 'a'\n[[users]]\nname = 'a'", "already"),
            ("[[users]]\nname = 'a'\naccount = '999999999999'", "no account 999999999999"),
            ("[[users]]\nname = 'a'\npolicies = ['none.json']", "none.json"),
            ("[[users]]\nname = 'a'\npolicies = ['odd.json']", "no Statement"),
            ("[[users]]\nname = 'a'\npolicy = '[]'", "no object"),
            ("[[users]]\nname = 'a'\nkeys = [{ id = 'AKIAONE' }]", "either secret_file or secret_variable"),
            (
                "[[users]]\nname = 'a'\nkeys = [{ id = 'AKIA-1', secret_file = 'secret' }]",
                "letters and digits",
            ),
            (
                "[[users]]\nname = 'a'\nkeys = [{ id = 'AKIAONE', secret_variable = 'NONE' }]",
                "NONE is not set",
            ),
            (
                "[[users]]\nname = 'a'\nkeys = [{ id = 'AKIA', secret_file = 'secret' }, { id = 'AKIA', secret_file = 'secret' }]",
                "twice",
            ),
        ] {
            let message = users(text).unwrap_err();
            assert!(message.contains(expect), "{text}: {message}");
        }
    }
}
