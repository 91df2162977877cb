"""Servers whose disk is full, or read-only, when they start (P8, P12): what can be read is read, and nothing needs repair by hand."""

import json
import os
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import botocore.exceptions
import pytest

from host import wait_until
from local import spec
from served import Codebuild, Server


@pytest.fixture(params=["ext4", "tmpfs"])
def small(request):
    """A server with a disk of its own, 48 MB of it."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    place = Path(tempfile.mkdtemp(prefix="small-"))
    image = place.parent / f"{place.name}.image"
    if request.param == "ext4":
        with open(image, "wb") as file:
            file.truncate(48 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
    else:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "small", place], check=True)
    server = Server(place / "data")
    server.log = place.parent / f"{place.name}.log"
    yield server
    if server.process:
        server.stop()
    subprocess.run(["umount", "-l", place], check=True)
    place.rmdir()
    image.unlink(missing_ok=True)
    server.log.unlink()


def fill(disk):
    """Writes until not one block is left."""
    with open(disk / "ballast", "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            try:
                while file.write(b"\1" * size):
                    pass
            except OSError:
                os.sync()
    assert os.statvfs(disk).f_bavail == 0


def test_a_server_that_was_killed_on_a_full_disk_answers_again_and_takes_its_build_up(small):
    small.start()
    codebuild = Codebuild(small)
    codebuild.create_project("full", spec_of("echo before", "sleep 1000 || true", "echo after"))
    build = codebuild.start("full")["id"]
    codebuild.reached(build)
    # Two requests, not one that is sent twice.
    for minutes in (11, 12):
        fill(small.data.parent)
        small.kill()
        assert small.start() < 10
        codebuild = Codebuild(small)
        assert codebuild.build(build)["currentPhase"] == "BUILD"
        assert "echo before" in codebuild.log(codebuild.build(build))
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            codebuild.start("full", timeoutInMinutesOverride=minutes)
        assert refused.value.response["Error"]["Code"] == "ServiceUnavailableException"
        assert ask(small, "healthz") == (200, "ok\n")
        assert ask(small, "readyz")[0] == 503
    (small.data.parent / "ballast").unlink()
    codebuild.wake(build)
    assert codebuild.wait(build)["buildStatus"] == "SUCCEEDED"
    again = wait_until(lambda: accepted(codebuild), "builds are accepted again")
    codebuild.wake(again)
    assert codebuild.wait(again)["buildStatus"] == "SUCCEEDED"


def test_a_server_that_starts_on_a_read_only_disk_waits_until_it_can_be_written_to(small):
    small.start()
    codebuild = Codebuild(small)
    codebuild.create_project("kept", spec_of("echo fine"))
    small.kill()
    wait_until(lambda: not small._idle_agents(), "nobody has a file of it open")
    wait_until(lambda: remount(small, "ro"), "the disk is read-only")
    small.start()
    assert ask(small, "healthz") == (200, "ok\n")
    assert ask(small, "readyz") == (503, "not ready: the disk is read-only\n")
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        codebuild.api.list_projects()
    assert refused.value.response["Error"]["Code"] == "ServiceUnavailableException"
    assert remount(small, "rw")
    wait_until(lambda: ask(small, "")[0] != 503, "it has opened")
    assert codebuild.run("kept")["buildStatus"] == "SUCCEEDED"


def spec_of(*commands):
    return json.dumps(spec(build=list(commands)))


def accepted(codebuild):
    try:
        return codebuild.start("full")["id"]
    except botocore.exceptions.ClientError:
        return None


def remount(server, how):
    return subprocess.run(["mount", "-o", f"remount,{how}", server.data.parent]).returncode == 0


def ask(server, path):
    """Status and text of an answer to anybody."""
    try:
        with urllib.request.urlopen(f"{server.endpoint}/{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
