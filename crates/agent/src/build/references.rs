//! References to Parameter Store and Secrets Manager: which ones a build needs, and what its variables get from the answer.
//!
//! Where the values come from is the driver's business; see [`crate::answer`].

use std::collections::{BTreeMap, BTreeSet};

use buildspec::{Buildspec, SecretReference};
use serde_json::value::RawValue;

use super::context::failed;
use super::{Build, Ended};
use crate::answer::{Answer, GitCredential};
use crate::journal::{Context, Event, Secret};
use crate::mask::Mask;
use crate::plan::{Plan, Reference};
use crate::session::Halt;

/// What a build has been given from elsewhere.
#[derive(Default)]
pub(super) struct Fetched {
    pub(super) variables: BTreeMap<String, String>,
    pub(super) git: Vec<GitCredential>,
}

/// A variable that wins over all others of its name, and where its value is.
#[derive(Debug, PartialEq, Eq)]
struct Need {
    variable: String,
    value: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Parameter(String),
    /// The whole secret, or a key of its JSON.
    Secret(Secret, Option<String>),
}

impl Build<'_> {
    /// COMPAT: BS-046..051 fetches what the variables refer to, and masks it from here on (BS-052).
    pub(super) fn fetch_references(&mut self, spec: &Buildspec) -> Result<Ended, Halt> {
        let needs = match needs(spec, self.plan) {
            Ok(needs) => needs,
            Err(context) => return Ok(Err(context)),
        };
        if needs.is_empty() && !spec.env.git_credential_helper {
            return Ok(Ok(()));
        }
        let (parameters, secrets, git) =
            match self.session.ask(&question(&needs, spec.env.git_credential_helper))? {
                Answer::Values { parameters, secrets, git } => (parameters, secrets, git),
                Answer::Refused { status_code, message } => return Ok(Err(failed(&status_code, message))),
                Answer::Reports(_) => return Err(Halt::Fault(super::OTHER_ANSWER.into())),
            };
        let variables = match values(&needs, &parameters, &secrets) {
            Ok(variables) => variables,
            Err(context) => return Ok(Err(context)),
        };
        let passwords = git.iter().map(|credential| credential.password.as_str());
        let mask = Mask::new(variables.values().map(String::as_str).chain(passwords));
        self.session.log.set_mask(mask)?;
        self.fetched = Fetched { variables, git };
        Ok(Ok(()))
    }
}

/// COMPAT: BS-044 project and StartBuild variables win over the buildspec's of the same name whatever their kinds, and the
/// service's own over all. Only what wins is needed.
fn needs(spec: &Buildspec, plan: &Plan) -> Result<Vec<Need>, Context> {
    let mut taken: BTreeSet<&str> = plan.service_variables.keys().map(String::as_str).collect();
    let mut needs = Vec::new();
    for (variable, reference) in &plan.references {
        if taken.insert(variable) {
            let value = match reference {
                Reference::Parameter(name) => Place::Parameter(name.clone()),
                Reference::Secret(text) => secret(&SecretReference::parse(text).ok_or_else(|| {
                    secret_failure(format!("invalid secret reference in the variable {variable}: {text}"))
                })?),
            };
            needs.push(Need { variable: variable.clone(), value });
        }
    }
    taken.extend(plan.variables.keys().map(String::as_str));
    // Of two kinds in one buildspec the later documented wins.
    for (variable, reference) in &spec.env.secrets_manager {
        if taken.insert(variable) {
            needs.push(Need { variable: variable.clone(), value: secret(reference) });
        }
    }
    for (variable, name) in &spec.env.parameter_store {
        if taken.insert(variable) {
            needs.push(Need { variable: variable.clone(), value: Place::Parameter(name.clone()) });
        }
    }
    Ok(needs)
}

fn secret(reference: &SecretReference) -> Place {
    let whole = Secret {
        id: reference.secret_id.clone(),
        stage: reference.version_stage.clone(),
        version: reference.version_id.clone(),
    };
    Place::Secret(whole, reference.json_key.clone())
}

/// Each parameter and secret once, in the order of need.
fn question(needs: &[Need], git: bool) -> Event {
    let (mut parameters, mut secrets) = (Vec::new(), Vec::new());
    for need in needs {
        match &need.value {
            Place::Parameter(name) if !parameters.contains(name) => parameters.push(name.clone()),
            Place::Secret(secret, _) if !secrets.contains(secret) => secrets.push(secret.clone()),
            _ => {}
        }
    }
    Event::ReferencesNeeded { parameters, secrets, git }
}

fn values(
    needs: &[Need],
    parameters: &BTreeMap<String, String>,
    secrets: &BTreeMap<Secret, String>,
) -> Result<BTreeMap<String, String>, Context> {
    let value = |place: &Place| match place {
        // COMPAT: BS-047 the code really has spaces.
        Place::Parameter(name) => parameters
            .get(name)
            .cloned()
            .ok_or_else(|| failed("Decrypted Variables Error", format!("parameter does not exist: {name}"))),
        Place::Secret(secret, key) => {
            let text = secrets.get(secret);
            let text = text.ok_or_else(|| secret_failure(format!("secret does not exist: {}", secret.id)))?;
            match key {
                Some(key) => {
                    json_value(text, key).map_err(|why| secret_failure(format!("{}: {why}", secret.id)))
                }
                None => Ok(text.clone()),
            }
        }
    };
    needs.iter().map(|need| Ok((need.variable.clone(), value(&need.value)?))).collect()
}

