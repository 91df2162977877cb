//! Public projects, cache generations, curated images.

use api::codebuild::*;
use engine::Error;

use crate::user::*;

const PROJECT: &str = "arn:aws:codebuild:eu-west-1:123456789012:project/demo";
const ROLE: &str = "arn:aws:iam::123456789012:role/readers";

async fn show(tester: &Tester, arn: &str, to: &str, role: Option<&str>) -> engine::Result<Option<String>> {
    let input = UpdateProjectVisibilityInput {
        project_arn: Some(arn.to_string()),
        project_visibility: Some(to.into()),
        resource_access_role: role.map(str::to_string),
    };
    let output = tester.engine.update_project_visibility(&tester.caller, input).await?;
    assert_eq!(output.project_arn.as_deref(), Some(arn));
    assert_eq!(output.project_visibility, Some(to.into()));
    Ok(output.public_project_alias)
}

// AP-067
#[tokio::test]
async fn a_public_project_has_an_alias_that_comes_back() {
    let tester = Tester::new().await;
    let alias = show(&tester, PROJECT, "PUBLIC_READ", None).await.unwrap().unwrap();
    assert!(alias.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{alias}");
    assert_eq!(show(&tester, PROJECT, "PUBLIC_READ", Some(ROLE)).await.unwrap().as_ref(), Some(&alias));
    let input = BatchGetProjectsInput { names: Some(vec!["demo".to_string()]) };
    let found = tester.engine.batch_get_projects(&tester.caller, input.clone()).await.unwrap();
    let project = found.projects.unwrap().remove(0);
    assert_eq!(project.project_visibility, Some(ProjectVisibilityType::PublicRead));
    assert_eq!(project.public_project_alias.as_ref(), Some(&alias));
    assert_eq!(project.resource_access_role.as_deref(), Some(ROLE));

    assert_eq!(show(&tester, PROJECT, "PRIVATE", None).await.unwrap(), None);
    let found = tester.engine.batch_get_projects(&tester.caller, input).await.unwrap();
    assert_eq!(found.projects.unwrap().remove(0).public_project_alias, None);
    assert_eq!(show(&tester, PROJECT, "PUBLIC_READ", None).await.unwrap(), Some(alias));
}

// AP-067
#[tokio::test]
async fn only_a_project_by_its_arn_can_be_public() {
    let tester = Tester::new().await;
    for (arn, found) in [
        ("demo", None),
        ("arn:aws:codebuild:eu-west-1:123456789012:build/demo:1", None),
        ("arn:aws:codebuild:eu-west-1:123456789012:project/gone", Some(())),
        ("arn:aws:codebuild:eu-west-1:999999999999:project/demo", Some(())),
    ] {
        let refused = show(&tester, arn, "PUBLIC_READ", Some(ROLE)).await;
        match found {
            None => assert!(matches!(refused, Err(Error::InvalidInput(_))), "{arn}"),
            Some(()) => assert!(matches!(refused, Err(Error::NotFound(_))), "{arn}"),
        }
    }
}

// AP-066
#[tokio::test]
async fn a_projects_cache_is_invalidated_by_name_or_arn() {
    let tester = Tester::new().await;
    for name in ["demo", PROJECT] {
        let input = InvalidateProjectCacheInput { project_name: Some(name.to_string()) };
        tester.engine.invalidate_project_cache(&tester.caller, input).await.unwrap();
    }
    let generation = tester.records.cache_generation(&tester.scope(), "demo").await.unwrap();
    assert_eq!(generation, Some(2));
    let input = InvalidateProjectCacheInput { project_name: Some("gone".to_string()) };
    let Err(Error::NotFound(message)) = tester.engine.invalidate_project_cache(&tester.caller, input).await
    else {
        panic!("it is not there")
    };
    assert_eq!(
        message,
        "The provided project arn:aws:codebuild:eu-west-1:123456789012:project/gone does not exist"
    );
}

// AP-068, EN-033
#[tokio::test]
async fn curated_images_are_those_that_builds_can_have() {
    let input = ListCuratedEnvironmentImagesInput::default;
    let names = |output: ListCuratedEnvironmentImagesOutput| -> Vec<(String, Vec<String>)> {
        let platforms = output.platforms.unwrap().into_iter();
        platforms
            .map(|platform| {
                let images = platform.languages.unwrap().remove(0).images.unwrap().into_iter();
                let names =
                    images.map(|image| format!("{}: {}", image.name.unwrap(), image.description.unwrap()));
                (platform.platform.unwrap().to_string(), names.collect())
            })
            .collect()
    };
    let tester = Tester::new().await;
    let all = names(tester.engine.list_curated_environment_images(&tester.caller, input()).await.unwrap());
    assert_eq!(
        all.iter().map(|(platform, _)| platform.as_str()).collect::<Vec<_>>(),
        ["AMAZON_LINUX", "UBUNTU"]
    );
    assert!(all[1].1.contains(&"aws/codebuild/standard:7.0: The host's own system".to_string()), "{all:?}");

    let tester = Tester::with(|config| {
        config.host_images = vec!["host".to_string()];
        config.mapped_images = ["aws/codebuild/standard:7.0".to_string(), "mine".to_string()].into();
    })
    .await;
    let one = names(tester.engine.list_curated_environment_images(&tester.caller, input()).await.unwrap());
    let expect = "aws/codebuild/standard:7.0: An image of the operator's choice".to_string();
    assert_eq!(one, [("UBUNTU".to_string(), vec![expect])]);
}
