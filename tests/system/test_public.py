"""Public projects: what anybody with a key sees of them. The operations are in no SDK, so they are called by hand."""

import json

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
import urllib3

from local import spec
from served import ACCOUNT, KEY_ID, REGION, SECRET

ROLE = f"arn:aws:iam::{ACCOUNT}:role/readers"


def call(server, operation, **request):
    """`(status, answer)` of a signed call."""
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": f"CodeBuild_20161006.{operation}",
    }
    asked = botocore.awsrequest.AWSRequest("POST", server.endpoint + "/", headers=headers, data=json.dumps(request))
    credentials = botocore.credentials.Credentials(KEY_ID, SECRET)
    botocore.auth.SigV4Auth(credentials, "codebuild", REGION).add_auth(asked)
    answer = urllib3.PoolManager().request(
        "POST", asked.url, body=asked.body, headers=dict(asked.headers), retries=False
    )
    return answer.status, json.loads(answer.data)


@pytest.fixture
def public(codebuild, name):
    """A public project and its alias."""
    codebuild.create_project(name, json.dumps(spec(build=["echo hello-public", "echo second"])), description="open")
    arn = f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{name}"
    shown = codebuild.api.update_project_visibility(
        projectArn=arn, projectVisibility="PUBLIC_READ", resourceAccessRole=ROLE
    )
    assert shown["projectVisibility"] == "PUBLIC_READ"
    return arn, shown["publicProjectAlias"]


# AP-160, AP-161, IN-122
def test_a_public_project_its_builds_and_logs_are_read_by_alias(server, codebuild, public, name):
    arn, alias = public
    builds = [codebuild.run(name) for _ in range(3)]
    status, answer = call(server, "GetPublicProject", publicProjectAlias=alias)
    assert status == 200 and answer["project"]["name"] == name and answer["project"]["description"] == "open"
    assert "serviceRole" not in answer["project"] and "arn" not in answer["project"]

    status, first = call(server, "DescribeBuildsForPublicProject", publicProjectAlias=alias, maxResults=2)
    status, last = call(
        server, "DescribeBuildsForPublicProject", publicProjectAlias=alias, nextToken=first["nextToken"]
    )
    numbers = [build["buildNumber"] for build in first["builds"] + last["builds"]]
    assert status == 200 and numbers == [3, 2, 1] and "nextToken" not in last

    newest = first["builds"][0]
    assert newest["id"] == f"{alias}:{builds[2]['id'].split(':')[1]}"
    status, answer = call(server, "GetPublicBuild", publicBuildAlias=newest["id"])
    assert status == 200 and answer["build"] == newest
    assert newest["buildStatus"] == "SUCCEEDED" and newest["artifacts"] == {"type": "NO_ARTIFACTS"}
    assert newest["logsStatus"]["cloudWatchLogsStatus"] == "ENABLED" and "serviceRole" not in newest

    lines, token = [], {}
    while True:
        status, page = call(
            server, "GetCloudWatchLogsForPublicBuild", publicBuildAlias=newest["id"], maxResult=5, **token
        )
        assert status == 200 and len(page["logs"]) <= 5
        lines += page["logs"]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert "".join(lines) == codebuild.log(builds[2]) and "hello-public\n" in lines


# AP-067, IN-122
def test_a_public_project_without_a_role_shows_its_builds_and_no_logs(server, codebuild, name):
    codebuild.create_project(name, json.dumps(spec(build=["echo read-by-the-role"])))
    asked = {"projectArn": f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{name}", "projectVisibility": "PUBLIC_READ"}
    alias = codebuild.api.update_project_visibility(**asked)["publicProjectAlias"]
    build = f"{alias}:{codebuild.run(name)['id'].split(':')[1]}"
    assert call(server, "GetPublicBuild", publicBuildAlias=build)[0] == 200
    status, refused = call(server, "GetCloudWatchLogsForPublicBuild", publicBuildAlias=build)
    assert status == 400 and "resourceAccessRole" in refused["message"]
    assert codebuild.api.update_project_visibility(**asked, resourceAccessRole=ROLE)["publicProjectAlias"] == alias
    status, shown = call(server, "GetCloudWatchLogsForPublicBuild", publicBuildAlias=build)
    assert status == 200 and "read-by-the-role\n" in shown["logs"]


# AP-160, AP-161
def test_what_is_not_public_now_is_not_there(server, codebuild, public, name):
    arn, alias = public
    build = codebuild.run(name)
    of_build = f"{alias}:{build['id'].split(':')[1]}"
    nobody = f"{alias}:00000000-0000-4000-8000-000000000000"
    assert call(server, "GetPublicBuild", publicBuildAlias=of_build)[0] == 200
    status, answer = call(server, "GetPublicBuild", publicBuildAlias=nobody)
    assert status == 400 and answer["__type"] == "ResourceNotFoundException"
    codebuild.api.update_project_visibility(projectArn=arn, projectVisibility="PRIVATE")
    for operation, request in (
        ("GetPublicProject", {"publicProjectAlias": alias}),
        ("DescribeBuildsForPublicProject", {"publicProjectAlias": alias}),
        ("GetPublicBuild", {"publicBuildAlias": of_build}),
        ("GetCloudWatchLogsForPublicBuild", {"publicBuildAlias": of_build}),
        ("GetPublicProject", {"publicProjectAlias": "nobody"}),
    ):
        status, answer = call(server, operation, **request)
        assert (status, answer["__type"]) == (400, "ResourceNotFoundException"), operation
    for operation, request in (
        ("GetPublicBuild", {"publicBuildAlias": "no alias"}),
        ("GetPublicProject", {}),
        ("GetCloudWatchLogsForPublicBuild", {"publicBuildAlias": of_build, "maxResult": 10001}),
    ):
        status, answer = call(server, operation, **request)
        assert (status, answer["__type"]) == (400, "ValidationException"), operation
    for operation, request in (
        ("GetPresignedUrlsForPublicBuild", {"publicBuildAlias": of_build}),
        ("GetPublicBuildBatch", {"publicBuildBatchAlias": of_build}),
        ("DescribeBuildBatchesForPublicProject", {"publicProjectAlias": alias}),
    ):
        status, answer = call(server, operation, **request)
        assert (status, answer["__type"]) == (400, "InvalidInputException"), operation
        assert answer["message"] == f"{operation} is not available in this version"
