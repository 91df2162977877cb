//! Builds in containers of a Docker daemon of this host.
//!
//! The agent is a process of this host as of [`Embedded`], with the same folder, journal and log, and so is found again in the same
//! way. Only the container is the daemon's: its first process is `buildyard-init`, which the daemon shows inside and which comes to
//! the agent by a socket. Agent and container end with each other; the container is removed by the daemon then, or by us.
//!
//! Here: the order of things. What the daemon is told is in `docker/container.rs`, how in `docker/daemon.rs`.

mod container;
mod daemon;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use agent::journal::{Event, Phase};
use agent::plan::{Plan, Rootfs};

use crate::embedded;
use crate::{Adopted, Embedded, Error, Executor, Future, Link, Result};
use daemon::Daemon;

/// How agents and containers are started.
#[derive(Debug, Clone)]
pub struct Options {
    pub agents: embedded::Options,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The program `buildyard-init`, linked statically. The daemon must see it at this path.
    pub init: PathBuf,
}

#[derive(Debug)]
pub struct Docker {
    agents: Embedded,
    daemon: Daemon,
    init: PathBuf,
    /// A daemon refuses a container that may have more.
    processors: u64,
    /// Tells our containers from those of others: where the builds' folders are.
    builds: String,
}

/// An image that the daemon has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    /// The variables it sets.
    pub variables: BTreeMap<String, String>,
}

impl Docker {
    /// As [`Embedded::open`]; the daemon must answer.
    ///
    /// # Errors
    /// [`Error::Folder`], [`Error::Program`] if init could not run in any image, [`Error::Daemon`].
    pub async fn open(options: Options) -> Result<Docker> {
        let init = std::path::absolute(&options.init).map_err(Error::folder("find", &options.init))?;
        program::check(&init)?;
        let daemon = Daemon::at(options.socket);
        let processors = daemon.processors().await?;
        let builds = options.agents.builds.clone();
        let agents = Embedded::open(options.agents)?;
        let builds = std::fs::canonicalize(&builds).map_err(Error::folder("resolve", &builds))?;
        Ok(Docker { agents, daemon, init, processors, builds: builds.display().to_string() })
    }

    /// As [`Embedded::waiting_agents`].
    pub fn waiting_agents(&self) -> usize {
        self.agents.waiting_agents()
    }

    /// As [`image`], of this daemon.
    ///
    /// # Errors
    /// As [`image`].
    pub async fn image(&self, name: &str) -> Result<Image> {
        find_image(&self.daemon, name).await
    }

    async fn launch_with_container(&self, uuid: &str, plan: &Plan) -> Result<Link> {
        if !matches!(plan.environment.rootfs, Rootfs::Image(_)) {
            let reason =
                "environment: the docker executor runs builds in images, and this one has none".into();
            return Err(Error::NotStarted { reason });
        }
        let link = self.agents.launch(uuid, plan).await?;
        self.bring(uuid, plan).await;
        Ok(link)
    }

    /// Has the container made for an agent that waits for it. The agent tells the build why if there is none.
    async fn bring(&self, uuid: &str, plan: &Plan) {
        let Ok(Some(folder)) = self.agents.folder_of(uuid) else { return };
        if let Err(error) = self.start_container(uuid, plan, &folder).await {
            // An agent that waits no longer has its container, or is gone.
            let _ = refuse(&folder, &error.to_string());
        }
    }

    async fn start_container(&self, uuid: &str, plan: &Plan, folder: &Path) -> Result<()> {
        let Docker { init, builds, processors, .. } = self;
        let place = container::Place { folder, init, builds, processors: *processors };
        let wanted = container::wanted(plan, &place);
        let name = container::name(uuid);
        self.daemon.create(&name, &wanted).await?;
        self.daemon.start(&name).await
    }

    async fn adopt_with_container(&self, uuid: &str) -> Result<Adopted> {
        let adopted = self.agents.adopt(uuid).await?;
        match &adopted {
            Adopted::Running(link) => self.complete(uuid, link).await?,
            Adopted::NeverStarted | Adopted::Dead(_) => self.daemon.remove(&container::name(uuid)).await?,
        }
        Ok(adopted)
    }

    /// Whoever launched the build may have been killed before there was a container.
    async fn complete(&self, uuid: &str, link: &Link) -> Result<()> {
        let (events, _) = link.events_after(0)?;
        let is_provisioned =
            |event: &Event| matches!(event, Event::PhaseEnded { phase: Phase::Provisioning, .. });
        if let Some(folder) = self.agents.folder_of(uuid)?.filter(|_| !events.iter().any(is_provisioned)) {
            let path = folder.join(agent::PLAN);
            let read = std::fs::read(&path).and_then(|text| Ok(serde_json::from_slice::<Plan>(&text)?));
            self.bring(uuid, &read.map_err(Error::folder("read", &path))?).await;
        }
        Ok(())
    }
}

/// Finds the image that the daemon at `socket` knows by this name, or has it fetched.
///
/// # Errors
/// [`Error::Daemon`] with the daemon's words.
pub async fn image(socket: &Path, name: &str) -> Result<Image> {
    find_image(&Daemon::at(socket.to_path_buf()), name).await
}

async fn find_image(daemon: &Daemon, name: &str) -> Result<Image> {
    if let Some(found) = daemon.image(name).await? {
        return Ok(found);
    }
    daemon.pull(name).await?;
    let missing = || Error::Daemon { asked: format!("for the image {name}"), reason: "it has none".into() };
    daemon.image(name).await?.ok_or_else(missing)
}

/// By way of the folder's descriptor, because a socket's path may not exceed 107 bytes.
fn refuse(folder: &Path, why: &str) -> std::result::Result<(), ::container::Error> {
    let Ok(handle) = std::fs::File::open(folder) else { return Ok(()) };
    ::container::Awaited::refuse(&embedded::below(&handle, agent::brought::SOCKET), why)
}

impl Executor for Docker {
    fn launch<'a>(&'a self, uuid: &'a str, plan: &'a Plan) -> Future<'a, Link> {
        Box::pin(self.launch_with_container(uuid, plan))
    }

    fn adopt<'a>(&'a self, uuid: &'a str) -> Future<'a, Adopted> {
        Box::pin(self.adopt_with_container(uuid))
    }

    fn left<'a>(&'a self, uuid: &'a str, file: &'a str) -> Future<'a, Vec<u8>> {
        self.agents.left(uuid, file)
    }

    fn remove<'a>(&'a self, uuid: &'a str) -> Future<'a, ()> {
        Box::pin(async move {
            self.daemon.remove(&container::name(uuid)).await?;
            self.agents.remove(uuid).await
        })
    }

    fn remaining<'a>(&'a self) -> Future<'a, Vec<String>> {
        Box::pin(async move {
            let containers =
                self.daemon.labelled(container::BUILDS_LABEL, &self.builds, container::BUILD_LABEL);
            let mut uuids: BTreeSet<String> = containers.await?.into_iter().collect();
            uuids.extend(self.agents.remaining().await?);
            Ok(uuids.into_iter().collect())
        })
    }
}
