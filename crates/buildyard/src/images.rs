//! Opens the images folder as the operator has set it up: where it is, and whose registry logins are used.

use std::path::Path;

use image::{Credentials, Image, Images, Progress};

/// Finds, fetches and unpacks an image; blocks. The error is for whoever named the image.
pub(crate) fn resolve(
    data: &Path,
    reference: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<Image, String> {
    let mut open = || -> Result<Image, image::Error> {
        let images = Images::open(&data.join("images"))?;
        let images = match Credentials::docker_config(|name| std::env::var_os(name)) {
            Some(file) => images.with_credentials(Credentials::read_docker_config(&file)?),
            None => images,
        };
        images.resolve(reference, progress)
    };
    open().map_err(|e| format!("cannot use the image {reference}: {e}"))
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
