//! Which host folders a container consists of and where they show: decided from the spec before anything is made.
//! The mounting is in `inside.rs`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::error::Error;
use crate::spec::{MOST_FOLDERS, Mount, Rootfs, Spec};

/// All of this crate's own folders below the scratch folder.
pub(crate) const OURS: &str = "container";

/// One file system of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) inside: PathBuf,
    pub(crate) content: Content,
    /// Only these folders of it show, each at its own place. The whole shows if there are none.
    pub(crate) parts: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// `upper` is relative to the scratch folder; of the lower folders, the topmost comes first.
    Overlay {
        lowers: Vec<PathBuf>,
        upper: PathBuf,
        maps_ids: bool,
    },
    ReadOnly {
        host: PathBuf,
    },
    /// A folder, shown by an overlay that nothing can be written to: who may mount could make a mount of the folder writable.
    Merged {
        host: PathBuf,
    },
    Tmpfs {
        size_bytes: u64,
    },
}

impl Layer {
    fn new(inside: &Path, content: Content) -> Layer {
        Layer { inside: inside.into(), content, parts: Vec::new() }
    }

    /// What it shows of the host, the topmost first.
    pub(crate) fn hosts(&self) -> &[PathBuf] {
        match &self.content {
            Content::Overlay { lowers, .. } => lowers,
            Content::ReadOnly { host } | Content::Merged { host } => std::slice::from_ref(host),
            Content::Tmpfs { .. } => &[],
        }
    }

    /// Whether the host's ids are shown as the container's (0 as 0), rather than as nobody's.
    pub(crate) fn maps_ids(&self) -> bool {
        match &self.content {
            Content::Overlay { maps_ids, .. } => *maps_ids,
            Content::ReadOnly { .. } | Content::Merged { .. } => true,
            Content::Tmpfs { .. } => false,
        }
    }

    /// Against who may mount.
    fn hold(&mut self) -> Result<(), Error> {
        let Content::ReadOnly { host } = &self.content else { return Ok(()) };
        if !host.is_dir() {
            let text =
                format!("a privileged container shows folders of the host, and {} is a file", host.display());
            return Err(Error::Invalid(text));
        }
        self.content = Content::Merged { host: host.clone() };
        Ok(())
    }
}

/// The whole container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The first layer is the root itself; otherwise the root is a new, empty folder.
    pub(crate) has_root_layer: bool,
    pub(crate) layers: Vec<Layer>,
    /// Symbolic links to make in an empty root: (path, target).
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
    /// Empty folders to make in an empty root, where a whole layer is masked.
    pub(crate) folders: Vec<PathBuf>,
}

/// Trees whose owner must be root inside too, for package installers; they hold no secrets, but for settings, which are searched for
/// them (see `masks.rs`). Others show root's files as nobody's, so that what only root may read stays unreadable.
const SHOWN_AS_OWNED_BY_ROOT: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/var/lib/dpkg",
    "/var/lib/apt",
];
/// The rest of /var/lib is the state of the host's services.
const SHOWN_OF_VAR_LIB: &[&str] = &["/var/lib/dpkg", "/var/lib/apt"];
/// Made anew for each container.
const NEVER_SHOWN: &[&str] = &["/proc", "/sys", "/dev", "/run"];

impl Layout {
    /// `may_merge`: the caller may show a folder that has mounts in it without them, which only root of the host may.
    pub(crate) fn of(spec: &Spec, may_merge: bool) -> Result<Layout, Error> {
        let mut layout = Layout::default();
        match &spec.rootfs {
            Rootfs::Folders(folders) => layout.add_root(folders)?,
            Rootfs::Host { visible } => {
                layout.add_visible(visible)?;
                layout.empty_masked_layers(&spec.masks);
                // A folder that ended containers wrote lies on the root mount too, and overlay takes no two layers of which one is
                // within the other.
                if may_merge && !spec.may_lie_beneath {
                    layout.merge();
                }
            }
        }
        for mount in &spec.mounts {
            layout.add_mount(mount, &spec.scratch)?;
        }
        if spec.is_privileged {
            layout.layers.iter_mut().try_for_each(Layer::hold)?;
        }
        Ok(layout)
    }

    fn add_root(&mut self, folders: &[PathBuf]) -> Result<(), Error> {
        if folders.is_empty() || folders.len() > MOST_FOLDERS {
            let text = format!("an image has 1 to {MOST_FOLDERS} folders, not {}", folders.len());
            return Err(Error::Invalid(text));
        }
        self.has_root_layer = true;
        self.layers.push(overlay(folders.to_vec(), Path::new("/"), true));
        Ok(())
    }

