"""The AWS CLI, versions 1 and 2: every CodeBuild command there is here, its paginators, skeletons, output formats, errors.

Version 2 is Debian's; where it is not installed, version 1 is all. The guide's walk-through is in test_walkthrough.py.
"""

import json
import re

import pytest
import yaml

from aws_commands import AwsCli, pythons
from host import wait_until
from local import spec
from served import ACCOUNT, IMAGE, REGION
from world import ARN, INLINE, OPERATIONS, PROJECT, ROLE

# More projects than two pages hold.
MANY = 205
UNKNOWN = "nobody:00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module", params=pythons())
def aws(request, world, tmp_path_factory):
    cli = AwsCli(request.param, world.server, tmp_path_factory.mktemp("cli"))
    yield cli
    cli.close()


@pytest.fixture(scope="module")
def many(world):
    """Names of so many projects that they come in pages, as ListProjects has them."""
    for number in range(MANY):
        world.codebuild.create_project(f"many-{number:03}", INLINE)
    return sorted(world.api.get_paginator("list_projects").paginate().build_full_result()["projects"])


def kebab(operation):
    return re.sub(r"(?<=[a-z])([A-Z])", r"-\1", operation).lower()


# AP-060..064, AP-066, AP-068
def test_projects_by_the_commands(aws):
    made = aws.codebuild(
        "create-project",
        *("--name", "cli", "--service-role", ROLE, "--artifacts", "type=NO_ARTIFACTS"),
        *("--source", json.dumps({"type": "NO_SOURCE", "buildspec": INLINE})),
        *("--environment", f"type=LINUX_CONTAINER,image={IMAGE},computeType=BUILD_GENERAL1_SMALL"),
        *("--tags", "key=b,value=1", "key=a,value=2", "--timeout-in-minutes", "7"),
    )["project"]
    assert made["arn"] == f"{ARN}:project/cli" and made["timeoutInMinutes"] == 7
    assert made["tags"] == [{"key": "b", "value": "1"}, {"key": "a", "value": "2"}]
    changed = aws.codebuild("update-project", "--name", "cli", "--description", "ü", "--tags")["project"]
    assert changed["description"] == "ü" and changed["tags"] == []
    assert changed["source"] == made["source"] and changed["created"] == made["created"]
    found = aws.codebuild("batch-get-projects", "--names", "cli", made["arn"], "nobody")
    assert {one["name"] for one in found["projects"]} == {"cli"} and found["projectsNotFound"] == ["nobody"]
    assert aws.codebuild("invalidate-project-cache", "--project-name", "cli") == ""
    assert "cli" in aws.codebuild("list-projects", "--sort-by", "CREATED_TIME", "--sort-order", "DESCENDING")["projects"]
    platforms = aws.codebuild("list-curated-environment-images")["platforms"]
    assert all(image["name"] for one in platforms for language in one["languages"] for image in language["images"])
    assert aws.codebuild("delete-project", "--name", "cli") == ""
    assert aws.codebuild("delete-project", "--name", "cli") == "", "AP-062: once more is no error"


# AP-011, AP-050, AP-070, AP-073..078
def test_builds_by_the_commands(aws, world):
    world.codebuild.create_project("cli-built", INLINE)
    variables = ("name=NAME,value=other,type=PLAINTEXT", "name=MORE,value=1")
    start = ("start-build", "--project-name", "cli-built", "--environment-variables-override", *variables)
    started = aws.codebuild(*start)["build"]
    assert (started["buildStatus"], started["currentPhase"]) == ("IN_PROGRESS", "QUEUED")
    told = {one["name"]: one["value"] for one in started["environment"]["environmentVariables"]}
    assert told == {"NAME": "other", "MORE": "1"}
    kept = aws.codebuild("batch-delete-builds", "--ids", started["id"])
    assert kept["buildsNotDeleted"] == [{"id": started["arn"], "statusCode": "BUILD_IN_PROGRESS"}]
    aws.codebuild("stop-build", "--id", started["id"])
    stopped = wait_until(lambda: ended(aws, started["id"]), "the build has stopped")
    assert stopped["buildStatus"] == "STOPPED"
    again = aws.codebuild("retry-build", "--id", started["arn"])["build"]
    assert again["buildNumber"] == started["buildNumber"] + 1
    ids = aws.codebuild("list-builds-for-project", "--project-name", "cli-built")["ids"]
    assert ids == [again["id"], started["id"]], "the highest number first"
    assert aws.codebuild("list-builds", "--sort-order", "DESCENDING")["ids"][:2] == ids
    aws.codebuild("stop-build", "--id", again["id"])
    wait_until(lambda: ended(aws, again["id"]), "the build has stopped")
    gone = aws.codebuild("batch-delete-builds", "--ids", *ids)
    assert sorted(gone["buildsDeleted"]) == sorted([again["arn"], started["arn"]])
    assert aws.codebuild("batch-get-builds", "--ids", *ids) == {"builds": [], "buildsNotFound": ids}
    aws.codebuild("delete-project", "--name", "cli-built")


def ended(aws, build):
    found = aws.codebuild("batch-get-builds", "--ids", build)["builds"][0]
    return found if found["buildComplete"] else None


