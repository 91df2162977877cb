//! Buildspec text to typed values and diagnostics with line and column.
//!
//! [`parse`] reads a whole buildspec; [`glob`] is the pattern dialect of artifacts, reports and cache;
//! [`substitute`] expands variables where CodeBuild expands them without a shell; [`SecretReference`] takes
//! apart what names a secret. Everything here is pure: no files, no clock, no environment, no network, and
//! every input, hostile ones included, is answered quickly and in bounded memory (see [`limits`]).
//!
//! Not here: running anything, finding the buildspec in a source, and the meaning of the `batch` section,
//! which is handed on as read.

#![warn(missing_docs)]

mod diagnostic;
pub mod glob;
pub mod limits;
mod model;
mod origin;
mod read;
pub mod runtimes;
mod secret;
pub mod substitute;
mod suggest;
pub mod yaml;

pub use diagnostic::{Code, Diagnostic, Error};
pub use model::{
    Artifacts, Buildspec, Cache, CacheAction, Env, FileFormat, OnFailure, Phase, PhaseName, Phases, Proxy,
    Report, ReportType, Shell, Variables, Version,
};
pub use origin::Origin;
pub use read::{Parsed, parse, parse_bytes};
pub use secret::SecretReference;
