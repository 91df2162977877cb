//! Source credentials: what an account imports, and what a build's git gets of it.

use agent::answer::{Answer, GitCredential};
use api::Sensitive;
use api::codebuild::*;
use engine::Error;
use engine::references::{FromHere, Nowhere};
use executor::fake::Script;
use std::sync::Arc;
use store::records::{NewSecret, SecretValue};

use crate::user::*;

const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:git-AbCdEf";

async fn import(tester: &Tester, server: &str, auth: &str, token: &str) -> engine::Result<String> {
    let input = ImportSourceCredentialsInput {
        server_type: Some(server.into()),
        auth_type: Some(auth.into()),
        token: Some(Sensitive::new(token)),
        username: (auth == "BASIC_AUTH").then(|| "octo".to_string()),
        should_overwrite: None,
    };
    let output = tester.engine.import_source_credentials(&tester.caller, input).await?;
    Ok(output.arn.unwrap())
}

async fn list(tester: &Tester) -> Vec<SourceCredentialsInfo> {
    let input = ListSourceCredentialsInput::default();
    let output = tester.engine.list_source_credentials(&tester.caller, input).await.unwrap();
    output.source_credentials_infos.unwrap()
}

async fn delete(tester: &Tester, arn: &str) -> engine::Result<String> {
    let input = DeleteSourceCredentialsInput { arn: Some(arn.to_string()) };
    let output = tester.engine.delete_source_credentials(&tester.caller, input).await?;
    Ok(output.arn.unwrap())
}

/// Puts a secret into the vault in which `SECRET` is looked up.
async fn put_secret(tester: &Tester, text: &str) {
    let new = NewSecret { name: "git".into(), suffix: "AbCdEf".into(), document: "{}".into() };
    let value = SecretValue::Text(text.to_string());
    let scope = tester.scope();
    let made = tester.vault.create_secret(&scope, new, START_MS, move |draft, _| {
        draft.secret.stages.insert("AWSCURRENT".into(), "v1".into());
        draft.add("v1".into(), value, START_MS);
        Ok(Ok::<_, ()>(()))
    });
    made.await.unwrap().unwrap();
}

/// What the agent of a build of `project` is answered when git asks.
async fn answer(tester: &Tester, project: &str) -> Answer {
    let references = Some((Vec::new(), Vec::new()));
    let script = Script { references, git_credentials: true, ..Script::default() };
    tester.agents.script(move |_| script.clone());
    let build = tester.start_with(|input| input.project_name = Some(project.to_string())).await.unwrap();
    let id = build.id.unwrap();
    tester.done(&id).await;
    tester.agents.answers(uuid(&id)).remove(0)
}

async fn git(tester: &Tester, project: &str) -> Vec<(String, String, String)> {
    let Answer::Values { git, .. } = answer(tester, project).await else { panic!("it was refused") };
    git.into_iter().map(|GitCredential { url, username, password }| (url, username, password)).collect()
}

fn opens(url: &str, username: &str, password: &str) -> (String, String, String) {
    (url.to_string(), username.to_string(), password.to_string())
}

/// References are looked up in this server's own vault.
async fn tester() -> Tester {
    let mut tester = Tester::new().await;
    tester.config.references = Arc::new(FromHere::new(tester.vault.clone(), tester.config.clock.clone()));
    tester.restart().await;
    tester
}

// AP-110, AP-111, AP-112, SA-050, SA-051, SA-052
#[tokio::test]
async fn credentials_are_imported_replaced_listed_and_deleted() {
    let tester = Tester::new().await;
    let arn = import(&tester, "GITHUB", "PERSONAL_ACCESS_TOKEN", "one").await.unwrap();
    assert_eq!(arn, "arn:aws:codebuild:eu-west-1:123456789012:token/github");
    assert_eq!(import(&tester, "GITHUB", "SECRETS_MANAGER", SECRET).await.unwrap(), arn);
    import(&tester, "BITBUCKET", "BASIC_AUTH", "two").await.unwrap();
    let listed = list(&tester).await;
    let shown: Vec<_> = listed.iter().map(|one| (one.auth_type.clone(), one.resource.as_deref())).collect();
    assert_eq!(
        shown,
        [(Some(AuthType::BasicAuth), None), (Some(AuthType::SecretsManager), Some(SECRET))],
        "the last of a server type counts"
    );
    let capitals = arn.replace("token/github", "token/GitHub");
    assert_eq!(delete(&tester, &capitals).await.unwrap(), arn, "as it is kept");
    for (arn, expect) in [
        (arn.as_str(), "do not exist"),
        ("arn:aws:codebuild:us-east-1:123456789012:token/bitbucket", "do not exist"),
        ("arn:aws:codebuild:eu-west-1:999999999999:token/bitbucket", "do not exist"),
    ] {
        let Err(Error::NotFound(message)) = delete(&tester, arn).await else { panic!("{arn} is not there") };
        assert!(message.contains(expect), "{message}");
    }
    assert!(matches!(delete(&tester, "github").await, Err(Error::InvalidInput(_))));
    assert_eq!(list(&tester).await.len(), 1);
}

