"""The user guide's walk-through "Getting started with the AWS CLI", command by command, with the real `aws`; then the
same by boto3 with a close look at every answer.
"""

import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import urllib.request
import zipfile

import pytest

import walkthrough
from host import wait_until
from local import BINARY, spec, zipped
from served import ACCOUNT, ENVIRONMENT, REGION, Codebuild, Server, outcome

AWS = shutil.which("aws")
PHASES = [
    "SUBMITTED",
    "QUEUED",
    "PROVISIONING",
    "DOWNLOAD_SOURCE",
    "INSTALL",
    "PRE_BUILD",
    "BUILD",
    "POST_BUILD",
    "UPLOAD_ARTIFACTS",
    "FINALIZING",
    "COMPLETED",
]


@pytest.fixture
def aws(server, tmp_path):
    """The `aws` command in a folder of its own; returns what it printed, parsed where it is JSON."""

    def call(*arguments, **settings):
        done = subprocess.run(
            [AWS, *map(str, arguments)],
            env=server.environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            **settings,
        )
        assert done.returncode == 0, f"aws {arguments}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    return call


def test_the_guides_walk_through_with_the_aws_cli(aws, project, tmp_path):
    # Step 1: two buckets.
    aws("s3", "mb", "s3://codebuild-us-east-1-123456789012-input-bucket")
    aws("s3", "mb", "s3://codebuild-us-east-1-123456789012-output-bucket")
    # Steps 2 to 4: the source code, the buildspec file, and their upload.
    zipped(walkthrough.write(project).folder, tmp_path / "MessageUtil.zip")
    aws("s3", "cp", "MessageUtil.zip", "s3://codebuild-us-east-1-123456789012-input-bucket/MessageUtil.zip")
    # Step 5: the build project.
    (tmp_path / "create-project.json").write_text(
        walkthrough.create_project_json(
            "codebuild-us-east-1-123456789012-input-bucket", "codebuild-us-east-1-123456789012-output-bucket"
        )
    )
    created = aws("codebuild", "create-project", "--cli-input-json", "file://create-project.json")["project"]
    assert created["arn"] == f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/codebuild-demo-project"
    # Step 6: run the build.
    started = aws("codebuild", "start-build", "--project-name", "codebuild-demo-project")["build"]
    assert re.fullmatch(r"codebuild-demo-project:[0-9a-f-]{36}", started["id"])
    assert (started["buildStatus"], started["currentPhase"]) == ("IN_PROGRESS", "QUEUED")

    # Step 7: view summarized build information.
    def complete():
        build = aws("codebuild", "batch-get-builds", "--ids", started["id"])["builds"][0]
        return build if build["buildComplete"] else None

    build = wait_until(complete, "the build complete", 120)
    assert build["buildStatus"] == "SUCCEEDED", build["phases"]
    assert build["exportedEnvironmentVariables"] == [{"name": "VERSION", "value": f"1.0.{build['buildNumber']}"}]
    # Step 8: view detailed build information: the log.
    group, stream = build["logs"]["groupName"], build["logs"]["streamName"]
    assert (group, stream) == ("/aws/codebuild/codebuild-demo-project", started["id"].split(":")[1])
    events = aws("logs", "get-log-events", "--log-group-name", group, "--log-stream-name", stream)["events"]
    log = "".join(event["message"] for event in events)
    assert "Running command cc -Wall -Werror -o target/messageUtil src/*.c\n" in log
    assert "\nInside printMessage()\nHi!Robert\n" in log
    found = aws("logs", "filter-log-events", "--log-group-name", group, "--filter-pattern", "Robert")["events"]
    assert "Hi!Robert\n" in [event["message"] for event in found]
    # Step 9: get the build output artifact, and run what was built.
    output = "s3://codebuild-us-east-1-123456789012-output-bucket"
    assert "codebuild-demo-project/target/messageUtil" in aws("s3", "ls", output, "--recursive")
    aws("s3", "cp", f"{output}/codebuild-demo-project/target/messageUtil", "messageUtil")
    (tmp_path / "messageUtil").chmod(0o755)
    ran = subprocess.run([tmp_path / "messageUtil"], capture_output=True, text=True, check=True)
    assert ran.stdout == "Inside printMessage()\nHi!Robert\n"
    # Step 10: delete the buckets.
    aws("s3", "rb", "s3://codebuild-us-east-1-123456789012-input-bucket", "--force")
    aws("s3", "rb", output, "--force")
    assert "codebuild-us-east-1-123456789012" not in aws("s3", "ls")


