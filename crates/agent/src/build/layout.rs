//! What a build's container is made of, and where everything is inside it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use container::{Inside, Mount, Spec};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::Build;
use crate::breakpoints::{BREAKPOINT, RESUME};
use crate::endpoint::Endpoint;
use crate::hash_files::HASH_FILES;
use crate::image_tree;
use crate::inside;
use crate::plan::{self, Plan, Source};

pub(super) const OUTPUT: &str = "/codebuild/output";
pub(crate) const SCRIPTS: &str = "/codebuild/output/tmp";
/// Room for a command's script and the variables that go from one to the next.
pub(crate) const SCRIPTS_BYTES: u64 = 64 << 20;
pub(super) const READONLY: &str = "/codebuild/readonly";
pub(super) const USER_BIN: &str = "/codebuild/user/bin";
/// Where images say which runtimes they have.
const IMAGE_CONFIG: &str = "/codebuild/image/config";
/// COMPAT: BS-004 where an inline buildspec is to be found.
pub(super) const INLINE_BUILDSPEC: &str = "/codebuild/readonly/buildspec.yml";

/// Where `buildyard run` leaves artifacts, in the source folder.
pub(super) const ARTIFACTS: &str = ".buildyard";

/// Where programs are looked for if the image does not say.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// COMPAT: EN-080, EN-081 a repository lies in a folder named after where it is from, everything else at the root.
pub(super) fn source_folder(plan: &Plan) -> PathBuf {
    let root = source_root(plan, 0);
    match (&plan.source, plan.secondary_sources.is_empty()) {
        // COMPAT: EN-083 of several, those from S3 have numbers.
        (Source::ObjectZip { .. } | Source::ObjectFolder { .. }, false) => root.join("s3/00"),
        (source, _) => below(root, source),
    }
}

/// Where a secondary source is, by its place in the list.
pub(super) fn secondary_folder(plan: &Plan, at: usize) -> PathBuf {
    match &plan.secondary_sources[at].source {
        Source::ObjectZip { .. } | Source::ObjectFolder { .. } => {
            source_root(plan, 0).join(format!("s3/{:02}", at + 1))
        }
        // The same repository may be there twice.
        source => below(source_root(plan, at + 1), source),
    }
}

/// COMPAT: EN-065 of the container, as its variable tells it.
pub(super) fn hostname(plan: &Plan) -> String {
    plan.uuid.chars().filter(char::is_ascii_hexdigit).take(12).collect()
}

fn below(root: PathBuf, source: &Source) -> PathBuf {
    let Source::Git(git) = source else { return root };
    match source::Location::parse(&git.location) {
        Ok(location) => root.join(location.folder()),
        // Its fetching will say what is wrong.
        Err(_) => root,
    }
}

fn source_root(plan: &Plan, at: usize) -> PathBuf {
    let number = plan.source_number.wrapping_add(u32::try_from(at).unwrap_or_default());
    PathBuf::from(format!("{OUTPUT}/src{number}/src"))
}

