//! Every key a buildspec may have, in one table. The reader reads by it, guesses mistyped keys from it, and the JSON Schema is
//! made of it, so that no key is known to one and unknown to another. What values mean is the reader's.

mod json;

use crate::limits;
use crate::model::{COMPUTE_TYPES, CacheAction, ENVIRONMENT_TYPES, FileFormat, Shell, Version};

pub use json::json_schema;

/// A map with a fixed set of keys.
#[derive(Debug)]
pub(crate) struct Table {
    /// Name of its definition in the JSON Schema.
    pub(crate) name: &'static str,
    /// What it is for, in one sentence.
    pub(crate) about: &'static str,
    pub(crate) keys: &'static [Key],
    pub(crate) exclusion: Exclusion,
}

/// Which keys of a [`Table`] shut each other out, or stand for each other.
#[derive(Debug)]
pub(crate) enum Exclusion {
    Nothing,
    /// One of these has to be there, and only one.
    ExactlyOne(&'static [&'static str]),
    /// One of these has to be there, or more.
    AtLeastOne(&'static [&'static str]),
    /// Only one of these may be there.
    AtMostOne(&'static [&'static str]),
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) standing: Standing,
    /// What it does, in one sentence.
    pub(crate) about: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Optional,
    Required,
    /// A name of version 0.1, unknown in 0.2 (BS-021).
    Old,
    /// Without effect in 0.2 (BS-021).
    Deprecated,
    /// Known only to be refused, with words of its own.
    Refused,
}

/// What a key's value looks like.
#[derive(Debug)]
pub(crate) enum Shape {
    Version,
    /// Any scalar, as spelled (BS-014).
    Text,
    /// YAML 1.1 booleans, quoted or not (BS-013).
    Boolean,
    /// A whole number from 1.
    Count,
    /// One of these as they are written.
    Choice(&'static [&'static str]),
    /// One of these in any case.
    AnyCase(&'static [&'static str]),
    OnFailure,
    /// A list of texts, with its limit if it has one.
    Texts(Option<usize>),
    /// A list of these words.
    Choices(&'static [&'static str]),
    /// A map of any names to text; whether a value may be left out.
    Named {
        empty: bool,
    },
    /// A map of any names to lists of texts.
    NamedLists,
    Section(&'static Table),
    /// A map of names to sections.
    Sections {
        of: &'static Table,
        most: Option<usize>,
        names: Names,
    },
    /// A list of sections.
    List(&'static Table),
}

/// Which names a map of [`Shape::Sections`] may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Any,
    /// Names of folders and parts of variables' names.
    ArtifactIdentifiers,
}

const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, shape, standing: Standing::Optional, about }
}

const fn table(name: &'static str, about: &'static str, keys: &'static [Key]) -> Table {
    Table { name, about, keys, exclusion: Exclusion::Nothing }
}

impl Key {
    const fn standing(mut self, standing: Standing) -> Key {
        self.standing = standing;
        self
    }

    const fn required(self) -> Key {
        self.standing(Standing::Required)
    }

    /// Whether a buildspec of that version may have it; keys that are known to be refused are not among them.
    pub(crate) fn is_of(&self, version: Version) -> bool {
        match self.standing {
            Standing::Old => version == Version::V01,
            Standing::Refused => false,
            Standing::Optional | Standing::Required | Standing::Deprecated => true,
        }
    }
}

impl Table {
    const fn exclusion(mut self, exclusion: Exclusion) -> Table {
        self.exclusion = exclusion;
        self
    }

    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Whether a reader has something to say to a key of that name, be it that it is refused.
    pub(crate) fn knows(&self, name: &str, version: Version) -> bool {
        self.key(name).is_some_and(|key| key.is_of(version) || key.standing == Standing::Refused)
    }

