//! What a client is told about a request outside the model, word for word.

use api::codebuild::Operation;
use api::{Error, logs, validate};
use serde_json::{Value, json};

fn validation(operation: Operation, request: Value) -> String {
    match validate(operation.input(), &request) {
        Err(Error::Validation(message)) => message,
        other => panic!("{request} gave {other:?}"),
    }
}

fn serialization(operation: Operation, request: Value) -> String {
    match validate(operation.input(), &request) {
        Err(Error::Serialization(message)) => message,
        other => panic!("{request} gave {other:?}"),
    }
}

fn project(overrides: Value) -> Value {
    let mut project = json!({
        "name": "demo",
        "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL"},
        "serviceRole": "arn:aws:iam::123456789012:role/build"
    });
    for (name, value) in overrides.as_object().expect("overrides are an object") {
        project[name] = value.clone();
    }
    project
}

#[test]
fn a_sound_project_passes() {
    validate(Operation::CreateProject.input(), &project(json!({}))).unwrap();
}

#[test]
fn a_missing_member_is_null() {
    assert_eq!(
        validation(Operation::StartBuild, json!({})),
        "1 validation error detected: Value null at 'projectName' failed to satisfy constraint: \
         Member must not be null"
    );
}

#[test]
fn a_null_member_is_a_missing_one() {
    let message =
        validation(Operation::StartBuild, json!({"projectName": null, "timeoutInMinutesOverride": null}));
    assert!(message.starts_with("1 validation error detected: Value null at 'projectName'"));
}

#[test]
fn an_empty_word_is_too_short() {
    assert_eq!(
        validation(Operation::StopBuild, json!({"id": ""})),
        "1 validation error detected: Value '' at 'id' failed to satisfy constraint: \
         Member must have length greater than or equal to 1"
    );
}

#[test]
fn all_violations_are_told_in_one_message() {
    let request = project(json!({
        "name": "x",
        "timeoutInMinutes": 4,
        "queuedTimeoutInMinutes": 481,
        "serviceRole": null
    }));
    assert_eq!(
        validation(Operation::CreateProject, request),
        "5 validation errors detected: \
         Value 'x' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 2; \
         Value 'x' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: \
         [A-Za-z0-9][A-Za-z0-9\\-_]{1,149}; \
         Value null at 'serviceRole' failed to satisfy constraint: Member must not be null; \
         Value '4' at 'timeoutInMinutes' failed to satisfy constraint: \
         Member must have value greater than or equal to 5; \
         Value '481' at 'queuedTimeoutInMinutes' failed to satisfy constraint: \
         Member must have value less than or equal to 480"
    );
}

#[test]
fn a_word_outside_an_enum_is_told_the_set() {
    let request = project(json!({"artifacts": {"type": "FTP"}}));
    assert_eq!(
        validation(Operation::CreateProject, request),
        "1 validation error detected: Value 'FTP' at 'artifacts.type' failed to satisfy constraint: \
         Member must satisfy enum value set: [CODEPIPELINE, S3, NO_ARTIFACTS]"
    );
}

#[test]
fn the_place_in_a_list_counts_from_one() {
    let request = project(json!({"secondarySources": [{"type": "GITHUB"}, {"location": "x"}]}));
    assert_eq!(
        validation(Operation::CreateProject, request),
        "1 validation error detected: Value null at 'secondarySources.2.member.type' failed to satisfy \
         constraint: Member must not be null"
    );
}

#[test]
fn lists_in_lists_name_both_places() {
    let request = json!({"projectName": "demo", "filterGroups": [[{"type": "EVENT"}]]});
    assert_eq!(
        validation(Operation::CreateWebhook, request),
        "1 validation error detected: Value null at 'filterGroups.1.member.1.member.pattern' failed to \
         satisfy constraint: Member must not be null"
    );
}

#[test]
fn a_list_is_measured_by_its_elements() {
    assert_eq!(
        validation(Operation::BatchGetBuilds, json!({"ids": []})),
        "1 validation error detected: Value '[]' at 'ids' failed to satisfy constraint: \
         Member must have length greater than or equal to 1"
    );
}

#[test]
fn words_in_a_list_are_told_of_the_list() {
    assert_eq!(
        validation(Operation::BatchGetBuilds, json!({"ids": ["a", ""]})),
        "1 validation error detected: Value '[a, ]' at 'ids' failed to satisfy constraint: \
         Member must satisfy constraint: [Member must have length greater than or equal to 1]"
    );
}

#[test]
fn a_null_in_a_list_is_refused() {
    assert_eq!(
        validation(Operation::BatchGetBuilds, json!({"ids": [null]})),
        "1 validation error detected: Value '[null]' at 'ids' failed to satisfy constraint: \
         Member must satisfy constraint: [Member must have length greater than or equal to 1, Member must not be null]"
    );
    assert_eq!(
        validation(
            Operation::StartBuild,
            json!({"projectName": "demo", "environmentVariablesOverride": [null]})
        ),
        "1 validation error detected: Value null at 'environmentVariablesOverride.1.member' failed to \
         satisfy constraint: Member must not be null"
    );
}

