//! What we remember: records (SQLite or PostgreSQL), objects (plain files in plain folders) and logs (segments).
//!
//! The three parts know nothing of each other and can be used apart. No decision about builds is taken here:
//! what a document means is its writer's business, and so is what time it is.

// Tests inside name this crate as those outside do.
#[cfg(test)]
extern crate self as store;

mod error;
pub mod logs;
pub mod objects;
pub mod records;

pub use error::{BucketNameRule, Error, Result};
