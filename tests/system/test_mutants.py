"""Every request that is one member away from a valid one, and random requests: none is a fault of the server's,
every answer is one that botocore parses by AWS's model, and what is refused has changed nothing.

A random request that fails is sent again by its seed and number: `--seed S --first N --random-requests 1`.
"""

import json

import pytest

import mutants
from local import spec
from served import ACCOUNT, ENVIRONMENT, REGION, Codebuild, Server
from wire import Wire

ROLE = f"arn:aws:iam::{ACCOUNT}:role/codebuild"
ARN = f"arn:aws:codebuild:{REGION}:{ACCOUNT}"
INLINE = json.dumps(spec(build=["true"]))
MOST_SHOWN = 20

# A project with every member that one may have.
PROJECT = {
    "name": "mutant",
    "description": "every member",
    "source": {
        "type": "GITHUB",
        "location": "https://github.com/owner/repository.git",
        "gitCloneDepth": 1,
        "gitSubmodulesConfig": {"fetchSubmodules": True},
        "buildspec": INLINE,
        "auth": {"type": "OAUTH"},
        "reportBuildStatus": True,
        "buildStatusConfig": {"context": "context", "targetUrl": "https://example.com/"},
        "insecureSsl": False,
    },
    "secondarySources": [{"type": "S3", "location": "bucket/key.zip", "sourceIdentifier": "second"}],
    "sourceVersion": "main",
    "secondarySourceVersions": [{"sourceIdentifier": "second", "sourceVersion": "1"}],
    "artifacts": {
        "type": "S3",
        "location": "bucket",
        "path": "path",
        "namespaceType": "BUILD_ID",
        "name": "name",
        "packaging": "ZIP",
        "overrideArtifactName": False,
        "encryptionDisabled": True,
        "bucketOwnerAccess": "NONE",
    },
    "secondaryArtifacts": [{"type": "S3", "location": "bucket", "artifactIdentifier": "second"}],
    "cache": {"type": "LOCAL", "modes": ["LOCAL_SOURCE_CACHE", "LOCAL_CUSTOM_CACHE"]},
    "environment": ENVIRONMENT
    | {
        "environmentVariables": [{"name": "NAME", "value": "value", "type": "PLAINTEXT"}],
        "privilegedMode": True,
        "certificate": "arn:aws:s3:::bucket/certificate.pem",
        "imagePullCredentialsType": "CODEBUILD",
        "hostKernel": "LINUX_KERNEL_LATEST",
    },
    "serviceRole": ROLE,
    "timeoutInMinutes": 60,
    "queuedTimeoutInMinutes": 480,
    "encryptionKey": f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/aws/s3",
    "tags": [{"key": "key", "value": "value"}, {"key": "another", "value": ""}],
    "vpcConfig": {"vpcId": "vpc-1", "subnets": ["subnet-1"], "securityGroupIds": ["sg-1"]},
    "badgeEnabled": True,
    "logsConfig": {
        "cloudWatchLogs": {"status": "ENABLED", "groupName": "group", "streamName": "stream"},
        "s3Logs": {"status": "DISABLED", "encryptionDisabled": False},
    },
    "fileSystemLocations": [
        {
            "type": "EFS",
            "location": "fs-1.efs.us-east-1.amazonaws.com:/",
            "mountPoint": "/mnt",
            "identifier": "efs",
            "mountOptions": "nfsvers=4.1",
        }
    ],
    "buildBatchConfig": {
        "serviceRole": ROLE,
        "combineArtifacts": True,
        "restrictions": {"maximumBuildsAllowed": 10, "computeTypesAllowed": ["BUILD_GENERAL1_SMALL"]},
        "timeoutInMins": 60,
        "batchReportMode": "REPORT_AGGREGATED_BATCH",
    },
    "concurrentBuildLimit": 1,
    "autoRetryLimit": 1,
}

