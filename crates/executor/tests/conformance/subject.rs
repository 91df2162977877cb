//! The executors that are tried, and what each has.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use agent::journal::{Context, Outcome, Phase};
use agent::plan::{Plan, Rootfs};
use executor::embedded::Options;
use executor::fake::Script;
use executor::{Docker, Embedded, Executor, Fake};

use crate::{Case, Needs};

/// The socket of a daemon for tests, and the program `buildyard-init`.
const DAEMON: &str = "BUILDYARD_TEST_DOCKER";
const INIT: &str = "BUILDYARD_TEST_INIT";
/// Whose builds a process is to make that is not root.
const WHOSE: &str = "BUILDYARD_TEST_SUBJECT";
const IMAGE: &str = "buildyard-conformance";
/// Runs this program as an ordinary user, of whom the host knows nothing.
const ORDINARY: &str = "23456";
/// And as one for whom it has set ids apart, as far as the processes of this script see.
const WITH_IDS: &str = "
set -e
mount -t tmpfs tmpfs /mnt
(cat /etc/passwd; echo ada:x:23457:23457::/:/bin/sh) >/mnt/passwd
echo ada:1000000:65536 | tee /mnt/subuid >/mnt/subgid
for file in passwd subuid subgid; do mount --bind /mnt/$file /etc/$file; done
exec setpriv --reuid 23457 --regid 23457 --clear-groups --inh-caps=-all -- \"$@\"
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Processes of this host, by root.
    EmbeddedAsRoot,
    /// The same by an ordinary user.
    EmbeddedRootless,
    /// By one who has taken the ids that the host has for that user.
    EmbeddedWithIds,
    /// Containers of a Docker daemon.
    Docker,
    /// Scripts, and no commands.
    Fake,
}

