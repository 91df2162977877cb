"""Two protocols, one answer: CodeBuild in JSON and in CBOR; and the tokens of its lists."""

import base64
import http.client
import threading

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.exceptions
import botocore.session
import pytest
from botocore.config import Config

from served import ACCOUNT, ENVIRONMENT, KEY_ID, REGION, SECRET
from test_api import INLINE, error_of, sample

PROJECT = {
    "source": {"type": "NO_SOURCE", "buildspec": INLINE},
    "artifacts": {"type": "NO_ARTIFACTS"},
    "environment": ENVIRONMENT,
    "serviceRole": f"arn:aws:iam::{ACCOUNT}:role/codebuild",
}


def in_cbor(server):
    """A client of the same model, but for the one protocol that it may speak."""
    session = botocore.session.Session()
    loader = session.get_component("data_loader")
    load = loader.load_service_model

    def cbor_only(service, kind, *version, **more):
        model = load(service, kind, *version, **more)
        if service == "codebuild" and kind == "service-2":
            assert "smithy-rpc-v2-cbor" in model["metadata"]["protocols"]
            metadata = model["metadata"] | {"protocol": "smithy-rpc-v2-cbor", "protocols": ["smithy-rpc-v2-cbor"]}
            model = dict(model, metadata=metadata)
        return model

    loader.load_service_model = cbor_only
    client = session.create_client(
        "codebuild",
        region_name=REGION,
        endpoint_url=server.endpoint,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 0}, parameter_validation=False),
    )
    assert client.meta.service_model.metadata["protocols"] == ["smithy-rpc-v2-cbor"]
    return client


def answer(client, operation, parameters):
    """What a client makes of an answer, but for what differs from request to request."""
    try:
        answered = client._make_api_call(operation, parameters)
    except botocore.exceptions.ClientError as error:
        answered = error.response
    metadata = answered.pop("ResponseMetadata")
    assert metadata["RequestId"] == metadata["HTTPHeaders"]["x-amzn-requestid"]
    return metadata["HTTPStatusCode"], answered


def signed(server, path, headers, body, method="POST"):
    """Sends a request that is signed as it is; returns status, headers and body."""
    request = botocore.awsrequest.AWSRequest(method, server.endpoint + path, headers=headers, data=body)
    credentials = botocore.credentials.Credentials(KEY_ID, SECRET)
    botocore.auth.SigV4Auth(credentials, "codebuild", REGION).add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(method, path, body, dict(request.headers))
    response = connection.getresponse()
    answered = response.status, response.headers, response.read()
    connection.close()
    return answered


# AP-001, AP-002, AP-003, AP-004
def test_every_operation_has_the_same_answer_in_json_and_in_cbor(server, codebuild, name):
    json, cbor = server.client("codebuild", parameter_validation=False), in_cbor(server)
    created = cbor.create_project(
        name=name,
        **PROJECT,
        tags=[{"key": "team", "value": "équipe"}],
        timeoutInMinutes=300,
        badgeEnabled=False,
    )["project"]
    assert created == json.batch_get_projects(names=[name])["projects"][0]
    assert created["created"].microsecond % 1000 == 0 and created["timeoutInMinutes"] == 300
    build = codebuild.wait(cbor.start_build(projectName=name, timeoutInMinutesOverride=7)["build"]["id"])
    assert build["timeoutInMinutes"] == 7
    calls = [
        ("BatchGetBuilds", {"ids": [build["id"], "nobody:none"]}),
        ("ListBuildsForProject", {"projectName": name, "sortOrder": "DESCENDING"}),
        ("ListBuildsForProject", {"projectName": name, "nextToken": "of nobody"}),
        ("ListProjects", {}),
        ("StopBuild", {"id": build["id"]}),
        ("StopBuild", {"id": f"{name}:00000000-0000-4000-8000-000000000000"}),
        ("CreateProject", {"name": name}),
        ("BatchGetProjects", {"names": []}),
        ("StartBuild", {"projectName": name, "timeoutInMinutesOverride": 100_000}),
    ]
    model = json.meta.service_model
    reading = [operation for operation in model.operation_names if operation.startswith(("BatchGet", "List", "Get"))]
    calls += [(operation, sample(model.operation_model(operation).input_shape)) for operation in reading]
    for operation, given in calls:
        assert answer(json, operation, given) == answer(cbor, operation, given), operation


