//! The server under torture: a folder, a port and a binary of its own, all of which stay when it is killed and started again.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench::sign;

use super::api::{Answer, Api};
use super::kind::{ALL, BUCKET, PARAMETER, SECRET_NAME, SECRETS};
use super::witness::Witness;

/// How long a start may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Yard {
    folder: PathBuf,
    host: String,
    options: Options,
    pub(super) witness: Witness,
    process: Mutex<Option<Child>>,
    /// What waiting agents, and with them cgroups, of its servers were called: a prefix for each server.
    pools: Mutex<BTreeSet<String>>,
    /// Seconds by which the server's clock is ahead.
    ahead: Arc<AtomicI64>,
    /// Interfaces of containers that there were before.
    interfaces: BTreeSet<String>,
}

/// What is not the same for all servers.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) concurrent_builds: usize,
    /// Where the data are, if not in the folder.
    pub(super) data: Option<PathBuf>,
    pub(super) database: Option<String>,
    pub(super) variables: Vec<(String, String)>,
}

impl Yard {
    pub(super) fn make(binary: &Path, options: Options) -> Result<Yard, String> {
        let folder = own_folder();
        let told = |e: std::io::Error| format!("{}: {e}", folder.display());
        std::fs::create_dir(&folder).map_err(told)?;
        // Builds are somebody else here, and look below it for the witness.
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o711)).map_err(told)?;
        std::fs::copy(binary, folder.join("buildyard")).map_err(told)?;
        let witness = Witness::listen(&folder.join("shared"))?;
        let configuration = format!("[host]\nshared = [\"{}\"]\n", folder.join("shared").display());
        std::fs::write(folder.join("buildyard.toml"), configuration).map_err(told)?;
        let host = free_address()?;
        let (process, pools, ahead) = Default::default();
        let interfaces = super::host::unowned_interfaces();
        Ok(Yard { folder, host, options, witness, process, pools, ahead, interfaces })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn data(&self) -> PathBuf {
        self.options.data.clone().unwrap_or_else(|| self.folder.join("data"))
    }

    /// The program that is run; nothing else on this host has it.
    pub(super) fn program(&self) -> PathBuf {
        self.folder.join("buildyard")
    }

    pub(super) fn server_log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// The command line that starts the server, before anything that is put around it.
    pub(super) fn command(&self) -> Vec<String> {
        let mut words = vec![self.program().display().to_string(), "serve".into()];
        words.extend([
            "--listen".into(),
            self.host.clone(),
            "--data".into(),
            self.data().display().to_string(),
        ]);
        words.extend(["--config".into(), self.folder.join("buildyard.toml").display().to_string()]);
        words.extend(["--concurrent-builds".into(), self.options.concurrent_builds.to_string()]);
        if let Some(url) = &self.options.database {
            words.extend(["--database".into(), url.clone()]);
        }
        words
    }

    /// Starts the server; `around` stands before its command line. It may not answer yet.
    pub(super) fn launch(&self, around: &[String]) -> Result<u32, String> {
        let log =
            File::options().create(true).append(true).open(self.server_log()).map_err(|e| e.to_string())?;
        let words: Vec<String> = around.iter().cloned().chain(self.command()).collect();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .env("BUILDYARD_ACCESS_KEY_ID", sign::KEY_ID)
            .env("BUILDYARD_SECRET_ACCESS_KEY", sign::SECRET)
            .env("BUILDYARD_TORTURE", &self.folder)
            .envs(self.options.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{}: {e}", words[0]))?;
        let id = child.id();
        if let Some(mut before) = self.process().replace(child) {
            let _ = before.wait();
        }
        Ok(id)
    }

    /// Starts it and waits until it answers a signed request: how long that took.
    pub(super) fn start(&self) -> Result<Duration, String> {
        let begun = Instant::now();
        self.launch(&[])?;
        self.await_ready(PATIENCE)?;
        Ok(begun.elapsed())
    }

    pub(super) fn await_ready(&self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            if let Answer::Done(_) = self.api().ask("ListProjects", &json!({})) {
                return Ok(());
            }
            if self.has_ended() {
                return Err(format!("the server ended:\n{}", self.last_words()));
            }
            if Instant::now() > deadline {
                return Err(format!("the server does not answer after {patience:?}:\n{}", self.last_words()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// None if it has not been started.
    pub(super) fn server_id(&self) -> Option<u32> {
        self.process().as_ref().map(Child::id)
    }

    /// Asked of /proc: waiting for it would take its stops from whoever traces it.
    pub(super) fn has_ended(&self) -> bool {
        self.server_id().is_none_or(super::host::is_dead)
    }

    /// Processes of the program, the server's among them, that run now.
    pub(super) fn processes(&self) -> Vec<u32> {
        let running = super::host::running(&self.program());
        let pools = running.iter().filter_map(|process| super::host::pool_of(*process));
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).extend(pools);
        running
    }

    /// Those of all agents that were there whenever it was asked.
    pub(super) fn pools(&self) -> BTreeSet<String> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Interfaces of containers that are no more, since this yard is there.
    pub(super) fn new_interfaces(&self) -> Vec<String> {
        super::host::unowned_interfaces().difference(&self.interfaces).cloned().collect()
    }

    /// `kill -9`.
    pub(super) fn kill(&self) {
        if let Some(mut child) = self.process().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A polite end: builds go on, nothing else does.
    pub(super) fn stop(&self) -> Result<(), String> {
        let Some(mut child) = self.process().take() else { return Ok(()) };
        super::host::signal(child.id(), nix::sys::signal::Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(format!("the server ended with {status}:\n{}", self.last_words()));
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        Err("the server does not end when it is told to".into())
    }

    pub(super) fn api(&self) -> Api {
        Api::new(&self.host, self.ahead.clone())
    }

    /// Requests made from now on are signed for a clock that is so far ahead.
    pub(super) fn set_ahead(&self, seconds: i64) {
        self.ahead.store(seconds, Ordering::Relaxed);
    }

    /// Bucket, parameter and projects.
    pub(super) fn furnish(&self) -> Result<(), String> {
        let bucket = self.data().join("s3").join(BUCKET);
        std::fs::create_dir_all(&bucket).map_err(|e| format!("{}: {e}", bucket.display()))?;
        let mut api = self.api();
        let secret =
            json!({ "Name": PARAMETER, "Value": SECRETS[0], "Type": "SecureString", "Overwrite": true });
        api.of("ssm", "AmazonSSM.PutParameter", &secret).done()?;
        let secret = json!({ "Name": SECRET_NAME, "SecretString": SECRETS[1], "ClientRequestToken": "torture-secret-torture-secret-0001" });
        api.of("secretsmanager", "secretsmanager.CreateSecret", &secret).done()?;
        ALL.into_iter()
            .try_for_each(|kind| api.ask("CreateProject", &kind.definition(&self.witness)).done().map(drop))
    }

    /// The end of what the server wrote to its standard error.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read(self.server_log()).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Yard {
    /// Also the agents of builds that are not over.
    fn drop(&mut self) {
        self.kill();
        for process in super::host::running(&self.program()) {
            super::host::signal(process, nix::sys::signal::Signal::SIGKILL);
        }
        if std::env::var_os("BUILDYARD_TORTURE_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Another one for each server.
fn own_folder() -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("buildyard-torture-{}-{number}", std::process::id()))
}

fn free_address() -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    listener.local_addr().map(|address| address.to_string()).map_err(|e| e.to_string())
}
