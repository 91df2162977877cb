//! A world for image tests: layers, layouts and archives made by hand, and looking at what became of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image::{Digest, Error, Image, Images, Progress};
use serde_json::{Value, json};
use tar::EntryType;

pub(crate) const MTIME: u64 = 1_600_000_000;

/// A temp folder with an images folder in it.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) images: Images,
}

impl World {
    pub(crate) fn new() -> World {
        World::at(tempfile::tempdir().unwrap())
    }

    /// Where writing out costs nothing, for those who unpack hundreds of images.
    pub(crate) fn in_memory() -> World {
        World::at(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn at(folder: tempfile::TempDir) -> World {
        let images = Images::open(&folder.path().join("images")).unwrap();
        World { folder, images }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::create(&self.path("layout"))
    }

    /// Unpacks an image of these layers.
    pub(crate) fn unpack(&self, layers: &[Layer]) -> Result<Image, Error> {
        let folder = self.path("layout");
        let _ = fs::remove_dir_all(&folder);
        let mut layout = Layout::create(&folder);
        layout.image("latest", layers);
        self.images.resolve(&layout.reference(), &mut |_| ())
    }

    /// Everything in the images folder that is, or was to be, a layer of an image.
    pub(crate) fn layers_folder(&self) -> Vec<String> {
        names(&self.path("images/layers"))
    }
}

/// What an image's folders are together. Where they are several, that is a mount which nobody else sees, and which is there as long as this is.
pub(crate) struct Root {
    path: PathBuf,
    _mount: Option<OwnedFd>,
}

impl std::ops::Deref for Root {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

pub(crate) fn root(image: &Image) -> Root {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
        fsmount, fsopen,
    };
    if let [folder] = &image.rootfs[..] {
        return Root { path: folder.clone(), _mount: None };
    }
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_set_flag(&context, "userxattr").unwrap();
    // Short names, which kernels take that know no other way.
    let folders: Vec<fs::File> = image.rootfs.iter().map(|folder| fs::File::open(folder).unwrap()).collect();
    let names: Vec<String> =
        folders.iter().map(|folder| format!("/proc/self/fd/{}", folder.as_raw_fd())).collect();
    fsconfig_set_string(&context, "lowerdir", names.join(":")).unwrap();
    fsconfig_create(&context).unwrap();
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap();
    let path = format!("/proc/self/fd/{}/.", mount.as_raw_fd());
    Root { path: path.into(), _mount: Some(mount) }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A layer as its bytes lie in a layout, and the digest of its uncompressed bytes.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) diff_id: Digest,
    pub(crate) suffix: &'static str,
}

impl Layer {
    pub(crate) fn plain(bytes: Vec<u8>) -> Layer {
        Layer { diff_id: Digest::of(&bytes), bytes, suffix: "" }
    }

    pub(crate) fn gzip(self) -> Layer {
        Layer { bytes: gzip(&self.bytes), suffix: "+gzip", ..self }
    }

    pub(crate) fn uncompressed(self) -> Layer {
        let mut bytes = Vec::new();
        match self.suffix {
            "+gzip" => flate2::bufread::GzDecoder::new(self.bytes.as_slice())
                .read_to_end(&mut bytes)
                .map(drop)
                .unwrap(),
            "+zstd" => bytes = zstd::decode_all(self.bytes.as_slice()).unwrap(),
            _ => bytes = self.bytes,
        }
        Layer::plain(bytes)
    }

    pub(crate) fn zstd(self) -> Layer {
        Layer { bytes: zstd::encode_all(self.bytes.as_slice(), 3).unwrap(), suffix: "+zstd", ..self }
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::bufread::GzEncoder::new(bytes, flate2::Compression::best()).read_to_end(&mut out).unwrap();
    out
}

/// Writes tar entries exactly as told, however unwise.
#[derive(Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar::default()
    }

