//! `buildyard admin`: what an operator changes in a running server, through a socket in its data folder.
//!
//! The socket is the data folder's owner's and nobody else's; so whoever can reach it could read the records anyway. One request
//! and one answer, a line of JSON each. What the server does with them is in [`door`].

pub(crate) mod door;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use engine::{BuildUsage, ProjectCache};
use serde::{Deserialize, Serialize};

use crate::config::{Flags, Settings};
use crate::usage_report;

/// The socket's name in the data folder.
const SOCKET: &str = "admin.sock";
/// Longest request or answer, in bytes: 10,000 keys listed.
const LINE_BYTES: u64 = 8 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Access keys of the running server: made, listed, disabled, enabled, deleted. Each takes effect at once.
    Key(KeyArguments),
    /// Builds of the running server.
    Build(BuildArguments),
}

#[derive(Debug, clap::Args)]
struct BuildArguments {
    #[command(subcommand)]
    command: BuildCommand,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Subcommand)]
enum BuildCommand {
    /// What a build used of processors, memory, disks and network, by phases and commands.
    Usage {
        /// Its id, of the default account; or its ARN.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct KeyArguments {
    #[command(subcommand)]
    command: KeyCommand,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Data folder of the server [default: as `buildyard serve`].
    #[arg(long, value_name = "FOLDER", env = "BUILDYARD_DATA", global = true)]
    data: Option<PathBuf>,
    /// How the answer is written.
    #[arg(long, default_value = "human", global = true)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Human,
    Json,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// Make a key, and print its secret, once.
    Create {
        /// Whom it stands for: a user of the configuration, or with --policy anybody.
        #[arg(long)]
        user: String,
        /// [default: the server's own].
        #[arg(long)]
        account: Option<String>,
        /// A policy in IAM's JSON, beside those that the user has by the configuration.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// List the keys there are, without their secrets.
    List,
    /// Refuse a key from now on.
    Disable { id: String },
    /// Take a disabled key again.
    Enable { id: String },
    /// Remove a key for good.
    Delete { id: String },
}

/// What is asked through the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Create {
        user: String,
        account: Option<String>,
        policy: Option<String>,
    },
    List,
    Disable {
        id: String,
    },
    Enable {
        id: String,
    },
    Delete {
        id: String,
    },
    /// Whose cache a project's builds share.
    Cache {
        project: String,
    },
    /// What a build used.
    Usage {
        id: String,
    },
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Cache(ProjectCache),
    Usage(BuildUsage),
    Created { id: String, secret: String, account: String, user: String },
    Keys(Vec<Listed>),
    Done,
    Refused(String),
}

/// A key as it is listed.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    id: String,
    account: String,
    user: String,
    enabled: bool,
    /// Whether it is in the configuration, and so not to be changed here.
    configured: bool,
    policy: Option<String>,
}

pub(crate) fn admin(arguments: Arguments) -> Result<(), String> {
    let (request, Place { data, format }) = match arguments.command {
        Command::Key(KeyArguments { command, place }) => (command.request()?, place),
        Command::Build(BuildArguments { command: BuildCommand::Usage { id }, place }) => {
            (Request::Usage { id }, place)
        }
    };
    let settings = Settings::read(Flags { data, ..Flags::default() })?;
    let answer = ask(&settings.data, &request)?;
    match (answer, format) {
        (Answer::Refused(reason), _) => return Err(reason),
        (answer, Format::Json) => println!("{}", answer.json()),
        (answer, Format::Human) => print!("{}", answer.words()),
    }
    Ok(())
}

/// The cache of a project, by its name or ARN, of the server that runs in this data folder.
pub(crate) fn project_cache(data: &Path, project: &str) -> Result<ProjectCache, String> {
    match ask(data, &Request::Cache { project: project.to_owned() })? {
        Answer::Cache(cache) => Ok(cache),
        Answer::Refused(reason) => Err(reason),
        _ => Err("the server answered something else".into()),
    }
}

impl KeyCommand {
    fn request(self) -> Result<Request, String> {
        Ok(match self {
            KeyCommand::Create { user, account, policy } => {
                let read = |path: PathBuf| {
                    std::fs::read_to_string(&path).map_err(|e| format!("policy {}: {e}", path.display()))
                };
                Request::Create { user, account, policy: policy.map(read).transpose()? }
            }
            KeyCommand::List => Request::List,
            KeyCommand::Disable { id } => Request::Disable { id },
            KeyCommand::Enable { id } => Request::Enable { id },
            KeyCommand::Delete { id } => Request::Delete { id },
        })
    }
}

/// A name for what is in this folder that a socket's address has room for, however deep the folder is.
fn short(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

fn ask(data: &Path, request: &Request) -> Result<Answer, String> {
    let wrong =
        |e: &dyn std::fmt::Display| format!("no server answers at {}: {e}", data.join(SOCKET).display());
    let folder = File::open(data).map_err(|e| wrong(&e))?;
    let mut stream = UnixStream::connect(short(&folder, SOCKET)).map_err(|e| wrong(&e))?;
    let line = serde_json::to_string(request).expect("texts are JSON");
    stream.write_all(format!("{line}\n").as_bytes()).map_err(|e| wrong(&e))?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE_BYTES)).read_line(&mut answer).map_err(|e| wrong(&e))?;
    serde_json::from_str(&answer).map_err(|e| wrong(&e))
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        match self {
            Answer::Created { id, secret, account, user } => serde_json::json!({
                "accessKeyId": id, "secretAccessKey": secret, "account": account, "user": user
            }),
            Answer::Keys(keys) => serde_json::json!({ "keys": keys }),
            Answer::Usage(usage) => usage_report::json(usage),
            Answer::Cache(_) | Answer::Done | Answer::Refused(_) => serde_json::json!({}),
        }
    }

    fn words(&self) -> String {
        match self {
            Answer::Created { id, secret, account, user } => format!(
                "Access key of {user} in account {account}. The secret is not shown again.\n\
                 AWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY={secret}\n"
            ),
            Answer::Keys(keys) => keys.iter().map(Listed::words).collect(),
            Answer::Usage(usage) => usage_report::table(usage),
            Answer::Cache(_) | Answer::Done | Answer::Refused(_) => String::new(),
        }
    }
}

impl Listed {
    fn words(&self) -> String {
        let state = if self.enabled { "enabled" } else { "disabled" };
        let place = if self.configured { "configuration" } else { "records" };
        let policy = if self.policy.is_some() { "  with a policy of its own" } else { "" };
        let Listed { id, account, user, .. } = self;
        format!("{id}  {account}  {user}  {state}  {place}{policy}\n")
    }
}
