//! The agent's half of UPLOAD_ARTIFACTS: takes files that cross from the container and makes artifacts of them.
//!
//! Names from the stream are rebuilt from their components; nothing here follows a link in the target.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use store::objects::Metadata;
use zip::write::SimpleFileOptions;

use crate::journal::UploadedArtifact;
use crate::objects::{Parcel, Place, Set, Writer};
use crate::plan::ArtifactTarget;
use crate::stream::{Decoder, Item, Record};
use crate::transfer::{Failure, Put};

/// How hard a ZIP's files are compressed: an artifact is waited for by a build, and read soon.
const LEVEL: i64 = 1;

/// Where files go, one at a time.
trait Destination {
    fn file(&mut self, path: &str, mode: u32) -> io::Result<()>;
    fn data(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn end_of_file(&mut self) -> io::Result<()>;
    fn link(&mut self, path: &str, target: &str) -> io::Result<()>;
    /// Makes the artifact visible and durable. Without it nothing of a ZIP remains.
    fn finish(self: Box<Self>) -> io::Result<Uploaded>;
}

#[derive(Debug, Default)]
struct Uploaded {
    location: String,
    sha256: Option<String>,
    md5: Option<String>,
    /// What is still to be put elsewhere.
    parcel: Option<Parcel>,
}

/// One artifact on its way: feed it the container's stream, then finish it.
pub(crate) struct Upload {
    decoder: Decoder,
    destination: Box<dyn Destination>,
    identifier: Option<String>,
    files: u64,
    done: bool,
    failed: Option<String>,
    notes: Vec<String>,
}

impl Upload {
    pub(crate) fn to_folder(folder: &Path, identifier: Option<String>) -> io::Result<Upload> {
        std::fs::create_dir_all(folder)?;
        let destination = Folder { root: File::open(folder)?, path: folder.to_owned(), open: None };
        Ok(Upload::new(Box::new(destination), identifier))
    }

    pub(crate) fn to_objects(
        place: Result<Place, Failure>,
        target: &ArtifactTarget,
        location: Location,
    ) -> io::Result<Upload> {
        let place = place.map_err(|failure| io::Error::other(failure.to_string()))?;
        let identifier = target.identifier.clone();
        if !target.zip {
            let set = Set::new(place, &target.bucket).map_err(upload_failure)?;
            let destination = Plain { set, target: target.clone(), location, open: None };
            return Ok(Upload::new(Box::new(destination), identifier));
        }
        let object = place.writer(&target.bucket, &location.0)?;
        let zip = zip::ZipWriter::new_stream(object);
        let destination = Zip { zip, target: target.clone(), location };
        Ok(Upload::new(Box::new(destination), identifier))
    }

    fn new(destination: Box<dyn Destination>, identifier: Option<String>) -> Upload {
        Upload {
            decoder: Decoder::default(),
            destination,
            identifier,
            files: 0,
            done: false,
            failed: None,
            notes: Vec::new(),
        }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut decoder = std::mem::take(&mut self.decoder);
        let fed = decoder.feed(bytes, &mut |item| self.take(item));
        self.decoder = decoder;
        fed
    }

    fn take(&mut self, item: Item<'_>) -> io::Result<()> {
        match item {
            Item::Data(bytes) => self.destination.data(bytes),
            Item::Record(Record::File { path, mode }) => {
                self.files += 1;
                self.destination.file(&checked(&path)?, mode & 0o777)
            }
            Item::Record(Record::EndOfFile) => self.destination.end_of_file(),
            Item::Record(Record::Link { path, target }) => {
                self.files += 1;
                self.destination.link(&checked(&path)?, &target)
            }
            Item::Record(Record::Note(text)) => {
                self.notes.push(text);
                Ok(())
            }
            Item::Record(Record::Recognised { .. }) => Ok(()),
            Item::Record(Record::Failed(message)) => {
                self.failed = Some(message);
                Ok(())
            }
            Item::Record(Record::Done) => {
                self.done = true;
                Ok(())
            }
        }
    }

