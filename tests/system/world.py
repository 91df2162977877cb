"""A server with something for every operation to work on, and a valid request for each: what tests of many clients begin from."""

import json

from local import spec
from served import ACCOUNT, ENVIRONMENT, REGION, Codebuild, Server
from wire import Wire

ROLE = f"arn:aws:iam::{ACCOUNT}:role/codebuild"
ARN = f"arn:aws:codebuild:{REGION}:{ACCOUNT}"
INLINE = json.dumps(spec(build=["true"]))

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
    "badgeEnabled": False,
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

POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": "210987654321"},
            "Action": ["codebuild:BatchGetProjects", "codebuild:BatchGetBuilds", "codebuild:ListBuildsForProject"],
            "Resource": f"{ARN}:project/changed",
        }
    ],
}

CREDENTIALS = {
    "username": "user",
    "token": "token",
    "serverType": "BITBUCKET",
    "authType": "BASIC_AUTH",
    "shouldOverwrite": True,
}

OPERATIONS = [
    "BatchDeleteBuilds",
    "BatchGetBuilds",
    "BatchGetProjects",
    "CreateProject",
    "DeleteProject",
    "DeleteResourcePolicy",
    "DeleteSourceCredentials",
    "GetResourcePolicy",
    "ImportSourceCredentials",
    "InvalidateProjectCache",
    "ListBuilds",
    "ListBuildsForProject",
    "ListCuratedEnvironmentImages",
    "ListProjects",
    "ListSharedProjects",
    "ListSourceCredentials",
    "PutResourcePolicy",
    "RetryBuild",
    "StartBuild",
    "StopBuild",
    "UpdateProject",
    "UpdateProjectVisibility",
]


class World:
    """A server with something for every operation to work on. Builds never run: one that does not end has the only place."""

    def __init__(self, data):
        self.server = Server(data, "--concurrent-builds", "1")
        self.server.start()
        self.codebuild = Codebuild(self.server)
        self.api = self.codebuild.api
        self.wire = Wire(self.server)
        self.codebuild.create_project("endless", json.dumps(spec(build=["sleep 100000"])))
        self.endless = self.codebuild.start("endless")["id"]
        self.codebuild.create_project("built", INLINE)
        self.api.create_project(**PROJECT | {"name": "changed"})
        self.api.create_project(**PROJECT | {"name": "gone"})
        self.stopped = self._stopped_build()
        self.api.import_source_credentials(**CREDENTIALS)
        self._read("PutResourcePolicy", self.valid()["PutResourcePolicy"])

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
            "DeleteResourcePolicy": {"resourceArn": f"{ARN}:project/changed"},
            "DeleteSourceCredentials": {"arn": f"{ARN}:token/bitbucket"},
            "GetResourcePolicy": {"resourceArn": f"{ARN}:project/changed"},
            "ImportSourceCredentials": CREDENTIALS,
            "InvalidateProjectCache": {"projectName": "built"},
            "ListBuilds": paging,
            "ListBuildsForProject": {"projectName": "built"} | paging,
            "ListCuratedEnvironmentImages": {},
            "ListProjects": {"sortBy": "NAME"} | paging,
            "ListSharedProjects": {"sortBy": "ARN", "maxResults": 100} | paging,
            "ListSourceCredentials": {},
            "PutResourcePolicy": {"policy": json.dumps(POLICY), "resourceArn": f"{ARN}:project/changed"},
            "RetryBuild": {"id": self.stopped},
            "StartBuild": START,
            "StopBuild": {"id": self.stopped},
            "UpdateProject": PROJECT | {"name": "changed"},
            "UpdateProjectVisibility": {
                "projectArn": f"{ARN}:project/changed",
                "projectVisibility": "PUBLIC_READ",
                "resourceAccessRole": ROLE,
            },
        }

    def state(self, operation):
        """What an operation that is refused must leave as it is."""
        if operation in ("StartBuild", "RetryBuild", "StopBuild", "BatchDeleteBuilds"):
            return self._read("ListBuilds", {})
        if "SourceCredentials" in operation:
            return self._read("ListSourceCredentials", {})
        if "ResourcePolicy" in operation:
            return self._read("GetResourcePolicy", {"resourceArn": f"{ARN}:project/changed"})
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
            case "DeleteSourceCredentials":
                self._read("ImportSourceCredentials", CREDENTIALS)
            case "DeleteResourcePolicy":
                self._read("PutResourcePolicy", self.valid()["PutResourcePolicy"])
