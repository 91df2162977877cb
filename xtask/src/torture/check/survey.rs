//! What the server says of its builds at one time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Value, json};

use crate::torture::api::Answer;
use crate::torture::kind::ALL;
use crate::torture::ledger::Ledger;
use crate::torture::yard::Yard;

/// Builds asked for in one request.
const PAGE: usize = 100;
/// Builds that are looked at again after a fault though they are over: the newest, and as many of all.
const AGAIN: usize = 100;

/// Whose ends are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    New,
    All,
}

#[derive(Debug, Default)]
pub(in crate::torture) struct Survey {
    pub(super) builds: BTreeMap<String, Value>,
    pub(super) not_found: BTreeSet<String>,
    /// All builds there are, if it was asked for.
    pub(super) listed: Option<Vec<String>>,
    /// Logs of builds whose end is looked at.
    pub(super) logs: BTreeMap<String, Result<String, String>>,
    /// Builds whose end is looked at in this survey.
    pub(super) audited: Vec<String>,
    /// How CreateWebhook was answered, if it was asked: code and message of its refusal.
    pub(super) webhook: Option<Result<Value, (String, String)>>,
    /// Nothing runs any more, not even the server.
    pub(super) is_quiet: bool,
    /// Files are searched for secrets though builds run.
    pub(super) is_searched: bool,
}

impl Survey {
    pub(in crate::torture) fn of_some(yard: &Yard, ledger: &Ledger) -> Result<Survey, String> {
        let wanted = {
            let book = ledger.book();
            let mut wanted: BTreeSet<String> = book.open().into_iter().collect();
            wanted
                .extend(book.builds.iter().filter(|(_, known)| !known.is_audited).map(|(id, _)| id.clone()));
            wanted.extend(book.order.iter().rev().take(AGAIN).cloned());
            let step = (book.order.len() / AGAIN).max(1);
            wanted.extend(book.order.iter().step_by(step).cloned());
            wanted
        };
        Survey::of(yard, ledger, wanted, Which::New)
    }

    /// All that are in the ledger, and all that the server lists.
    pub(in crate::torture) fn of_all(yard: &Yard, ledger: &Ledger) -> Result<Survey, String> {
        let mut survey = Survey::of_ours(yard, ledger)?;
        survey.listed = Some(listed(yard)?);
        Ok(survey)
    }

    /// All that are in the ledger: what was whole once is read again, since something later may have taken it.
    pub(in crate::torture) fn of_ours(yard: &Yard, ledger: &Ledger) -> Result<Survey, String> {
        let wanted = ledger.book().builds.keys().cloned().collect();
        Survey::of(yard, ledger, wanted, Which::All)
    }

    fn of(yard: &Yard, ledger: &Ledger, wanted: BTreeSet<String>, which: Which) -> Result<Survey, String> {
        let mut survey = Survey::default();
        let mut api = yard.api();
        let ids: Vec<&String> = wanted.iter().collect();
        for page in ids.chunks(PAGE) {
            let asked = Instant::now();
            let answer = api.get("BatchGetBuilds", &json!({ "ids": page }))?;
            super::observe(ledger, &answer, asked);
            survey.learn(&answer);
        }
        survey.audited = survey.to_audit(ledger, which);
        survey.logs = survey.read_logs(yard);
        survey.webhook = match yard.api().ask("CreateWebhook", &json!({ "projectName": "steady" })) {
            Answer::Done(value) => Some(Ok(value)),
            Answer::Refused { code, message, .. } => Some(Err((code, message))),
            Answer::Lost(_) => None,
        };
        Ok(survey)
    }

    fn read_logs(&self, yard: &Yard) -> BTreeMap<String, Result<String, String>> {
        let logs = super::in_parallel(&self.audited, |ids| {
            let mut api = yard.api();
            ids.iter().map(|id| (id.clone(), api.log(&self.builds[id]))).collect()
        });
        logs.into_iter().collect()
    }

    fn learn(&mut self, answer: &Value) {
        let array = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
        for build in array("builds") {
            self.builds.insert(build["id"].as_str().unwrap_or_default().to_owned(), build);
        }
        self.not_found.extend(array("buildsNotFound").iter().filter_map(Value::as_str).map(str::to_owned));
    }

    /// Builds that are over, or those of them that were not looked at before.
    pub(super) fn to_audit(&self, ledger: &Ledger, which: Which) -> Vec<String> {
        let book = ledger.book();
        let over = self.builds.iter().filter(|(_, build)| build["buildComplete"] == true);
        let is_wanted =
            |id: &String| book.builds.get(id).is_some_and(|known| which == Which::All || !known.is_audited);
        over.map(|(id, _)| id.clone()).filter(is_wanted).collect()
    }

    /// The same, for what can be said only once the server is gone.
    pub(super) fn after_the_server(&self) -> Survey {
        Survey { is_quiet: true, builds: self.builds.clone(), ..Survey::default() }
    }
}

/// All builds of the projects here.
fn listed(yard: &Yard) -> Result<Vec<String>, String> {
    let (mut ids, mut api) = (Vec::new(), yard.api());
    for kind in ALL {
        let mut input = json!({ "projectName": kind.project() });
        loop {
            let page = api.get("ListBuildsForProject", &input)?;
            let found = page["ids"].as_array().map(Vec::as_slice).unwrap_or_default();
            ids.extend(found.iter().filter_map(|id| id.as_str().map(str::to_owned)));
            if page["nextToken"].is_null() {
                break;
            }
            input["nextToken"] = page["nextToken"].clone();
        }
    }
    Ok(ids)
}
