//! The OCI image documents: index, manifest and config, and choosing this host's image among several.
//! Docker's older media types have the same shape and are read alike.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Digest, Error, ImageConfig};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Where containerd and newer Docker keep the full name.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// Names a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

/// What an image runs on, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
}

/// An index (images to choose from) or a manifest (one image).
#[derive(Debug)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// The parts of an image's config that Buildyard reads.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    #[serde(flatten)]
    platform: Platform,
    #[serde(default)]
    config: Option<Process>,
    rootfs: Rootfs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Process {
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Rootfs {
    diff_ids: Vec<Digest>,
}

impl Platform {
    /// Linux on this host's processor.
    pub(crate) fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    fn suits(&self, other: &Platform) -> bool {
        self.os == other.os && self.architecture == other.architecture
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.os, self.architecture)
    }

    fn mismatch(&self, found: String) -> Error {
        Error::Platform { wanted: self.name(), found }
    }
}

impl Document {
    /// The content decides: an index has `manifests`, a manifest has `layers`, nothing may have both.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Document, Error> {
        #[derive(Deserialize)]
        struct Either {
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        match parse("manifest", bytes)? {
            Either { manifests: Some(all), config: None, layers: None } => Ok(Document::Index(all)),
            Either { manifests: None, config: Some(config), layers: Some(layers) } => {
                Ok(Document::Manifest(Manifest { config, layers }))
            }
            _ => Err(Error::malformed("manifest", "neither an image index nor an image manifest")),
        }
    }
}

impl Manifest {
    pub(crate) fn check_layers(&self) -> Result<(), Error> {
        let foreign = self.layers.iter().find(|layer| !layer.is_layer());
        foreign.map_or(Ok(()), |layer| {
            Err(Error::malformed("manifest", format!("{:?} is not an image layer", layer.media_type)))
        })
    }
}

impl Descriptor {
    fn is_layer(&self) -> bool {
        self.media_type.contains(".tar") && !self.media_type.contains("encrypted")
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether the image is called `tag`, or has that tag under whatever name.
    pub(crate) fn is_tagged(&self, tag: &str) -> bool {
        [REF_NAME, IMAGE_NAME]
            .iter()
            .filter_map(|key| self.annotation(key))
            .any(|name| name_matches(name, tag))
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        self.annotation(REF_NAME).or(self.annotation(IMAGE_NAME))
    }
}

/// `name` is a bare tag or `repository:tag`; `wanted` is either of them.
pub(crate) fn name_matches(name: &str, wanted: &str) -> bool {
    name == wanted
        || name.strip_suffix(wanted).is_some_and(|before| before.ends_with(':') || before.ends_with('/'))
}

/// The entry of an index for `host`. An entry that does not say its platform will do if none says the right one
/// (its config is checked later); of several variants the most widely runnable is taken.
pub(crate) fn choose(entries: Vec<Descriptor>, host: &Platform) -> Result<Descriptor, Error> {
    let says = |entry: &Descriptor| match &entry.platform {
        Some(platform) if !platform.architecture.is_empty() => platform.name(),
        _ => "unnamed".into(),
    };
    let found = entries.iter().map(says).collect::<Vec<_>>().join(", ");
    let rank = |entry: &Descriptor| match &entry.platform {
        Some(platform) if host.suits(platform) => match platform.variant.as_deref() {
            None | Some("" | "v8" | "v1") => Some(0),
            Some(_) => Some(1),
        },
        None => Some(2),
        Some(_) => None,
    };
    entries
        .into_iter()
        .filter_map(|entry| Some((rank(&entry)?, entry)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, entry)| entry)
        .ok_or_else(|| host.mismatch(found))
}

impl Config {
    /// Parses a config and checks that it is for `host` and has as many layers as its manifest.
    pub(crate) fn parse(bytes: &[u8], host: &Platform, layers: usize) -> Result<Config, Error> {
        let config: Config = parse("config", bytes)?;
        if !host.suits(&config.platform) {
            return Err(host.mismatch(config.platform.name()));
        }
        if config.rootfs.diff_ids.len() != layers {
            let count = config.rootfs.diff_ids.len();
            return Err(Error::malformed("config", format!("{count} diff_ids for {layers} layers")));
        }
        Ok(config)
    }