# What a build may be started with and then runs here; the members that others have come on top of it one by one.
START = {
    "projectName": "built",
    "sourceVersion": "main",
    "artifactsOverride": {"type": "NO_ARTIFACTS"},
    "environmentVariablesOverride": [{"name": "NAME", "value": "value", "type": "PLAINTEXT"}],
    "buildspecOverride": INLINE,
    "timeoutInMinutesOverride": 60,
    "queuedTimeoutInMinutesOverride": 480,
    "cacheOverride": {"type": "NO_CACHE"},
    "serviceRoleOverride": ROLE,
    "encryptionKeyOverride": f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/aws/s3",
    "logsConfigOverride": {"cloudWatchLogs": {"status": "ENABLED", "groupName": "group"}},
    "debugSessionEnabled": False,
    "privilegedModeOverride": False,
    "autoRetryLimitOverride": 0,
}

OPERATIONS = [
    "BatchDeleteBuilds",
    "BatchGetBuilds",
    "BatchGetProjects",
    "CreateProject",
    "DeleteProject",
    "ListBuilds",
    "ListBuildsForProject",
    "ListProjects",
    "RetryBuild",
    "StartBuild",
    "StopBuild",
    "UpdateProject",
]


class World:
    """A server with something for every operation to work on. Builds never run: one that does not end has the only place."""

    def __init__(self, data):
        self.server = Server(data, "--concurrent-builds", "1")
        self.server.start()
        self.codebuild = Codebuild(self.server)
        self.api = self.codebuild.api
        self.wire = Wire(self.server, mutants.MODEL)
        self.codebuild.create_project("endless", json.dumps(spec(build=["sleep 100000"])))
        self.endless = self.codebuild.start("endless")["id"]
        self.codebuild.create_project("built", INLINE)
        self.api.create_project(**PROJECT | {"name": "changed"})
        self.api.create_project(**PROJECT | {"name": "gone"})
        self.stopped = self._stopped_build()

    def stop(self):
        """Leaves neither a server nor a build."""
        self.wire.close()
        self.api.stop_build(id=self.endless)
        self.codebuild.wait(self.endless)
        self.server.stop()

    def _stopped_build(self):
        build = self.codebuild.start("built")["id"]
        self.api.stop_build(id=build)
        return self.codebuild.wait(build)["id"]

    def valid(self):
        """A valid request for each operation."""
        paging = {"sortOrder": "ASCENDING"}
        return {
            "BatchDeleteBuilds": {"ids": [self.stopped]},
            "BatchGetBuilds": {"ids": [self.stopped, "nobody:00000000-0000-4000-8000-000000000000"]},
            "BatchGetProjects": {"names": ["built", f"{ARN}:project/changed", "nobody"]},
            "CreateProject": PROJECT,
            "DeleteProject": {"name": "gone"},
            "ListBuilds": paging,
            "ListBuildsForProject": {"projectName": "built"} | paging,
            "ListProjects": {"sortBy": "NAME"} | paging,
            "RetryBuild": {"id": self.stopped},
            "StartBuild": START,
            "StopBuild": {"id": self.stopped},
            "UpdateProject": PROJECT | {"name": "changed"},
        }

    def state(self, operation):
        """What an operation that is refused must leave as it is."""
        if operation in ("StartBuild", "RetryBuild", "StopBuild", "BatchDeleteBuilds"):
            return self._read("ListBuilds", {})
        return self._read("BatchGetProjects", {"names": [PROJECT["name"], "changed", "gone"]})

    def projects(self):
        """The names of all projects."""
        return self.api.list_projects()["projects"]

    def _read(self, operation, request):
        return self.wire.exchange(operation, json.dumps(request).encode())[2]

    def mend(self, operation, answer):
        """Puts back what an accepted request took, and takes back what it made."""
        match operation:
            case "CreateProject":
                self._read("DeleteProject", {"name": answer["project"]["name"]})
            case "DeleteProject":
                if not self.api.batch_get_projects(names=["gone"])["projects"]:
                    self.api.create_project(**PROJECT | {"name": "gone"})
            case "StartBuild" | "RetryBuild":
                self._read("StopBuild", {"id": answer["build"]["id"]})
            case "BatchDeleteBuilds" if answer["buildsDeleted"]:
                self.stopped = self._stopped_build()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("mutants") / "data")
    yield world
    world.stop()
    assert "panicked" not in world.server.log.read_text(errors="replace")


