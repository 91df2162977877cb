//! What the virtual machine starts from: Debian's kernel, a small Debian, and a disk with what is tried.
//!
//! The first two come from Debian's archive by its own tools and are kept below `target/vm`; the disk is made each time.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::error::{Error, at};

pub(super) const QEMU: &str = "qemu-system-x86_64";

/// What is run, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 5] = [
    (QEMU, "qemu-system-x86"),
    ("mmdebstrap", "mmdebstrap"),
    ("busybox", "busybox-static"),
    ("dpkg-deb", "dpkg"),
    ("strip", "binutils"),
];

/// The kernel is the newest that this package leads to.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
/// In the order in which they need each other; `tests/vm/init` loads them.
const MODULES: [&str; 7] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "overlay",
];
/// What the tests use beyond Debian's smallest system.
const SYSTEM_PACKAGES: &str = "python3-minimal,util-linux,procps,busybox-static";
const SYSTEM_SIZE: &str = "2G";
const TESTS_SIZE: &str = "512M";

/// Files for the machine.
pub(super) struct Disks {
    pub(super) kernel: PathBuf,
    /// The file system in memory that it starts from.
    pub(super) memory: PathBuf,
    pub(super) system: PathBuf,
    pub(super) tests: PathBuf,
}

impl Disks {
    pub(super) fn make(root: &Path) -> Result<Disks, Error> {
        check_host()?;
        let folder = target(root).join("vm");
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let disks = Disks {
            kernel: folder.join("vmlinuz"),
            memory: folder.join("memory.cpio"),
            system: folder.join("system.img"),
            tests: folder.join("tests.img"),
        };
        let modules = folder.join("modules");
        if !disks.kernel.exists() {
            fetch_kernel(&folder, &modules, &disks.kernel)?;
        }
        if !disks.system.exists() {
            make_system(&folder, &disks.system)?;
        }
        make_memory(root, &folder, &modules, &disks.memory)?;
        make_tests(root, &folder, &disks.tests)?;
        Ok(disks)
    }
}

/// Whether this host can make the disks at all.
fn check_host() -> Result<(), Error> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Error::Vm("the machine is one of x86-64, and so must be the host".into()));
    }
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        return Err(Error::Vm(format!("Debian packages that are missing: {}", missing.join(" "))));
    }
    as_root(Path::new("/"), &["true"])
        .map_err(|_| Error::Vm("only root, or somebody with sudo, can make the machine's disks".into()))
}

/// Files of a system belong to many users, so they are handled by root.
fn as_root(folder: &Path, command: &[&str]) -> Result<(), Error> {
    let is_root = said(&run(folder, "id", ["-u"])?) == "0";
    let asked = if is_root { &["env"][..] } else { &["sudo", "-n"] };
    run(folder, asked[0], asked[1..].iter().chain(command)).map(drop)
}

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

/// Where cargo puts what it builds.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}

fn fetch_kernel(folder: &Path, modules: &Path, kernel: &Path) -> Result<(), Error> {
    let named = said(&run(folder, "apt-cache", ["depends", "--important", KERNEL_PACKAGE])?);
    let package = named.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.ok_or_else(|| Error::Vm(format!("{KERNEL_PACKAGE} leads to no kernel")))?;
    let unpacked = emptied(&folder.join("kernel"))?;
    run(&unpacked, "apt-get", ["download", "-q", package])?;
    let archive = only_file(&unpacked, ".deb")?;
    run(&unpacked, "dpkg-deb", [OsStr::new("-x"), archive.as_os_str(), OsStr::new(".")])?;
    emptied(modules)?;
    for name in MODULES {
        let file = format!("{name}.ko");
        let found = said(&run(&unpacked, "find", ["lib", "usr", "-name", &file])?);
        let found = found.lines().next().ok_or_else(|| Error::Vm(format!("{package} has no {file}")))?;
        copy(&unpacked.join(found), &modules.join(file))?;
    }
    copy(&only_file(&unpacked.join("boot"), "")?, kernel)
}

fn make_system(folder: &Path, image: &Path) -> Result<(), Error> {
    let release = fs::read_to_string("/etc/os-release").map_err(at(Path::new("/etc/os-release")))?;
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.ok_or_else(|| Error::Vm("the host's release of Debian has no name".into()))?;
    let tree = folder.join("system");
    let tree = tree.to_string_lossy();
    as_root(folder, &["rm", "-rf", &tree])?;
    let include = format!("--include={SYSTEM_PACKAGES}");
    as_root(folder, &["mmdebstrap", "--quiet", "--variant=minbase", &include, suite, &tree])?;
    make_image(folder, "system", image, SYSTEM_SIZE)?;
    as_root(folder, &["rm", "-rf", &tree])
}

