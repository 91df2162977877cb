//! Phase contexts: the status codes and texts that a phase's failure is told with.

use crate::journal::Context;
use crate::session::Halt;
use crate::transfer::Failure;

pub(super) fn failed(status_code: &str, message: impl Into<String>) -> Context {
    Context { status_code: status_code.into(), message: message.into() }
}

/// COMPAT: BS-006..010 what is wrong with a buildspec fails DOWNLOAD_SOURCE with this code.
pub(super) fn yaml_error(message: impl Into<String>) -> Context {
    failed("YAML_FILE_ERROR", message)
}

/// COMPAT: LC-052.
pub(super) fn client_error(message: impl Into<String>) -> Context {
    failed("CLIENT_ERROR", message)
}

const OUT_OF_MEMORY: &str =
    "build container died because it was out of memory, or the Docker image is not supported. ErrorCode: 500";

/// COMPAT: LC-058 as much of it as is true of a container that lives on: what is said of a command beside its exit status.
pub(super) fn died_of_memory(limit_bytes: Option<u64>) -> String {
    let limit = limit_bytes.map(|bytes| format!("; it has {:.0} MB", bytes as f64 / 1e6));
    let limit = limit.unwrap_or_default();
    format!("A process of the build container died because it was out of memory{limit}")
}

/// COMPAT: LC-058.
pub(super) fn dead(out_of_memory: bool) -> Context {
    let why = match out_of_memory {
        true => OUT_OF_MEMORY,
        false => "build container ended unexpectedly. ErrorCode: 500",
    };
    found_dead(why)
}

/// COMPAT: BS-041, with all that the text suspects, and then what it is. `path`: where it was looked for.
pub(super) fn no_shell(path: &str) -> Context {
    found_dead(&format!(
        "{OUT_OF_MEMORY}. The image has no `sh` in {path}, which has to be there whatever env.shell says"
    ))
}

/// Somebody removed the image after it was found and before the build had it.
pub(super) fn image_removed() -> Context {
    let message = "Unable to pull customer's container image. CannotPullContainerError: it was removed before the build could use it";
    failed("BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE", message)
}

fn found_dead(why: &str) -> Context {
    client_error(format!("Build container found dead before completing the build. {why}"))
}

/// What the object store refuses is the client's; what breaks is ours.
pub(super) fn source_failure(failure: Failure, bucket: &str, key: &str) -> Result<Context, Halt> {
    match failure {
        Failure::Ours(why) => Err(Halt::Fault(format!("cannot read {bucket}/{key}: {why}"))),
        why => {
            Ok(client_error(format!("Error while downloading key {key} of bucket {bucket}, error: {why}")))
        }
    }
}
