"""The prober of the container room as a command of real builds, with all that an agent and a server add: whatever it tries is denied. What
it tries, and that it works outside, is a matter of `crates/container/tests`."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import uuid
from pathlib import Path

import pytest

from local import REPOSITORY, spec
from served import Codebuild, outcome

SOURCE = REPOSITORY / "crates/container/tests/container/prober.rs"
# A build has variables that the prober does not know.
BESIDES = "a variable of the host"


@pytest.fixture(scope="module")
def prober(tmp_path_factory):
    """The program, linked statically."""
    made = tmp_path_factory.mktemp("prober") / "prober"
    flags = ["--edition", "2024", "-C", "strip=symbols", "-C", "panic=abort", "-C", "target-feature=+crt-static"]
    subprocess.run([os.environ.get("RUSTC", "rustc"), *flags, "-o", made, SOURCE], check=True)
    return made


@pytest.fixture
def facts(tmp_path):
    """What of the host must not be found, as variables; it is there as long as the test runs."""
    mark = f"witness-{uuid.uuid4()}"
    listeners = [socket.create_server((address, 0)) for address in filter(None, ["127.0.0.1", own_address()])]
    hidden = socket.socket(socket.AF_UNIX)
    hidden.bind(f"\0{mark}")
    hidden.listen()
    waiting = subprocess.Popen(["sh", "-c", "read x", mark], stdin=subprocess.PIPE)
    kinds = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]
    yield {f"PROBE_NS_{kind}": os.readlink(f"/proc/self/ns/{kind}") for kind in kinds} | {
        "PROBE_FOLDER": str(tmp_path),
        "PROBE_MARK": mark,
        "PROBE_KEY": "7667712",
        "PROBE_HOSTNAME": socket.gethostname(),
        "PROBE_LOOPBACK": "127.0.0.1:%d" % listeners[0].getsockname()[1],
        "PROBE_ADDRESS": "%s:%d" % listeners[-1].getsockname(),
        "PROBE_HARDWARE": " ".join(hardware_addresses()),
    }
    waiting.communicate()
    for each in [*listeners, hidden]:
        each.close()


def hardware_addresses():
    """Of the host's interfaces. Those of builds come and go."""
    for path in Path("/sys/class/net").glob("*/address"):
        with contextlib.suppress(OSError):
            yield path.read_text().strip()


def own_address():
    """One of the host that is not its loopback interface's, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.9", 1))
            return probe.getsockname()[0]
        except OSError:
            return None


def absent(prober, facts):
    """What this host has not got at all."""
    done = subprocess.run([prober], env=facts | {"PROBE_OUTSIDE": "1"}, capture_output=True, text=True, check=True)
    return {name for _, name, word, *_ in rows(done.stdout.splitlines()) if word == "absent"}


def rows(lines):
    return [line.split("\t") for line in lines if line.count("\t") == 4]


def assert_denied(lines, missing):
    tried = rows(lines)
    assert len(tried) >= 80
    open_ = [row for row in tried if row[2] != "denied" and row[1] != BESIDES and (row[2] != "absent" or row[1] not in missing)]
    assert not open_, open_


def buildspec(facts):
    return spec(build=["./prober"]) | {"env": {"variables": facts}}


def test_a_local_build_of_root_stays_in(project, prober, facts):
    shutil.copy(prober, project.folder / "prober")
    project.buildspec(buildspec(facts))
    assert_denied(project.run("--network", "none").ended(0).output, absent(prober, facts))


def test_a_local_build_of_an_ordinary_user_stays_in(ordinary_project, prober, facts):
    shutil.copy(prober, ordinary_project.folder / "prober")
    ordinary_project.buildspec(buildspec(facts))
    assert_denied(ordinary_project.run("--network", "none").ended(0).output, absent(prober, facts))


def test_a_servers_build_stays_in(codebuild, prober, facts, name):
    codebuild.s3.create_bucket(Bucket=name)
    codebuild.s3.upload_file(str(prober), name, "source/prober")
    fetched = spec(build=["chmod +x prober && ./prober"]) | {"env": {"variables": facts}}
    source = {"type": "S3", "location": f"{name}/source/"}
    codebuild.create_project(name, json.dumps(fetched), source=source)
    build = codebuild.run(name)
    assert outcome(build)[0] == "SUCCEEDED", codebuild.log(build)
    assert_denied(codebuild.log(build).splitlines(), absent(prober, facts))
