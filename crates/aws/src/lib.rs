//! Calls to AWS services, or to whatever speaks like them: our own server included.
//!
//! [`Client::call`] signs a JSON 1.1 request, sends it, tries again where AWS's own clients would, and gives the answer
//! or the service's refusal; [`s3`] moves objects between files and buckets; `parameters` and `secrets` know the two calls that a build's references need. What
//! the other services' requests mean is their callers' business, and so is where credentials come from: nothing
//! here reads the environment, a clock or a file.

mod client;
mod codecommit;
mod credentials;
mod endpoint;
mod error;
mod parameters;
pub mod s3;
mod secrets;
mod sign;

pub use client::{Client, Clock, Config, use_ring};
pub use codecommit::{CodeCommit, Elsewhere};
pub use credentials::{Credentials, profile_region};
pub use endpoint::{CODEBUILD, Endpoints, LOGS, SECRETS_MANAGER, SSM, Service};
pub use error::{Error, Result};
pub use parameters::Parameters;
pub use secrets::{Secret, Selected};
