//! STS: who am I?

use api::sts::GetCallerIdentityResponse;

use crate::keys::Caller;

/// The answer of GetCallerIdentity to this caller.
pub(crate) fn identity(caller: &Caller) -> GetCallerIdentityResponse {
    GetCallerIdentityResponse {
        user_id: Some(caller.user_id.clone()),
        account: Some(caller.account.clone()),
        arn: Some(caller.arn.clone()),
    }
}
