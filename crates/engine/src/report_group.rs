//! Report groups and reports as the API shows them: what input makes of a group, what findings make of a report. Pure.

use api::arn::Resource;
use api::codebuild::{
    CodeCoverageReportSummary, CreateReportGroupInput, Report, ReportExportConfig, ReportExportConfigType,
    ReportGroup, ReportGroupStatusType, ReportPackagingType, ReportStatusType, ReportType,
    S3ReportExportConfig, TestReportSummary, UpdateReportGroupInput,
};
use api::{Arn, Timestamp};
use report::{Coverages, Findings, Kind, Status, Tests};

use crate::error::{Error, Result};
use crate::project::{self, Setting, required};

/// COMPAT: IN-104 reports are kept for 30 days.
pub(crate) const KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

/// The group that CreateReportGroup makes (AP-090).
pub(crate) fn create(input: CreateReportGroupInput, setting: Setting<'_>) -> Result<ReportGroup> {
    let name = required(input.name, "name")?;
    check_name(&name)?;
    let export = required(input.export_config, "exportConfig")?;
    Ok(ReportGroup {
        r#type: Some(required(input.r#type, "type")?),
        export_config: Some(complete(export, setting)?),
        tags: input.tags,
        ..named(&name, setting)
    })
}

/// The group that a build's first report of that name makes. COMPAT: BS-110 nothing is exported.
pub(crate) fn on_first_use(name: &str, kind: Kind, setting: Setting<'_>) -> Result<ReportGroup> {
    check_name(name)?;
    let export = ReportExportConfig {
        export_config_type: Some(ReportExportConfigType::NoExport),
        ..ReportExportConfig::default()
    };
    Ok(ReportGroup { r#type: Some(type_of(kind)), export_config: Some(export), ..named(name, setting) })
}

/// The group after UpdateReportGroup: what is not sent stays. COMPAT: AP-091 no tags at all are a list without any.
pub(crate) fn update(
    group: ReportGroup,
    input: UpdateReportGroupInput,
    setting: Setting<'_>,
) -> Result<ReportGroup> {
    let export = input.export_config.map(|export| complete(export, setting)).transpose()?;
    Ok(ReportGroup {
        export_config: export.or(group.export_config),
        tags: input.tags.or(group.tags),
        last_modified: Some(Timestamp::from_millis(setting.now_ms)),
        ..group
    })
}

fn named(name: &str, setting: Setting<'_>) -> ReportGroup {
    let now = Timestamp::from_millis(setting.now_ms);
    ReportGroup {
        arn: Some(Arn::codebuild(setting.region, setting.account, Resource::ReportGroup(name)).to_string()),
        name: Some(name.to_owned()),
        created: Some(now),
        last_modified: Some(now),
        status: Some(ReportGroupStatusType::Active),
        ..ReportGroup::default()
    }
}

/// Whether it can stand in an ARN before a colon and in a key; the length is the model's.
fn check_name(name: &str) -> Result<()> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && name.len() >= 2 && name.len() <= 128 && name.chars().all(is_fine) {
        return Ok(());
    }
    let rule = "2 to 128 letters, digits, - and _, the first a letter or digit";
    Error::invalid(format!("Invalid report group name: {name} has to be {rule}"))
}

/// COMPAT: AP-090 the defaults.
fn complete(export: ReportExportConfig, setting: Setting<'_>) -> Result<ReportExportConfig> {
    let kind = required(export.export_config_type.clone(), "exportConfig.exportConfigType")?;
    if kind != ReportExportConfigType::S3 {
        return Ok(ReportExportConfig { export_config_type: Some(kind), s3_destination: None });
    }
    let to = required(export.s3_destination, "exportConfig.s3Destination")?;
    let is_plain = to.encryption_disabled == Some(true);
    let destination = S3ReportExportConfig {
        bucket: Some(required(to.bucket, "exportConfig.s3Destination.bucket")?),
        path: Some(to.path.unwrap_or_default()),
        packaging: Some(to.packaging.unwrap_or(ReportPackagingType::None)),
        encryption_key: if is_plain {
            to.encryption_key
        } else {
            Some(project::encryption_key(to.encryption_key, setting))
        },
        ..to
    };
    Ok(ReportExportConfig { export_config_type: Some(kind), s3_destination: Some(destination) })
}

pub(crate) fn type_of(kind: Kind) -> ReportType {
    match kind {
        Kind::Test => ReportType::Test,
        Kind::CodeCoverage => ReportType::CodeCoverage,
    }
}

/// A report that is being made. COMPAT: IN-100, IN-112 one for each group and build.
pub(crate) fn generating(group: &ReportGroup, arn: &str, build_arn: &str, now_ms: i64) -> Report {
    let name = arn.rsplit_once('/').map_or(arn, |(_, name)| name);
    Report {
        arn: Some(arn.to_owned()),
        name: Some(name.to_owned()),
        r#type: group.r#type.clone(),
        report_group_arn: group.arn.clone(),
        execution_id: Some(build_arn.to_owned()),
        status: Some(ReportStatusType::Generating),
        created: Some(Timestamp::from_millis(now_ms)),
        expired: Some(Timestamp::from_millis(now_ms.saturating_add(KEPT_MS))),
        export_config: group.export_config.clone(),
        truncated: Some(false),
        ..Report::default()
    }
}

/// The report with what was found. COMPAT: IN-100 INCOMPLETE where files were missing or could not be read.
pub(crate) fn ended(report: Report, findings: Option<&Findings>, is_complete: bool) -> Report {
    let report = match findings {
        Some(Findings::Tests(tests)) => Report {
            truncated: Some(tests.is_truncated()),
            test_summary: Some(test_summary(tests)),
            ..report
        },
        Some(Findings::Coverages(coverages)) => {
            Report { code_coverage_summary: Some(coverage_summary(coverages)), ..report }
        }
        None => report,
    };
    let status = match findings {
        Some(Findings::Tests(tests)) if is_complete && !tests.succeeded() => ReportStatusType::Failed,
        Some(_) if is_complete => ReportStatusType::Succeeded,
        _ => ReportStatusType::Incomplete,
    };
    Report { status: Some(status), ..report }
}

fn test_summary(tests: &Tests) -> TestReportSummary {
    let count = |status: &Status| tests.counts.get(status).copied().unwrap_or_default();
    let counts = Status::ALL.iter().map(|status| (status.name().to_owned(), int(count(status))));
    TestReportSummary {
        total: Some(int(tests.total())),
        status_counts: Some(counts.collect()),
        duration_in_nano_seconds: Some(i64::try_from(tests.duration_ns).unwrap_or(i64::MAX)),
    }
}

/// COMPAT: IN-109.
fn coverage_summary(coverages: &Coverages) -> CodeCoverageReportSummary {
    let sum = coverages.sum();
    CodeCoverageReportSummary {
        line_coverage_percentage: Some(sum.lines.percentage()),
        lines_covered: Some(int(sum.lines.covered)),
        lines_missed: Some(int(sum.lines.missed)),
        branch_coverage_percentage: Some(sum.branches.percentage()),
        branches_covered: Some(int(sum.branches.covered)),
        branches_missed: Some(int(sum.branches.missed)),
    }
}

/// As the API has counts.
pub(crate) fn int(count: u64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
