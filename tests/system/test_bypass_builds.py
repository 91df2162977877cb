"""Ways in by the back doors: as a build, as the machine a build runs on, as a git host that tells of a push, as a browser.

The classes 44 and 48 to 50 of the list that `test_bypass` has the first of, as far as there is such a door. Builds of this server come in by a
socket; a webhook and a console are not there, so nothing may be taken for one.
"""

import base64
import datetime
import hashlib
import hmac
import json
import math
import re
import socket
import stat

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from host import wait_until
from local import spec
from served import ACCOUNT, ENVIRONMENT, REGION, Codebuild, Server, unreadable
from test_bypass import TERMINATOR, VARIANTS, Door, Request, basic, clock, now, sha256  # noqa: F401

PATH = re.compile(r"/v2/credentials/[0-9a-f]{32}")
# Says where its credentials are, and goes on until it is stopped.
TELLS = ["env | grep AWS_CONTAINER_CREDENTIALS", "sleep 100000"]


class Knocking:
    """A build, as the socket for builds knows it."""

    def __init__(self, codebuild, project):
        self.codebuild = codebuild
        self.build = codebuild.start(project)
        self.id = self.build["id"]
        self.path = wait_until(self._path, "the build says where its credentials are", 60)
        self.introduction = f"{ACCOUNT} {self.id}\n"

    def _path(self):
        build = self.codebuild.build(self.id)
        found = PATH.search(self.codebuild.log(build)) if "groupName" in build["logs"] else None
        return found and found[0]

    def keys(self):
        status, answer = knock(self.codebuild.server, self.introduction, get(self.path))
        assert status == 200, answer
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    def stop(self):
        self.codebuild.api.stop_build(id=self.id)
        return self.codebuild.wait(self.id)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("doors") / "data", "--concurrent-builds", "4")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def builds(served):
    """Two builds that run, of two projects, and one that is over."""
    codebuild = Codebuild(served)
    for project in ("one", "other"):
        codebuild.create_project(project, json.dumps(spec(build=TELLS)))
    over = Knocking(codebuild, "one")
    over.stop()
    running = [Knocking(codebuild, project) for project in ("one", "other")]
    yield *running, over
    for build in running:
        build.stop()


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: 169.254.170.2\r\nConnection: close\r\n\r\n"


