//! Parts of a file become objects: all of them or none.
//!
//! What is larger than a part, and everything that belongs together, is uploaded in parts first, of which nothing is seen. Only when
//! all bytes have arrived are objects made of them; if that cannot be done for one, those made before are deleted again.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest, Md5};
use reqwest::header::HeaderMap;
use tokio::task::JoinSet;

use super::call::{Answer, Call};
use super::sums::bytes_of_hex;
use super::{
    At, Encryption, Headers, Object, PARALLEL, PART_BYTES, Store, Upload, answer, described, is_md5,
    part_size, text,
};
use crate::client::pause;
use crate::error::{Error, Result};
use crate::sign::{Name, hex};

/// How often an object is looked for that was put.
const LOOKS: u32 = 4;

/// An upload in parts that has a name at the store; all its parts have arrived if there is an `etag`.
#[derive(Debug, Clone)]
struct Begun {
    upload: Upload,
    id: String,
    parts: Vec<String>,
}

impl Store {
    /// Makes one object. It is there when this returns, and if it cannot be made there is nothing new.
    ///
    /// # Errors
    /// `PreconditionFailed` as [`Error::Refused`] if there is one already and there must not be.
    pub async fn put(&self, upload: &Upload, from: &Arc<File>) -> Result<Object> {
        if upload.size > PART_BYTES {
            let begun = self.staged(upload.clone(), from).await?;
            let completed = self.completed(&begun).await;
            if completed.is_err() {
                self.abort(&begun).await;
            }
            return completed;
        }
        let _place = self.places.acquire().await;
        let bytes = read(from, upload.offset, upload.size)?;
        let md5 = Md5::digest(&bytes);
        let call = Call::new("PUT", &upload.at)
            .headers(headers(&upload.headers))
            .header("content-md5", Some(base64_simd::STANDARD.encode_to_string(md5)))
            .header("if-none-match", upload.headers.only_new.then(|| "*".to_owned()))
            .body(bytes);
        let md5 = hex(&md5);
        match self.send(&call).await {
            Ok(answer) => {
                let said = text(&answer.headers, "etag").unwrap_or_default().trim_matches('"').to_owned();
                let wanted = if is_md5(&said, &answer.headers) { md5 } else { said.clone() };
                self.seen(upload, &wanted, &said).await
            }
            // A first try whose answer was lost may have put what the second one found in its way.
            Err(error) if error.is("PreconditionFailed") => self.found(upload, &md5).await?.ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Makes objects that belong together. All are there when this returns, or none of them. Of several with one key the last counts.
    ///
    /// # Errors
    /// The first that went wrong.
    pub async fn put_all(&self, uploads: Vec<Upload>, from: &Arc<File>) -> Result<()> {
        let by_key = |upload: Upload| ((upload.at.bucket.clone(), upload.at.key.clone()), upload);
        let uploads: BTreeMap<_, _> = uploads.into_iter().map(by_key).collect();
        let uploads: Vec<Upload> = uploads.into_values().collect();
        if let [upload] = &uploads[..] {
            return self.put(upload, from).await.map(drop);
        }
        let staging = uploads.into_iter().map(|upload| {
            let (store, from) = (self.clone(), from.clone());
            async move { store.staged(upload, &from).await }
        });
        let (begun, failed) = each(staging).await;
        if let Some(error) = failed {
            self.abort_all(begun).await;
            return Err(error);
        }
        let completing = begun.clone().into_iter().map(|begun| {
            let store = self.clone();
            async move { store.completed(&begun).await.map(|object| (begun.id, object)) }
        });
        let (made, failed) = each(completing).await;
        let Some(error) = failed else { return Ok(()) };
        let mut made: BTreeMap<_, _> = made.into_iter().collect();
        let undoing = begun.into_iter().map(|begun| {
            let (store, object) = (self.clone(), made.remove(&begun.id));
            async move {
                store.undone(&begun, object).await;
                Ok(())
            }
        });
        each(undoing).await;
        Err(error)
    }

    /// Takes back what came of an upload: the object, known or not, or what there is of its parts.
    async fn undone(&self, begun: &Begun, known: Option<Object>) {
        let made = match known {
            Some(object) => Some(object),
            None => self.made(begun).await.ok().flatten(),
        };
        match made {
            // More than tried again cannot be done about it.
            Some(object) => drop(self.delete(&begun.upload.at, object.version.as_deref()).await),
            None => self.abort(begun).await,
        }
    }

    /// Takes back what somebody who is gone has begun with [`Store::put_all`]: objects that have each name these were to be given
    /// (`x-amz-meta-*`), and uploads of their keys. Nobody else may be writing them.
    pub async fn take_back(&self, uploads: Vec<Upload>) -> Result<()> {
        let taking = uploads.into_iter().map(|upload| {
            let store = self.clone();
            async move { store.taken_back(&upload).await }
        });
        each(taking).await.1.map_or(Ok(()), Err)
    }

    async fn taken_back(&self, upload: &Upload) -> Result<()> {
        let At { bucket, key } = &upload.at;
        let all = At { bucket: bucket.clone(), key: String::new() };
        let call = Call::new("GET", &all).query("uploads", Some("")).query("prefix", Some(key));
        let listed = answer::uploads(&self.send(&call).await?.body);
        for (_, id) in listed.into_iter().filter(|(listed, _)| listed == key) {
            self.abort(&Begun { upload: upload.clone(), id, parts: Vec::new() }).await;
        }
        let headers = match self.send(&Call::new("HEAD", &upload.at)).await {
            Ok(answer) => answer.headers,
            Err(error) if error.is("NoSuchKey") => return Ok(()),
            Err(error) => return Err(error),
        };
        let names = &upload.headers.user;
        match !names.is_empty() && has_names(&headers, names) {
            true => self.delete(&upload.at, text(&headers, "x-amz-version-id")).await,
            false => Ok(()),
        }
    }

    /// Uploads all the bytes of an object without making it.
    async fn staged(&self, upload: Upload, from: &Arc<File>) -> Result<Begun> {
        let call = Call::new("POST", &upload.at).query("uploads", Some("")).headers(headers(&upload.headers));
        let body = self.send(&call).await?.body;
        let id = answer::element(&body, "InitiateMultipartUploadResult/UploadId");
        let id = id.ok_or_else(|| self.nonsense(&call, "no id of an upload"))?;
        let mut begun = Begun { upload, id, parts: Vec::new() };
        match self.parts(&begun, from).await {
            Ok(parts) => begun.parts = parts,
            Err(error) => {
                self.abort(&begun).await;
                return Err(error);
            }
        }
        Ok(begun)
    }

    /// The ETags of the parts, in order.
    async fn parts(&self, begun: &Begun, from: &Arc<File>) -> Result<Vec<String>> {
        let Upload { offset, size, .. } = begun.upload;
        let part_size = part_size(size);
        let uploading = (0..size.div_ceil(part_size).max(1)).map(|number| {
            let (store, begun, from) = (self.clone(), begun.clone(), from.clone());
            async move {
                let _place = store.places.acquire().await;
                let start = number * part_size;
                let bytes = read(&from, offset + start, part_size.min(size - start))?;
                let mut etag = store.part(&begun, number + 1, bytes.clone()).await;
                if let Err(Error::Damaged { .. }) = etag {
                    // Put again it takes the place of what arrived.
                    etag = store.part(&begun, number + 1, bytes).await;
                }
                Ok((number, etag?))
            }
        });
        let (mut parts, failed) = each(uploading).await;
        parts.sort_unstable();
        failed.map_or_else(|| Ok(parts.into_iter().map(|(_, md5)| md5).collect()), Err)
    }

    async fn part(&self, begun: &Begun, number: u64, bytes: Bytes) -> Result<String> {
        let md5 = Md5::digest(&bytes);
        let call = Call::new("PUT", &begun.upload.at)
            .query("partNumber", Some(&number.to_string()))
            .query("uploadId", Some(&begun.id))
            .header("content-md5", Some(base64_simd::STANDARD.encode_to_string(md5)))
            .body(bytes);
        let answer = self.send(&call).await?;
        let etag = text(&answer.headers, "etag").unwrap_or_default().trim_matches('"');
        match is_md5(etag, &answer.headers) && !etag.eq_ignore_ascii_case(&hex(&md5)) {
            true => Err(damaged(&begun.upload.at, "a part has another checksum there")),
            false => Ok(etag.to_owned()),
        }
    }

    /// Makes an object of its parts. What is there of them when it fails is the caller's to abort.
    async fn completed(&self, begun: &Begun) -> Result<Object> {
        let completed = match self.complete(begun).await {
            Ok(answer) => {
                let said = answer::element(&answer.body, "CompleteMultipartUploadResult/ETag");
                match said.as_deref().map(|said| said.trim_matches('"')) {
                    Some(said) => self.seen(&begun.upload, said, said).await.map(|object| Object {
                        // That of ours, whoever has been there since.
                        version: text(&answer.headers, "x-amz-version-id")
                            .map(str::to_owned)
                            .or(object.version),
                        ..object
                    }),
                    None => Err(damaged(&begun.upload.at, "the answer has no sign of the object")),
                }
            }
            Err(error) => Err(error),
        };
        match completed {
            Ok(object) => Ok(object),
            // The answer may have been lost, and the object be there.
            Err(error) => self.made(begun).await.ok().flatten().ok_or(error),
        }
    }

    async fn complete(&self, begun: &Begun) -> Result<Answer> {
        let parts = begun.parts.iter().enumerate().map(|(at, etag)| {
            format!("<Part><PartNumber>{}</PartNumber><ETag>\"{etag}\"</ETag></Part>", at + 1)
        });
        let body = format!(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{}</CompleteMultipartUpload>",
            parts.collect::<String>()
        );
        let call = Call::new("POST", &begun.upload.at)
            .query("uploadId", Some(&begun.id))
            .header("content-type", Some("application/xml".into()))
            .header("if-none-match", begun.upload.headers.only_new.then(|| "*".to_owned()))
            .body(body.into());
        let sent = self.send(&call).await;
        match sent {
            // A store that knows no conditions here. Whoever has one has looked before.
            Err(error) if error.is("NotImplemented") => self.send(&call.without("if-none-match")).await,
            sent => sent,
        }
    }

    /// What an upload became whose completion was not heard to succeed, and that was not aborted: as long as the store knows it, it
    /// became nothing; when it does not any more, it became the object that has the names and the ETag.
    ///
    /// # Errors
    /// It is over, or that cannot be told, and the object is not to be seen.
    async fn made(&self, begun: &Begun) -> Result<Option<Object>> {
        let asked = Call::new("GET", &begun.upload.at).query("uploadId", Some(&begun.id)).tidies_up();
        match self.send(&asked).await {
            Ok(_) => Ok(None),
            Err(_) => self.looked_for(begun).await.map(Some),
        }
    }

    /// One look is not enough: stores have been seen to deny for a while what they have.
    async fn looked_for(&self, begun: &Begun) -> Result<Object> {
        let mut look = 1;
        loop {
            match self.ours(begun).await {
                Err(_) if look < LOOKS => tokio::time::sleep(pause(look)).await,
                found => return found,
            }
            look += 1;
        }
    }

    async fn ours(&self, begun: &Begun) -> Result<Object> {
        let Upload { at, size, headers, .. } = &begun.upload;
        let call = Call::new("HEAD", at).tidies_up();
        let answer = self.send(&call).await?;
        let object = described(&answer.headers, &self.url(&call)?)?;
        let is_ours = object.etag == etag_of(&begun.parts)
            && object.size == *size
            && has_names(&answer.headers, &headers.user);
        is_ours.then_some(object).ok_or_else(|| damaged(at, "the object is another one there"))
    }

    /// The object that was put, as whoever reads it sees it. `said` is the store's own word for what `wanted` is ours.
    async fn seen(&self, upload: &Upload, wanted: &str, said: &str) -> Result<Object> {
        let mut look = 1;
        loop {
            match self.head(&upload.at, None).await {
                Ok(object) if object.etag == wanted && object.size == upload.size => return Ok(object),
                // The store had ours, and another build has been there since.
                Ok(object) if look == LOOKS && object.etag != wanted && said == wanted => return Ok(object),
                Ok(object) if look == LOOKS => {
                    self.delete(&upload.at, object.version.as_deref()).await?;
                    return Err(damaged(&upload.at, "the object has another checksum there"));
                }
                Err(error) if !error.is("NoSuchKey") || look == LOOKS => return Err(error),
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(pause(look)).await;
            look += 1;
        }
    }

    /// The object, if it is the one of this ETag.
    async fn found(&self, upload: &Upload, etag: &str) -> Result<Option<Object>> {
        match self.head(&upload.at, None).await {
            Ok(object) => Ok((object.etag == etag && object.size == upload.size).then_some(object)),
            Err(error) if error.is("NoSuchKey") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What cannot be aborted stays for the bucket's own rule: nobody sees it.
    async fn abort(&self, begun: &Begun) {
        let call = Call::new("DELETE", &begun.upload.at).query("uploadId", Some(&begun.id)).tidies_up();
        let _ = self.send(&call).await;
    }

    async fn abort_all(&self, begun: Vec<Begun>) {
        let aborting = begun.into_iter().map(|begun| {
            let store = self.clone();
            async move {
                store.abort(&begun).await;
                Ok(())
            }
        });
        each(aborting).await;
    }
}

/// Does all of it, some at once: what came of it, and the first failure, after which nothing new is begun.
pub(super) async fn each<F, T>(all: impl IntoIterator<Item = F>) -> (Vec<T>, Option<Error>)
where
    F: Future<Output = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let (mut tasks, mut done, mut failed) = (JoinSet::new(), Vec::new(), None);
    for one in all {
        if tasks.len() == PARALLEL
            && let Some(ended) = tasks.join_next().await
        {
            take(ended, &mut done, &mut failed);
        }
        if failed.is_some() {
            break;
        }
        tasks.spawn(one);
    }
    while let Some(ended) = tasks.join_next().await {
        take(ended, &mut done, &mut failed);
    }
    (done, failed)
}

fn take<T>(ended: Result<Result<T>, tokio::task::JoinError>, done: &mut Vec<T>, failed: &mut Option<Error>) {
    match ended {
        Ok(Ok(value)) => done.push(value),
        Ok(Err(error)) => *failed = failed.take().or(Some(error)),
        Err(error) => *failed = failed.take().or(Some(Error::File(std::io::Error::other(error)))),
    }
}

fn read(from: &File, offset: u64, size: u64) -> Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    from.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.into())
}

/// Whether an object's headers have each of these names (`x-amz-meta-*`) with its value.
fn has_names(headers: &HeaderMap, names: &BTreeMap<String, String>) -> bool {
    names.iter().all(|(name, value)| text(headers, &format!("x-amz-meta-{name}")) == Some(value.as_str()))
}

fn damaged(at: &At, reason: &str) -> Error {
    Error::Damaged { url: format!("{}/{}", at.bucket, at.key), reason: reason.to_owned() }
}

/// S3's own for an object of parts.
fn etag_of(parts: &[String]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(bytes_of_hex(part));
    }
    format!("{}-{}", hex(&md5.finalize()), parts.len())
}

/// What an object is to say of itself, as it is sent.
fn headers(headers: &Headers) -> Vec<(Name, String)> {
    let mut sent: Vec<(Name, String)> = Vec::new();
    sent.extend(headers.content_type.clone().map(|kind| ("content-type".into(), kind)));
    sent.extend(
        headers.user.iter().map(|(name, value)| (format!("x-amz-meta-{name}").into(), value.clone())),
    );
    match &headers.encryption {
        None => {}
        Some(Encryption::Own) => sent.push(("x-amz-server-side-encryption".into(), "AES256".into())),
        Some(Encryption::Kms(key)) => {
            sent.push(("x-amz-server-side-encryption".into(), "aws:kms".into()));
            sent.extend(key.clone().map(|key| ("x-amz-server-side-encryption-aws-kms-key-id".into(), key)));
        }
    }
    sent
}