    pub(crate) fn entry(
        mut self,
        kind: EntryType,
        name: &[u8],
        link: &[u8],
        mode: u32,
        owner: u64,
        content: &[u8],
    ) -> Tar {
        for (flag, long) in [(b'L', name), (b'K', link)] {
            if long.len() > 100 {
                self = self.entry(EntryType::new(flag), b"././@LongLink", b"", 0, 0, long);
            }
        }
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        let (name, link) = (&name[..name.len().min(100)], &link[..link.len().min(100)]);
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(MTIME);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Tar {
        self.entry(EntryType::Regular, name.as_bytes(), b"", 0o644, 0, content.as_bytes())
    }

    pub(crate) fn folder(self, name: &str) -> Tar {
        self.entry(EntryType::Directory, name.as_bytes(), b"", 0o755, 0, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Tar {
        self.entry(EntryType::Symlink, name.as_bytes(), target.as_bytes(), 0o777, 0, b"")
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Tar {
        self.entry(EntryType::Link, name.as_bytes(), target.as_bytes(), 0o644, 0, b"")
    }

    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (1..).map(|digits| rest + digits).find(|l| l.to_string().len() + rest == *l).unwrap();
            content.extend(format!("{length} {key}=").bytes());
            content.extend(*value);
            content.push(b'\n');
        }
        self.entry(EntryType::XHeader, b"pax", b"", 0o644, 0, &content)
    }

    pub(crate) fn bytes(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }

    /// Without the end of an archive.
    pub(crate) fn unended(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes that no header announces.
    pub(crate) fn append(mut self, bytes: &[u8]) -> Tar {
        self.bytes.extend(bytes);
        self
    }

    pub(crate) fn layer(self) -> Layer {
        Layer::plain(self.bytes())
    }
}

/// An OCI layout folder.
pub(crate) struct Layout {
    pub(crate) folder: PathBuf,
    index: Vec<Value>,
}

impl Layout {
    pub(crate) fn create(folder: &Path) -> Layout {
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout { folder: folder.into(), index: Vec::new() }
    }

    pub(crate) fn reference(&self) -> String {
        self.folder.display().to_string()
    }

    pub(crate) fn resolve(&self, images: &Images, suffix: &str) -> Result<Image, Error> {
        images.resolve(&format!("{}{suffix}", self.reference()), &mut |_| ())
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.blob_path(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    pub(crate) fn json(&self, media_type: &str, value: &Value) -> Value {
        self.blob(&format!("application/vnd.oci.image.{media_type}.v1+json"), value.to_string().as_bytes())
    }

    pub(crate) fn config(&self, architecture: &str, layers: &[Layer]) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let config = json!({
            "os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "config": {"Env": ["PATH=/bin", "GREETING=a=b"], "WorkingDir": "/srv", "User": "builder",
                       "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["true"]},
        });
        self.json("config", &config)
    }

    pub(crate) fn manifest(&self, config: Value, layers: &[Layer]) -> Value {
        let media_type = |layer: &Layer| format!("application/vnd.oci.image.layer.v1.tar{}", layer.suffix);
        let layers: Vec<_> = layers.iter().map(|layer| self.blob(&media_type(layer), &layer.bytes)).collect();
        self.json("manifest", &json!({"schemaVersion": 2, "config": config, "layers": layers}))
    }

    /// Adds an image for this host.
    pub(crate) fn image(&mut self, tag: &str, layers: &[Layer]) -> Digest {
        let config = self.config(host_architecture(), layers);
        let manifest = self.manifest(config, layers);
        self.list(tag, manifest)
    }

    /// Puts an entry into the layout's index.
    pub(crate) fn list(&mut self, tag: &str, mut entry: Value) -> Digest {
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let digest = entry["digest"].as_str().unwrap().parse().unwrap();
        self.index.push(entry);
        fs::write(
            self.folder.join("index.json"),
            json!({"schemaVersion": 2, "manifests": self.index}).to_string(),
        )
        .unwrap();
        digest
    }

    /// The layout as an OCI archive.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir_all(".", &self.folder).unwrap();
        builder.into_inner().unwrap()
    }
}

pub(crate) fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Every path of a tree with what matters of it: type, mode, owner, links, time and content.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    describe(root, root, &mut found);
    found
}

fn describe(root: &Path, path: &Path, found: &mut BTreeMap<String, String>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let file_type = metadata.file_type();
    let content = match () {
        () if file_type.is_symlink() => format!("-> {}", fs::read_link(path).unwrap().display()),
        () if file_type.is_dir() => "folder".into(),
        () if file_type.is_fifo() => "fifo".into(),
        () if file_type.is_file() => {
            format!("{} x{}", Digest::of(&fs::read(path).unwrap()), metadata.nlink())
        }
        () => "device".into(),
    };
    let (mode, uid, gid) = (metadata.permissions().mode(), metadata.uid(), metadata.gid());
    let name = path.strip_prefix(root).unwrap().display().to_string();
    found.insert(name, format!("{mode:o} {uid}:{gid} {} {content}", metadata.mtime()));
    if file_type.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| describe(root, &entry.unwrap().path(), found));
    }
}

/// Whether one of Debian's tools is here; what needs it is not run otherwise.
pub(crate) fn has(tool: &str) -> bool {
    let found =
        Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("not run: {tool} is not installed");
    }
    found
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs the test `name` of this very program again, as another process.
pub(crate) fn again(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command
}

pub(crate) fn unpackings(progress: &[Progress]) -> usize {
    progress.iter().filter(|p| matches!(p, Progress::Unpacking { .. })).count()
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> String {
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
    path.display().to_string()
}

/// Four layers with something of everything that every unpacker treats alike.
pub(crate) fn world_layers() -> [Layer; 4] {
    let long = "long/".repeat(30) + "name";
    let base = Tar::new()
        .folder("./")
        .folder("bin/")
        .entry(EntryType::Regular, b"bin/su", b"", 0o4755, 0, &[7; 100_000])
        .hardlink("bin/sudo", "bin/su")
        .entry(EntryType::Directory, b"home/user/", b"", 0o700, 1000, b"")
        .entry(EntryType::Regular, b"home/user/f", b"", 0o600, 1000, b"mine")
        .entry(EntryType::Symlink, b"home/user/l", b"/etc/passwd", 0o777, 1000, b"")
        .entry(EntryType::Directory, b"tmp", b"", 0o1777, 0, b"")
        .entry(EntryType::Fifo, b"tmp/fifo", b"", 0o622, 0, b"")
        .folder("old/")
        .file("old/a", "")
        .file("old/b/c", "")
        .file("name", "");
    let second = Tar::new()
        .entry(EntryType::Regular, long.as_bytes(), b"", 0o2750, 65_534, b"deep")
        .folder("old/")
        .file("old/.wh..wh..opq", "")
        .file("old/new", "")
        .file(".wh.name", "");
    let third =
        Tar::new().pax(&[("path", "unicode/ä".as_bytes()), ("mtime", b"1500000000.25")]).file("x", "y");
    // umoci gives implied folders the time of day.
    let fixed = |tar: Tar| tar.folder("unicode/").folder("home/").folder("old/b/").layer();
    let mut folders = Tar::new();
    for depth in 1..=30 {
        folders = folders.folder(&"long/".repeat(depth));
    }
    [base.layer(), second.layer().gzip(), fixed(third).zstd(), folders.layer()]
}