def test_the_aws_clis_s3_commands_work(aws, tmp_path):
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "a b+c.txt").write_text("one")
    (tree / "deep/ü.bin").write_bytes(os.urandom(20 << 20))  # more than one part
    # What is younger than its copy is sent again.
    for name in ["a b+c.txt", "deep/ü.bin"]:
        os.utime(tree / name, (1_700_000_000, 1_700_000_000))
    aws("s3", "mb", "s3://walk-s3")
    aws("s3", "sync", "tree", "s3://walk-s3/copy")
    assert aws("s3", "sync", "tree", "s3://walk-s3/copy") == "", "nothing changed, nothing is sent"
    aws("s3", "sync", "s3://walk-s3/copy", "back")
    for name in ["a b+c.txt", "deep/ü.bin"]:
        assert (tmp_path / "back" / name).read_bytes() == (tree / name).read_bytes()
    url = aws("s3", "presign", "s3://walk-s3/copy/a b+c.txt").strip()
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"one"
    aws("s3", "cp", "s3://walk-s3/copy/a b+c.txt", "s3://walk-s3/other")
    aws("s3", "mv", "s3://walk-s3/other", "s3://walk-s3/moved")
    listed = aws("s3", "ls", "s3://walk-s3/")
    assert "PRE copy/" in listed and "moved" in listed and "other" not in listed
    aws("s3", "rm", "s3://walk-s3", "--recursive")
    aws("s3", "rb", "s3://walk-s3")