#[test]
fn keys_and_values_of_a_map_are_told_of_the_map() {
    let request = json!({"logGroupName": "g", "tags": {"k#": "v#"}});
    let Err(Error::Validation(message)) = validate(logs::Operation::CreateLogGroup.input(), &request) else {
        panic!("the tags are wrong")
    };
    assert_eq!(
        message,
        "2 validation errors detected: \
         Value '{k#=v#}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: \
         [Member must have length less than or equal to 128, Member must have length greater than or equal to 1, \
         Member must satisfy regular expression pattern: ^([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]+)$]; \
         Value '{k#=v#}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: \
         [Member must have length less than or equal to 256, \
         Member must satisfy regular expression pattern: ^([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)$]"
    );
}

#[test]
fn a_secret_is_not_quoted() {
    let request = json!({"token": "", "serverType": "GITHUB", "authType": "PERSONAL_ACCESS_TOKEN"});
    assert_eq!(
        validation(Operation::ImportSourceCredentials, request),
        "1 validation error detected: Value at 'token' failed to satisfy constraint: \
         Member must have length greater than or equal to 1"
    );
}

#[test]
fn structures_in_a_list_are_not_quoted() {
    let source = json!({"type": "GITHUB", "location": "https://user:password@example.com/"});
    let message =
        validation(Operation::CreateProject, project(json!({"secondarySources": vec![source; 13]})));
    assert_eq!(
        message,
        "1 validation error detected: Value at 'secondarySources' failed to satisfy constraint: \
         Member must have length less than or equal to 12"
    );
}

#[test]
fn lengths_count_characters_not_bytes() {
    let request = |n| project(json!({"description": "é".repeat(n)}));
    validate(Operation::CreateProject.input(), &request(255)).unwrap();
    validation(Operation::CreateProject, request(256));
}

#[test]
fn a_message_stays_short_however_wrong_the_request_is() {
    let variable = json!({"name": ""});
    let variables = vec![variable; 100_000];
    let request = json!({"projectName": "x".repeat(1_000_000), "environmentVariablesOverride": variables});
    let message = validation(Operation::StartBuild, request);
    assert!(message.starts_with("200000 validation errors detected"), "{}", &message[..80]);
    assert!(message.len() < 32 * 1024, "{}", message.len());
}

#[test]
fn unknown_members_are_ignored() {
    let request = json!({"projectName": "demo", "hostKernelOverrideOfTomorrow": {"a": [1]}});
    validate(Operation::StartBuild.input(), &request).unwrap();
}

#[test]
fn a_value_of_another_type_is_a_serialization_error() {
    for (request, expect) in [
        (json!({"projectName": 1}), "NUMBER_VALUE can not be converted to a String"),
        (json!({"projectName": true}), "TRUE_VALUE can not be converted to a String"),
        (json!({"projectName": {}}), "Start of structure or map found where not expected."),
        (json!({"projectName": []}), "Start of list found where not expected"),
        (json!({"timeoutInMinutesOverride": "5"}), "STRING_VALUE can not be converted to an Integer"),
        (
            json!({"timeoutInMinutesOverride": 4_294_967_301_u64}),
            "NUMBER_VALUE can not be converted to an Integer",
        ),
        (json!({"privilegedModeOverride": "true"}), "STRING_VALUE can not be converted to a Boolean"),
        (json!({"environmentVariablesOverride": "A=1"}), "Expected list or null"),
        (json!({"cacheOverride": "LOCAL"}), "Unexpected field type"),
        (json!([]), "Start of list found where not expected"),
        (json!("demo"), "Unexpected field type"),
        (Value::Null, "Unexpected field type"),
    ] {
        assert_eq!(serialization(Operation::StartBuild, request), expect);
    }
}

#[test]
fn types_are_looked_at_before_constraints() {
    serialization(Operation::StartBuild, json!({"projectName": "", "timeoutInMinutesOverride": "5"}));
}

#[test]
fn a_blob_is_base64_and_as_long_as_its_bytes() {
    let check = |blob: &str| {
        let request = json!({ "Name": "a", "SecretBinary": blob });
        validate(api::secretsmanager::Operation::CreateSecret.input(), &request)
    };
    for sound in ["AA==", "AAE=", "AAEC", "+/+/", &"AAEC".repeat(21_845)] {
        assert_eq!(check(sound), Ok(()), "{}", sound.len());
    }
    for broken in ["A", "AAE", "AA=A", "A===", "====", "AA E", "é==="] {
        assert!(matches!(check(broken), Err(Error::Serialization(_))), "{broken}");
    }
    for (blob, rule) in
        [("", "greater than or equal to 1"), (&"AAEC".repeat(21_846), "less than or equal to 65536")]
    {
        let refused = check(blob).unwrap_err().to_string();
        // What is secret is not quoted.
        assert!(refused.contains(rule) && refused.contains("Value at 'secretBinary'"), "{refused}");
    }
}
