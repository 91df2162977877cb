//! Caches as objects: `<prefix>/<scope>` is the entry that every build replaces, `<prefix>/<scope>/<version>/<key>` one that never
//! changes. An object is an archive (see `archive`), complete or absent.

use std::path::{Path, PathBuf};

use super::{Scope, Wanted, digest};

/// A scope's entries in a bucket: what they are called.
#[derive(Debug, Clone)]
pub(crate) struct Archives {
    /// Of the object store that has the bucket if it is not elsewhere.
    pub(crate) root: PathBuf,
    pub(crate) bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    scope: String,
}

impl Archives {
    pub(crate) fn new(root: &Path, bucket: &str, prefix: &str, scope: &Scope) -> Archives {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Archives { root: root.to_owned(), bucket: bucket.to_owned(), prefix, scope: scope.id() }
    }

    /// How the keys begin that would do instead, the best first.
    pub(crate) fn beginnings(&self, wanted: &Wanted) -> Vec<String> {
        let keyed = self.keyed(&wanted.version);
        wanted.fallback_keys.iter().map(|beginning| format!("{keyed}{beginning}")).collect()
    }

    /// As shown in the log.
    pub(crate) fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.bucket)
    }

    pub(crate) fn name(&self, wanted: &Wanted) -> String {
        match &wanted.key {
            None => format!("{}{}", self.prefix, self.scope),
            Some(key) => format!("{}{key}", self.keyed(&wanted.version)),
        }
    }

    /// Where entries with keys are, in a folder that no entry without one is named like.
    fn keyed(&self, version: &str) -> String {
        format!("{}{}/{version}/", self.prefix, &digest(&[&self.scope, "keyed"])[..32])
    }
}