    fn add_visible(&mut self, visible: &[PathBuf]) -> Result<(), Error> {
        let mut paths: Vec<PathBuf> = visible.to_vec();
        if paths.iter().any(|path| path == Path::new("/var/lib") || path == Path::new("/var")) {
            paths.extend(SHOWN_OF_VAR_LIB.iter().map(PathBuf::from));
        }
        paths.retain(|path| path != Path::new("/var/lib") && path != Path::new("/var"));
        paths.sort();
        let mut last_folder: Option<PathBuf> = None;
        for path in paths {
            must_be_plain(&path)?;
            must_name_an_upper(&path)?;
            if path == Path::new("/") {
                return Err(Error::Invalid("the whole host cannot be visible: name its folders".into()));
            }
            let is_covered = last_folder.as_ref().is_some_and(|folder| path.starts_with(folder));
            if is_covered || NEVER_SHOWN.iter().any(|never| path.starts_with(never)) {
                continue;
            }
            if self.add_visible_path(&path) {
                last_folder = Some(path);
            }
        }
        Ok(())
    }

    /// The top of an overlay cannot hide what is below it.
    fn empty_masked_layers(&mut self, masks: &[PathBuf]) {
        let is_masked = |layer: &mut Layer| masks.contains(&layer.inside) && layer.inside.is_dir();
        self.folders.extend(self.layers.extract_if(.., is_masked).map(|layer| layer.inside));
    }

    /// Turns the folders that lie on the host's root mount into parts of one layer: an overlay costs more than a mount of a part. The
    /// rest of the host never shows, even what is made there later.
    fn merge(&mut self) {
        let root_mount = mount_id(Path::new("/"));
        let can_merge = |layer: &mut Layer| match &layer.content {
            Content::Overlay { lowers, maps_ids: true, .. } => {
                root_mount.is_some() && lowers.iter().all(|lower| mount_id(lower) == root_mount)
            }
            _ => false,
        };
        let parts: Vec<PathBuf> = self.layers.extract_if(.., can_merge).map(|layer| layer.inside).collect();
        if !parts.is_empty() {
            let root = Path::new("/");
            self.layers.insert(0, Layer { parts, ..overlay(vec![root.into()], root, true) });
        }
    }

    /// Whether it was a folder.
    fn add_visible_path(&mut self, path: &Path) -> bool {
        let Ok(metadata) = fs::symlink_metadata(path) else { return false };
        if metadata.is_symlink() {
            if let Ok(target) = fs::read_link(path) {
                self.links.push((path.into(), target));
            }
        } else if metadata.is_dir() {
            let maps_ids = SHOWN_AS_OWNED_BY_ROOT.iter().any(|tree| path.starts_with(tree));
            self.layers.push(overlay(vec![path.into()], path, maps_ids));
            return true;
        } else if metadata.is_file() {
            self.layers.push(Layer::new(path, Content::ReadOnly { host: path.into() }));
        }
        false
    }

    fn add_mount(&mut self, mount: &Mount, scratch: &Path) -> Result<(), Error> {
        let layer = match mount {
            Mount::ReadOnly { host, inside } => Layer::new(inside, Content::ReadOnly { host: host.clone() }),
            Mount::Tmpfs { inside, size_bytes } => {
                Layer::new(inside, Content::Tmpfs { size_bytes: *size_bytes })
            }
            Mount::Overlay { lower, inside, upper } => {
                let upper = upper.strip_prefix(scratch).unwrap_or(upper);
                if upper.is_absolute() || upper.starts_with(OURS) || upper.as_os_str().is_empty() {
                    let text =
                        format!("the upper folder {} is not below the scratch folder", upper.display());
                    return Err(Error::Invalid(text));
                }
                let lowers = vec![lower.clone()];
                Layer::new(inside, Content::Overlay { lowers, upper: upper.into(), maps_ids: true })
            }
        };
        must_be_plain(&layer.inside)?;
        self.layers.push(layer);
        Ok(())
    }
}

fn overlay(lowers: Vec<PathBuf>, inside: &Path, maps_ids: bool) -> Layer {
    Layer::new(inside, Content::Overlay { lowers, upper: own_upper(inside), maps_ids })
}

/// Named after the place it is written at, so that a later container finds it even if the host has got more folders to show.
fn own_upper(inside: &Path) -> PathBuf {
    let mut name = String::from("upper-");
    for byte in inside.as_os_str().as_bytes() {
        match byte {
            b'/' => name.push('-'),
            byte if byte.is_ascii_alphanumeric() => name.push(char::from(*byte)),
            // Overlay's options give a meaning to some; and no two paths may have one name.
            byte => name.push_str(&format!("_{byte:02x}")),
        }
    }
    Path::new(OURS).join(name)
}

