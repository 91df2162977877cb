//! The API's operations on projects, builds and reports, in and out in the API's shapes.
//!
//! A request has been checked against the service model before it comes here.

mod builds;
mod caches;
mod credentials;
mod projects;
mod public;
mod report_groups;
mod reports;
mod sharing;
mod start;
mod usage;
mod visibility;

pub(crate) use report_groups::group_record;

use api::arn::Resource;
use api::codebuild::SortOrderType;
use api::{Arn, Region};
use store::records::{Order, Scope};

pub use builds::{FoundBuild, FoundBuilds};
pub use caches::ProjectCache;
pub use sharing::Known;
pub use usage::BuildUsage;

use crate::caller::Caller;
use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    fn region(&self) -> &Region {
        &self.shared.config.region
    }

    /// What the caller may see.
    fn scope(&self, caller: &Caller) -> Scope {
        Scope { account: caller.account.to_string(), region: self.region().to_string() }
    }

    fn project_arn(&self, caller: &Caller, name: &str) -> String {
        Arn::codebuild(self.region(), &caller.account, Resource::Project(name)).to_string()
    }

    fn build_arn(&self, caller: &Caller, id: &str) -> String {
        Arn::codebuild(self.region(), &caller.account, Resource::Build(id)).to_string()
    }

    /// A project's name, from the name or the ARN (AP-009). An ARN of elsewhere names nothing here.
    fn project_name(&self, caller: &Caller, text: &str) -> Option<String> {
        if !text.starts_with("arn:") {
            return Some(text.to_string());
        }
        match self.own_arn(caller, text)?.codebuild_resource()? {
            Resource::Project(name) => Some(name.to_string()),
            _ => None,
        }
    }

    /// A build's id, from the id or the ARN (LC-001).
    fn build_id(&self, caller: &Caller, text: &str) -> Option<String> {
        if !text.starts_with("arn:") {
            return is_build_id(text).then(|| text.to_string());
        }
        match self.own_arn(caller, text)?.codebuild_resource()? {
            Resource::Build(id) if is_build_id(id) => Some(id.to_string()),
            _ => None,
        }
    }

    /// A build's id, from the id or the ARN. COMPAT: AP-038, AP-078 an ARN of another account or Region is one of a build that
    /// is not there.
    ///
    /// # Errors
    /// [`Error::NotFound`] for such an ARN, [`Error::InvalidInput`] for what is no id and no build's ARN.
    fn build_named(&self, caller: &Caller, text: &str) -> Result<String> {
        self.build_id(caller, text).ok_or_else(|| match self.arn(text).is_some_and(|arn| names_build(&arn)) {
            true => builds::no_such_build(text),
            false => builds::invalid_id(),
        })
    }

    /// An ARN of this partition. COMPAT: AP-009 in another one it is no ARN at all.
    fn arn(&self, text: &str) -> Option<Arn> {
        text.parse().ok().filter(|arn: &Arn| arn.is_in_partition_of(self.region()))
    }

    fn own_arn(&self, caller: &Caller, text: &str) -> Option<Arn> {
        self.arn(text).filter(|arn| arn.belongs_to(self.region(), &caller.account))
    }
}

/// Whether this is the ARN of a build, wherever it may be.
fn names_build(arn: &Arn) -> bool {
    matches!(arn.codebuild_resource(), Some(Resource::Build(id)) if is_build_id(id))
}

fn is_build_id(text: &str) -> bool {
    text.split_once(':').is_some_and(|(project, uuid)| !project.is_empty() && uuid.len() == 36)
}

fn order(order: Option<&SortOrderType>, default: Order) -> Order {
    match order {
        Some(SortOrderType::Ascending) => Order::Ascending,
        Some(SortOrderType::Descending) => Order::Descending,
        _ => default,
    }
}
