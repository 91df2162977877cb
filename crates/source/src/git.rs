//! The git commands that fetch a repository: every one of them is made here, with all that keeps it from doing more.
//!
//! git gets no configuration but ours, speaks to one host at addresses that were checked, follows no redirect, runs no hook, no filter
//! and no helper but the one that hands it the credential, and writes no file larger than [`crate::PACK_BYTES`].

use std::net::IpAddr;

use crate::location::{Location, Scheme};
use crate::refs::Wanted;

/// The descriptor at which git's helper finds the credential, in the form that git has for it.
pub const CREDENTIAL_DESCRIPTOR: u32 = 3;
/// The descriptor of the first private key for ssh; the others follow.
pub const KEY_DESCRIPTOR: u32 = 3;
/// Where the certificates are that git trusts.
pub const CERTIFICATES: &str = "/fetch/certificates.pem";
/// Where the keys are of the hosts that ssh speaks to.
pub const KNOWN_HOSTS: &str = "/fetch/known_hosts";
/// The folder that the socket [`AGENT_SOCKET`] of the user's ssh-agent is in.
pub const AGENT_FOLDER: &str = "/fetch/agent";
pub const AGENT_SOCKET: &str = "socket";

/// A command's program and arguments.
pub type Command = Vec<String>;

/// The whole environment of a command that speaks to this remote, or to nobody.
#[must_use]
pub fn environment(remote: Option<&Remote>) -> Vec<(&'static str, String)> {
    let scheme = remote.map_or("none", |remote| remote.location.scheme().name());
    let ssh = remote.filter(|remote| remote.location.scheme() == Scheme::Ssh).map(Remote::ssh_command);
    let of_remote = [("GIT_ALLOW_PROTOCOL", scheme.to_owned())].into_iter();
    let of_remote = of_remote.chain(ssh.map(|command| ("GIT_SSH_COMMAND", command)));
    ENVIRONMENT.iter().map(|(name, value)| (*name, (*value).to_owned())).chain(of_remote).collect()
}

const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "/bin/false"),
    ("GIT_SSH_VARIANT", "ssh"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_OPTIONAL_LOCKS", "0"),
];

/// What holds for every command.
const ALWAYS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.autocrlf=false",
    "core.bigFileThreshold=16m",
    "core.alternateRefsCommand=",
    "protocol.allow=never",
    "protocol.version=2",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "transfer.fsckObjects=true",
    "transfer.bundleURI=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "pack.threads=2",
    "credential.helper=",
    "safe.directory=*",
];

/// What old repositories have without meaning harm.
const FORGIVEN: &[&str] = &[
    "zeroPaddedFilemode",
    "badTimezone",
    "badDate",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "missingTaggerEntry",
    "missingNameBeforeEmail",
    "missingEmail",
    "multipleAuthors",
    "badFilemode",
];

/// A repository somewhere else, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Remote {
    pub location: Location,
    /// Where its host is: nobody is asked again.
    pub addresses: Vec<IpAddr>,
    /// COMPAT: SA-022.
    pub insecure: bool,
    /// There is a credential at [`CREDENTIAL_DESCRIPTOR`].
    pub has_credential: bool,
    /// There are certificates at [`CERTIFICATES`].
    pub has_certificates: bool,
    /// So many private keys are at [`KEY_DESCRIPTOR`] and behind it.
    pub keys: usize,
    /// The user's ssh-agent is in [`AGENT_FOLDER`].
    pub has_agent: bool,
}

/// What ssh does and does not do, whatever this host's configuration says.
const SSH: &[&str] = &[
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "VerifyHostKeyDNS=no",
    "CheckHostIP=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "ProxyCommand=none",
    "ControlPath=none",
    "ConnectTimeout=30",
    "ServerAliveInterval=30",
    "LogLevel=ERROR",
];

/// Makes an empty repository in the folder, without what the host's git would put there.
#[must_use]
pub fn init(folder: &str) -> Command {
    git(None, &["init", "--quiet", "--template=", "--initial-branch=main", "--", folder])
}

