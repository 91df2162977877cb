//! Git sources: fetched in a container of their own, that has nothing of the build's and is gone before the build's sees a file.
//!
//! What git is told, and what its answers mean, is `source`'s. Here: the container, the credential that goes to one command by one
//! descriptor and nowhere else, and the way of the files from there to the build.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Seek;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use container::{Container, ExitStatus, Process};
use source::git::{self, Command, Remote};
use source::submodules::{self, Placed};
use source::{Location, Policy, Scheme, Version, failure, refs, tree};

use super::context::{client_error, failed};
use super::repositories::{Kept, Parts};
use super::ssh::{Ssh, readable};
use super::{Build, Ended, FETCH};
use crate::answer::{Answer, GitCredential};
use crate::fetching::{self, Host, Tree};
use crate::journal::{Context, Event};
use crate::plan::{Fetching, Git, Trust};
use crate::session::Halt;
use crate::ssh_agent::Relay;

/// Where a repository is fetched to, inside.
const FOLDER: &str = "/fetch/repository";
const GIT_FOLDER: &str = "/fetch/repository/.git";
/// What was fetched in more parts than these is put into one before it is kept.
const MOST_PACKS: u64 = 16;
/// What git may print that is kept: the references that match, one error, a file of submodules.
const PRINTED_BYTES: usize = 4 << 20;
const MEMORY_BYTES: u64 = 2 << 30;
const PROCESSES: u64 = 256;
/// Where systems keep the certificates they trust.
const SYSTEM_CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Why a fetch goes no further.
enum Stopped {
    Halt(Halt),
    /// The build's owner can mend it.
    Failed(Context),
}

type Result<T, E = Stopped> = std::result::Result<T, E>;

impl From<Halt> for Stopped {
    fn from(halt: Halt) -> Stopped {
        Stopped::Halt(halt)
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Stopped {
        Stopped::Halt(error.into())
    }
}

impl From<source::Error> for Stopped {
    fn from(error: source::Error) -> Stopped {
        Stopped::Failed(client_error(error.to_string()))
    }
}

impl Build<'_> {
    /// Fetches a repository into `folder`. `name` is what messages call it. COMPAT: SA-020..029.
    pub(super) fn fetch_repository(
        &mut self,
        git: &Git,
        folder: &Path,
        name: &str,
    ) -> std::result::Result<Ended, Halt> {
        match self.fetch_and_hand_over(git, folder, name) {
            Ok(()) => Ok(Ok(())),
            Err(Stopped::Failed(context)) => Ok(Err(context)),
            Err(Stopped::Halt(Halt::Guest(why))) => {
                self.session.end_guest()?;
                Ok(Err(client_error(format!("Git clone failed: {why}"))))
            }
            Err(Stopped::Halt(halt)) => Err(halt),
        }
    }

    fn fetch_and_hand_over(&mut self, git: &Git, folder: &Path, name: &str) -> Result<()> {
        let location = Location::parse(&git.location)?;
        let version = Version::parse(git.version.as_deref())?;
        let policy = policy(&self.plan.fetching)?;
        let credentials = self.credentials_of_git()?;
        let archive = self.passing()?;
        let ssh = match location.scheme() {
            Scheme::Ssh => Ssh::read(&self.plan.fetching.ssh).map_err(Stopped::Failed)?,
            _ => Ssh::default(),
        };
        let (has_certificates, relay) = self.open_guest(&ssh)?;
        let kept = kept(&self.plan.fetching, git, &location);
        let mut fetch = Fetch {
            build: self,
            git,
            name,
            asked: git.version.as_deref().unwrap_or("HEAD"),
            policy,
            credentials,
            has_certificates,
            ssh,
            repositories: 0,
            kept,
            had: None,
        };
        let fetched =
            fetch.take_up().and_then(|()| fetch.repository(&location, &version)).and_then(|commit| {
                fetch.pack(&archive)?;
                Ok(commit)
            });
        // One thread may be no more when another container is made.
        drop(relay);
        if !matches!(fetched, Err(Stopped::Halt(_))) {
            self.session.end_guest()?;
        }
        let commit = fetched?;
        self.take_over(archive, folder)?;
        if folder == self.source_folder {
            self.resolved_version = Some(commit.clone());
            self.session.record(&Event::SourceResolved { version: commit })?;
        }
        Ok(())
    }

