"""Ways around what a known caller may do: what others own, keys that were withdrawn, and names that look alike.

The classes 43 and 45 to 47 of the list that `test_bypass` has the first of; 44 and 48 to 50 are in `test_bypass_builds`.
"""

import json

import pytest
from botocore.exceptions import ClientError

from local import spec
from served import ENVIRONMENT, REGION, Codebuild, Server
from test_access import ALL, OTHER, admin, client_of

VARIANTS = 20
READS = [
    "list_projects", "list_builds", "list_source_credentials", "list_shared_projects", "list_curated_environment_images",
]  # fmt: skip
# Each is another project than `mine`, though somebody might take it for the same.
LOOK_ALIKES = [
    "Mine", "MINE", "minE", "mine1", "mine-", "mine_", "1mine", "m1ne", "rnine", "mlne", "mine2", "xmine", "min", "mi",
    "mine-mine", "minemine", "mine0", "m-ine", "mne", "mien", "nime", "mine-2",
]  # fmt: skip
# None is a name at all, and none is taken for `mine`.
NO_NAMES = [
    "mine ", " mine", "mine\u200b", "m\u0456ne", "\uff4dine", "mine\x00", "mine/", "*", "mi*", "min?", "mine%00", "../mine",
    "mine\n", "mi\u0301ne", "mine:1", "project/mine", "mine#", "mine?", "m\u00adine", "MINE\u0130",
]  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server of two accounts. The first has a project, builds, a policy and a credential; the second has its administrator."""
    data = tmp_path_factory.mktemp("bypass") / "data"
    data.mkdir(mode=0o700)
    only_mine = {"Effect": "Allow", "Action": "codebuild:*", "Resource": f"arn:aws:codebuild:{REGION}:*:project/mine"}
    (data / "mine.json").write_text(json.dumps({"Version": "2012-10-17", "Statement": [only_mine]}))
    (data / "all.json").write_text(json.dumps(ALL))
    (data / "buildyard.toml").write_text(f'accounts = ["{OTHER}"]\n[[users]]\nname = "ci"\npolicies = ["mine.json"]\n')
    server = Server(data)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def owned(shared):
    """What the first account has, by kind."""
    codebuild = Codebuild(shared)
    inline = json.dumps(spec(build=["true"]))
    arn = codebuild.create_project("mine", inline)["arn"]
    codebuild.create_project("also-mine", inline)
    build = codebuild.run("mine")
    credential = codebuild.api.import_source_credentials(serverType="GITHUB", authType="PERSONAL_ACCESS_TOKEN", token="x")
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": "999999999999"},
        "Action": ["codebuild:BatchGetProjects"],
        "Resource": arn,
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    codebuild.api.put_resource_policy(policy=json.dumps(policy), resourceArn=arn)
    return {"project": arn, "build": build["arn"], "credential": credential["arn"]}


def eve_of(shared):
    key = admin(shared, "create", "--user", "eve", "--account", OTHER, "--policy", shared.data / "all.json")
    return client_of(shared, key)


def state(shared, owned):
    """All that the first account has, as it sees it itself."""
    api = shared.client("codebuild")
    builds = api.list_builds()["ids"]
    answers = [
        api.batch_get_projects(names=sorted(api.list_projects()["projects"])),
        api.batch_get_builds(ids=builds),
        api.list_source_credentials(),
        api.get_resource_policy(resourceArn=owned["project"]),
    ]
    return [{member: answer[member] for member in answer if member != "ResponseMetadata"} for answer in answers]


def names_in(member, owned):
    """What `member` may name: all that the first account has, by name and by ARN, whatever its kind."""
    short = {kind: arn.partition(f":{kind}/")[2] for kind, arn in owned.items() if kind != "credential"}
    name = member.lower()
    if "build" in name or name in ("id", "ids"):
        return [owned["build"], short["build"], owned["build"].replace("/mine:", "/MINE:")]
    if "arn" in name:
        return [*owned.values(), owned["project"].replace(":project/", ":report-group/")]
    return [short["project"], owned["project"]]


def filled(shape, member, owned, number):
    """A value for a member of an input, which names what the first account has wherever it names something."""
    if shape.type_name == "structure":
        wanted = [name for name in shape.members if name in shape.required_members or names_something(name)]
        return {name: filled(shape.members[name], name, owned, number) for name in wanted}
    if shape.type_name == "list":
        return [filled(shape.member, member, owned, number)]
    if choices := getattr(shape, "enum", None):
        return choices[number % len(choices)]
    if shape.type_name in ("integer", "long"):
        return max(1, int(shape.metadata.get("min", 1)))
    if shape.type_name == "boolean":
        return True
    if shape.type_name == "timestamp":
        return 0
    names = names_in(member, owned)
    return names[number % len(names)] if names_something(member) else "x"


def names_something(member):
    name = member.lower()
    named = ("arn", "id", "ids", "name", "names", "projectname", "reportgrouparn", "fleetarn", "resourcearn", "arns", "sandboxid")
    return name in named or name.endswith(("arn", "arns", "projectname"))


# AP-004, AP-005; class 45
def test_no_operation_does_anything_to_what_another_account_has(shared, owned):
    eve, before = eve_of(shared), state(shared, owned)
    model = eve.meta.service_model
    assert len(model.operation_names) >= 59
    names = [name for kind, arn in owned.items() for name in (arn, arn.partition(f":{kind}/")[2]) if name]
    naming, nameable = {}, set()
    for operation in model.operation_names:
        shape = model.operation_model(operation).input_shape
        if shape and any(names_something(member) for member in shape.members):
            nameable.add(operation)
        # Every way in which the input can be filled, each of them once.
        inputs = {json.dumps(filled(shape, "", owned, number)): None for number in range(VARIANTS)} if shape else {"{}": None}
        for text in inputs:
            if any(json.dumps(name) in text for name in names):
                naming.setdefault(operation, []).append(text)
            try:
                answer = eve._make_api_call(operation, json.loads(text))
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                assert 400 <= status < 500, (operation, text, error)
                continue
            del answer["ResponseMetadata"]
            # What was not found is called as it was asked for. What is shown is her own.
            shown = {name: value for name, value in answer.items() if "otFound" not in name and "otDeleted" not in name}
            said = json.dumps(shown, default=str)
            assert all(arn not in said for arn in owned.values()), (operation, text, said)
    # Wherever something can be named, it is, in more than one way; in far more than twenty all together.
    assert naming.keys() == nameable and all(len(ways) > 1 for ways in naming.values()), naming.keys() ^ nameable
    assert sum(map(len, naming.values())) >= 4 * VARIANTS
    assert state(shared, owned) == before


# AP-005; class 46
@pytest.mark.parametrize("number", range(VARIANTS))
def test_of_a_mixed_batch_only_what_is_the_callers_own_is_found(shared, owned, number):
    eve = eve_of(shared)
    role = f"arn:aws:iam::{OTHER}:role/build"
    source = {"type": "NO_SOURCE", "buildspec": json.dumps(spec(build=["true"]))}
    own = f"own-{number}"
    eve.create_project(
        name=own, source=source, artifacts={"type": "NO_ARTIFACTS"}, environment=ENVIRONMENT, serviceRole=role
    )
    foreign = ["mine", owned["project"], "also-mine", owned["project"].replace("mine", "also-mine")]
    asked = [*foreign[number % 4 :], *foreign[: number % 4]]
    asked.insert(number % 5, own)
    found = eve.batch_get_projects(names=asked)
    assert [project["name"] for project in found["projects"]] == [own]
    assert found["projectsNotFound"] == [name for name in asked if name != own]
    build = eve.start_build(projectName=own)["build"]
    builds = [owned["build"], owned["build"].partition(":build/")[2]]
    builds.insert(number % 3, build["id"])
    found = eve.batch_get_builds(ids=builds)
    assert [one["id"] for one in found["builds"]] == [build["id"]]
    assert found["buildsNotFound"] == [id for id in builds if id != build["id"]]


# AP-004; class 43
@pytest.mark.parametrize("number", range(VARIANTS))
def test_a_key_that_was_withdrawn_is_refused_at_once(shared, number):
    key = admin(shared, "create", "--user", "eve", "--account", OTHER, "--policy", shared.data / "all.json")
    call = getattr(client_of(shared, key), READS[number % len(READS)])
    # It was good a moment ago, on the same connection.
    call()
    ways = [["disable"], ["delete"], ["disable", "delete"], ["disable", "enable", "disable"]]
    for way in ways[number % len(ways)]:
        admin(shared, way, key["accessKeyId"])
    with pytest.raises(ClientError) as refused:
        call()
    assert refused.value.response["Error"]["Code"] == "InvalidSignatureException"


# AP-004; class 47
@pytest.mark.parametrize("name", [*LOOK_ALIKES, *NO_NAMES])
def test_a_right_to_one_project_is_none_to_a_name_that_looks_alike(shared, owned, name):
    codebuild = Codebuild(shared)
    if name in LOOK_ALIKES:
        codebuild.create_project(name, json.dumps(spec(build=["true"])))
    key = admin(shared, "create", "--user", "ci")
    ci = client_of(shared, key)
    assert [project["name"] for project in ci.batch_get_projects(names=["mine"])["projects"]] == ["mine"]
    for asked in (name, owned["project"].replace("project/mine", f"project/{name}")):
        calls = [
            (ci.batch_get_projects, {"names": [asked]}),
            (ci.start_build, {"projectName": asked}),
            (ci.delete_project, {"name": asked}),
            (ci.list_builds_for_project, {"projectName": asked}),
            (ci.invalidate_project_cache, {"projectName": asked}),
        ]
        for call, arguments in calls:
            try:
                answer = call(**arguments)
            except ClientError as error:
                assert 400 <= error.response["ResponseMetadata"]["HTTPStatusCode"] < 500, (arguments, error)
            else:
                assert not answer.get("projects") and not answer.get("build") and not answer.get("ids"), answer
                assert "projectsNotFound" in answer or "ids" in answer, answer
    if name in LOOK_ALIKES:
        assert codebuild.api.batch_get_projects(names=[name])["projects"], "it is still there"
