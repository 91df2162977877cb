//! Idempotency tokens, RetryBuild, automatic retries.

use std::time::Duration;

use api::codebuild::*;
use engine::Error;

use crate::user::*;

#[tokio::test]
async fn a_token_means_one_build_for_five_minutes() {
    let tester = Tester::new().await;
    let with_token = |input: &mut StartBuildInput| input.idempotency_token = Some("once".to_string());
    let first = tester.start_with(with_token).await.unwrap().id;
    assert_eq!(tester.start_with(with_token).await.unwrap().id, first);
    let other = tester
        .start_with(|input| {
            with_token(input);
            input.timeout_in_minutes_override = Some(7);
        })
        .await;
    assert!(matches!(other, Err(Error::InvalidInput(_))), "{other:?}");
    tester.clock.advance(Duration::from_secs(5 * 60));
    assert_ne!(tester.start_with(with_token).await.unwrap().id, first);
}

#[tokio::test]
async fn a_retry_is_a_new_build_with_the_same_settings() {
    let tester = Tester::new().await;
    let first = tester
        .start_with(|input| {
            input.timeout_in_minutes_override = Some(7);
            input.source_version = Some("v1".to_string());
        })
        .await
        .unwrap();
    let id = first.id.clone().unwrap();
    tester.done(&id).await;
    let input = RetryBuildInput { id: first.arn, idempotency_token: None };
    let retried = tester.engine.retry_build(&tester.caller, input).await.unwrap().build.unwrap();
    assert_eq!((retried.build_number, retried.timeout_in_minutes), (Some(2), Some(7)));
    assert_eq!(retried.source_version.as_deref(), Some("v1"));
    assert_ne!(retried.id.as_deref(), Some(id.as_str()));
    assert_eq!(status(&tester.done(&retried.id.unwrap()).await), "SUCCEEDED");
}
