//! Policies through the crate's face: what they allow, what they deny, what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use access::{Context, Error, Holder, Policy, Principal, Reason, Request, Rights, limits};
use proptest::prelude::*;

const PROJECT: &str = "arn:aws:codebuild:eu-west-1:111122223333:project/demo";

fn ann() -> Principal {
    Principal {
        account: "111122223333".to_owned(),
        arn: "arn:aws:iam::111122223333:user/ann".to_owned(),
        user_id: "AIDAANN".to_owned(),
    }
}

fn rights(policies: &[&str]) -> Rights {
    let policies: Vec<Policy> = policies.iter().map(|text| Policy::of_user(text).unwrap()).collect();
    Rights::new(ann(), policies)
}

fn of(statements: &str) -> String {
    format!(r#"{{"Version": "2012-10-17", "Statement": {statements}}}"#)
}

fn may(policies: &[&str], action: &str, resource: &str) -> Option<Reason> {
    rights(policies).may(&Request::new(action, resource)).err().map(|denied| denied.reason)
}

const ALLOWED: Option<Reason> = None;
const NOBODY_ALLOWS: Option<Reason> = Some(Reason::NoUserPolicy);
const DENIED: Option<Reason> = Some(Reason::UserPolicyDenies);

#[test]
fn nothing_is_allowed_that_no_policy_allows() {
    assert_eq!(may(&[], "codebuild:StartBuild", PROJECT), NOBODY_ALLOWS);
}

// AP-004
#[test]
fn a_refusal_says_what_aws_says() {
    let say = |policies: &[&str]| {
        rights(policies).may(&Request::new("codebuild:StartBuild", PROJECT)).unwrap_err().to_string()
    };
    assert_eq!(
        say(&[]),
        "User: arn:aws:iam::111122223333:user/ann is not authorized to perform: codebuild:StartBuild on resource: \
         arn:aws:codebuild:eu-west-1:111122223333:project/demo because no identity-based policy allows the \
         codebuild:StartBuild action"
    );
    let deny = of(r#"{"Effect": "Deny", "Action": "codebuild:*", "Resource": "*"}"#);
    assert_eq!(
        say(&[&deny]),
        "User: arn:aws:iam::111122223333:user/ann is not authorized to perform: codebuild:StartBuild on resource: \
         arn:aws:codebuild:eu-west-1:111122223333:project/demo with an explicit deny in an identity-based policy"
    );
}

#[test]
fn actions_and_resources_select_what_they_name() {
    let other = "arn:aws:codebuild:eu-west-1:111122223333:project/other";
    let allow = |elements: &str| of(&format!(r#"[{{"Effect": "Allow", {elements}}}]"#));
    for (elements, action, resource, expect) in [
        (r#""Action": "*", "Resource": "*""#, "s3:GetObject", "arn:aws:s3:::b/k", ALLOWED),
        (r#""Action": "codebuild:startbuild", "Resource": "*""#, "codebuild:StartBuild", PROJECT, ALLOWED),
        (r#""Action": "CODEBUILD:Start?uild", "Resource": "*""#, "codebuild:StartBuild", PROJECT, ALLOWED),
        (
            r#""Action": ["codebuild:Batch*", "codebuild:List*"], "Resource": "*""#,
            "codebuild:StartBuild",
            PROJECT,
            NOBODY_ALLOWS,
        ),
        (
            r#""Action": ["codebuild:Batch*", "codebuild:List*"], "Resource": "*""#,
            "codebuild:ListBuilds",
            "*",
            ALLOWED,
        ),
        (
            r#""Action": "codebuild:*", "Resource": "arn:aws:codebuild:*:*:project/demo""#,
            "codebuild:StartBuild",
            PROJECT,
            ALLOWED,
        ),
        (
            r#""Action": "codebuild:*", "Resource": "arn:aws:codebuild:*:*:project/demo""#,
            "codebuild:StartBuild",
            other,
            NOBODY_ALLOWS,
        ),
        (
            r#""Action": "codebuild:*", "Resource": "arn:aws:codebuild:*:*:project/DEMO""#,
            "codebuild:StartBuild",
            PROJECT,
            NOBODY_ALLOWS,
        ),
        (
            r#""Action": "codebuild:*", "Resource": "arn:aws:codebuild:*:*:project/demo""#,
            "codebuild:ListProjects",
            "*",
            NOBODY_ALLOWS,
        ),
        (
            r#""NotAction": "codebuild:Delete*", "Resource": "*""#,
            "codebuild:DeleteProject",
            PROJECT,
            NOBODY_ALLOWS,
        ),
        (r#""NotAction": "codebuild:Delete*", "Resource": "*""#, "codebuild:StartBuild", PROJECT, ALLOWED),
        (
            r#""Action": "*", "NotResource": "arn:aws:codebuild:*:*:project/demo""#,
            "codebuild:StartBuild",
            PROJECT,
            NOBODY_ALLOWS,
        ),
        (
            r#""Action": "*", "NotResource": "arn:aws:codebuild:*:*:project/demo""#,
            "codebuild:StartBuild",
            other,
            ALLOWED,
        ),
        // A letter that looks alike is another letter, and so is one that Unicode folds to an ASCII one.
        (
            r#""Action": "*", "Resource": "arn:aws:codebuild:*:*:project/demo""#,
            "codebuild:StartBuild",
            "arn:aws:codebuild:eu-west-1:111122223333:project/dem\u{43e}",
            NOBODY_ALLOWS,
        ),
        (r#""Action": "kms:*", "Resource": "*""#, "\u{212a}ms:Decrypt", "*", NOBODY_ALLOWS),
    ] {
        assert_eq!(may(&[&allow(elements)], action, resource), expect, "{elements} on {action} {resource}");
    }
}

#[test]
fn a_resource_may_have_several_names() {
    let group = "arn:aws:logs:eu-west-1:111122223333:log-group:/demo";
    let policy = |effect: &str, name: &str| {
        of(&format!(r#"{{"Effect": "{effect}", "Action": "*", "Resource": "{name}"}}"#))
    };
    let all = policy("Allow", "*");
    let starred = format!("{group}:*");
    let answer = |policies: &[&str]| {
        let request = Request::new("logs:GetLogEvents", group).also(starred.as_str());
        rights(policies).may(&request).err().map(|denied| denied.reason)
    };
    for name in [group, &starred] {
        assert_eq!(answer(&[&policy("Allow", name)]), ALLOWED);
        assert_eq!(answer(&[&all, &policy("Deny", name)]), DENIED);
    }
    assert_eq!(answer(&[&policy("Allow", "arn:aws:logs:*:*:log-group:/other")]), NOBODY_ALLOWS);
}

#[test]
fn a_denial_beats_whatever_allows() {
    let all = of(r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#);
    let none = of(r#"{"Effect": "Deny", "Action": "codebuild:Stop*", "Resource": "*"}"#);
    assert_eq!(may(&[&all, &none], "codebuild:StopBuild", PROJECT), DENIED);
    assert_eq!(may(&[&none, &all], "codebuild:StopBuild", PROJECT), DENIED);
    assert_eq!(may(&[&none, &all], "codebuild:StartBuild", PROJECT), ALLOWED);
}

#[test]
fn circumstances_decide_where_a_policy_says_so() {
    let policy = of(r#"{"Effect": "Allow", "Action": "codebuild:*", "Resource": "*", "Condition": {
        "StringEquals": {"aws:ResourceTag/team": "${aws:username}"},
        "IpAddress": {"aws:SourceIp": ["10.0.0.0/8"]}}}"#);
    let may = |tag: &str, from: &str| {
        let about = Context::default().with_resource_tags([("team", tag)]);
        let request = Request::new("codebuild:StartBuild", PROJECT).about(about);
        rights(&[&policy]).under(&Context::default().with("aws:SourceIp", from)).may(&request).is_ok()
    };
    assert!(may("ann", "10.1.2.3"));
    assert!(!may("bob", "10.1.2.3"));
    assert!(!may("ann", "11.1.2.3"));
}

#[test]
fn between_accounts_both_sides_must_allow() {
    let user = of(r#"{"Effect": "Allow", "Action": "codebuild:*", "Resource": "*"}"#);
    let shared = |principal: &str, effect: &str| {
        let text = of(&format!(
            r#"{{"Effect": "{effect}", "Principal": {principal}, "Action": "codebuild:BatchGetProjects", "Resource": "*"}}"#
        ));
        Policy::of_resource(&text).unwrap()
    };
    let (own, foreign) = ("111122223333", "444455556666");
    let account = r#"{"AWS": "111122223333"}"#;
    let person = r#"{"AWS": ["arn:aws:iam::111122223333:user/ann"]}"#;
    let somebody = r#"{"AWS": "arn:aws:iam::111122223333:user/bob"}"#;
    for (users, principal, effect, holder, expect) in [
        (Some(&user), Some(account), "Allow", foreign, ALLOWED),
        (Some(&user), Some(person), "Allow", foreign, ALLOWED),
        (Some(&user), Some("\"*\""), "Allow", foreign, ALLOWED),
        (Some(&user), Some(somebody), "Allow", foreign, Some(Reason::NoResourcePolicy)),
        (Some(&user), None, "Allow", foreign, Some(Reason::NoResourcePolicy)),
        (None, Some(person), "Allow", foreign, NOBODY_ALLOWS),
        (None, Some(account), "Allow", foreign, NOBODY_ALLOWS),
        (Some(&user), Some(account), "Deny", foreign, Some(Reason::ResourcePolicyDenies)),
        // In the own account a resource may let a person in; naming the account leaves it to the account's policies.
        (None, Some(person), "Allow", own, ALLOWED),
        (None, Some(account), "Allow", own, NOBODY_ALLOWS),
        (Some(&user), None, "Allow", own, ALLOWED),
        (Some(&user), Some(person), "Deny", own, Some(Reason::ResourcePolicyDenies)),
        (Some(&user), Some(r#"{"Service": "codebuild.amazonaws.com"}"#), "Deny", own, ALLOWED),
    ] {
        let policies: Vec<&str> = users.iter().map(|text| text.as_str()).collect();
        let policy = principal.map(|principal| shared(principal, effect));
        let request = Request::new("codebuild:BatchGetProjects", PROJECT);
        let holder_of = Holder { account: holder, policy: policy.as_ref() };
        let answer = rights(&policies).may_with(&request, holder_of).err().map(|denied| denied.reason);
        assert_eq!(answer, expect, "{users:?} {principal:?} {effect} of {holder}");
    }
}

#[test]
fn not_principal_denies_everybody_who_is_not_named_himself() {
    let denies = |named: &str| {
        let text = of(&format!(
            r#"{{"Effect": "Deny", "NotPrincipal": {{"AWS": "{named}"}}, "Action": "*", "Resource": "*"}}"#
        ));
        let policy = Policy::of_resource(&text).unwrap();
        let holder = Holder { account: "111122223333", policy: Some(&policy) };
        Rights::everything(ann()).may_with(&Request::new("codebuild:StartBuild", PROJECT), holder).is_err()
    };
    assert!(!denies("arn:aws:iam::111122223333:user/ann"));
    assert!(denies("arn:aws:iam::111122223333:user/bob"));
    assert!(denies("111122223333"));
}

#[test]
fn a_resource_that_shares_only_some_actions_can_say_so() {
    let policy = |action: &str| {
        let text =
            of(&format!(r#"{{"Effect": "Allow", "Principal": "*", "Action": {action}, "Resource": "*"}}"#));
        Policy::of_resource(&text).unwrap()
    };
    let shareable = ["codebuild:BatchGetProjects", "codebuild:BatchGetBuilds"];
    assert!(policy(r#"["codebuild:batchgetprojects", "codebuild:BatchGetBuilds"]"#).names_only(&shareable));
    assert!(!policy(r#"["codebuild:BatchGetProjects", "codebuild:StartBuild"]"#).names_only(&shareable));
    assert!(!policy(r#""codebuild:Batch*""#).names_only(&shareable));
}

#[test]
fn what_is_not_understood_is_an_error_that_names_it() {
    let statement =
        |more: &str| of(&format!(r#"{{"Effect": "Deny", "Action": "*", "Resource": "*"{more}}}"#));
    for (text, expect) in [
        ("", "not JSON"),
        ("[]", "no object"),
        ("{}", "has no Statement"),
        (r#"{"Statement": []}"#, "has no Statement"),
        (r#"{"Version": "2020-01-01", "Statement": {}}"#, "2012-10-17"),
        (r#"{"Version": 2012, "Statement": {}}"#, "Version: `2012` is no text"),
        (r#"{"Statement": {}, "Author": "a"}"#, "`Author`"),
        (&of(r#"{"Action": "*", "Resource": "*"}"#), "Statement[0] has no Effect"),
        (&of(r#"{"Effect": "deny", "Action": "*", "Resource": "*"}"#), "`deny` is neither Allow nor Deny"),
        (&of(r#"{"Effect": "Deny", "Resource": "*"}"#), "Statement[0] has no Action"),
        (&of(r#"{"Effect": "Deny", "Action": "*"}"#), "Statement[0] has no Resource"),
        (&of(r#"{"Effect": "Deny", "Action": [], "Resource": "*"}"#), "has no value"),
        (&of(r#"{"Effect": "Deny", "Action": "StartBuild", "Resource": "*"}"#), "service:Action"),
        (&of(r#"{"Effect": "Deny", "Action": "codebuild:Start Build", "Resource": "*"}"#), "service:Action"),
        (&of(r#"{"Effect": "Deny", "Action": "*", "Resource": "project/demo"}"#), "ARN"),
        (&statement(r#", "NotAction": "s3:*""#), "beside Action"),
        (&statement(r#", "NotResource": "*""#), "beside Resource"),
        (&statement(r#", "Principal": "*""#), "`Principal`"),
        (&statement(r#", "Sid": 1"#), "Statement[0].Sid: `1` is no text"),
        (&statement(r#", "Conditions": {}"#), "`Conditions`"),
        (&statement(r#", "Condition": []"#), "no object"),
        (&statement(r#", "Condition": {"StringIs": {"aws:username": "a"}}"#), "`StringIs`"),
        (&statement(r#", "Condition": {"Bool": {"aws:frogs": true}}"#), "`aws:frogs`"),
        (&statement(r#", "Condition": {"Bool": {"aws:SecureTransport": null}}"#), "null"),
        (&statement(r#", "Effect": "Allow""#), "`Effect` is there twice"),
        (r#"{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}, "Statement": []}"#, "twice"),
    ] {
        let message = Policy::of_user(text).unwrap_err().to_string();
        assert!(message.contains(expect), "{text}: {message}");
    }
    for (text, expect) in [
        (statement(""), "has no Principal"),
        (statement(r#", "Principal": "111122223333""#), "neither `*`"),
        (statement(r#", "Principal": {"AWS": "ann"}"#), "`ann`"),
        (statement(r#", "Principal": {"Aws": "*"}"#), "`Aws`"),
        (statement(r#", "Principal": {}"#), "names nobody"),
        (statement(r#", "Principal": "*", "NotPrincipal": "*""#), "beside Principal"),
        (
            of(
                r#"{"Effect": "Allow", "NotPrincipal": {"AWS": "111122223333"}, "Action": "*", "Resource": "*"}"#,
            ),
            "NotPrincipal",
        ),
    ] {
        let message = Policy::of_resource(&text).unwrap_err().to_string();
        assert!(message.contains(expect), "{text}: {message}");
    }
}

#[test]
fn policies_have_limits() {
    let long = of(&format!(
        r#"{{"Effect": "Deny", "Action": "*", "Resource": "*", "Sid": "{}"}}"#,
        "a".repeat(limits::POLICY_BYTES)
    ));
    assert!(matches!(Policy::of_user(&long), Err(Error::TooLong { .. })));
    let actions = vec!["\"a:b\""; limits::VALUES + 1].join(",");
    let many = of(&format!(r#"{{"Effect": "Deny", "Action": [{actions}], "Resource": "*"}}"#));
    assert!(matches!(Policy::of_user(&many), Err(Error::TooMany { .. })));
    let statements = vec![r#"{"Effect":"Deny","Action":"*","Resource":"*"}"#; limits::STATEMENTS + 1];
    let many = of(&format!("[{}]", statements.join(",")));
    assert!(matches!(Policy::of_user(&many), Err(Error::TooMany { .. })));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(matches!(Policy::of_user(&deep), Err(Error::Json(_))));
    let wide = of(&format!(
        r#"{{"Effect": "Deny", "Action": "*", "Resource": "arn:aws:s3:::{}"}}"#,
        "a".repeat(limits::VALUE_CHARACTERS + 1)
    ));
    assert!(matches!(Policy::of_user(&wide), Err(Error::Wrong { .. })));
}

/// Small policies over a small world, so that statements and requests meet.
fn statement() -> impl Strategy<Value = String> {
    let effect = prop_oneof![Just("Allow"), Just("Deny")];
    let action = prop_oneof![Just("Action"), Just("NotAction")];
    let actions = proptest::sample::subsequence(vec!["a:One", "a:Two", "b:One", "a:*", "*"], 1..3);
    let resource = prop_oneof![Just("Resource"), Just("NotResource")];
    let resources = proptest::sample::subsequence(
        vec!["arn:aws:a:r:1:x", "arn:aws:a:r:1:y/*", "arn:aws:a:*:*:?", "*"],
        1..3,
    );
    let condition = prop_oneof![
        Just(""),
        Just(r#", "Condition": {"StringEquals": {"aws:ResourceTag/t": "1"}}"#),
        Just(r#", "Condition": {"StringNotEquals": {"aws:ResourceTag/t": "1"}}"#),
        Just(r#", "Condition": {"Null": {"aws:ResourceTag/t": true}}"#),
    ];
    (effect, action, actions, resource, resources, condition).prop_map(
        |(effect, action, actions, resource, resources, condition)| {
            format!(
                r#"{{"Effect": "{effect}", "{action}": {actions:?}, "{resource}": {resources:?}{condition}}}"#
            )
        },
    )
}

fn allows(statements: &[String], action: &str, resource: &str, tag: Option<&str>) -> bool {
    if statements.is_empty() {
        return false;
    }
    let about = Context::default().with_resource_tags(tag.map(|tag| ("t", tag)));
    let policy = of(&format!("[{}]", statements.join(",")));
    rights(&[&policy]).may(&Request::new(action, resource).about(about)).is_ok()
}

proptest! {
    #[test]
    fn a_denial_more_never_allows_more_and_the_order_does_not_matter(
        statements in proptest::collection::vec(statement(), 0..5),
        more in statement(),
        at in 0..5usize,
        action in prop_oneof![Just("a:One"), Just("a:two"), Just("b:One"), Just("c:Three")],
        resource in prop_oneof![Just("arn:aws:a:r:1:x"), Just("arn:aws:a:r:1:y/z"), Just("arn:aws:a:s:2:q")],
        tag in proptest::option::of(prop_oneof![Just("1"), Just("2")]),
    ) {
        let before = allows(&statements, action, resource, tag);
        let mut with_denial = statements.clone();
        with_denial.insert(at.min(statements.len()), more.replace("Allow", "Deny"));
        prop_assert!(before || !allows(&with_denial, action, resource, tag));

        let mut with_permission = statements.clone();
        with_permission.insert(at.min(statements.len()), more.replace("Deny", "Allow"));
        prop_assert!(!before || allows(&with_permission, action, resource, tag));

        let mut turned = statements.clone();
        turned.reverse();
        prop_assert_eq!(before, allows(&turned, action, resource, tag));
        let places = at.min(turned.len());
        turned.rotate_left(places);
        prop_assert_eq!(before, allows(&turned, action, resource, tag));
    }

    #[test]
    fn any_text_is_a_policy_or_an_error(text in "[{}\\[\\]\":,a-zA-Z*?$ ]{0,200}") {
        let _ = Policy::of_user(&text);
        let _ = Policy::of_resource(&text);
    }
}

#[test]
fn tags_whose_keys_differ_only_in_case_are_decided_against_who_asks() {
    let both = [("team", "prod"), ("Team", "dev")];
    let swapped = [("Team", "dev"), ("team", "prod")];
    let same = [("team", "dev"), ("TEAM", "dev")];
    let one = [("team", "dev")];
    for family in ["RequestTag", "ResourceTag"] {
        let key = format!("aws:{family}/team");
        let say = |effect: &str, element: &str, tags: &[(&str, &str)]| {
            let statement = format!(r#"{{"Effect": "{effect}", "Action": "*", {element}}}"#);
            let allow = r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#;
            let policy = match effect {
                "Allow" => of(&statement),
                _ => of(&format!("[{allow}, {statement}]")),
            };
            let about = match family {
                "RequestTag" => Context::default().with_request_tags(tags.iter().copied()),
                _ => Context::default().with_resource_tags(tags.iter().copied()),
            };
            let request = Request::new("codebuild:UpdateProject", PROJECT).about(about);
            rights(&[&policy]).may(&request).is_ok()
        };
        let condition = |operator: &str, value: &str| {
            format!(r#""Resource": "*", "Condition": {{"{operator}": {{"{key}": "{value}"}}}}"#)
        };
        for operator in
            ["StringEquals", "StringEqualsIfExists", "ForAnyValue:StringLike", "ForAllValues:StringEquals"]
        {
            for value in ["dev", "prod"] {
                let element = condition(operator, value);
                assert!(!say("Allow", &element, &both) && !say("Allow", &element, &swapped), "{element}");
                assert!(!say("Deny", &element, &both) && !say("Deny", &element, &swapped), "{element}");
            }
            let element = condition(operator, "dev");
            assert!(say("Allow", &element, &one) && say("Allow", &element, &same), "{element}");
            assert!(
                !say("Deny", &element, &one) && say("Deny", &condition(operator, "prod"), &same),
                "{element}"
            );
        }
        for operator in ["StringNotEquals", "ForAnyValue:StringNotEquals", "ForAllValues:StringNotLike"] {
            let element = condition(operator, "dev");
            assert!(!say("Allow", &element, &both) && !say("Deny", &element, &both), "{element}");
            assert!(!say("Allow", &element, &same) && say("Deny", &element, &same), "{element}");
        }
        // What such a tag is put into: nobody can say what it comes to.
        let variable = format!("${{{key}}}");
        let username = format!(
            r#""Resource": "*", "Condition": {{"StringNotEquals": {{"aws:username": "{variable}"}}}}"#
        );
        let resource = format!(r#""Resource": "arn:aws:codebuild:*:*:project/{variable}""#);
        let other = format!(r#""NotResource": "arn:aws:codebuild:*:*:project/{variable}""#);
        for element in [&username, &resource, &other] {
            assert!(!say("Allow", element, &both) && !say("Deny", element, &both), "{element}");
        }
        assert!(say("Allow", &username, &one) && say("Allow", &other, &one));
    }
}