    /// The names to guess from.
    pub(crate) fn names(&self, version: Version) -> Vec<&'static str> {
        self.keys.iter().filter(|key| key.is_of(version)).map(|key| key.name).collect()
    }

    /// Where in a buildspec a key of that name belongs, as paths from the top; none for names that mean nothing anywhere.
    pub(crate) fn places_of(name: &str, version: Version) -> Vec<String> {
        let mut places = Vec::new();
        BUILDSPEC.find_places(name, version, "", &mut places);
        places
    }

    fn find_places(&self, name: &str, version: Version, path: &str, places: &mut Vec<String>) {
        if !path.is_empty() && self.key(name).is_some_and(|key| key.is_of(version)) {
            places.push(path.to_owned());
        }
        for key in self.keys {
            let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            match key.shape {
                Shape::Section(below) => below.find_places(name, version, &path, places),
                Shape::Sections { of, .. } => {
                    of.find_places(name, version, &format!("{path}.<name>"), places)
                }
                Shape::List(below) => below.find_places(name, version, &format!("{path}[]"), places),
                _ => {}
            }
        }
    }
}

pub(crate) static BUILDSPEC: Table = table(
    "buildspec",
    "A CodeBuild buildspec of version 0.2.",
    &[
        key("version", Shape::Version, "Version of the buildspec; 0.2.").required(),
        key("run-as", Shape::Text, "User for the commands of every phase that names none; root if absent."),
        key("env", Shape::Section(&ENV), "What the build's environment gets."),
        key("environment_variables", Shape::Section(&ENV), "The name of env in version 0.1.")
            .standing(Standing::Old),
        key("proxy", Shape::Section(&PROXY), "What goes through an explicit proxy server."),
        key(
            "batch",
            Shape::Section(&BATCH),
            "The builds of a build batch; a single build does not look at it.",
        ),
        key("phases", Shape::Section(&PHASES), "What is run."),
        key(
            "reports",
            Shape::Sections { of: &REPORT, most: Some(limits::REPORT_GROUPS), names: Names::Any },
            "Test and coverage reports by report group: a name or an ARN.",
        ),
        key("artifacts", Shape::Section(&ARTIFACTS), "Files that the build leaves behind."),
        key("cache", Shape::Section(&CACHE), "Files that are kept from build to build."),
    ],
);

pub(crate) static ENV: Table = table(
    "env",
    "What the build's environment gets from the buildspec.",
    &[
        key("shell", Shape::Choice(Shell::NAMES), "Shell for the commands; sh if absent."),
        key(
            "variables",
            Shape::Named { empty: true },
            "Variables with literal values, which nothing expands.",
        ),
        key("plaintext", Shape::Named { empty: true }, "The name of variables in version 0.1.")
            .standing(Standing::Old),
        key(
            "parameter-store",
            Shape::Named { empty: false },
            "Variables by the name of their parameter in Parameter Store.",
        ),
        key(
            "secrets-manager",
            Shape::Named { empty: false },
            "Variables by their secret in Secrets Manager: secret-id:json-key:version-stage:version-id.",
        ),
        key(
            "exported-variables",
            Shape::Texts(None),
            "Names of variables whose values are readable when the build is over.",
        ),
        key(
            "git-credential-helper",
            Shape::Boolean,
            "Whether git gets the build's credentials; no if absent.",
        ),
    ],
);

pub(crate) static PROXY: Table = table(
    "proxy",
    "What goes through an explicit proxy server.",
    &[
        key("upload-artifacts", Shape::Boolean, "Whether artifacts do; no if absent."),
        key("logs", Shape::Boolean, "Whether logs do; no if absent."),
    ],
);

pub(crate) static PHASES: Table = table(
    "phases",
    "What is run, in this order: install, pre_build, build, post_build.",
    &[
        key("install", Shape::Section(&INSTALL), "Only to install what the build needs."),
        key("pre_build", Shape::Section(&PHASE), "What is done before the build, such as signing in."),
        key("build", Shape::Section(&PHASE), "The build."),
        key("post_build", Shape::Section(&PHASE), "What is done after the build, even if it failed."),
    ],
);

const RUN_AS: Key = key("run-as", Shape::Text, "User for this phase's commands.");
const ON_FAILURE: Key = key(
    "on-failure",
    Shape::OnFailure,
    "What comes after a failure of this phase: ABORT, CONTINUE, RETRY, RETRY-<count>, RETRY-<regex> or RETRY-<count>-<regex>.",
);
const COMMANDS: Key =
    key("commands", Shape::Texts(None), "Commands, run one after the other until one fails.");
