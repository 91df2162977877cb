//! Which cache a build has: whose it is, and which of its entries are meant. Where entries are kept is below `cache/`: as archives
//! among objects, or as layers of this host. When they are restored and saved is in `build/cache.rs`.
//!
//! Two builds meet in an entry only if all that its name is made from is the same. The server decides about account, owner, domain and
//! generation; a buildspec only about paths and keys. So no buildspec can name what another domain uses (E18).

pub(crate) mod archive;
pub mod layers;
pub(crate) mod merge;
pub(crate) mod objects;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a key, once the shell has made it.
pub const KEY_BYTES_MAX: usize = 512;

/// COMPAT: BS-157 what an S3 cache holds if the buildspec has no paths: where common tools keep what they have downloaded.
pub(crate) const COMMON_PATHS: [&str; 12] = [
    "node_modules/**/*",
    "vendor/bundle/**/*",
    "/root/.cache/go-build/**/*",
    "/root/.cache/pip/**/*",
    "/root/.cache/yarn/**/*",
    "/root/.cargo/registry/cache/**/*",
    "/root/.composer/cache/**/*",
    "/root/.gradle/caches/**/*",
    "/root/.m2/repository/**/*",
    "/root/.npm/_cacache/**/*",
    "/root/.nuget/packages/**/*",
    "/root/go/pkg/mod/**/*",
];

/// Whose cache it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    pub account: String,
    pub region: String,
    pub owner: Owner,
    /// Builds share entries only within a trust domain. The server's choice, never the build's.
    pub domain: String,
    /// Counted up by InvalidateProjectCache: entries of earlier generations are not found any more.
    pub generation: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Owner {
    Project(String),
    /// `cacheNamespace`: shared by all projects that name it.
    Namespace(String),
    /// Of a server that is not here: it has told the scope's name.
    Named(String),
}

impl Owner {
    /// The project's or the namespace's name.
    pub fn name(&self) -> &str {
        match self {
            Owner::Project(name) | Owner::Namespace(name) | Owner::Named(name) => name,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Project(name) => write!(f, "project {name}"),
            Owner::Namespace(name) => write!(f, "namespace {name}"),
            Owner::Named(name) => write!(f, "cache {name}"),
        }
    }
}

impl Scope {
    /// The scope of this name, if it is one that [`Scope::id`] gives.
    pub fn named(id: &str) -> Option<Scope> {
        let is_digit = |(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        let is_id = id.len() == 36 && id.bytes().enumerate().all(is_digit);
        is_id.then(|| Scope {
            account: String::new(),
            region: String::new(),
            owner: Owner::Named(id.to_owned()),
            domain: String::new(),
            generation: 0,
        })
    }

    /// A name that no other scope has: 32 hexadecimal digits, in the form of a uuid. COMPAT: SA-094.
    pub fn id(&self) -> String {
        let Scope { account, region, owner, domain, generation } = self;
        let (kind, name) = match owner {
            Owner::Project(name) => ("project", name),
            Owner::Namespace(name) => ("namespace", name),
            Owner::Named(id) => return id.clone(),
        };
        let digest = digest(&[account, region, kind, name, domain, &generation.to_string()]);
        format!(
            "{}-{}-{}-{}-{}",
            &digest[..8],
            &digest[8..12],
            &digest[12..16],
            &digest[16..20],
            &digest[20..32]
        )
    }

    /// The same owner's scope of an earlier generation.
    pub fn follows(&self, earlier: &Scope) -> bool {
        earlier.generation < self.generation
            && Scope { generation: self.generation, ..earlier.clone() } == *self
    }
}

/// Which entries of a scope a build can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// COMPAT: BS-155 the same key with other paths is another entry.
    pub version: String,
    /// `None`: the one entry that every build replaces. COMPAT: SA-092.
    pub key: Option<String>,
    /// Beginnings of keys, in this order. COMPAT: BS-153.
    pub fallback_keys: Vec<String>,
}

impl Wanted {
    /// Keys as the shell has made them.
    pub fn new(paths: &[String], key: Option<String>, fallback_keys: Vec<String>) -> Wanted {
        let fallback_keys = if key.is_some() { fallback_keys } else { Vec::new() };
        Wanted { version: version(paths), key, fallback_keys }
    }
}

/// COMPAT: BS-155 changes with the path list.
fn version(paths: &[String]) -> String {
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    digest(&paths)[..16].to_owned()
}

/// What is wrong with a key, if anything.
pub(crate) fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("it is empty".into());
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(format!("it has {} bytes, more than {KEY_BYTES_MAX}", key.len()));
    }
    match key.chars().find(|c| c.is_control()) {
        Some(control) => Err(format!("it has the control character {control:?}")),
        None => Ok(()),
    }
}