# AP-001, AP-003
def test_cbor_that_is_unsound_or_says_it_is_something_else_is_refused(server):
    path = "/service/CodeBuild_20161006/operation/ListProjects"
    headers = {"smithy-protocol": "rpc-v2-cbor", "content-type": "application/cbor"}
    status, answered, body = signed(server, path, headers, b"\xbf\xff")
    assert (status, answered["smithy-protocol"], answered["content-type"]) == (200, "rpc-v2-cbor", "application/cbor")
    assert body.startswith(b"\xa1\x68projects")
    assert "x-amz-request-id" not in answered
    assert signed(server, path, {"smithy-protocol": "rpc-v2-cbor"}, b"")[0] == 200
    unsound = [
        b"\xa2\x66sortByf\x66sortBy\xf6",
        b"\xa2\x66sortBy\xf6\x66sortBy\xf6",
        b"\x9f" * 100_000,
        b"\xbb" + b"\xff" * 8,
        b"\xa1\x66sortBy\xc2\x41\x01",
        b'{"sortBy": "NAME"}',
        b"\xa0\xa0",
    ]
    for body in unsound:
        status, answered, refusal = signed(server, path, headers, body)
        assert status == 400 and b"#SerializationException" in refusal, (body[:40], refusal)
    status, _, refusal = signed(server, path, headers | {"content-type": "application/x-amz-json-1.1"}, b"{}")
    assert status == 415 and b"#UnsupportedMediaTypeException" in refusal
    for wrong in [
        {"smithy-protocol": "rpc-v2-json"},
        {"x-amz-target": "CodeBuild_20161006.ListProjects"},
        {"x-amzn-target": "CodeBuild_20161006.ListProjects"},
    ]:
        status, _, refusal = signed(server, path, headers | wrong, b"\xa0")
        assert status == 400 and b"UnknownOperationException" in refusal, wrong
    for other in ["/service/Logs_20140328/operation/DescribeLogGroups", path + "/", path + "X", "/service/operation/"]:
        assert b"UnknownOperationException" in signed(server, other, headers, b"\xa0")[2], other


def tells(token, *words):
    """Whether a token, or the bytes that it spells, has one of these words, which are too long to be there by chance."""
    text = token.partition("/")[2] or token
    spelled = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return any(word.encode() in read for word in words for read in (token.encode(), spelled))


