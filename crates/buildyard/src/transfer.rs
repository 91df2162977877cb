//! `buildyard transfer SETTINGS`: the process that moves a build's objects to and from a store elsewhere, for its agent. The other side,
//! and what is said between them, is [`agent::transfer`]. It alone reads the file with the store's keys.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use agent::transfer::{Answer, Failure, Listed, Put, Request};
use aws::s3::{At, Headers, ObjectInList, Store, Upload};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::store_settings::StoreSettings;

/// The longest request: the objects of one artifact.
const REQUEST_MAX_BYTES: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    settings: PathBuf,
}

/// Answers until nothing more is asked.
pub(crate) fn transfer(arguments: &Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answered = runtime.and_then(|runtime| {
        let answered = runtime.block_on(answer_all(&arguments.settings));
        // A name that is being looked up is not waited for.
        runtime.shutdown_background();
        answered
    });
    match answered {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("transfer: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn answer_all(settings: &Path) -> std::io::Result<()> {
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let file = Arc::new(File::from(std::io::stdout().as_fd().try_clone_to_owned()?));
    let mut answers = socket.try_clone()?;
    socket.set_nonblocking(true)?;
    let mut requests = BufReader::new(tokio::net::UnixStream::from_std(socket)?);
    let store = opened(settings);
    loop {
        let mut line = Vec::new();
        if requests.read_until(b'\n', &mut line).await? == 0 || line.len() as u64 > REQUEST_MAX_BYTES {
            return Ok(());
        }
        let request = serde_json::from_slice(&line)?;
        let mut answer = match &store {
            Ok(store) => Box::pin(answer(store, request, &file)),
            Err(why) => {
                tell(&mut answers, &Answer::Failed(Failure::Refused(why.clone())))?;
                continue;
            }
        };
        let told = tokio::select! {
            told = &mut answer => told,
            // Whoever asked is gone, or wants nothing more: what was begun at the store is taken back.
            _ = requests.fill_buf() => {
                if let Ok((store, _)) = &store {
                    store.stop();
                }
                let _ = answer.await;
                return Ok(());
            }
        };
        tell(&mut answers, &told)?;
    }
}

fn tell(answers: &mut UnixStream, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    // The two handles share their manners; the other side reads at once.
    answers.set_nonblocking(false)?;
    let told = answers.write_all(&line);
    answers.set_nonblocking(true)?;
    told
}

type Opened = (Store, StoreSettings);

fn opened(settings: &Path) -> Result<Opened, String> {
    let settings = StoreSettings::load(settings)?;
    Ok((settings.store()?, settings))
}

async fn answer((store, settings): &Opened, request: Request, file: &Arc<File>) -> Answer {
    let done = match request {
        Request::Get { bucket, key, version } => {
            let got = store.get(&At { bucket, key }, version.as_deref(), file).await;
            got.map(|object| Answer::Object { version: object.version })
        }
        Request::GetAll { bucket, objects } => {
            let mut offset = 0;
            let at = |(key, size)| {
                offset += size;
                (key, offset - size, size)
            };
            let objects = objects.into_iter().map(at).collect();
            let emptied = file.set_len(0).map_err(aws::Error::from);
            match emptied {
                Ok(()) => store.get_all(&bucket, objects, file).await.map(|()| Answer::Done),
                Err(error) => Err(error),
            }
        }
        Request::Head { bucket, key } => {
            let found = store.head(&At { bucket, key }, None).await;
            found.map(|object| Answer::Object { version: object.version })
        }
        Request::List { bucket, prefix, after } => {
            store.list(&bucket, &prefix, after.as_deref()).await.map(|page| Answer::List {
                objects: page.objects.into_iter().map(listed).collect(),
                next: page.next,
            })
        }
        Request::TakeBack(puts) => {
            let uploads = puts.into_iter().map(|put| upload(put, settings)).collect();
            store.take_back(uploads).await.map(|()| Answer::Done)
        }
        Request::Put(puts) => {
            let uploads = puts.into_iter().map(|put| upload(put, settings)).collect();
            match store.put_all(uploads, file).await {
                // COMPAT: SA-068 a bucket of another Region.
                Err(error) if error.is("PermanentRedirect") => {
                    Ok(Answer::Failed(Failure::Refused("Invalid arn".to_owned())))
                }
                put => put.map(|()| Answer::Done),
            }
        }
    };
    done.unwrap_or_else(|error| Answer::Failed(failure(&error)))
}

fn listed(ObjectInList { key, size, modified }: ObjectInList) -> Listed {
    Listed { key, size, modified }
}

fn upload(put: Put, settings: &StoreSettings) -> Upload {
    let Put { bucket, key, offset, size, metadata, only_new, encryption_key } = put;
    let encryption = settings.encryption.of(encryption_key.as_deref());
    let headers = Headers { content_type: metadata.content_type, user: metadata.user, encryption, only_new };
    Upload { at: At { bucket, key }, offset, size, headers }
}

fn failure(error: &aws::Error) -> Failure {
    let text = error.to_string();
    match error {
        aws::Error::File(_) => Failure::Ours(text),
        error if error.is("NoSuchKey") || error.is("NoSuchVersion") => Failure::Missing(text),
        error if error.is("PreconditionFailed") => Failure::Exists(text),
        _ => Failure::Refused(text),
    }
}