/// SHA-256 of the texts, each with its length, in hexadecimal digits.
pub(crate) fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The folder that a pattern of `cache.paths` lies in, as far as it has no wildcards: absolute, or below the source folder without a
/// slash before it. COMPAT: BS-151 a local cache holds folders only, so a path without wildcards names one.
pub(crate) fn folder_of(pattern: &str) -> Result<String, &'static str> {
    let is_wild = |part: &&str| part.contains(['*', '?', '[', '{', '\\']);
    let parts = pattern.split('/').take_while(|part| !is_wild(part));
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("`..` leads out of its folder");
    }
    let is_absolute = pattern.starts_with('/');
    match (parts.as_slice(), is_absolute) {
        ([], true) => Err("the root folder cannot be cached"),
        ([], false) => Err("the source folder itself cannot be cached"),
        (["proc" | "sys" | "dev" | "codebuild", ..], true) => Err("that folder is not the build's to keep"),
        (parts, true) => Ok(format!("/{}", parts.join("/"))),
        (parts, false) => Ok(parts.join("/")),
    }
}

/// Those that lie in no other of them, each once.
pub(crate) fn outermost(mut folders: Vec<String>) -> Vec<String> {
    folders.sort();
    let mut kept: Vec<String> = Vec::new();
    for folder in folders {
        if !kept.iter().any(|outer| Path::new(&folder).starts_with(outer)) {
            kept.push(folder);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            account: "123456789012".into(),
            region: "us-east-1".into(),
            owner: Owner::Project("demo".into()),
            domain: "trusted".into(),
            generation: 0,
        }
    }

    #[test]
    fn scopes_meet_only_if_all_of_them_is_the_same() {
        // BS-155, SA-093, SA-099
        let other = |change: fn(&mut Scope)| {
            let mut scope = scope();
            change(&mut scope);
            scope.id()
        };
        let ids = [
            scope().id(),
            other(|scope| scope.account = "123456789013".into()),
            other(|scope| scope.region = "eu-west-1".into()),
            other(|scope| scope.owner = Owner::Project("demo2".into())),
            other(|scope| scope.owner = Owner::Namespace("demo".into())),
            other(|scope| scope.domain = "fork".into()),
            other(|scope| scope.generation = 1),
        ];
        let different: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(different.len(), ids.len());
        assert_eq!(scope().id(), scope().id());
        assert_eq!(scope().id().len(), 36);
        // By its name it can be found from elsewhere.
        assert_eq!(Scope::named(&scope().id()).unwrap().id(), scope().id());
        for other in ["", "demo", &scope().id().to_uppercase(), &scope().id()[1..]] {
            assert!(Scope::named(other).is_none(), "{other}");
        }
    }

    #[test]
    fn texts_cannot_be_moved_from_one_part_of_a_name_to_the_next() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        let paths = |list: &[&str]| version(&list.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_ne!(paths(&["a", "b"]), paths(&["ab"]));
        assert_ne!(paths(&["a"]), paths(&["a", ""]));
    }

    #[test]
    fn a_later_generation_follows_only_the_same_scope() {
        let later = Scope { generation: 3, ..scope() };
        assert!(later.follows(&scope()) && !scope().follows(&later) && !later.follows(&later));
        assert!(!later.follows(&Scope { domain: "fork".into(), ..scope() }));
    }

    #[test]
    fn fallback_keys_need_a_key() {
        // BS-153
        assert!(Wanted::new(&[], None, vec!["npm-".into()]).fallback_keys.is_empty());
        assert_eq!(Wanted::new(&[], Some("k".into()), vec!["npm-".into()]).fallback_keys, ["npm-"]);
    }

    #[test]
    fn a_pattern_has_the_folder_before_its_wildcards() {
        // BS-151
        for (pattern, expect) in [
            ("/root/.m2/**/*", Ok("/root/.m2")),
            ("node_modules/**/*", Ok("node_modules")),
            ("./target//x/*.jar", Ok("target/x")),
            ("vendor", Ok("vendor")),
            ("vendor/", Ok("vendor")),
        ] {
            assert_eq!(folder_of(pattern), expect.map(str::to_owned), "{pattern}");
        }
        for pattern in
            ["**/*", "./*", "/**/*", "/", "../x/**/*", "a/../../x", "/proc/1/**/*", "/codebuild/output/**"]
        {
            assert!(folder_of(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn folders_within_others_go_with_them() {
        let folders = ["a/b", "a", "ab", "/root/.m2/x", "/root/.m2", "a"].map(str::to_owned).into();
        assert_eq!(outermost(folders), ["/root/.m2", "a", "ab"]);
    }

    #[test]
    fn keys_that_no_object_can_have_are_refused() {
        assert!(check_key("npm-0a/b c").is_ok());
        for bad in [String::new(), "a\nb".into(), "x".repeat(KEY_BYTES_MAX + 1)] {
            assert!(check_key(&bad).is_err(), "{bad:?}");
        }
    }
}