def faults_of(world, requests):
    """Sends the requests; says of which the answer, or what it left behind, is wrong."""
    found, sent, before = [], 0, None
    for request in requests:
        watched = changes_something(request.operation)
        if watched and before is None:
            before = world.state(request.operation)
        answer = world.wire.send(request.operation, request.body)
        sent += 1
        wrong = verdict(request, answer)
        if answer.accepted:
            world.mend(request.operation, answer.parsed)
            before = None
        elif watched and (after := world.state(request.operation)) != before:
            wrong.append(f"refused, and yet {before!r:.500} became {after!r:.500}")
            before = after
        if wrong:
            found.append(f"{'; '.join(wrong)}\n  {request}\n  {answer}")
        if len(found) == MOST_SHOWN:
            break
    return found, sent


def verdict(request, answer):
    """What is wrong with an answer, whatever the operation does."""
    wrong = list(answer.faults)
    if answer.status >= 500:
        wrong.append("a fault of the server's")
    if request.verdict == "refuse" and answer.accepted:
        wrong.append("the model forbids it, and it was accepted")
    if request.verdict == "accept" and not answer.accepted:
        wrong.append("it is valid, and was refused")
    if answer.accepted and request.operation in ("CreateProject", "UpdateProject"):
        wrong += unechoed(json.loads(request.body), answer.parsed["project"])
    return wrong


def unechoed(sent, shown):
    """Which members of a project do not come back as they were sent. AP-053, AP-054, AP-061."""
    shape = mutants.MODEL.operation_model("CreateProject").input_shape
    shown = shown | {"badgeEnabled": shown["badge"]["badgeEnabled"]}
    wanted = mutants.known(shape, sent)
    if wanted.get("concurrentBuildLimit") == -1:
        del wanted["concurrentBuildLimit"]  # AP-041: that is how the limit is taken away
    if not wanted.get("serviceRole", "").startswith("arn:"):
        wanted.pop("serviceRole", None)  # a bare name comes back as an ARN
    return [f"{path} was sent as {was!r:.200}, shown as {now!r:.200}" for path, was, now in differences(wanted, shown)]


def differences(sent, shown, path=""):
    """`(path, sent, shown)` of what was sent and is shown otherwise; that more is shown is no difference."""
    if isinstance(sent, dict) and isinstance(shown, dict):
        for name, value in sent.items():
            yield from differences(value, shown.get(name), f"{path}.{name}")
    elif isinstance(sent, list) and isinstance(shown, list) and len(sent) == len(shown):
        for index, (one, other) in enumerate(zip(sent, shown)):
            yield from differences(one, other, f"{path}[{index}]")
    elif sent != shown and not (sent == "" and path.endswith(".name")):  # SA-062: which has a default
        yield path, sent, shown


def changes_something(operation):
    return not operation.startswith(("BatchGet", "Get", "List"))


# AP-001..006, AP-009, AP-010, AP-020..033, AP-053, AP-054
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_single_change_of_a_valid_request_is_a_fault_of_ours(world, operation, record_property):
    before = world.projects()
    found, sent = faults_of(world, mutants.single_changes(operation, world.valid()[operation]))
    record_property("requests", sent)
    assert world.projects() == before
    assert not found, "\n".join([f"{len(found)} of {sent} requests", *found])


# AP-003, AP-004
def test_no_random_request_is_a_fault_of_ours(world, request, record_property):
    option = request.config.getoption
    seed, first, count = option("--seed"), option("--first"), option("--random-requests")
    found, sent = [], 0
    for number in range(first, first + count):
        wrong, _ = faults_of(world, [mutants.random_request(seed, number, world.valid())])
        found, sent = found + wrong, sent + 1
        if len(found) >= MOST_SHOWN:
            break
    record_property("requests", sent)
    assert not found, "\n".join([f"{len(found)} of {sent} requests", *found])