# AP-067, AP-110..115
def test_credentials_policies_and_visibility_by_the_commands(aws, world):
    imported = aws.codebuild(
        "import-source-credentials", "--server-type", "GITHUB", "--auth-type", "PERSONAL_ACCESS_TOKEN", "--token", "secret"
    )
    assert imported["arn"] == f"{ARN}:token/github"
    listed = aws.codebuild("list-source-credentials")["sourceCredentialsInfos"]
    assert {"arn": imported["arn"], "serverType": "GITHUB", "authType": "PERSONAL_ACCESS_TOKEN"} in listed
    assert "secret" not in json.dumps(listed)
    assert aws.codebuild("delete-source-credentials", "--arn", imported["arn"]) == imported

    policy = world.valid()["PutResourcePolicy"]["policy"].replace("changed", "built")
    place = ("--resource-arn", f"{ARN}:project/built")
    assert aws.codebuild("put-resource-policy", *place, "--policy", policy) == {"resourceArn": f"{ARN}:project/built"}
    assert json.loads(aws.codebuild("get-resource-policy", *place)["policy"]) == json.loads(policy)
    assert aws.codebuild("delete-resource-policy", *place) == ""
    assert aws.ended("codebuild", "get-resource-policy", *place)[0] == aws.refused
    assert aws.codebuild("list-shared-projects") == {"projects": []}

    shown = ("update-project-visibility", "--project-arn", f"{ARN}:project/built", "--project-visibility")
    public = aws.codebuild(*shown, "PUBLIC_READ", "--resource-access-role", ROLE)
    assert public["projectVisibility"] == "PUBLIC_READ" and public["publicProjectAlias"]
    assert aws.codebuild(*shown, "PRIVATE")["projectVisibility"] == "PRIVATE"


# AP-006, AP-064
def test_the_paginators_go_through_all_pages(aws, many):
    assert sorted(aws.codebuild("list-projects")["projects"]) == many
    one_page = aws.codebuild("list-projects", "--no-paginate")
    assert len(one_page["projects"]) == 100 and one_page["nextToken"]
    pages, token = [], ()
    while True:
        page = aws.codebuild("list-projects", "--max-items", "70", *token)
        pages.append(page["projects"])
        if "NextToken" not in page:
            break
        token = ("--starting-token", page["NextToken"])
    assert pages == [many[first : first + 70] for first in range(0, len(many), 70)]
    backwards = aws.codebuild("list-projects", "--sort-order", "DESCENDING")["projects"]
    assert backwards == many[::-1]
    assert aws.codebuild("list-shared-projects", "--page-size", "1", "--max-items", "3") == {"projects": []}
    code, _, err = aws.ended("codebuild", "list-projects", "--no-paginate", "--next-token", "made up")
    assert code == aws.refused and "(InvalidInputException) when calling the ListProjects operation" in err


# AP-010, AP-020..033
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_skeleton_filled_in_is_a_request(aws, world, operation):
    command = kebab(operation)
    skeleton = json.loads(aws.ended("codebuild", command, "--generate-cli-skeleton", "input")[1])
    filled = filled_in(skeleton, world.valid()[operation])
    assert filled or not world.valid()[operation]
    answer = aws.codebuild(command, "--cli-input-json", json.dumps(filled))
    world.mend(operation, answer or {})


def filled_in(skeleton, valid):
    """A skeleton with valid values in the place of its own, without what is left to be filled in."""
    if isinstance(skeleton, dict) and isinstance(valid, dict):
        return {name: filled_in(one, valid[name]) for name, one in skeleton.items() if name in valid}
    if isinstance(skeleton, list) and isinstance(valid, list):
        return [filled_in(skeleton[0], one) for one in valid]
    return valid


# AP-002
def test_every_output_format_shows_the_same(aws, world):
    one = ("codebuild", "batch-get-projects", "--names", "changed", "--output")
    expected = world.api.batch_get_projects(names=["changed"])["projects"][0]
    by_json = aws(*one, "json")["projects"][0]
    assert by_json["environment"] == expected["environment"] and by_json["tags"] == expected["tags"]
    text = aws(*one, "text").split("\n")
    assert any(line.startswith("PROJECTS\t") and expected["arn"] in line for line in text)
    assert "TAGS\tkey\tvalue" in text
    table = aws(*one, "table")
    assert "BatchGetProjects" in table and expected["arn"] in table and "|  serviceRole" in table
    if aws("--version").startswith("aws-cli/2"):
        assert yaml.safe_load(aws(*one, "yaml"))["projects"][0]["environment"] == expected["environment"]
        (page,) = yaml.safe_load(aws(*one, "yaml-stream"))
        assert page["projects"][0]["arn"] == expected["arn"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", in_utc(by_json["created"]))
    else:
        assert abs(by_json["created"] - expected["created"].timestamp()) < 0.01
    assert aws(*one, "text", "--query", "projects[].timeoutInMinutes") == "60\n"


def in_utc(time):
    """A time that the CLI shows in this host's zone, told apart from text that is no time."""
    import datetime

    return datetime.datetime.fromisoformat(time).astimezone(datetime.timezone.utc).isoformat(timespec="milliseconds")


# AP-003, AP-004, AP-038
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("start-build --project-name nobody", "(ResourceNotFoundException) when calling the StartBuild operation: "),
        (
            f"stop-build --id {UNKNOWN}",
            f"(ResourceNotFoundException) when calling the StopBuild operation: Build {UNKNOWN} does not exist",
        ),
        (
            "stop-build --id wrong",
            "(InvalidInputException) when calling the StopBuild operation: Invalid build ID provided",
        ),
        (
            "update-project --name built --concurrent-build-limit 0",
            "(InvalidInputException) when calling the UpdateProject operation: ",
        ),
        (
            "list-builds-for-project --project-name nobody",
            "(ResourceNotFoundException) when calling the ListBuildsForProject operation: ",
        ),
        (
            "start-build-batch --project-name built",
            "when calling the StartBuildBatch operation: StartBuildBatch is not available in this version",
        ),
    ],
    ids=lambda value: value.split()[0],
)
def test_an_error_is_told_and_ends_the_command_as_the_cli_does_it(aws, arguments, said):
    code, out, err = aws.ended("codebuild", *arguments.split())
    assert (code, out) == (aws.refused, "")
    assert "An error occurred " in err and said in err
