//! UPLOAD_ARTIFACTS, after the artifacts: reports, of the files that the buildspec names and of those found without it.
//!
//! Files are found inside and read here, where a file that breaks its reader breaks one build. What they say is left
//! in the build's folder for the driver, who also says into which groups reports may go, and where they are exported.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use report::{Findings, Format};

use super::context::client_error;
use super::{Build, Ended};
use crate::answer::{Answer, ReportTarget};
use crate::artifacts::{Location, Upload};
use crate::inside::{Collect, Discover};
use crate::journal::{Context, Event, ReportGroup};
use crate::plan::{ArtifactTarget, Reports};
use crate::session::Halt;
use crate::stream::{Decoder, Item, Record};

/// COMPAT: BS-111 report groups of one build, declared or discovered.
const GROUPS: usize = buildspec::limits::REPORT_GROUPS;
/// COMPAT: BS-118.
const DISCOVERY_SECONDS: u64 = 5;
/// Complaints about files that are written to the log, of one report.
const COMPLAINTS: usize = 20;

const AUTO_DISCOVER: &str = "CODEBUILD_CONFIG_AUTO_DISCOVER";
const AUTO_DISCOVER_DIR: &str = "CODEBUILD_CONFIG_AUTO_DISCOVER_DIR";

/// A report to be made.
#[derive(Debug)]
struct Wanted {
    group: ReportGroup,
    selections: Vec<Selection>,
}

/// Files of one format.
#[derive(Debug)]
struct Selection {
    format: Format,
    collect: Collect,
}

