//! The build's cache: restored in DOWNLOAD_SOURCE, saved in UPLOAD_ARTIFACTS, or by FINALIZING where what was written is kept as it is.
//! Nothing that goes wrong with a cache fails a build. COMPAT: SA-095.
//!
//! What an entry is called and where it is kept is in [`crate::cache`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use buildspec::{Buildspec, CacheAction};
use container::{ExitStatus, LateOverlay};
use store::objects::Metadata;

use super::{Build, Ended};
use crate::cache::layers::{Layer, Layers, Written};
use crate::cache::objects::Archives;
use crate::cache::{COMMON_PATHS, Wanted, archive, check_key, digest, folder_of, outermost};
use crate::objects::Parcel;
use crate::plan::{self, Trust};
use crate::session::Halt;
use crate::snapshots::CachedFolder;
use crate::stream::{Decoder, Item, Record};
use crate::transfer::Failure;
use crate::{inside, shell};

/// How many entries are looked at for one fallback key.
const CANDIDATES_MAX: usize = 10_000;

/// An entry to restore.
#[derive(Debug)]
struct Found {
    /// The object's key in its bucket.
    name: String,
    archive: File,
    /// It is the one that was asked for, and no fallback.
    is_exact: bool,
}

/// The cache of this build.
#[derive(Debug)]
pub(super) struct Cache {
    paths: Vec<String>,
    wanted: Wanted,
    /// The entry that was asked for is there already.
    is_settled: bool,
    action: Option<CacheAction>,
    trust: Trust,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Archives(Archives),
    /// What is written to the shown folders is kept in the end if `is_saved`.
    Layers {
        layers: Layers,
        shown: Vec<Shown>,
        is_saved: bool,
    },
}

/// A folder that shows layers.
#[derive(Debug, Clone)]
struct Shown {
    /// As entries name it.
    folder: String,
    inside: PathBuf,
    /// Where changes land in a scratch folder; the same for each container of the build, and for builds that begin where it was.
    upper: String,
    beneath: Vec<Layer>,
    /// It could not be shown, so that nothing of this build is in it: what is kept of it stays as it is.
    has_failed: bool,
}

impl Shown {
    fn folder_on(&self, layers: &Layers) -> CachedFolder {
        CachedFolder {
            inside: self.inside.clone(),
            upper: self.upper.clone(),
            beneath: self.beneath.iter().rev().map(|layer| layers.files(layer)).collect(),
        }
    }
}