/// COMPAT: BS-049 the value of a key: a text as it is, anything else as its JSON.
fn json_value(secret: &str, key: &str) -> Result<String, String> {
    // What is wrong with a secret must not quote it.
    let object: BTreeMap<String, &RawValue> = serde_json::from_str(secret)
        .map_err(|_| format!("the secret is not a JSON object, so it has no key {key}"))?;
    let value = object.get(key).ok_or_else(|| format!("the secret's JSON has no key {key}"))?;
    Ok(serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned()))
}

/// COMPAT: BS-051.
fn secret_failure(message: String) -> Context {
    failed("Secrets Manager Error Message", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    fn spec(env: &str) -> Buildspec {
        buildspec::parse(&format!("version: 0.2\nenv: {env}\n")).unwrap().buildspec
    }

    fn names(map: &[(&str, &str)]) -> BTreeMap<String, String> {
        map.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn current(id: &str) -> Secret {
        Secret { id: id.into(), stage: None, version: None }
    }

    #[test]
    fn only_what_wins_is_asked_for_and_once() {
        // BS-044, BS-046, BS-049, BS-050
        let spec = spec(
            "{parameter-store: {A: /a, B: /b, C: /c, D: /d, AWS_REGION: /r}, \
              secrets-manager: {C: 'db:user', E: 'db:pass', F: 'db::AWSPREVIOUS', G: 'db:::v1'}}",
        );
        let mut plan = plan();
        plan.variables = names(&[("A", "plain")]);
        plan.references = BTreeMap::from([
            ("B".into(), Reference::Secret("other:key".into())),
            ("H".into(), Reference::Parameter("/d".into())),
        ]);
        plan.service_variables = names(&[("AWS_REGION", "eu-west-1")]);
        let question = question(&needs(&spec, &plan).unwrap(), true);
        let Event::ReferencesNeeded { parameters, secrets, git: true } = question else {
            panic!("not a question");
        };
        assert_eq!(parameters, ["/d"]);
        let previous = Secret { stage: Some("AWSPREVIOUS".into()), ..current("db") };
        let version = Secret { version: Some("v1".into()), ..current("db") };
        assert_eq!(secrets, [current("other"), current("db"), previous, version]);
    }

    #[test]
    fn an_invalid_reference_of_the_project_is_a_failure_that_names_it() {
        // BS-050, BS-051
        let mut plan = plan();
        plan.references = BTreeMap::from([("X".into(), Reference::Secret("a:b:c:d:e".into()))]);
        let context = needs(&spec("{}"), &plan).unwrap_err();
        assert_eq!(context.status_code, "Secrets Manager Error Message");
        assert!(
            context.message.contains('X') && context.message.contains("a:b:c:d:e"),
            "{}",
            context.message
        );
    }

    #[test]
    fn values_come_from_parameters_whole_secrets_and_their_keys() {
        // BS-046, BS-049
        let spec = spec(
            "{parameter-store: {P: /p}, secrets-manager: {W: json, T: 'json:t', N: 'json:n', O: 'json:o'}}",
        );
        let json = r#"{"t": "a \"b\" \u00e9", "n": 1.10, "o": {"x": [1, 2]}}"#;
        let secrets = BTreeMap::from([(current("json"), json.to_owned())]);
        let found = values(&needs(&spec, &plan()).unwrap(), &names(&[("/p", "v")]), &secrets).unwrap();
        let expect = [("P", "v"), ("W", json), ("T", "a \"b\" é"), ("N", "1.10"), ("O", r#"{"x": [1, 2]}"#)];
        assert_eq!(found, names(&expect));
    }

    #[track_caller]
    fn check_failure(env: &str, secret: &str, code: &str, message: &str) {
        let secrets = BTreeMap::from([(current("s"), secret.to_owned())]);
        let context = values(&needs(&spec(env), &plan()).unwrap(), &BTreeMap::new(), &secrets).unwrap_err();
        assert_eq!((context.status_code.as_str(), context.message.as_str()), (code, message));
    }

    #[test]
    fn what_is_not_there_is_told_without_telling_secrets() {
        // BS-047, BS-051
        check_failure(
            "{parameter-store: {A: /gone}}",
            "",
            "Decrypted Variables Error",
            "parameter does not exist: /gone",
        );
        let code = "Secrets Manager Error Message";
        check_failure("{secrets-manager: {A: gone}}", "", code, "secret does not exist: gone");
        check_failure(
            "{secrets-manager: {A: 's:k'}}",
            "{\"hunter\": 2}",
            code,
            "s: the secret's JSON has no key k",
        );
        for secret in ["hunter2", "[\"hunter2\"]", "{\"hunter2\"", ""] {
            let message = "s: the secret is not a JSON object, so it has no key k";
            check_failure("{secrets-manager: {A: 's:k'}}", secret, code, message);
        }
    }
}
