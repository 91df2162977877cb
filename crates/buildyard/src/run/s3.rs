//! Sources in S3: brought into an object store of the build's own before it begins, where the agent finds them as it does on a server.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::plan::Source;
use aws::s3::{At, Config, Store};
use store::objects::{Metadata, Objects};
use tokio::runtime::Runtime;

use crate::aws_environment::{Environment, Overrides};

/// How long S3 may keep silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads `s3://bucket/key.zip`, `s3://bucket/folder/` and `s3://bucket/`. COMPAT: SA-004. It is nowhere yet.
pub(super) fn find(text: &str, version: Option<&str>) -> Result<(String, Source), String> {
    let wrong = |rule: &str| Err(format!("{text}: {rule}"));
    let location = text.strip_prefix("s3://").unwrap_or_default();
    let Some((bucket, key)) = location.split_once('/').filter(|(bucket, _)| !bucket.is_empty()) else {
        return wrong("it must be s3://BUCKET/KEY.zip, or s3://BUCKET/FOLDER/ with a slash at its end");
    };
    let (bucket, objects) = (bucket.to_owned(), PathBuf::new());
    let last = key.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty());
    let name = last.unwrap_or(&bucket).trim_end_matches(".zip").to_owned();
    if key.is_empty() || key.ends_with('/') {
        return match version {
            Some(_) => wrong("a folder has no versions"),
            None => Ok((name, Source::ObjectFolder { objects, bucket, prefix: key.to_owned() })),
        };
    }
    let (key, version) = (key.to_owned(), version.map(str::to_owned));
    Ok((name, Source::ObjectZip { objects, bucket, key, version }))
}

/// Where a source is, as `CODEBUILD_SOURCE_REPO_URL` has it (EN-050).
pub(super) fn url(source: &Source) -> Option<String> {
    match source {
        Source::ObjectZip { bucket, key, .. } | Source::ObjectFolder { bucket, prefix: key, .. } => {
            Some(format!("s3://{bucket}/{key}"))
        }
        _ => None,
    }
}

/// Brings sources here, one after the other.
pub(super) struct Bringing {
    store: Store,
    runtime: Runtime,
    folder: PathBuf,
    objects: Objects,
}

impl Bringing {
    /// Into this folder, as whom the environment says.
    pub(super) fn into(folder: &Path) -> Result<Bringing, String> {
        let environment = Environment::ours();
        let aws::Config { region, credentials, clock, .. } = environment.config(&Overrides::default())?;
        let endpoint = environment.s3_endpoint();
        // AWS's certificates hold for names of buckets, others' hardly do.
        let path_style = endpoint.is_some();
        let config = Config { endpoint, region, path_style, credentials, patience: PATIENCE, clock };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let objects = Objects::open(&folder.join("objects")).map_err(|e| e.to_string())?;
        Ok(Bringing {
            store: Store::new(config).map_err(|e| e.to_string())?,
            runtime: runtime.map_err(|e| e.to_string())?,
            folder: folder.to_owned(),
            objects,
        })
    }

    /// All of a source, which is then where the agent looks for it. One that is not in S3 stays as it is.
    pub(super) fn bring(&self, source: &mut Source) -> Result<(), String> {
        let told = |place: String, error: String| format!("cannot fetch {place}: {error}");
        let place = url(source);
        match source {
            Source::ObjectZip { objects, bucket, key, version } => {
                let at = At { bucket: bucket.clone(), key: key.clone() };
                let brought = self.bucket(bucket).and_then(|()| self.object(&at, version.as_deref()));
                // The one that was meant is the only one here.
                *version = None;
                *objects = self.objects.root().to_owned();
                brought.map_err(|error| told(place.unwrap_or_default(), error))
            }
            Source::ObjectFolder { objects, bucket, prefix } => {
                let brought = self.bucket(bucket).and_then(|()| self.all_below(bucket, prefix));
                *objects = self.objects.root().to_owned();
                brought.map_err(|error| told(place.unwrap_or_default(), error))
            }
            _ => Ok(()),
        }
    }

    /// Two sources may be in one.
    fn bucket(&self, bucket: &str) -> Result<(), String> {
        match self.objects.bucket_exists(bucket) {
            Ok(true) => Ok(()),
            _ => self.objects.create_bucket(bucket).map_err(|e| e.to_string()),
        }
    }

    fn all_below(&self, bucket: &str, prefix: &str) -> Result<(), String> {
        let (mut after, mut any) = (None, false);
        loop {
            let page = self.runtime.block_on(self.store.list(bucket, prefix, after.as_deref()));
            let page = page.map_err(|e| e.to_string())?;
            for object in page.objects.into_iter().filter(|object| !object.key.ends_with('/')) {
                any = true;
                self.object(&At { bucket: bucket.to_owned(), key: object.key }, None)?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None if any => return Ok(()),
                None => return Err("there is nothing below it".into()),
            }
        }
    }

    fn object(&self, at: &At, version: Option<&str>) -> Result<(), String> {
        let path = self.folder.join("object");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        self.runtime.block_on(self.store.get(at, version, &file)).map_err(|e| e.to_string())?;
        let mut object = self.objects.put(&at.bucket, &at.key).map_err(|e| e.to_string())?;
        // Written by place, so read from the beginning.
        io::copy(&mut &file, &mut object).map_err(|e| e.to_string())?;
        object.finish(Metadata::default()).map_err(|e| e.to_string())?;
        std::fs::remove_file(&path).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_s3_is_an_archive_or_a_folder() {
        // SA-004
        for (text, name) in [
            ("s3://bucket/a/my.app.zip", "my.app"),
            ("s3://bucket/a/my.app", "my.app"),
            ("s3://bucket/a/b/", "b"),
            ("s3://bucket/", "bucket"),
        ] {
            let (found, source) = find(text, None).unwrap();
            assert_eq!((found.as_str(), url(&source).as_deref()), (name, Some(text)));
            assert_eq!(matches!(source, Source::ObjectFolder { .. }), text.ends_with('/'), "{text}");
        }
        for (text, version) in
            [("s3://", None), ("s3://bucket", None), ("s3:///a", None), ("s3://b/a/", Some("1"))]
        {
            assert!(find(text, version).is_err(), "{text}");
        }
    }
}
