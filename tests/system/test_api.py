"""The whole API's manners: every operation answers, mistakes are named, nothing asked for is silently ignored."""

import json
import time

import botocore.exceptions
import pytest

from local import spec
from served import ACCOUNT, ENVIRONMENT, REGION

INLINE = json.dumps(spec(build=["true"]))


def error_of(call, *arguments, **parameters):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(*arguments, **parameters)
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400, response
    return response["Error"]["Code"], response["Error"]["Message"]


def sample(shape):
    """A value that fits the model's constraints."""
    match shape.type_name:
        case "structure":
            return {name: sample(shape.members[name]) for name in shape.required_members}
        case "list":
            return [sample(shape.member)] * max(1, shape.metadata.get("min", 0))
        case "map":
            return {}
        case "string":
            return shape.enum[0] if shape.enum else "sample" + "x" * shape.metadata.get("min", 0)
        case "boolean":
            return True
        case "timestamp":
            return 0
        case _:
            return max(1, shape.metadata.get("min", 1))


def test_every_operation_answers_and_none_with_a_fault_of_ours(server):
    api = server.client("codebuild", parameter_validation=False)
    model = api.meta.service_model
    assert len(model.operation_names) >= 59
    answers = {}
    for operation in model.operation_names:
        shape = model.operation_model(operation).input_shape
        parameters = sample(shape) if shape else {}
        try:
            api._make_api_call(operation, parameters)
            answers[operation] = (200, "")
        except botocore.exceptions.ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            answers[operation] = (status, error.response["Error"]["Code"])
            assert error.response["Error"]["Message"], operation
    faults = {operation: answer for operation, answer in answers.items() if answer[0] not in (200, 400, 501)}
    assert not faults
    assert all(code for status, code in answers.values() if status != 200)