fn make_memory(root: &Path, folder: &Path, modules: &Path, archive: &Path) -> Result<(), Error> {
    let tree = emptied(&folder.join("memory"))?;
    for below in ["bin", "dev"] {
        fs::create_dir(tree.join(below)).map_err(at(&tree))?;
    }
    let busybox = said(&run(folder, "sh", ["-c", "command -v busybox"])?);
    copy(Path::new(&busybox), &tree.join("bin/busybox"))?;
    copy(&root.join("tests/vm/init"), &tree.join("init"))?;
    for name in MODULES {
        copy(&modules.join(format!("{name}.ko")), &tree.join(format!("{name}.ko")))?;
    }
    let pack = format!("find . | busybox cpio -o -H newc > {}", archive.display());
    run(&tree, "sh", ["-c", &pack]).map(drop)
}

/// The disk with this checkout's programs, without what only a debugger reads.
fn make_tests(root: &Path, folder: &Path, image: &Path) -> Result<(), Error> {
    let tree = emptied(&folder.join("tests"))?;
    // Of the whole workspace, so that dependencies are built as for its other tests.
    let build = ["build", "--workspace", "--bin", "buildyard"];
    strip(&built(root, &build, "buildyard")?, &tree.join("buildyard"))?;
    let tests = ["test", "--workspace", "--test", "container", "--no-run"];
    let container = built(root, &tests, "container")?;
    // The machine has no compiler for what the tests run inside.
    run(root, &container.to_string_lossy(), [OsStr::new("--make-prober"), tree.as_os_str()])?;
    strip(&container, &tree.join("container-tests"))?;
    copy(&root.join("tests/vm/checks"), &tree.join("checks"))?;
    run(root, "cp", [OsStr::new("-r"), OsStr::new("examples/hello"), tree.join("hello").as_os_str()])?;
    let kept = tree.join("hello/.buildyard");
    if kept.exists() {
        fs::remove_dir_all(&kept).map_err(at(&kept))?;
    }
    make_image(folder, "tests", image, TESTS_SIZE)
}

/// The program that cargo says it built.
fn built(root: &Path, arguments: &[&str], name: &str) -> Result<PathBuf, Error> {
    let arguments = [arguments, &["--message-format=json"]].concat();
    let messages = said(&run(root, env!("CARGO"), arguments)?);
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let programs = artifacts.filter(|artifact| artifact["target"]["name"] == name);
    let path = programs.filter_map(|artifact| Some(artifact["executable"].as_str()?.into())).next_back();
    path.ok_or_else(|| Error::Vm(format!("cargo built no program {name}")))
}

fn strip(from: &Path, to: &Path) -> Result<(), Error> {
    let arguments = [OsStr::new("--strip-debug"), OsStr::new("-o"), to.as_os_str(), from.as_os_str()];
    run(Path::new("/"), "strip", arguments).map(drop)
}

/// A disk image with the tree's files; complete or absent.
fn make_image(folder: &Path, tree: &str, image: &Path, size: &str) -> Result<(), Error> {
    let unfinished = image.with_extension("unfinished");
    let name = unfinished.to_string_lossy();
    as_root(folder, &["rm", "-f", &name])?;
    as_root(folder, &["mke2fs", "-q", "-t", "ext4", "-d", tree, &name, size])?;
    fs::rename(&unfinished, image).map_err(at(image))
}

fn only_file(folder: &Path, ending: &str) -> Result<PathBuf, Error> {
    let wanted = |name: &str| name.ends_with(ending) && (!ending.is_empty() || name.starts_with("vmlinuz"));
    let entries = fs::read_dir(folder).map_err(at(folder))?.flatten();
    let found = entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(OsStr::to_str).is_some_and(wanted));
    found.ok_or_else(|| Error::Vm(format!("{} lacks what it should hold", folder.display())))
}

fn emptied(folder: &Path) -> Result<PathBuf, Error> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(at(folder))?;
    }
    fs::create_dir_all(folder).map_err(at(folder))?;
    Ok(folder.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::copy(from, to).map(drop).map_err(at(from))
}

/// Runs a program to its good end; what it prints on standard error is shown.
fn run<T: AsRef<OsStr>>(
    folder: &Path,
    program: &str,
    arguments: impl IntoIterator<Item = T>,
) -> Result<Output, Error> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stderr(Stdio::inherit());
    let output = command.output().map_err(at(Path::new(program)))?;
    if output.status.success() {
        Ok(output)
    } else {
        Err(Error::Check { command: program.into(), status: output.status })
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