    /// Lines for the log that came so far.
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// The artifact and what of it is still to be put elsewhere, or why there is none. COMPAT: BS-132 nothing matched is a failure with this text.
    pub(crate) fn finish(self) -> Result<(UploadedArtifact, Option<Parcel>), String> {
        if let Some(message) = self.failed {
            return Err(message);
        }
        if !self.done {
            return Err("the files could not be collected".into());
        }
        if self.files == 0 {
            return Err("no matching artifact paths found".into());
        }
        let files = self.files;
        let uploaded = self.destination.finish().map_err(|e| format!("Failed to upload artifacts: {e}"))?;
        let artifact = UploadedArtifact {
            identifier: self.identifier,
            location: uploaded.location,
            sha256: uploaded.sha256,
            md5: uploaded.md5,
            files,
        };
        Ok((artifact, uploaded.parcel))
    }
}

/// An artifact's key, or for plain files the prefix of its keys, which ends in `/` or is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location(pub(crate) String);

impl Location {
    /// COMPAT: SA-070..080 the key layout: path, build id (its uuid part, SA-082), name; empty parts vanish.
    /// `s3-prefix` is part of it only with the namespace BUILD_ID (BS-139, SA-079).
    pub(crate) fn new(target: &ArtifactTarget, name: &str, uuid: &str, s3_prefix: Option<&str>) -> Location {
        let (path, name) = match s3_prefix.filter(|_| target.namespace_build_id) {
            Some(prefix) if target.zip && !name.ends_with(".zip") => (prefix, format!("{name}.zip")),
            Some(prefix) => (prefix, name.to_owned()),
            None => (target.path.as_str(), name.to_owned()),
        };
        let namespace = if target.namespace_build_id { uuid } else { "" };
        let parts = [path, namespace, &name].map(|part| part.trim_matches('/'));
        let mut key = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        if !target.zip && !key.is_empty() {
            key.push('/');
        }
        Location(key)
    }
}

fn upload_failure(error: store::Error) -> io::Error {
    io::Error::other(error)
}

/// The path again, from plain components.
fn checked(path: &str) -> io::Result<String> {
    let fine = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    match path.split('/').all(fine) {
        true => Ok(path.to_owned()),
        false => Err(io::Error::other(format!("`{path}` is not a file name for an artifact"))),
    }
}

fn metadata(target: &ArtifactTarget) -> Metadata {
    let mut metadata = Metadata::default();
    // COMPAT: SA-066.
    metadata.user.insert("codebuild-buildarn".into(), target.build_arn.clone());
    // COMPAT: SA-065.
    metadata.encryption = target.encryption_key.clone().map(|key| ("aws:kms".into(), Some(key)));
    metadata
}

/// Plain objects, `packaging: NONE`. None of them is seen before all have been written.
#[derive(Debug)]
struct Plain {
    set: Set,
    target: ArtifactTarget,
    location: Location,
    open: Option<Writer>,
}

impl Destination for Plain {
    fn file(&mut self, path: &str, _mode: u32) -> io::Result<()> {
        let key = format!("{}{path}", self.location.0);
        self.open = Some(self.set.writer(&self.target.bucket, &key)?);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open.as_mut().ok_or_else(out_of_order)?.write_all(bytes)
    }

    fn end_of_file(&mut self) -> io::Result<()> {
        let object = self.open.take().ok_or_else(out_of_order)?;
        let key = self.target.encryption_key.clone();
        self.set.add(object, metadata(&self.target), key).map_err(upload_failure)
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        // An object store has no links; the reader finds where it pointed.
        self.file(path, 0)?;
        self.data(target.as_bytes())?;
        self.end_of_file()
    }

    fn finish(self: Box<Self>) -> io::Result<Uploaded> {
        let key = self.location.0.trim_end_matches('/');
        let location = match key {
            "" => format!("arn:aws:s3:::{}", self.target.bucket),
            key => format!("arn:aws:s3:::{}/{key}", self.target.bucket),
        };
        let parcel = self.set.finish().map_err(upload_failure)?;
        Ok(Uploaded { location, parcel, ..Uploaded::default() })
    }
}

/// One ZIP object.
struct Zip {
    zip: zip::ZipWriter<zip::write::StreamWriter<Writer>>,
    target: ArtifactTarget,
    location: Location,
}

impl Destination for Zip {
    fn file(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let options = SimpleFileOptions::default().unix_permissions(mode).large_file(true);
        let options = options.compression_level(Some(LEVEL));
        Ok(self.zip.start_file(path, options)?)
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.zip.write_all(bytes)
    }

    fn end_of_file(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        Ok(self.zip.add_symlink(path, target, SimpleFileOptions::default())?)
    }

    fn finish(self: Box<Self>) -> io::Result<Uploaded> {
        let object = self.zip.finish()?.into_inner();
        let (md5, sha256) = object.digests();
        let (md5, sha256) = (hex(&md5), hex(&sha256));
        let mut metadata = metadata(&self.target);
        // COMPAT: SA-066 the digests as metadata too.
        metadata.user.insert("codebuild-content-sha256".into(), sha256.clone());
        metadata.user.insert("codebuild-content-md5".into(), md5.clone());
        metadata.content_type = Some("application/zip".into());
        let left = object.finish(metadata, false).map_err(upload_failure)?;
        let encryption_key = self.target.encryption_key.clone();
        let parcel = left.map(|(file, put)| Parcel { file, objects: vec![Put { encryption_key, ..put }] });
        let location = format!("arn:aws:s3:::{}/{}", self.target.bucket, self.location.0);
        Ok(Uploaded { location, sha256: Some(sha256), md5: Some(md5), parcel })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn out_of_order() -> io::Error {
    io::Error::other("file data without a file")
}

/// Plain files in a folder of this host (`buildyard run`).
#[derive(Debug)]
struct Folder {
    root: File,
    path: PathBuf,
    open: Option<(File, u32)>,
}

impl Folder {
    /// The folder that holds `path`, made if need be, and the last component. A link on the way is an error:
    /// an earlier build may have left it there.
    fn parent<'a>(&self, path: &'a str) -> io::Result<(File, &'a str)> {
        use rustix::fs::{Mode, OFlags};
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = self.root.try_clone()?;
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            match rustix::fs::mkdirat(&at, folder, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = File::from(rustix::fs::openat(&at, folder, flags, Mode::empty())?);
        }
        Ok((at, name))
    }

    fn remove_old(parent: &File, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(parent, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Destination for Folder {
    fn file(&mut self, path: &str, mode: u32) -> io::Result<()> {
        use rustix::fs::{Mode, OFlags};
        let (parent, name) = self.parent(path)?;
        Self::remove_old(&parent, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
        self.open = Some((File::from(file), mode));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open.as_mut().ok_or_else(out_of_order)?.0.write_all(bytes)
    }

    fn end_of_file(&mut self) -> io::Result<()> {
        let (file, mode) = self.open.take().ok_or_else(out_of_order)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Self::remove_old(&parent, name)?;
        Ok(rustix::fs::symlinkat(target, &parent, name)?)
    }

    fn finish(self: Box<Self>) -> io::Result<Uploaded> {
        Ok(Uploaded { location: self.path.display().to_string(), ..Uploaded::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str, build_id: bool, zip: bool) -> ArtifactTarget {
        ArtifactTarget {
            identifier: None,
            bucket: "b".into(),
            path: path.into(),
            name: String::new(),
            namespace_build_id: build_id,
            zip,
            override_name: false,
            build_arn: String::new(),
            encryption_key: None,
        }
    }

    #[test]
    fn keys_follow_the_documented_table() {
        let key = |path, build_id, name, zip| Location::new(&target(path, build_id, zip), name, "ID", None).0;
        assert_eq!(key("MyArtifacts", false, "MyArtifact.zip", true), "MyArtifacts/MyArtifact.zip"); // SA-070
        assert_eq!(key("MyArtifacts", true, "MyArtifact.zip", true), "MyArtifacts/ID/MyArtifact.zip"); // SA-071
        assert_eq!(key("", false, "N", true), "N"); // SA-072
        assert_eq!(key("", true, "N", true), "ID/N"); // SA-073
        assert_eq!(key("P", false, "N", false), "P/N/"); // SA-074
        assert_eq!(key("P", true, "N", false), "P/ID/N/"); // SA-075
        assert_eq!(key("", false, "N", false), "N/"); // SA-076
        assert_eq!(key("", false, "/", false), ""); // SA-077
        assert_eq!(key("MyArtifacts", true, "/", false), "MyArtifacts/ID/"); // SA-078
        assert_eq!(key("P", false, "a/b/N.zip", true), "P/a/b/N.zip"); // SA-080
        let prefixed = |build_id, zip| Location::new(&target("P", build_id, zip), "N", "ID", Some("X")).0;
        assert_eq!(prefixed(true, true), "X/ID/N.zip"); // SA-079
        assert_eq!(prefixed(false, true), "P/N"); // BS-139
    }

    fn fed(upload: &mut Upload, records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| crate::stream::write(&mut bytes, record).unwrap());
        upload.feed(&bytes)
    }

    #[test]
    fn a_link_left_by_an_earlier_build_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("out")).unwrap();
        let mut upload = Upload::to_folder(folder.path(), None).unwrap();
        let file = Record::File { path: "out/file".into(), mode: 0o644 };
        assert!(fed(&mut upload, &[file]).is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn names_that_climb_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["../x", "/etc/x", "a/../b", "a//b", "."] {
            let mut upload = Upload::to_folder(folder.path(), None).unwrap();
            let file = Record::File { path: path.into(), mode: 0o644 };
            assert!(fed(&mut upload, &[file]).is_err(), "{path}");
        }
    }

    #[test]
    fn nothing_matched_is_the_documented_failure() {
        let folder = tempfile::tempdir().unwrap();
        let mut upload = Upload::to_folder(folder.path(), None).unwrap();
        fed(&mut upload, &[Record::Done]).unwrap();
        assert_eq!(upload.finish().unwrap_err(), "no matching artifact paths found"); // BS-132
    }

    #[test]
    fn a_stream_that_stops_early_is_not_an_artifact() {
        let folder = tempfile::tempdir().unwrap();
        let mut upload = Upload::to_folder(folder.path(), None).unwrap();
        fed(&mut upload, &[Record::File { path: "a".into(), mode: 0o644 }]).unwrap();
        assert!(upload.finish().is_err());
    }
}