// AP-110
#[tokio::test]
async fn what_is_there_is_not_overwritten_if_it_shall_not() {
    let tester = Tester::new().await;
    import(&tester, "GITHUB", "PERSONAL_ACCESS_TOKEN", "one").await.unwrap();
    let input = ImportSourceCredentialsInput {
        server_type: Some(ServerType::Github),
        auth_type: Some(AuthType::PersonalAccessToken),
        token: Some(Sensitive::new("two")),
        should_overwrite: Some(false),
        username: None,
    };
    let refused = tester.engine.import_source_credentials(&tester.caller, input).await;
    let Err(Error::AlreadyExists(message)) = refused else { panic!("it is there") };
    assert!(message.contains("GITHUB") && !message.contains("two"), "{message}");
    assert_eq!(git(&tester, "demo").await, [opens("https://github.com", "x-access-token", "one")]);
}

// BS-055, SA-052, SA-054
#[tokio::test]
async fn git_is_offered_what_the_account_has_for_each_provider() {
    let tester = tester().await;
    put_secret(&tester, r#"{"ServerType": "GITHUB", "AuthType": "PERSONAL_ACCESS_TOKEN", "Token": "kept"}"#)
        .await;
    import(&tester, "GITHUB", "SECRETS_MANAGER", SECRET).await.unwrap();
    import(&tester, "BITBUCKET", "BASIC_AUTH", "two").await.unwrap();
    import(&tester, "GITHUB_ENTERPRISE", "PERSONAL_ACCESS_TOKEN", "nowhere").await.unwrap();
    let connection = "arn:aws:codeconnections:eu-west-1:123456789012:connection/c";
    import(&tester, "GITLAB", "CODECONNECTIONS", connection).await.unwrap();
    let expect = [
        opens("https://bitbucket.org", "octo", "two"),
        opens("https://github.com", "x-access-token", "kept"),
    ];
    assert_eq!(git(&tester, "demo").await, expect);
}

// SA-053
#[tokio::test]
async fn a_source_that_names_a_secret_itself_comes_before_the_account() {
    let tester = tester().await;
    put_secret(&tester, r#"{"ServerType": "GITHUB", "AuthType": "PERSONAL_ACCESS_TOKEN", "Token": "own"}"#)
        .await;
    import(&tester, "GITHUB", "PERSONAL_ACCESS_TOKEN", "the account's").await.unwrap();
    let change = |input: &mut CreateProjectInput| {
        let auth =
            SourceAuth { r#type: Some(SourceAuthType::SecretsManager), resource: Some(SECRET.to_string()) };
        input.source.as_mut().unwrap().auth = Some(auth);
    };
    tester.create_project("own", change).await.unwrap();
    assert_eq!(git(&tester, "own").await, [opens("https://github.com", "x-access-token", "own")]);
    let accounts = [opens("https://github.com", "x-access-token", "the account's")];
    assert_eq!(git(&tester, "demo").await, accounts);
}

// BS-051, SA-054
#[tokio::test]
async fn a_secret_that_holds_no_credential_fails_the_build_and_is_not_quoted() {
    let tester = tester().await;
    import(&tester, "GITHUB", "SECRETS_MANAGER", SECRET).await.unwrap();
    let refused = answer(&tester, "demo").await;
    assert!(
        matches!(&refused, Answer::Refused { message, .. } if message.contains("can't find")),
        "{refused:?}"
    );
    put_secret(&tester, r#"{"ServerType": "GITHUB", "AuthType": "OAUTH", "Token": "hunter2"}"#).await;
    let refused = answer(&tester, "demo").await;
    let Answer::Refused { message, .. } = refused else { panic!("OAUTH is not for secrets") };
    assert!(message.contains(SECRET) && message.contains("AuthType") && !message.contains("hunter2"));
}

#[tokio::test]
async fn accounts_do_not_see_each_others_credentials() {
    let tester = Tester::with(|config| {
        config.references = Arc::new(Nowhere { reason: "nothing".to_string() });
    })
    .await;
    import(&tester, "GITHUB", "PERSONAL_ACCESS_TOKEN", "one").await.unwrap();
    let other = caller_of("999999999999", "eve");
    let input = ListSourceCredentialsInput::default();
    let listed = tester.engine.list_source_credentials(&other, input).await.unwrap();
    assert_eq!(listed.source_credentials_infos.unwrap(), []);
}
