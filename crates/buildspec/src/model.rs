//! A buildspec as values. Texts are as written: nothing is expanded, no path is checked against a disk.

mod batch;
mod on_failure;

use std::collections::BTreeMap;
use std::fmt;

use crate::diagnostic::Error;
use crate::secret::SecretReference;

pub use batch::{
    Batch, BatchBuild, BatchBuilds, BatchEnvironment, BuildMatrix, COMPUTE_TYPES, ENVIRONMENT_TYPES,
};
pub(crate) use on_failure::NoOnFailure;
pub use on_failure::{ErrorPattern, OnFailure};

/// Names with values in the order of the buildspec; names are unique.
pub type Variables = Vec<(String, String)>;

/// A whole buildspec. Absent sections and sections without content are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buildspec {
    /// `version`.
    pub version: Version,
    /// `run-as`: user for the commands of every phase that names none (BS-030).
    pub run_as: Option<String>,
    /// `env`.
    pub env: Env,
    /// `proxy`.
    pub proxy: Proxy,
    /// `phases`.
    pub phases: Phases,
    /// `reports` in the order written, at most [`crate::limits::REPORT_GROUPS`].
    pub reports: Vec<Report>,
    /// `artifacts`.
    pub artifacts: Option<Artifacts>,
    /// `cache`.
    pub cache: Option<Cache>,
    /// `batch`, or what is wrong with it: a single build does not look at it, so it cannot fail one.
    ///
    /// COMPAT: BS-163
    pub batch: Option<Result<Batch, Error>>,
}

/// Buildspec versions (BS-020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `0.1`: each command has a shell of its own.
    V01,
    /// `0.2`: working directory and variables carry over from command to command.
    V02,
}

/// `env`: what a build's environment gets from the buildspec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    /// `shell`; `None` is the platform's default.
    pub shell: Option<Shell>,
    /// `variables`: values are literal, never expanded (BS-042).
    pub variables: Variables,
    /// `parameter-store`: variable to parameter name.
    pub parameter_store: Variables,
    /// `secrets-manager`: variable to secret, in the order written.
    pub secrets_manager: Vec<(String, SecretReference)>,
    /// `exported-variables`: names.
    pub exported_variables: Vec<String>,
    /// `git-credential-helper`.
    pub git_credential_helper: bool,
}

/// `env.shell` (BS-040).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shell {
    /// `/bin/sh`.
    Sh,
    /// `bash`.
    Bash,
    /// `powershell.exe`.
    PowerShell,
    /// `cmd.exe`.
    Cmd,
}

/// `proxy`: what goes through the explicit proxy (BS-060).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proxy {
    /// `upload-artifacts`.
    pub upload_artifacts: bool,
    /// `logs`.
    pub logs: bool,
}

/// `phases`. `None`: not in the buildspec; the phase still runs, empty (BS-072).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Phases {
    /// `install`.
    pub install: Option<Phase>,
    /// `pre_build`.
    pub pre_build: Option<Phase>,
    /// `build`.
    pub build: Option<Phase>,
    /// `post_build`.
    pub post_build: Option<Phase>,
}

/// The phases a buildspec can describe, in the order they run. `Display` gives the buildspec's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PhaseName {
    /// `install`.
    Install,
    /// `pre_build`.
    PreBuild,
    /// `build`.
    Build,
    /// `post_build`.
    PostBuild,
}

/// One phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Phase {
    /// `run-as`: beats the buildspec's (BS-030).
    pub run_as: Option<String>,
    /// `on-failure`; `None` is CodeBuild's default, which differs by phase (BS-076..078).
    pub on_failure: Option<OnFailure>,
    /// `commands`: one entry a command, however many lines it has (BS-015).
    pub commands: Vec<String>,
    /// `finally`: run after `commands`, whether or not those failed.
    pub finally: Vec<String>,
    /// `runtime-versions` of `install`: runtime to version as written (`3.10` stays `3.10`, BS-014).
    pub runtime_versions: Variables,
}

