//! Kept environments: what the builds of one source folder wrote, layer by layer, and the record that says what is what.
//!
//! A layer is the scratch folder of a container that has ended, with the shell's variables in it as of its end. An environment is a stack
//! of layers, which costs nothing to keep. The record names them and is replaced as a whole; a layer that it does not name is rubbish.
//! Not here: when a layer is closed (`build/keeping.rs`), and how layers are shown (`container`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::journal::Phase;
use crate::plan::Environment;

const RECORD: &str = "record.json";
const LOCK: &str = "lock";
const LAYERS: &str = "layers";
/// The shell's variables, in a layer's folder, where nothing inside can reach them.
const STATE: &str = "state";
/// Changes when records of this version cannot be read by the next one.
const VERSION: u32 = 1;

/// What is kept of the latest build of a source folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// Nothing is forced to the disk, so that layers cannot be trusted once the machine has been started anew.
    boot: String,
    pub build_id: String,
    pub source: PathBuf,
    /// Digits of the source folder inside; paths of it are in what was written.
    pub source_number: u32,
    pub environment: Environment,
    /// By the phase they were kept before.
    pub points: BTreeMap<Phase, Point>,
    /// The environment in the end.
    pub left: Option<Left>,
    /// Whose variables they are: bash's or sh's.
    pub(crate) is_bash: bool,
    /// Fingerprints of what led there: the commands of each phase, each variable the first command found.
    pub(crate) phases: BTreeMap<Phase, u64>,
    pub(crate) variables: BTreeMap<String, u64>,
    /// Folders of the build's cache, which are in no layer but for what was written to them.
    #[serde(default)]
    pub(crate) cached: Vec<CachedFolder>,
}

/// A folder that shows kept files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CachedFolder {
    pub(crate) inside: PathBuf,
    /// Its name in each layer.
    pub(crate) upper: String,
    /// What lies beneath all layers, the latest first.
    pub(crate) beneath: Vec<PathBuf>,
}

/// The environment at a phase border.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Point {
    Kept(Kept),
    /// There is none, and why.
    Missing(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The earliest first; none if nothing had run.
    layers: Vec<String>,
    pub(crate) last_exit: i32,
    pub(crate) succeeding: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    pub(crate) kept: Kept,
    /// The first phase that failed.
    pub failed: Option<Phase>,
    /// Who ran its commands, if not root.
    pub(crate) user: Option<String>,
}

impl Kept {
    /// Nothing had run.
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

impl Record {
    /// The record in `folder`, if there is one that this program can read.
    pub fn read(folder: &Path) -> io::Result<Option<Record>> {
        let bytes = match fs::read(folder.join(RECORD)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        Ok(serde_json::from_slice(&bytes).ok().filter(|record: &Record| record.version == VERSION))
    }

    pub(crate) fn shell(&self) -> &'static str {
        if self.is_bash { "bash" } else { "sh" }
    }

    /// Whether the machine has not been started anew since.
    pub fn is_trusted(&self) -> bool {
        self.boot == boot()
    }

    /// Takes over what an earlier record has up to the border before `phase`; says which earlier phases have changed.
    pub(crate) fn follow(&mut self, earlier: &Record, phase: Phase) -> Vec<String> {
        self.points = earlier.points.clone();
        self.points.retain(|at, _| *at <= phase);
        let done = earlier.phases.iter().filter(|(at, _)| **at < phase);
        let changed = done.filter(|(at, before)| self.phases.insert(**at, **before) != Some(**before));
        changed
            .map(|(at, _)| {
                format!("Warning: {} has changed since its snapshot and does not run again", at.name())
            })
            .collect()
    }