/// Asks which of these references there are.
#[must_use]
pub fn list(remote: &Remote, patterns: &[String]) -> Command {
    let url = remote.location.to_string();
    let mut arguments = vec!["ls-remote", "--quiet", "--symref", "--", &url];
    arguments.extend(patterns.iter().map(String::as_str));
    git(Some(remote), &arguments)
}

/// Fetches what is wanted into the folder's repository; `depth` commits of it, or all.
#[must_use]
pub fn fetch(remote: &Remote, folder: &str, wanted: &Wanted, depth: Option<u32>) -> Command {
    let url = remote.location.to_string();
    let depth = depth.filter(|_| !wanted.needs_history).map(|depth| format!("--depth={depth}"));
    let mut arguments =
        vec!["-C", folder, "fetch", "--quiet", "--force", "--no-auto-maintenance", "--no-recurse-submodules"];
    let reference = wanted.reference.as_deref().map(refspec);
    let everything = depth.is_none() && (wanted.reference.is_none() || !wanted.needs_history);
    arguments.push(if everything { "--tags" } else { "--no-tags" });
    arguments.extend(depth.as_deref());
    arguments.extend(["--", &url]);
    if everything {
        // What was fetched earlier may be gone there.
        arguments.insert(3, "--prune");
        arguments.push("+refs/heads/*:refs/remotes/origin/*");
    }
    // What the first pattern covers must not be asked for twice.
    let covered = |refspec: &&String| {
        everything && (refspec.starts_with("+refs/heads/") || refspec.starts_with("+refs/tags/"))
    };
    arguments.extend(reference.as_ref().filter(|refspec| !covered(refspec)).map(String::as_str));
    git(Some(remote), &arguments)
}

/// Where a reference of the other repository is kept here.
fn refspec(reference: &str) -> String {
    let kept = match reference.strip_prefix("refs/heads/") {
        Some(branch) => format!("refs/remotes/origin/{branch}"),
        None if reference.starts_with("refs/tags/") => reference.to_owned(),
        None => format!("refs/remotes/origin/{}", reference.trim_start_matches("refs/")),
    };
    format!("+{reference}:{kept}")
}

/// The whole id of a commit.
#[must_use]
pub fn resolve(folder: &str, commit: &str) -> Command {
    git(
        None,
        &[
            "-C",
            folder,
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &format!("{commit}^{{commit}}"),
        ],
    )
}

/// Everything that a commit would put into the folder, for [`crate::tree::Reader`].
#[must_use]
pub fn tree(folder: &str, commit: &str) -> Command {
    git(None, &["-C", folder, "ls-tree", "-r", "-l", "-z", "--full-tree", "--end-of-options", commit])
}

/// How many objects there are.
#[must_use]
pub fn count(folder: &str) -> Command {
    git(None, &["-C", folder, "count-objects", "-v"])
}

/// COMPAT: SA-029 puts a commit into the folder, with no branch to be on.
#[must_use]
pub fn checkout(folder: &str, commit: &str) -> Command {
    git(None, &["-C", folder, "checkout", "--quiet", "--force", "--detach", commit, "--"])
}

/// A commit's `.gitmodules`, for [`crate::submodules::read`].
#[must_use]
pub fn modules(folder: &str, commit: &str) -> Command {
    git(
        None,
        &[
            "-C",
            folder,
            "config",
            "--list",
            "--null",
            "--no-includes",
            &format!("--blob={commit}:.gitmodules"),
        ],
    )
}