def test_buildyard_env_points_the_aws_cli_at_the_server(tmp_path):
    """No preset keys: the first start makes one, and `buildyard env` tells it."""
    server = Server(tmp_path / "data")
    names = ["BUILDYARD_ACCESS_KEY_ID", "BUILDYARD_SECRET_ACCESS_KEY"]
    environment = {name: value for name, value in os.environ.items() if name not in names}
    listen = f"127.0.0.1:{server.port}"
    process = subprocess.Popen(
        [BINARY, "serve", "--listen", listen, "--data", server.data],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        server.process = process
        wait_until(server._answers, "the server")
        shell = f'eval "$("{BINARY}" env --data "{server.data}")" && {AWS} sts get-caller-identity'
        done = subprocess.run(["sh", "-c", shell], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["Account"] == ACCOUNT
        mode = stat.S_IMODE((server.data / "credentials").stat().st_mode)
        assert mode == 0o600
    finally:
        process.terminate()
        printed, _ = process.communicate(timeout=60)
    assert listen in printed


# boto3


@pytest.fixture
def demo(codebuild, project, tmp_path, name):
    """The walk-through's project with a ZIP artifact, and its buckets."""
    walkthrough.write(project)
    input_bucket, output_bucket = f"{name[:40]}-in", f"{name[:40]}-out"
    for bucket in (input_bucket, output_bucket):
        codebuild.s3.create_bucket(Bucket=bucket)
    codebuild.s3.upload_file(str(zipped(project.folder, tmp_path / "m.zip")), input_bucket, "MessageUtil.zip")
    settings = json.loads(walkthrough.create_project_json(input_bucket, output_bucket, "ZIP"))
    settings["name"] = name
    codebuild.api.create_project(**settings)
    return name, output_bucket


# LC-001, LC-005, LC-026, LC-033, LC-040, AP-002
def test_a_build_is_reported_as_codebuild_reports_it(codebuild, demo):
    name, output_bucket = demo
    started = codebuild.start(name)
    uuid = started["id"].split(":")[1]
    # AP-050, AP-051, SA-113: the answer to StartBuild.
    assert started["arn"] == f"arn:aws:codebuild:{REGION}:{ACCOUNT}:build/{started['id']}"
    assert (started["buildNumber"], started["buildComplete"], started["projectName"]) == (1, False, name)
    assert [phase["phaseType"] for phase in started["phases"]] == ["SUBMITTED", "QUEUED"]
    assert started["phases"][0]["phaseStatus"] == "SUCCEEDED"
    assert "groupName" not in started["logs"]
    assert started["logs"]["cloudWatchLogsArn"].endswith(":log-group:null:log-stream:null")
    assert started["timeoutInMinutes"] == 60 and started["queuedTimeoutInMinutes"] == 480
    assert started["secondarySources"] == [] and started["secondaryArtifacts"] == []
    assert started["cache"] == {"type": "NO_CACHE"}
    assert started["encryptionKey"] == f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/aws/s3"
    assert started["environment"]["imagePullCredentialsType"] == "CODEBUILD"
    assert "endTime" not in started and "resolvedSourceVersion" not in started

    build = codebuild.wait(started["id"])
    assert (build["buildStatus"], build["currentPhase"]) == ("SUCCEEDED", "COMPLETED"), build["phases"]
    # LC-020..025: phases in their order, contiguous, with an empty context each.
    phases = build["phases"]
    assert [phase["phaseType"] for phase in phases] == PHASES
    for phase, following in zip(phases, phases[1:]):
        assert phase["phaseStatus"] == "SUCCEEDED"
        assert phase["endTime"] == following["startTime"] >= phase["startTime"]
        seconds = (phase["endTime"] - phase["startTime"]).total_seconds()
        assert phase["durationInSeconds"] == int(seconds)
        if phase["phaseType"] not in ("SUBMITTED", "QUEUED"):
            assert phase["contexts"] == [{"statusCode": "", "message": ""}]
    assert set(phases[-1]) == {"phaseType", "startTime"}
    assert phases[-1]["startTime"] == build["endTime"]
    # SA-111, SA-114, SA-115: where the log is.
    group = f"/aws/codebuild/{name}"
    assert (build["logs"]["groupName"], build["logs"]["streamName"]) == (group, uuid)
    assert build["logs"]["cloudWatchLogsArn"].endswith(f":log-group:{group}:log-stream:{uuid}")
    # BS-053.
    assert build["exportedEnvironmentVariables"] == [{"name": "VERSION", "value": "1.0.1"}]
    # SA-061, SA-066, SA-067, SA-071: the artifact is the object, to the byte.
    key = f"builds/{uuid}/MessageUtil.zip"
    assert build["artifacts"]["location"] == f"arn:aws:s3:::{output_bucket}/{key}"
    object = codebuild.s3.get_object(Bucket=output_bucket, Key=key)
    content = object["Body"].read()
    assert build["artifacts"]["sha256sum"] == hashlib.sha256(content).hexdigest()
    assert build["artifacts"]["md5sum"] == hashlib.md5(content).hexdigest()
    assert object["Metadata"]["codebuild-buildarn"] == build["arn"]
    assert object["Metadata"]["codebuild-content-sha256"] == build["artifacts"]["sha256sum"]
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.namelist() == ["target/messageUtil"]
    assert (archive.infolist()[0].external_attr >> 16) & 0o111, "the program stays executable"


def test_plain_artifacts_lie_where_the_key_rules_say(codebuild, name):
    codebuild.s3.create_bucket(Bucket="plain")
    inline = json.dumps(
        spec(build=["mkdir -p d; echo a > a; echo b > d/b"])
        | {"artifacts": {"files": ["a", "d/b"], "name": "named-$(echo by)-$CODEBUILD_BUILD_NUMBER"}}
    )

    def keys(**artifacts):
        build = codebuild.run(name, artifactsOverride={"type": "S3", "location": "plain"} | artifacts)
        assert build["buildStatus"] == "SUCCEEDED", build["phases"]
        listed = codebuild.s3.list_objects_v2(Bucket="plain").get("Contents", [])
        for object in listed:
            codebuild.s3.delete_object(Bucket="plain", Key=object["Key"])
        return sorted(object["Key"] for object in listed), build["id"].split(":")[1], build["buildNumber"]

    codebuild.create_project(name, inline)
    assert keys()[0] == [f"{name}/a", f"{name}/d/b"]  # SA-076, SA-062
    assert keys(path="P", name="N")[0] == ["P/N/a", "P/N/d/b"]  # SA-074
    assert keys(name="/")[0] == ["a", "d/b"]  # SA-077
    found, uuid, _ = keys(path="P", namespaceType="BUILD_ID", name="/")
    assert found == [f"P/{uuid}/a", f"P/{uuid}/d/b"]  # SA-078
    found, _, number = keys(overrideArtifactName=True)
    assert found == [f"named-by-{number}/a", f"named-by-{number}/d/b"]  # BS-133
    assert keys(packaging="ZIP", path="P", name="N.zip")[0] == ["P/N.zip"]  # SA-070


# BS-140, SA-060
def test_secondary_artifacts_go_to_their_own_targets(codebuild, name):
    codebuild.s3.create_bucket(Bucket="secondary")
    inline = json.dumps(
        spec(build=["echo a > a; echo b > b"])
        | {"artifacts": {"files": ["a"], "secondary-artifacts": {"other": {"files": ["b"]}}}}
    )
    target = {"type": "S3", "location": "secondary", "packaging": "ZIP"}
    codebuild.create_project(
        name,
        inline,
        artifacts=target | {"name": "one.zip"},
        secondaryArtifacts=[target | {"name": "two.zip", "artifactIdentifier": "other"}],
    )
    build = codebuild.run(name)
    assert build["buildStatus"] == "SUCCEEDED", build["phases"]
    (second,) = build["secondaryArtifacts"]
    assert second["artifactIdentifier"] == "other" and second["location"].endswith("secondary/two.zip")
    content = codebuild.s3.get_object(Bucket="secondary", Key="two.zip")["Body"].read()
    assert hashlib.sha256(content).hexdigest() == second["sha256sum"]
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == ["b"]


# BS-131
def test_artifacts_need_both_a_section_and_a_target(codebuild, name):
    codebuild.s3.create_bucket(Bucket="both")
    unmatched = json.dumps(spec(build=["true"]) | {"artifacts": {"files": ["not/there"]}})
    codebuild.create_project(name, unmatched)
    without_target = codebuild.run(name)
    assert without_target["buildStatus"] == "SUCCEEDED", without_target["phases"]
    target = {"type": "S3", "location": "both", "packaging": "ZIP"}
    without_section = codebuild.run(name, buildspecOverride=json.dumps(spec(build=["true"])), artifactsOverride=target)
    assert without_section["buildStatus"] == "SUCCEEDED", without_section["phases"]
    assert "Contents" not in codebuild.s3.list_objects_v2(Bucket="both")


# BS-001, BS-002, BS-004
def test_a_buildspec_comes_from_the_source_inline_or_from_s3(codebuild, demo):
    name, bucket = demo
    assert "Build completed\n" in codebuild.log(codebuild.run(name))
    inline = codebuild.run(name, buildspecOverride=json.dumps(spec(build=["echo inline; ls src"])))
    assert "inline\nmain.c\n" in codebuild.log(inline)
    codebuild.s3.put_object(Bucket=bucket, Key="specs/b.yml", Body=json.dumps(spec(build=["echo from s3"])))
    stored = codebuild.run(name, buildspecOverride=f"arn:aws:s3:::{bucket}/specs/b.yml")
    assert "\nfrom s3\n" in codebuild.log(stored)


# SA-004, EN-082
def test_a_source_may_be_a_folder_of_objects(codebuild, name):
    codebuild.s3.create_bucket(Bucket="objects")
    for key, body in {
        "app/buildspec.yml": json.dumps(spec(build=["cat deep/file"])),
        "app/deep/file": "found\n",
    }.items():
        codebuild.s3.put_object(Bucket="objects", Key=key, Body=body)
    codebuild.create_project(name, source={"type": "S3", "location": "objects/app/"})
    assert "\nfound\n" in codebuild.log(codebuild.run(name))


# BS-044, AP-011
def test_variables_merge_by_name_and_the_latest_word_counts(codebuild, name):
    variables = [{"name": one, "value": "project"} for one in "BC"]
    inline = {"env": {"variables": {one: "spec" for one in "ABC"}}} | spec(build=['echo "$A $B $C"'])
    codebuild.create_project(name, json.dumps(inline), environment=ENVIRONMENT | {"environmentVariables": variables})
    build = codebuild.run(name, environmentVariablesOverride=[{"name": "C", "value": "start", "type": "PLAINTEXT"}])
    assert "\nspec project start\n" in codebuild.log(build)


# Live logs


# LC-117, SA-118
def test_get_log_events_follows_a_build_while_it_runs(codebuild, name):
    """Each line is there before the build may print the next: whoever has read it wakes the build."""
    codebuild.create_project(name, json.dumps(spec(build=["for n in 1 2 3 4 5; do echo line $n; sleep 1000 || true; done"])))
    build_id = codebuild.start(name)["id"]

    def place():
        logs = codebuild.build(build_id)["logs"]
        return "groupName" in logs and {"logGroupName": logs["groupName"], "logStreamName": logs["streamName"]}

    stream = wait_until(place, "the log's place")
    arrived, token = [], {}

    def read_on():
        page = codebuild.logs.get_log_events(**stream, startFromHead=True, **token)
        token["nextToken"] = page["nextForwardToken"]
        lines = [event["message"] for event in page["events"]]
        arrived.extend(line for line in lines if re.match(r"line \d\n", line))
        return arrived

    for n in range(1, 6):
        wait_until(lambda: len(read_on()) >= n, f"line {n}")
        assert arrived == [f"line {one}\n" for one in range(1, n + 1)]
        assert not codebuild.build(build_id)["buildComplete"]
        codebuild.wake(build_id)
    assert codebuild.wait(build_id)["buildStatus"] == "SUCCEEDED"


# SA-119, SA-124
def test_filter_log_events_and_streams_find_a_builds_log(codebuild, name):
    codebuild.create_project(name, json.dumps(spec(build=["echo needle; echo hay"])))
    build = codebuild.run(name)
    group = build["logs"]["groupName"]
    found = codebuild.logs.filter_log_events(logGroupName=group, filterPattern="needle")["events"]
    assert "needle\n" in [event["message"] for event in found]
    assert all("needle" in event["message"] for event in found)
    (stream,) = codebuild.logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert stream["logStreamName"] == build["logs"]["streamName"]
    groups = codebuild.logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert [one["logGroupName"] for one in groups] == [group]


# SA-119
def test_live_tail_shows_new_lines(codebuild, server, name):
    codebuild.create_project(name, json.dumps(spec(build=["for n in 1 2 3 4 5 6; do echo tailed $n; sleep 0.3; done"])))
    first = codebuild.run(name, buildspecOverride=json.dumps(spec(build=["true"])))
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{first['logs']['groupName']}"
    tail = server.client("logs", inject_host_prefix=False).start_live_tail(logGroupIdentifiers=[arn])
    stream = tail["responseStream"]
    build_id, seen = None, []
    for event in stream:
        if "sessionStart" in event:
            build_id = codebuild.start(name)["id"]
        seen += [result["message"] for result in event.get("sessionUpdate", {}).get("sessionResults", [])]
        if any(message.startswith("tailed 4") for message in seen):
            break
    stream.close()
    assert [message for message in seen if message.startswith("tailed")][:4] == [f"tailed {n}\n" for n in (1, 2, 3, 4)]
    codebuild.wait(build_id)


# Stopping, queueing, retrying, deleting


# LC-026, LC-040, LC-044, AP-076
def test_stop_build_ends_a_running_build_and_tells_a_finished_one_as_it_is(codebuild, name):
    codebuild.create_project(
        name, json.dumps(spec(build={"commands": ["echo up; sleep 1000"], "finally": ["echo no"]}))
    )
    build_id = codebuild.start(name)["id"]
    codebuild.reached(build_id)
    stopped = codebuild.api.stop_build(id=build_id)["build"]
    assert stopped["id"] == build_id
    build = codebuild.wait(build_id)
    status, phases = outcome(build)
    assert (status, phases["BUILD"]) == ("STOPPED", "STOPPED")
    assert "POST_BUILD" not in phases
    assert "\nno\n" not in codebuild.log(build)
    assert codebuild.api.stop_build(id=build_id)["build"]["buildStatus"] == "STOPPED"


# LC-005, LC-065, LC-067
def test_builds_over_the_limit_wait_their_turn_in_order(make_server):
    codebuild = Codebuild(make_server("--concurrent-builds", "1"))
    codebuild.create_project("fifo", json.dumps(spec(build=["$FIRST"])))
    # The others begin when this one is awake.
    asleep = {"environmentVariablesOverride": [{"name": "FIRST", "value": "eval sleep 1000 || true"}]}
    ids = [codebuild.start("fifo", **asleep)["id"], *(codebuild.start("fifo")["id"] for _ in range(3))]
    codebuild.reached(ids[0])
    builds = codebuild.api.batch_get_builds(ids=ids)["builds"]
    assert sum(build["currentPhase"] == "QUEUED" for build in builds) == 3
    codebuild.wake(ids[0])
    builds = [codebuild.wait(build_id) for build_id in ids]
    assert [build["buildNumber"] for build in builds] == [1, 2, 3, 4]
    started = [build["phases"][2]["startTime"] for build in builds]
    assert started == sorted(started)
    for build, following in zip(builds, builds[1:]):
        assert following["phases"][2]["startTime"] >= build["phases"][-2]["startTime"]
    queued = codebuild.start("fifo", **asleep)["id"], codebuild.start("fifo")["id"]
    codebuild.api.stop_build(id=queued[1])
    assert outcome(codebuild.wait(queued[1]))[0] == "STOPPED"
    codebuild.wake(queued[0])
    assert codebuild.wait(queued[0])["buildStatus"] == "SUCCEEDED"


# LC-070, AP-077
def test_retry_build_runs_the_same_again_as_a_new_build(codebuild, name):
    codebuild.create_project(name, json.dumps(spec(build=["echo value=$V"])))
    first = codebuild.run(name, environmentVariablesOverride=[{"name": "V", "value": "kept"}])
    again = codebuild.api.retry_build(id=first["id"])["build"]
    assert again["id"] != first["id"] and again["buildNumber"] == first["buildNumber"] + 1
    assert again["currentPhase"] == "QUEUED"
    assert "\nvalue=kept\n" in codebuild.log(codebuild.wait(again["id"]))


# AP-008
def test_an_idempotency_token_gives_the_same_build_or_an_error(codebuild, name):
    codebuild.create_project(name, json.dumps(spec(build=["true"])))
    first = codebuild.start(name, idempotencyToken="once")
    assert codebuild.start(name, idempotencyToken="once")["id"] == first["id"]
    with pytest.raises(codebuild.api.exceptions.InvalidInputException):
        codebuild.start(name, idempotencyToken="once", timeoutInMinutesOverride=7)
    assert codebuild.api.list_builds_for_project(projectName=name)["ids"] == [first["id"]]
    codebuild.wait(first["id"])


# AP-073, AP-078
def test_deleted_builds_are_gone_and_running_ones_stay(codebuild, name):
    codebuild.create_project(name, json.dumps(spec(build=["sleep ${SECONDS_TO_SLEEP:-0}"])))
    done = codebuild.run(name)
    running = codebuild.start(name, environmentVariablesOverride=[{"name": "SECONDS_TO_SLEEP", "value": "1000"}])
    unknown = f"{name}:00000000-0000-4000-8000-000000000000"
    answer = codebuild.api.batch_delete_builds(ids=[done["id"], running["id"], unknown])
    assert answer["buildsDeleted"] == [done["arn"]]
    kept = {one["id"]: one["statusCode"] for one in answer["buildsNotDeleted"]}
    assert kept[running["arn"]] == "BUILD_IN_PROGRESS" and len(kept) == 2
    assert codebuild.api.batch_get_builds(ids=[done["id"]])["buildsNotFound"] == [done["id"]]
    codebuild.api.stop_build(id=running["id"])
    codebuild.wait(running["id"])


# AP-074, AP-075
def test_builds_are_listed_newest_first(codebuild, name):
    codebuild.create_project(name, json.dumps(spec(build=["true"])))
    ids = [codebuild.run(name)["id"] for _ in range(3)]
    assert codebuild.api.list_builds_for_project(projectName=name)["ids"] == ids[::-1]
    ascending = codebuild.api.list_builds_for_project(projectName=name, sortOrder="ASCENDING")
    assert ascending["ids"] == ids
    assert codebuild.api.list_builds()["ids"][:3] == ids[::-1]


def test_a_stopped_server_starts_again_with_everything(make_server):
    server = make_server()
    codebuild = Codebuild(server)
    codebuild.create_project("kept", json.dumps(spec(build=["echo here"])))
    build = codebuild.run("kept")
    assert server.stop() == 0
    server.start()
    assert codebuild.build(build["id"]) == build
    assert "\nhere\n" in codebuild.log(build)
    assert codebuild.run("kept")["buildNumber"] == 2