def knock(server, *said):
    """What is answered at the socket for builds: the status, 0 if there was none, and all of it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(server.data / "builds.sock"))
        answer = b""
        try:
            for part in said:
                connection.sendall(part if isinstance(part, bytes) else part.encode())
            while some := connection.recv(65536):
                answer += some
        except ConnectionError:
            pass
    return int(answer.split()[1]) if answer else 0, answer


def twisted(one, other, over):
    """Introductions and requests that are not those of one build for its own credentials."""
    uuid = one.id.split(":")[1]
    here = get(one.path)
    return [
        (one.introduction, get(other.path)),
        (other.introduction, here),
        (over.introduction, get(over.path)),
        (over.introduction, here),
        (f"000000000000 {one.id}\n", here),
        (f"{ACCOUNT} one:00000000-0000-4000-8000-000000000000\n", here),
        (f"{ACCOUNT}\n", here),
        ("\n", here),
        (f"{ACCOUNT}  {one.id}\n", here),
        (f"{ACCOUNT} {one.id} \n", here),
        (f"{ACCOUNT} {one.id.upper()}\n", here),
        (f"{ACCOUNT} {uuid}\n", here),
        (f"{ACCOUNT} {one.build['arn']}\n", here),
        (f"{ACCOUNT} {one.id}\0\n", here),
        (f"{ACCOUNT} {one.id}{' ' * 600}\n", here),
        (one.introduction.encode().replace(b"one", b"on\xe9"), here),
        ("", here),
        (one.introduction, other.introduction, get(other.path)),
        (one.introduction, here.replace("GET", "POST", 1)),
        (one.introduction, get(f"/v2/credentials/../credentials/{other.path.rpartition('/')[2]}")),
        (one.introduction, get(f"/v2/credentials/?{one.path}")),
        (one.introduction, get(one.path[:-1])),
        (one.introduction, get(one.path + "0")),
        (one.introduction, get(one.path.upper())),
        (one.introduction, get("/v2/credentials/")),
    ]


# EN-062
@pytest.mark.parametrize("table", ["build_documents", "projects"])
def test_credentials_that_cannot_be_looked_up_are_a_fault_to_be_asked_again_and_not_missing(served, builds, table):
    one, _, _ = builds
    with unreadable(served, table):
        status, answer = knock(served, one.introduction, get(one.path))
    assert (status, json.loads(answer.partition(b"\r\n\r\n")[2])["code"]) == (500, "InternalFailure")
    assert one.keys()


# EN-062; class 48
def test_nobody_gets_credentials_as_another_build(served, builds):
    one, other, over = builds
    variants = twisted(one, other, over)
    assert len(variants) >= VARIANTS
    for said in variants:
        assert one.keys()["AccessKeyId"].startswith("ASIA")
        status, answer = knock(served, *said)
        assert not 200 <= status < 300 and status < 500 and b"SecretAccessKey" not in answer, (said, answer)


# AP-004; class 48
@pytest.mark.parametrize("number", range(VARIANTS))
def test_the_door_for_builds_lets_nobody_in_without_a_signature(served, builds, number):
    door = Door(served)
    request = door.plain(number)
    status, answer = knock(served, builds[0].introduction, request.signed().wire())
    assert status == 200, answer
    status, answer = knock(served, builds[0].introduction, request.wire())
    assert 400 <= status < 500, answer
    # And the door for everybody knows no introductions, and has no credentials.
    before = [builds[0].introduction.encode(), b""][number % 2]
    status, answer = door.send(before + get(builds[number % 3].path).encode())
    assert not 200 <= status < 300 and b"SecretAccessKey" not in answer, answer


# class 48
def test_no_other_user_of_the_host_reaches_the_door_for_builds(served, builds):
    assert stat.S_IMODE(served.data.stat().st_mode) == 0o700
    # To connect is to write.
    assert stat.S_IMODE((served.data / "builds.sock").stat().st_mode) & 0o022 == 0


def deliveries():
    """Deliveries as git hosts send them, with signatures that a secret nobody agreed on makes, and worse."""
    push = {"ref": "refs/heads/main", "after": "0" * 40, "repository": {"full_name": "team/app"}, "zen": "π"}
    raw = json.dumps(push).encode()
    other = json.dumps(push, indent=1).encode()
    signed = lambda secret, body, digest: hmac.new(secret, body, digest).hexdigest()
    forms = [
        {},
        {"X-Hub-Signature-256": "sha256=" + signed(b"secret", raw, hashlib.sha256)},
        {"X-Hub-Signature-256": "sha256=" + signed(b"", raw, hashlib.sha256)},
        {"X-Hub-Signature-256": "sha256=" + signed(b"secret", other, hashlib.sha256)},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature": "sha1=" + signed(b"secret", raw, hashlib.sha1)},
        {"X-Gitlab-Token": ""},
        {"X-Gitlab-Token": "secret"},
        {"X-Hub-Signature": "sha256=" + signed(b"secret", raw, hashlib.sha256)},
        {"Authorization": "Basic " + base64.b64encode(b"x-token:secret").decode()},
    ]
    events = [{"X-GitHub-Event": "push"}, {"X-Gitlab-Event": "Push Hook"}, {"X-Event-Key": "repo:push"}]
    paths = ["/webhooks/one", "/webhooks", "/webhook/one", "/hooks/github", "/", "/codebuild/webhooks", "/webhooks/one?projectName=one"]
    for number in range(2 * VARIANTS):
        headers = forms[number % len(forms)] | events[number % len(events)]
        yield paths[number % len(paths)], headers, raw


# class 49
def test_no_delivery_is_taken_for_that_of_a_webhook(served, builds):
    api, door = Codebuild(served).api, Door(served)
    before = api.list_builds()["ids"]
    for path, headers, body in deliveries():
        lines = [f"POST {path} HTTP/1.1", f"Host: {door.host}", "Content-Type: application/json", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()] + [f"Content-Length: {len(body)}", "", ""]
        status, answer = door.send("\r\n".join(lines).encode() + body)
        assert 400 <= status < 500, (path, headers, answer)
    assert api.list_builds()["ids"] == before
    # Whoever asks for a webhook is told that there is none.
    with pytest.raises(ClientError, match="CreateWebhook is not available"):
        api.create_webhook(projectName="one")


def from_a_page(number):
    """A request that a page of another site can make a browser send, without asking or after asking."""
    kinds = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/x-amz-json-1.1"]
    methods = ["POST", "POST", "GET", "OPTIONS", "POST"]
    cookies = ["session=admin", "AWSALB=x; aws-creds=%7B%7D", "Authorization=AWS4-HMAC-SHA256", ""]
    headers = {
        "Origin": ["https://evil.example", "null", "http://127.0.0.1"][number % 3],
        "Cookie": cookies[number % len(cookies)],
        "Content-Type": kinds[number % len(kinds)],
        "X-Amz-Target": "CodeBuild_20161006.DeleteProject",
        "Sec-Fetch-Site": "cross-site",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-amz-target,authorization",
    }
    path = ["/", "/?Action=DeleteProject&name=one", "/service/CodeBuild_20161006/operation/DeleteProject"][number % 3]
    return methods[number % len(methods)], path, headers, b'{"name": "one"}'


# class 50
@pytest.mark.parametrize("number", range(VARIANTS))
def test_a_page_of_another_site_makes_no_browser_do_anything(served, builds, number):
    door = Door(served)
    method, path, headers, body = from_a_page(number)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {door.host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value] + [f"Content-Length: {len(body)}", "", ""]
    status, answer = door.send("\r\n".join(lines).encode() + body)
    assert 400 <= status < 500, answer
    assert b"access-control-allow" not in answer.lower() and b"set-cookie" not in answer.lower(), answer
    assert Codebuild(served).api.batch_get_projects(names=["one"])["projects"]


def of_a_build(server, keys, service):
    return boto3.client(
        service,
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["Token"],
        config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )


def controlling(other):
    """What a build has no business with: `(service, operation, arguments)`."""
    source = {"type": "NO_SOURCE", "buildspec": json.dumps(spec(build=["true"]))}
    role = f"arn:aws:iam::{ACCOUNT}:role/codebuild"
    project = {"source": source, "artifacts": {"type": "NO_ARTIFACTS"}, "environment": ENVIRONMENT, "serviceRole": role}
    arn = f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/one"
    return [
        ("codebuild", "create_project", project | {"name": "three"}),
        ("codebuild", "update_project", {"name": "one", "description": "x"}),
        ("codebuild", "delete_project", {"name": "other"}),
        ("codebuild", "update_project_visibility", {"projectArn": arn, "projectVisibility": "PUBLIC_READ"}),
        ("codebuild", "invalidate_project_cache", {"projectName": "one"}),
        ("codebuild", "start_build", {"projectName": "one"}),
        ("codebuild", "start_build", {"projectName": "other", "privilegedModeOverride": True}),
        ("codebuild", "stop_build", {"id": other.id}),
        ("codebuild", "retry_build", {"id": other.id}),
        ("codebuild", "list_builds", {}),
        ("codebuild", "list_projects", {}),
        ("codebuild", "list_builds_for_project", {"projectName": "one"}),
        ("codebuild", "import_source_credentials", {"serverType": "GITHUB", "authType": "PERSONAL_ACCESS_TOKEN", "token": "x"}),
        ("codebuild", "list_source_credentials", {}),
        ("codebuild", "put_resource_policy", {"policy": "{}", "resourceArn": arn}),
        ("codebuild", "get_resource_policy", {"resourceArn": arn}),
        ("codebuild", "list_report_groups", {}),
        ("ssm", "get_parameter", {"Name": "/secret"}),
        ("ssm", "put_parameter", {"Name": "/secret", "Value": "x", "Type": "String"}),
        ("secretsmanager", "list_secrets", {}),
        ("secretsmanager", "create_secret", {"Name": "x", "SecretString": "x"}),
        ("s3", "create_bucket", {"Bucket": "of-a-build"}),
        ("s3", "get_object", {"Bucket": "others", "Key": "secret"}),
        ("logs", "delete_log_group", {"logGroupName": "/aws/codebuild/one"}),
        ("logs", "get_log_events", {"logGroupName": "/aws/codebuild/other", "logStreamName": other.id.split(":")[1]}),
    ]


# EN-062; class 50
def test_a_builds_credentials_control_nothing(served, builds):
    one, other, _ = builds
    keys, tries = one.keys(), controlling(other)
    assert len(tries) >= VARIANTS
    of_a_build(served, keys, "s3").list_buckets()
    for service, operation, arguments in tries:
        with pytest.raises(ClientError) as refused:
            getattr(of_a_build(served, keys, service), operation)(**arguments)
        code = refused.value.response["Error"]["Code"]
        assert code in ("AccessDeniedException", "AccessDenied"), (operation, refused.value)
    found = of_a_build(served, keys, "codebuild")
    assert found.batch_get_builds(ids=[one.id, other.id])["buildsNotFound"] == [one.id, other.id]
    assert found.batch_get_projects(names=["one", "other"])["projectsNotFound"] == ["one", "other"]


# EN-062; class 50
def test_credentials_that_were_kept_are_nothing_once_their_build_is_over(served, builds):
    codebuild = Codebuild(served)
    kept = Knocking(codebuild, "one")
    keys = kept.keys()
    clients = {service: of_a_build(served, keys, service) for service in ("sts", "s3", "codebuild", "logs", "ssm", "secretsmanager")}
    clients["sts"].get_caller_identity()
    clients["s3"].list_buckets()
    kept.stop()
    allowed = [("sts", "get_caller_identity", {}), ("s3", "list_buckets", {})]
    refusals = set()
    for service, operation, arguments in [*allowed, *controlling(builds[1])]:
        with pytest.raises(ClientError) as refused:
            getattr(clients[service], operation)(**arguments)
        refusals.add(refused.value.response["Error"]["Code"])
    assert refusals <= {"InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidAccessKeyId"}, refusals


def asking(door, kind, build, keys, token, at):
    """Something that this build may ask, with these keys and this token, signed at this time."""
    if kind in ("json", "cbor"):
        text = build.encode()
        body = {"json": json.dumps({"ids": [build]}).encode(), "cbor": b"\xa1\x63ids\x81\x78" + bytes([len(text)]) + text}[kind]
        service, request = "codebuild", door.plain(["json", "cbor"].index(kind), "BatchGetBuilds", body)
    else:
        body = b"" if kind == "s3" else b"Action=GetCallerIdentity&Version=2011-06-15"
        headers = [("Host", door.host), ("Content-Length", str(len(body))), ("Connection", "close")]
        headers += [("X-Amz-Content-Sha256", sha256(body))] if kind == "s3" else [("Content-Type", "application/x-www-form-urlencoded")]
        service, request = kind, Request("GET" if kind == "s3" else "POST", "/", "", tuple(headers), body)
    date = basic(at)
    scope = (date[:8], REGION, service, TERMINATOR)
    signed = request.plus("X-Amz-Security-Token", token).signed(
        date=date, key=keys["AccessKeyId"], secret=keys["SecretAccessKey"], scope=scope
    )
    return signed.wire()


# Seconds from the token's end to the server's time, and to the time of the signature; whether the key and the token are those that are over.
OVER = [(0, 0, True, True), (60, -1, True, True), (30 * 86_400, 30 * 86_400, True, True), (5, 5, False, True), (5, 5, True, False)]


# AP-004, EN-062; class 44
def test_a_token_that_has_expired_lets_nobody_in(clock):  # noqa: F811
    codebuild, door = Codebuild(clock), Door(clock)
    codebuild.create_project("one", json.dumps(spec(build=TELLS)))
    build = Knocking(codebuild, "one")
    old = build.keys()
    end = datetime.datetime.fromisoformat(old["Expiration"])
    variants = [(kind, *over) for kind in ("json", "cbor", "s3", "sts") for over in OVER]
    assert len(variants) >= VARIANTS
    for kind, server, signature, is_old_key, is_old_token in variants:
        # The same is let in until the token ends.
        before = end - datetime.timedelta(seconds=30)
        clock.ahead(math.ceil((before - now()).total_seconds()))
        status, answer = door.send(asking(door, kind, build.id, old, old["Token"], before))
        assert status == 200, (kind, answer)
        clock.ahead(math.ceil((end - now()).total_seconds()) + server)
        at = end + datetime.timedelta(seconds=signature)
        fresh = build.keys()
        key, token = (old if is_old_key else fresh), (old if is_old_token else fresh)["Token"]
        status, answer = door.send(asking(door, kind, build.id, key, token, at))
        assert 400 <= status < 500, (kind, server, signature, answer)
        assert b"ExpiredToken" in answer or not (is_old_key and is_old_token), (kind, server, signature, answer)
        # And those that the build has fetched since are let in at the same time.
        status, answer = door.send(asking(door, kind, build.id, fresh, fresh["Token"], at))
        assert status == 200, (kind, server, signature, answer)
    clock.ahead(0)
    build.stop()
