"""What a build's commands may do at the server that runs them: credentials of the service role, found by AWS's own clients with
nothing configured, in every network.
"""

import json
import os
import re
import sys
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from host import wait_until
from local import spec
from served import ACCOUNT, REGION, Codebuild, outcome

AWS = f"{sys.prefix}/bin/aws"
DEPLOY = """
[[roles]]
name = "deploy"
policy = '''{"Statement": {"Effect": "Allow", "Action": ["s3:*", "ssm:GetParameter"], "Resource": "*"}}'''
"""


@pytest.fixture
def make_served(make_server, tmp_path):
    """Makes servers whose builds see this Python and its clients."""

    def make(network):
        if network == "egress" and os.geteuid() != 0:
            pytest.skip("this network takes root")
        config = tmp_path / "buildyard.toml"
        shared = json.dumps([sys.prefix, sys.base_prefix])
        config.write_text(f'network = "{network}"\n{DEPLOY}\n[host]\nshared = {shared}\n')
        return make_server("--config", str(config))

    return make


def python(script):
    """A command that runs this."""
    return f"{sys.executable} - <<'END'\nimport os, boto3\nfrom botocore.exceptions import ClientError\n{script}\nEND"


TRIES = """
s3 = boto3.client("s3")
big = os.urandom(12_000_000)
s3.put_object(Bucket="results", Key="big", Body=big)
assert s3.get_object(Bucket="results", Key="big")["Body"].read() == big
print("the same", boto3.client("sts").get_caller_identity()["Arn"])
for refused in [lambda: s3.get_object(Bucket="others", Key="secret"), boto3.client("codebuild").list_projects]:
    try:
        print("came through", refused())
    except ClientError as error:
        print("refused:", error.response["Error"]["Code"])
import urllib.error, urllib.request
for path in ["/v2/credentials/" + 32 * "0", "/v2/credentials/"]:
    try:
        print("came through", urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + path))
    except urllib.error.HTTPError as error:
        print("refused:", error.code)
"""


# EN-062, EN-068
@pytest.mark.parametrize("network", ["none", "egress", "host"])
def test_awss_clients_work_in_a_build_with_nothing_configured(make_served, name, network):
    served = make_served(network)
    codebuild = Codebuild(served)
    for bucket in ["results", "others"]:
        codebuild.s3.create_bucket(Bucket=bucket)
    codebuild.s3.put_object(Bucket="others", Key="secret", Body=b"not for you")
    commands = [
        "set -e",
        'test -z "$AWS_ACCESS_KEY_ID$AWS_SECRET_ACCESS_KEY$AWS_SESSION_TOKEN$AWS_ACCOUNT_ID"',
        f"{AWS} s3 ls",
        # Whoever has another path, or comes without one, gets nothing.
        python(TRIES),
    ]
    artifacts = {"type": "S3", "location": "results"}
    buildspec = spec(build=commands) | {"artifacts": {"files": ["**/*"]}}
    codebuild.create_project(name, json.dumps(buildspec), artifacts=artifacts)
    build = codebuild.run(name)
    log, uuid = codebuild.log(build), build["id"].split(":")[1]
    assert f"the same arn:aws:sts::{ACCOUNT}:assumed-role/codebuild/AWSCodeBuild-{uuid}\n" in log, log
    assert " others\n" in log and " results\n" in log, log
    assert re.findall("^refused: (.*)$", log, re.M) == ["AccessDenied", "AccessDeniedException", "404", "404"], log


