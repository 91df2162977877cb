"""Logs: `buildyard logs` in a shell, of a build that has ended and of one that goes on, even while the server is away; logs in S3."""

import gzip
import json
import subprocess

import pytest

from local import BINARY, spec
from served import Codebuild


def command(server, build_id, *more):
    return [str(BINARY), "logs", build_id, "--data", str(server.data), *more]


def shown(server, build_id, *more):
    return subprocess.run(command(server, build_id, *more), capture_output=True, text=True, timeout=120)


def test_the_log_of_a_build_is_printed_as_it_was_written(codebuild, server, name):
    codebuild.create_project(name, json.dumps(spec(build=["printf 'no newline'; echo; seq 30000; echo é"])))
    build = codebuild.run(name)
    told = shown(server, build["id"])
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == codebuild.log(build)
    assert "\nno newline\n1\n2\n" in told.stdout and "\n30000\né\n" in told.stdout
    assert shown(server, build["arn"]).stdout == told.stdout


def test_whoever_follows_a_build_misses_nothing_while_the_server_is_killed_and_hears_how_it_ended(make_server):
    server = make_server()
    codebuild = Codebuild(server)
    lines = "for line in $(seq 400); do echo line $line; sleep 0.005; done; exit 3"
    codebuild.create_project("talks", json.dumps(spec(build=[lines])))
    build_id = codebuild.start("talks")["id"]
    with subprocess.Popen(command(server, build_id, "--follow"), stdout=subprocess.PIPE, text=True) as follower:
        read = [follower.stdout.readline()]
        while read[-1] != "line 40\n":
            assert read[-1], read
            read.append(follower.stdout.readline())
        server.kill()
        server.start()
        read += follower.stdout.readlines()
        assert follower.wait(timeout=120) == 1
    assert [line for line in read if line.startswith("line ")] == [f"line {number}\n" for number in range(1, 401)]
    assert "".join(read) == codebuild.log(codebuild.build(build_id))


def test_a_build_that_is_not_there_is_named(server):
    unknown = "nothing:00000000-0000-4000-8000-000000000000"
    told = shown(server, unknown, "-f")
    assert (told.returncode, told.stdout) == (4, "")
    assert f"there is no build {unknown}" in told.stderr


def test_a_reader_that_leaves_ends_it(codebuild, server, name):
    codebuild.create_project(name, json.dumps(spec(build=["seq 100000"])))
    build = codebuild.run(name)
    head = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "logs", *command(server, build["id"])],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (head.returncode, head.stderr) == (0, "")


# SA-110, SA-115, SA-116
def test_a_log_in_s3_is_the_whole_log_beside_cloudwatch_or_without_it(codebuild, name):
    codebuild.s3.create_bucket(Bucket=name)
    commands = ["seq 100000; printf 'bytes \\377\\000\\n'; echo last"]
    s3_logs = {"status": "ENABLED", "location": f"{name}/build-log"}
    codebuild.create_project(name, json.dumps(spec(build=commands)), logsConfig={"s3Logs": s3_logs})
    build = codebuild.run(name)
    uuid = build["id"].split(":")[1]
    assert build["logs"]["s3LogsArn"] == f"arn:aws:s3:::{name}/build-log/{uuid}.gz"
    link = f"https://s3.console.aws.amazon.com/s3/object/{name}/build-log/{uuid}.gz?region=us-east-1"
    assert build["logs"]["s3DeepLink"] == link
    assert build["logs"]["s3Logs"]["status"] == "ENABLED"

    def stored(build_id):
        key = f"build-log/{build_id.split(':')[1]}.gz"
        return gzip.decompress(codebuild.s3.get_object(Bucket=name, Key=key)["Body"].read())

    text = stored(build["id"])
    assert b"\n99999\n100000\nbytes \xff\x00\nlast\n" in text
    assert text.decode(errors="replace") == codebuild.log(build)

    off = {"cloudWatchLogs": {"status": "DISABLED"}, "s3Logs": s3_logs}
    alone = codebuild.run(name, logsConfigOverride=off)
    assert "groupName" not in alone["logs"] and "s3LogsArn" in alone["logs"]
    assert b"\nlast\n" in stored(alone["id"])


# SA-116
def test_a_log_that_cannot_be_written_to_its_bucket_is_not_named_and_changes_no_status(codebuild, name):
    location = {"status": "ENABLED", "location": f"{name}-is-not-there"}
    codebuild.create_project(name, json.dumps(spec(build=["echo hi"])), logsConfig={"s3Logs": location})
    build = codebuild.run(name)
    assert build["buildStatus"] == "SUCCEEDED"
    assert "s3LogsArn" not in build["logs"] and "s3DeepLink" not in build["logs"]
    assert "\nhi\n" in codebuild.log(build)


# SA-117, SA-121, SA-122
def test_a_group_that_is_missing_is_made_and_lines_are_as_clients_expect_them(codebuild, name):
    place = {"groupName": f"made/for/{name}", "streamName": "nightly", "status": "ENABLED"}
    codebuild.create_project(name, json.dumps(spec(build=["echo plain; printf cut"])), logsConfig={"cloudWatchLogs": place})

    def groups():
        return codebuild.logs.describe_log_groups(logGroupNamePrefix=f"made/for/{name}")["logGroups"]

    assert groups() == []
    for _ in range(2):
        build = codebuild.run(name)
        (group,) = groups()
        assert group["logGroupName"] == place["groupName"] and "retentionInDays" not in group
        stream = build["logs"]["streamName"]
        read = {"logGroupName": place["groupName"], "logStreamName": stream, "startFromHead": True}
        messages = [event["message"] for event in codebuild.logs.get_log_events(**read)["events"]]
        # Jenkins strips the beginning of the service's lines, the GitHub action the newline at the end of all.
        assert all(message.endswith("\n") for message in messages if message != "cut"), messages
        service = [message for message in messages if "Phase complete" in message]
        assert len(service) >= 6 and all(message.startswith("[Container] 2") for message in service)
        assert "plain\n" in messages
        codebuild.logs.delete_log_group(logGroupName=place["groupName"])
        for missing in [read, read | {"logGroupName": f"/aws/codebuild/{name}"}]:
            with pytest.raises(codebuild.logs.exceptions.ResourceNotFoundException):
                codebuild.logs.get_log_events(**missing)


# SA-119
def test_the_second_aws_cli_tails_a_log_group_and_follows_it(codebuild, server, name):
    codebuild.create_project(name, json.dumps(spec(build=["echo first"])))
    group = codebuild.run(name)["logs"]["groupName"]
    tail = ["/usr/bin/aws", "--endpoint-url", server.endpoint, "logs", "tail", group, "--since", "1h", "--format", "short"]
    shown = subprocess.run(tail, env=server.environment(), capture_output=True, text=True, timeout=120)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.partition(" ")[2] for line in shown.stdout.splitlines()].count("first") == 1
    tail += ["--follow", "--filter-pattern=-Container"]
    with subprocess.Popen(tail, env=server.environment(), stdout=subprocess.PIPE, text=True) as follower:
        seen = [follower.stdout.readline().partition(" ")[2].strip()]
        codebuild.run(name, buildspecOverride=json.dumps(spec(build=["echo second; echo third"])))
        while seen[-1] != "third":
            line = follower.stdout.readline()
            assert line, seen
            seen.append(line.partition(" ")[2].strip())
        follower.kill()
    assert [line for line in seen if line] == ["first", "second", "third"]