const FINALLY: Key =
    key("finally", Shape::Texts(None), "Commands that are run afterwards even if one of commands failed.");
/// GitHub Actions in a buildspec (BS-088).
const STEPS: Key = key("steps", Shape::Texts(None), "").standing(Standing::Refused);

pub(crate) static INSTALL: Table = table(
    "install",
    "The install phase.",
    &[
        RUN_AS,
        ON_FAILURE,
        key(
            "runtime-versions",
            Shape::Named { empty: false },
            "Versions of the image's runtimes, such as python: 3.12.",
        ),
        COMMANDS,
        FINALLY,
        STEPS,
    ],
);

pub(crate) static PHASE: Table =
    table("phase", "One phase.", &[RUN_AS, ON_FAILURE, COMMANDS, FINALLY, STEPS]);

pub(crate) static REPORT: Table = table(
    "report",
    "One report group's files.",
    &[
        key("files", Shape::Texts(None), "Patterns of the files.").required(),
        key("file-format", Shape::AnyCase(&FileFormat::NAMES), "Their format; JUNITXML if absent."),
        key("base-directory", Shape::Text, "Directory that files is relative to."),
        key("discard-paths", Shape::Boolean, "Whether all files go into one folder; no if absent."),
    ],
);

const FILES: Key = key("files", Shape::Texts(None), "Patterns of the files, such as '**/*'.").required();
const NAME: Key = key("name", Shape::Text, "Name of the artifact, evaluated by the shell.");
const DISCARD_PATHS: Key =
    key("discard-paths", Shape::Boolean, "Whether all files go into one folder; no if absent.");
const BASE_DIRECTORY: Key =
    key("base-directory", Shape::Text, "Directory that files is relative to, or a pattern of it.");
const EXCLUDE_PATHS: Key = key("exclude-paths", Shape::Texts(None), "Patterns of files that are left out.");
const ENABLE_SYMLINKS: Key =
    key("enable-symlinks", Shape::Boolean, "Whether links stay links; no if absent.");
const S3_PREFIX: Key = key("s3-prefix", Shape::Text, "Prefix of the artifact's key.");

pub(crate) static ARTIFACTS: Table = table(
    "artifacts",
    "Files that the build leaves behind.",
    &[
        // COMPAT: BS-130 required only where there are no secondary artifacts; the reader says so.
        key("files", Shape::Texts(None), "Patterns of the files, such as '**/*'."),
        NAME,
        DISCARD_PATHS,
        BASE_DIRECTORY,
        EXCLUDE_PATHS,
        ENABLE_SYMLINKS,
        S3_PREFIX,
        key(
            "secondary-artifacts",
            Shape::Sections { of: &SECONDARY_ARTIFACT, most: None, names: Names::ArtifactIdentifiers },
            "More artifacts by their identifiers.",
        ),
        key("type", Shape::Text, "Deprecated, without effect.").standing(Standing::Deprecated),
    ],
)
.exclusion(Exclusion::AtLeastOne(&["files", "secondary-artifacts"]));

pub(crate) static SECONDARY_ARTIFACT: Table = table(
    "secondary-artifact",
    "One more artifact.",
    &[FILES, NAME, DISCARD_PATHS, BASE_DIRECTORY, EXCLUDE_PATHS, ENABLE_SYMLINKS, S3_PREFIX],
);

pub(crate) static CACHE: Table = table(
    "cache",
    "Files that are kept from build to build.",
    &[
        key("key", Shape::Text, "Key the cache is kept under, evaluated by the shell."),
        key(
            "fallback-keys",
            Shape::Texts(Some(limits::FALLBACK_KEYS)),
            "Beginnings of keys that are tried when there is no cache under key.",
        ),
        key(
            "action",
            Shape::AnyCase(CacheAction::NAMES),
            "Whether the cache is only restored or only saved.",
        ),
        key("paths", Shape::Texts(None), "Patterns of the files."),
    ],
);

/// The keys of [`BATCH`] that say which builds there are.
pub(crate) const BATCH_KINDS: &[&str] = &["build-list", "build-graph", "build-matrix", "build-fanout"];
/// The keys of [`BATCH_ENV`] that say where a build runs.
pub(crate) const BATCH_PLACES: &[&str] = &["compute-type", "fleet"];

pub(crate) static BATCH: Table = table(
    "batch",
    "The builds of a build batch.",
    &[
        key("fast-fail", Shape::Boolean, "Whether the first failure stops the other builds; no if absent."),
        key("build-list", Shape::List(&BATCH_BUILD), "Builds that know nothing of each other."),
        key("build-graph", Shape::List(&GRAPH_BUILD), "Builds that wait for others."),
        key("build-matrix", Shape::Section(&MATRIX), "A build for each combination of values."),
        key("build-fanout", Shape::Section(&FANOUT), "Builds that share the tests."),
    ],
)
.exclusion(Exclusion::ExactlyOne(BATCH_KINDS));

const IDENTIFIER: Key = key("identifier", Shape::Text, "Identifier of the build.").required();
const BUILDSPEC_FILE: Key = key("buildspec", Shape::Text, "The build's own buildspec; this one if absent.");
const DEBUG_SESSION: Key =
    key("debug-session", Shape::Boolean, "Whether the build can be paused; no if absent.");
const BUILD_ENV: Key = key("env", Shape::Section(&BATCH_ENV), "What differs in the build's environment.");
const IGNORE_FAILURE: Key =
    key("ignore-failure", Shape::Boolean, "Whether a failure is no failure of the batch; no if absent.");
const PRIVILEGED_MODE: Key = key("privileged-mode", Shape::Boolean, "Whether the build can run Docker.");
const TYPE: Key = key("type", Shape::Choice(ENVIRONMENT_TYPES), "Type of the environment.");

pub(crate) static BATCH_BUILD: Table = table(
    "batch-build",
    "One build.",
    &[IDENTIFIER, BUILDSPEC_FILE, DEBUG_SESSION, BUILD_ENV, IGNORE_FAILURE],
);

pub(crate) static GRAPH_BUILD: Table = table(
    "graph-build",
    "One build.",
    &[
        IDENTIFIER,
        BUILDSPEC_FILE,
        DEBUG_SESSION,
        BUILD_ENV,
        IGNORE_FAILURE,
        key("depend-on", Shape::Texts(None), "Identifiers of the builds that have to be over first."),
    ],
);

pub(crate) static BATCH_ENV: Table = table(
    "batch-env",
    "What differs in a build's environment.",
    &[
        key("compute-type", Shape::Choice(COMPUTE_TYPES), "Compute type."),
        key("fleet", Shape::Text, "Name or ARN of the fleet."),
        key("image", Shape::Text, "Image."),
        PRIVILEGED_MODE,
        TYPE,
        key("variables", Shape::Named { empty: true }, "Variables; they outrank the project's."),
    ],
)
.exclusion(Exclusion::AtMostOne(BATCH_PLACES));

pub(crate) static MATRIX: Table = table(
    "matrix",
    "A build for each combination of values.",
    &[
        key("static", Shape::Section(&MATRIX_STATIC), "What is the same for all builds."),
        key("dynamic", Shape::Section(&MATRIX_DYNAMIC), "What differs from build to build."),
    ],
);

pub(crate) static MATRIX_STATIC: Table = table(
    "matrix-static",
    "What is the same for all builds.",
    &[
        IGNORE_FAILURE,
        key("env", Shape::Section(&MATRIX_STATIC_ENV), "What is the same in their environments."),
    ],
);

pub(crate) static MATRIX_STATIC_ENV: Table =
    table("matrix-static-env", "What is the same in their environments.", &[PRIVILEGED_MODE, TYPE]);

pub(crate) static MATRIX_DYNAMIC: Table = table(
    "matrix-dynamic",
    "What differs from build to build.",
    &[
        key("buildspec", Shape::Texts(None), "Buildspecs."),
        key("env", Shape::Section(&MATRIX_DYNAMIC_ENV), "What differs in their environments."),
    ],
);

