"""What a server's build finds set and laid out, and how much of the host it gets."""

import io
import json
import os
import re
import subprocess
import zipfile

import pytest

from local import BINARY, spec
from served import ACCOUNT, ENVIRONMENT, IMAGE, REGION, Codebuild, contexts, outcome

SIZES = """
[compute_types]
BUILD_GENERAL1_SMALL = { vcpu = 0.5, memory = "200MB", disk = "64MB", processes = 100 }
"""


@pytest.fixture
def sized(make_server, tmp_path):
    """A server whose smallest builds are very small."""
    if os.geteuid() != 0:
        pytest.skip("only root has disks of a fixed size")
    config = tmp_path / "buildyard.toml"
    config.write_text(SIZES)
    return Codebuild(make_server("--config", str(config)))


def zipped(files):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return memory.getvalue()


def variables(codebuild, build):
    """What `env -0` printed, one variable a line."""
    return dict(re.findall(r"^have (\w+)=(.*)$", codebuild.log(build), re.MULTILINE))


SHOW = "env -0 | tr '\\n\\0' ' \\n' | sed 's/^/have /'"


# EN-042, EN-043, EN-044, EN-045, EN-046, EN-047, EN-049, EN-053, EN-061, EN-064, EN-068, EN-084
def test_a_build_finds_what_codebuild_sets(codebuild, name):
    layout = "echo files: $(ls -A $CODEBUILD_SRC_DIR | wc -l)"
    codebuild.create_project(name, json.dumps(spec(build=[SHOW, layout, "false"], post_build=[SHOW])))
    build = codebuild.run(name)
    log = codebuild.log(build)
    first, last = log.split("Entering phase POST_BUILD")
    seen = dict(re.findall(r"^have (\w+)=(.*)$", first, re.MULTILINE))
    later = dict(re.findall(r"^have (\w+)=(.*)$", last, re.MULTILINE))
    uuid = build["id"].split(":")[1]
    expect = {
        "CODEBUILD_BUILD_SUCCEEDING": "1",
        "CODEBUILD_BUILD_URL": f"https://{REGION}.console.aws.amazon.com/codebuild/home?region={REGION}"
        f"#/builds/{build['id']}/view/new",
        "CODEBUILD_PROJECT_ARN": f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{name}",
        "CODEBUILD_INITIATOR": build["initiator"],
        "CODEBUILD_KMS_KEY_ID": build["encryptionKey"],
        "CODEBUILD_LOG_PATH": uuid,
        "CODEBUILD_START_TIME": str(round(build["startTime"].timestamp() * 1000)),
        "CODEBUILD_BUILD_IMAGE": IMAGE,
        "CODEBUILD_CONTAINER_NAME": "default",
        "CODEBUILD_EXECUTION_ROLE_BUILD": "",
        "CODEBUILD_LAST_EXIT": "0",
    }
    assert {key: seen.get(key) for key in expect} == expect
    assert re.fullmatch(r"/codebuild/output/src\d+", seen["CODEBUILD_GOPATH"])
    assert seen["PATH"].endswith(":/codebuild/user/bin")
    assert "AWS_ACCOUNT_ID" not in seen and "CODEBUILD_RESOLVED_SOURCE_VERSION" not in seen
    assert "files: 0\n" in first
    assert later["CODEBUILD_BUILD_SUCCEEDING"] == "0"


# EN-065, EN-085
def test_a_build_finds_where_it_is_and_where_it_was(codebuild, name):
    shown = ["echo was: $OLDPWD, $(env | grep ^OLDPWD=)", "echo called: $HOSTNAME $(uname -n)", "mkdir a b && cd a && cd ../b", "cd - && echo back: $OLDPWD"]
    written = "cat /codebuild/readonly/buildspec.yml | head -c 1; ls -d /codebuild/image/config"
    codebuild.create_project(name, json.dumps(spec(build=[*shown, written, "echo $#"])))
    build = codebuild.run(name)
    log = codebuild.log(build)
    assert outcome(build)[0] == "SUCCEEDED", log
    assert "was: /codebuild/readonly, OLDPWD=/codebuild/readonly\n" in log
    host = build["id"].split(":")[1].replace("-", "")[:12]
    assert f"called: {host} {host}\n" in log
    assert re.search(r"^(/codebuild/output/src\d+/src)/a\nback: \1/b$", log, re.MULTILINE), log
    assert "\n{/codebuild/image/config\n" in log, log
    assert "\n0\n" in log


