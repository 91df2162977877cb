//! Opens the images folder as the operator has set it up: whose registry logins are used; and what is said of an image that comes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use engine::clock::{Clock, SystemClock};
use image::{Credentials, Digest, Image, Images, Login, Progress};

use crate::image_command::told;
use crate::pulls::Logins;

/// A smaller blob comes fast enough.
const TOLD_BYTES: u64 = 20 << 20;

/// What is left of an image that did not come is kept so long for the next attempt.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// So that layers of images can lie over each other, for a process that only has to do with images. Where the host does not let its users do that, all
/// layers of an image share one folder.
pub(crate) fn take_own_mounts() {
    if let Err(error) = container::take_own_mounts() {
        tracing::debug!("no mounts of our own: {error}");
    }
}

/// The images folder, for whoever has these logins.
pub(crate) fn opened(folder: &Path, by: &Logins) -> Result<Images, String> {
    let images = Images::open(folder).map_err(|e| told(&e))?;
    match by {
        Logins::Ours => Ok(images.with_credentials(our_logins().map_err(|e| told(&e))?)),
        Logins::Project(_) => Ok(images),
    }
}

/// Finds, fetches and unpacks an image; blocks. The error is for whoever named the image.
pub(crate) fn resolve(
    images: &Images,
    reference: &str,
    by: &Logins,
    progress: &mut dyn FnMut(Progress),
) -> Result<Image, String> {
    let resolved = match by {
        Logins::Ours => images.resolve(reference, progress),
        Logins::Project(login) => images.resolve_as(reference, login.as_ref().map(own).as_ref(), progress),
    };
    resolved.map_err(|e| told(&e))
}

/// The same for whoever runs this program, below the data folder `data`.
pub(crate) fn resolve_here(data: &Path, reference: &str) -> Result<Image, String> {
    let resolved = opened(&data.join("images"), &Logins::Ours).and_then(|images| {
        let image = resolve(&images, reference, &Logins::Ours, &mut tell_progress)?;
        forget_old(&images)?;
        Ok(image)
    });
    resolved.map_err(|why| format!("cannot use the image {reference}: {why}"))
}

/// The same for a process that is about to make containers: an ordinary user's has a process of its own do it, with mounts of its own.
pub(crate) fn resolve_before_build(data: &Path, reference: &str) -> Result<Image, String> {
    if container::rules_the_host() {
        return resolve_here(data, reference);
    }
    let images = Images::open(&data.join("images")).map_err(|e| told(&e))?;
    if let Some(image) = images.at_hand(reference) {
        return Ok(image);
    }
    let verb = if only_remote(reference.to_owned()).is_ok() { "pull" } else { "import" };
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["image", verb, "--data"])
        .arg(data)
        .arg(reference)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output =
        command.output().map_err(|e| format!("cannot start a process for the image {reference}: {e}"))?;
    let digest = String::from_utf8_lossy(&output.stdout).trim().parse::<Digest>();
    let image = digest.ok().filter(|_| output.status.success()).and_then(|digest| images.image(&digest));
    image.ok_or_else(|| format!("without the image {reference} there is no build"))
}

/// Removes what is left of images that nobody has tried to fetch again.
pub(crate) fn forget_old(images: &Images) -> Result<(), String> {
    images.remove_unfinished(now() - KEPT).map(drop).map_err(|e| told(&e))
}

pub(crate) fn now() -> SystemTime {
    let now_ms = u64::try_from(SystemClock::new().now_ms()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms)
}

/// As Docker keeps them for this user.
fn our_logins() -> Result<Credentials, image::Error> {
    let file = Credentials::docker_config(|name| std::env::var_os(name));
    file.map_or_else(|| Ok(Credentials::default()), |file| Credentials::read_docker_config(&file))
}

fn own((username, password): &(String, String)) -> Login {
    Login::Password { username: username.clone(), password: password.clone() }
}

/// For people who wait.
fn tell_progress(progress: Progress) {
    if let Some(text) = said(progress) {
        eprintln!("{text}");
    }
}

/// What is worth a line: of a blob, each tenth of it that has come.
pub(crate) fn said(progress: Progress) -> Option<String> {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    match progress {
        Progress::Fetching { digest, bytes, total } if bytes == total => {
            Some(format!("fetched {digest} ({:.1} MB)", megabytes(total)))
        }
        Progress::Fetching { digest, bytes, total } if is_a_tenth(bytes, total) => {
            Some(format!("fetching {digest} ({:.1} of {:.1} MB)", megabytes(bytes), megabytes(total)))
        }
        Progress::Unpacking { layer, layers } => Some(format!("unpacking layer {layer} of {layers}")),
        Progress::Waiting => {
            Some("waiting for another build that is unpacking the same image or layer".into())
        }
        Progress::Note(text) => Some(text),
        _ => None,
    }
}

/// Whether the last mebibyte, which is how often it is reported, brought it past a tenth.
fn is_a_tenth(bytes: u64, total: u64) -> bool {
    let tenths = |bytes: u64| bytes.saturating_mul(10) / total.max(1);
    total > TOLD_BYTES && tenths(bytes) > tenths(bytes.saturating_sub(1 << 20))
}

/// A file or folder that is there is meant, even without `./` before it; registries do not have such names.
pub(crate) fn local_first(reference: &str) -> String {
    let path = reference.split_once(':').map_or(reference, |(path, _)| path);
    match !reference.starts_with(['/', '.']) && (Path::new(reference).exists() || Path::new(path).exists()) {
        true => format!("./{reference}"),
        false => reference.to_owned(),
    }
}

/// The reference, if it is one to a registry.
pub(crate) fn only_remote(reference: String) -> Result<String, String> {
    match image::Reference::parse(&reference) {
        Ok(parsed) if parsed.is_remote() => Ok(reference),
        Ok(_) => Err(format!(
            "{reference} is a path of the build host; only the server's configuration may name one"
        )),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_blob_is_told_of_each_tenth_and_a_small_one_when_it_is_there() {
        let told = |total: u64| {
            let digest = Digest::of(b"");
            let steps = (1..=total >> 20).map(|mebibytes| Progress::Fetching {
                digest,
                bytes: mebibytes << 20,
                total,
            });
            steps.filter_map(said).collect::<Vec<_>>()
        };
        assert_eq!(told(4 << 20).len(), 1);
        let large = told(400 << 20);
        assert_eq!(large.len(), 10, "{large:?}");
        assert!(large[0].contains("(41.9 of 419.4 MB)") && large[9].starts_with("fetched "), "{large:?}");
    }

    #[test]
    fn a_project_cannot_name_files_of_the_build_host() {
        for reference in ["/etc", "./x", "../x", "/srv/image.tar"] {
            assert!(only_remote(reference.into()).is_err(), "{reference}");
        }
        for reference in [
            "debian:12",
            "127.0.0.1:5000/a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ] {
            assert_eq!(only_remote(reference.into()).as_deref(), Ok(reference));
        }
    }
}
