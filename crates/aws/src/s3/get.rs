//! An object becomes a file's content, whole and as it was stored.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};

use super::call::{ATTEMPTS, Call, Failed, unreachable};
use super::put::each;
use super::sums::{Promise, Sum};
use super::{At, Object, PARTS_MAX, Store, described, part_size, text};
use crate::client::pause;
use crate::error::{Error, Result};

/// Longest pause in which a broken answer may still be taken up where it broke, in attempts that bring nothing new.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Bytes that are looked at at once.
const PIECE: usize = 1 << 20;

/// An object on its way.
struct Arriving<'a> {
    store: &'a Store,
    at: &'a At,
    version: Option<&'a str>,
    into: Place<'a>,
    /// From the first answer on: all further ones must be of this very object.
    object: Option<Object>,
    /// What the bytes are to add up to.
    promised: Vec<Promise>,
    arrived: u64,
    /// Of the bytes so far, for each of what is promised of all of them.
    sums: Vec<(Promise, Sum)>,
    /// What the parts that came before added up to, when that was not what their ETag says.
    before: Option<Vec<u8>>,
}

/// Where in a file an object's bytes go.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    file: &'a File,
    offset: u64,
    /// How many there is room for; the whole file is the object's if that is not said.
    size: Option<u64>,
}

impl Place<'_> {
    fn empty(self) -> Result<()> {
        match self.size {
            None => Ok(self.file.set_len(0)?),
            Some(_) => Ok(()),
        }
    }
}

impl Store {
    /// Makes an object's bytes the content of a file, which is to be empty; of its latest version, or of this one. A broken answer
    /// is taken up where it broke, one whose checksum is wrong is asked for from the beginning.
    ///
    /// # Errors
    /// `NoSuchKey`, `NoSuchVersion` or `NoSuchBucket` as [`Error::Refused`]; [`Error::Damaged`] if the bytes stay wrong.
    pub async fn get(&self, at: &At, version: Option<&str>, into: &File) -> Result<Object> {
        tokio::select! {
            got = self.got(at, version, Place { file: into, offset: 0, size: None }) => got,
            () = self.stopped() => Err(Error::Stopped),
        }
    }

    /// As [`Store::get`], for objects of one bucket, some at once: each with the offset at which its bytes go into the file, and its size.
    ///
    /// # Errors
    /// The first that went wrong; [`Error::Damaged`] for one whose size is another by now.
    pub async fn get_all(
        &self,
        bucket: &str,
        objects: Vec<(String, u64, u64)>,
        into: &Arc<File>,
    ) -> Result<()> {
        let getting = objects.into_iter().map(|(key, offset, size)| {
            let (store, into, at) = (self.clone(), into.clone(), At { bucket: bucket.to_owned(), key });
            async move { store.got(&at, None, Place { file: &into, offset, size: Some(size) }).await }
        });
        tokio::select! {
            (_, failed) = each(getting) => failed.map_or(Ok(()), Err),
            () = self.stopped() => Err(Error::Stopped),
        }
    }

    async fn got(&self, at: &At, version: Option<&str>, into: Place<'_>) -> Result<Object> {
        let (mut wrong, mut before) = (1, None);
        loop {
            let mut arriving = Arriving {
                store: self,
                at,
                version,
                into,
                object: None,
                promised: Vec::new(),
                arrived: 0,
                sums: Vec::new(),
                before,
            };
            into.empty()?;
            let ended = arriving.all().await;
            before = arriving.before;
            match ended {
                Err(Error::Damaged { .. }) if wrong < ATTEMPTS => wrong += 1,
                ended => return ended,
            }
        }
    }
}