# EN-050, EN-051, EN-085, EN-087
def test_an_archive_is_laid_out_with_its_paths(codebuild, name):
    codebuild.s3.create_bucket(Bucket=name)
    text = json.dumps(spec(build=[SHOW, "echo found: $(find . -type f | sort)", "touch /codebuild/output/x"]))
    codebuild.s3.put_object(Bucket=name, Key="in/source.zip", Body=zipped({"buildspec.yml": text, "a/b/c": "c"}))
    codebuild.create_project(name, source={"type": "S3", "location": f"{name}/in/source.zip"})
    build = codebuild.run(name)
    assert outcome(build)[0] == "SUCCEEDED", codebuild.log(build)
    seen = variables(codebuild, build)
    assert seen["CODEBUILD_SOURCE_REPO_URL"] == f"s3://{name}/in/source.zip"
    assert "CODEBUILD_RESOLVED_SOURCE_VERSION" not in seen
    assert "found: ./a/b/c ./buildspec.yml\n" in codebuild.log(build)


# EN-006
def test_the_hosts_kernel_is_kept_and_shown(codebuild, name):
    environment = ENVIRONMENT | {"hostKernel": "LINUX_KERNEL_6"}
    assert codebuild.create_project(name, "version: 0.2", environment=environment)["environment"]["hostKernel"]
    (project,) = codebuild.api.batch_get_projects(names=[name])["projects"]
    assert project["environment"]["hostKernel"] == "LINUX_KERNEL_6"


# EN-010, EN-016
def test_a_full_disk_fails_the_build_and_nobody_else(sized, name):
    fill = "head -c 200000000 /dev/zero > large"
    more = spec(build=[fill], post_build=["rm -f large", "echo room again > small && cat small"])
    sized.create_project(name, json.dumps(more))
    sized.create_project(f"{name}-other", json.dumps(spec(build=["sleep 0.2; echo x > y && echo fine"])))
    other = sized.start(f"{name}-other")["id"]
    build = sized.run(name)
    assert outcome(build)[0] == "FAILED" and outcome(build)[1]["BUILD"] == "FAILED"
    assert "COMMAND_EXECUTION_ERROR" in contexts(build)["BUILD"]
    log = sized.log(build)
    assert "No space left on device" in log and "room again\n" in log, log
    assert outcome(sized.wait(other))[0] == "SUCCEEDED"


# EN-010, EN-016
def test_a_source_that_does_not_fit_fails_its_phase(sized, name):
    sized.s3.create_bucket(Bucket=name)
    body = zipped({"buildspec.yml": "version: 0.2", "large": bytes(100_000_000)})
    sized.s3.put_object(Bucket=name, Key="source.zip", Body=body)
    sized.create_project(name, source={"type": "S3", "location": f"{name}/source.zip"})
    build = sized.run(name)
    assert outcome(build)[0] == "FAILED" and outcome(build)[1]["DOWNLOAD_SOURCE"] == "FAILED"
    assert "No space left on device" in contexts(build)["DOWNLOAD_SOURCE"][1]


# How much of a processor a second of trying comes to.
BUSY = "python3 -c 'import time; end = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nprint(\"share:\", time.process_time())'"
OUT_OF_MEMORY = "build container died because it was out of memory"


