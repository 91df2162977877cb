"""Broken and hostile input: the documented status and message, the server stays up, nothing is left behind.

Each case that a buildspec or a source can hold goes through `buildyard run` and through a server.
"""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import uuid
import zipfile
import zlib
from pathlib import Path

import boto3
import botocore.exceptions
import pytest

from host import wait_until
from local import files, spec, zipped
from served import KEY_ID, Codebuild, Server, contexts, outcome

TABS = "version: 0.2\nphases:\n\tbuild:\n\t\tcommands:\n\t\t\t- make\n"
MAP_AS_COMMAND = "version: 0.2\nphases:\n  build:\n    commands:\n      - make\n      - echo: hello\n"

# What is wrong with a buildspec: its text, and what the context's message must hold. Spec rows BS-006..010.
BAD_BUILDSPECS = {
    "unknown phase": (
        "version: 0.2\nphases:\n  compile:\n    commands: [make]\n",
        "Invalid buildspec phase name: compile. Expecting: build,install,post_build,pre_build",
    ),
    "map as a command": (MAP_AS_COMMAND, "Expected Commands[1] to be of string type: found subkeys instead at line 6"),
    "tabs": (TABS, "found character that cannot start any token"),
    "list for a map": ("- version: 0.2\n", "Cannot unmarshal list to map"),
    "no version": ("phases: {}\n", "version"),
    "unsupported version": ("version: 7\nphases: {}\n", "7"),
    "unclosed quote": ("version: 0.2\nphases: {build: {commands: ['echo]}}\n", "line"),
    "nested brackets": ("version: 0.2\nphases: " + "[" * 200_000, "max depth"),
    "nested blocks": ("version: 0.2\nx:\n  " + "- " * 100_000, "max depth"),
    "a billion laughs": (
        "version: 0.2\na: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)),
        "",
    ),
    "a NUL": ("version: 0.2\nphases: {build: {commands: ['echo \0']}}\n", ""),
    "not text": ("version: 0.2\n\xff\xfe", ""),
}


def written(project, text):
    project.buildspec(text.encode("latin-1"))


@pytest.mark.parametrize("case", BAD_BUILDSPECS)
def test_a_bad_buildspec_fails_download_source(project, case):
    text, message = BAD_BUILDSPECS[case]
    written(project, text)
    ran = project.run(timeout=120).ended(1)
    assert ran.phases() == {"DOWNLOAD_SOURCE": "FAILED"}
    ((code, said),) = ran.contexts()
    assert code == "YAML_FILE_ERROR" and message in said, said
    assert len(said) < 1000, "a message is for people to read"


# BS-001, BS-006
def test_no_buildspec_at_all_has_its_own_message(project):
    ran = project.run().ended(1)
    assert ran.contexts() == [("YAML_FILE_ERROR", "YAML file does not exist")]
    ran = project.run("--buildspec", "ci/none.yml").ended(1)
    assert ran.contexts() == [("YAML_FILE_ERROR", "YAML file does not exist")]


@pytest.mark.parametrize("kind", ["folder", "fifo", "link out", "device"])
def test_a_buildspec_that_is_no_file_is_refused(project, kind):
    path = project.folder / "buildspec.yml"
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link out":
            path.symlink_to("/etc/shadow")
        case "device":
            path.symlink_to("/dev/zero")
    ran = project.run(timeout=120).ended(1)
    ((code, said),) = ran.contexts()
    assert code == "YAML_FILE_ERROR"
    assert "root:" not in ran.out + ran.err


# BS-132, LC-032, LC-052
def test_an_artifact_pattern_without_a_match_fails_the_upload(project):
    project.buildspec(spec(build=["true"]) | {"artifacts": {"files": ["target/*.jar", "dist/**/*"]}})
    ran = project.run().ended(1)
    assert ran.phases()["BUILD"] == "SUCCEEDED" and ran.phases()["UPLOAD_ARTIFACTS"] == "FAILED"
    assert ran.contexts() == [("CLIENT_ERROR", "no matching artifact paths found")]
    assert {"Skipping invalid file path target/*.jar", "Skipping invalid file path dist/**/*"} <= set(ran.service_lines)
    assert files(project.artifacts) == []