    /// Asked for once, and kept for this phase.
    fn credentials_of_git(&mut self) -> Result<Vec<GitCredential>> {
        if let Some(known) = &self.git_credentials {
            return Ok(known.clone());
        }
        let question = Event::ReferencesNeeded { parameters: Vec::new(), secrets: Vec::new(), git: true };
        match self.session.ask(&question)? {
            Answer::Values { git, .. } => {
                self.git_credentials = Some(git.clone());
                Ok(git)
            }
            Answer::Refused { status_code, message } => Err(Stopped::Failed(failed(&status_code, message))),
            Answer::Reports(_) => Err(Halt::Fault(super::OTHER_ANSWER.into()).into()),
        }
    }

    /// Whether it has certificates of the operator's; and the way to the user's ssh-agent, if there is one.
    fn open_guest(&mut self, ssh: &Ssh) -> Result<(bool, Option<Relay>)> {
        let Some(home) = &self.environment else {
            return Err(Halt::Fault("there is no place".into()).into());
        };
        let scratch = home.scratch.join("fetch");
        std::fs::create_dir_all(&scratch)?;
        let name = format!("{}{FETCH}", home.name.trim_end_matches(super::NEXT));
        let certificates = certificates(&self.plan.fetching)?;
        let has_certificates = certificates.is_some();
        let relayed = home.scratch.join("ssh-agent");
        if ssh.agent.is_some() {
            std::fs::create_dir_all(&relayed)?;
        }
        let mounts = ssh
            .agent
            .as_ref()
            .map(|_| container::Mount::ReadOnly { host: relayed.clone(), inside: git::AGENT_FOLDER.into() });
        let spec = container::Spec {
            rootfs: container::Rootfs::Host { visible: container::default_visible_paths() },
            scratch,
            may_lie_beneath: false,
            beneath: Vec::new(),
            mounts: mounts.into_iter().collect(),
            masks: Vec::new(),
            folders: vec!["/fetch".into()],
            files: certificates.into_iter().chain(ssh.file()).collect(),
            hostname: "fetch".into(),
            network: match self.plan.fetching.own_network {
                true => container::Network::Fetching,
                false => container::Network::Host,
            },
            limits: container::Limits {
                memory_bytes: Some(MEMORY_BYTES),
                pids: Some(PROCESSES),
                cpu_millis: None,
                disk_bytes: None,
            },
            is_privileged: false,
            name,
            output: File::options().write(true).open("/dev/null")?.into(),
            functions: fetching::FUNCTIONS,
            listen: Vec::new(),
        };
        // One thread may be no more when a container is made.
        self.session.log.stop_syncing();
        let created = Container::create(spec);
        self.session.log.sync_regularly(&self.plan.log)?;
        let container = created.map_err(|error| Halt::Fault(error.to_string()))?;
        self.session.set_guest(container, Duration::from_secs(source::SECONDS));
        let relay = ssh.agent.clone().map(|agent| Relay::start(&relayed, git::AGENT_SOCKET, agent));
        Ok((has_certificates, relay.transpose()?))
    }

    fn take_over(&mut self, mut archive: File, folder: &Path) -> Result<()> {
        archive.rewind()?;
        self.inside("unpack-source", &Tree::of(folder), Some(archive))?.map_err(Stopped::Failed)
    }
}

/// A few commits of a repository are not worth it, and would stand in the way of all of them.
fn kept(fetching: &Fetching, git: &Git, location: &Location) -> Option<(Kept, Trust)> {
    let repositories = fetching.kept.as_ref().filter(|_| git.depth.is_none())?;
    Some((Kept::of(&repositories.folder, location), repositories.trust))
}

