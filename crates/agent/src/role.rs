//! What a build's service role may do, where the operator has said it: the server reads and writes for the build, and asks here as it
//! would ask for the build's own keys.

use access::{Context, Denied, Request, Rights};
use serde::{Deserialize, Serialize};

use crate::transfer::Failure;

/// A service role of which the operator has said what it may.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Role {
    pub rights: Rights,
    /// How ARNs begin here: `aws`.
    pub partition: String,
}

impl Role {
    /// The same at this time.
    #[must_use]
    pub fn at(&self, now_ms: i64) -> Role {
        let rights = self.rights.clone().under(&Context::default().at(now_ms));
        Role { rights, partition: self.partition.clone() }
    }

    /// Whether it may do this, such as `PutObject`, with an object.
    ///
    /// # Errors
    /// [`Denied`], which says why.
    pub fn may(&self, action: &str, (bucket, key): (&str, &str)) -> Result<(), Denied> {
        let arn = format!("arn:{}:s3:::{bucket}/{key}", self.partition);
        self.rights.may(&Request::new(format!("s3:{action}"), arn))
    }
}

impl From<Denied> for Failure {
    /// COMPAT: SA-006 as S3 refuses it.
    fn from(denied: Denied) -> Failure {
        Failure::Refused(format!("AccessDenied: {denied}"))
    }
}
