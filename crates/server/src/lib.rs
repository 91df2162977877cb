//! HTTP: signatures, dispatch, the AWS endpoints.
//!
//! One port speaks every service: CodeBuild, CloudWatch Logs, Parameter Store and Secrets Manager (JSON 1.1), STS (Query) and S3 (REST-XML). A
//! request is limited and framed in [`http`], its sender established in [`sigv4`] (or, for links to S3 objects,
//! in [`sigv2`]), and then answered by the service it is for: [`codebuild`] (a function handed in), [`logs`],
//! [`parameters`], [`secrets`], [`s3`], STS. Whether the sender may is asked before, in `rights` and, for S3, in [`s3`].
//!
//! What is not here: what a CodeBuild operation does, and what is remembered (`engine`, `store`).

pub mod codebuild;
pub mod error;
pub mod http;
pub mod keys;
pub mod logs;
pub mod metrics;
pub mod paging;
pub mod parameters;
mod reply;
mod rights;
mod roles;
pub mod s3;
pub mod secrets;
pub mod sigv2;
pub mod sigv4;
mod sts;
mod tagging;
pub mod time;

pub use codebuild::CodeBuild;
pub use error::Error;
pub use http::{Endpoint, Ready, Services, Settings, listen, listen_for_builds, serve, stay_closed};
pub use keys::{AccessKey, Caller, Keys, Session};
pub use logs::Logs;
pub use metrics::Metrics;
pub use paging::Tokens;
pub use parameters::Parameters;
pub use roles::Roles;
pub use s3::S3;
pub use secrets::Secrets;
pub use sigv4::Replays;