pub(crate) static MATRIX_DYNAMIC_ENV: Table = table(
    "matrix-dynamic-env",
    "What differs in their environments.",
    &[
        key("compute-type", Shape::Choices(COMPUTE_TYPES), "Compute types."),
        key("image", Shape::Texts(None), "Images."),
        key("variables", Shape::NamedLists, "Variables with the values each may have."),
    ],
);

pub(crate) static FANOUT: Table = table(
    "fanout",
    "Builds that share the tests.",
    &[key("parallelism", Shape::Count, "How many builds.").required(), IGNORE_FAILURE],
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;

    /// Text around the value of a key, and what messages call the key.
    struct Place {
        before: String,
        after: String,
        path: String,
    }

    /// A value that no reader of the shape takes.
    fn wrong(shape: &Shape) -> &'static str {
        match shape {
            Shape::Texts(_) | Shape::Choices(_) | Shape::List(_) => "{a: b}",
            _ => "[[]]",
        }
    }

    fn refused(place: &Place, version: Version, key: &Key) -> bool {
        let Place { before, after, path } = place;
        let text = format!("version: {version}\n{before}{{{}: {}}}{after}\n", key.name, wrong(&key.shape));
        let reading = read::read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let wanted = format!("{path}{}", key.name);
        reading.errors.iter().chain(&reading.batch_errors).any(|error| error.message.contains(&wanted))
    }

    fn walk(table: &'static Table, place: &Place, unread: &mut Vec<String>) {
        for key in table.keys {
            let version = if key.standing == Standing::Old { Version::V01 } else { Version::V02 };
            let Place { before, after, path } = place;
            // At the top level there is no brace to put another key in; steps are refused in words that name no place.
            let asked =
                !before.is_empty() && !matches!(key.standing, Standing::Deprecated | Standing::Refused);
            if asked && !refused(place, version, key) {
                unread.push(format!("{path}{}", key.name));
            }
            let (open, close) = match before.is_empty() {
                true => (String::new(), String::new()),
                false => (format!("{before}{{"), format!("}}{after}")),
            };
            let name = key.name;
            let (below, inside, end, named) = match &key.shape {
                Shape::Section(below) => (*below, "", "", ""),
                Shape::Sections { of, .. } => (*of, "{x: ", "}", ".x"),
                Shape::List(below) => (*below, "[", "]", "[0]"),
                _ => continue,
            };
            // In 0.2 the old names open nothing.
            if key.standing == Standing::Old {
                continue;
            }
            let next = Place {
                before: format!("{open}{name}: {inside}"),
                after: format!("{end}{close}"),
                path: format!("{path}{name}{named}."),
            };
            walk(below, &next, unread);
        }
    }

    #[test]
    fn every_key_of_the_table_is_read() {
        let mut unread = Vec::new();
        walk(
            &BUILDSPEC,
            &Place { before: String::new(), after: String::new(), path: String::new() },
            &mut unread,
        );
        assert_eq!(unread, Vec::<String>::new());
        for key in BUILDSPEC.keys.iter().filter(|key| !matches!(key.shape, Shape::Version)) {
            let version = if key.standing == Standing::Old { Version::V01 } else { Version::V02 };
            let text = format!("version: {version}\n{}: {}\n", key.name, wrong(&key.shape));
            let reading = read::read(&text).unwrap();
            assert!(
                !reading.errors.is_empty() || !reading.batch_errors.is_empty(),
                "{} is not read",
                key.name
            );
        }
    }

    #[test]
    fn names_are_unique_and_exclusions_name_keys() {
        fn check(table: &'static Table) {
            for (at, key) in table.keys.iter().enumerate() {
                assert!(
                    table.keys[at + 1..].iter().all(|other| other.name != key.name),
                    "{} twice",
                    key.name
                );
                if let Shape::Section(below) | Shape::List(below) | Shape::Sections { of: below, .. } =
                    key.shape
                {
                    check(below);
                }
            }
            if let Exclusion::ExactlyOne(names) | Exclusion::AtLeastOne(names) | Exclusion::AtMostOne(names) =
                table.exclusion
            {
                assert!(names.iter().all(|name| table.key(name).is_some()), "{}", table.name);
            }
        }
        check(&BUILDSPEC);
    }
}