impl Build<'_> {
    /// COMPAT: BS-115, IN-101 what a report lacks fails no build; a group of another account does (BS-116).
    pub(super) fn upload_reports(&mut self) -> Result<Ended, Halt> {
        let plan = self.plan;
        let Some(reports) = &plan.reports else { return Ok(Ok(())) };
        let declared = match self.declared_reports(reports)? {
            Ok(declared) => declared,
            Err(context) => return Ok(Err(context)),
        };
        let selections = declared.iter().flat_map(|wanted| &wanted.selections);
        let known: Vec<Collect> = selections.map(|selection| selection.collect.clone()).collect();
        let room = GROUPS - declared.len().min(GROUPS);
        self.make_reports(reports, declared, 0)?;
        let discovered = self.discovered_reports(reports, known, room)?;
        self.make_reports(reports, discovered, GROUPS)?;
        Ok(Ok(()))
    }

    fn declared_reports(&mut self, reports: &Reports) -> Result<Result<Vec<Wanted>, Context>, Halt> {
        let declared = self.buildspec.as_ref().map(|spec| spec.reports.clone()).unwrap_or_default();
        let mut all: Vec<Wanted> = Vec::new();
        for one in declared {
            // COMPAT: BS-110, BS-190 expanded with the variables of now.
            let expanded =
                (self.expand(&one.group)?, self.expand(one.base_directory.as_deref().unwrap_or("."))?);
            let (group, base_directory) = match expanded {
                (Ok(group), Ok(base_directory)) => (group, base_directory),
                (Err(error), _) | (_, Err(error)) => return Ok(Err(client_error(error))),
            };
            let (name, create) = match group_name(&group, &self.plan.project_name, reports) {
                Ok(group) => group,
                Err(message) => return Ok(Err(client_error(message))),
            };
            let format = Format::named(one.file_format.as_str())
                .ok_or_else(|| Halt::Fault(format!("{} is no report format", one.file_format)))?;
            let collect = Collect {
                root: self.source_folder.clone(),
                base_directory,
                files: one.files,
                exclude_paths: Vec::new(),
                discard_paths: one.discard_paths,
                keep_symlinks: false,
                named: false,
            };
            let selection = Selection { format, collect };
            match all.iter_mut().find(|wanted| wanted.group.name == name) {
                Some(wanted) if wanted.group.kind == format.kind() => wanted.selections.push(selection),
                Some(_) => {
                    let text = "test results and code coverage cannot be in one report";
                    self.say(&format!("Skip {format} files of report group {name}: {text}"))?;
                }
                None => {
                    let group = ReportGroup { name, kind: format.kind(), create };
                    all.push(Wanted { group, selections: vec![selection] });
                }
            }
        }
        Ok(Ok(all))
    }

    /// COMPAT: BS-117 one group for each format; what the buildspec names is not discovered again.
    fn discovered_reports(
        &mut self,
        reports: &Reports,
        known: Vec<Collect>,
        room: usize,
    ) -> Result<Vec<Wanted>, Halt> {
        let variables = self.values(&[AUTO_DISCOVER, AUTO_DISCOVER_DIR])?;
        let is_on = match variables.get(AUTO_DISCOVER).map(|value| value.trim().to_ascii_lowercase()) {
            Some(value) if value == "true" => true,
            Some(value) if value == "false" => false,
            _ => reports.discover,
        };
        if !is_on {
            return Ok(Vec::new());
        }
        let folder = variables.get(AUTO_DISCOVER_DIR).map(String::as_str).filter(|text| !text.is_empty());
        let search = searched(folder.unwrap_or("**/*"), &self.source_folder);
        let found = self.discover(&search, known)?;
        let mut all: Vec<Wanted> = Vec::new();
        for (format, files) in found {
            let name = format!("{}-{format}-AutoDiscovered", self.plan.project_name);
            if all.len() == room {
                self.say(&format!("Skip report group {name}: a build has at most {GROUPS}"))?;
                continue;
            }
            let collect = Collect { files, named: true, ..search.clone() };
            let group = ReportGroup { name, kind: format.kind(), create: true };
            all.push(Wanted { group, selections: vec![Selection { format, collect }] });
        }
        Ok(all)
    }

    /// The report files there are, by format. COMPAT: BS-118.
    fn discover(
        &mut self,
        search: &Collect,
        known: Vec<Collect>,
    ) -> Result<BTreeMap<Format, Vec<String>>, Halt> {
        self.say(&format!("Set report auto-discover timeout to {DISCOVERY_SECONDS} seconds"))?;
        let begun = Instant::now();
        let discover = Discover { search: search.clone(), known, seconds: DISCOVERY_SECONDS };
        let mut decoder = Decoder::default();
        let (mut notes, mut found) = (Vec::new(), BTreeMap::<Format, Vec<String>>::new());
        let mut sink = |bytes: &[u8]| {
            decoder.feed(bytes, &mut |item| {
                match item {
                    Item::Record(Record::Note(text)) => notes.push(text),
                    Item::Record(Record::Recognised { path, format }) => {
                        found.entry(format).or_default().push(path);
                    }
                    Item::Record(Record::Failed(message)) => notes.push(message),
                    _ => {}
                }
                Ok(())
            })
        };
        self.session.call("discover", &discover, Vec::new(), &mut sink)?;
        for note in notes {
            self.say(&note)?;
        }
        match found.values().map(Vec::len).sum() {
            0 => self.say("No matching auto-discover report paths found")?,
            count => self.say(&format!("Found {count} file(s)"))?,
        }
        let took = begun.elapsed().as_secs_f64();
        self.say(&format!("Report auto-discover file discovery took {took:.6} seconds"))?;
        Ok(found)
    }

    /// Makes the reports that the driver allows. Their files are numbered from `number`.
    fn make_reports(&mut self, reports: &Reports, wanted: Vec<Wanted>, number: usize) -> Result<(), Halt> {
        if wanted.is_empty() {
            return Ok(());
        }
        let groups = wanted.iter().map(|one| one.group.clone()).collect();
        let question = Event::ReportsNeeded { groups };
        let Answer::Reports(targets) = self.session.ask(&question)? else {
            return Err(Halt::Fault(super::OTHER_ANSWER.into()));
        };
        let arns = targets.values().flatten().map(|target| target.arn.clone()).collect();
        self.session.record(&Event::ReportsStarted { arns })?;
        for (number, one) in (number..).zip(wanted) {
            match targets.get(&one.group.name) {
                Some(Ok(target)) => self.make_report(reports, one, target, number)?,
                Some(Err(why)) => self.say(&format!("Skip report group {}: {why}", one.group.name))?,
                None => {}
            }
        }
        Ok(())
    }

    fn make_report(
        &mut self,
        reports: &Reports,
        wanted: Wanted,
        target: &ReportTarget,
        number: usize,
    ) -> Result<(), Halt> {
        let mut reading = Reading {
            findings: Findings::none(wanted.group.kind),
            export: self.export(reports, target),
            files: 0,
            complaints: Vec::new(),
        };
        for selection in wanted.selections {
            self.read_files(&selection, &mut reading)?;
        }
        let Reading { mut findings, export, files, mut complaints } = reading;
        // What a test prints of a secret is no more for everybody here than it is in the log.
        findings.change_texts(|text| self.session.log.masked(text));
        if files == 0 {
            complaints.push("no matching report paths found".into());
        } else if let Some(export) = export
            && let Err(error) = self.finished(export)?
        {
            complaints.push(format!("the report files cannot be exported: {error}"));
        }
        for complaint in complaints.iter().take(COMPLAINTS) {
            self.say(&format!("Report {}: {complaint}", wanted.group.name))?;
        }
        self.say(&format!("Report {}: {}", wanted.group.name, summary(&findings)))?;
        let findings = if files == 0 { None } else { Some(leave(&findings, number)?) };
        let is_complete = complaints.is_empty();
        Ok(self.session.record(&Event::ReportEnded { arn: target.arn.clone(), findings, is_complete })?)
    }

    /// Where the files go as they are. COMPAT: IN-111.
    fn export(&self, reports: &Reports, target: &ReportTarget) -> Option<Result<Upload, String>> {
        let export = target.export.as_ref()?;
        let objects = reports.objects.as_ref()?;
        let to = ArtifactTarget {
            identifier: None,
            bucket: export.bucket.clone(),
            path: export.path.clone(),
            name: if export.zip { format!("{}.zip", self.plan.uuid) } else { self.plan.uuid.clone() },
            namespace_build_id: false,
            zip: export.zip,
            override_name: false,
            build_arn: target.arn.clone(),
            encryption_key: None,
        };
        let location = Location::new(&to, &to.name, &self.plan.uuid, None);
        let place = self.place(objects, &to.bucket);
        Some(Upload::to_objects(place, &to, location).map_err(|error| error.to_string()))
    }

    fn finished(&mut self, export: Result<Upload, String>) -> Result<Result<(), String>, Halt> {
        match export.and_then(Upload::finish) {
            Ok((_, None)) => Ok(Ok(())),
            Ok((_, Some(parcel))) => Ok(self.deliver(parcel)?.map_err(|failure| failure.to_string())),
            Err(error) => Ok(Err(error)),
        }
    }

    fn read_files(&mut self, selection: &Selection, reading: &mut Reading) -> Result<(), Halt> {
        let mut stream = Stream { decoder: Decoder::default(), open: None, notes: Vec::new() };
        let mut sink = |bytes: &[u8]| {
            if let Some(Ok(export)) = &mut reading.export
                && let Err(error) = export.feed(bytes)
            {
                reading.export = Some(Err(error.to_string()));
            }
            let mut decoder = std::mem::take(&mut stream.decoder);
            let fed = decoder.feed(bytes, &mut |item| {
                stream.take(item, selection.format, reading);
                Ok(())
            });
            stream.decoder = decoder;
            fed
        };
        self.session.call("collect", &selection.collect, Vec::new(), &mut sink)?;
        for note in stream.notes {
            self.say(&note)?;
        }
        Ok(())
    }
}

