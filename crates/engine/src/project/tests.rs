//! Projects as they are made and changed.

use api::codebuild::{
    ComputeType, CredentialProviderType, EnvironmentType, ProjectFileSystemLocation, RegistryCredential, Tag,
};

use super::*;

fn setting() -> (Region, AccountId) {
    ("eu-west-1".parse().unwrap(), "123456789012".parse().unwrap())
}

fn input() -> CreateProjectInput {
    CreateProjectInput {
        name: Some("demo".to_string()),
        source: Some(ProjectSource {
            r#type: Some(SourceType::S3),
            location: Some("in/source.zip".to_string()),
            ..ProjectSource::default()
        }),
        artifacts: Some(ProjectArtifacts {
            r#type: Some(ArtifactsType::S3),
            location: Some("out".to_string()),
            ..ProjectArtifacts::default()
        }),
        environment: Some(ProjectEnvironment {
            r#type: Some(EnvironmentType::LinuxContainer),
            image: Some("aws/codebuild/standard:7.0".to_string()),
            compute_type: Some(ComputeType::BuildGeneral1Small),
            ..ProjectEnvironment::default()
        }),
        service_role: Some("builder".to_string()),
        ..CreateProjectInput::default()
    }
}

fn try_create(input: CreateProjectInput) -> Result<Project> {
    let (region, account) = setting();
    create(
        input,
        Setting { region: &region, account: &account, now_ms: 1_500, concurrent_builds: 2, codecommit: None },
    )
}

fn try_update(project: Project, input: UpdateProjectInput) -> Result<Project> {
    let (region, account) = setting();
    let setting =
        Setting { region: &region, account: &account, now_ms: 9_500, concurrent_builds: 2, codecommit: None };
    update(project, input, setting)
}

fn refusal(input: CreateProjectInput) -> String {
    match try_create(input) {
        Err(Error::InvalidInput(message)) => message,
        other => panic!("not refused: {other:?}"),
    }
}

// LC-060, LC-061, AP-053
#[test]
fn a_new_project_has_every_default_filled_in() {
    let project = try_create(input()).unwrap();
    let shown = serde_json::to_value(&project).unwrap();
    let expect = serde_json::json!({
        "name": "demo",
        "arn": "arn:aws:codebuild:eu-west-1:123456789012:project/demo",
        "source": {
            "type": "S3", "location": "in/source.zip", "reportBuildStatus": false, "insecureSsl": false
        },
        "secondarySources": [],
        "secondarySourceVersions": [],
        "artifacts": {
            "type": "S3", "location": "out", "name": "demo", "namespaceType": "NONE", "packaging": "NONE",
            "encryptionDisabled": false
        },
        "secondaryArtifacts": [],
        "cache": { "type": "NO_CACHE" },
        "environment": {
            "type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL", "environmentVariables": [], "privilegedMode": false,
            "imagePullCredentialsType": "CODEBUILD"
        },
        "serviceRole": "arn:aws:iam::123456789012:role/builder",
        "timeoutInMinutes": 60,
        "queuedTimeoutInMinutes": 480,
        "encryptionKey": "arn:aws:kms:eu-west-1:123456789012:alias/aws/s3",
        "tags": [],
        "created": 1.5,
        "lastModified": 1.5,
        "badge": { "badgeEnabled": false },
        "logsConfig": {
            "cloudWatchLogs": { "status": "ENABLED" },
            "s3Logs": { "status": "DISABLED", "encryptionDisabled": false }
        },
        "projectVisibility": "PRIVATE"
    });
    assert_eq!(shown, expect);
}

// AP-061
#[test]
fn an_update_keeps_what_was_not_sent_and_replaces_what_was() {
    let project = try_create(input()).unwrap();
    let changed = UpdateProjectInput {
        name: Some("demo".to_string()),
        timeout_in_minutes: Some(30),
        environment: Some(ProjectEnvironment {
            image: Some("debian:12".to_string()),
            ..input().environment.unwrap()
        }),
        ..UpdateProjectInput::default()
    };
    let updated = try_update(project.clone(), changed).unwrap();
    assert_eq!(updated.timeout_in_minutes, Some(30));
    assert_eq!(updated.environment.unwrap().image.as_deref(), Some("debian:12"));
    assert_eq!((updated.source, updated.created), (project.source, project.created));
    assert_eq!(updated.last_modified, Some(Timestamp::from_millis(9_500)));
}

