//! Buildspec text to typed values and diagnostics with line and column.
//!
//! [`parse`] reads a whole buildspec as a build does, [`check`] says everything there is to say about one; [`glob`] is the pattern dialect of artifacts, reports and cache;
//! [`substitute`] expands variables where CodeBuild expands them without a shell; [`SecretReference`] takes
//! apart what names a secret; [`render`] shows what [`check`](check()) found. Everything here is pure: no files, no clock, no environment, no network, and
//! every input, hostile ones included, is answered quickly and in bounded memory (see [`limits`]).
//!
//! Not here: running anything, and finding the buildspec in a source.

#![warn(missing_docs)]

mod check;
mod diagnostic;
pub mod glob;
pub mod limits;
mod lint;
mod model;
mod origin;
mod plan;
mod read;
pub mod render;
pub mod runtimes;
mod schema;
mod secret;
mod source;
pub mod substitute;
mod suggest;
mod yaml;

pub use check::{Checked, check};
pub use diagnostic::{Code, Diagnostic, Error, Position, Severity, Span};
pub use model::{
    Artifacts, Batch, BatchBuild, BatchBuilds, BatchEnvironment, BuildMatrix, Buildspec, COMPUTE_TYPES,
    Cache, CacheAction, ENVIRONMENT_TYPES, Env, ErrorPattern, FileFormat, OnFailure, Phase, PhaseName,
    Phases, Proxy, Report, ReportType, Shell, Variables, Version,
};
pub use origin::Origin;
pub use plan::plan;
pub use read::{Parsed, parse, parse_bytes};
pub use schema::json_schema;
pub use secret::SecretReference;
