//! An object becomes a file's content, whole and as it was stored.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use md5::{Digest, Md5};
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};
use sha2::Sha256;

use super::call::{ATTEMPTS, Call, Failed, unreachable};
use super::{At, Object, Store, described, is_md5, text};
use crate::client::pause;
use crate::error::{Error, Result};
use crate::sign::hex;

/// Longest pause in which a broken answer may still be taken up where it broke, in attempts that bring nothing new.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// An object on its way.
struct Arriving<'a> {
    store: &'a Store,
    at: &'a At,
    version: Option<&'a str>,
    into: &'a File,
    /// From the first answer on: all further ones must be of this very object.
    object: Option<Object>,
    /// What the bytes are to add up to.
    promised: Promised,
    arrived: u64,
    md5: Md5,
    sha256: Sha256,
}

/// Checksums that came with an answer.
#[derive(Debug, Default)]
struct Promised {
    /// Hex.
    md5: Option<String>,
    /// Base64.
    sha256: Option<String>,
}

impl Promised {
    fn of(object: &Object, headers: &HeaderMap) -> Promised {
        let md5 = is_md5(&object.etag, headers).then(|| object.etag.to_ascii_lowercase());
        // `<base64>-<parts>` is one of parts, which nobody knows here.
        let sha256 = text(headers, "x-amz-checksum-sha256").filter(|sum| !sum.contains('-'));
        Promised { md5, sha256: sha256.map(str::to_owned) }
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
            got = self.got(at, version, into) => got,
            () = self.stopped() => Err(Error::Stopped),
        }
    }

    async fn got(&self, at: &At, version: Option<&str>, into: &File) -> Result<Object> {
        let mut wrong = 1;
        loop {
            let mut arriving = Arriving {
                store: self,
                at,
                version,
                into,
                object: None,
                promised: Promised::default(),
                arrived: 0,
                md5: Md5::new(),
                sha256: Sha256::new(),
            };
            into.set_len(0)?;
            match arriving.all().await {
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
        let same = self.object.as_ref().filter(|_| self.arrived > 0).map(|object| format!("\"{}\"", object.etag));
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
            self.into.write_all_at(&piece, self.arrived).map_err(Error::from)?;
            self.md5.update(&piece);
            self.sha256.update(&piece);
            self.arrived += piece.len() as u64;
        }
        self.whole(&url)
    }

    /// Takes in what an answer's headers say.
    fn meet(&mut self, url: &Url, headers: &HeaderMap, is_rest: bool) -> Result<(), Failed> {
        let said = described(headers, url).map_err(Failed::again)?;
        if is_rest && self.arrived > 0 {
            return Ok(());
        }
        // From the beginning, asked or not.
        (self.arrived, self.md5, self.sha256) = (0, Md5::new(), Sha256::new());
        self.promised = Promised::of(&said, headers);
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
        let md5 = hex(&self.md5.clone().finalize());
        let sha256 = base64_simd::STANDARD.encode_to_string(self.sha256.clone().finalize());
        let differs = |promised: &Option<String>, found: &str| promised.as_ref().is_some_and(|sum| sum != found);
        if self.arrived > object.size || differs(&self.promised.md5, &md5) || differs(&self.promised.sha256, &sha256) {
            return Err(self.damaged("the bytes are not those of its checksum").into());
        }
        Ok(object)
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::Damaged { url: format!("{}/{}", self.at.bucket, self.at.key), reason: reason.to_owned() }
    }
}