/// A report that is being made.
struct Reading {
    findings: Findings,
    export: Option<Result<Upload, String>>,
    files: u64,
    complaints: Vec<String>,
}

/// Files on their way out of the container, one after the other.
struct Stream {
    decoder: Decoder,
    /// The file's name and content so far.
    open: Option<(String, Vec<u8>)>,
    notes: Vec<String>,
}

impl Stream {
    fn take(&mut self, item: Item<'_>, format: Format, reading: &mut Reading) {
        match item {
            Item::Record(Record::File { path, .. }) => self.open = Some((path, Vec::new())),
            Item::Data(bytes) => {
                if let Some((_, content)) = &mut self.open {
                    // One byte more than is read tells that there is more.
                    let room = (report::limits::FILE_BYTES + 1).saturating_sub(content.len());
                    content.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
            }
            Item::Record(Record::EndOfFile) => {
                if let Some((path, content)) = self.open.take() {
                    reading.files += 1;
                    let read = report::read(format, &content);
                    if let Err(error) = read.and_then(|findings| reading.findings.add(findings)) {
                        reading.complaints.push(format!("{path} cannot be read: {error}"));
                    }
                }
            }
            Item::Record(Record::Note(text)) => self.notes.push(text),
            Item::Record(Record::Failed(message)) => reading.complaints.push(message),
            Item::Record(_) => {}
        }
    }
}

/// Writes the findings into the build's folder, where the agent works; returns the file's path in it.
fn leave(findings: &Findings, number: usize) -> io::Result<String> {
    std::fs::create_dir_all(crate::REPORTS)?;
    let name = format!("{}/{number}.json", crate::REPORTS);
    let mut file = File::create(Path::new(&name))?;
    file.write_all(&serde_json::to_vec(findings).map_err(io::Error::other)?)?;
    // The journal must not promise what a crash takes away.
    file.sync_all()?;
    Ok(name)
}

fn summary(findings: &Findings) -> String {
    match findings {
        Findings::Tests(tests) => {
            let counts: Vec<String> =
                tests.counts.iter().map(|(status, count)| format!("{count} {}", status.name())).collect();
            format!(
                "{} test case(s){}{}",
                tests.total(),
                if counts.is_empty() { "" } else { ": " },
                counts.join(", ")
            )
        }
        Findings::Coverages(coverages) => {
            let (files, sum) = (coverages.files.len(), coverages.sum());
            format!("{files} source file(s), {:.1} % of lines covered", sum.lines.percentage())
        }
    }
}

/// The group's name, and whether it may be made. COMPAT: BS-110, BS-116.
fn group_name(text: &str, project: &str, reports: &Reports) -> Result<(String, bool), String> {
    if !text.starts_with("arn:") {
        return Ok((format!("{project}-{text}"), true));
    }
    let name = match &reports.group_arns {
        Some(own) => text.strip_prefix(own.as_str()),
        None => text.rsplit_once("report-group/").map(|(_, name)| name),
    };
    let rule = "it is not of this build's account and Region, and a shared report group cannot be written";
    name.map(|name| (name.to_owned(), false)).ok_or_else(|| format!("Invalid report group {text}: {rule}"))
}

/// Where report files are looked for: a pattern of files, or a folder.
fn searched(text: &str, source: &Path) -> Collect {
    let (base_directory, files) = match text.strip_prefix('/') {
        Some(rest) => ("/", rest),
        None => (".", text.strip_prefix("./").unwrap_or(text).trim_end_matches('.')),
    };
    let files = match files.contains(['*', '?', '[']) {
        true => files.to_owned(),
        false => format!("{}/**/*", files.trim_end_matches('/')).trim_start_matches('/').to_owned(),
    };
    Collect {
        root: source.to_owned(),
        base_directory: base_directory.into(),
        files: vec![files],
        exclude_paths: Vec::new(),
        discard_paths: false,
        keep_symlinks: false,
        named: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_by_the_project_or_by_its_own_arn() {
        // BS-110, BS-116
        let own = "arn:aws:codebuild:eu-west-1:111122223333:report-group/";
        let reports = Reports { group_arns: Some(own.into()), objects: None, discover: false };
        let group = |text: &str| group_name(text, "shop", &reports);
        assert_eq!(group("unit"), Ok(("shop-unit".into(), true)));
        assert_eq!(group(&format!("{own}unit")), Ok(("unit".into(), false)));
        assert!(group("arn:aws:codebuild:eu-west-1:444455556666:report-group/unit").is_err());
        let local = Reports { group_arns: None, ..reports };
        assert_eq!(group_name("arn:a:b:c:d:report-group/x", "shop", &local), Ok(("x".into(), false)));
    }

    #[test]
    fn reports_are_looked_for_in_a_folder_or_by_a_pattern() {
        // BS-117
        let of = |text: &str| {
            let collect = searched(text, Path::new("/s"));
            format!("{} {}", collect.base_directory, collect.files[0])
        };
        assert_eq!(of("**/*"), ". **/*");
        assert_eq!(of("./out/*.xml"), ". out/*.xml");
        assert_eq!(of("target/reports/"), ". target/reports/**/*");
        assert_eq!(of("/tmp/out"), "/ tmp/out/**/*");
        assert_eq!(of("."), ". **/*");
    }
}
