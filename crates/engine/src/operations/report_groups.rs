//! CreateReportGroup, UpdateReportGroup, DeleteReportGroup, BatchGetReportGroups, ListReportGroups, GetReportGroupTrend.

use api::arn::Resource;
use api::codebuild::{
    BatchGetReportGroupsInput, BatchGetReportGroupsOutput, CreateReportGroupInput, CreateReportGroupOutput,
    DeleteReportGroupInput, DeleteReportGroupOutput, GetReportGroupTrendInput, GetReportGroupTrendOutput,
    ListReportGroupsInput, ListReportGroupsOutput, Operation, Report, ReportGroup, ReportGroupSortByType,
    UpdateReportGroupInput, UpdateReportGroupOutput,
};
use api::{Arn, Timestamp};
use store::records::{self, Order, ReportGroupDeletion, ReportGroupSort, ReportSelection, Scope};

use super::order;
use crate::caller::Caller;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::paging::{self, PAGE};
use crate::project::required;
use crate::{report_group, trend};

impl Engine {
    /// COMPAT: AP-090.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::AlreadyExists`].
    pub async fn create_report_group(
        &self,
        caller: &Caller,
        input: CreateReportGroupInput,
    ) -> Result<CreateReportGroupOutput> {
        let group = report_group::create(input, self.setting(caller))?;
        let record = group_record(&group)?;
        match self.shared.records.insert_report_group(&self.scope(caller), record).await {
            Ok(()) => Ok(CreateReportGroupOutput { report_group: Some(group) }),
            Err(store::Error::AlreadyExists { .. }) => {
                let arn = group.arn.unwrap_or_default();
                Err(Error::AlreadyExists(format!("Report group already exists: {arn}")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// COMPAT: AP-091 name and type stay.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::NotFound`].
    pub async fn update_report_group(
        &self,
        caller: &Caller,
        input: UpdateReportGroupInput,
    ) -> Result<UpdateReportGroupOutput> {
        let arn = required(input.arn.clone(), "arn")?;
        let (scope, name) = (self.scope(caller), self.own_group_name(caller, &arn)?);
        // Each round is one that somebody else has won, so it ends.
        loop {
            let found = self.shared.records.get_report_groups(&scope, std::slice::from_ref(&name)).await?;
            let stored = found.into_iter().next().ok_or_else(|| no_such_group(&arn))?;
            let group = serde_json::from_str(&stored.document)?;
            let group = report_group::update(group, input.clone(), self.setting(caller))?;
            let document = serde_json::to_string(&group)?;
            let modified_ms = group.last_modified.map_or(stored.modified_ms, Timestamp::millis);
            let (records, before) = (&self.shared.records, &stored.document);
            if records.update_report_group(&scope, &name, before, &document, modified_ms).await? {
                return Ok(UpdateReportGroupOutput { report_group: Some(group) });
            }
        }
    }

    /// Deletes a group; one that is not there is deleted as well. COMPAT: AP-092 one with reports only if they may go too.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for what is no report group's ARN, and for one with reports.
    pub async fn delete_report_group(
        &self,
        caller: &Caller,
        input: DeleteReportGroupInput,
    ) -> Result<DeleteReportGroupOutput> {
        self.expire_reports().await?;
        let arn = required(input.arn, "arn")?;
        let name = match self.own_group_name(caller, &arn) {
            Ok(name) => name,
            Err(Error::NotFound(_)) => return Ok(DeleteReportGroupOutput::default()),
            Err(error) => return Err(error),
        };
        let reports = input.delete_reports == Some(true);
        match self.shared.records.delete_report_group(&self.scope(caller), &name, reports).await? {
            ReportGroupDeletion::Deleted | ReportGroupDeletion::Unknown => {
                Ok(DeleteReportGroupOutput::default())
            }
            ReportGroupDeletion::HasReports => Error::invalid(format!(
                "Report group {arn} has reports: delete them first, or with deleteReports"
            )),
        }
    }

    /// The groups there are of those asked for. COMPAT: AP-093.
    pub async fn batch_get_report_groups(
        &self,
        caller: &Caller,
        input: BatchGetReportGroupsInput,
    ) -> Result<BatchGetReportGroupsOutput> {
        let asked = required(input.report_group_arns, "reportGroupArns")?;
        let (mut groups, mut missing) = (Vec::<ReportGroup>::new(), Vec::new());
        for arn in asked {
            match self.readable_group(caller, &arn, Operation::BatchGetReportGroups).await? {
                Some((_, group)) if !groups.iter().any(|one| one.arn == group.arn) => groups.push(group),
                Some(_) => {}
                None => missing.push(arn),
            }
        }
        Ok(BatchGetReportGroupsOutput { report_groups: Some(groups), report_groups_not_found: Some(missing) })
    }

    /// ARNs of report groups. COMPAT: AP-095.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a token that is not of this list.
    pub async fn list_report_groups(
        &self,
        caller: &Caller,
        input: ListReportGroupsInput,
    ) -> Result<ListReportGroupsOutput> {
        let sort = match input.sort_by {
            Some(ReportGroupSortByType::CreatedTime) => ReportGroupSort::CreatedTime,
            Some(ReportGroupSortByType::LastModifiedTime) => ReportGroupSort::LastModifiedTime,
            _ => ReportGroupSort::Name,
        };
        let order = order(input.sort_order.as_ref(), Order::Ascending);
        let after = paging::after(input.next_token.as_deref());
        let (scope, limit) = (self.scope(caller), limit(input.max_results));
        let records = &self.shared.records;
        let page = records.list_report_groups(&scope, sort, order, after, limit).await?;
        let arn = |name: &String| {
            Arn::codebuild(self.region(), &caller.account, Resource::ReportGroup(name)).to_string()
        };
        Ok(ListReportGroupsOutput {
            next_token: page.next,
            report_groups: Some(page.items.iter().map(arn).collect()),
        })
    }

    /// How the latest reports of a group compare. COMPAT: AP-101.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InvalidInput`] for a field that reports of the group's type do not have.
    pub async fn get_report_group_trend(
        &self,
        caller: &Caller,
        input: GetReportGroupTrendInput,
    ) -> Result<GetReportGroupTrendOutput> {
        self.expire_reports().await?;
        let arn = required(input.report_group_arn, "reportGroupArn")?;
        let field = required(input.trend_field, "trendField")?;
        let (scope, group) = self
            .readable_group(caller, &arn, Operation::GetReportGroupTrend)
            .await?
            .ok_or_else(|| no_such_group(&arn))?;
        if group.r#type != Some(trend::of_type(&field)) {
            let kind = group.r#type.map(|kind| kind.as_str().to_owned()).unwrap_or_default();
            return Error::invalid(format!(
                "Invalid trendField {}: {arn} has {kind} reports",
                field.as_str()
            ));
        }
        let selection = ReportSelection { group: group.name, status: None };
        let count = limit(input.num_of_reports);
        let records = &self.shared.records;
        let newest = records.list_reports(&scope, &selection, Order::Descending, None, count).await?;
        let found = records.get_reports(&scope, &newest.items).await?;
        let reports = found.iter().rev().map(|report| Ok(serde_json::from_str(&report.document)?));
        Ok(trend::of(&reports.collect::<Result<Vec<Report>>>()?, &field))
    }

    /// The group of an ARN, the caller's own or one shared for this operation, and where it is.
    pub(super) async fn readable_group(
        &self,
        caller: &Caller,
        arn: &str,
        operation: Operation,
    ) -> Result<Option<(Scope, ReportGroup)>> {
        let (scope, name) = match self.own_group_name(caller, arn) {
            Ok(name) => (self.scope(caller), name),
            Err(_) => match self.shared_report_group(caller, arn, operation).await? {
                Some(shared) => shared,
                None => return Ok(None),
            },
        };
        let found = self.shared.records.get_report_groups(&scope, &[name]).await?;
        let Some(found) = found.first() else { return Ok(None) };
        Ok(Some((scope, serde_json::from_str(&found.document)?)))
    }

    fn own_group_name(&self, caller: &Caller, arn: &str) -> Result<String> {
        let own = self.own_arn(caller, arn).as_ref().map(ToString::to_string);
        match own.as_deref().and_then(group_name) {
            Some(name) => Ok(name),
            // It may be somebody else's, which is not there for the caller.
            None if self.arn(arn).is_some() && group_name(arn).is_some() => Err(no_such_group(arn)),
            None => Err(invalid_arn(arn, "report group")),
        }
    }

    /// Removes what has been kept for long enough.
    pub(super) async fn expire_reports(&self) -> Result<()> {
        Ok(self.shared.records.expire_reports(self.shared.config.clock.now_ms()).await?)
    }
}

pub(crate) fn group_record(group: &ReportGroup) -> Result<records::ReportGroup> {
    let time = |time: Option<Timestamp>| time.map_or(0, Timestamp::millis);
    Ok(records::ReportGroup {
        name: required(group.name.clone(), "name")?,
        document: serde_json::to_string(group)?,
        created_ms: time(group.created),
        modified_ms: time(group.last_modified),
    })
}

fn group_name(arn: &str) -> Option<String> {
    match arn.parse::<Arn>().ok()?.codebuild_resource()? {
        Resource::ReportGroup(name) => Some(name.to_owned()),
        _ => None,
    }
}

pub(super) fn no_such_group(arn: &str) -> Error {
    Error::NotFound(format!("The provided report group {arn} does not exist"))
}

pub(super) fn invalid_arn(arn: &str, what: &str) -> Error {
    Error::InvalidInput(format!("Invalid arn {arn}: it is not the ARN of a {what}"))
}

pub(super) fn limit(max: Option<i32>) -> usize {
    max.and_then(|max| usize::try_from(max).ok()).unwrap_or(PAGE)
}