/// The kernel takes options of 256 bytes.
fn must_name_an_upper(path: &Path) -> Result<(), Error> {
    const LONGEST: usize = 200;
    if own_upper(path).as_os_str().len() <= LONGEST {
        return Ok(());
    }
    Err(Error::Invalid(format!("{} is too long a path to be made visible", path.display())))
}

fn mount_id(path: &Path) -> Option<u64> {
    let status = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).ok()?;
    let has_it = status.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    has_it.then_some(status.stx_mnt_id)
}

/// Absolute, and without `..`.
fn must_be_plain(path: &Path) -> Result<(), Error> {
    if path.is_absolute() && !path.components().any(|part| part == Component::ParentDir) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{} is not an absolute path without \"..\"", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Limits, Network};

    fn layout(rootfs: Rootfs, mounts: Vec<Mount>) -> Result<Layout, Error> {
        let spec = Spec {
            rootfs,
            scratch: "/scratch".into(),
            may_lie_beneath: false,
            beneath: Vec::new(),
            mounts,
            masks: Vec::new(),
            folders: Vec::new(),
            files: Vec::new(),
            hostname: "host".into(),
            network: Network::None,
            listen: Vec::new(),
            limits: Limits::default(),
            is_privileged: false,
            name: "name".into(),
            output: fs::File::open("/dev/null").unwrap().into(),
            functions: &[],
        };
        Layout::of(&spec, false)
    }

    fn host(visible: &[&str]) -> Result<Layout, Error> {
        layout(Rootfs::Host { visible: visible.iter().map(PathBuf::from).collect() }, Vec::new())
    }

    #[test]
    fn visible_folders_become_layers_once_and_kernel_folders_never() {
        let layout = host(&["/usr/share", "/usr", "/proc", "/dev/shm", "/nonexistent"]).unwrap();
        let inside: Vec<_> = layout.layers.iter().map(|layer| layer.inside.to_str().unwrap()).collect();
        assert_eq!(inside, ["/usr"]);
    }

    #[test]
    fn of_the_hosts_state_only_the_package_databases_show() {
        let layout = host(&["/var/lib"]).unwrap();
        assert!(layout.layers.iter().all(|layer| SHOWN_OF_VAR_LIB.contains(&layer.inside.to_str().unwrap())));
    }

    #[test]
    fn merged_folders_are_parts_of_one_layer_of_which_nothing_else_shows() {
        let mut layout = host(&["/usr", "/etc", "/var/lib/dpkg", "/bin"]).unwrap();
        let links = layout.links.clone();
        layout.merge();
        let (layer, others) = layout.layers.split_first().unwrap();
        assert!(others.is_empty() && !layout.has_root_layer && layout.links == links);
        assert_eq!(layer.hosts(), [Path::new("/")]);
        let parts: Vec<_> = layer.parts.iter().map(|part| part.to_str().unwrap()).collect();
        assert_eq!(
            parts.iter().filter(|part| **part != "/bin").collect::<Vec<_>>(),
            [&"/etc", &"/usr", &"/var/lib/dpkg"]
        );
    }

    #[test]
    fn uppers_of_different_places_have_different_names_that_need_no_quoting() {
        let name = |path: &str| own_upper(Path::new(path)).into_os_string().into_string().unwrap();
        assert_eq!(name("/"), "container/upper--");
        assert_eq!(name("/usr/lib"), "container/upper--usr-lib");
        assert_eq!(name("/a-b:c_d"), "container/upper--a_2db_3ac_5fd");
        assert!(matches!(must_name_an_upper(Path::new(&"/x".repeat(100))), Err(Error::Invalid(_))));
    }

    #[test]
    fn paths_that_are_not_plain_are_refused() {
        for path in ["/", "usr", "/usr/../root"] {
            assert!(matches!(host(&[path]), Err(Error::Invalid(_))), "{path}");
        }
    }

    #[test]
    fn an_upper_folder_elsewhere_is_refused() {
        let mount =
            |upper: &str| Mount::Overlay { lower: "/usr".into(), inside: "/a".into(), upper: upper.into() };
        let with = |upper| layout(Rootfs::Folders(vec!["/image".into()]), vec![mount(upper)]);
        assert!(with("/scratch/cache").is_ok());
        assert!(with("/elsewhere/cache").is_err());
        assert!(with("/scratch").is_err());
        assert!(with("/scratch/container/upper-0").is_err());
    }
}