/// One entry of `reports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Report group: name or ARN; variables in it are expanded when used (BS-110).
    pub group: String,
    /// Glob patterns of the report files.
    pub files: Vec<String>,
    /// `file-format`.
    pub file_format: FileFormat,
    /// `base-directory` of `files`.
    pub base_directory: Option<String>,
    /// `discard-paths`.
    pub discard_paths: bool,
}

/// Formats of report files (BS-113). `Display` gives CodeBuild's spelling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FileFormat {
    CloverXml,
    CoberturaXml,
    CucumberJson,
    JacocoXml,
    #[default]
    JunitXml,
    Nunit3Xml,
    NunitXml,
    SimpleCov,
    TestNgXml,
    VisualStudioTrx,
}

/// What a report group holds; follows from the format (BS-114).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReportType {
    /// `TEST`.
    Test,
    /// `CODE_COVERAGE`.
    CodeCoverage,
}

/// `artifacts`, and each of its `secondary-artifacts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artifacts {
    /// `files`: glob patterns below the base directory; empty only beside secondary artifacts.
    pub files: Vec<String>,
    /// `name`: evaluated by the shell when used (BS-133).
    pub name: Option<String>,
    /// `discard-paths`: all files in one folder.
    pub discard_paths: bool,
    /// `base-directory`: path or glob pattern, variables expanded when used (BS-135).
    pub base_directory: Option<String>,
    /// `exclude-paths`: glob patterns below the base directory.
    pub exclude_paths: Vec<String>,
    /// `enable-symlinks`.
    pub enable_symlinks: bool,
    /// `s3-prefix`.
    pub s3_prefix: Option<String>,
    /// `secondary-artifacts` by identifier (letters, digits, `_` and `-`); never nested.
    pub secondary: BTreeMap<String, Artifacts>,
}

/// `cache` (BS-150..154).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cache {
    /// `key`: evaluated by the shell when used.
    pub key: Option<String>,
    /// `fallback-keys`: prefixes, evaluated by the shell, at most [`crate::limits::FALLBACK_KEYS`].
    pub fallback_keys: Vec<String>,
    /// `action`; `None` is both.
    pub action: Option<CacheAction>,
    /// `paths`: glob patterns, absolute or below the source directory.
    pub paths: Vec<String>,
}

/// `cache.action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheAction {
    /// Only restored.
    Restore,
    /// Only saved.
    Save,
}

impl Buildspec {
    /// The phases written in the buildspec, in the order they run, for the log's `Phases found in YAML`.
    ///
    /// CodeBuild lists them in no particular order (BS-089).
    pub fn phases_in_yaml(&self) -> Vec<(PhaseName, &Phase)> {
        PhaseName::ALL.iter().filter_map(|&name| Some((name, self.phases.get(name)?))).collect()
    }
}

impl Phases {
    /// The phase of that name.
    pub fn get(&self, name: PhaseName) -> Option<&Phase> {
        match name {
            PhaseName::Install => self.install.as_ref(),
            PhaseName::PreBuild => self.pre_build.as_ref(),
            PhaseName::Build => self.build.as_ref(),
            PhaseName::PostBuild => self.post_build.as_ref(),
        }
    }

    pub(crate) fn get_mut(&mut self, name: PhaseName) -> &mut Option<Phase> {
        match name {
            PhaseName::Install => &mut self.install,
            PhaseName::PreBuild => &mut self.pre_build,
            PhaseName::Build => &mut self.build,
            PhaseName::PostBuild => &mut self.post_build,
        }
    }
}

impl PhaseName {
    /// All, in the order they run.
    pub const ALL: [PhaseName; 4] =
        [PhaseName::Install, PhaseName::PreBuild, PhaseName::Build, PhaseName::PostBuild];

