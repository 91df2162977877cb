"""Secrets Manager, and builds whose variables come from there."""

import json

import pytest

from local import spec
from served import contexts, outcome

VALUE = "secret-value-of-nobodys-business"


@pytest.fixture
def secrets(server):
    return server.client("secretsmanager")


def wanting(variables, **phases):
    return json.dumps(spec(**phases) | {"env": {"secrets-manager": variables}})


# BS-049, BS-050, BS-052
def test_secrets_are_found_by_name_arn_key_stage_and_version(server, codebuild, secrets, name):
    made = secrets.create_secret(Name="build/db", SecretString=json.dumps({"user": "app", "password": VALUE}))
    later = json.dumps({"user": "later", "password": VALUE})
    secrets.put_secret_value(SecretId="build/db", SecretString=later)
    secrets.create_secret(Name="build/whole", SecretString="all of it")
    variables = {
        "WHOLE": "build/whole",
        "USER_NOW": "build/db:user",
        "USER_BEFORE": "build/db:user:AWSPREVIOUS",
        "USER_FIRST": f"build/db:user::{made['VersionId']}",
        "USER_BY_ARN": f"{made['ARN']}:user",
        "PASSWORD": "build/db:password",
    }
    checks = [
        'test "$WHOLE" = "all of it"',
        'test "$USER_NOW $USER_BEFORE $USER_FIRST $USER_BY_ARN" = "later app app later"',
        "echo password=$PASSWORD of-project=$OF_PROJECT",
    ]
    codebuild.create_project(name, wanting(variables, build=checks))
    reference = {"name": "OF_PROJECT", "value": "build/db:password", "type": "SECRETS_MANAGER"}
    build = codebuild.run(name, environmentVariablesOverride=[reference])
    log = codebuild.log(build)
    assert outcome(build)[0] == "SUCCEEDED", log
    assert "password=*** of-project=***" in log and VALUE not in log
    shown = {one["name"]: one["value"] for one in build["environment"]["environmentVariables"]}
    assert shown["OF_PROJECT"] == "build/db:password"


# BS-051
@pytest.mark.parametrize(
    "reference, said",
    {
        "nobody/knows": "nobody/knows: ResourceNotFoundException",
        "there:absent": "absent",
        "there:user:AWSPREVIOUS": "ResourceNotFoundException",
        "text:user": "text",
        "bytes": "binary",
        "doomed": "marked for deletion",
    }.items(),
)
def test_a_secret_that_cannot_be_had_fails_download_source(codebuild, secrets, reference, said, request):
    wanted = {"there": '{"user": "u"}', "text": "no JSON", "doomed": "x"}
    there = {one["Name"] for one in secrets.list_secrets(IncludePlannedDeletion=True)["SecretList"]}
    for key, text in wanted.items():
        if key not in there:
            secrets.create_secret(Name=key, SecretString=text)
    if "bytes" not in there:
        secrets.create_secret(Name="bytes", SecretBinary=b"\x00\xff")
        secrets.delete_secret(SecretId="doomed")
    project = "secret-" + reference.replace("/", "-").replace(":", "-").lower()
    codebuild.create_project(project, wanting({"A": reference}, build=["echo never"]))
    build = codebuild.run(project)
    status, phases = outcome(build)
    assert (status, phases["DOWNLOAD_SOURCE"]) == ("FAILED", "FAILED") and "BUILD" not in phases
    code, message = contexts(build)["DOWNLOAD_SOURCE"]
    assert code == "Secrets Manager Error Message" and said in message, (code, message)
