//! BatchGetReports, ListReports, ListReportsForReportGroup, DeleteReport, DescribeTestCases, DescribeCodeCoverages.

use api::Arn;
use api::arn::Resource;
use api::codebuild::{
    BatchGetReportsInput, BatchGetReportsOutput, CodeCoverage, DeleteReportInput, DeleteReportOutput,
    DescribeCodeCoveragesInput, DescribeCodeCoveragesOutput, DescribeTestCasesInput, DescribeTestCasesOutput,
    ListReportsForReportGroupInput, ListReportsForReportGroupOutput, ListReportsInput, ListReportsOutput,
    Operation, Report, ReportCodeCoverageSortByType, ReportFilter, SortOrderType, TestCase, TestCaseFilter,
};
use report::{Coverages, Findings, Tests};
use store::records::{Order, Page, ReportSelection, Scope};

use super::order;
use super::report_groups::{invalid_arn, limit, no_such_group};
use crate::caller::Caller;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::paging;
use crate::project::required;
use crate::report_group::int;

impl Engine {
    /// The reports there are of those asked for. COMPAT: AP-094.
    pub async fn batch_get_reports(
        &self,
        caller: &Caller,
        input: BatchGetReportsInput,
    ) -> Result<BatchGetReportsOutput> {
        self.expire_reports().await?;
        let (mut reports, mut missing) = (Vec::<Report>::new(), Vec::new());
        for arn in required(input.report_arns, "reportArns")? {
            match self.readable_report(caller, &arn, Operation::BatchGetReports).await? {
                Some((_, report)) if !reports.iter().any(|one| one.arn == report.arn) => reports.push(report),
                Some(_) => {}
                None => missing.push(arn),
            }
        }
        Ok(BatchGetReportsOutput { reports: Some(reports), reports_not_found: Some(missing) })
    }

    /// ARNs of all reports, the newest first unless asked otherwise. COMPAT: AP-096.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a token that is not of this list.
    pub async fn list_reports(&self, caller: &Caller, input: ListReportsInput) -> Result<ListReportsOutput> {
        let selection = ReportSelection { group: None, status: status(input.filter) };
        let (order, token) = (input.sort_order, input.next_token);
        let page = self.page(&self.scope(caller), &selection, order, token, input.max_results).await?;
        Ok(ListReportsOutput { next_token: page.next, reports: Some(page.items) })
    }

    /// ARNs of a group's reports, the newest first unless asked otherwise. COMPAT: AP-097.
    ///
    /// # Errors
    /// [`Error::NotFound`] (group), [`Error::InvalidInput`] for a token that is not of this list.
    pub async fn list_reports_for_report_group(
        &self,
        caller: &Caller,
        input: ListReportsForReportGroupInput,
    ) -> Result<ListReportsForReportGroupOutput> {
        let arn = required(input.report_group_arn, "reportGroupArn")?;
        let (scope, group) = self
            .readable_group(caller, &arn, Operation::ListReportsForReportGroup)
            .await?
            .ok_or_else(|| no_such_group(&arn))?;
        let selection = ReportSelection { group: group.name, status: status(input.filter) };
        let (order, token) = (input.sort_order, input.next_token);
        let page = self.page(&scope, &selection, order, token, input.max_results).await?;
        Ok(ListReportsForReportGroupOutput { next_token: page.next, reports: Some(page.items) })
    }

    /// Deletes a report and what was found; one that is not there is deleted as well. COMPAT: AP-098 what was exported
    /// stays.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for what is no report's ARN.
    pub async fn delete_report(
        &self,
        caller: &Caller,
        input: DeleteReportInput,
    ) -> Result<DeleteReportOutput> {
        let arn = required(input.arn, "arn")?;
        let id = self.arn(&arn).and_then(|_| report_id(&arn)).ok_or_else(|| invalid_arn(&arn, "report"))?;
        if self.own_arn(caller, &arn).is_some() {
            self.shared.records.delete_report(&self.scope(caller), &id).await?;
        }
        Ok(DeleteReportOutput::default())
    }