fn policy(fetching: &Fetching) -> Result<Policy> {
    let allowed = fetching.allow.iter().map(|text| text.parse()).collect::<source::Result<_>>()?;
    Ok(Policy { anywhere: fetching.anywhere, allowed })
}

/// The system's certificates and the operator's.
fn certificates(fetching: &Fetching) -> Result<Option<container::File>> {
    let Some(own) = &fetching.certificates else { return Ok(None) };
    let mut bytes = std::fs::read(own)
        .map_err(|e| client_error(format!("the certificates {} cannot be read: {e}", own.display())))
        .map_err(Stopped::Failed)?;
    for system in SYSTEM_CERTIFICATES {
        if let Ok(more) = std::fs::read(system) {
            bytes.push(b'\n');
            bytes.extend(more);
            break;
        }
    }
    Ok(Some(container::File { path: git::CERTIFICATES.into(), bytes, mode: 0o444 }))
}

/// A fetch in its container.
struct Fetch<'b, 'a> {
    build: &'b mut Build<'a>,
    git: &'b Git,
    name: &'b str,
    /// The version as it was asked for.
    asked: &'b str,
    policy: Policy,
    credentials: Vec<GitCredential>,
    has_certificates: bool,
    ssh: Ssh,
    repositories: usize,
    /// Where the repository of the source itself is kept, and whether this build may change it.
    kept: Option<(Kept, Trust)>,
    /// What was there of it.
    had: Option<Had>,
}

/// What earlier builds had fetched.
struct Had {
    count: tree::Count,
    parts: Parts,
    /// Files of objects, below git's folder; none if there are too many of them.
    objects: Option<HashSet<PathBuf>>,
}

impl Fetch<'_, '_> {
    /// The whole source, submodules and all; the commit that it is now at.
    fn repository(&mut self, location: &Location, version: &Version) -> Result<String> {
        let remote = self.remote(location)?;
        let listed = self.speak(&remote, &git::list(&remote, &refs::patterns(version)))?;
        let references = refs::References::read(&String::from_utf8_lossy(&listed));
        let Some(wanted) = references.find(version)? else { return Err(self.no_reference()) };
        self.check_out(&remote, FOLDER, &wanted, self.git.depth, 0)
    }

    /// Fetches a repository into a folder, and its submodules below; `depth` is how deep it lies itself.
    fn check_out(
        &mut self,
        remote: &Remote,
        folder: &str,
        wanted: &refs::Wanted,
        commits: Option<u32>,
        depth: usize,
    ) -> Result<String> {
        self.repositories += 1;
        if self.repositories > source::SUBMODULES || depth > source::SUBMODULE_DEPTH {
            let most = source::SUBMODULES as u64;
            return Err(source::Error::TooMuch { what: "submodules", most }.into());
        }
        self.run(&git::init(folder))?;
        self.speak(remote, &git::fetch(remote, folder, wanted, commits))?;
        let (status, commit) = self.print(&git::resolve(folder, &wanted.commit), None, &[])?;
        if status != ExitStatus::Code(0) {
            return Err(self.no_reference());
        }
        let commit = String::from_utf8_lossy(&commit).trim().to_owned();
        let count = self.count(folder)?;
        let submodules = self.look_through(folder, &commit)?;
        if depth == 0 {
            self.keep(count)?;
        }
        self.run(&git::checkout(folder, &commit))?;
        for command in git::remember(folder, &remote.location) {
            self.run(&command)?;
        }
        if self.git.submodules && !submodules.is_empty() {
            let modules = self.run(&git::modules(folder, &commit))?;
            for placed in submodules::read(&modules, &remote.location, &submodules)? {
                self.submodule(folder, placed, depth + 1)?;
            }
        }
        Ok(commit)
    }

    fn count(&mut self, folder: &str) -> Result<tree::Count> {
        Ok(tree::count(&String::from_utf8_lossy(&self.run(&git::count(folder))?))?)
    }