# AP-006
def test_no_token_of_any_service_tells_what_is_next(server, name):
    codebuild, logs, s3 = (server.client(service) for service in ("codebuild", "logs", "s3"))
    ssm, secrets = server.client("ssm"), server.client("secretsmanager")
    tagging = server.client("resourcegroupstaggingapi")
    bucket = name[:40]
    s3.create_bucket(Bucket=bucket)
    for number in range(3):
        own = f"{name[:50]}-{number}"
        codebuild.create_project(name=own, **PROJECT, tags=[{"key": "of", "value": name}])
        logs.create_log_group(logGroupName=own)
        s3.put_object(Bucket=bucket, Key=own, Body=b"")
        ssm.put_parameter(Name=own, Value="x", Type="String")
        secrets.create_secret(Name=own, SecretString="x")
    logs.create_log_stream(logGroupName=own, logStreamName=own)
    listed = [
        logs.describe_log_groups(limit=1)["nextToken"],
        logs.get_log_events(logGroupName=own, logStreamName=own)["nextForwardToken"],
        s3.list_objects_v2(Bucket=bucket, MaxKeys=1)["NextContinuationToken"],
        ssm.describe_parameters(MaxResults=1)["NextToken"],
        secrets.list_secrets(MaxResults=1)["NextToken"],
        tagging.get_resources(ResourcesPerPage=1)["PaginationToken"],
    ]
    for token in listed:
        assert not tells(token, name[:8], "name:0", "secrets", "log-group"), token
    # What S3 gave goes on in its own list, and nothing else does.
    token = listed[2]
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=5, ContinuationToken=token)
    assert [each["Key"] for each in page["Contents"]] == [f"{name[:50]}-{number}" for number in (1, 2)]
    forged = base64.urlsafe_b64encode(f"{name[:50]}-0".encode()).decode().rstrip("=")
    for wrong in [{"ContinuationToken": forged}, {"ContinuationToken": token[:-1]}, {"ContinuationToken": token, "Prefix": "a"}]:
        assert error_of(s3.list_objects_v2, Bucket=bucket, **wrong)[0] == "InvalidArgument"
    assert error_of(tagging.get_resources, PaginationToken=f"0:name:0:{name}")[0] == "InvalidParameterException"


# AP-006
def test_a_page_token_is_of_one_list_cannot_be_changed_and_survives_a_restart(make_server, name):
    server = make_server()
    api = server.client("codebuild")
    for number in range(120):
        api.create_project(name=f"{name}-{number:03}", **PROJECT)
    names = [f"{name}-{number:03}" for number in range(120)]
    first = api.list_projects()
    token = first["nextToken"]
    assert len(first["projects"]) == 100 and not tells(token, name[:8], "name:0")
    server.stop()
    server.start()
    rest = api.list_projects(nextToken=token)
    assert first["projects"] + rest["projects"] == names and "nextToken" not in rest
    refused = [token[:-1], token + "A", token.swapcase(), "x", token[1:]]
    refused += [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(len(token))]
    for changed in refused:
        code, message = error_of(api.list_projects, nextToken=changed)
        assert code == "InvalidInputException" and changed in message
    for elsewhere in [
        lambda: api.list_projects(nextToken=token, sortOrder="DESCENDING"),
        lambda: api.list_projects(nextToken=token, sortBy="CREATED_TIME"),
        lambda: api.list_builds(nextToken=token),
        lambda: api.list_builds_for_project(projectName=names[0], nextToken=token),
    ]:
        assert error_of(elsewhere)[0] == "InvalidInputException"


# AP-006, AP-007
@pytest.mark.parametrize(("sort", "order"), [("NAME", "ASCENDING"), ("CREATED_TIME", "DESCENDING")])
def test_what_is_there_all_the_time_is_listed_once_while_others_come_and_go(make_server, name, sort, order):
    server = make_server()
    api = server.client("codebuild")
    staying = [f"p{number:03}" for number in range(0, 260, 2)]
    for each in staying:
        api.create_project(name=each, **PROJECT)
    done = threading.Event()

    def come_and_go(odd):
        client = server.client("codebuild")
        while not done.is_set():
            for number in odd:
                client.create_project(name=f"p{number:03}", **PROJECT)
            for number in odd:
                client.delete_project(name=f"p{number:03}")

    others = [threading.Thread(target=come_and_go, args=(range(start, 260, 26),)) for start in (1, 3, 13, 25)]
    for other in others:
        other.start()
    try:
        for _ in range(6):
            pages = api.get_paginator("list_projects").paginate(sortBy=sort, sortOrder=order)
            listed = [each for page in pages for each in page["projects"]]
            stayed = [each for each in listed if int(each[1:]) % 2 == 0]
            assert stayed == (staying if order == "ASCENDING" else staying[::-1])
            if sort == "NAME":
                assert len(set(listed)) == len(listed)
    finally:
        done.set()
        for other in others:
            other.join()
