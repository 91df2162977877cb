//! ListSecrets: which secrets, in which order.

use api::secretsmanager::*;
use api::{ServiceError, Timestamp};
use store::records::{Order, Secret};

use super::{Call, Document, arn, error, not_available, stages_by_version};

const LISTED_MAX: usize = 100;
/// Secrets that one call looks at, whatever its filters let through.
const LOOKED_AT_MAX: usize = 1000;

impl Call<'_> {
    pub(super) async fn list(
        &self,
        request: ListSecretsRequest,
    ) -> Result<ListSecretsResponse, ServiceError> {
        let order = order(request.sort_by.as_ref(), request.sort_order.as_ref())?;
        let filters = request.filters.unwrap_or_default();
        let doomed = request.include_planned_deletion == Some(true);
        let limit = request.max_results.and_then(|most| usize::try_from(most).ok()).unwrap_or(LISTED_MAX);
        let now_ms = self.now_ms();
        let (mut listed, mut looked_at, mut next) = (Vec::new(), 0, request.next_token);
        while listed.len() < limit && looked_at < LOOKED_AT_MAX {
            let wanted = limit - listed.len();
            let page = self.vault().list_secrets(&self.scope, next.as_deref(), order, wanted).await;
            let page = page.map_err(error)?;
            looked_at += page.items.len();
            for secret in page.items {
                let there = secret.deletion_ms.is_none_or(|gone_ms| doomed && now_ms < gone_ms);
                let document = Document::of(&secret)?;
                if there && filters.iter().all(|filter| lets_through(filter, &secret, &document)) {
                    listed.push(self.entry(secret, &document));
                }
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok(ListSecretsResponse { secret_list: Some(listed), next_token: next })
    }

    fn entry(&self, secret: Secret, document: &Document) -> SecretListEntry {
        SecretListEntry {
            arn: Some(arn(&self.scope, &secret)),
            description: document.description.clone(),
            kms_key_id: document.kms_key_id.clone(),
            tags: Some(document.shown_tags()),
            created_date: Some(Timestamp::from_millis(secret.created_ms)),
            last_changed_date: Some(Timestamp::from_millis(secret.changed_ms)),
            deleted_date: secret.deletion_ms.map(Timestamp::from_millis),
            secret_versions_to_stages: Some(stages_by_version(&secret)),
            name: Some(secret.name),
            ..SecretListEntry::default()
        }
    }
}

/// By name: other orders are not kept.
fn order(by: Option<&SortByType>, order: Option<&SortOrderType>) -> Result<Order, ServiceError> {
    match by {
        None | Some(SortByType::Name) => {}
        Some(by) => return Err(not_available(&format!("SortBy {by}"))),
    }
    Ok(match order {
        Some(SortOrderType::Desc) => Order::Descending,
        _ => Order::Ascending,
    })
}

/// One of the values is the beginning of what the key says; with `!` before it, it is not.
fn lets_through(filter: &Filter, secret: &Secret, document: &Document) -> bool {
    let texts: Vec<&str> = match &filter.key {
        Some(FilterNameStringType::Name) => vec![&secret.name],
        Some(FilterNameStringType::Description) => document.description.as_deref().into_iter().collect(),
        Some(FilterNameStringType::TagKey) => document.tags.keys().map(String::as_str).collect(),
        Some(FilterNameStringType::TagValue) => document.tags.values().map(String::as_str).collect(),
        Some(FilterNameStringType::All) | None => {
            let tags = document.tags.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
            tags.chain([secret.name.as_str()]).chain(document.description.as_deref()).collect()
        }
        // Nothing here is replicated or owned by another service.
        Some(_) => Vec::new(),
    };
    let begins = |value: &str| {
        let value = value.to_lowercase();
        texts.iter().any(|text| text.to_lowercase().starts_with(&value))
    };
    filter.values.iter().flatten().any(|value| match value.strip_prefix('!') {
        Some(value) => !begins(value),
        None => begins(value),
    })
}
