//! `buildyard image`: the images of a data folder, from the outside. What they are is `image`'s business.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use image::{Image, Images, Stocked, Unfinished};
use serde_json::json;

use crate::{folders, images};

/// An image that was asked for so lately may be about to be used.
const FRESH: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The data folder [default: as `buildyard run` and `buildyard serve`].
    #[arg(long, value_name = "FOLDER", env = "BUILDYARD_DATA", global = true)]
    data: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fetch images from registries and unpack them, so that no build has to wait for that.
    Pull {
        #[arg(required = true)]
        references: Vec<String>,
    },
    /// Unpack an OCI layout, an OCI archive or a `docker save` archive of this host.
    Import {
        /// With `:tag` or `@sha256:...` behind it to choose among several.
        path: String,
    },
    /// List what is unpacked, what was asked for last first.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what is known of an image, as JSON.
    Inspect {
        /// A reference, a digest, or at least 6 digits of one.
        image: String,
    },
    /// Remove images; not those that builds use.
    Rm {
        /// References, digests, or at least 6 digits of them.
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Remove images that no build uses, those first that were not asked for longest.
    Prune {
        /// Leave so much: `20GB`, `512MB`, or bytes.
        #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
        keep: u64,
    },
}

pub(crate) fn image(arguments: &Arguments) -> Result<(), String> {
    let data = arguments.data.clone().unwrap_or_else(folders::default_data);
    images::take_own_mounts();
    let opened = || Images::open(&data.join("images")).map_err(|e| told(&e));
    match &arguments.command {
        Command::Pull { references } => references.iter().try_for_each(|reference| {
            images::only_remote(reference.clone()).map_err(|_| {
                format!("{reference} is no registry reference; `buildyard image import` takes paths")
            })?;
            resolve(&data, reference)
        }),
        Command::Import { path } => resolve(&data, &images::local_first(path)),
        Command::Ls { json } => list(&opened()?, *json),
        Command::Inspect { image } => {
            let images = opened()?;
            let found = images.find(image).map_err(|e| told(&e))?;
            let stock = images.stock().map_err(|e| told(&e))?;
            let stocked = stock.iter().find(|stocked| stocked.image == found);
            println!("{:#}", stocked.map(document).unwrap_or_default());
            Ok(())
        }
        Command::Rm { images: named } => {
            let images = opened()?;
            named.iter().try_for_each(|name| {
                let found = images.find(name).map_err(|e| told(&e))?;
                images.remove(&found.digest).map_err(|e| told(&e))?;
                println!("removed {}", found.digest);
                Ok(())
            })
        }
        Command::Prune { keep } => prune(&opened()?, *keep).map(|removed| {
            removed
                .iter()
                .for_each(|one| println!("removed {} ({})", one.image.digest, megabytes(one.bytes)));
        }),
    }
}

fn resolve(data: &Path, reference: &str) -> Result<(), String> {
    let Image { digest, .. } = images::resolve_here(data, reference)?;
    println!("{digest}");
    Ok(())
}

/// Removes what goes beyond `keep_bytes`.
fn prune(stock: &Images, keep_bytes: u64) -> Result<Vec<Stocked>, String> {
    let now = images::now();
    let before = if keep_bytes == 0 { now } else { now - FRESH };
    stock.prune(keep_bytes, before).map_err(|e| told(&e))
}

fn list(images: &Images, as_json: bool) -> Result<(), String> {
    let stock = images.stock().map_err(|e| told(&e))?;
    let unfinished = images.unfinished().map_err(|e| told(&e))?;
    if as_json {
        let all = stock.iter().map(document).chain(unfinished.iter().map(document_of_unfinished));
        println!("{:#}", all.collect::<serde_json::Value>());
        return Ok(());
    }
    for stocked in &stock {
        let digits = &stocked.image.digest.hex()[..12];
        let in_use = if stocked.in_use { "in use" } else { "" };
        let size = megabytes(stocked.bytes);
        println!("{digits}  {size:>12}  {in_use:6}  {}", stocked.references.join(" "));
    }
    for one in &unfinished {
        let what = if one.under_way { "is being fetched" } else { "unfinished" };
        println!("{}  {:>12}  {what}", &one.digest.hex()[..12], megabytes(one.bytes));
    }
    Ok(())
}

fn document(stocked: &Stocked) -> serde_json::Value {
    let Image { digest, rootfs, config, .. } = &stocked.image;
    let since = stocked.asked_for.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "digest": digest.to_string(),
        "references": stocked.references,
        "bytes": stocked.bytes,
        "askedFor": since.as_secs(),
        "inUse": stocked.in_use,
        "rootfs": rootfs,
        "architecture": config.architecture,
        "variables": config.env,
        "user": config.user,
        "workingFolder": config.workdir,
        "entrypoint": config.entrypoint,
        "command": config.cmd,
    })
}

fn document_of_unfinished(one: &Unfinished) -> serde_json::Value {
    let since = one.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "digest": one.digest.to_string(),
        "references": [],
        "bytes": one.bytes,
        "askedFor": since.as_secs(),
        "inUse": one.under_way,
        "unfinished": true,
    })
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// `20GB`, `512MB`, `3KB`, or bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let units = [("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000)];
    let unit = units.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (number, unit) = unit.unwrap_or((text, 1));
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| format!("`{text}` is no size such as 20GB, 512MB or 1000"))
}

/// An error with what is behind it.
pub(crate) fn told(error: &image::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_a_thousand() {
        for (text, expect) in [("0", 0), ("1000", 1000), ("3KB", 3000), ("20 GB", 20_000_000_000)] {
            assert_eq!(size(text), Ok(expect), "{text}");
        }
        for text in ["", "GB", "-1", "20G", "1.5GB", "99999999999TB"] {
            assert!(size(text).unwrap_err().contains(text), "{text}");
        }
    }
}