impl Subject {
    /// Those that can be had here: only root is root and can make another user, and there is a daemon where [`DAEMON`] says so.
    pub(crate) fn all() -> Vec<Subject> {
        let rules = container::rules_the_host();
        let root = rules.then_some(Subject::EmbeddedAsRoot);
        let with_ids = (rules || container::has_subordinate_ids()).then_some(Subject::EmbeddedWithIds);
        let docker = std::env::var_os(DAEMON).map(|_| Subject::Docker);
        let rootless = [Subject::EmbeddedRootless, Subject::Fake];
        root.into_iter().chain(with_ids).chain(rootless).chain(docker).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Subject::EmbeddedAsRoot => "embedded_as_root",
            Subject::EmbeddedRootless => "embedded_rootless",
            Subject::EmbeddedWithIds => "embedded_with_ids",
            Subject::Docker => "docker",
            Subject::Fake => "fake",
        }
    }

    pub(crate) fn named(name: &str) -> Subject {
        use Subject::{Docker, EmbeddedAsRoot, EmbeddedRootless, EmbeddedWithIds, Fake};
        let mut every = [EmbeddedAsRoot, EmbeddedRootless, EmbeddedWithIds, Docker, Fake].into_iter();
        every.find(|subject| subject.name() == name).expect("a subject's name")
    }

    pub(crate) fn test_name(self, case: &Case) -> String {
        let path = case.name.split_once("::").map_or(case.name, |(_, path)| path);
        format!("{}::{path}", self.name())
    }

    pub(crate) fn has(self, needs: Needs) -> bool {
        match self {
            Subject::EmbeddedAsRoot | Subject::Docker => true,
            Subject::EmbeddedRootless => matches!(needs, Needs::Contract | Needs::Environment),
            Subject::EmbeddedWithIds => !matches!(needs, Needs::Limits | Needs::Privileges),
            Subject::Fake => needs == Needs::Contract,
        }
    }

    pub(crate) fn is_real(self) -> bool {
        self != Subject::Fake
    }

    /// What is left of a build outside of files, processes, mounts and cgroups.
    pub(crate) fn left_behind(self, uuid: &str) -> Vec<String> {
        if self != Subject::Docker {
            return Vec::new();
        }
        let listed =
            docker(&["ps", "--all", "--filter", &format!("name={uuid}"), "--format", "{{.Names}}"]).output();
        crate::world::text(&listed.unwrap().stdout).lines().map(str::to_string).collect()
    }

    /// The case again, by the user that it takes. The program may lie where that user cannot go, so it is handed over open.
    pub(crate) fn in_its_own_process(self, test: &str) -> Option<Command> {
        if !container::rules_the_host() {
            return None;
        }
        let (program, arguments): (_, &[&str]) = match self {
            Subject::EmbeddedRootless => (
                "setpriv",
                &["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups", "--inh-caps=-all", "--"],
            ),
            Subject::EmbeddedWithIds => ("unshare", &["--mount", "sh", "-c", WITH_IDS, "sh"]),
            _ => return None,
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(["/proc/self/fd/0", "--exact", test, "--nocapture"])
            .stdin(File::open(std::env::current_exe().unwrap()).unwrap())
            .env_remove("TMPDIR")
            .env(WHOSE, self.name())
            .current_dir("/");
        Some(command)
    }

    /// For who is run like this, before there are threads: the ids that are to be had.
    pub(crate) fn take_ids() {
        if std::env::var(WHOSE).is_ok_and(|name| name == Subject::EmbeddedWithIds.name()) {
            assert!(container::take_subordinate_ids().unwrap(), "the package uidmap is to be installed");
        }
    }

    /// Opens one whose builds lie in `folder`. A second one there is the next server.
    pub(crate) async fn open(self, folder: &Path) -> Arc<dyn Executor> {
        match self {
            Subject::Fake => {
                let fake = Fake::new(folder, || 1);
                fake.script(script);
                Arc::new(fake)
            }
            Subject::EmbeddedAsRoot | Subject::EmbeddedRootless | Subject::EmbeddedWithIds => {
                Arc::new(Embedded::open(agents(folder)).unwrap())
            }
            Subject::Docker => {
                let value = |name| std::env::var_os(name).unwrap_or_else(|| panic!("{name} is to be set"));
                let (socket, init) = (value(DAEMON).into(), value(INIT).into());
                let options = executor::docker::Options { agents: agents(folder), socket, init };
                Arc::new(Docker::open(options).await.unwrap())
            }
        }
    }

    /// The image that all cases run in: busybox and nothing else. `place` is a folder for it.
    pub(crate) fn image(self, place: &Path) -> Rootfs {
        match self {
            Subject::Fake => Rootfs::Host,
            Subject::EmbeddedAsRoot | Subject::EmbeddedRootless | Subject::EmbeddedWithIds => {
                crate::world::make_image(place);
                Rootfs::Unpacked(place.to_path_buf().into())
            }
            Subject::Docker => {
                if !docker(&["image", "inspect", IMAGE]).output().unwrap().status.success() {
                    crate::world::make_image(place);
                    import(place);
                }
                Rootfs::Image(IMAGE.to_string())
            }
        }
    }
}

fn agents(folder: &Path) -> Options {
    let mut options = Options::new(folder.to_path_buf());
    options.warm = 1;
    options
}

fn docker(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    let socket = std::env::var(DAEMON).unwrap();
    command.arg("--host").arg(format!("unix://{socket}")).args(arguments);
    command
}

fn import(root: &Path) {
    let mut archive =
        Command::new("tar").arg("-C").arg(root).args(["-c", "."]).stdout(Stdio::piped()).spawn().unwrap();
    let imported = docker(&["import", "-", IMAGE]).stdin(archive.stdout.take().unwrap()).output().unwrap();
    assert!(archive.wait().unwrap().success() && imported.status.success(), "{imported:?}");
}

/// The scripted executor does what the commands of `World::succeeds` and its like do.
fn script(plan: &Plan) -> Script {
    let failure = Context {
        status_code: "COMMAND_EXECUTION_ERROR".to_string(),
        message: "Error while executing command: false. Reason: exit status 1".to_string(),
    };
    match plan.project_name.as_str() {
        "fails" => Script { fail_in: Some((Phase::Build, Outcome::Failed, failure)), ..Script::default() },
        "waits" => Script { hold_in: Some(Phase::Build), ..Script::default() },
        "asks" => {
            Script { references: Some((vec!["/parameter".to_string()], Vec::new())), ..Script::default() }
        }
        _ => Script::default(),
    }
}