impl Build<'_> {
    /// Whether the environment has one of these programs. The host is taken to have them all.
    pub(super) fn has_any(&self, programs: &[&str]) -> std::io::Result<bool> {
        let plan::Rootfs::Unpacked(plan::Unpacked { layers, .. }) = &self.plan.environment.rootfs else {
            return Ok(true);
        };
        let in_folder = |folder| programs.iter().map(move |program| Path::new(folder).join(program));
        let mut paths = self.path_of_image().split(':').flat_map(in_folder);
        let [root] = &layers[..] else { return Ok(paths.any(|path| image_tree::is_there(layers, &path))) };
        let root = File::open(root)?;
        // The image's links lead to places of the image, not of this host.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(paths.any(|path| openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).is_ok()))
    }

    /// Where its programs are.
    pub(super) fn path_of_image(&self) -> &str {
        self.plan.environment.variables.get("PATH").map_or(DEFAULT_PATH, String::as_str)
    }

    /// For a container that is not of our making.
    pub(super) fn container_inside(&self, output: OwnedFd) -> Inside {
        let network = self.plan.environment.network;
        Inside {
            folders: self.own_folders(),
            files: self.own_files(),
            listen: match &self.plan.endpoint {
                Some(_) => Endpoint::addresses_of_others(network),
                None => Vec::new(),
            },
            output,
            is_privileged: self.plan.environment.privileged,
            functions: inside::FUNCTIONS,
        }
    }

    /// COMPAT: EN-085
    fn own_folders(&self) -> Vec<PathBuf> {
        let own = [SCRIPTS, READONLY, USER_BIN, IMAGE_CONFIG].map(Path::new);
        let own = own.into_iter().chain([self.source_folder.as_path()]);
        let secondary = (0..self.plan.secondary_sources.len()).map(|at| secondary_folder(self.plan, at));
        own.map(Path::to_owned).chain(secondary).collect()
    }

    /// COMPAT: BS-004 a buildspec that is no file of the source is shown read-only.
    fn own_files(&self) -> Vec<container::File> {
        let file =
            |path: &str, text: &str, mode| container::File { path: path.into(), bytes: text.into(), mode };
        let mut files: Vec<container::File> =
            [BREAKPOINT, RESUME, HASH_FILES].map(|(path, text)| file(path, text, 0o755)).into();
        if let plan::Buildspec::Inline(text) = &self.plan.buildspec {
            files.push(file(INLINE_BUILDSPEC, text, 0o444));
        }
        files
    }

    pub(super) fn container_spec(&self, scratch: PathBuf, name: String, output: OwnedFd) -> Spec {
        let environment = &self.plan.environment;
        let mut mounts: Vec<Mount> = Vec::new();
        for folder in &environment.shared {
            mounts.push(Mount::ReadOnly { host: folder.clone(), inside: folder.clone() });
        }
        for (at, secondary) in self.plan.secondary_sources.iter().enumerate() {
            if let Source::Folder(lower) = &secondary.source {
                let (inside, upper) = (secondary_folder(self.plan, at), format!("source-{at}").into());
                mounts.push(Mount::Overlay { lower: lower.clone(), inside, upper });
            }
        }
        if let Source::Folder(lower) = &self.plan.source {
            let (inside, upper) = (self.source_folder.clone(), PathBuf::from("source"));
            mounts.push(Mount::Overlay { lower: lower.clone(), inside, upper });
            if lower.join(ARTIFACTS).is_dir() {
                // Artifacts of earlier builds are not part of the source.
                mounts.push(Mount::Tmpfs { inside: self.source_folder.join(ARTIFACTS), size_bytes: 1 << 20 });
            }
        }
        // What the commands' shells need is small and short-lived.
        mounts.push(Mount::Tmpfs { inside: SCRIPTS.into(), size_bytes: SCRIPTS_BYTES });
        Spec {
            rootfs: match &environment.rootfs {
                plan::Rootfs::Host => container::Rootfs::Host { visible: container::default_visible_paths() },
                // Of an image that somebody else keeps there is no container of our making.
                plan::Rootfs::Unpacked(image) => container::Rootfs::Folders(image.layers.clone()),
                plan::Rootfs::Image(name) => container::Rootfs::Folders(vec![name.into()]),
            },
            scratch,
            may_lie_beneath: false,
            beneath: Vec::new(),
            mounts,
            masks: Vec::new(),
            folders: self.own_folders(),
            files: self.own_files(),
            hostname: hostname(self.plan),
            network: match environment.network {
                plan::Network::None => container::Network::None,
                plan::Network::Egress => container::Network::Egress,
                plan::Network::Host => container::Network::Host,
            },
            listen: match &self.plan.endpoint {
                Some(_) => Endpoint::addresses(environment.network),
                None => Vec::new(),
            },
            limits: container::Limits {
                memory_bytes: environment.limits.memory_bytes,
                pids: environment.limits.pids,
                cpu_millis: environment.limits.cpu_millis,
                disk_bytes: environment.limits.disk_bytes,
            },
            is_privileged: environment.privileged,
            name,
            output,
            functions: inside::FUNCTIONS,
        }
    }
}