impl Build<'_> {
    /// Finds out which cache is meant, and restores what there is of it.
    pub(super) fn restore_cache(&mut self, spec: &Buildspec) -> Result<Ended, Halt> {
        let Some(cache) = self.cache_section(spec) else { return Ok(Ok(())) };
        if self.plan.cache == plan::Cache::None {
            return self.say("Skip cache due to: the project has none").map(Ok);
        }
        let cache = &cache;
        let wanted = match self.wanted(cache)? {
            Ok(wanted) => wanted,
            Err(why) => return self.say(&format!("Skip cache due to: {why}")).map(Ok),
        };
        match self.open_cache(cache, wanted) {
            Ok(opened) => self.cache = opened,
            Err(why) => return self.say(&format!("Skip cache due to: {why}")).map(Ok),
        }
        match &self.cache {
            Some(Cache { place: Place::Archives(_), .. }) => self.unpack_cache()?,
            Some(_) => self.show_cache(&cache.paths)?,
            None => {}
        }
        Ok(Ok(()))
    }

    /// What the buildspec says about a cache, and what is cached if it does not say. COMPAT: BS-157.
    pub(super) fn cache_section(&self, spec: &Buildspec) -> Option<buildspec::Cache> {
        let given = spec.cache.clone();
        if given.as_ref().is_some_and(|cache| !cache.paths.is_empty()) {
            return given;
        }
        let is_archived = matches!(self.plan.cache, plan::Cache::Objects { .. });
        let paths = COMMON_PATHS.map(str::to_owned).to_vec();
        is_archived.then(|| buildspec::Cache { paths, ..given.unwrap_or_default() })
    }

    /// COMPAT: BS-152, BS-190 keys are made by the shell, with the variables of now.
    fn wanted(&mut self, cache: &buildspec::Cache) -> Result<Result<Wanted, String>, Halt> {
        let mut keys = Vec::new();
        for text in cache.key.iter().chain(&cache.fallback_keys) {
            let key = self.evaluated(text)?;
            if let Err(why) = check_key(&key) {
                return Ok(Err(format!("the key {text} cannot be used: {why}")));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let key = cache.key.as_ref().and_then(|_| keys.next());
        Ok(Ok(Wanted::new(&cache.paths, key, keys.collect())))
    }

    fn evaluated(&mut self, text: &str) -> Result<String, Halt> {
        if !text.contains(['$', '`', '\\']) {
            return Ok(text.trim().to_owned());
        }
        self.changes_environment();
        // What programs complain about is no part of a key.
        let script = format!("exec 2>/dev/null\n{}", shell::expansion(text));
        let process = self.process(script, None);
        let printed = self.session.capture(process)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&printed).trim().to_owned())
    }

    fn open_cache(&self, cache: &buildspec::Cache, wanted: Wanted) -> Result<Option<Cache>, String> {
        let (place, trust) = match &self.plan.cache {
            plan::Cache::None => return Ok(None),
            plan::Cache::Objects { objects, bucket, prefix, scope, trust } => {
                (Place::Archives(Archives::new(objects, bucket, prefix, scope)), *trust)
            }
            plan::Cache::Layers { folder, scope, trust } => {
                let layers = Layers::open(folder, scope, &self.plan.uuid);
                let layers = layers.map_err(|e| format!("the folder of caches cannot be used: {e}"))?;
                (Place::Layers { layers, shown: Vec::new(), is_saved: false }, *trust)
            }
        };
        let paths = cache.paths.clone();
        Ok(Some(Cache { paths, wanted, is_settled: false, action: cache.action, trust, place }))
    }

    fn unpack_cache(&mut self) -> Result<(), Halt> {
        let Some(cache) = &self.cache else { return Ok(()) };
        let Place::Archives(archives) = &cache.place else { return Ok(()) };
        if cache.action == Some(CacheAction::Save) {
            return Ok(());
        }
        let (archives, wanted) = (archives.clone(), cache.wanted.clone());
        let line = match self.find_archive(&archives, &wanted)? {
            Ok(Some(found)) => {
                if let Some(cache) = &mut self.cache {
                    cache.is_settled = found.is_exact;
                }
                return self.unpack(&archives.shown(&found.name), found.archive.into());
            }
            Ok(None) => format!("No cache found at {}", archives.shown(&archives.name(&wanted))),
            Err(error) => format!("Unable to restore the cache: {error}"),
        };
        self.say(&line)
    }

    /// The entry itself, or the newest that begins with a fallback key; the first fallback key that finds one decides.
    fn find_archive(
        &mut self,
        archives: &Archives,
        wanted: &Wanted,
    ) -> Result<Result<Option<Found>, Failure>, Halt> {
        let mut found = self.open_archive(archives, archives.name(wanted), true)?;
        for beginning in archives.beginnings(wanted) {
            if !matches!(found, Ok(None)) {
                break;
            }
            found = match self.newest_archive(archives, &beginning)? {
                Ok(Some(name)) => self.open_archive(archives, name, false)?,
                Ok(None) => Ok(None),
                Err(failure) => Err(failure),
            };
        }
        Ok(found)
    }

    fn open_archive(
        &mut self,
        archives: &Archives,
        name: String,
        is_exact: bool,
    ) -> Result<Result<Option<Found>, Failure>, Halt> {
        Ok(match self.get_object(&archives.root, (&archives.bucket, &name), None)? {
            Ok((archive, _)) => Ok(Some(Found { name, archive, is_exact })),
            Err(Failure::Missing(_)) => Ok(None),
            Err(failure) => Err(failure),
        })
    }

    fn newest_archive(
        &mut self,
        archives: &Archives,
        beginning: &str,
    ) -> Result<Result<Option<String>, Failure>, Halt> {
        let (mut newest, mut after, mut seen) = (None, None, 0);
        loop {
            let page = match self.list_objects(&archives.root, (&archives.bucket, beginning), after)? {
                Ok(page) => page,
                Err(failure) => return Ok(Err(failure)),
            };
            seen += page.objects.len();
            newest = page.objects.into_iter().map(|found| (found.modified, found.key)).chain(newest).max();
            match page.next.filter(|_| seen < CANDIDATES_MAX) {
                Some(next) => after = Some(next),
                None => return Ok(Ok(newest.map(|(_, key)| key))),
            }
        }
    }

    fn unpack(&mut self, name: &str, archive: OwnedFd) -> Result<(), Halt> {
        self.say(&format!("Restoring the cache from {name}"))?;
        if !self.changes_environment() {
            return self.say("The cache is in the environment already");
        }
        let unpack = archive::Unpack { root: self.source_folder.clone() };
        let line = match self.call_about_cache("unpack", &unpack, vec![archive], &mut |_| Ok(()))? {
            Ok(()) => "Restored the cache".to_owned(),
            Err(why) => format!("Unable to restore the cache: {why}"),
        };
        self.say(&line)
    }

    /// Calls a function that packs or unpacks; its notes go to the log. The inner error is why it did not end well.
    fn call_about_cache(
        &mut self,
        function: &str,
        arguments: &impl serde::Serialize,
        extra: Vec<OwnedFd>,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Result<(), String>, Halt> {
        let (mut decoder, mut notes, mut failed, mut is_done) = (Decoder::default(), Vec::new(), None, false);
        let status = self.session.call(function, arguments, extra, &mut |bytes| {
            if failed.is_some() {
                return Ok(());
            }
            let fed = decoder.feed(bytes, &mut |item| {
                match item {
                    Item::Data(bytes) => take(bytes)?,
                    Item::Record(Record::Note(note)) => notes.push(note),
                    Item::Record(Record::Failed(why)) => failed = Some(why),
                    Item::Record(Record::Done) => is_done = true,
                    Item::Record(_) => {}
                }
                Ok(())
            });
            if let Err(error) = fed {
                failed = Some(error.to_string());
            }
            Ok(())
        })?;
        notes.iter().try_for_each(|note| self.say(note))?;
        Ok(match (status, failed) {
            (_, Some(why)) => Err(why),
            (ExitStatus::Code(inside::DONE), None) if is_done || function == "unpack" => Ok(()),
            (status, None) => Err(format!("{function} ended inside the container with {status:?}")),
        })
    }

    /// COMPAT: SA-096 before the first command, and with what is cached over what the source has of the same name.
    fn show_cache(&mut self, paths: &[String]) -> Result<(), Halt> {
        let mut folders = Vec::new();
        for path in paths {
            match folder_of(path) {
                Ok(folder) => folders.push(folder),
                Err(why) => self.say(&format!("Skipping invalid cache path {path}: {why}"))?,
            }
        }
        let Some(Cache { wanted, is_settled, action, place: Place::Layers { layers, shown, .. }, .. }) =
            &mut self.cache
        else {
            return Ok(());
        };
        let found = match action {
            Some(CacheAction::Save) => Ok(None),
            _ => layers.find(wanted),
        };
        let (found, failed) = match found {
            Ok(found) => (found, None),
            Err(error) => (None, Some(format!("Unable to restore the cache: {error}"))),
        };
        *is_settled = found.as_ref().is_some_and(|found| found.is_exact && wanted.key.is_some());
        let mut entry = found.map(|found| found.entry.folders).unwrap_or_default();
        for folder in outermost(folders) {
            let inside = self.source_folder.join(&folder);
            let upper = format!("cache-{}", &digest(&[&folder])[..16]);
            let beneath = entry.remove(&folder).unwrap_or_default();
            shown.push(Shown { folder, inside, upper, beneath, has_failed: false });
        }
        let lines: Vec<String> = shown
            .iter()
            .map(|shown| match shown.beneath.is_empty() {
                true => format!("No cache found of {}", shown.inside.display()),
                false => format!("Restoring the cache of {}", shown.inside.display()),
            })
            .collect();
        failed.iter().chain(&lines).try_for_each(|line| self.say(line))?;
        self.session.log.stop_syncing();
        self.show_layers()?;
        self.session.log.sync_regularly(&self.plan.log)?;
        Ok(())
    }

    /// Shows the cached folders in the present container. There must be one thread.
    pub(super) fn show_layers(&mut self) -> Result<(), Halt> {
        let Some(Cache { place: Place::Layers { layers, shown, .. }, .. }) = &mut self.cache else {
            return Ok(());
        };
        let showable = shown.iter().filter(|shown| !shown.has_failed);
        let folders: Vec<CachedFolder> = showable.map(|shown| shown.folder_on(layers)).collect();
        let failed = self.show_folders(&folders)?;
        if let Some(Cache { place: Place::Layers { shown, .. }, .. }) = &mut self.cache {
            shown.iter_mut().for_each(|shown| shown.has_failed |= failed.contains(&shown.upper));
        }
        self.note_cached(folders);
        Ok(())
    }

    /// What a later look at the environment shows again.
    fn note_cached(&mut self, folders: Vec<CachedFolder>) {
        if let Some(keeping) = &mut self.keeping {
            keeping.note_cached(folders);
        }
    }

    /// Shows folders with what earlier containers of the environment have written there; tells which could not be.
    pub(super) fn show_folders(&mut self, folders: &[CachedFolder]) -> Result<Vec<String>, Halt> {
        let mut failed = Vec::new();
        let earlier = self.scratches.split_last().map_or(Vec::new(), |(_, earlier)| earlier.to_vec());
        for CachedFolder { inside, upper, beneath } in folders {
            let written = earlier.iter().rev().map(|scratch| scratch.join(upper));
            let overlay = LateOverlay {
                inside: inside.clone(),
                lowers: written.chain(beneath.iter().cloned()).filter(|path| path.is_dir()).collect(),
                upper: upper.into(),
            };
            match self.session.show(&overlay) {
                Ok(()) => {}
                Err(container::Error::Gone) => return Err(container::Error::Gone.into()),
                Err(error) => {
                    self.say(&format!("Unable to cache {}: {error}", inside.display()))?;
                    failed.push(upper.clone());
                }
            }
        }
        Ok(failed)
    }

    /// The last part of UPLOAD_ARTIFACTS.
    pub(super) fn save_cache(&mut self) -> Result<(), Halt> {
        let Some(cache) = &mut self.cache else { return Ok(()) };
        if cache.action == Some(CacheAction::Restore) {
            return Ok(()); // COMPAT: BS-154
        }
        let why_not = match (cache.trust, self.succeeding, cache.is_settled && cache.wanted.key.is_some()) {
            (Trust::ReadOnly, ..) => Some("this build may only read it"),
            (_, false, _) => Some("the build has not succeeded"),
            (_, _, true) => Some("there is one of that key already"), // COMPAT: BS-152
            _ => None,
        };
        if let Some(why) = why_not {
            return self.say(&format!("Skip saving the cache due to: {why}"));
        }
        let lines: Vec<String> = match &mut cache.place {
            Place::Archives(_) => return self.pack_cache(),
            Place::Layers { shown, is_saved, .. } => {
                let to_save = shown.iter().filter(|shown| !shown.has_failed);
                let lines: Vec<String> =
                    to_save.map(|shown| format!("Saving the cache of {}", shown.inside.display())).collect();
                *is_saved = !lines.is_empty();
                lines
            }
        };
        lines.iter().try_for_each(|line| self.say(line))
    }

    fn pack_cache(&mut self) -> Result<(), Halt> {
        let line = match self.packed()? {
            Ok(line) => line,
            Err(why) => format!("Unable to save the cache: {why}"),
        };
        self.say(&line)
    }

    /// The inner error is why it was not saved.
    fn packed(&mut self) -> Result<Result<String, String>, Halt> {
        // Taken out, as the log is written meanwhile; caches are saved once.
        let Some(Cache { paths, wanted, place: Place::Archives(archives), .. }) = self.cache.take() else {
            return Ok(Err("there is none".into()));
        };
        let name = archives.name(&wanted);
        // COMPAT: BS-152 an entry with a key is never replaced.
        if wanted.key.is_some() {
            match self.has_object(&archives.root, (&archives.bucket, &name))? {
                Ok(false) => {}
                Ok(true) => {
                    return Ok(Ok("Skip saving the cache due to: there is one of that key already".into()));
                }
                Err(failure) => return Ok(Err(failure.to_string())),
            }
        }
        self.transfers = None;
        let place = self.place(&archives.root, &archives.bucket).map_err(io::Error::other);
        let mut writer = match place.and_then(|place| place.writer(&archives.bucket, &name)) {
            Ok(writer) => writer,
            Err(error) => return Ok(Err(error.to_string())),
        };
        self.say(&format!("Saving the cache to {}", archives.shown(&archives.name(&wanted))))?;
        let pack = archive::Pack { root: self.source_folder.clone(), paths };
        let mut take = |bytes: &[u8]| io::Write::write_all(&mut writer, bytes);
        if let Err(why) = self.call_about_cache("pack", &pack, Vec::new(), &mut take)? {
            return Ok(Err(why));
        }
        if writer.size() == 0 {
            return Ok(Ok("Skip saving the cache due to: no files match its paths".into()));
        }
        let metadata = Metadata { content_type: Some("application/zstd".to_owned()), ..Metadata::default() };
        let saved = match writer.finish(metadata, wanted.key.is_some()) {
            Ok(Some((file, put))) => self.deliver(Parcel { file, objects: vec![put] })?,
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
        Ok(match saved {
            Ok(()) => Ok("Saved the cache".into()),
            Err(Failure::Exists(_)) => {
                Ok("Skip saving the cache due to: another build was first with that key".into())
            }
            Err(failure) => Err(failure.to_string()),
        })
    }

    /// Keeps what was written in cached folders. The build's containers have ended, and nothing is said in its log any more.
    pub(super) fn keep_layers(&mut self) {
        let Some(Cache { wanted, place: Place::Layers { mut layers, shown, is_saved }, .. }) =
            self.cache.take()
        else {
            return;
        };
        let mut written = BTreeMap::new();
        for Shown { folder, upper, beneath, has_failed, .. } in &shown {
            let folders = match has_failed {
                true => Vec::new(),
                false => self.scratches.iter().map(|scratch| scratch.join(upper)).collect(),
            };
            written.insert(folder.clone(), Written { beneath: beneath.clone(), folders });
        }
        let saved = if is_saved { layers.save(&wanted, &written) } else { Ok(None) };
        if let Ok(Some(entry)) = &saved {
            // What was written has moved there.
            let kept = shown.into_iter().map(|shown| {
                let beneath = entry.folders.get(&shown.folder).cloned().unwrap_or_default();
                Shown { beneath, ..shown }.folder_on(&layers)
            });
            self.note_cached(kept.collect());
        }
        if let Err(error) = saved.and_then(|_| layers.close()) {
            eprintln!("agent: {}: the cache was not saved: {error}", self.plan.build_id);
        }
    }
}
