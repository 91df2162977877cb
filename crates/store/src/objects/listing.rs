//! Listing keys in UTF-8 byte order, reading only folders that can hold keys of the page.

use std::fs::File;

use rustix::fd::OwnedFd;
use rustix::fs::FileType;

use super::path::{KeyPath, Name};
use super::{ObjectInfo, attributes, tree};
use crate::error::Result;

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub objects: Vec<ObjectInfo>,
    pub common_prefixes: Vec<String>,
    /// There is more; only then `next` is there.
    pub truncated: bool,
    /// The last key or common prefix of this page: `start_after` of the next.
    pub next: Option<String>,
}

pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) start_after: Option<&'a str>,
    pub(super) max_keys: usize,
}

impl Query<'_> {
    /// The common prefix that stands for this key, or for all keys of this folder.
    fn rolled_up<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter?;
        let at = key.strip_prefix(self.prefix)?.find(delimiter)?;
        Some(&key[..self.prefix.len() + at + delimiter.len()])
    }

    /// Whether the page that ended at `start_after` leaves the rest of this folder to us.
    fn starts_inside(&self, folder: &str) -> bool {
        self.start_after.is_some_and(|after| after.starts_with(folder))
    }

    fn wants(&self, entry: &Entry) -> bool {
        let after = |after: &str| entry.key.as_str() > after;
        if entry.kind == Kind::Folder {
            return (entry.key.starts_with(self.prefix) || self.prefix.starts_with(&entry.key))
                && (self.start_after.is_none_or(after) || self.starts_inside(&entry.key));
        }
        entry.key.starts_with(self.prefix) && self.start_after.is_none_or(after)
    }
}

pub(super) fn list(bucket: OwnedFd, query: &Query<'_>) -> Result<Listing> {
    let mut page = Page { listing: Listing::default(), left: query.max_keys };
    let mut walk = Walk::begin(bucket, query)?;
    while page.listing.truncated || query.max_keys > 0 {
        let Some((key, found)) = walk.next(query)? else { break };
        let goes_on = match (query.rolled_up(&key), found) {
            (Some(common), Found::Object(_)) => {
                let goes_on = page.add_prefix(common, query);
                walk.skip = Some(common.to_owned());
                goes_on
            }
            (Some(common), Found::Folder(folder)) if !query.starts_inside(&key) => {
                if !tree::has_objects(&folder)? {
                    continue;
                }
                let goes_on = page.add_prefix(common, query);
                walk.skip = Some(common.to_owned());
                goes_on
            }
            (_, Found::Folder(folder)) => {
                walk.enter(folder, key)?;
                true
            }
            (None, Found::Object(file)) => page.add_object(&file, &key)?,
        };
        if !goes_on {
            break;
        }
    }
    Ok(page.finish())
}

struct Page {
    listing: Listing,
    left: usize,
}

impl Page {
    /// False if there is no room: the page is full and there is more.
    fn add(&mut self, text: &str) -> bool {
        if self.left == 0 {
            self.listing.truncated = true;
            return false;
        }
        self.left -= 1;
        self.listing.next = Some(text.to_owned());
        true
    }

    fn add_prefix(&mut self, common: &str, query: &Query<'_>) -> bool {
        // The page before ended with this common prefix.
        if query.start_after == Some(common) {
            return true;
        }
        let added = self.add(common);
        if added {
            self.listing.common_prefixes.push(common.to_owned());
        }
        added
    }

    fn add_object(&mut self, file: &File, key: &str) -> Result<bool> {
        let added = self.add(key);
        if added {
            self.listing.objects.push(attributes::describe(file, key)?);
        }
        Ok(added)
    }

    fn finish(mut self) -> Listing {
        if !self.listing.truncated {
            self.listing.next = None;
        }
        self.listing
    }
}

enum Found {
    Object(File),
    /// A folder whose keys begin with the text found, slash and all. It may hold none.
    Folder(OwnedFd),
}

/// A walk through a bucket in key order: the folders open now, each with the entries still to visit, last first.
struct Walk {
    open: Vec<(OwnedFd, Vec<Entry>)>,
    /// Keys that begin so are done with.
    skip: Option<String>,
}

struct Entry {
    /// The key; of a folder, what its keys begin with.
    key: String,
    /// Relative to the folder it was found in.
    path: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A plain file, or the object inside the folder of that name, if there is one.
    Object,
    Folder,
}

impl Walk {
    /// Begins in the deepest folder that the prefix leads to.
    fn begin(bucket: OwnedFd, query: &Query<'_>) -> Result<Walk> {
        let mut walk = Walk { open: Vec::new(), skip: None };
        match query.prefix.rfind('/') {
            None => walk.enter(bucket, String::new())?,
            Some(at) => {
                let prefix = &query.prefix[..=at];
                // A prefix longer than any key begins none.
                let Ok(path) = KeyPath::of_folder(prefix) else { return Ok(walk) };
                if let Some(folder) = tree::open_folder_at(bucket, &path)? {
                    walk.enter(folder, prefix.to_owned())?;
                }
            }
        }
        Ok(walk)
    }

    fn enter(&mut self, folder: OwnedFd, prefix: String) -> Result<()> {
        let mut entries = Vec::new();
        collect(&folder, &prefix, "", &mut entries)?;
        entries.sort_unstable_by(|a, b| b.key.cmp(&a.key));
        self.open.push((folder, entries));
        Ok(())
    }

    fn next(&mut self, query: &Query<'_>) -> Result<Option<(String, Found)>> {
        while let Some((folder, entries)) = self.open.last_mut() {
            let Some(entry) = entries.pop() else {
                self.open.pop();
                continue;
            };
            let skipped = self.skip.as_ref().is_some_and(|skip| entry.key.starts_with(skip));
            if skipped || !query.wants(&entry) {
                continue;
            }
            // What was deleted since the folder was read is not found any more.
            let found = match entry.kind {
                Kind::Object => tree::open_file_or_folders_object(folder, &entry.path)?.map(Found::Object),
                Kind::Folder => tree::open_folder(folder, &entry.path)?.map(Found::Folder),
            };
            if let Some(found) = found {
                return Ok(Some((entry.key, found)));
            }
        }
        Ok(None)
    }
}

/// The entries of a folder, and of those that hold the rest of long components: their keys lie among the others.
fn collect(folder: &OwnedFd, prefix: &str, path: &str, entries: &mut Vec<Entry>) -> Result<()> {
    for entry in tree::entries(folder)? {
        let Some(name) = entry.text() else { continue };
        let path = format!("{path}{name}");
        match Name::parse(name) {
            None => {}
            Some(Name::Beginning(piece)) => {
                if let Some(inside) = tree::open_folder(folder, name)? {
                    collect(&inside, &format!("{prefix}{piece}"), &format!("{path}/"), entries)?;
                }
            }
            Some(Name::Component(component)) => {
                let key = format!("{prefix}{component}");
                if matches!(entry.kind, FileType::Directory | FileType::Unknown) {
                    entries.push(Entry { key: format!("{key}/"), path: path.clone(), kind: Kind::Folder });
                }
                if matches!(entry.kind, FileType::Directory | FileType::Unknown | FileType::RegularFile) {
                    entries.push(Entry { key, path, kind: Kind::Object });
                }
            }
        }
    }
    Ok(())
}