#[test]
fn an_update_with_nothing_to_change_changes_the_time_only() {
    let project = try_create(input()).unwrap();
    let updated = try_update(project.clone(), UpdateProjectInput::default()).unwrap();
    let expect = Project { last_modified: updated.last_modified, ..project };
    assert_eq!(updated, expect);
}

// LC-066, AP-041
#[test]
fn minus_one_removes_the_concurrency_limit() {
    let project = try_create(CreateProjectInput { concurrent_build_limit: Some(2), ..input() }).unwrap();
    assert_eq!(project.concurrent_build_limit, Some(2));
    let input = UpdateProjectInput { concurrent_build_limit: Some(-1), ..UpdateProjectInput::default() };
    assert_eq!(try_update(project, input).unwrap().concurrent_build_limit, None);
}

// AP-026, AP-038, AP-039, AP-041, SA-002, SA-063
#[test]
fn what_breaks_the_rules_is_refused_by_name() {
    let source = |change: fn(&mut ProjectSource)| {
        let mut source = input().source.unwrap();
        change(&mut source);
        CreateProjectInput { source: Some(source), ..input() }
    };
    let artifacts =
        |artifacts: ProjectArtifacts| CreateProjectInput { artifacts: Some(artifacts), ..input() };
    let tags = |keys: &[&str]| {
        let tags = keys.iter().map(|key| Tag { key: Some(key.to_string()), ..Tag::default() }).collect();
        CreateProjectInput { tags: Some(tags), ..input() }
    };
    for (input, expect) in [
        (source(|source| source.location = None), "Project source location is required"),
        (source(|source| source.r#type = Some("SVN".into())), "Invalid type provided: Project source type"),
        (source(|source| source.report_build_status = Some(true)), "reportBuildStatus is not supported"),
        (
            artifacts(ProjectArtifacts {
                r#type: Some(ArtifactsType::NoArtifacts),
                location: Some("out".to_string()),
                ..ProjectArtifacts::default()
            }),
            "artifact type NO_ARTIFACTS should have null location",
        ),
        (
            artifacts(ProjectArtifacts { r#type: Some(ArtifactsType::S3), ..ProjectArtifacts::default() }),
            "location is required for artifact type S3",
        ),
        (
            artifacts(ProjectArtifacts {
                r#type: Some(ArtifactsType::NoArtifacts),
                encryption_disabled: Some(true),
                ..ProjectArtifacts::default()
            }),
            "encryptionDisabled",
        ),
        (tags(&["a", "a"]), "Duplicate tag key: a"),
        (tags(&["aws:x"]), "Invalid tag key"),
        (CreateProjectInput { concurrent_build_limit: Some(3), ..input() }, "the account limit is 2"),
        (
            CreateProjectInput { service_role: Some("arn:aws:s3:::x".to_string()), ..input() },
            "Invalid service role",
        ),
        (CreateProjectInput { environment: None, ..input() }, "environment is required"),
    ] {
        let message = refusal(input);
        assert!(message.contains(expect), "{message}");
    }
}

/// The demo project with some of its JSON replaced.
fn with(changes: serde_json::Value) -> CreateProjectInput {
    let mut json = serde_json::to_value(input()).unwrap();
    for (member, value) in changes.as_object().unwrap() {
        json[member] = value.clone();
    }
    serde_json::from_value(json).unwrap()
}

fn environment(changes: impl Fn(&mut ProjectEnvironment)) -> CreateProjectInput {
    let mut environment = input().environment.unwrap();
    changes(&mut environment);
    CreateProjectInput { environment: Some(environment), ..input() }
}

// AP-028
#[test]
fn identifiers_are_words_that_occur_once() {
    let s3 = |identifier: &str| serde_json::json!({"type": "S3", "location": "b/k", "sourceIdentifier": identifier});
    let out = |identifier: &str| serde_json::json!({"type": "S3", "location": "b", "artifactIdentifier": identifier});
    let version =
        |identifier: &str| serde_json::json!({"sourceIdentifier": identifier, "sourceVersion": "v"});
    let long = "a".repeat(128);
    for (changes, expect) in [
        (serde_json::json!({"secondarySources": [s3("a-b")]}), "identifier must contain only alphanumeric"),
        (serde_json::json!({"secondarySources": [s3(&long)]}), "less than 128 characters"),
        (
            serde_json::json!({"secondarySources": [s3("a"), s3("a")]}),
            "secondarySources have sourceIdentifier a twice",
        ),
        (
            serde_json::json!({"secondarySources": [{"type": "S3", "location": "b/k"}]}),
            "need their sourceIdentifier",
        ),
        (
            serde_json::json!({"secondarySources": [s3("a")], "secondarySourceVersions": [version("b")]}),
            "secondarySourceVersions have sourceIdentifier b, and no secondary source has it",
        ),
        (
            serde_json::json!({"secondarySources": [s3("a")], "secondarySourceVersions": [version("a"), version("a")]}),
            "secondarySourceVersions have sourceIdentifier a twice",
        ),
        (
            serde_json::json!({"secondarySourceVersions": [version("bad id/..")]}),
            "identifier must contain only alphanumeric",
        ),
        (serde_json::json!({"secondaryArtifacts": [out("a"), out("a")]}), "artifactIdentifier a twice"),
        (serde_json::json!({"secondaryArtifacts": [out("é")]}), "identifier must contain only alphanumeric"),
        (
            serde_json::json!({"source": {"type": "S3", "location": "b/k", "sourceIdentifier": "refs/heads/x"}}),
            "identifier must contain only alphanumeric",
        ),
        (
            serde_json::json!({"fileSystemLocations": [{"type": "EFS", "identifier": "a-b"}]}),
            "identifier must contain only alphanumeric",
        ),
    ] {
        let message = refusal(with(changes));
        assert!(message.contains(expect), "{message}");
    }
    let sound = serde_json::json!({
        "secondarySources": [s3(&long[1..]), s3("b_1")],
        "secondarySourceVersions": [version("b_1")],
        "secondaryArtifacts": [out("b_1")]
    });
    let project = try_create(with(sound)).unwrap();
    // A source does not go without its version.
    let without = UpdateProjectInput { secondary_sources: Some(Vec::new()), ..UpdateProjectInput::default() };
    let refused = try_update(project.clone(), without).unwrap_err().to_string();
    assert!(refused.contains("secondarySourceVersions have sourceIdentifier b_1"), "{refused}");
    assert_eq!(project.secondary_sources.unwrap()[1].insecure_ssl, Some(false), "defaults are filled in");
    let location = ProjectFileSystemLocation { identifier: Some("efs".into()), ..Default::default() };
    try_create(CreateProjectInput { file_system_locations: Some(vec![location]), ..input() }).unwrap();
}

// BS-005, EN-005, IN-094, SA-004, SA-008, SA-061, SA-116
#[test]
fn what_could_never_run_is_not_stored() {
    use serde_json::json;
    let compute = |compute_type: &str| {
        let configuration = json!({"vCpu": 2, "memory": 4});
        let image = "aws/codebuild/standard:7.0";
        json!({"environment": {
            "type": "LINUX_CONTAINER", "image": image, "computeType": compute_type, "computeConfiguration": configuration
        }})
    };
    let s3 = |location: &str| json!({"source": {"type": "S3", "location": location}});
    let no_source = |buildspec: &str| json!({"source": {"type": "NO_SOURCE", "buildspec": buildspec}});
    let artifacts = |location: &str| json!({"artifacts": {"type": "S3", "location": location}});
    let one = |location: &str| json!([{"type": "S3", "location": location, "artifactIdentifier": "a"}]);
    let s3_logs =
        |location: &str| json!({"logsConfig": {"s3Logs": {"status": "ENABLED", "location": location}}});
    let no_s3 = "Invalid project source: location must be a valid S3 source";
    let cases = [
        (s3("justbucket"), no_s3),
        (s3("arn:aws:s3:::justbucket"), no_s3),
        (s3("s3://bucket/key.zip"), no_s3),
        (s3("/key.zip"), no_s3),
        (json!({"source": {"type": "NO_SOURCE"}}), "source.buildspec is required for source type NO_SOURCE"),
        (no_source(""), "source.buildspec is required"),
        (no_source(" \n"), "source.buildspec is required"),
        (artifacts("bkt/some/prefix"), "artifacts.location bkt/some/prefix must be the name of a bucket"),
        (artifacts("arn:aws:s3:::bkt/some"), "without a slash"),
        (artifacts("bkt/"), "without a slash"),
        (json!({"secondaryArtifacts": one("bkt/prefix")}), "artifacts.location bkt/prefix must be"),
        (
            json!({"logsConfig": {"s3Logs": {"status": "ENABLED"}}}),
            "location is required for logsConfig.s3Logs",
        ),
        (s3_logs(""), "location is required for logsConfig.s3Logs"),
        (s3_logs("/prefix"), "location is required for logsConfig.s3Logs"),
        (json!({"badgeEnabled": true}), "badgeEnabled true is not available"),
        (
            compute("BUILD_GENERAL1_SMALL"),
            "environment.computeConfiguration is for computeType ATTRIBUTE_BASED_COMPUTE",
        ),
    ];
    let project = try_create(input()).unwrap();
    for (changes, expect) in cases {
        let message = refusal(with(changes.clone()));
        assert!(message.contains(expect), "{message}");
        let update = serde_json::from_value(changes).unwrap();
        let message = try_update(project.clone(), update).unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    }
    for sound in [
        s3("bucket/"),
        s3("arn:aws:s3:::bucket/key"),
        no_source("version: 0.2"),
        artifacts("arn:aws:s3:::bkt"),
        s3_logs("bkt/prefix"),
        json!({"logsConfig": {"s3Logs": {"status": "DISABLED"}}}),
        json!({"badgeEnabled": false}),
        compute("ATTRIBUTE_BASED_COMPUTE"),
        compute("CUSTOM_INSTANCE_TYPE"),
    ] {
        try_create(with(sound)).unwrap();
    }
}

// AP-029, EN-100
#[test]
fn a_network_is_told_as_a_whole_and_taken_away_by_an_empty_one() {
    let vpc = |vpc: serde_json::Value| with(serde_json::json!({ "vpcConfig": vpc }));
    for (given, expect) in [
        (serde_json::json!({"vpcId": "vpc-1"}), "subnets is required"),
        (serde_json::json!({"vpcId": "vpc-1", "subnets": ["s"]}), "securityGroupIds is required"),
        (serde_json::json!({"subnets": ["s"], "securityGroupIds": ["g"]}), "vpcId is required"),
        (
            serde_json::json!({"vpcId": "vpc-1", "subnets": vec!["s"; 17], "securityGroupIds": ["g"]}),
            "subnets has 17 members, and at most 16",
        ),
        (
            serde_json::json!({"vpcId": "vpc-1", "subnets": ["s"], "securityGroupIds": vec!["g"; 6]}),
            "securityGroupIds has 6 members, and at most 5",
        ),
    ] {
        let message = refusal(vpc(given));
        assert!(message.contains(expect), "{message}");
    }
    let whole = serde_json::json!({"vpcId": "vpc-1", "subnets": ["s"], "securityGroupIds": ["g"]});
    let project = try_create(vpc(whole)).unwrap();
    let empty =
        UpdateProjectInput { vpc_config: Some(VpcConfig::default()), ..UpdateProjectInput::default() };
    assert_eq!(try_update(project, empty).unwrap().vpc_config, None);
}

// AP-040, EN-024, EN-025
#[test]
fn who_pulls_an_image_must_be_able_to() {
    let credential = || {
        let (credential, provider) = ("team/registry".to_string(), CredentialProviderType::SecretsManager);
        Some(RegistryCredential { credential: Some(credential), credential_provider: Some(provider) })
    };
    let role = || Some(ImagePullCredentialsType::ServiceRole);
    let own = || Some("registry.example/team/tools:1".to_string());
    let curated = environment(|environment| environment.image_pull_credentials_type = role());
    assert!(refusal(curated).contains("cannot use a CodeBuild curated image"));
    let alone = environment(|environment| {
        environment.image = own();
        environment.registry_credential = credential();
    });
    assert!(refusal(alone).contains("registryCredential needs imagePullCredentialsType SERVICE_ROLE"));
    let sound = environment(|environment| {
        environment.image = own();
        environment.registry_credential = credential();
        environment.image_pull_credentials_type = role();
    });
    assert!(try_create(sound).is_ok());
    // EN-025
    let of_ecr = environment(|environment| {
        environment.image = Some("123456789012.dkr.ecr.eu-west-1.amazonaws.com/tools:1".to_string());
        environment.registry_credential = credential();
        environment.image_pull_credentials_type = role();
    });
    assert!(refusal(of_ecr).contains("cannot be used with an Amazon ECR image"));
}

// AP-037
#[test]
fn a_role_is_one_of_the_own_account() {
    let role = |account: &str| {
        let role = format!("arn:aws:iam::{account}:role/path/builder");
        CreateProjectInput { service_role: Some(role), ..input() }
    };
    try_create(role("123456789012")).unwrap();
    let expect = "Invalid service role: Service role account ID does not match caller's account";
    assert_eq!(refusal(role("999999999999")), expect);
}

// AP-026
#[test]
fn tag_keys_are_words_of_the_users_own_and_occur_once() {
    for (keys, sound) in [
        (&["Team", "team", "a b"][..], true),
        (&["AWS:x"], false),
        (&["  "], false),
        (&["a "], false),
        (&["a\u{a0}"], false),
        (&["a\u{2003}"], false),
        (&["\u{3000}"], false),
        (&["a\u{a0}b"], true),
        (&["a", "b", "a"], false),
    ] {
        let tags = keys.iter().map(|key| Tag { key: Some(key.to_string()), value: Some(String::new()) });
        let project = try_create(CreateProjectInput { tags: Some(tags.clone().collect()), ..input() });
        assert_eq!(project.is_ok(), sound, "{keys:?}");
        if let Ok(project) = project {
            assert_eq!(project.tags.unwrap(), tags.collect::<Vec<_>>(), "in the order given");
        }
    }
}

// AP-038
#[test]
fn source_and_artifacts_are_a_pipelines_or_neither() {
    let pipeline = serde_json::json!({"type": "CODEPIPELINE"});
    let message = refusal(with(serde_json::json!({ "source": pipeline })));
    assert!(message.contains("both sourceType, and artifactType must be set to: CODEPIPELINE"), "{message}");
    refusal(with(serde_json::json!({ "artifacts": pipeline })));
    try_create(with(serde_json::json!({ "source": pipeline, "artifacts": pipeline }))).unwrap();
    refusal(with(serde_json::json!({"cache": {"type": "S3"}})));
}

mod echo {
    //! What was written comes back: the input, and the documented defaults beside it.

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn word() -> impl Strategy<Value = Value> {
        "[a-z][a-z0-9]{0,6}".prop_map(Value::String)
    }

    /// An object in which each member may be missing, or null.
    fn object(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
        let members: Vec<_> = members
            .into_iter()
            .map(|(name, value)| {
                prop_oneof![1 => Just(None), 1 => Just(Some(Value::Null)), 3 => value.prop_map(Some)]
                    .prop_map(move |value| value.map(|value| (name.to_string(), value)))
            })
            .collect();
        members.prop_map(|members| members.into_iter().flatten().collect::<Map<_, _>>().into()).boxed()
    }

    fn among(values: &[Value]) -> BoxedStrategy<Value> {
        prop::sample::select(values.to_vec()).boxed()
    }

    fn list(element: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
        prop::collection::vec(element, 0..3).prop_map(Value::Array).boxed()
    }

    /// The members of `must` and, over them, those of `may`.
    fn joined(must: Value, may: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
        may.prop_map(move |may| {
            let mut whole = must.clone();
            for (name, value) in may.as_object().into_iter().flatten() {
                whole[name] = value.clone();
            }
            whole
        })
        .boxed()
    }

    fn flag() -> BoxedStrategy<Value> {
        any::<bool>().prop_map(Value::Bool).boxed()
    }

    fn source() -> BoxedStrategy<Value> {
        let may = object(vec![
            ("gitCloneDepth", (0..5).prop_map(Value::from).boxed()),
            ("gitSubmodulesConfig", flag().prop_map(|fetch| json!({"fetchSubmodules": fetch})).boxed()),
            ("buildspec", word().boxed()),
            ("auth", Just(json!({"type": "OAUTH", "resource": "r"})).boxed()),
            ("reportBuildStatus", flag()),
            ("buildStatusConfig", object(vec![("context", word().boxed()), ("targetUrl", word().boxed())])),
            ("insecureSsl", flag()),
        ]);
        joined(json!({"type": "GITHUB", "location": "https://github.com/o/r"}), may)
    }

    fn artifacts() -> BoxedStrategy<Value> {
        let may = object(vec![
            ("path", word().boxed()),
            ("namespaceType", among(&[json!("NONE"), json!("BUILD_ID")])),
            ("name", word().boxed()),
            ("packaging", among(&[json!("NONE"), json!("ZIP")])),
            ("overrideArtifactName", flag()),
            ("encryptionDisabled", flag()),
            ("bucketOwnerAccess", among(&[json!("NONE"), json!("READ_ONLY"), json!("FULL")])),
        ]);
        prop_oneof![
            Just(json!({"type": "NO_ARTIFACTS"})),
            joined(json!({"type": "S3", "location": "out"}), may)
        ]
        .boxed()
    }

    fn environment() -> BoxedStrategy<Value> {
        let variable =
            (word(), among(&[json!("PLAINTEXT"), json!("PARAMETER_STORE"), json!("SECRETS_MANAGER")]))
                .prop_map(|(name, kind)| json!({"name": name, "value": "v", "type": kind}));
        let may = object(vec![
            ("environmentVariables", list(variable)),
            ("privilegedMode", flag()),
            ("certificate", word().boxed()),
            ("imagePullCredentialsType", among(&[json!("CODEBUILD"), json!("SERVICE_ROLE")])),
        ]);
        let must =
            json!({"type": "LINUX_CONTAINER", "image": "debian:12", "computeType": "BUILD_GENERAL1_SMALL"});
        joined(must, may)
    }

    fn logs() -> BoxedStrategy<Value> {
        let status = || among(&[json!("ENABLED"), json!("DISABLED")]);
        let cloud_watch =
            (status(), object(vec![("groupName", word().boxed()), ("streamName", word().boxed())])).prop_map(
                |(status, mut rest)| {
                    rest["status"] = status;
                    rest
                },
            );
        let s3 = (status(), word(), object(vec![("encryptionDisabled", flag())])).prop_map(
            |(status, location, mut rest)| {
                rest["status"] = status;
                rest["location"] = location;
                rest
            },
        );
        object(vec![("cloudWatchLogs", cloud_watch.boxed()), ("s3Logs", s3.boxed())])
    }

    fn project() -> BoxedStrategy<Value> {
        let tag = |(key, value): (String, String)| json!({"key": key, "value": value});
        let tags = prop::collection::btree_map("[a-z]{1,4}", "[a-z]{0,4}", 0..4)
            .prop_map(move |tags| tags.into_iter().map(tag).collect::<Vec<_>>())
            .prop_shuffle()
            .prop_map(Value::Array)
            .boxed();
        let may = object(vec![
            ("description", word().boxed()),
            ("sourceVersion", word().boxed()),
            ("cache", among(&[json!({"type": "NO_CACHE"}), json!({"type": "S3", "location": "b/p"})])),
            ("timeoutInMinutes", (5..=2160).prop_map(Value::from).boxed()),
            ("queuedTimeoutInMinutes", (5..=480).prop_map(Value::from).boxed()),
            ("encryptionKey", word().boxed()),
            ("tags", tags),
            ("logsConfig", logs()),
            ("concurrentBuildLimit", (1..=2).prop_map(Value::from).boxed()),
            ("autoRetryLimit", (0..3).prop_map(Value::from).boxed()),
            (
                "secondarySourceVersions",
                among(&[json!([]), json!([{"sourceIdentifier": "two", "sourceVersion": "1"}])]),
            ),
        ]);
        (source(), artifacts(), environment(), may)
            .prop_map(|(source, artifacts, environment, mut whole)| {
                whole["name"] = json!("demo");
                whole["secondarySources"] = json!([source.clone()]);
                whole["secondarySources"][0]["sourceIdentifier"] = json!("two");
                whole["source"] = source;
                whole["artifacts"] = artifacts;
                whole["environment"] = environment;
                whole["serviceRole"] = json!("arn:aws:iam::123456789012:role/builder");
                whole
            })
            .boxed()
    }

    /// Where `given`, without its nulls, is not in `shown`.
    fn lost(path: &str, given: &Value, shown: &Value) -> Vec<String> {
        match (given, shown) {
            (Value::Null, _) => Vec::new(),
            (Value::Object(members), Value::Object(_)) => {
                let below =
                    |(name, value): (&String, &Value)| lost(&format!("{path}.{name}"), value, &shown[name]);
                members.iter().flat_map(below).collect()
            }
            (Value::Array(given), Value::Array(shown)) if given.len() == shown.len() => {
                let both = given.iter().zip(shown).enumerate();
                both.flat_map(|(at, (given, shown))| lost(&format!("{path}.{at}"), given, shown)).collect()
            }
            _ if given == shown => Vec::new(),
            _ => vec![format!("{path}: {given} became {shown}")],
        }
    }

    proptest! {
        // AP-002, AP-010, AP-052, AP-053, AP-054, AP-061
        #[test]
        fn a_project_comes_back_as_it_was_written_and_writing_it_again_changes_nothing(given in project()) {
            let created = try_create(serde_json::from_value(given.clone()).unwrap()).unwrap();
            let shown = serde_json::to_value(&created).unwrap();
            prop_assert_eq!(lost("", &given, &shown), Vec::<String>::new());
            for again in [&given, &shown] {
                let updated = try_update(created.clone(), serde_json::from_value(again.clone()).unwrap()).unwrap();
                let expect = Project { last_modified: updated.last_modified, ..created.clone() };
                prop_assert_eq!(updated, expect);
            }
        }
    }
}
