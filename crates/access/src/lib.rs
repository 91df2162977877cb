//! Who may do what with which resource: IAM-style JSON policies, read strictly and evaluated as AWS does.
//!
//! A [`Policy`] is parsed once, and whatever it holds that is not understood is an [`Error`] then: a denial that nobody
//! understands must not vanish. [`Rights`] are what somebody who asks carries along; [`Rights::may`] is the whole decision:
//! an explicit denial beats what is allowed, and what nobody allows is denied. Who somebody is, what resources there are
//! and what their tags say is for others to know; nothing here reads files, asks the time or waits.

mod condition;
mod context;
mod date;
mod error;
mod json;
pub mod limits;
mod network;
mod pattern;
mod policy;
mod principal;
mod read;
mod rights;

pub use context::{Context, is_known_key};
pub use error::{Error, Result};
pub use policy::{Effect, Policy, Say};
pub use principal::Principal;
pub use rights::{Denied, Holder, Reason, Request, Rights};