    /// The buildspec's spelling, such as `pre_build`.
    pub fn as_str(self) -> &'static str {
        match self {
            PhaseName::Install => "install",
            PhaseName::PreBuild => "pre_build",
            PhaseName::Build => "build",
            PhaseName::PostBuild => "post_build",
        }
    }

    /// The spelling of logs and of the API, such as `PRE_BUILD`.
    pub fn as_upper_str(self) -> &'static str {
        match self {
            PhaseName::Install => "INSTALL",
            PhaseName::PreBuild => "PRE_BUILD",
            PhaseName::Build => "BUILD",
            PhaseName::PostBuild => "POST_BUILD",
        }
    }

    pub(crate) fn named(name: &str) -> Option<PhaseName> {
        PhaseName::ALL.into_iter().find(|phase| phase.as_str() == name)
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Version {
    pub(crate) fn named(name: &str) -> Option<Version> {
        match name {
            "0.1" => Some(Version::V01),
            "0.2" => Some(Version::V02),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V01 => "0.1",
            Version::V02 => "0.2",
        })
    }
}

impl Shell {
    /// Spellings shown when another is refused.
    pub(crate) const DOCUMENTED: &str = "/bin/sh,bash,cmd.exe,powershell.exe";

    /// COMPAT: BS-040 the documented spellings, and those that leave no doubt.
    pub(crate) const NAMES: &[&str] =
        &["/bin/bash", "/bin/sh", "bash", "cmd", "cmd.exe", "powershell", "powershell.exe", "sh"];

    pub(crate) fn named(name: &str) -> Option<Shell> {
        match name {
            "sh" | "/bin/sh" => Some(Shell::Sh),
            "bash" | "/bin/bash" => Some(Shell::Bash),
            "powershell.exe" | "powershell" => Some(Shell::PowerShell),
            "cmd.exe" | "cmd" => Some(Shell::Cmd),
            _ => None,
        }
    }
}

impl CacheAction {
    pub(crate) const NAMES: &[&str] = &["restore", "save"];

    pub(crate) fn named(name: &str) -> Option<CacheAction> {
        match name.to_ascii_lowercase().as_str() {
            "restore" => Some(CacheAction::Restore),
            "save" => Some(CacheAction::Save),
            _ => None,
        }
    }
}

impl FileFormat {
    /// All, sorted by name.
    pub const ALL: [FileFormat; 10] = [
        FileFormat::CloverXml,
        FileFormat::CoberturaXml,
        FileFormat::CucumberJson,
        FileFormat::JacocoXml,
        FileFormat::JunitXml,
        FileFormat::Nunit3Xml,
        FileFormat::NunitXml,
        FileFormat::SimpleCov,
        FileFormat::TestNgXml,
        FileFormat::VisualStudioTrx,
    ];

    pub(crate) const NAMES: [&'static str; 10] = {
        let mut names = [""; 10];
        let mut at = 0;
        while at < names.len() {
            names[at] = FileFormat::ALL[at].as_str();
            at += 1;
        }
        names
    };

    /// CodeBuild's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            FileFormat::CloverXml => "CLOVERXML",
            FileFormat::CoberturaXml => "COBERTURAXML",
            FileFormat::CucumberJson => "CUCUMBERJSON",
            FileFormat::JacocoXml => "JACOCOXML",
            FileFormat::JunitXml => "JUNITXML",
            FileFormat::Nunit3Xml => "NUNIT3XML",
            FileFormat::NunitXml => "NUNITXML",
            FileFormat::SimpleCov => "SIMPLECOV",
            FileFormat::TestNgXml => "TESTNGXML",
            FileFormat::VisualStudioTrx => "VISUALSTUDIOTRX",
        }
    }

    /// What a group of such reports holds.
    pub fn report_type(self) -> ReportType {
        match self {
            FileFormat::CloverXml
            | FileFormat::CoberturaXml
            | FileFormat::JacocoXml
            | FileFormat::SimpleCov => ReportType::CodeCoverage,
            _ => ReportType::Test,
        }
    }

    /// COMPAT: BS-113 any case.
    pub(crate) fn named(name: &str) -> Option<FileFormat> {
        FileFormat::ALL.into_iter().find(|format| format.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
