//! The driver's part in reports: into which groups a build may report, and keeping what was found.
//!
//! All of it can be done again: a driver that takes a build up reads the journal from its beginning.

use agent::answer::{Answer, ReportExport, ReportTarget};
use agent::journal::{Event as Told, ReportGroup as Wanted};
use api::arn::Resource;
use api::codebuild::{Report, ReportExportConfigType, ReportGroup, ReportPackagingType, ReportStatusType};
use api::{AccountId, Arn, Timestamp};
use report::Findings;
use store::records;

use super::Driver;
use crate::error::{Error, Result};
use crate::lifecycle::Event;
use crate::operations::group_record;
use crate::project::Setting;
use crate::report_group;

/// The groups that the journal asks for and that are not answered yet.
pub(super) fn needed(events: &[Told]) -> Option<Vec<Wanted>> {
    let mut needed = None;
    for event in events {
        match event {
            Told::ReportsNeeded { groups } => needed = Some(groups.clone()),
            Told::ReportsStarted { .. } | Told::Finished { .. } => needed = None,
            _ => {}
        }
    }
    needed
}

impl Driver {
    /// Takes in what the agent told; what it found is kept before the state says so.
    pub(super) async fn take_in(&mut self, events: Vec<Told>) {
        for event in events {
            if let Told::ReportEnded { arn, findings, is_complete } = &event
                && self.live.state.is_being_reported(arn)
                && !self.keep_report(arn, findings.as_deref(), *is_complete).await
            {
                return;
            }
            self.apply(Event::Reported(event));
        }
    }

    /// Makes the reports, and the groups that may be made. None: we are shutting down.
    pub(super) async fn open_reports(&mut self, groups: &[Wanted]) -> Option<Answer> {
        let mut patience = self.patience("reports could not be made; trying on");
        loop {
            match self.try_to_open(groups).await {
                Ok(answer) => return Some(answer),
                Err(error) => patience.complain(&self.live.id, &error),
            }
            if !patience.wait(&self.closing).await {
                return None;
            }
        }
    }

    async fn try_to_open(&self, groups: &[Wanted]) -> Result<Answer> {
        let mut targets = std::collections::BTreeMap::new();
        for wanted in groups {
            targets.insert(wanted.name.clone(), self.open(wanted).await?);
        }
        Ok(Answer::Reports(targets))
    }

    /// Where a report goes, or why nowhere.
    async fn open(&self, wanted: &Wanted) -> Result<Result<ReportTarget, String>> {
        let account: AccountId = self.live.scope.account.parse().map_err(Error::internal)?;
        let group = match self.group(wanted, &account).await? {
            Ok(group) => group,
            Err(why) => return Ok(Err(why)),
        };
        if group.r#type != Some(report_group::type_of(wanted.kind)) {
            let kind = group.r#type.as_ref().map_or("", |kind| kind.as_str());
            return Ok(Err(format!("it holds {kind} reports, and this is {}", wanted.kind.name())));
        }
        let id = format!("{}:{}", wanted.name, self.uuid());
        let region = &self.shared.config.region;
        let arn = Arn::codebuild(region, &account, Resource::Report(&id)).to_string();
        let build = self.live.document.arn.clone().unwrap_or_default();
        let report = report_group::generating(&group, &arn, &build, self.now_ms());
        self.shared.records.put_report(&self.live.scope, record(&report)?, None).await?;
        Ok(Ok(ReportTarget { arn, export: export(&group) }))
    }

    async fn group(&self, wanted: &Wanted, account: &AccountId) -> Result<Result<ReportGroup, String>> {
        let (records, scope) = (&self.shared.records, &self.live.scope);
        let names = [wanted.name.clone()];
        // A second round is one that somebody else has won.
        loop {
            if let Some(found) = records.get_report_groups(scope, &names).await?.first() {
                return Ok(Ok(serde_json::from_str(&found.document)?));
            }
            if !wanted.create {
                return Ok(Err("it does not exist".to_owned()));
            }
            let config = &self.shared.config;
            let setting = Setting {
                region: &config.region,
                account,
                now_ms: self.now_ms(),
                concurrent_builds: config.concurrent_builds,
                codecommit: config.codecommit_origin(),
            };
            let group = match report_group::on_first_use(&wanted.name, wanted.kind, setting) {
                Ok(group) => group,
                Err(error) => return Ok(Err(error.to_string())),
            };
            match records.insert_report_group(scope, group_record(&group)?).await {
                Ok(()) => return Ok(Ok(group)),
                Err(store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Stores a report's end, trying until it is kept. False: we are shutting down.
    async fn keep_report(&mut self, arn: &str, file: Option<&str>, is_complete: bool) -> bool {
        let mut patience = self.patience("a report could not be stored; trying on");
        loop {
            match self.try_to_keep(arn, file, is_complete).await {
                Ok(()) => return true,
                Err(error) => patience.complain(&self.live.id, &error),
            }
            if !patience.wait(&self.closing).await {
                return false;
            }
        }
    }

    async fn try_to_keep(&self, arn: &str, file: Option<&str>, is_complete: bool) -> Result<()> {
        let text = match file {
            Some(file) => Some(self.shared.executor.left(self.uuid(), file).await.map_err(Error::internal)?),
            None => None,
        };
        let text = text.map(String::from_utf8).transpose().map_err(Error::internal)?;
        let findings: Option<Findings> = text.as_deref().map(serde_json::from_str).transpose()?;
        let (records, scope) = (&self.shared.records, &self.live.scope);
        let id = arn.rsplit_once('/').map_or(arn, |(_, id)| id).to_owned();
        // Somebody may have deleted it meanwhile, or its group.
        let Some(found) = records.get_reports(scope, &[id]).await?.into_iter().next() else { return Ok(()) };
        let report: Report = serde_json::from_str(&found.document)?;
        let report = report_group::ended(report, findings.as_ref(), is_complete);
        match records.put_report(scope, record(&report)?, text).await {
            Err(store::Error::NotFound { .. }) => Ok(()),
            kept => Ok(kept?),
        }
    }

    /// COMPAT: IN-100 a report that its build did not come to is INCOMPLETE.
    pub(super) async fn give_up_reports(&mut self) {
        for arn in self.live.state.unfinished_reports() {
            if !self.keep_report(&arn, None, false).await {
                return;
            }
        }
    }
}

fn record(report: &Report) -> Result<records::Report> {
    let time = |time: Option<Timestamp>| time.map_or(0, Timestamp::millis);
    let id = report.name.clone().unwrap_or_default();
    let status = report.status.as_ref().map_or("", ReportStatusType::as_str);
    Ok(records::Report {
        group: id.split(':').next().unwrap_or_default().to_owned(),
        id,
        status: status.to_owned(),
        created_ms: time(report.created),
        expires_ms: time(report.expired),
        document: serde_json::to_string(report)?,
    })
}

/// COMPAT: IN-111.
fn export(group: &ReportGroup) -> Option<ReportExport> {
    let config = group.export_config.as_ref()?;
    let to = config.s3_destination.as_ref()?;
    (config.export_config_type == Some(ReportExportConfigType::S3)).then(|| ReportExport {
        bucket: to.bucket.clone().unwrap_or_default(),
        path: to.path.clone().unwrap_or_default(),
        zip: to.packaging == Some(ReportPackagingType::Zip),
    })
}