    /// Begins with what earlier builds have fetched. COMPAT: SA-096.
    fn take_up(&mut self) -> Result<()> {
        let Some((kept, _)) = &self.kept else { return Ok(()) };
        // Without it there is more to fetch, and nothing else is lost.
        let Ok((parts, archives)) = kept.open() else { return Ok(()) };
        if archives.is_empty() {
            return Ok(());
        }
        for archive in archives {
            if self.build.inside("unpack-source", &Tree::of(GIT_FOLDER), Some(archive))?.is_err() {
                return self.run(&["rm", "-rf", "--", FOLDER].map(str::to_owned).into()).map(drop);
            }
        }
        let (count, objects) = (self.count(FOLDER)?, self.objects()?);
        self.had = Some(Had { count, parts, objects });
        Ok(())
    }

    /// Files that never change: each has the name of what it holds.
    fn objects(&mut self) -> Result<Option<HashSet<PathBuf>>> {
        let find =
            ["find", ".git/objects", "-path", ".git/objects/info", "-prune", "-o", "-type", "f", "-print"];
        let command = ["env", "-C", FOLDER].iter().chain(&find).map(|word| (*word).to_owned()).collect();
        let printed = self.run(&command)?;
        let files = String::from_utf8_lossy(&printed);
        let files = files.lines().filter_map(|line| line.strip_prefix(".git/")).map(PathBuf::from);
        Ok((printed.len() < PRINTED_BYTES).then(|| files.collect()))
    }

    /// Keeps what was fetched if it is more than there was, before any file is checked out: only what is new, most often.
    fn keep(&mut self, count: tree::Count) -> Result<()> {
        let Some((kept, Trust::Full)) = self.kept.take() else { return Ok(()) };
        let had = self.had.take();
        if had.as_ref().is_some_and(|had| had.count == count) {
            return Ok(());
        }
        let is_scattered = count.packs > MOST_PACKS;
        if is_scattered {
            self.run(&git::repack(FOLDER))?;
        }
        let had = had.and_then(|had| Some((had.parts, had.objects?))).filter(|_| !is_scattered);
        let (had, without) = had.unzip();
        let Ok(Some(keeping)) = kept.begin(had) else { return Ok(()) };
        // What is only added to needs no second copy of all there was.
        let without = without.filter(|_| keeping.is_addition()).unwrap_or_default();
        let tree = Tree { folder: GIT_FOLDER.into(), without };
        let packed = self.build.inside("pack", &tree, Some(keeping.file.try_clone()?))?;
        // A source that cannot be kept is built all the same.
        if packed.is_err() || kept.finish(keeping).is_err() {
            kept.give_up();
        }
        Ok(())
    }

    /// COMPAT: SA-021.
    fn submodule(&mut self, folder: &str, placed: Placed, depth: usize) -> Result<()> {
        let remote = self.remote(&placed.location)?;
        let wanted = refs::Wanted { reference: None, commit: placed.commit, needs_history: true };
        self.check_out(&remote, &format!("{folder}/{}", placed.path), &wanted, None, depth).map(drop)
    }

    /// What the commit holds, before any of it is written.
    fn look_through(&mut self, folder: &str, commit: &str) -> Result<Vec<tree::Submodule>> {
        let (mut reader, mut broken) = (tree::Reader::default(), None);
        let streamed = self.stream(&git::tree(folder, commit), None, &[], &mut |piece| {
            reader.feed(piece).map_err(|error| std::io::Error::other(broken.insert(error).to_string()))
        });
        match (broken, streamed) {
            (Some(error), _) => Err(error.into()),
            (None, Ok(_)) => Ok(reader.finish()?),
            (None, Err(halt)) => Err(halt),
        }
    }

    /// Where the host is, once and for all.
    fn remote(&mut self, location: &Location) -> Result<Remote> {
        let addresses = match location.address() {
            Some(address) => vec![address],
            None => self.addresses(location)?,
        };
        self.policy.check(location, &addresses)?;
        if location.scheme() == Scheme::Ssh {
            self.ssh.check(location)?;
        }
        Ok(Remote {
            location: location.clone(),
            addresses,
            insecure: self.git.insecure_ssl,
            has_credential: self.credential(location).is_some(),
            has_certificates: self.has_certificates,
            keys: self.ssh.number_of_keys(),
            has_agent: self.ssh.agent.is_some(),
        })
    }

