//! How reports of a group compare: one number of each, their average and extremes. Pure. COMPAT: AP-101.

use api::codebuild::{
    GetReportGroupTrendOutput, Report, ReportGroupTrendFieldType, ReportGroupTrendStats, ReportType,
    ReportWithRawData,
};

/// The type of the reports that have this field.
pub(crate) fn of_type(field: &ReportGroupTrendFieldType) -> ReportType {
    use ReportGroupTrendFieldType::{Duration, PassRate, Total};
    match field {
        PassRate | Duration | Total => ReportType::Test,
        _ => ReportType::CodeCoverage,
    }
}

/// In the order of the reports; those without the number, which nothing was found for, are left out.
pub(crate) fn of(reports: &[Report], field: &ReportGroupTrendFieldType) -> GetReportGroupTrendOutput {
    let numbers = reports.iter().filter_map(|report| Some((report.arn.clone()?, number(report, field)?)));
    let numbers: Vec<(String, f64)> = numbers.collect();
    let values = || numbers.iter().map(|(_, number)| *number);
    let text = |number: f64| Some(number.to_string());
    let stats = match numbers.len() {
        0 => ReportGroupTrendStats::default(),
        count => ReportGroupTrendStats {
            average: text(values().sum::<f64>() / count as f64),
            max: text(values().fold(f64::NEG_INFINITY, f64::max)),
            min: text(values().fold(f64::INFINITY, f64::min)),
        },
    };
    let raw = numbers
        .iter()
        .map(|(arn, number)| ReportWithRawData { report_arn: Some(arn.clone()), data: text(*number) });
    GetReportGroupTrendOutput { stats: Some(stats), raw_data: Some(raw.collect()) }
}

fn number(report: &Report, field: &ReportGroupTrendFieldType) -> Option<f64> {
    use ReportGroupTrendFieldType as Field;
    let (tests, coverage) = (report.test_summary.as_ref(), report.code_coverage_summary.as_ref());
    match field {
        Field::PassRate => tests.map(|tests| {
            let passed = tests.status_counts.iter().flatten().find(|(status, _)| *status == "SUCCEEDED");
            match tests.total.unwrap_or_default() {
                0 => 0.0,
                total => f64::from(passed.map_or(0, |(_, count)| *count)) * 100.0 / f64::from(total),
            }
        }),
        Field::Duration => tests?.duration_in_nano_seconds.map(|duration| duration as f64),
        Field::Total => tests?.total.map(f64::from),
        Field::LineCoverage => coverage?.line_coverage_percentage,
        Field::LinesCovered => coverage?.lines_covered.map(f64::from),
        Field::LinesMissed => coverage?.lines_missed.map(f64::from),
        Field::BranchCoverage => coverage?.branch_coverage_percentage,
        Field::BranchesCovered => coverage?.branches_covered.map(f64::from),
        Field::BranchesMissed => coverage?.branches_missed.map(f64::from),
        _ => None,
    }
}
