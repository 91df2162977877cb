//! What becomes of a build's image.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::answer::Answer;
use agent::plan::Rootfs;
use api::codebuild::{
    Build, CredentialProviderType, ImagePullCredentialsType, RegistryCredential, StartBuildInput,
};
use engine::config::{Image, Login, Puller, ResolveImage, WantedImage};
use engine::references::{Asked, References, Resolving};
use executor::fake::Script;
use store::records::Scope;
use tokio::sync::Notify;

use crate::user::*;

/// A build that waits for an image no longer than this is not seen to wait.
const UNSEEN: Duration = Duration::from_millis(20);

/// The build, once its image has been asked for and has not come for as long as that.
async fn seen_waiting(tester: &Tester, asked: &Notify, id: &str) -> Build {
    asked.notified().await;
    tester.clock.advance(UNSEEN);
    tester.in_phase(id, "PROVISIONING").await
}

// LC-027, LC-028, LC-053
#[tokio::test]
async fn an_image_that_cannot_be_had_fails_provisioning() {
    let tester = Tester::with(|config| {
        config.images =
            ResolveImage::new(|image| async move { Err(format!("no such image: {}", image.name)) });
    })
    .await;
    let build = tester.start_with(|input| input.image_override = Some("x:1".to_string())).await.unwrap();
    let build = tester.done(&build.id.unwrap()).await;
    assert_eq!(status(&build), "FAILED");
    let (code, message) = context_of(&build, "PROVISIONING");
    assert_eq!(code, "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE");
    assert_eq!(
        message,
        "Unable to pull customer's container image. CannotPullContainerError: no such image: x:1"
    );
}

#[tokio::test]
async fn an_images_place_and_variables_reach_the_agent() {
    let tester = Tester::with(|config| {
        config.images = ResolveImage::new(|_| async {
            let variables = [("LANG".to_string(), "C".to_string())].into();
            Ok(Image { rootfs: Rootfs::Unpacked(PathBuf::from("/images/x").into()), variables, held: None })
        });
    })
    .await;
    let (seen, mut plans) = tokio::sync::mpsc::unbounded_channel();
    tester.agents.script(move |plan| {
        seen.send(plan.clone()).unwrap();
        Script::default()
    });
    tester.start_with(|input| input.image_override = Some("x:1".to_string())).await.unwrap();
    let plan = plans.recv().await.unwrap();
    assert!(
        matches!(&plan.environment.rootfs, Rootfs::Unpacked(image) if image.lock == Path::new("/images/x"))
    );
    assert_eq!(plan.environment.variables["LANG"], "C");
}

#[tokio::test]
async fn a_build_can_be_stopped_while_its_image_is_fetched_and_is_not_launched() {
    let asked = Arc::new(Notify::new());
    let tester = Tester::with(|config| {
        let asked = asked.clone();
        config.images = ResolveImage::new(move |_| {
            asked.notify_one();
            std::future::pending()
        });
    })
    .await;
    let build = tester.start_with(|input| input.image_override = Some("x:1".to_string())).await.unwrap();
    let id = build.id.unwrap();
    let build = seen_waiting(&tester, &asked, &id).await;
    assert!(build.logs.unwrap().group_name.is_some());
    tester.stop(&id).await;
    let build = tester.done(&id).await;
    assert_eq!(phases(&build)[2..], ["PROVISIONING STOPPED", "COMPLETED -"]);
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("STOPPED", 0));
}

// LC-043, LC-056
#[tokio::test]
async fn an_image_that_takes_longer_than_the_build_may_times_provisioning_out() {
    let asked = Arc::new(Notify::new());
    let tester = Tester::with(|config| {
        let asked = asked.clone();
        config.images = ResolveImage::new(move |_| {
            asked.notify_one();
            std::future::pending()
        });
    })
    .await;
    let over = |input: &mut StartBuildInput| {
        input.image_override = Some("x:1".to_string());
        input.timeout_in_minutes_override = Some(5);
    };
    let id = tester.start_with(over).await.unwrap().id.unwrap();
    seen_waiting(&tester, &asked, &id).await;
    let build = tester.done_in_time(&id, Duration::from_secs(60)).await;
    assert_eq!(phases(&build)[2..], ["PROVISIONING TIMED_OUT", "COMPLETED -"]);
    let expect = ("BUILD_TIMED_OUT".to_string(), "Build has timed out. ".to_string());
    assert_eq!((status(&build), context_of(&build, "PROVISIONING")), ("TIMED_OUT", expect));
    assert_eq!(tester.agents.starts(uuid(&id)), 0);
}

