//! Any text as a policy: it is refused, or adding a denial to it never allows more.

#![no_main]

use access::{Context, Policy, Principal, Request, Rights};
use libfuzzer_sys::fuzz_target;

const ACTIONS: [&str; 3] = ["codebuild:StartBuild", "s3:GetObject", "logs:GetLogEvents"];
const RESOURCES: [&str; 3] =
    ["arn:aws:codebuild:eu-west-1:111122223333:project/demo", "arn:aws:s3:::bucket/ann/key", "*"];

fuzz_target!(|text: &str| {
    let _ = Policy::of_resource(text);
    let Ok(policy) = Policy::of_user(text) else { return };
    let principal = Principal {
        account: "111122223333".into(),
        arn: "arn:aws:iam::111122223333:user/ann".into(),
        user_id: "AIDA".into(),
    };
    let denial = r#"{"Statement": {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}}"#;
    let denial = Policy::of_user(denial).expect("the policy is sound");
    let circumstances = Context::default().with("aws:SourceIp", "10.1.2.3").at(1_709_208_000_000);
    let one = Rights::new(principal.clone(), vec![policy.clone()]).under(&circumstances);
    let more = Rights::new(principal, vec![policy, denial]).under(&circumstances);
    for action in ACTIONS {
        for resource in RESOURCES {
            let request = Request::new(action, resource);
            assert!(more.may(&request).is_err() || one.may(&request).is_ok());
            assert!(!action.starts_with("s3:") || more.may(&request).is_err());
        }
    }
});