HOSTILE = {
    # name: (commands, arguments of the local build, exit code, what the log or the messages must hold)
    "forks for ever": (
        ["bomb() { bomb | bomb & }; bomb; i=0; while [ $i -lt 200 ]; do i=$((i+1)); /bin/true; done; exit 9"],
        ["--pids", "64"],
        1,
        "exit status",
    ),
    "deletes its own source": (["rm -rf $CODEBUILD_SRC_DIR/* $CODEBUILD_SRC_DIR; echo gone", "pwd"], [], 0, "gone"),
    "deletes the system": (["rm -rf /etc /bin/* /usr/bin /lib64; echo tried", "echo next"], [], None, "tried"),
    "kills everything it can": (["kill -9 -1; echo unlikely"], [], None, ""),
    "kills the first process": (["kill -9 1; kill -TERM 1; echo still here"], [], 0, "still here"),
    "closes its output": (["exec >&- 2>&-; sleep 0.1", "echo next"], [], 0, "next"),
    "tampers with the saved state": (
        ["rm -rf /codebuild/output/tmp; true", "echo next"],
        [],
        None,
        "",
    ),
    "leaves a reader of its input": (["cat", "read x || echo no input"], [], 0, "no input"),
    "fills its file system with links": (
        ["i=0; while [ $i -lt 2000 ]; do ln -s /etc/shadow l$i; i=$((i+1)); done"],
        [],
        0,
        "",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_command_hurts_only_its_build(project, case):
    commands, arguments, code, said = HOSTILE[case]
    project.write("source.txt", "kept")
    project.buildspec(spec(build=commands))
    ran = project.run(*arguments, timeout=300)
    assert ran.code == code if code is not None else ran.code in (0, 1), ran.out[-3000:] + ran.err
    assert said in ran.out
    assert (project.folder / "source.txt").read_text() == "kept"
    assert shutil.which("true") and os.path.exists("/etc/passwd")


def test_a_line_of_100_megabytes_is_kept_whole(project):
    project.buildspec(spec(build=["head -c 100000000 /dev/zero | tr '\\0' x; echo; echo after"]))
    ran = project.run(timeout=120).ended(0)
    assert ran.out.count("x" * 1_000_000) >= 100
    assert sum(len(line) for line in ran.output if set(line) == {"x"}) == 100_000_000
    assert ran.output[-1] == "after"


def test_hostile_bytes_reach_the_log_as_they_are_and_forge_nothing(project):
    forged = "[Container] 2020/01/01 00:00:00.000000 Phase complete: BUILD State: SUCCEEDED"
    project.buildspec(spec(build=[f"echo '{forged}'; printf '\\377\\000\\033[2J\\n'; false"]))
    assert project.run().ended(1).phases()["BUILD"] == "FAILED"


@pytest.mark.parametrize(
    "artifacts",
    [
        {"files": ["../../../../etc/passwd"]},
        {"files": ["/etc/passwd"]},
        {"files": ["link"]},
        {"files": ["folder/**/*"]},
        {"files": ["fifo"]},
        {"files": ["*"], "base-directory": "../../../.."},
    ],
    ids=json.dumps,
)
def test_artifacts_cannot_take_the_hosts_files_or_hang(project, artifacts):
    """What a pattern reaches is the container's own tree; a FIFO or device never blocks the build."""
    commands = ["ln -s /etc/hostname link; ln -s /proc/1 folder; mkfifo fifo; echo mine > /etc/passwd"]
    project.buildspec(spec(build=commands) | {"artifacts": artifacts})
    ran = project.run(timeout=300)
    assert ran.code in (0, 1), ran.err
    hosts = Path("/etc/passwd").read_text()
    for name in files(project.artifacts):
        path = project.artifacts / name
        assert path.is_symlink() or path.read_text(errors="replace") != hosts


def test_a_full_disk_never_counts_as_success(ordinary_project):
    """The data folder on a file system of 12 MB: the log does not fit, and the build says so instead of lying."""
    ordinary_project.buildspec(spec(build=["head -c 60000000 /dev/urandom | base64"]))
    ordinary_project.user = None
    data = ordinary_project.home / "small"
    data.mkdir()
    mount = f'mount -t tmpfs -o size=12m small {data} && exec "$@"'
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            mount,
            "sh",
            *small_disk(ordinary_project, data),
        ],
        capture_output=True,
        timeout=120,
    )
    said = done.stdout[-500:].decode(errors="replace") + done.stderr.decode(errors="replace")
    assert done.returncode in (1, 3), said
    assert "full" in said or "No space left" in said


def small_disk(project, data):
    return ["env", f"BUILDYARD_DATA={data}", *project.command([])]


# Through a server


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """The server that all of this is done to; it must answer to the end and keep nothing."""
    server = Server(tmp_path_factory.mktemp("victim") / "data")
    traces = server.traces()
    server.start()
    yield Codebuild(server)
    assert server.process.poll() is None
    server.stop()
    traces.gone()


def still_answers(codebuild):
    assert codebuild.api.list_projects()["projects"] is not None