    fn layers(&self) -> BTreeSet<&str> {
        let kept = self.points.values().filter_map(|point| match point {
            Point::Kept(kept) => Some(kept),
            Point::Missing(_) => None,
        });
        let left = self.left.iter().map(|left| &left.kept);
        kept.chain(left).flat_map(|kept| &kept.layers).map(String::as_str).collect()
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Bytes on disk of everything in `folder`.
pub fn size_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => metadata.blocks() * 512 + size_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Removes the layers that the record does not name, or everything. False if a build is at work in the folder.
pub fn sweep(folder: &Path, everything: bool) -> io::Result<bool> {
    let Some(_lock) = lock(folder)? else { return Ok(false) };
    let record = Record::read(folder)?.filter(|_| !everything);
    let named = record.as_ref().map(Record::layers).unwrap_or_default();
    if everything {
        gone(fs::remove_file(folder.join(RECORD)))?;
    }
    for entry in fs::read_dir(folder.join(LAYERS)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !named.contains(name.to_string_lossy().as_ref()) {
            // Its container has ended; a name that none has says so.
            container::sweep("no-container", &entry.path()).map_err(io::Error::other)?;
            gone(fs::remove_dir(entry.path()))?;
        }
    }
    if everything {
        gone(fs::remove_dir_all(folder))?;
    }
    Ok(true)
}

pub(crate) fn gone(removal: io::Result<()>) -> io::Result<()> {
    match removal {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// `None`: somebody else has it.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = match File::options().create(true).append(true).mode(0o600).open(folder.join(LOCK)) {
        // Removed as a whole, just now.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// FNV-1a; tells changes apart and hides nothing.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// A build's own hold on the folder.
#[derive(Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
    _lock: File,
    uuid: String,
    made: u32,
    /// Closed layers, the earliest first.
    beneath: Vec<String>,
    /// The one that is being written.
    open: Option<String>,
    pub(crate) record: Record,
}

impl Shelf {
    /// `Ok(None)`: another build is at work there.
    pub(crate) fn open(folder: &Path, plan: &crate::plan::Plan) -> io::Result<Option<Shelf>> {
        let Some(lock) = lock(folder)? else { return Ok(None) };
        DirBuilder::new().recursive(true).mode(0o700).create(folder.join(LAYERS))?;
        let source = match &plan.source {
            crate::plan::Source::Folder(folder) => folder.clone(),
            _ => PathBuf::new(),
        };
        let record = Record {
            version: VERSION,
            boot: boot(),
            build_id: plan.build_id.clone(),
            source,
            source_number: plan.source_number,
            environment: plan.environment.clone(),
            points: BTreeMap::new(),
            left: None,
            is_bash: false,
            phases: BTreeMap::new(),
            variables: BTreeMap::new(),
            cached: Vec::new(),
        };
        Ok(Some(Shelf {
            folder: folder.to_owned(),
            _lock: lock,
            uuid: plan.uuid.clone(),
            made: 0,
            beneath: Vec::new(),
            open: None,
            record,
        }))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stands on a kept environment from now on.
    pub(crate) fn stand_on(&mut self, kept: &Kept) {
        self.beneath.clone_from(&kept.layers);
    }

    /// The folder of a new layer, and those it lies on.
    pub(crate) fn next_layer(&mut self) -> io::Result<(PathBuf, Vec<PathBuf>)> {
        self.made += 1;
        let name = format!("{}-{}", self.uuid, self.made);
        let path = self.path(&name);
        DirBuilder::new().mode(0o700).create(&path)?;
        self.open = Some(name);
        Ok((path, self.beneath.iter().map(|name| self.path(name)).collect()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(LAYERS).join(name)
    }

    /// The variables that the open layer ends with.
    pub(crate) fn write_state(&self, state: &[u8]) -> io::Result<()> {
        let Some(name) = &self.open else { return Ok(()) };
        let path = self.path(name).join(STATE);
        File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(state)
    }

    /// The container that wrote the open layer has ended.
    pub(crate) fn close_layer(&mut self) {
        self.beneath.extend(self.open.take());
    }

    /// The closed layers as an environment.
    pub(crate) fn kept(&self, last_exit: i32, succeeding: bool) -> Kept {
        Kept { layers: self.beneath.clone(), last_exit, succeeding }
    }

    /// The variables of a kept environment; `None` if nothing had run.
    pub(crate) fn state(&self, kept: &Kept) -> io::Result<Option<Vec<u8>>> {
        kept.layers.last().map(|name| fs::read(self.path(name).join(STATE))).transpose()
    }

    /// Replaces the record: from now on these environments count.
    pub(crate) fn save(&self) -> io::Result<()> {
        let unseen = self.folder.join(format!("{RECORD}.{}", self.uuid));
        let bytes = serde_json::to_vec_pretty(&self.record)?;
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unseen)?
            .write_all(&bytes)?;
        fs::rename(unseen, self.folder.join(RECORD))
    }
}
