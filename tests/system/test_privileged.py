"""Docker in builds: privileged builds in containers of our own, as root, with a Docker daemon in them. Images come from busybox, as there is no
registry. What of the host a privileged container reaches is held against its profile in `crates/container/tests`.
"""

import json
import os
import shutil
import signal
import uuid
from pathlib import Path

import pytest

from host import interfaces, processes, wait_until
from local import spec
from oci import docker_root, layout_of
from served import Codebuild, ENVIRONMENT, IMAGE, contexts, outcome

PRIVILEGED = ENVIRONMENT | {"privilegedMode": True}
CUSTOM = PRIVILEGED | {"image": "docker"}
BASE = "mkdir -p root/bin root/etc && cp /bin/busybox root/bin/busybox && tar -C root -c . | docker import - base"
# As AWS's documentation has it for images of one's own.
START = "nohup dockerd --host=unix:///var/run/docker.sock --host=tcp://127.0.0.1:2375 --storage-driver=overlay2 >/tmp/docker.log 2>&1 &"
READY = "timeout 60 sh -c 'until docker info >/dev/null 2>&1; do sleep 0.2; done' || { cat /tmp/docker.log; false; }"


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    place = tmp_path_factory.mktemp("docker")
    docker_root(place / "root")
    made = layout_of(place / "root", place / "layout")
    shutil.rmtree(place / "root")
    yield made
    shutil.rmtree(place)


@pytest.fixture
def builds(layout, make_server, tmp_path):
    config = tmp_path / "buildyard.toml"
    config.write_text(f'privileged = true\n[images]\n"{IMAGE}" = "{layout}"\ndocker = "{layout}"\n')
    return Codebuild(make_server("--config", str(config)))


@pytest.fixture
def leaves_nothing(builds):
    """No process, mount, control group, folder or interface of this host is left of what ran in between."""
    traces, before = builds.server.traces(), interfaces()
    yield
    wait_until(lambda: not traces.left() and interfaces() <= before, "nothing is left", 30)


def run(builds, name, commands, environment=PRIVILEGED):
    builds.create_project(name, json.dumps(spec(build=commands)), environment=environment)
    build = builds.run(name, 150)
    log = builds.log(build)
    assert build["buildStatus"] == "SUCCEEDED", log
    return log


def test_a_curated_image_has_its_daemon_running_before_the_first_command(builds, leaves_nothing, name):
    # EN-027, EN-029, EN-069, EN-090
    log = run(
        builds,
        name,
        [
            "docker info --format 'stored by {{.Driver}}, groups of version {{.CgroupVersion}}'",
            "docker --host tcp://127.0.0.1:2375 version --format 'server of {{.Server.Os}}'",
            "test -s /var/log/docker.log",
            BASE,
            "printf 'FROM base\\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo made in a build >/made\"]\\n' >Dockerfile",
            "DOCKER_BUILDKIT=0 docker build --tag app .",
            "docker run --rm app /bin/busybox cat /made",
            "docker network create yard && docker run --detach --name web --network yard --publish 8080:80 app /bin/busybox nc -ll -p 80 -e /bin/busybox echo answered",
            "docker run --rm --network yard app /bin/busybox nc web 80 </dev/null",
            "docker run --rm --privileged app /bin/busybox mount -t tmpfs none /etc && echo privileged within",
            "docker run --rm app /bin/busybox env | grep -c AWS_ || true",
        ],
    )
    for line in ["stored by overlay2, groups of version 2", "server of linux", "made in a build", "answered", "privileged within"]:
        assert f"{line}\n" in log, log
    assert "\n0\n" in log.split("grep -c AWS_")[-1], log


@pytest.mark.parametrize("image", ["docker", "host"])
def test_a_buildspec_starts_the_daemon_itself_in_other_images(builds, leaves_nothing, name, image):
    # EN-026, EN-092
    commands = ["test ! -e /var/run/docker.sock", START, READY, BASE, "docker run --rm base /bin/busybox echo from within"]
    assert "from within\n" in run(builds, name, commands, PRIVILEGED | {"image": image})


def test_without_the_operators_word_it_is_refused(codebuild, name):
    # EN-090
    codebuild.create_project(name, json.dumps(spec(build=["true"])), environment=PRIVILEGED)
    with pytest.raises(codebuild.api.exceptions.InvalidInputException, match="privilegedMode"):
        codebuild.start(name)


def test_only_builds_that_ask_for_it_are_privileged(builds, name):
    tell = "mount -t tmpfs none /tmp && echo mounted || echo refused; ls /var/run/docker.sock || true"
    assert "refused\n" in run(builds, name, [tell], ENVIRONMENT)


def test_a_daemon_that_does_not_start_fails_the_build_and_tells_its_log(builds, name):
    # EN-027: the last member of DOCKER_... is read by dockerd itself.
    environment = PRIVILEGED | {"environmentVariables": [{"name": "DOCKER_DRIVER", "value": "no-such-driver"}]}
    builds.create_project(name, json.dumps(spec(build=["true"])), environment=environment)
    build = builds.run(name, 90)
    assert outcome(build)[1]["PROVISIONING"] == "FAILED" and "Docker" in contexts(build)["PROVISIONING"][1]
    assert "no-such-driver" in builds.log(build)


def inner(text):
    """What runs in a container of a container."""
    return {pid for pid, line in processes(text).items() if line.startswith("/bin/busybox sh")}


def parents_of_inits(pids):
    """The agents of the builds that these processes are of: what is above the first process that is one of a namespace."""

    def status(pid, key):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(line.split()[1:] for line in lines if line.startswith(key))

    agents = set()
    for pid in pids:
        while len(status(pid, "NSpid:")) > 1:
            pid = int(status(pid, "PPid:")[0])
        agents.add(pid)
    return agents


@pytest.mark.parametrize("end", ["stop", "server", "agent"])
def test_whatever_ends_it_nothing_is_left(builds, leaves_nothing, name, end):
    # Other tests' builds say something else.
    within = f"{name} {uuid.uuid4()}"
    deaf = f"docker run --detach base /bin/busybox sh -c 'trap : TERM; while :; do sleep 1; done' '{within}'"
    commands = [BASE, deaf, "echo ready; sleep 1000"]
    builds.create_project(name, json.dumps(spec(build=commands)), environment=PRIVILEGED)
    build = builds.start(name)
    running = wait_until(lambda: inner(within), "a container within runs", 60)
    server = builds.server
    if end == "server":
        server.kill()
        server.start()
        assert running & inner(within), "the build goes on"
    if end == "agent":
        (agent,) = parents_of_inits(running)
        os.kill(agent, signal.SIGKILL)
    else:
        builds.api.stop_build(id=build["id"])
    status = builds.wait(build["id"])["buildStatus"]
    assert status == ("FAULT" if end == "agent" else "STOPPED")
    wait_until(lambda: not running & inner(within), "it is gone", 20)