    /// A report's test cases, 100 a page unless asked otherwise. COMPAT: AP-099.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InvalidInput`] for a token that is not of this list.
    pub async fn describe_test_cases(
        &self,
        caller: &Caller,
        input: DescribeTestCasesInput,
    ) -> Result<DescribeTestCasesOutput> {
        let arn = required(input.report_arn, "reportArn")?;
        let (report, findings) = self.findings(caller, &arn, Operation::DescribeTestCases).await?;
        let cases = match findings {
            Some(Findings::Tests(tests)) => test_cases(&report, tests, input.filter.unwrap_or_default()),
            _ => Vec::new(),
        };
        let (cases, next_token) = slice(cases, input.next_token.as_deref(), input.max_results)?;
        Ok(DescribeTestCasesOutput { next_token, test_cases: Some(cases) })
    }

    /// A report's coverages of files, 100 a page unless asked otherwise. COMPAT: AP-100.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a report that is not there, and for a token that is not of this list.
    pub async fn describe_code_coverages(
        &self,
        caller: &Caller,
        input: DescribeCodeCoveragesInput,
    ) -> Result<DescribeCodeCoveragesOutput> {
        let arn = required(input.report_arn.clone(), "reportArn")?;
        let found = self.findings(caller, &arn, Operation::DescribeCodeCoverages).await;
        let (report, findings) = found.map_err(|error| match error {
            // The model declares no NotFound.
            Error::NotFound(message) => Error::InvalidInput(message),
            error => error,
        })?;
        let coverages = match findings {
            Some(Findings::Coverages(coverages)) => code_coverages(&report, &coverages, &input),
            _ => Vec::new(),
        };
        let (coverages, next_token) = slice(coverages, input.next_token.as_deref(), input.max_results)?;
        Ok(DescribeCodeCoveragesOutput { next_token, code_coverages: Some(coverages) })
    }

    /// A page of ARNs; its `next` is for clients.
    async fn page(
        &self,
        scope: &Scope,
        selection: &ReportSelection,
        asked: Option<SortOrderType>,
        token: Option<String>,
        max: Option<i32>,
    ) -> Result<Page<String>> {
        self.expire_reports().await?;
        let order = order(asked.as_ref(), Order::Descending);
        let after = paging::after(token.as_deref());
        let records = &self.shared.records;
        let page = records.list_reports(scope, selection, order, after, limit(max)).await?;
        let account = scope.account.parse().map_err(Error::internal)?;
        let arn = |id: &String| Arn::codebuild(self.region(), &account, Resource::Report(id)).to_string();
        Ok(Page { items: page.items.iter().map(arn).collect(), next: page.next })
    }

    /// The report of an ARN, the caller's own or one of a group shared for this operation, and where it is.
    async fn readable_report(
        &self,
        caller: &Caller,
        arn: &str,
        operation: Operation,
    ) -> Result<Option<(Scope, Report)>> {
        let Some(id) = report_id(arn) else { return Ok(None) };
        let scope = match self.own_arn(caller, arn) {
            Some(_) => self.scope(caller),
            None => match self.shared_report_group(caller, arn, operation).await? {
                Some((scope, _)) => scope,
                None => return Ok(None),
            },
        };
        let found = self.shared.records.get_reports(&scope, &[id]).await?;
        let Some(found) = found.first() else { return Ok(None) };
        Ok(Some((scope, serde_json::from_str(&found.document)?)))
    }

    async fn findings(
        &self,
        caller: &Caller,
        arn: &str,
        operation: Operation,
    ) -> Result<(Report, Option<Findings>)> {
        self.expire_reports().await?;
        let found = self.readable_report(caller, arn, operation).await?;
        let missing = || Error::NotFound(format!("The provided report {arn} does not exist"));
        let (scope, report) = found.ok_or_else(missing)?;
        let id = report_id(arn).unwrap_or_default();
        let findings = self.shared.records.report_findings(&scope, &id).await?;
        let findings = findings.map(|findings| serde_json::from_str(&findings)).transpose()?;
        Ok((report, findings))
    }
}