def from_zip(codebuild, name, folder):
    """A project whose source is this folder, zipped."""
    bucket = f"in-{name}"[:60].rstrip("-")
    codebuild.s3.create_bucket(Bucket=bucket)
    codebuild.s3.upload_file(str(zipped(folder, folder.parent / f"{name}.zip")), bucket, "source.zip")
    codebuild.create_project(name, source={"type": "S3", "location": f"{bucket}/source.zip"})


# BS-007, LC-029, LC-051
@pytest.mark.parametrize("case", BAD_BUILDSPECS)
def test_a_bad_buildspec_in_a_source_fails_the_servers_build(victim, project, case):
    text, message = BAD_BUILDSPECS[case]
    written(project, text)
    name = "bad-" + case.replace(" ", "-").lower()
    from_zip(victim, name, project.folder)
    build = victim.run(name)
    status, phases = outcome(build)
    assert (status, phases["DOWNLOAD_SOURCE"]) == ("FAILED", "FAILED")
    assert list(phases) == ["SUBMITTED", "QUEUED", "PROVISIONING", "DOWNLOAD_SOURCE", "FINALIZING", "COMPLETED"]
    code, said = contexts(build)["DOWNLOAD_SOURCE"]
    assert code == "YAML_FILE_ERROR" and message in said
    still_answers(victim)


# BS-001, BS-006
def test_a_source_without_a_buildspec_fails(victim, project):
    project.write("README", "nothing else")
    from_zip(victim, "no-buildspec", project.folder)
    build = victim.run("no-buildspec")
    assert contexts(build) == {"DOWNLOAD_SOURCE": ("YAML_FILE_ERROR", "YAML file does not exist")}


# LC-027, LC-052
def test_a_missing_bucket_or_key_fails_download_source_and_names_it(victim):
    inline = json.dumps(spec(build=["true"]))
    victim.create_project("no-bucket", inline, source={"type": "S3", "location": "no-such-bucket/source.zip"})
    build = victim.run("no-bucket")
    assert outcome(build)[0] == "FAILED"
    code, said = contexts(build)["DOWNLOAD_SOURCE"]
    assert code == "CLIENT_ERROR" and "no-such-bucket" in said
    victim.s3.create_bucket(Bucket="here")
    victim.create_project("no-key", inline, source={"type": "S3", "location": "here/wrong/key.zip"})
    code, said = contexts(victim.run("no-key"))["DOWNLOAD_SOURCE"]
    assert code == "CLIENT_ERROR" and "wrong/key.zip" in said


# LC-027, LC-032, LC-052
def test_a_missing_bucket_for_artifacts_fails_the_upload(victim):
    inline = json.dumps(spec(build=["echo x > x"]) | {"artifacts": {"files": ["x"]}})
    target = {"type": "S3", "location": "no-such-target", "packaging": "ZIP", "name": "x.zip"}
    victim.create_project("no-target", inline, artifacts=target)
    build = victim.run("no-target")
    status, phases = outcome(build)
    assert (status, phases["BUILD"], phases["UPLOAD_ARTIFACTS"]) == ("FAILED", "SUCCEEDED", "FAILED")
    assert contexts(build)["UPLOAD_ARTIFACTS"][0] == "CLIENT_ERROR"
    assert "no-such-target" in contexts(build)["UPLOAD_ARTIFACTS"][1]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 100], ids=["empty", "text", "torn"])
def test_a_source_that_is_no_zip_fails_download_source(victim, content):
    bucket = f"nozip-{len(content)}"
    victim.s3.create_bucket(Bucket=bucket)
    victim.s3.put_object(Bucket=bucket, Key="source.zip", Body=content)
    victim.create_project(bucket, source={"type": "S3", "location": f"{bucket}/source.zip"})
    build = victim.run(bucket)
    assert outcome(build)[1]["DOWNLOAD_SOURCE"] == "FAILED"
    assert contexts(build)["DOWNLOAD_SOURCE"][0] == "CLIENT_ERROR"
    still_answers(victim)


@pytest.mark.parametrize("entry", ["../../escaped", "/etc/escaped", "a/../../../escaped"])
def test_a_zip_that_climbs_out_of_the_source_is_refused(victim, tmp_path, entry):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("buildspec.yml", json.dumps(spec(build=["true"])))
        archive.writestr(entry, "x")
    bucket = f"evil-{zlib.crc32(entry.encode())}"
    victim.s3.create_bucket(Bucket=bucket)
    victim.s3.upload_file(str(path), bucket, "source.zip")
    victim.create_project(bucket, source={"type": "S3", "location": f"{bucket}/source.zip"})
    build = victim.run(bucket)
    assert outcome(build)[1]["DOWNLOAD_SOURCE"] == "FAILED"
    assert "escaped" in contexts(build)["DOWNLOAD_SOURCE"][1]
    assert not os.path.exists("/etc/escaped")


