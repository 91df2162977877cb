//! Images for a server's builds. Each is looked up, fetched and unpacked by a process of its own (`pulls/process.rs`): a registry that is
//! slow, or an archive that is hostile, holds none of the server's threads, and the process can be ended at any moment.
//!
//! Builds that want the same image wait for the same process. When none of them waits any more, it is killed. So there are never
//! more than builds may run at once: one that waits for its image counts as running.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent::plan::Unpacked;
use engine::config::KeptImage;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use image::{Digest, Images};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

pub(crate) mod process;

/// No image takes so long to come, whoever waits for it.
const LONGEST: Duration = Duration::from_secs(8 * 3600);
/// All that a process says of one image.
const SAID_BYTES: u64 = 16 << 20;

/// What a process is to fetch.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) reference: String,
    pub(crate) by: Logins,
    pub(crate) places: Places,
}

/// Which addresses a registry may be at.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Places {
    Anywhere,
    /// Public ones, `and` these blocks.
    Public {
        and: Vec<String>,
    },
}

/// Whose logins open the registry.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Logins {
    /// Those of the user that runs the server.
    Ours,
    /// A project's own, if it has one: user name and password.
    Project(Option<(String, String)>),
}

/// What a process is told, as one line of JSON.
#[derive(Serialize, Deserialize)]
struct Order {
    images: PathBuf,
    wanted: Wanted,
    quota_bytes: Option<u64>,
}

/// What it says, a line each.
#[derive(Serialize, Deserialize)]
enum Said {
    /// How far it is, for people.
    Told(String),
    /// It is unpacked. The last line.
    There(Digest),
    /// There is none. The last line.
    Failed(String),
}

/// An image that is there.
#[derive(Debug, Clone)]
pub(crate) struct Pulled {
    pub(crate) rootfs: Unpacked,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) held: KeptImage,
}

type Pull = Shared<BoxFuture<'static, Result<Pulled, String>>>;

/// The images of a server.
#[derive(Clone)]
pub(crate) struct Pulls(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    quota_bytes: Option<u64>,
    /// Variables that are the server's alone.
    hidden: Vec<String>,
    under_way: Mutex<HashMap<Wanted, Weak>>,
}

type Weak = WeakShared<BoxFuture<'static, Result<Pulled, String>>>;

impl Pulls {
    pub(crate) fn new(data: &Path, quota_bytes: Option<u64>, hidden: Vec<String>) -> Pulls {
        let folder = data.join("images");
        Pulls(Arc::new(Inner { folder, quota_bytes, hidden, under_way: Mutex::default() }))
    }

    /// The image, once it is there; one that is there already needs no process. The error is for whoever named it.
    pub(crate) async fn pull(&self, wanted: Wanted) -> Result<Pulled, String> {
        if let Some(pulled) = self.at_hand(&wanted).await {
            return Ok(pulled);
        }
        let reference = wanted.reference.clone();
        let pull = self.join(wanted);
        let done = tokio::time::timeout(LONGEST, pull).await;
        let late = |_| Err(format!("it has not come within {} hours", LONGEST.as_secs() / 3600));
        done.unwrap_or_else(late).map_err(|why| format!("cannot use the image {reference}: {why}"))
    }

    async fn at_hand(&self, wanted: &Wanted) -> Option<Pulled> {
        let (folder, reference) = (self.0.folder.clone(), wanted.reference.clone());
        let look = move || {
            let images = Images::open(&folder).ok()?;
            hold(&images, images.at_hand(&reference)?)
        };
        tokio::task::spawn_blocking(look).await.ok()?
    }

    /// The pull that is under way for the same, or a new one. It lives as long as somebody waits for it.
    fn join(&self, wanted: Wanted) -> Pull {
        let mut under_way = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, pull| pull.upgrade().is_some_and(|pull| pull.peek().is_none()));
        if let Some(pull) = under_way.get(&wanted).and_then(WeakShared::upgrade) {
            return pull;
        }
        let pull = fetch(self.0.clone(), wanted.clone()).boxed().shared();
        under_way.extend(pull.downgrade().map(|pull| (wanted, pull)));
        pull
    }
}

/// None if it is removed just now.
fn hold(images: &Images, image: image::Image) -> Option<Pulled> {
    let held = KeptImage::new(images.hold(&image).ok()??);
    let rootfs = Unpacked { layers: image.rootfs, lock: image.lock };
    Some(Pulled { rootfs, variables: image.config.env, held })
}

/// Has a process fetch it. Whoever drops this kills the process.
async fn fetch(pulls: Arc<Inner>, wanted: Wanted) -> Result<Pulled, String> {
    let reference = wanted.reference.clone();
    let order = Order { images: pulls.folder.clone(), wanted, quota_bytes: pulls.quota_bytes };
    let mut process = start(&pulls.hidden).map_err(|e| format!("no process can be started for it: {e}"))?;
    let said = follow(&mut process, &order, &reference).await;
    let Some(said) = said.map_err(|e| format!("the process that fetches it: {e}"))? else {
        let ended = process.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string());
        return Err(format!("the process that fetches it ended: {ended}"));
    };
    let digest = said?;
    let take_over = move || {
        let images = Images::open(&pulls.folder).ok()?;
        hold(&images, images.image(&digest)?)
    };
    // The process holds it until we do.
    let held = tokio::task::spawn_blocking(take_over).await.ok().flatten();
    drop(process);
    held.ok_or_else(|| "it was removed at once".to_owned())
}

fn start(hidden: &[String]) -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("pull").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    for name in hidden {
        command.env_remove(name);
    }
    command.spawn()
}

/// Its last word; none if it ended without. It ends by itself when its input does, which is with us at the latest.
async fn follow(
    process: &mut Child,
    order: &Order,
    reference: &str,
) -> std::io::Result<Option<Result<Digest, String>>> {
    let (Some(input), Some(output)) = (&mut process.stdin, &mut process.stdout) else { return Ok(None) };
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    // One that has ended already says more by how it ended.
    let _ = input.write_all(&line).await;
    let mut lines = BufReader::new(output.take(SAID_BYTES)).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Said::Told(text) => tracing::info!(image = %reference, "{text}"),
            Said::There(digest) => return Ok(Some(Ok(digest))),
            Said::Failed(why) => return Ok(Some(Err(why))),
        }
    }
    Ok(None)
}