    fn addresses(&mut self, location: &Location) -> Result<Vec<IpAddr>> {
        let host = Host { name: location.host().to_owned(), port: location.port() };
        let mut told = Vec::new();
        self.build.session.call("addresses", &host, Vec::new(), &mut |piece| {
            told.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(serde_json::from_slice(&told).unwrap_or_default())
    }

    /// The one with the longest URL that fits.
    fn credential(&self, location: &Location) -> Option<&GitCredential> {
        let url = location.to_string();
        let fits = |credential: &&GitCredential| {
            url.strip_prefix(credential.url.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.credentials.iter().filter(fits).max_by_key(|credential| credential.url.len())
    }

    /// A command that speaks to the remote, with the credential in its hand.
    fn speak(&mut self, remote: &Remote, command: &Command) -> Result<Vec<u8>> {
        let credentials = match remote.location.scheme() {
            Scheme::Ssh => self.ssh.keys()?,
            _ => self
                .password(&remote.location)
                .map(|text| readable(text.as_bytes(), 0o777))
                .into_iter()
                .collect::<std::io::Result<_>>()?,
        };
        let mut failed = None;
        for remote in remote.one_by_one() {
            let (status, printed) = self.print(command, Some(&remote), &credentials)?;
            if status == ExitStatus::Code(0) {
                return Ok(printed);
            }
            let printed = String::from_utf8_lossy(&printed).into_owned();
            let is_elsewhere = failure::is_unreachable(&printed);
            failed = Some(failure::message(&printed, &remote.location, self.name, self.asked));
            if !is_elsewhere {
                break;
            }
        }
        Err(Stopped::Failed(client_error(failed.unwrap_or_default())))
    }

    /// As git's helper hands it on.
    fn password(&self, location: &Location) -> Option<String> {
        let credential = self.credential(location)?;
        git::credential(&credential.username, &credential.password)
    }

    fn run(&mut self, command: &Command) -> Result<Vec<u8>> {
        let (status, printed) = self.print(command, None, &[])?;
        if status == ExitStatus::Code(0) {
            return Ok(printed);
        }
        let text = String::from_utf8_lossy(&printed);
        let message = match Location::parse(&self.git.location) {
            Ok(location) => failure::message(&text, &location, self.name, self.asked),
            Err(_) => text.into_owned(),
        };
        Err(Stopped::Failed(client_error(message)))
    }

    fn print(
        &mut self,
        command: &Command,
        remote: Option<&Remote>,
        credentials: &[OwnedFd],
    ) -> Result<(ExitStatus, Vec<u8>)> {
        let mut printed = Vec::new();
        let status = self.stream(command, remote, credentials, &mut |piece| {
            let room = PRINTED_BYTES.saturating_sub(printed.len());
            printed.extend_from_slice(&piece[..piece.len().min(room)]);
            Ok(())
        })?;
        Ok((status, printed))
    }

    fn stream(
        &mut self,
        command: &Command,
        remote: Option<&Remote>,
        credentials: &[OwnedFd],
        sink: &mut crate::session::Sink<'_>,
    ) -> Result<ExitStatus> {
        let process = Process {
            argv: command.iter().map(OsString::from).collect(),
            env: git::environment(remote)
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            cwd: "/fetch".into(),
            fds: credentials.iter().map(AsFd::as_fd).collect(),
            ..Process::default()
        };
        Ok(self.build.session.stream(process, sink)?)
    }

    fn no_reference(&self) -> Stopped {
        Stopped::Failed(client_error(failure::reference_not_found(self.name, self.asked)))
    }

    fn pack(&mut self, archive: &File) -> Result<()> {
        self.build.inside("pack", &Tree::of(FOLDER), Some(archive.try_clone()?))?.map_err(Stopped::Failed)
    }
}