def test_an_unknown_operation_is_named(server):
    api = server.client("codebuild")

    def rename(request, **_):
        request.headers.replace_header("X-Amz-Target", "CodeBuild_20161006.BakeBread")

    api.meta.events.register("before-sign", rename)
    assert error_of(api.list_projects)[0] == "UnknownOperationException"


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"name": "x"}, "ValidationException", "name"),
        ({"name": "bad name!"}, "ValidationException", ""),
        ({"timeoutInMinutes": 4}, "ValidationException", "timeoutInMinutes"),
        ({"timeoutInMinutes": 2161}, "ValidationException", "timeoutInMinutes"),
        ({"queuedTimeoutInMinutes": 4}, "ValidationException", "queuedTimeoutInMinutes"),
        ({"source": {"type": "PAPER"}}, "ValidationException", ""),
        ({"source": {"type": "S3"}}, "InvalidInputException", "location"),
        ({"artifacts": {"type": "NO_ARTIFACTS", "location": "b"}}, "InvalidInputException", "NO_ARTIFACTS"),
        ({"environment": ENVIRONMENT | {"computeType": "HUGE"}}, "ValidationException", ""),
        ({"tags": [{"key": "aws:x", "value": ""}]}, "InvalidInputException", "aws:"),
        ({"tags": [{"key": "k\u00a0", "value": ""}]}, "InvalidInputException", "Invalid tag key"),
        ({"source": {"type": "S3", "location": "justbucket"}}, "InvalidInputException", "must be a valid S3 source"),
        ({"source": {"type": "NO_SOURCE"}}, "InvalidInputException", "source.buildspec"),
        ({"artifacts": {"type": "S3", "location": "bkt/some/prefix"}}, "InvalidInputException", "artifacts.location"),
        ({"logsConfig": {"s3Logs": {"status": "ENABLED"}}}, "InvalidInputException", "logsConfig.s3Logs"),
        ({"badgeEnabled": True}, "InvalidInputException", "badgeEnabled"),
        ({"environment": ENVIRONMENT | {"computeConfiguration": {"vCpu": 2}}}, "InvalidInputException", "computeConfiguration"),
        ({"secondarySourceVersions": [{"sourceIdentifier": "x", "sourceVersion": "1"}]}, "InvalidInputException", "secondarySourceVersions"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_a_bad_project_is_refused_with_what_is_wrong(server, change, code, said):
    """AP-003, AP-004: ValidationException for the model's constraints, InvalidInputException for the rest."""
    api = server.client("codebuild", parameter_validation=False)
    settings = {
        "name": "refused",
        "source": {"type": "NO_SOURCE", "buildspec": INLINE},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": ENVIRONMENT,
        "serviceRole": f"arn:aws:iam::{ACCOUNT}:role/r",
    }
    answered, message = error_of(api.create_project, **(settings | change))
    assert answered == code and said in message
    assert api.batch_get_projects(names=["refused"])["projectsNotFound"] == ["refused"]


# Overrides of StartBuild that this version cannot honour; each must be refused by the name of what it asks for.
UNSUPPORTED = {
    "sourceTypeOverride": ("CODEPIPELINE", "source.type"),
    "privilegedModeOverride": (True, "privilegedMode"),
    "certificateOverride": ("bucket/cert.pem", "certificate"),
    "fleetOverride": ({"fleetArn": f"arn:aws:codebuild:{REGION}:{ACCOUNT}:fleet/f:1"}, "fleet"),
    "environmentTypeOverride": ("WINDOWS_SERVER_2022_CONTAINER", "environment.type"),
    "computeTypeOverride": ("BUILD_LAMBDA_1GB", "computeType"),
    "artifactsOverride": ({"type": "CODEPIPELINE"}, "artifacts.type"),
}


# AP-070
@pytest.mark.parametrize("override", UNSUPPORTED)
def test_an_override_that_cannot_be_honoured_is_refused_by_name(codebuild, override):
    value, said = UNSUPPORTED[override]
    if not codebuild.api.batch_get_projects(names=["strict"])["projects"]:
        codebuild.create_project("strict", INLINE)
    code, message = error_of(codebuild.start, "strict", **{override: value})
    assert code == "InvalidInputException"
    assert said in message, message
    assert codebuild.api.list_builds_for_project(projectName="strict")["ids"] == []


def output(bucket, identifier):
    """Artifacts, and what a build shows of them."""
    flags = {"artifactIdentifier": identifier, "overrideArtifactName": True, "encryptionDisabled": True, "bucketOwnerAccess": "FULL"}
    return {"type": "S3", "location": bucket, "name": "n"} | flags, {"location": f"arn:aws:s3:::{bucket}/n"} | flags


PRIMARY, SECONDARY = output("over", "first"), output("other", "second")
LOGS = {"cloudWatchLogs": {"status": "ENABLED", "groupName": "g"}, "s3Logs": {"status": "ENABLED", "location": "over/logs"}}
MORE = {"type": "S3", "location": "over/key.zip", "sourceIdentifier": "more"}
CREDENTIAL = {"credential": "over", "credentialProvider": "SECRETS_MANAGER"}

# What each override says, and where a build shows it, which is what was said unless a third says what is shown.
OVERRIDES = {
    "sourceVersion": ("over", "sourceVersion"),
    "sourceTypeOverride": ("GITHUB_ENTERPRISE", "source.type"),
    "sourceLocationOverride": ("https://git.example/over", "source.location"),
    "sourceAuthOverride": ({"type": "OAUTH", "resource": "over"}, "source.auth"),
    "gitCloneDepthOverride": (7, "source.gitCloneDepth"),
    "gitSubmodulesConfigOverride": ({"fetchSubmodules": True}, "source.gitSubmodulesConfig"),
    "buildspecOverride": ("over.yml", "source.buildspec"),
    "insecureSslOverride": (True, "source.insecureSsl"),
    "reportBuildStatusOverride": (True, "source.reportBuildStatus"),
    "buildStatusConfigOverride": ({"context": "over", "targetUrl": "https://over.example"}, "source.buildStatusConfig"),
    "secondarySourcesOverride": ([MORE], "secondarySources", [MORE | {"reportBuildStatus": False, "insecureSsl": False}]),
    "secondarySourcesVersionOverride": ([{"sourceIdentifier": "more", "sourceVersion": "over"}], "secondarySourceVersions"),
    "artifactsOverride": (PRIMARY[0], "artifacts", PRIMARY[1]),
    "secondaryArtifactsOverride": ([SECONDARY[0]], "secondaryArtifacts", [SECONDARY[1]]),
    "environmentVariablesOverride": ([{"name": "OVER", "value": "v", "type": "PARAMETER_STORE"}], "environment.environmentVariables"),
    "imageOverride": ("registry.example/over:1", "environment.image"),
    "computeTypeOverride": ("BUILD_GENERAL1_MEDIUM", "environment.computeType"),
    "registryCredentialOverride": (CREDENTIAL, "environment.registryCredential"),
    "imagePullCredentialsTypeOverride": ("SERVICE_ROLE", "environment.imagePullCredentialsType"),
    "hostKernelOverride": ("LINUX_KERNEL_6", "environment.hostKernel"),
    "cacheOverride": ({"type": "S3", "location": "over/cache", "cacheNamespace": "ns"}, "cache"),
    "serviceRoleOverride": (f"arn:aws:iam::{ACCOUNT}:role/over", "serviceRole"),
    "timeoutInMinutesOverride": (7, "timeoutInMinutes"),
    "queuedTimeoutInMinutesOverride": (9, "queuedTimeoutInMinutes"),
    "encryptionKeyOverride": (f"arn:aws:kms:{REGION}:{ACCOUNT}:key/over", "encryptionKey"),
    "logsConfigOverride": (LOGS, "logs", LOGS),
    "debugSessionEnabled": (True, "debugSession", {"sessionEnabled": True}),
    "autoRetryLimitOverride": (3, "autoRetryConfig", {"autoRetryLimit": 3, "autoRetryNumber": 0}),
}


# AP-054, AP-070
def test_every_override_is_shown_by_the_build_or_refused(codebuild, name):
    model = codebuild.api.meta.service_model.operation_model("StartBuild").input_shape
    elsewhere = {"projectName", "idempotencyToken"}
    assert set(model.members) == OVERRIDES.keys() | UNSUPPORTED.keys() | elsewhere, "a member that nobody has looked at"
    codebuild.create_project(name, json.dumps(spec(build=["sleep 1000"])), concurrentBuildLimit=1)
    running = codebuild.start(name)["id"]
    # It waits, so that nothing comes of it.
    started = codebuild.start(name, **{member: given[0] for member, given in OVERRIDES.items()})
    stopped = codebuild.api.stop_build(id=started["id"])["build"]
    for build in (started, codebuild.build(started["id"]), stopped):
        for member, (said, path, *more) in OVERRIDES.items():
            shown = build
            for step in path.split("."):
                shown = shown.get(step)
            expect = more[0] if more else said
            if path == "logs":
                shown = {key: shown.get(key) for key in LOGS}
            assert shown == expect, member
    codebuild.api.stop_build(id=running)
    codebuild.wait(running)


# AP-060..064
def test_projects_are_made_changed_listed_and_deleted(codebuild, name):
    made = codebuild.create_project(name, INLINE, description="first", tags=[{"key": "k", "value": "v"}])
    assert made["arn"] == f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{name}"
    assert made["timeoutInMinutes"] == 60 and made["badge"] == {"badgeEnabled": False}
    assert made["created"] == made["lastModified"]
    code, message = error_of(codebuild.create_project, name, INLINE)
    assert code == "ResourceAlreadyExistsException" and name in message
    changed = codebuild.api.update_project(name=name, description="second")["project"]
    assert changed["description"] == "second" and changed["source"] == made["source"]
    assert changed["tags"] == made["tags"] and changed["lastModified"] >= made["lastModified"]
    answer = codebuild.api.batch_get_projects(names=[name, made["arn"], "nobody"])
    assert {one["name"] for one in answer["projects"]} == {name}
    assert answer["projectsNotFound"] == ["nobody"]
    assert name in codebuild.api.list_projects(sortBy="NAME", sortOrder="ASCENDING")["projects"]
    codebuild.api.delete_project(name=name)
    codebuild.api.delete_project(name=name)
    assert error_of(codebuild.start, name)[0] == "ResourceNotFoundException"
    assert error_of(codebuild.api.update_project, name=name)[0] == "ResourceNotFoundException"


# SA-062
def test_artifacts_without_a_name_are_called_as_their_project_and_secondary_ones_by_their_identifier(codebuild, name):
    target = {"type": "S3", "location": "bucket"}
    made = codebuild.create_project(
        name,
        INLINE,
        artifacts=target | {"artifactIdentifier": "first"},
        secondaryArtifacts=[target | {"artifactIdentifier": "second"}],
    )
    assert (made["artifacts"]["name"], made["artifacts"]["artifactIdentifier"]) == (name, "first")
    assert [one["name"] for one in made["secondaryArtifacts"]] == ["second"]
    codebuild.api.delete_project(name=name)


def test_what_does_not_exist_is_said_not_to_exist(codebuild):
    unknown = "nobody:00000000-0000-4000-8000-000000000000"
    for call in (codebuild.api.stop_build, codebuild.api.retry_build):
        assert error_of(call, id=unknown)[0] == "ResourceNotFoundException"
    assert codebuild.api.batch_get_builds(ids=[unknown])["buildsNotFound"] == [unknown]
    assert error_of(codebuild.api.list_builds_for_project, projectName="nobody")[0] == "ResourceNotFoundException"


def test_sts_knows_who_asks(server):
    identity = server.client("sts").get_caller_identity()
    assert identity["Account"] == ACCOUNT and f":{ACCOUNT}:" in identity["Arn"]


def test_logs_may_be_written_and_read_by_anybody_with_a_key(codebuild, name):
    logs, group, stream = codebuild.logs, f"/own/{name}", "stream"
    logs.create_log_group(logGroupName=group)
    assert error_of(logs.create_log_group, logGroupName=group)[0] == "ResourceAlreadyExistsException"
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    (described,) = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert described["retentionInDays"] == 7
    now = int(time.time() * 1000)
    events = [{"timestamp": now + n, "message": f"message {n}\nof two lines"} for n in range(3)]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    read = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
    assert [(one["timestamp"], one["message"]) for one in read] == [
        (one["timestamp"], one["message"]) for one in events
    ]
    logs.delete_log_group(logGroupName=group)
    assert error_of(logs.get_log_events, logGroupName=group, logStreamName=stream)[0] == "ResourceNotFoundException"
