//! What builds refer to: looked up when the agent asks, by whoever drives the build then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent::answer::Answer;
use agent::journal::{Phase, Secret};
use agent::plan::Reference;
use api::codebuild::*;
use engine::references::{Asked, Nowhere, References, Resolving};
use executor::fake::Script;
use store::records::Scope;

use crate::user::*;

/// Knows one value for everything, and gives it once it may.
#[derive(Debug)]
struct Place {
    open: tokio::sync::watch::Sender<bool>,
    asked: AtomicUsize,
}

impl Place {
    fn new(open: bool) -> Arc<Place> {
        Arc::new(Place { open: tokio::sync::watch::Sender::new(open), asked: AtomicUsize::new(0) })
    }
}

impl References for Place {
    fn resolve<'a>(&'a self, scope: &'a Scope, asked: &'a Asked) -> Resolving<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let mut open = self.open.subscribe();
            open.wait_for(|open| *open).await.unwrap();
            Ok(values(scope, asked))
        })
    }
}

fn values(scope: &Scope, asked: &Asked) -> Answer {
    let value = |name: &String| format!("{name} of {}", scope.account);
    Answer::Values {
        parameters: asked.parameters.iter().map(|name| (name.clone(), value(name))).collect(),
        secrets: asked.secrets.iter().map(|secret| (secret.clone(), value(&secret.id))).collect(),
        git: Vec::new(),
    }
}

fn asked() -> Asked {
    let secret = Secret { id: "db".to_string(), stage: None, version: None };
    Asked { parameters: vec!["/app/key".to_string()], secrets: vec![secret], ..Asked::default() }
}

async fn tester(place: Arc<dyn References>) -> Tester {
    let tester = Tester::with(|config| config.references = place).await;
    tester.agents.script(|_| {
        let Asked { parameters, secrets, .. } = asked();
        Script { references: Some((parameters, secrets)), ..Script::default() }
    });
    tester
}

// BS-046, BS-049
#[tokio::test]
async fn an_agent_that_asks_is_answered_and_the_build_goes_on() {
    let tester = tester(Place::new(true)).await;
    let id = tester.start().await;
    assert_eq!(status(&tester.done(&id).await), "SUCCEEDED");
    assert_eq!(tester.agents.answers(uuid(&id)), [values(&tester.scope(), &asked())]);
}

// BS-047, LC-055
#[tokio::test]
async fn what_cannot_be_fetched_fails_download_source_with_the_reason() {
    let tester = tester(Arc::new(Nowhere { reason: "set it up".to_string() })).await;
    let id = tester.start().await;
    let build = tester.done(&id).await;
    assert_eq!(status(&build), "FAILED");
    let (code, message) = context_of(&build, "DOWNLOAD_SOURCE");
    assert_eq!(code, "Decrypted Variables Error");
    assert_eq!(message, "cannot fetch parameter /app/key, secret db: set it up");
}

/// Is away when it is first asked.
#[derive(Debug, Default)]
struct Away(AtomicUsize);

impl References for Away {
    fn resolve<'a>(&'a self, scope: &'a Scope, asked: &'a Asked) -> Resolving<'a> {
        Box::pin(async move {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Err(engine::Error::Unavailable("The database is unavailable".to_string())),
                _ => Ok(values(scope, asked)),
            }
        })
    }
}

#[tokio::test]
async fn a_database_that_is_away_when_an_agent_asks_is_asked_again() {
    let place = Arc::new(Away::default());
    let tester = tester(place.clone()).await;
    let id = tester.start().await;
    assert_eq!(status(&tester.done_in_time(&id, Duration::from_millis(100)).await), "SUCCEEDED");
    assert_eq!(tester.agents.answers(uuid(&id)), [values(&tester.scope(), &asked())]);
    assert_eq!(place.0.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn whoever_takes_a_waiting_build_over_answers_it() {
    let place = Place::new(false);
    let mut tester = tester(place.clone()).await;
    let id = tester.start().await;
    eventually(|| async { place.asked.load(Ordering::Relaxed) == 1 }).await;
    tester.restart().await;
    eventually(|| async { place.asked.load(Ordering::Relaxed) == 2 }).await;
    assert_eq!(tester.get(&id).await.current_phase.as_deref(), Some("DOWNLOAD_SOURCE"));
    place.open.send_replace(true);
    assert_eq!(status(&tester.done(&id).await), "SUCCEEDED");
    assert_eq!(tester.agents.starts(uuid(&id)), 1);
}

#[tokio::test]
async fn a_build_that_was_answered_is_not_looked_up_for_again() {
    let place = Place::new(true);
    let mut tester = tester(place.clone()).await;
    tester.agents.script(|_| {
        let Asked { parameters, secrets, .. } = asked();
        let references = Some((parameters, secrets));
        Script { references, hold_in: Some(Phase::Build), ..Script::default() }
    });
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.restart().await;
    tester.agents.release(uuid(&id));
    assert_eq!(status(&tester.done(&id).await), "SUCCEEDED");
    assert_eq!(place.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_build_that_waits_for_values_can_be_stopped() {
    let place = Place::new(false);
    let tester = tester(place.clone()).await;
    let id = tester.start().await;
    eventually(|| async { place.asked.load(Ordering::Relaxed) == 1 }).await;
    tester.stop(&id).await;
    assert_eq!(status(&tester.done(&id).await), "STOPPED");
}

// BS-044, BS-050
#[tokio::test]
async fn a_name_counts_once_over_plain_values_parameters_and_secrets() {
    let variable = |name: &str, value: &str, kind: Option<EnvironmentVariableType>| EnvironmentVariable {
        name: Some(name.to_string()),
        value: Some(value.to_string()),
        r#type: kind,
    };
    let plans = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tester = Tester::new().await;
    let seen = plans.clone();
    tester.agents.script(move |plan| {
        seen.lock().unwrap().push((plan.variables.clone(), plan.references.clone()));
        Script::default()
    });
    use EnvironmentVariableType::{ParameterStore, Plaintext, SecretsManager};
    let change = |input: &mut CreateProjectInput| {
        input.environment.as_mut().unwrap().environment_variables = Some(vec![
            variable("A", "/a", Some(ParameterStore)),
            variable("B", "plain", None),
            variable("C", "c:key", Some(SecretsManager)),
            variable("D", "/d", Some(ParameterStore)),
        ]);
    };
    tester.create_project("mixed", change).await.unwrap();
    let build = tester.start_with(|input| {
        input.project_name = Some("mixed".to_string());
        input.environment_variables_override =
            Some(vec![variable("A", "now plain", Some(Plaintext)), variable("B", "b", Some(SecretsManager))]);
    });
    let id = build.await.unwrap().id.unwrap();
    tester.done(&id).await;
    let (variables, references) = plans.lock().unwrap().remove(0);
    assert_eq!(variables, [("A".to_string(), "now plain".to_string())].into());
    let expect = [
        ("B".to_string(), Reference::Secret("b".to_string())),
        ("C".to_string(), Reference::Secret("c:key".to_string())),
        ("D".to_string(), Reference::Parameter("/d".to_string())),
    ];
    assert_eq!(references, expect.into());
}