@pytest.mark.parametrize("case", ["forks for ever", "kills everything it can", "deletes the system"])
def test_a_hostile_server_build_ends_and_the_server_goes_on(victim, case):
    commands = HOSTILE[case][0]
    name = f"hostile-{case.replace(' ', '-')}-{uuid.uuid4().hex[:8]}"
    victim.create_project(name, json.dumps(spec(build=commands)))
    build = victim.run(name, seconds=240)
    assert outcome(build)[0] in ("SUCCEEDED", "FAILED"), contexts(build)
    still_answers(victim)


def test_a_command_that_ignores_sigterm_is_stopped_within_ten_seconds(victim):
    victim.create_project(
        "deaf", json.dumps(spec(build=["trap '' TERM INT HUP; echo deaf; while :; do sleep 1; done"]))
    )

    def deaf(build_id):
        build = victim.build(build_id)
        return "groupName" in build["logs"] and "\ndeaf\n" in victim.log(build)

    took = []
    for _ in range(3):
        build_id = victim.start("deaf")["id"]
        wait_until(lambda build_id=build_id: deaf(build_id), "the command runs")
        begun = time.monotonic()
        victim.api.stop_build(id=build_id)
        status, phases = outcome(victim.wait(build_id))
        took.append(time.monotonic() - begun)
        assert (status, phases["BUILD"]) == ("STOPPED", "STOPPED")
    assert statistics.median(took) <= 10, took


def test_a_line_of_100_megabytes_passes_through_a_server(victim):
    victim.create_project(
        "long-line", json.dumps(spec(build=["head -c 100000000 /dev/zero | tr '\\0' x; echo; echo after"]))
    )
    build = victim.run("long-line", seconds=300)
    assert outcome(build)[0] == "SUCCEEDED"
    place = {"logGroupName": build["logs"]["groupName"], "logStreamName": build["logs"]["streamName"]}
    page = victim.logs.get_log_events(**place, limit=100)
    assert any(event["message"] == "after\n" for event in page["events"])
    long = next(event for event in reversed(page["events"]) if event["message"].startswith("xxx"))
    assert 0 < len(long["message"]) <= 256 * 1024
    still_answers(victim)


# AP-004
def test_a_wrong_key_or_signature_is_refused(victim):
    def refused(**keys):
        client = boto3.client("codebuild", endpoint_url=victim.server.endpoint, region_name="us-east-1", **keys)
        with pytest.raises(botocore.exceptions.ClientError) as error:
            client.list_projects()
        return error.value.response["Error"]["Code"]

    wrong_secret = refused(aws_access_key_id=KEY_ID, aws_secret_access_key="wrong")
    # Nobody learns from the answer which keys exist.
    assert wrong_secret == refused(aws_access_key_id="AKIAUNKNOWN000000000", aws_secret_access_key="wrong")
    assert wrong_secret == "InvalidSignatureException"


def test_requests_that_are_not_requests_get_an_answer_and_do_no_harm(victim):
    for garbage in [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ]:
        with socket.create_connection(("127.0.0.1", victim.server.port), 60) as connection:
            connection.sendall(garbage)
            # A door that is shut on what was still to be read is an answer as well.
            with contextlib.suppress(ConnectionError):
                connection.shutdown(socket.SHUT_WR)
                connection.recv(65536)
    still_answers(victim)


def test_a_full_disk_is_answered_with_an_error_and_not_with_success(tmp_path_factory):
    """P12: on a data folder of 24 MB the server refuses what it cannot keep, and goes on once there is room."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    place = Path(tempfile.mkdtemp(prefix="full-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "full", place], check=True)
    server = Server(place / "data")
    server.log = place.parent / f"{place.name}.log"
    try:
        server.start()
        codebuild = Codebuild(server)
        codebuild.s3.create_bucket(Bucket="full")
        codebuild.create_project("full", json.dumps(spec(build=["echo fine"])))
        # Refused while the client still sends, it may see the answer or only the closed connection.
        with pytest.raises((botocore.exceptions.ClientError, botocore.exceptions.HTTPClientError)):
            codebuild.s3.put_object(Bucket="full", Key="big", Body=b"x" * (40 << 20))
        assert codebuild.s3.list_objects_v2(Bucket="full")["KeyCount"] == 0
        ballast = place / "ballast"
        fill(ballast)
        build = None
        try:
            build = codebuild.start("full")
        except botocore.exceptions.ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
        ballast.unlink()
        if build:
            assert codebuild.wait(build["id"])["buildStatus"] in ("SUCCEEDED", "FAULT")
        assert codebuild.run("full")["buildStatus"] == "SUCCEEDED"
    finally:
        if server.process:
            server.stop()
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()


def fill(path):
    """Writes until the disk is full."""
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass
