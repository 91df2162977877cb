//! OCI layout folders: `index.json` and `blobs/sha256/<hex>`.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::manifest::{self, Descriptor, Document};
use crate::origin::{Blob, Origin, select};
use crate::{Error, Limits, Progress, Select};

/// An OCI layout folder.
#[derive(Debug)]
pub(crate) struct Layout {
    folder: PathBuf,
    limits: Limits,
}

impl Layout {
    pub(crate) fn open(folder: &Path, limits: &Limits) -> Result<Layout, Error> {
        let layout = Layout { folder: folder.to_owned(), limits: limits.clone() };
        let marker = layout.file(Path::new("oci-layout"))?.read_document(limits)?;
        check_marker(&marker)?;
        Ok(layout)
    }

    /// Which blob `which` means.
    pub(crate) fn start(&self, which: &Select) -> Result<Descriptor, Error> {
        let index = self.file(Path::new("index.json"))?.read_document(&self.limits)?;
        select(index_entries(&index)?, which, &self.folder)
    }

    /// Opens a plain file; anything else (a FIFO would block, a device might act) is refused.
    fn file(&self, name: &Path) -> Result<Blob, Error> {
        let path = self.folder.join(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Err(Error::NotFound(path.display().to_string())),
            Err(error) => return Err(Error::io("opening", &path)(error)),
        };
        let metadata = file.metadata().map_err(Error::io("examining", &path))?;
        if !metadata.is_file() {
            return Err(Error::malformed(path.display().to_string(), "not a regular file"));
        }
        Ok(Blob::new(file, 0, metadata.len()))
    }
}

impl Origin for Layout {
    fn document(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.file(&blob_path(descriptor))?.read_document(&self.limits)
    }

    fn blob(
        &mut self,
        descriptor: &Descriptor,
        _: &Path,
        _: &mut dyn FnMut(Progress),
    ) -> Result<Blob, Error> {
        self.file(&blob_path(descriptor))
    }
}

pub(crate) fn blob_path(descriptor: &Descriptor) -> PathBuf {
    Path::new("blobs/sha256").join(descriptor.digest.hex())
}

pub(crate) fn check_marker(bytes: &[u8]) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let marker: Marker = manifest::parse("oci-layout", bytes)?;
    if marker.image_layout_version.starts_with("1.") {
        return Ok(());
    }
    Err(Error::malformed("oci-layout", format!("unknown layout version {:?}", marker.image_layout_version)))
}

pub(crate) fn index_entries(bytes: &[u8]) -> Result<Vec<Descriptor>, Error> {
    match Document::parse(bytes)? {
        Document::Index(entries) => Ok(entries),
        Document::Manifest(_) => Err(Error::malformed("index.json", "a manifest, not an index")),
    }
}