fn report_id(arn: &str) -> Option<String> {
    match arn.parse::<Arn>().ok()?.codebuild_resource()? {
        Resource::Report(id) => Some(id.to_owned()),
        _ => None,
    }
}

fn status(filter: Option<ReportFilter>) -> Option<String> {
    filter?.status.map(|status| status.as_str().to_owned())
}

/// COMPAT: AP-099 the keyword is part of the name or of the prefix.
fn test_cases(report: &Report, tests: Tests, filter: TestCaseFilter) -> Vec<TestCase> {
    let fits = |case: &report::TestCase| {
        let has = |keyword: &String| case.name.contains(keyword) || case.prefix.contains(keyword);
        filter.status.as_deref().is_none_or(|status| status == case.status.name())
            && filter.keyword.as_ref().is_none_or(has)
    };
    let shown = |case: report::TestCase| TestCase {
        report_arn: report.arn.clone(),
        prefix: Some(case.prefix),
        name: Some(case.name),
        status: Some(case.status.name().to_owned()),
        duration_in_nano_seconds: Some(i64::try_from(case.duration_ns).unwrap_or(i64::MAX)),
        message: Some(case.message),
        expired: report.expired,
        test_suite_name: Some(case.suite),
        ..TestCase::default()
    };
    tests.cases.into_iter().filter(fits).map(shown).collect()
}

fn code_coverages(
    report: &Report,
    coverages: &Coverages,
    asked: &DescribeCodeCoveragesInput,
) -> Vec<CodeCoverage> {
    let least = asked.min_line_coverage_percentage.unwrap_or(f64::MIN);
    let most = asked.max_line_coverage_percentage.unwrap_or(f64::MAX);
    let uuid = report.arn.as_deref().and_then(|arn| arn.rsplit_once(':')).map_or("", |(_, uuid)| uuid);
    let shown = coverages.files.iter().enumerate().map(|(number, (path, coverage))| CodeCoverage {
        id: Some(format!("{uuid}-{number}")),
        report_arn: report.arn.clone(),
        file_path: Some(path.clone()),
        line_coverage_percentage: Some(coverage.lines.percentage()),
        lines_covered: Some(int(coverage.lines.covered)),
        lines_missed: Some(int(coverage.lines.missed)),
        branch_coverage_percentage: Some(coverage.branches.percentage()),
        branches_covered: Some(int(coverage.branches.covered)),
        branches_missed: Some(int(coverage.branches.missed)),
        expired: report.expired,
    });
    let percentage = |one: &CodeCoverage| one.line_coverage_percentage.unwrap_or_default();
    let mut shown: Vec<CodeCoverage> =
        shown.filter(|one| (least..=most).contains(&percentage(one))).collect();
    if asked.sort_by == Some(ReportCodeCoverageSortByType::LineCoveragePercentage) {
        // Files alike in it stay by path.
        shown.sort_by(|a, b| percentage(a).total_cmp(&percentage(b)));
    }
    if asked.sort_order == Some(SortOrderType::Descending) {
        shown.reverse();
    }
    shown
}

/// A page of a list that does not change, and the token of the next.
fn slice<T>(all: Vec<T>, token: Option<&str>, max: Option<i32>) -> Result<(Vec<T>, Option<String>)> {
    let start = match paging::after(token) {
        None => 0,
        Some(token) => {
            let place = token.strip_prefix("findings:").and_then(|place| place.parse().ok());
            place.ok_or_else(|| Error::InvalidInput(format!("Invalid next token: {token}")))?
        }
    };
    let end = limit(max).saturating_add(start);
    let next = (end < all.len()).then(|| format!("findings:{end}"));
    Ok((all.into_iter().skip(start).take(end - start).collect(), next))
}
