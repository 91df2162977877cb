//! `buildyard logs`: a build's log as the build wrote it, to its end or for as long as the build goes on.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use aws::Client;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::builds::{self, Asked, Unanswered};

/// Between two questions while nothing new has come: what CloudWatch Logs lets a client ask of one stream.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a server that somebody follows a build on may be away.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    asked: Asked,
    /// Go on until the build has ended, and exit with what became of it.
    #[arg(short, long)]
    follow: bool,
}

enum Stopped {
    /// Whoever read what is printed has gone: there is nothing more to say.
    ReaderGone,
    Unreachable(String),
    Error(String),
}

impl From<Unanswered> for Stopped {
    fn from(unanswered: Unanswered) -> Stopped {
        match unanswered {
            Unanswered::Unreachable(message) => Stopped::Unreachable(message),
            Unanswered::Refused(message) => Stopped::Error(message),
        }
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stopped::ReaderGone,
            _ => Stopped::Error(format!("cannot print the log: {error}")),
        }
    }
}

pub(crate) fn logs(arguments: &Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let printed = match runtime {
        Ok(runtime) => runtime.block_on(print(arguments)),
        Err(error) => Err(Stopped::Error(error.to_string())),
    };
    match printed {
        Ok(build) if arguments.follow => ExitCode::from(exit_code(&build)),
        Ok(_) | Err(Stopped::ReaderGone) => ExitCode::SUCCESS,
        Err(Stopped::Error(message) | Stopped::Unreachable(message)) => {
            eprintln!("buildyard: {message}");
            ExitCode::from(4)
        }
    }
}

/// Prints the log and gives the build as it was when all of that was there.
async fn print(arguments: &Arguments) -> Result<Value, Stopped> {
    let Arguments { asked, follow } = arguments;
    let (mut place, mut heard) = (None, Instant::now());
    // A server that was started again may listen elsewhere.
    let mut client = None;
    loop {
        let reached = match &client {
            Some(reached) => reached,
            None => client.insert(asked.client().map_err(Stopped::Error)?),
        };
        match print_on(reached, asked, &mut place).await {
            Ok(build) if !follow || build["buildComplete"] == true => return Ok(build),
            Ok(_) => heard = Instant::now(),
            Err(Stopped::Unreachable(_)) if *follow && heard.elapsed() < PATIENCE => client = None,
            Err(stopped) => return Err(stopped),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Prints what is new. The build comes before its log: of one that is over, all is then there.
async fn print_on(client: &Client, asked: &Asked, place: &mut Option<String>) -> Result<Value, Stopped> {
    let build = asked.build(client).await?;
    if let Some(log) = builds::log_of(&build) {
        print_from(client, log, place).await?;
    }
    Ok(build)
}

/// Prints what is there from `place` on (from the beginning if there is none yet), and moves it.
async fn print_from(
    client: &Client,
    (group, stream): (&str, &str),
    place: &mut Option<String>,
) -> Result<(), Stopped> {
    let mut output = io::stdout().lock();
    loop {
        let mut asked = json!({ "logGroupName": group, "logStreamName": stream, "startFromHead": true });
        if let Some(place) = &place {
            asked["nextToken"] = json!(place);
        }
        let answer = match client.call(&aws::LOGS, "GetLogEvents", &asked).await {
            // A build may tell of its log before there is one.
            Err(error) if place.is_none() && error.is("ResourceNotFoundException") => return Ok(()),
            answer => answer.map_err(Unanswered::from)?,
        };
        for message in answer["events"].as_array().into_iter().flatten().map(|event| &event["message"]) {
            output.write_all(message.as_str().unwrap_or_default().as_bytes())?;
        }
        output.flush()?;
        let next = answer["nextForwardToken"].as_str().map(str::to_owned);
        // COMPAT: the end is where the token does not change; a page may be empty before it.
        if next.is_none() || *place == next {
            return Ok(());
        }
        *place = next;
    }
}

/// Those of `buildyard run`.
fn exit_code(build: &Value) -> u8 {
    match build["buildStatus"].as_str() {
        Some("SUCCEEDED") => 0,
        Some("FAILED") => 1,
        Some("TIMED_OUT") => 124,
        Some("STOPPED") => 130,
        _ => 3,
    }
}