# EN-010, LC-058
def test_the_operators_sizes_hold(sized, name):
    disk = "df -B1 --output=size / | tail -n 1 | sed 's/^ */disk: /'"
    hog = "python3 -c 'b = bytearray(400_000_000)'"
    sized.create_project(name, json.dumps(spec(build=[disk, BUSY, hog], post_build=["echo goes on", "false"])))
    build = sized.run(name)
    log = sized.log(build)
    assert outcome(build)[0] == "FAILED"
    (disk,) = re.findall(r"^disk: (\d+)$", log, re.MULTILINE)
    assert 48_000_000 < int(disk) <= 64_000_000
    (share,) = re.findall(r"^share: ([\d.]+)$", log, re.MULTILINE)
    # Half of one, with a period of a tenth of a second more.
    assert float(share) <= 0.6
    code, message = contexts(build)["BUILD"]
    assert code == "COMMAND_EXECUTION_ERROR" and "exit status 137" in message
    assert OUT_OF_MEMORY in message and "200 MB" in message, message
    assert f"Phase context status code: {code} Message: {message}\n" in log
    # What fails later has not died of it.
    assert "goes on\n" in log and OUT_OF_MEMORY not in contexts(build)["POST_BUILD"][1]


# Half a second of processor time, by somebody who lives on.
BEHIND = "(while :; do :; done) >/dev/null 2>&1 & until [ $(cut -d' ' -f14 /proc/$!/stat) -ge 50 ]; do sleep 0.05; done"


def usage(codebuild, build):
    """What `buildyard admin build usage` tells: by phases, for programs; and the same for people."""

    def tell(*words):
        command = [BINARY, "admin", "build", "usage", build, "--data", codebuild.server.data, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    phases = json.loads(tell("--format", "json"))["phases"]
    return {phase["phaseType"]: phase for phase in phases}, tell()


def test_what_a_build_used_is_kept_with_it(sized, name):
    busy = "python3 -c 'while __import__(\"time\").process_time() < 0.5: pass'"
    large = "python3 -c 'b = bytearray(80_000_000)'"
    commands = ["head -c 20000000 /dev/zero > file && sync file", busy, large, BEHIND]
    sized.create_project(name, json.dumps(spec(pre_build=["true"], build=commands)))
    build = sized.run(name)
    assert outcome(build)[0] == "SUCCEEDED", sized.log(build)
    told, shown = usage(sized, build["id"])
    wrote, computed, held, behind = told["BUILD"]["commands"]
    assert [command["command"] for command in told["BUILD"]["commands"]] == commands
    assert 400 <= computed["cpuMillis"] < 2000 and computed["tookMillis"] >= 400
    assert wrote["diskWrittenBytes"] >= 20_000_000 > computed["diskWrittenBytes"]
    assert held["memoryPeakBytes"] >= 80_000_000 > computed["memoryPeakBytes"] and computed["memoryMeanBytes"] > 0
    # Nobody who has ended has anything of it.
    assert 400 <= behind["cpuMillis"] < 3000, told
    assert told["BUILD"]["memoryPeakBytes"] == held["memoryPeakBytes"]
    assert 20_000_000 <= told["BUILD"]["diskUsedBytes"] < 64_000_000
    assert told["PRE_BUILD"]["commands"][0]["cpuMillis"] < 400 and "DOWNLOAD_SOURCE" in told
    assert re.search(r"^BUILD +\d+\.\d\d +\d", shown, re.MULTILINE) and "  " + large in shown
    # The same by its ARN; and what is not there is said.
    assert usage(sized, build["arn"])[0] == told
    with pytest.raises(AssertionError, match="has no build"):
        usage(sized, f"{name}:{'0' * 36}")


# LC-058
def test_a_limit_of_a_local_build_is_named_when_it_is_passed(project):
    if os.geteuid() != 0:
        pytest.skip("only root has limits of memory everywhere")
    project.buildspec(spec(build=["python3 -c 'b = bytearray(600_000_000)' || exit 3"]))
    ran = project.run("--memory", "256M").ended(1)
    ((code, message),) = ran.contexts()
    assert code == "COMMAND_EXECUTION_ERROR" and "exit status 3. " in message
    assert OUT_OF_MEMORY in message and "268 MB" in message, message


def test_an_ordinary_users_server_refuses_disks(ordinary_project):
    config = ordinary_project.home / "buildyard.toml"
    config.write_text(SIZES)
    data = ordinary_project.home / "data"
    ran = ordinary_project.say("serve", "--listen", "127.0.0.1:0", "--data", data, "--config", config)
    assert ran.code != 0
    assert "compute_types.BUILD_GENERAL1_SMALL.disk" in ran.err and "takes root" in ran.err