impl Arriving<'_> {
    async fn all(&mut self) -> Result<Object> {
        let mut attempt = 1;
        loop {
            let before = self.arrived;
            let failed = match self.some().await {
                Ok(object) => return Ok(object),
                Err(failed) => failed,
            };
            // What goes on, however slowly, is not given up.
            attempt = if self.arrived > before { 1 } else { attempt };
            if !failed.again || attempt == ATTEMPTS {
                return Err(failed.error);
            }
            tokio::time::sleep(pause(attempt).min(PAUSE_MAX)).await;
            attempt += 1;
        }
    }

    async fn some(&mut self) -> Result<Object, Failed> {
        let range = (self.arrived > 0).then(|| format!("bytes={}-", self.arrived));
        let same =
            self.object.as_ref().filter(|_| self.arrived > 0).map(|object| format!("\"{}\"", object.etag));
        let call = Call::new("GET", self.at)
            .query("versionId", self.version)
            .header("x-amz-checksum-mode", range.is_none().then(|| "ENABLED".to_owned()))
            .header("range", range.clone())
            .header("if-match", same);
        let mut response = match self.store.begin(&call).await {
            Err(Failed { error, .. }) if error.is("PreconditionFailed") => {
                return Err(self.damaged("it was replaced while it was read").into());
            }
            begun => begun?,
        };
        let url = response.url().clone();
        self.meet(&url, response.headers(), response.status() == StatusCode::PARTIAL_CONTENT)?;
        loop {
            let piece = response.chunk().await.map_err(|error| Failed::again(unreachable(&url, &error)))?;
            let Some(piece) = piece else { break };
            if self.object.as_ref().is_none_or(|object| self.arrived + piece.len() as u64 > object.size) {
                return Err(self.damaged("the answer goes on behind its end").into());
            }
            self.into.file.write_all_at(&piece, self.into.offset + self.arrived).map_err(Error::from)?;
            self.sums.iter_mut().for_each(|(_, sum)| sum.update(&piece));
            self.arrived += piece.len() as u64;
        }
        let object = self.whole(&url)?;
        self.hold_parts(&object).await?;
        Ok(object)
    }

    /// Takes in what an answer's headers say.
    fn meet(&mut self, url: &Url, headers: &HeaderMap, is_rest: bool) -> Result<(), Failed> {
        let said = described(headers, url).map_err(Failed::again)?;
        if is_rest && self.arrived > 0 {
            return Ok(());
        }
        if self.into.size.is_some_and(|size| size != said.size) {
            return Err(self.damaged("it was replaced while it was read").into());
        }
        // From the beginning, asked or not.
        self.arrived = 0;
        self.promised = Promise::of(&said, headers);
        let of_all = self.promised.iter().filter(|promise| promise.parts.is_none());
        self.sums = of_all.map(|promise| (promise.clone(), promise.sums())).collect();
        self.object = Some(said);
        Ok(())
    }

    /// The object, if all of it is there and it is what was promised.
    fn whole(&mut self, url: &Url) -> Result<Object, Failed> {
        let Some(object) = self.object.clone() else { return Err(self.damaged("it says nothing").into()) };
        if self.arrived < object.size {
            let reason = format!("the answer ended after {} of {} bytes", self.arrived, object.size);
            return Err(Failed::again(Error::Unreachable { url: url.to_string(), reason }));
        }
        let all_kept = std::mem::take(&mut self.sums)
            .into_iter()
            .all(|(promise, sum)| promise.is_kept_by(&sum.finish()));
        if !all_kept {
            return Err(self.damaged("the bytes are not those of its checksum").into());
        }
        Ok(object)
    }

    /// Holds what has no checksum over all of it against that over its parts. How long these are most stores tell, and most who upload
    /// agree on. Otherwise the object is read twice, and counts if it is the same: no network breaks bytes twice in the same way.
    async fn hold_parts(&mut self, object: &Object) -> Result<()> {
        let is_whole = self.promised.iter().any(|promise| promise.parts.is_none());
        let promise = self.promised.first().filter(|_| !is_whole && object.size > 0);
        let Some(promise) = promise.cloned() else { return Ok(()) };
        let sum = self.sum_of_parts(&promise, &alike(object.size, part_size(object.size))).await?;
        if promise.is_kept_by(&sum) {
            return Ok(());
        }
        let told = self.part_sizes(object, promise.parts.unwrap_or(1)).await;
        let is_told = told.is_some();
        if let Some(sizes) = told
            && promise.is_kept_by(&self.sum_of_parts(&promise, &sizes).await?)
        {
            return Ok(());
        }
        let is_certain = is_told && promise.is_certain;
        if !is_certain && self.before.as_ref() == Some(&sum) {
            return Ok(());
        }
        self.before = Some(sum);
        Err(self.damaged("the bytes are not those of its parts' checksums"))
    }

    /// None if the store does not tell.
    async fn part_sizes(&self, object: &Object, parts: u64) -> Option<Vec<u64>> {
        if parts == 1 {
            return Some(vec![object.size]);
        }
        let first = self.told_part_size(object, 1).await?;
        if object.size.div_ceil(first) == parts {
            return Some(alike(object.size, first));
        }
        let mut sizes = vec![first];
        for number in 2..=parts.min(PARTS_MAX) {
            sizes.push(self.told_part_size(object, number).await?);
        }
        (sizes.iter().sum::<u64>() == object.size).then_some(sizes)
    }

    async fn told_part_size(&self, object: &Object, number: u64) -> Option<u64> {
        let version = object.version.as_deref().or(self.version);
        let call = Call::new("HEAD", self.at)
            .query("versionId", version)
            .query("partNumber", Some(&number.to_string()));
        let answer = self.store.send(&call).await.ok()?;
        let size = text(&answer.headers, "content-length")?.parse().ok()?;
        // One that does not know what is asked tells of the whole object.
        (size > 0 && size < object.size).then_some(size)
    }

    /// The checksum of the checksums of parts of these sizes.
    async fn sum_of_parts(&self, promise: &Promise, sizes: &[u64]) -> Result<Vec<u8>> {
        let (mut all, mut offset) = (promise.sums(), 0);
        let mut buffer = vec![0; PIECE];
        for size in sizes {
            let (mut part, end) = (promise.sums(), offset + size);
            while offset < end {
                let piece = &mut buffer[..PIECE.min(usize::try_from(end - offset).unwrap_or(PIECE))];
                self.into.file.read_exact_at(piece, self.into.offset + offset)?;
                part.update(piece);
                offset += piece.len() as u64;
                // Whoever wants to stop may.
                tokio::task::yield_now().await;
            }
            all.update(&part.finish());
        }
        Ok(all.finish())
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::Damaged { url: format!("{}/{}", self.at.bucket, self.at.key), reason: reason.to_owned() }
    }
}

/// The sizes of parts of which only the last may be smaller.
fn alike(size: u64, part: u64) -> Vec<u64> {
    (0..size.div_ceil(part)).map(|number| part.min(size - number * part)).collect()
}
