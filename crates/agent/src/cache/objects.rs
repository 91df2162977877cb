//! Caches as objects: `<prefix>/<scope>` is the entry that every build replaces, `<prefix>/<scope>/<version>/<key>` one that never
//! changes. An object is an archive (see `archive`), complete or absent.

use std::fs::File;

use store::objects::{Condition, Metadata, ObjectInfo, ObjectWriter, Objects};
use store::{Error, Result};

use super::{Scope, Wanted, digest};

/// How many entries are looked at for one fallback key.
const CANDIDATES_MAX: usize = 10_000;

/// A scope's entries in a bucket.
#[derive(Debug)]
pub(crate) struct Archives {
    objects: Objects,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    scope: String,
}

/// An entry to restore.
#[derive(Debug)]
pub(crate) struct Found {
    /// The object's key in its bucket.
    pub(crate) name: String,
    pub(crate) archive: File,
    /// It is the one that was asked for, and no fallback.
    pub(crate) is_exact: bool,
}

impl Archives {
    pub(crate) fn new(objects: Objects, bucket: &str, prefix: &str, scope: &Scope) -> Archives {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Archives { objects, bucket: bucket.to_owned(), prefix, scope: scope.id() }
    }

    /// The entry itself, or the newest that begins with a fallback key; the first fallback key that finds one decides.
    pub(crate) fn find(&self, wanted: &Wanted) -> Result<Option<Found>> {
        if let Some(found) = self.open(self.name(wanted), true)? {
            return Ok(Some(found));
        }
        for beginning in &wanted.fallback_keys {
            let newest = self.newest(&format!("{}{beginning}", self.keyed(&wanted.version)))?;
            if let Some(found) = newest.map(|name| self.open(name, false)).transpose()?.flatten() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whether there is such an entry, which must not be replaced. COMPAT: BS-152.
    pub(crate) fn is_settled(&self, wanted: &Wanted) -> Result<bool> {
        if wanted.key.is_none() {
            return Ok(false);
        }
        absent_as_none(self.objects.head(&self.bucket, &self.name(wanted))).map(|found| found.is_some())
    }

    pub(crate) fn write(&self, wanted: &Wanted) -> Result<ObjectWriter> {
        self.objects.put(&self.bucket, &self.name(wanted))
    }

    /// False if another build was first with this key.
    pub(crate) fn finish(&self, writer: ObjectWriter, wanted: &Wanted) -> Result<bool> {
        let condition = if wanted.key.is_some() { Condition::Absent } else { Condition::Any };
        let content_type = Some("application/zstd".to_owned());
        match writer.finish_if(&condition, Metadata { content_type, ..Metadata::default() }) {
            Ok(_) => Ok(true),
            Err(Error::PreconditionFailed(_)) => Ok(false),
            Err(error) => Err(error),
        }
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

    fn open(&self, name: String, is_exact: bool) -> Result<Option<Found>> {
        let found = absent_as_none(self.objects.get(&self.bucket, &name))?;
        Ok(found.map(|(archive, _)| Found { name, archive, is_exact }))
    }

    fn newest(&self, beginning: &str) -> Result<Option<String>> {
        let (mut newest, mut after): (Option<ObjectInfo>, Option<String>) = (None, None);
        let mut seen = 0;
        loop {
            let page = self.objects.list(&self.bucket, beginning, None, after.as_deref(), 1000)?;
            seen += page.objects.len();
            for object in page.objects {
                if newest.as_ref().is_none_or(|newest| object.modified > newest.modified) {
                    newest = Some(object);
                }
            }
            match page.next.filter(|_| page.truncated && seen < CANDIDATES_MAX) {
                Some(next) => after = Some(next),
                None => return Ok(newest.map(|object| object.key)),
            }
        }
    }
}

fn absent_as_none<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::NoSuchKey(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