# EN-062
def test_a_role_of_the_configuration_says_what_a_build_may(make_served, name):
    served = make_served("none")
    codebuild = Codebuild(served)
    served.client("ssm").put_parameter(Name="/a", Value="of-the-parameter", Type="String")
    script = """
boto3.client("s3").create_bucket(Bucket="made-inside")
print(boto3.client("ssm").get_parameter(Name="/a")["Parameter"]["Value"])
try:
    boto3.client("logs").create_log_group(logGroupName="/aws/codebuild/" + os.environ["CODEBUILD_BUILD_ID"].split(":")[0])
except ClientError as error:
    print("refused:", error.response["Error"]["Code"])
"""
    codebuild.create_project(name, json.dumps(spec(build=["set -e", python(script)])))
    codebuild.api.update_project(name=name, serviceRole=f"arn:aws:iam::{ACCOUNT}:role/service-role/deploy")
    build = codebuild.run(name)
    log = codebuild.log(build)
    assert outcome(build)[0] == "SUCCEEDED", log
    assert "of-the-parameter\nrefused: AccessDeniedException\n" in log, log


WAITS = """
import json, time
keys = boto3.Session().get_credentials().get_frozen_credentials()
# The log hides what looks like an access key.
print(json.dumps(["keys", keys.access_key[::-1], keys.secret_key, keys.token]), flush=True)
while True:
    try:
        boto3.client("s3").head_object(Bucket="results", Key="go")
        break
    except Exception:
        time.sleep(0.1)
print("went on")
"""


# EN-062
def test_a_builds_keys_outlive_a_killed_server_and_end_with_the_build(make_served, name):
    served = make_served("none")
    codebuild = Codebuild(served)
    codebuild.s3.create_bucket(Bucket="results")
    buildspec = spec(build=["set -e", python(WAITS)]) | {"artifacts": {"files": ["**/*"]}}
    codebuild.create_project(name, json.dumps(buildspec), artifacts={"type": "S3", "location": "results"})
    started = codebuild.start(name)

    def printed():
        build = codebuild.build(started["id"])
        log = codebuild.log(build) if "groupName" in build["logs"] else ""
        lines = [line for line in log.split("\n") if line.startswith('["keys"')]
        return json.loads(lines[0]) if lines and lines[0].endswith("]") else None

    _, key, secret, token = wait_until(printed, "the keys are printed")
    served.kill()
    served.start()

    def ask():
        client = boto3.client(
            "s3",
            endpoint_url=served.endpoint,
            region_name=REGION,
            aws_access_key_id=key[::-1],
            aws_secret_access_key=secret,
            aws_session_token=token,
        )
        try:
            return client.list_objects_v2(Bucket="results")["KeyCount"]
        except ClientError as error:
            return error.response["Error"]["Code"]

    assert ask() == 0, "nothing is remembered, and the key is good all the same"
    codebuild.s3.put_object(Bucket="results", Key="go", Body=b"")
    build = codebuild.wait(started["id"])
    assert "went on" in codebuild.log(build)
    assert ask() == "SignatureDoesNotMatch"


# EN-062
def test_a_projects_own_endpoint_comes_first(codebuild, name):
    variables = [{"name": "AWS_ENDPOINT_URL", "value": "http://elsewhere.example"}]
    codebuild.create_project(name, json.dumps(spec(build=["echo endpoint: $AWS_ENDPOINT_URL"])))
    build = codebuild.run(name, environmentVariablesOverride=variables)
    assert "endpoint: http://elsewhere.example\n" in codebuild.log(build)


# EN-100
def test_a_project_with_a_vpc_has_the_network_that_the_operator_means(make_server, tmp_path, name):
    config = tmp_path / "buildyard.toml"
    config.write_text('network = "none"\nvpc_network = "host"\n')
    codebuild = Codebuild(make_server("--config", str(config)))
    interfaces = spec(build=["echo interfaces: $(tail -n +3 /proc/net/dev | wc -l)"])
    vpc = {"vpcId": "vpc-1", "subnets": ["subnet-1"], "securityGroupIds": ["sg-1"]}
    codebuild.create_project(f"{name}-vpc", json.dumps(interfaces), vpcConfig=vpc)
    codebuild.create_project(name, json.dumps(interfaces))
    here = len(Path("/proc/net/dev").read_text().splitlines()) - 2
    build = codebuild.run(f"{name}-vpc")
    assert build["vpcConfig"] == vpc and f"interfaces: {here}\n" in codebuild.log(build)
    assert "interfaces: 1\n" in codebuild.log(codebuild.run(name))
