"""What a build's commands may do at the server that runs them: credentials of the service role, found by AWS's own clients with
nothing configured, in every network.
"""

import itertools
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
from served import ACCOUNT, KEY_ID, REGION, SECRET, Codebuild, Server, contexts, outcome
from stores import s3_toml
from test_environment import zipped

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


def statement(effect, actions, resource="*", **more):
    return {"Effect": effect, "Action": actions, "Resource": resource, **more}


def roles_of(**roles):
    """Configuration of roles by name, each a list of statements."""
    policies = {name: json.dumps({"Version": "2012-10-17", "Statement": all}) for name, all in roles.items()}
    return "\n".join(f"[[roles]]\nname = \"{name}\"\npolicy = '''{policy}'''" for name, policy in policies.items())


# What the builds of `able` need, and no more.
NEEDED = [
    statement("Allow", ["s3:GetObject", "s3:GetObjectVersion"], "arn:aws:s3:::sources/*"),
    statement("Allow", "s3:PutObject", "arn:aws:s3:::results/*"),
    statement("Allow", ["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::caches/*"),
    statement("Allow", "ssm:GetParameters", "arn:aws:ssm:*:*:parameter/app/*"),
    statement(
        "Allow",
        "secretsmanager:GetSecretValue",
        f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:db-??????",
        Condition={"StringEquals": {"aws:ResourceTag/team": "red"}, "Bool": {"aws:SecureTransport": "true"}},
    ),
]
TIGHT = [
    statement("Allow", "*"),
    statement("Deny", ["s3:*", "secretsmanager:*", "ssm:*"]),
]


@pytest.fixture(scope="module")
def with_roles(tmp_path_factory):
    """A server whose roles are `tight`, which may do nothing of all this, and `able`."""
    data = tmp_path_factory.mktemp("roles") / "data"
    data.mkdir(mode=0o700)
    (data / "buildyard.toml").write_text(roles_of(tight=TIGHT, able=NEEDED, nothing=NEEDED[:1]))
    server = Server(data)
    server.start()
    codebuild = Codebuild(server)
    for bucket in ["sources", "results", "caches"]:
        codebuild.s3.create_bucket(Bucket=bucket)
    codebuild.s3.put_bucket_versioning(Bucket="sources", VersioningConfiguration={"Status": "Enabled"})
    codebuild.s3.put_object(Bucket="sources", Key="app.zip", Body=zipped({"file": "of the source\n"}))
    codebuild.s3.put_object(Bucket="sources", Key="folder/file", Body=b"of the source\n")
    codebuild.s3.put_object(Bucket="sources", Key="buildspec.yml", Body=json.dumps(spec(build=["echo by object"])).encode())
    ssm, secrets = server.client("ssm"), server.client("secretsmanager")
    ssm.put_parameter(Name="/app/a", Value="of-the-parameter", Type="SecureString")
    ssm.put_parameter(Name="/other/a", Value="of-another-parameter", Type="String")
    secrets.create_secret(Name="db", SecretString="of-the-secret", Tags=[{"Key": "team", "Value": "red"}])
    secrets.create_secret(Name="login", SecretString='{"username": "u", "password": "p"}')
    yield codebuild
    server.stop()


def as_role(role):
    return {"serviceRoleOverride": f"arn:aws:iam::{ACCOUNT}:role/service-role/{role}"}


def source_override(location, **more):
    return {"sourceTypeOverride": "S3", "sourceLocationOverride": location, **more}


def variable(kind, value):
    return {"environmentVariablesOverride": [{"name": "FOUND", "type": kind, "value": value}]}


def by_object():
    return {"buildspecOverride": "arn:aws:s3:::sources/buildspec.yml"}


def denied(build, action, resource, reason):
    uuid = build["id"].split(":")[1]
    role = build["serviceRole"].rsplit("/", 1)[1]
    return (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/{role}/AWSCodeBuild-{uuid} is not authorized to perform: {action} "
        f"on resource: {resource} {reason}"
    )


@pytest.fixture
def project(name):
    """A name for one of several builds of the same test."""
    return f"{name[:60]}-{next(NUMBERS)}"


NUMBERS = itertools.count()

READS = {
    "zip": (source_override("sources/app.zip"), "CLIENT_ERROR", "s3:GetObject", "arn:aws:s3:::sources/app.zip"),
    "folder": (source_override("sources/folder/"), "CLIENT_ERROR", "s3:GetObject", "arn:aws:s3:::sources/folder/file"),
    "version": (source_override("sources/app.zip"), "CLIENT_ERROR", "s3:GetObjectVersion", "arn:aws:s3:::sources/app.zip"),
    "secondary": (
        {"secondarySourcesOverride": [{"type": "S3", "location": "sources/app.zip", "sourceIdentifier": "more"}]},
        "CLIENT_ERROR",
        "s3:GetObject",
        "arn:aws:s3:::sources/app.zip",
    ),
    "buildspec": (by_object(), None, "s3:GetObject", "arn:aws:s3:::sources/buildspec.yml"),
    "parameter": (
        variable("PARAMETER_STORE", "/app/a"),
        "Decrypted Variables Error",
        "ssm:GetParameters",
        f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/app/a",
    ),
    "secret": (
        variable("SECRETS_MANAGER", "db"),
        "Secrets Manager Error Message",
        "secretsmanager:GetSecretValue",
        f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:db-",
    ),
}


# SA-006, BS-046, BS-047, BS-051
@pytest.mark.parametrize("what", READS)
def test_what_a_build_is_given_is_read_with_its_role_where_that_is_configured(with_roles, project, what):
    overrides, status_code, action, resource = READS[what]
    if what == "version":
        version = with_roles.s3.head_object(Bucket="sources", Key="app.zip")["VersionId"]
        overrides = overrides | {"sourceVersion": version}
    shown = 'if test -n "$FOUND"; then echo found: $FOUND | rev; fi; cat file "$CODEBUILD_SRC_DIR_more/file" 2>/dev/null || true'
    with_roles.create_project(project, json.dumps(spec(build=[shown])))

    build = with_roles.run(project, **overrides, **as_role("tight"))
    assert outcome(build) == ("FAILED", outcome(build)[1] | {"DOWNLOAD_SOURCE": "FAILED"}) and "BUILD" not in outcome(build)[1]
    code, message = contexts(build)["DOWNLOAD_SOURCE"]
    assert status_code is None or code == status_code, (code, message)
    told = denied(build, action, resource, "")
    assert told.rstrip() in message and "with an explicit deny in an identity-based policy" in message, message

    for role in ("able", "codebuild"):
        build = with_roles.run(project, **overrides, **as_role(role))
        log = with_roles.log(build)
        assert outcome(build)[0] == "SUCCEEDED", log
        expect = {"parameter": "of-the-parameter", "secret": "of-the-secret", "buildspec": "by object"}
        found = expect.get(what, "of the source")
        assert (found if what not in ("parameter", "secret") else found[::-1]) in log, log


# BS-046, BS-047, BS-051
@pytest.mark.parametrize(
    "kind, named, code",
    [
        ("PARAMETER_STORE", "/other/a", "Decrypted Variables Error"),
        ("PARAMETER_STORE", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/other/a", "Decrypted Variables Error"),
        ("PARAMETER_STORE", "/other/none", "Decrypted Variables Error"),
        ("SECRETS_MANAGER", "login", "Secrets Manager Error Message"),
        ("SECRETS_MANAGER", "none", "Secrets Manager Error Message"),
    ],
)
def test_what_no_policy_of_the_role_allows_is_denied_whether_it_is_there_or_not(with_roles, project, kind, named, code):
    with_roles.create_project(project, json.dumps(spec(build=["true"])))
    build = with_roles.run(project, **variable(kind, named), **as_role("able"))
    assert contexts(build)["DOWNLOAD_SOURCE"][0] == code
    message = contexts(build)["DOWNLOAD_SOURCE"][1]
    assert "AccessDeniedException: User: " in message and "because no identity-based policy allows the " in message, message


MAKES = {"artifacts": {"files": ["made/**/*"]}, "cache": {"paths": ["made/**/*"]}}


# SA-123, SA-116
@pytest.mark.parametrize("packaging", ["ZIP", "NONE"])
def test_what_a_build_leaves_is_written_with_its_role_where_that_is_configured(with_roles, project, packaging):
    artifacts = {"type": "S3", "location": "results", "name": project, "packaging": packaging}
    with_roles.create_project(project, json.dumps(spec(build=["mkdir made", "echo made > made/file"]) | MAKES), artifacts=artifacts)
    keys = lambda bucket: [one["Key"] for one in with_roles.s3.list_objects_v2(Bucket=bucket, Prefix=project).get("Contents", [])]
    for role in ("tight", "nothing"):
        build = with_roles.run(project, **as_role(role))
        assert outcome(build) == ("FAILED", outcome(build)[1] | {"UPLOAD_ARTIFACTS": "FAILED"}), build
        code, message = contexts(build)["UPLOAD_ARTIFACTS"]
        key = f"results/{project}" if packaging == "ZIP" else f"results/{project}/made/file"
        assert code == "CLIENT_ERROR", code
        assert denied(build, "s3:PutObject", f"arn:aws:s3:::{key}", "").rstrip() in message, message
        assert keys("results") == []
    assert outcome(with_roles.run(project, **as_role("able")))[0] == "SUCCEEDED"
    assert len(keys("results")) == 1


# SA-092, SA-116, BS-150
def test_a_cache_and_the_log_in_s3_need_the_role_and_fail_no_build(with_roles, name):
    logs = {"s3Logs": {"status": "ENABLED", "location": f"results/logs-{name}"}}
    cache = {"type": "S3", "location": f"caches/{name}"}
    made = spec(build=["mkdir -p made", "echo made > made/file"]) | {"cache": MAKES["cache"]}
    with_roles.create_project(name, json.dumps(made), logsConfig=logs | {"cloudWatchLogs": {"status": "ENABLED"}}, cache=cache)

    def left():
        places = [("caches", name), ("results", f"logs-{name}")]
        return [with_roles.s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] for bucket, prefix in places]

    build = with_roles.run(name, **as_role("tight"))
    log = with_roles.log(build)
    assert outcome(build)[0] == "SUCCEEDED" and left() == [0, 0], log
    assert "Unable to save the cache: AccessDenied: User: " in log and "s3:PutObject" in log, log
    assert "s3LogsArn" not in build["logs"], build["logs"]
    build = with_roles.run(name, **as_role("able"))
    assert outcome(build)[0] == "SUCCEEDED" and left() == [1, 1], with_roles.log(build)
    assert "s3LogsArn" in build["logs"]
    # What is there is not restored for whom it is not.
    build = with_roles.run(name, **as_role("tight"))
    log = with_roles.log(build)
    assert outcome(build)[0] == "SUCCEEDED" and left() == [1, 1], log
    assert "s3:GetObject on resource: arn:aws:s3:::caches/" in log, log
    assert "Restored the cache" in with_roles.log(with_roles.run(name, **as_role("able")))


# EN-024, EN-025
def test_the_login_of_an_image_is_read_with_the_role(with_roles, name):
    login = {"credential": "login", "credentialProvider": "SECRETS_MANAGER"}
    image = {"imageOverride": "localhost:1/team/tools:1", "registryCredentialOverride": login}
    with_roles.create_project(name, json.dumps(spec(build=["true"])))
    build = with_roles.run(name, **image, imagePullCredentialsTypeOverride="SERVICE_ROLE", **as_role("able"))
    code, message = contexts(build)["PROVISIONING"]
    assert code == "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE" and "registryCredential login: AccessDeniedException: User: " in message


# BS-046, BS-047, BS-051
def test_a_role_decides_over_what_is_fetched_from_aws_by_the_names_it_has_there(with_roles, make_server, tmp_path, name, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    secret = with_roles.server.client("secretsmanager").describe_secret(SecretId="login")["ARN"]
    parameter = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/other/a"
    but = [statement("Allow", "*"), statement("Deny", "*", [secret, parameter])]
    config = tmp_path / "buildyard.toml"
    at = f'[references]\nfrom = "aws"\nendpoint = "{with_roles.server.endpoint}"\nregion = "{REGION}"\n'
    config.write_text(roles_of(but=but) + "\n" + at)
    codebuild = Codebuild(make_server("--config", str(config)))
    codebuild.create_project(name, json.dumps(spec(build=["echo ${#FOUND} characters"])))
    for kind, named, action, arn in [
        ("SECRETS_MANAGER", "login", "secretsmanager:GetSecretValue", secret),
        ("SECRETS_MANAGER", secret, "secretsmanager:GetSecretValue", secret),
        ("PARAMETER_STORE", "/other/a", "ssm:GetParameters", parameter),
    ]:
        build = codebuild.run(name, **variable(kind, named), **as_role("but"))
        told = denied(build, action, arn, "with an explicit deny in an identity-based policy")
        assert told in contexts(build)["DOWNLOAD_SOURCE"][1], contexts(build)
    for kind, named, length in [("SECRETS_MANAGER", "db", 13), ("PARAMETER_STORE", "/app/a", 16)]:
        build = codebuild.run(name, **variable(kind, named), **as_role("but"))
        assert f"{length} characters" in codebuild.log(build), contexts(build)


# SA-006, SA-116, SA-123
def test_a_role_decides_over_objects_in_another_store_too(with_roles, make_server, tmp_path, name):
    config = tmp_path / "buildyard.toml"
    elsewhere = s3_toml(with_roles.server.endpoint, key_id=KEY_ID, secret=SECRET)
    config.write_text(roles_of(tight=TIGHT, able=NEEDED, nothing=NEEDED[:1]) + "\n" + elsewhere)
    codebuild = Codebuild(make_server("--config", str(config)))
    artifacts = {"type": "S3", "location": "results", "name": name, "packaging": "ZIP"}
    logs = {"s3Logs": {"status": "ENABLED", "location": f"results/{name}-logs"}}
    made = spec(build=["mkdir made", "cp file made"]) | MAKES
    codebuild.create_project(name, json.dumps(made), artifacts=artifacts, logsConfig=logs)
    keys = lambda: [one["Key"] for one in with_roles.s3.list_objects_v2(Bucket="results", Prefix=name).get("Contents", [])]
    for place in ("sources/app.zip", "sources/folder/"):
        for role, phase, action in [("tight", "DOWNLOAD_SOURCE", "s3:GetObject"), ("nothing", "UPLOAD_ARTIFACTS", "s3:PutObject")]:
            build = codebuild.run(name, **source_override(place), **as_role(role))
            assert f"is not authorized to perform: {action} on resource: " in contexts(build)[phase][1], contexts(build)
            assert "s3LogsArn" not in build["logs"] and keys() == []
    build = codebuild.run(name, **source_override("sources/app.zip"), **as_role("able"))
    assert outcome(build)[0] == "SUCCEEDED", contexts(build)
    assert keys() == [name, f"{name}-logs/{build['id'].split(':')[1]}.gz"]


# IN-111
@pytest.mark.parametrize("packaging", ["ZIP", "NONE"])
def test_reports_are_exported_with_the_role(with_roles, project, packaging):
    destination = {"bucket": "results", "path": f"{project}-reports", "packaging": packaging}
    export = {"exportConfigType": "S3", "s3Destination": destination}
    group = with_roles.api.create_report_group(name=project, type="TEST", exportConfig=export)["reportGroup"]["arn"]
    made = spec(build=["""echo '<testsuite name="s"><testcase name="a"/></testsuite>' > junit.xml"""])
    with_roles.create_project(project, json.dumps(made | {"reports": {group: {"files": ["junit.xml"]}}}))
    exported = lambda: with_roles.s3.list_objects_v2(Bucket="results", Prefix=f"{project}-reports")["KeyCount"]
    log = with_roles.log(with_roles.run(project, **as_role("tight")))
    assert exported() == 0 and "s3:PutObject on resource: arn:aws:s3:::results/" in log, log
    log = with_roles.log(with_roles.run(project, **as_role("able")))
    assert exported() == 1, log
