//! The server that is measured: in a folder of its own, with a binary of its own, so that its processes are known.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Client;
use super::disk::Disk;
use super::sign;

/// A server's own log, in its folder.
const NOTES: &str = "server.log";
const PATIENCE: Duration = Duration::from_secs(120);
/// Without a change for this long nothing is on its way.
const REST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Server {
    process: Child,
    folder: PathBuf,
    host: String,
    /// Goes when everything in it has gone.
    _disk: Option<Disk>,
}

/// What is not as usual about a server.
enum Extra<'a> {
    /// It notes what it answers.
    Noting {
        database: Option<&'a str>,
    },
    Image(&'a Path),
}

/// KiB. `server` is the server's own process, `beside` all other processes of our binary.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) server: u64,
    pub(super) beside: u64,
    /// As `beside`, with pages that several processes share divided among them.
    pub(super) beside_shared: u64,
    pub(super) processes: usize,
}

impl Server {
    /// On a file system of its own, if one can be had.
    pub(super) fn start(binary: &Path) -> Result<Server, String> {
        Server::start_on_disk(binary, None)
    }

    /// All curated images are that one.
    pub(super) fn start_with_image(binary: &Path, image: &Path) -> Result<Server, String> {
        Server::start_on_disk(binary, Some(Extra::Image(image)))
    }

    fn start_on_disk(binary: &Path, extra: Option<Extra<'_>>) -> Result<Server, String> {
        let folder = own_folder();
        let disk = Disk::make(&folder);
        let folder = disk.as_ref().map_or(folder, |disk| disk.folder().join("bench"));
        let mut server = Server::start_in(folder.clone(), binary, &folder.join("data"), extra)?;
        server._disk = disk;
        Ok(server)
    }

    /// On a data folder that stays when it ends, and with the records in a database, if it is said which. It notes what it
    /// answers: see [`Server::took`].
    pub(super) fn start_on(binary: &Path, data: &Path, database: Option<&str>) -> Result<Server, String> {
        Server::start_in(own_folder(), binary, data, Some(Extra::Noting { database }))
    }

    fn start_in(
        folder: PathBuf,
        binary: &Path,
        data: &Path,
        extra: Option<Extra<'_>>,
    ) -> Result<Server, String> {
        std::fs::create_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let own = folder.join("buildyard");
        std::fs::copy(binary, &own).map_err(|e| format!("{}: {e}", binary.display()))?;
        let mut command = Command::new(&own);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        // What the server complains about explains a measurement that stops.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        match extra {
            Some(Extra::Noting { database }) => {
                command.args(database.iter().flat_map(|url| ["--database", url]));
                let notes = std::fs::File::create(folder.join(NOTES)).map_err(|e| e.to_string())?;
                command
                    .envs([("BUILDYARD_LOG", "warn,request=info"), ("BUILDYARD_LOG_FORMAT", "json")])
                    .stderr(notes);
            }
            Some(Extra::Image(image)) => {
                let config = folder.join("buildyard.toml");
                let text = format!("[images]\n\"aws/codebuild/*\" = \"{}\"\n", image.display());
                std::fs::write(&config, text).map_err(|e| e.to_string())?;
                command.arg("--config").arg(config);
            }
            None => {}
        }
        let process = command
            .env("BUILDYARD_ACCESS_KEY_ID", sign::KEY_ID)
            .env("BUILDYARD_SECRET_ACCESS_KEY", sign::SECRET)
            .spawn()
            .map_err(|e| format!("{}: {e}", own.display()))?;
        let host = host(&data.join("endpoint"))?;
        Ok(Server { process, folder, host, _disk: None })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn client(&self) -> Result<Client, String> {
        Client::connect(&self.host)
    }

    /// Makes a project without a source whose build runs `commands`.
    pub(super) fn project(&self, name: &str, buildspec: &Value) -> Result<Client, String> {
        let mut client = self.client()?;
        client.codebuild(
            "CreateProject",
            &json!({
                "name": name,
                "source": { "type": "NO_SOURCE", "buildspec": buildspec.to_string() },
                "artifacts": { "type": "NO_ARTIFACTS" },
                "environment": {
                    "type": "LINUX_CONTAINER",
                    "image": "aws/codebuild/standard:7.0",
                    "computeType": "BUILD_GENERAL1_SMALL",
                },
                "serviceRole": "arn:aws:iam::123456789012:role/bench",
            }),
        )?;
        Ok(client)
    }

    /// How many milliseconds each of its last `count` answers took the server itself, from a request's head to the beginning
    /// of its answer, by its log.
    pub(super) fn took(&self, count: usize) -> Result<Vec<f64>, String> {
        let notes = std::fs::read_to_string(self.folder.join(NOTES)).map_err(|e| e.to_string())?;
        let lines = notes.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let micros = lines.filter_map(|line| line["micros"].as_f64());
        let took: Vec<f64> = micros.take(count).map(|micros| micros / 1e3).collect();
        match took.len() == count {
            true => Ok(took),
            false => Err(format!("the server notes {} answers, not {count}", took.len())),
        }
    }

    /// Resident memory of the server and of everything it started from our binary.
    pub(super) fn memory(&self) -> Result<Memory, String> {
        let own = self.folder.join("buildyard");
        let mut memory = Memory { server: rollup(self.process.id(), "Rss:"), ..Memory::default() };
        for entry in std::fs::read_dir("/proc").map_err(|e| e.to_string())?.flatten() {
            let pid = entry.file_name().to_string_lossy().parse().unwrap_or(0);
            let is_ours = std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == own);
            if is_ours && pid != self.process.id() {
                memory.beside += rollup(pid, "Rss:");
                memory.beside_shared += rollup(pid, "Pss:");
                memory.processes += 1;
            }
        }
        Ok(memory)
    }

    /// As [`Server::memory`], once processes have ceased to come and go.
    pub(super) fn memory_at_rest(&self) -> Result<Memory, String> {
        let mut last = self.memory()?;
        wait("an end of starting and ending processes", || {
            std::thread::sleep(REST);
            let now = self.memory().ok()?;
            let before = std::mem::replace(&mut last, now);
            (before.processes == now.processes).then_some(now)
        })
    }

    pub(super) fn stop(mut self) -> Result<(), String> {
        self.process.kill().and_then(|()| self.process.wait()).map_err(|e| e.to_string())?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Another one for each server.
fn own_folder() -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("buildyard-bench-{}-{number}", std::process::id()))
}

/// KiB of one line of a process's memory summary; nothing if it has just gone.
fn rollup(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// `address:port` from the note the server leaves once it listens.
fn host(note: &Path) -> Result<String, String> {
    wait("the server", || {
        let text = std::fs::read_to_string(note).ok()?;
        let host = text.trim().strip_prefix("http://")?.to_owned();
        Client::connect(&host).ok().map(|_| host)
    })
}

/// Asks again every five milliseconds until there is an answer.
pub(super) fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(format!("{what} does not come"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