    pub(crate) fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }
}

impl From<Config> for ImageConfig {
    fn from(config: Config) -> ImageConfig {
        let process = config.config.unwrap_or_default();
        let variable = |text: String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
        ImageConfig {
            env: process.env.unwrap_or_default().into_iter().map(variable).collect(),
            workdir: non_empty(process.working_dir).map(PathBuf::from),
            user: non_empty(process.user),
            entrypoint: process.entrypoint.unwrap_or_default(),
            cmd: process.cmd.unwrap_or_default(),
            architecture: config.platform.architecture,
        }
    }
}

pub(crate) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::malformed(what, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, platform: Option<(&str, &str, Option<&str>)>) -> Descriptor {
        let platform = platform.map(|(os, architecture, variant)| Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        });
        let digest = Digest::of(name.as_bytes());
        Descriptor { media_type: String::new(), digest, size: 0, platform, annotations: None }
    }

    #[test]
    fn the_most_widely_runnable_image_for_the_host_is_chosen() {
        let host = Platform { os: "linux".into(), architecture: "arm64".into(), variant: None };
        let attestation = entry("attestation", Some(("unknown", "unknown", None)));
        let v9 = entry("v9", Some(("linux", "arm64", Some("v9"))));
        let v8 = entry("v8", Some(("linux", "arm64", Some("v8"))));
        let windows = entry("windows", Some(("windows", "arm64", None)));
        let unnamed = entry("unnamed", None);
        let check = |entries: &[&Descriptor], expect: &Descriptor| {
            let chosen = choose(entries.iter().map(|e| (*e).clone()).collect(), &host).unwrap();
            assert_eq!(chosen.digest, expect.digest);
        };
        check(&[&attestation, &v9, &windows, &v8, &unnamed], &v8);
        check(&[&v9, &unnamed], &v9);
        check(&[&windows, &unnamed], &unnamed);
        let error = choose(vec![windows, attestation], &host).unwrap_err().to_string();
        assert_eq!(error, "the image is for windows/arm64, unknown/unknown, this host needs linux/arm64");
    }

    #[test]
    fn a_document_must_be_one_thing() {
        let digest = Digest::of(b"");
        let blob = format!(r#"{{"digest":"{digest}","size":1}}"#);
        let both = format!(r#"{{"manifests":[],"config":{blob},"layers":[]}}"#);
        assert!(Document::parse(both.as_bytes()).is_err());
        assert!(Document::parse(b"{}").is_err());
        assert!(Document::parse(&b"[".repeat(1 << 20)).is_err());
        assert!(matches!(Document::parse(br#"{"manifests":[]}"#), Ok(Document::Index(_))));
    }

    #[test]
    fn a_tag_matches_with_and_without_its_repository() {
        assert!(name_matches("docker.io/library/debian:12", "12"));
        assert!(name_matches("docker.io/library/debian:12", "debian:12"));
        assert!(name_matches("12", "12"));
        assert!(!name_matches("docker.io/library/debian:12", "2"));
        assert!(!name_matches("xdebian:12", "debian:12"));
    }

    #[test]
    fn a_config_reads_as_docker_writes_it() {
        let host = Platform::host();
        let text = format!(
            r#"{{"os":"linux","architecture":"{}","rootfs":{{"type":"layers","diff_ids":[]}},
               "config":{{"Env":["A=b=c","EMPTY"],"WorkingDir":"","User":"7","Entrypoint":null,"Cmd":["sh"]}}}}"#,
            host.architecture
        );
        let config = ImageConfig::from(Config::parse(text.as_bytes(), &host, 0).unwrap());
        assert_eq!(config.env, [("A".into(), "b=c".into()), ("EMPTY".into(), "".into())].into());
        assert_eq!((config.workdir, config.user.as_deref()), (None, Some("7")));
        assert_eq!((config.entrypoint, config.cmd), (vec![], vec!["sh".to_owned()]));
        assert!(matches!(Config::parse(text.as_bytes(), &host, 1), Err(Error::Malformed { .. })));
    }
}
