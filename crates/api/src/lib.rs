//! The public contracts: operations, shapes and errors of every AWS service spoken, and their wire forms.
//!
//! [`codebuild`], [`logs`], [`ssm`], [`secretsmanager`], [`sts`] and [`tagging`] are generated from the trimmed service models in `models/`
//! (`cargo xtask codegen`); everything else is the hand-written machinery they fill in. A request
//! goes bytes -> [`json::parse`] or [`cbor::parse`] -> [`json::decode`] (which is [`validate`] and then serde) -> a typed input;
//! an answer goes typed output -> [`json::encode`] -> bytes.
//!
//! The crate is pure: no files, no network, no clock, no runtime. What an operation *does*, HTTP and
//! signatures live in `server` and `engine`.

pub mod arn;
pub mod cbor;
pub mod error;
pub mod event_stream;
mod generated;
pub mod json;
pub mod operation;
pub mod query;
pub mod schema;
mod validate;
pub mod value;

pub use arn::{AccountId, Arn, Region};
pub use error::{Error, ServiceError};
pub use generated::{codebuild, logs, publicbuilds, secretsmanager, ssm, sts, tagging};
pub use schema::Shaped;
pub use validate::validate;
pub use value::{Sensitive, Timestamp};