/// Names the other repository in this one, for the build's own git.
#[must_use]
pub fn remember(folder: &str, location: &Location) -> [Command; 2] {
    let url = location.to_string();
    let settings =
        [("remote.origin.url", url.as_str()), ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")];
    settings.map(|(name, value)| git(None, &["-C", folder, "config", "--replace-all", name, value]))
}

/// Packs what was fetched bit by bit into one.
#[must_use]
pub fn repack(folder: &str) -> Command {
    git(None, &["-C", folder, "repack", "-a", "-d", "-q", "--no-write-bitmap-index"])
}

fn git(remote: Option<&Remote>, arguments: &[&str]) -> Command {
    let mut command: Command =
        ["prlimit", &format!("--fsize={}", crate::PACK_BYTES), "--", "git"].map(str::to_owned).into();
    let mut settings: Vec<String> = ALWAYS.iter().map(|setting| (*setting).to_owned()).collect();
    settings.extend(FORGIVEN.iter().map(|what| format!("fetch.fsck.{what}=ignore")));
    settings.extend(remote.map(Remote::settings).unwrap_or_default());
    command.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    command
}

impl Remote {
    /// The same at each of its addresses. git tries all of them itself where it knows them; ssh is told one.
    #[must_use]
    pub fn one_by_one(&self) -> Vec<Remote> {
        if self.location.scheme() != Scheme::Ssh {
            return vec![self.clone()];
        }
        self.addresses.iter().map(|address| Remote { addresses: vec![*address], ..self.clone() }).collect()
    }

    /// Run by a shell, whose parent is git: ssh itself closes every descriptor but the first three.
    fn ssh_command(&self) -> String {
        let mut options: Vec<String> = SSH.iter().map(|option| (*option).to_owned()).collect();
        options.push(format!("UserKnownHostsFile={KNOWN_HOSTS}"));
        options.push(format!("HostKeyAlias={}", self.location.known_as()));
        options.extend(self.addresses.first().map(|address| format!("Hostname={address}")));
        options.push(match self.has_agent {
            true => format!("IdentityAgent={AGENT_FOLDER}/{AGENT_SOCKET}"),
            false => "IdentityAgent=none".to_owned(),
        });
        if self.keys == 0 {
            options.push("IdentityFile=none".to_owned());
        }
        let options: String = options.iter().map(|option| format!(" -o '{option}'")).collect();
        let keys = (0..self.keys).map(|key| KEY_DESCRIPTOR as usize + key);
        let keys: String = keys.map(|key| format!(" -o IdentityFile=/proc/$PPID/fd/{key}")).collect();
        format!("ssh -F /dev/null{options}{keys}")
    }

    fn settings(&self) -> Vec<String> {
        let scheme = self.location.scheme().name();
        if self.location.scheme() == Scheme::Ssh {
            return vec![format!("protocol.{scheme}.allow=always")];
        }
        let mut settings = vec![
            format!("protocol.{scheme}.allow=always"),
            "http.followRedirects=false".to_owned(),
            "http.proxy=".to_owned(),
            "http.lowSpeedLimit=100".to_owned(),
            "http.lowSpeedTime=60".to_owned(),
            "http.emptyAuth=false".to_owned(),
            format!("http.sslVerify={}", !self.insecure),
        ];
        if self.location.address().is_none() {
            let addresses: Vec<String> = self.addresses.iter().map(address).collect();
            let (host, port) = (self.location.host(), self.location.port());
            settings.push(format!("http.curloptResolve={host}:{port}:{}", addresses.join(",")));
        }
        if self.has_certificates {
            settings.push(format!("http.sslCAInfo={CERTIFICATES}"));
        }
        if self.has_credential {
            settings.push(format!(
                "credential.helper=!f() {{ test \"$1\" = get && cat /proc/self/fd/{CREDENTIAL_DESCRIPTOR}; }}; f"
            ));
        }
        settings
    }
}

fn address(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// What the helper hands to git.
///
/// None if a name or password holds a line's end, by which it could say more than it should.
#[must_use]
pub fn credential(username: &str, password: &str) -> Option<String> {
    let is_line = |text: &str| !text.contains(['\n', '\r', '\0']);
    (is_line(username) && is_line(password)).then(|| format!("username={username}\npassword={password}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: &str) -> Remote {
        let location = Location::parse(url).unwrap();
        let addresses = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        Remote {
            location,
            addresses,
            insecure: false,
            has_credential: true,
            has_certificates: false,
            keys: 2,
            has_agent: false,
        }
    }

    fn has(command: &Command, argument: &str) -> bool {
        command.iter().any(|given| given == argument)
    }

    #[test]
    fn a_remote_is_spoken_to_at_the_addresses_that_were_checked_only() {
        let command = list(&remote("https://git.example:8443/a/b"), &["HEAD".into()]);
        assert!(has(&command, "http.curloptResolve=git.example:8443:192.0.2.1,[2001:db8::1]"));
        assert!(has(&command, "http.followRedirects=false") && has(&command, "protocol.allow=never"));
        assert!(command.ends_with(&["--".into(), "https://git.example:8443/a/b".into(), "HEAD".into()]));
        assert!(!command.concat().contains("sslVerify=false"));
    }

    // Reliability: E6.
    #[test]
    fn ssh_is_told_everything_and_reads_no_configuration() {
        let remotes = remote("ssh://git@git.example:2222/a/b").one_by_one();
        let ssh = |remote: &Remote| {
            let environment = environment(Some(remote));
            let of = |wanted: &str| {
                environment.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone())
            };
            assert_eq!(of("GIT_ALLOW_PROTOCOL").as_deref(), Some("ssh"));
            of("GIT_SSH_COMMAND").unwrap()
        };
        assert_eq!(remotes.len(), 2);
        let command = ssh(&remotes[1]);
        for said in [
            "ssh -F /dev/null ",
            "'StrictHostKeyChecking=yes'",
            "'HostKeyAlias=[git.example]:2222'",
            "'Hostname=2001:db8::1'",
            "'IdentityAgent=none'",
            "IdentityFile=/proc/$PPID/fd/3 -o IdentityFile=/proc/$PPID/fd/4",
        ] {
            assert!(command.contains(said), "{said} is not in {command}");
        }
        assert!(!command.contains("192.0.2.1") && ssh(&remotes[0]).contains("'Hostname=192.0.2.1'"));
        let other = environment(Some(&remote("https://git.example/a")));
        assert!(other.contains(&("GIT_ALLOW_PROTOCOL", "https".into())));
        assert!(other.iter().all(|(name, _)| *name != "GIT_SSH_COMMAND"));
        assert!(environment(None).contains(&("GIT_ALLOW_PROTOCOL", "none".into())));
    }

    // SA-020, SA-024
    #[test]
    fn little_is_fetched_where_little_is_needed() {
        let wanted = |reference: Option<&str>, needs_history| Wanted {
            reference: reference.map(str::to_owned),
            commit: "c".into(),
            needs_history,
        };
        let remote = remote("https://git.example/a/b");
        let specs = |wanted: Wanted, depth| {
            let command = fetch(&remote, "/f", &wanted, depth);
            let at = command.iter().position(|argument| argument == "https://git.example/a/b").unwrap();
            let depth = command.iter().find(|argument| argument.starts_with("--depth")).cloned();
            (depth, command[at + 1..].join(" "), has(&command, "--tags"))
        };
        let all = "+refs/heads/*:refs/remotes/origin/*";
        assert_eq!(
            specs(wanted(Some("refs/heads/a/b"), false), Some(1)),
            (Some("--depth=1".into()), "+refs/heads/a/b:refs/remotes/origin/a/b".into(), false)
        );
        assert_eq!(specs(wanted(Some("refs/heads/a"), false), None), (None, all.into(), true));
        assert_eq!(
            specs(wanted(Some("refs/pull/7/head"), false), None),
            (None, format!("{all} +refs/pull/7/head:refs/remotes/origin/pull/7/head"), true)
        );
        assert_eq!(
            specs(wanted(Some("refs/heads/a"), true), Some(1)),
            (None, "+refs/heads/a:refs/remotes/origin/a".into(), false)
        );
        assert_eq!(specs(wanted(None, true), Some(1)), (None, all.into(), true));
    }

    #[test]
    fn a_password_cannot_say_more_than_itself() {
        assert_eq!(credential("u", "p").as_deref(), Some("username=u\npassword=p\n"));
        for (username, password) in [("u\nurl=https://evil", "p"), ("u", "p\n"), ("u", "p\0")] {
            assert_eq!(credential(username, password), None);
        }
    }
}
