//! What [`check`](crate::check()) found, as text for people and for programs. Secrets in the buildspec are not shown; what
//! could steer a terminal or be taken for something else is neither.

mod github;
mod human;
mod json;
mod sarif;

pub use github::github;
pub use human::human;
pub use json::json;
pub use sarif::sarif;

use crate::check::Checked;

/// A file by the name that findings are shown under, with what was found.
pub type CheckedFile = (String, Checked);