#[tokio::test]
async fn the_time_that_an_image_takes_is_not_the_commands() {
    let (asked, fetched) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let tester = Tester::with(|config| {
        let (asked, fetch) = (asked.clone(), fetched.clone());
        config.images = ResolveImage::new(move |_| {
            asked.notify_one();
            let fetch = fetch.clone();
            async move {
                fetch.notified().await;
                Ok(Image {
                    rootfs: Rootfs::Unpacked(PathBuf::from("/images/x").into()),
                    variables: Default::default(),
                    held: None,
                })
            }
        });
    })
    .await;
    let (seen, mut plans) = tokio::sync::mpsc::unbounded_channel();
    tester.agents.script(move |plan| {
        seen.send(plan.timeout_seconds).unwrap();
        Script::default()
    });
    let over = |input: &mut StartBuildInput| {
        input.image_override = Some("x:1".to_string());
        input.timeout_in_minutes_override = Some(5);
    };
    let id = tester.start_with(over).await.unwrap().id.unwrap();
    seen_waiting(&tester, &asked, &id).await;
    tester.clock.advance(Duration::from_secs(100) - UNSEEN);
    fetched.notify_one();
    assert_eq!(plans.recv().await, Some(200));
}

/// Knows one secret of one account.
#[derive(Debug)]
struct OneSecret(&'static str);

impl References for OneSecret {
    fn resolve<'a>(&'a self, scope: &'a Scope, asked: &'a Asked) -> Resolving<'a> {
        assert_eq!((scope.account.as_str(), asked.parameters.len(), asked.git), ("123456789012", 0, false));
        let secrets = asked.secrets.iter().map(|secret| (secret.clone(), self.0.to_string()));
        let known = asked.secrets.iter().all(|secret| secret.id == "team/registry");
        let answer = match known {
            true => {
                Answer::Values { parameters: Default::default(), secrets: secrets.collect(), git: Vec::new() }
            }
            false => Answer::Refused {
                status_code: "Secrets Manager Error Message".to_string(),
                message: format!("{}: ResourceNotFoundException", asked.secrets[0].id),
            },
        };
        Box::pin(async move { Ok(answer) })
    }
}

/// What is asked of those who fetch images, by a build of this puller, with this login in `team/registry`.
async fn asked_for(
    secret: &'static str,
    by_role: bool,
    credential: Option<&str>,
) -> Result<WantedImage, (String, String)> {
    let (seen, mut wanted) = tokio::sync::mpsc::unbounded_channel();
    let tester = Tester::with(|config| {
        config.references = Arc::new(OneSecret(secret));
        config.images = ResolveImage::new(move |image| {
            seen.send(image).unwrap();
            async {
                Ok(Image {
                    rootfs: Rootfs::Unpacked(PathBuf::from("/images/x").into()),
                    variables: Default::default(),
                    held: None,
                })
            }
        });
    })
    .await;
    let credential = credential.map(str::to_string);
    let over = |input: &mut StartBuildInput| {
        input.image_override = Some("registry.example/x:1".to_string());
        input.image_pull_credentials_type_override = Some(match by_role {
            true => ImagePullCredentialsType::ServiceRole,
            false => ImagePullCredentialsType::Codebuild,
        });
        input.registry_credential_override = credential.map(|credential| RegistryCredential {
            credential: Some(credential),
            credential_provider: Some(CredentialProviderType::SecretsManager),
        });
    };
    let id = tester.start_with(over).await.unwrap().id.unwrap();
    let build = tester.done(&id).await;
    match status(&build) {
        "SUCCEEDED" => Ok(wanted.recv().await.unwrap()),
        _ => Err(context_of(&build, "PROVISIONING")),
    }
}

// EN-024, EN-025
#[tokio::test]
async fn an_image_is_pulled_with_the_servers_logins_or_with_the_projects_own_and_no_other() {
    let sound = r#"{"username": "robot", "password": "s3cret", "note": "mine"}"#;
    let puller = async |by_role, credential| asked_for(sound, by_role, credential).await.unwrap().puller;
    assert_eq!(puller(false, None).await, Puller::Server);
    assert_eq!(puller(true, None).await, Puller::Project(None));
    let login = Login { username: "robot".to_string(), password: "s3cret".to_string() };
    let project = puller(true, Some("team/registry")).await;
    assert_eq!(project, Puller::Project(Some(login)));
    assert!(!format!("{project:?}").contains("s3cret"));
}

// EN-025, LC-053
#[tokio::test]
async fn a_registry_login_that_cannot_be_had_fails_provisioning_and_is_not_shown() {
    for (secret, credential, said) in [
        ("", "none/such", "registryCredential none/such: ResourceNotFoundException"),
        ("robot:s3cret", "team/registry", "registryCredential team/registry: the secret is no JSON object"),
        (r#"{"username": "robot"}"#, "team/registry", "with the texts username and password"),
        (r#"{"username": "robot", "password": ["s3cret"]}"#, "team/registry", "with the texts username"),
    ] {
        let (code, message) = asked_for(secret, true, Some(credential)).await.unwrap_err();
        assert_eq!(code, "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE");
        assert!(message.starts_with("Unable to pull customer's container image. CannotPullContainerError: "));
        assert!(message.contains(said) && !message.contains("s3cret"), "{message}");
    }
}
