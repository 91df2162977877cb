//! A buildspec as values. Texts are as written: nothing is expanded, no path is checked against a disk.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::secret::SecretReference;
use crate::yaml::Node;

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
    /// `batch`, as read.
    pub batch: Option<Arc<Node>>,
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

/// `on-failure` (BS-080..083).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnFailure {
    /// No later command phase runs.
    Abort,
    /// The next phase runs.
    Continue,
    /// The build is tried again.
    Retry {
        /// Tries, 0 to 100.
        count: u32,
        /// Regular expression the error message has to match; not checked here.
        pattern: String,
    },
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

    /// CodeBuild's spelling.
    pub fn as_str(self) -> &'static str {
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

impl OnFailure {
    const DEFAULT_RETRIES: u32 = 3;
    const ANY_ERROR: &str = ".*";

    /// COMPAT: BS-083 `ABORT`, `CONTINUE`, `RETRY[-count][-regex]`, keywords in any case. `None`: none of these.
    ///
    /// Digits are a count when they stand alone between the dashes: `RETRY-503.*` is a pattern.
    pub(crate) fn named(text: &str) -> Option<OnFailure> {
        let (keyword, rest) = match text.split_once('-') {
            Some((keyword, rest)) => (keyword, Some(rest)),
            None => (text, None),
        };
        match (keyword.to_ascii_uppercase().as_str(), rest) {
            ("ABORT", None) => Some(OnFailure::Abort),
            ("CONTINUE", None) => Some(OnFailure::Continue),
            ("RETRY", None) => Some(retry(None, None)),
            ("RETRY", Some(rest)) => Some(match rest.split_once('-') {
                Some((count, pattern)) if digits(count) => retry(Some(count), Some(pattern)),
                None if digits(rest) => retry(Some(rest), None),
                _ => retry(None, Some(rest)),
            }),
            _ => None,
        }
    }
}

fn retry(count: Option<&str>, pattern: Option<&str>) -> OnFailure {
    let pattern = pattern.filter(|pattern| !pattern.is_empty()).unwrap_or(OnFailure::ANY_ERROR);
    OnFailure::Retry {
        // A count too long for a number is too high for the limit as well.
        count: count.map_or(OnFailure::DEFAULT_RETRIES, |digits| digits.parse().unwrap_or(u32::MAX)),
        pattern: pattern.to_owned(),
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Option<OnFailure>) {
        assert_eq!(OnFailure::named(text), expect, "{text}");
    }

    fn retries(count: u32, pattern: &str) -> Option<OnFailure> {
        Some(OnFailure::Retry { count, pattern: pattern.to_owned() })
    }

    #[test]
    fn on_failure_takes_every_documented_form() {
        check("ABORT", Some(OnFailure::Abort));
        check("abort", Some(OnFailure::Abort));
        check("CONTINUE", Some(OnFailure::Continue));
        check("Continue", Some(OnFailure::Continue));
        check("RETRY", retries(3, ".*"));
        check("Retry", retries(3, ".*"));
        check("RETRY-5", retries(5, ".*"));
        check("RETRY-0", retries(0, ".*"));
        check("RETRY-.*timeout.*", retries(3, ".*timeout.*"));
        check("Retry-3-.*connection timed out.*", retries(3, ".*connection timed out.*"));
        check("RETRY-12-a-b", retries(12, "a-b"));
        check("RETRY-a-b", retries(3, "a-b"));
        check("RETRY-503.*", retries(3, "503.*"));
        check("RETRY-", retries(3, ".*"));
        check("RETRY-7-", retries(7, ".*"));
        check("RETRY-99999999999", retries(u32::MAX, ".*"));
    }

    #[test]
    fn on_failure_refuses_everything_else() {
        for text in ["", "STOP", "ABORT-1", "CONTINUE-x", "RETRY 3", "RETRY3", " ABORT"] {
            check(text, None);
        }
    }
}
