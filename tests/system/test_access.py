"""Users, their keys and policies, and accounts that share one server."""

import json
import subprocess

import boto3
import pytest
from botocore.exceptions import ClientError

from host import files_below
from local import BINARY, spec
from served import ENVIRONMENT, Codebuild, Server, outcome, unreadable

OTHER = "444455556666"
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
STARTS = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["codebuild:StartBuild", "codebuild:BatchGetBuilds"],
            "Resource": "arn:aws:codebuild:*:*:project/open",
        }
    ],
}


def admin(server, *arguments, **given):
    command = [BINARY, "admin", "key", *arguments, "--data", server.data, "--format", "json"]
    ended = subprocess.run(command, capture_output=True, text=True, **given)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def refusal(server, *arguments):
    command = [BINARY, "admin", "key", *arguments, "--data", server.data]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1 and not ended.stdout, ended.stdout
    return ended.stderr


def again(server):
    server.stop()
    server.start()


def client_of(server, key, service="codebuild"):
    return boto3.client(
        service,
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=key["accessKeyId"],
        aws_secret_access_key=key["secretAccessKey"],
    )


def code(call, **arguments):
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return refused.value.response["Error"]["Code"]


@pytest.fixture
def shared(tmp_path):
    """A server with two accounts."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "buildyard.toml").write_text(f'accounts = ["{OTHER}"]\n[[users]]\nname = "ci"\npolicies = ["ci.json"]\n')
    (data / "ci.json").write_text(json.dumps(STARTS))
    (data / "all.json").write_text(json.dumps(ALL))
    server = Server(data)
    server.start()
    yield server
    server.stop()


# AP-004
def test_a_key_is_good_at_once_until_it_is_disabled_or_deleted_and_also_after_a_restart(shared):
    key = admin(shared, "create", "--user", "ci")
    assert code(client_of(shared, key).list_projects) == "AccessDeniedException"
    assert client_of(shared, key, "sts").get_caller_identity()["Arn"].endswith(":user/ci")
    open_project = {"ids": ["open:0f1e2d3c-0000-4000-8000-000000000000"]}
    assert client_of(shared, key).batch_get_builds(**open_project)["builds"] == []

    listed = admin(shared, "list")["keys"]
    assert key["accessKeyId"] in [one["id"] for one in listed]
    assert key["secretAccessKey"] not in json.dumps(listed)
    assert [path for path, content in files_below(shared.data) if key["secretAccessKey"].encode() in content] == []
    assert (shared.data / "admin.sock").stat().st_mode & 0o777 == 0o600

    admin(shared, "disable", key["accessKeyId"])
    assert code(client_of(shared, key).list_projects) == "InvalidSignatureException"
    again(shared)
    assert code(client_of(shared, key).list_projects) == "InvalidSignatureException"
    admin(shared, "enable", key["accessKeyId"])
    assert code(client_of(shared, key).list_projects) == "AccessDeniedException"
    again(shared)
    assert code(client_of(shared, key).list_projects) == "AccessDeniedException"
    admin(shared, "delete", key["accessKeyId"])
    assert code(client_of(shared, key).list_projects) == "InvalidSignatureException"


def test_what_cannot_be_done_with_a_key_is_said(shared):
    first = next(one["id"] for one in admin(shared, "list")["keys"] if one["user"] == "admin")
    for arguments, expect in [
        (["create", "--user", "nobody"], "no user nobody"),
        (["create", "--user", "a b"], "`a b`"),
        (["create", "--user", "ci", "--account", "999999999999"], "no account 999999999999"),
        (["create", "--user", "ci", "--policy", "/dev/null"], "policy"),
        (["disable", first], "is in the configuration"),
        (["delete", "AKIANOBODY"], "there is no access key AKIANOBODY"),
    ]:
        assert expect in refusal(shared, *arguments)


# AP-004, AP-005, SA-006
def test_two_accounts_on_one_server_do_not_meet(shared, tmp_path):
    key = admin(shared, "create", "--user", "eve", "--account", OTHER, "--policy", shared.data / "all.json")
    eve, s3_of_eve = client_of(shared, key), client_of(shared, key, "s3")
    codebuild, s3 = Codebuild(shared), shared.client("s3")
    s3.create_bucket(Bucket="of-admin")
    s3.put_object(Bucket="of-admin", Key="source.zip", Body=b"PK")
    codebuild.create_project("open", json.dumps(spec(build=["echo done"])))
    build = codebuild.run("open")
    assert outcome(build)[0] == "SUCCEEDED"

    assert eve.list_projects()["projects"] == [] and eve.list_builds()["ids"] == []
    for name in ("open", build["arn"].split(":build/")[0] + ":project/open"):
        found = eve.batch_get_projects(names=[name])
        assert (found["projects"], found["projectsNotFound"]) == ([], [name])
        assert code(eve.start_build, projectName=name) == "ResourceNotFoundException"
        assert code(eve.list_builds_for_project, projectName=name) == "ResourceNotFoundException"
    for id in (build["id"], build["arn"]):
        assert eve.batch_get_builds(ids=[id])["buildsNotFound"] == [id]
        assert code(eve.stop_build, id=id) in ("ResourceNotFoundException", "InvalidInputException")
        assert code(eve.retry_build, id=id) in ("ResourceNotFoundException", "InvalidInputException")
    assert s3_of_eve.list_buckets()["Buckets"] == []
    assert code(s3_of_eve.get_object, Bucket="of-admin", Key="source.zip") == "AccessDenied"

    # Not by way of a build either: sources and artifacts are its own account's.
    project = {"environment": ENVIRONMENT, "serviceRole": f"arn:aws:iam::{OTHER}:role/build"}
    text = json.dumps(spec(build=["echo stolen"]))
    reads = {"type": "S3", "location": "of-admin/source.zip", "buildspec": text}
    eve.create_project(name="reads", source=reads, artifacts={"type": "NO_ARTIFACTS"}, **project)
    of_eve = Codebuild(shared)
    of_eve.api = eve
    stolen = of_eve.run("reads")
    assert outcome(stolen)[0] == "FAILED" and "Access Denied" in json.dumps(stolen, default=str)
    writes = {"type": "S3", "location": "of-admin", "name": "planted", "packaging": "ZIP"}
    text = json.dumps(spec(build=["echo planted > file"]) | {"artifacts": {"files": ["file"]}})
    nothing = {"type": "NO_SOURCE", "buildspec": text}
    eve.create_project(name="writes", source=nothing, artifacts=writes, **project)
    assert outcome(of_eve.run("writes"))[0] == "FAILED"
    assert [one["Key"] for one in s3.list_objects_v2(Bucket="of-admin")["Contents"]] == ["source.zip"]


def user(server, name, *statements, account="123456789012"):
    """A client of CodeBuild for whom these statements hold, each (effect, action, condition or None)."""
    file = server.data / f"{name}.json"
    elements = [
        {"Effect": effect, "Action": action, "Resource": "*"} | ({"Condition": condition} if condition else {})
        for effect, action, condition in statements
    ]
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": elements}))
    key = admin(server, "create", "--user", name, "--account", account, "--policy", file)
    return client_of(server, key)


def tagged(key, value):
    return {"StringEquals": {f"aws:ResourceTag/{key}": value}}


def resource_policy(arn, *statements):
    """A policy of statements, each (effect, principal, action, condition or None)."""
    elements = [
        {"Effect": effect, "Principal": {"AWS": principal}, "Action": f"codebuild:{action}", "Resource": arn}
        | ({"Condition": condition} if condition else {})
        for effect, principal, action, condition in statements
    ]
    return {"policy": json.dumps({"Version": "2012-10-17", "Statement": elements}), "resourceArn": arn}


SECRET_TAG = [{"key": "Secret", "value": "yes"}]


def report_group(api, name, **settings):
    export = {"exportConfigType": "NO_EXPORT"}
    return api.create_report_group(name=name, type="TEST", exportConfig=export, **settings)["reportGroup"]["arn"]


# AP-065, AP-102, AP-113
def test_a_resources_policy_knows_the_tags_of_what_it_is_about(shared):
    codebuild = Codebuild(shared)
    api = codebuild.api
    eve = user(shared, "eve", ("Allow", "*", None), account=OTHER)
    inline = json.dumps(spec(build=["true"]))
    arns = [codebuild.create_project(name, inline, tags=tags)["arn"] for name, tags in [("plain", []), ("secret", SECRET_TAG)]]
    groups = [report_group(api, name, tags=tags) for name, tags in [("plain", []), ("secret", SECRET_TAG)]]
    for arn in arns + groups:
        action = "BatchGetProjects" if ":project/" in arn else "BatchGetReportGroups"
        statements = [("Allow", OTHER, action, None), ("Deny", "*", action, tagged("secret", "yes"))]
        api.put_resource_policy(**resource_policy(arn, *statements))
    found = eve.batch_get_projects(names=arns)
    assert ([one["arn"] for one in found["projects"]], found["projectsNotFound"]) == (arns[:1], arns[1:])
    assert eve.list_shared_projects()["projects"] == arns[:1]
    found = eve.batch_get_report_groups(reportGroupArns=groups)
    assert ([one["arn"] for one in found["reportGroups"]], found["reportGroupsNotFound"]) == (groups[:1], groups[1:])
    assert eve.list_shared_report_groups()["reportGroups"] == groups[:1]

    # The policies of who asks know them as well.
    api.delete_resource_policy(resourceArn=arns[0])
    api.put_resource_policy(**resource_policy(arns[1], ("Allow", OTHER, "BatchGetProjects", None)))
    only = user(shared, "only", ("Allow", "*", tagged("secret", "yes")), account=OTHER)
    but = user(shared, "but", ("Allow", "*", None), ("Deny", "*", tagged("secret", "yes")), account=OTHER)
    assert [one["arn"] for one in only.batch_get_projects(names=arns)["projects"]] == arns[1:]
    assert but.batch_get_projects(names=arns)["projects"] == []
    assert but.list_shared_projects()["projects"] == []


# AP-004, AP-113
def test_a_resources_policy_holds_for_users_of_its_own_account_too(shared):
    codebuild = Codebuild(shared)
    api = codebuild.api
    arn = codebuild.create_project("open", json.dumps(spec(build=["true"])), tags=SECRET_TAG)["arn"]
    group = report_group(api, "group")
    all, none = user(shared, "all", ("Allow", "*", None)), user(shared, "none", ("Allow", "sts:*", None))
    arns = {name: f"arn:aws:iam::123456789012:user/{name}" for name in ("all", "none")}

    def seen():
        return [
            (len(client.batch_get_projects(names=["open"])["projects"]), len(groups["reportGroups"]))
            for client in (all, none)
            for groups in [client.batch_get_report_groups(reportGroupArns=[group])]
        ]

    assert seen() == [(1, 1), (0, 0)]
    for effect, name, condition, expect in [
        ("Deny", "all", None, [(0, 0), (0, 0)]),
        ("Allow", "none", None, [(1, 1), (1, 1)]),
        # Who is meant with the whole account is for the account to say.
        ("Allow", None, None, [(1, 1), (0, 0)]),
        ("Deny", "all", tagged("secret", "yes"), [(0, 1), (0, 0)]),
        ("Deny", "all", tagged("secret", "no"), [(1, 1), (0, 0)]),
    ]:
        principal = arns.get(name, "123456789012")
        api.put_resource_policy(**resource_policy(arn, (effect, principal, "BatchGetProjects", condition)))
        api.put_resource_policy(**resource_policy(group, (effect, principal, "BatchGetReportGroups", condition)))
        assert seen() == expect, (effect, name, condition)
    api.put_resource_policy(**resource_policy(arn, ("Deny", "*", "ListBuildsForProject", None)))
    with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
        all.list_builds_for_project(projectName="open")
    assert all.list_projects()["projects"] == ["open"], "lists are of the account"
    all.delete_resource_policy(resourceArn=arn)
    assert all.list_builds_for_project(projectName="open")["ids"] == []


# AP-004, AP-073
def test_what_nobody_can_look_up_whether_it_is_permitted_is_a_fault_and_not_missing(shared):
    codebuild = Codebuild(shared)
    api = codebuild.api
    project = codebuild.create_project("there", json.dumps(spec(build=["true"])))
    build = codebuild.start("there")["id"]
    codebuild.wait(build)
    group = report_group(api, "group")
    asked = [
        (api.batch_get_builds, {"ids": [build]}, "builds"),
        (api.batch_get_projects, {"names": [project["name"]]}, "projects"),
        (api.batch_get_report_groups, {"reportGroupArns": [group]}, "reportGroups"),
    ]
    with unreadable(shared, "resource_policies"):
        assert [code(call, **named) for call, named, _ in asked] == ["InternalFailure"] * 3
    assert [len(call(**named)[found]) for call, named, found in asked] == [1, 1, 1]


# AP-004, AP-090
def test_tags_of_report_groups_decide_as_those_of_projects_do(shared):
    api = Codebuild(shared).api
    secret, plain = report_group(api, "secret", tags=SECRET_TAG), report_group(api, "plain")
    only = user(shared, "only", ("Allow", "codebuild:*", tagged("secret", "yes")))
    but = user(shared, "but", ("Allow", "codebuild:*", None), ("Deny", "codebuild:*", tagged("secret", "yes")))
    for client, arn in [(only, secret), (but, plain)]:
        found = client.batch_get_report_groups(reportGroupArns=[secret, plain])
        assert [one["arn"] for one in found["reportGroups"]] == [arn]
        assert client.list_reports_for_report_group(reportGroupArn=arn)["reports"] == []
    for client, arn in [(only, plain), (but, secret)]:
        report = arn.replace(":report-group/", ":report/") + ":0f1e2d3c-0000-4000-8000-000000000000"
        assert code(client.list_reports_for_report_group, reportGroupArn=arn) == "AccessDeniedException"
        assert code(client.describe_test_cases, reportArn=report) == "AccessDeniedException"
        assert code(client.update_report_group, arn=arn, tags=[]) == "AccessDeniedException"
        assert code(client.delete_report_group, arn=arn) == "AccessDeniedException"


def role(name, account="123456789012"):
    return f"arn:aws:iam::{account}:role/{name}"


# AP-004, AP-036
def test_who_names_a_role_needs_the_right_to_pass_it(shared):
    codebuild = Codebuild(shared)
    source = {"type": "NO_SOURCE", "buildspec": json.dumps(spec(build=["true"]))}
    codebuild.create_project("open", source["buildspec"])
    passes = ("Allow", "iam:PassRole", {"StringEquals": {"iam:PassedToService": "codebuild.amazonaws.com"}})
    starts = user(shared, "starts", ("Allow", "codebuild:*", None))
    elsewhere = user(shared, "elsewhere", ("Allow", "*", None), ("Deny", "iam:PassRole", passes[2]))
    rest = {"artifacts": {"type": "NO_ARTIFACTS"}, "environment": ENVIRONMENT, "source": source}

    def wishes(client, name):
        batch = {"serviceRole": name, "timeoutInMins": 5}
        yield client.create_project, {"name": "made", "serviceRole": name, **rest}
        yield client.create_project, {"name": "batch", "serviceRole": role("free"), "buildBatchConfig": batch, **rest}
        yield client.update_project, {"name": "open", "serviceRole": name}
        yield client.update_project, {"name": "open", "buildBatchConfig": batch}
        yield client.start_build, {"projectName": "open", "serviceRoleOverride": name}
        arn = "arn:aws:codebuild:us-east-1:123456789012:project/open"
        yield client.update_project_visibility, {
            "projectArn": arn,
            "projectVisibility": "PRIVATE",
            "resourceAccessRole": name,
        }

    file = shared.data / "free.json"
    allowed = [
        {"Effect": "Allow", "Action": "codebuild:*", "Resource": "*"},
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role("free"), "Condition": passes[2]},
    ]
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": allowed}))
    free = client_of(shared, admin(shared, "create", "--user", "free", "--policy", file))
    for client in (starts, elsewhere, free):
        # No other spelling of the role comes past it.
        for name in (role("deploy"), "deploy", role("deploy").replace(":aws:", ":aws-cn:"), role("team/deploy"), role("free/")):
            for call, arguments in wishes(client, name):
                assert code(call, **arguments) == "AccessDeniedException", (name, arguments)
    with pytest.raises(ClientError) as refused:
        starts.start_build(projectName="open", serviceRoleOverride=role("deploy"))
    assert refused.value.response["Error"]["Message"] == (
        "User: arn:aws:iam::123456789012:user/starts is not authorized to perform: iam:PassRole on resource: "
        "arn:aws:iam::123456789012:role/deploy because no identity-based policy allows the iam:PassRole action"
    )
    for call, arguments in wishes(free, role("free")):
        call(**arguments)
    free.start_build(projectName="open", serviceRoleOverride="free")
    # Nor is it another role for those who may pass it.
    for name in (role("free").replace("iam::", "iam:us-east-1:"), role("free") + "/"):
        for call, arguments in wishes(codebuild.api, name):
            if "buildBatchConfig" not in arguments:
                assert code(call, **arguments) == "InvalidInputException", arguments
    # What names no role asks for none, and a retry has the role of the build it tries again.
    started = free.start_build(projectName="open", serviceRoleOverride=role("free"))["build"]
    assert starts.retry_build(id=started["id"])["build"]["serviceRole"] == role("free")
    assert starts.start_build(projectName="open")["build"]["serviceRole"] == role("free")
    starts.update_project(name="open", description="without a role")
    for call, arguments in wishes(codebuild.api, role("deploy", OTHER)):
        if "buildBatchConfig" not in arguments:
            assert code(call, **arguments) == "InvalidInputException", arguments


# AP-004
def test_a_denial_of_a_role_holds_for_every_path_to_it(shared):
    codebuild = Codebuild(shared)
    codebuild.create_project("open", json.dumps(spec(build=["true"])))
    file = shared.data / "but.json"
    statements = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "iam:PassRole", "Resource": role("deploy")},
    ]
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": statements}))
    but = client_of(shared, admin(shared, "create", "--user", "but", "--policy", file))
    for name in (role("deploy"), role("team/deploy"), "team/deploy", role("deploy").replace(":aws:", ":aws-cn:")):
        assert code(but.start_build, projectName="open", serviceRoleOverride=name) == "AccessDeniedException", name
    assert but.start_build(projectName="open", serviceRoleOverride=role("deployer"))["build"]["serviceRole"] == role("deployer")
