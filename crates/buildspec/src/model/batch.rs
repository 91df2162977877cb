//! `batch`: which builds a build batch has. What becomes of them is decided by whoever runs the batch.

use super::Variables;

/// `batch` (BS-160).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// `fast-fail`: the first failure stops the other builds.
    pub fast_fail: bool,
    /// Which builds there are.
    pub builds: BatchBuilds,
}

/// The builds of a batch in the form they are written in (BS-161).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchBuilds {
    /// `build-list`: identifiers are unique, nobody waits for another.
    List(Vec<BatchBuild>),
    /// `build-graph`: identifiers are unique, each `depend-on` names another of them, nobody waits for itself.
    Graph(Vec<BatchBuild>),
    /// `build-matrix`.
    Matrix(BuildMatrix),
    /// `build-fanout`: so many equal builds (BS-165).
    Fanout {
        /// How many, from 1 to [`crate::limits::BATCH_BUILDS`].
        parallelism: usize,
        /// A failure is no failure of the batch.
        ignore_failure: bool,
    },
}

/// One build of a batch (BS-162).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchBuild {
    /// `identifier`.
    pub identifier: String,
    /// `buildspec`; `None` is the one the batch is in (BS-163).
    pub buildspec: Option<String>,
    /// `debug-session`.
    pub debug_session: bool,
    /// `env`: what differs from the project's environment.
    pub env: BatchEnvironment,
    /// `ignore-failure`: a failure is no failure of the batch.
    pub ignore_failure: bool,
    /// `depend-on`: identifiers of builds that have to be over first (BS-168).
    pub depend_on: Vec<String>,
}

/// `env` of a build in a batch; what is absent is the project's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchEnvironment {
    /// `compute-type`, one of [`COMPUTE_TYPES`]; never beside a fleet.
    pub compute_type: Option<String>,
    /// `fleet`: name or ARN.
    pub fleet: Option<String>,
    /// `image`.
    pub image: Option<String>,
    /// `privileged-mode`.
    pub privileged_mode: Option<bool>,
    /// `type`, one of [`ENVIRONMENT_TYPES`].
    pub environment_type: Option<String>,
    /// `variables`: they outrank the project's (BS-170).
    pub variables: Variables,
}

/// `build-matrix` (BS-164): a build for each combination of what is dynamic. An empty list is no choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildMatrix {
    /// `static.ignore-failure`.
    pub ignore_failure: bool,
    /// `static.env.privileged-mode`.
    pub privileged_mode: Option<bool>,
    /// `static.env.type`.
    pub environment_type: Option<String>,
    /// `dynamic.buildspec`.
    pub buildspecs: Vec<String>,
    /// `dynamic.env.compute-type`.
    pub compute_types: Vec<String>,
    /// `dynamic.env.image`.
    pub images: Vec<String>,
    /// `dynamic.env.variables`: each with the values it may have.
    pub variables: Vec<(String, Vec<String>)>,
}

/// The compute types a batch may name, as in the CodeBuild API.
pub const COMPUTE_TYPES: &[&str] = &[
    "BUILD_GENERAL1_SMALL",
    "BUILD_GENERAL1_MEDIUM",
    "BUILD_GENERAL1_LARGE",
    "BUILD_GENERAL1_XLARGE",
    "BUILD_GENERAL1_2XLARGE",
    "BUILD_LAMBDA_1GB",
    "BUILD_LAMBDA_2GB",
    "BUILD_LAMBDA_4GB",
    "BUILD_LAMBDA_8GB",
    "BUILD_LAMBDA_10GB",
    "ATTRIBUTE_BASED_COMPUTE",
    "CUSTOM_INSTANCE_TYPE",
];

/// The environment types a batch may name, as in the CodeBuild API.
pub const ENVIRONMENT_TYPES: &[&str] = &[
    "WINDOWS_CONTAINER",
    "LINUX_CONTAINER",
    "LINUX_GPU_CONTAINER",
    "ARM_CONTAINER",
    "WINDOWS_SERVER_2019_CONTAINER",
    "WINDOWS_SERVER_2022_CONTAINER",
    "LINUX_LAMBDA_CONTAINER",
    "ARM_LAMBDA_CONTAINER",
    "LINUX_EC2",
    "ARM_EC2",
    "WINDOWS_EC2",
    "MAC_ARM",
];

impl Batch {
    /// Each build by itself: matrix and fanout multiplied out, with identifiers that number them from 1.
    pub fn builds(&self) -> Vec<BatchBuild> {
        match &self.builds {
            BatchBuilds::List(builds) | BatchBuilds::Graph(builds) => builds.clone(),
            BatchBuilds::Matrix(matrix) => matrix.builds(),
            BatchBuilds::Fanout { parallelism, ignore_failure } => {
                let build = BatchBuild { ignore_failure: *ignore_failure, ..BatchBuild::default() };
                numbered("fanout", vec![build; *parallelism])
            }
        }
    }
}

impl BuildMatrix {
    /// How many builds that makes; `None` is more than can be counted.
    pub(crate) fn count(&self) -> Option<usize> {
        let choices = [self.buildspecs.len(), self.compute_types.len(), self.images.len()];
        let choices = choices.into_iter().chain(self.variables.iter().map(|(_, values)| values.len()));
        choices.map(|choices| choices.max(1)).try_fold(1_usize, usize::checked_mul)
    }

    fn builds(&self) -> Vec<BatchBuild> {
        let env = BatchEnvironment {
            privileged_mode: self.privileged_mode,
            environment_type: self.environment_type.clone(),
            ..BatchEnvironment::default()
        };
        let mut builds =
            vec![BatchBuild { ignore_failure: self.ignore_failure, env, ..BatchBuild::default() }];
        builds = combined(builds, &self.buildspecs, |build, value| build.buildspec = Some(value));
        builds = combined(builds, &self.compute_types, |build, value| build.env.compute_type = Some(value));
        builds = combined(builds, &self.images, |build, value| build.env.image = Some(value));
        for (name, values) in &self.variables {
            builds = combined(builds, values, |build, value| build.env.variables.push((name.clone(), value)));
        }
        numbered("matrix", builds)
    }
}

/// Each build with each value; the builds as they are, if there is no value to choose.
fn combined(
    builds: Vec<BatchBuild>,
    values: &[String],
    set: impl Fn(&mut BatchBuild, String),
) -> Vec<BatchBuild> {
    if values.is_empty() {
        return builds;
    }
    let with = |build: &BatchBuild, value: &String| {
        let mut build = build.clone();
        set(&mut build, value.clone());
        build
    };
    builds.iter().flat_map(|build| values.iter().map(move |value| with(build, value))).collect()
}

fn numbered(prefix: &str, mut builds: Vec<BatchBuild>) -> Vec<BatchBuild> {
    for (at, build) in builds.iter_mut().enumerate() {
        build.identifier = format!("{prefix}_{}", at + 1);
    }
    builds
}
