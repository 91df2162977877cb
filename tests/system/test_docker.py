"""Builds in containers of a Docker daemon: `serve --executor docker` and `run --executor docker`, with an image made here from busybox.

The daemon is one of the tests' own (tests/docker). What every executor has to do is in the conformance suite of the executor room.
"""

import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from gitserver import GitServer
from host import mounts, processes, wait_until
from local import BINARY, REPOSITORY, spec
from oci import busybox_root, docker_root
from served import Codebuild, ENVIRONMENT, Server, contexts, outcome

IMAGE = "buildyard-test/tiny:1"
DOCKER_IMAGE = "buildyard-test/docker:1"
TINY = ENVIRONMENT | {"image": IMAGE}


class Daemon:
    def __init__(self):
        self.process = subprocess.Popen(
            [REPOSITORY / "tests/docker", "sh", "-c", "echo $BUILDYARD_TEST_DOCKER; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.socket = self.process.stdout.readline().strip()
        assert self.socket, "dockerd cannot be started"

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=300)

    def cli(self, *words, **settings):
        command = ["docker", "--host", f"unix://{self.socket}", *words]
        done = subprocess.run(command, capture_output=True, text=True, **settings)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def containers(self):
        return self.cli("ps", "--all", "--format", "{{.Names}}").split()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """With one image, whose entry point and user would not do."""
    daemon = Daemon()
    root = tmp_path_factory.mktemp("image") / "root"
    busybox_root(root, "sleep", "wget", "env", "touch", "printf", "hostname", "find", "grep")
    archive = root.parent / "root.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    changes = ["ENV IMAGE_SAYS=hello", "USER maker", 'ENTRYPOINT ["/no/such/program"]', "ENV PATH=/bin:/usr/bin"]
    options = [word for change in changes for word in ("--change", change)]
    daemon.cli("import", *options, str(archive), IMAGE)
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def init():
    """`buildyard-init`, linked statically, as an operator makes it."""
    given = os.environ.get("BUILDYARD_INIT")
    return given or str(BINARY.with_name("buildyard-init"))


@contextlib.contextmanager
def serving(daemon, init, data, more=""):
    data.mkdir()
    config = f'executor = "docker"\n[docker]\nsocket = "{daemon.socket}"\ninit = "{init}"\n{more}'
    (data / "buildyard.toml").write_text(config)
    server = Server(data)
    server.start()
    try:
        yield Codebuild(server)
    finally:
        server.stop()
    wait_until(lambda: not daemon.containers(), "no container is left")
    wait_until(lambda: not processes(f"{data}/builds/") and not mounts(str(data)), "no process and no mount is left")


@pytest.fixture
def docker_builds(daemon, init, tmp_path):
    with serving(daemon, init, tmp_path / "data") as builds:
        yield builds


@pytest.fixture
def privileged_builds(daemon, init, tmp_path):
    with serving(daemon, init, tmp_path / "data", "privileged = true\n") as builds:
        yield builds


@pytest.fixture(scope="module")
def docker_image(daemon, tmp_path_factory):
    """An image that has Docker."""
    root = tmp_path_factory.mktemp("docker") / "root"
    docker_root(root)
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as archive:
        daemon.cli("import", "--change", "ENV PATH=/bin:/usr/bin", "-", DOCKER_IMAGE, stdin=archive.stdout)
    shutil.rmtree(root)
    return DOCKER_IMAGE


def test_a_build_runs_in_the_image_and_its_artifacts_arrive(docker_builds, name):
    # EN-026: neither entry point nor user of the image count.
    docker_builds.s3.create_bucket(Bucket="out")
    commands = ["cat /etc/mark; id -u; echo $IMAGE_SAYS", "printf content >file"]
    artifacts = {"type": "S3", "location": "out", "path": name, "name": "made", "packaging": "NONE"}
    buildspec = json.dumps(spec(build=commands) | {"artifacts": {"files": ["file"]}})
    docker_builds.create_project(name, buildspec, artifacts=artifacts, environment=TINY)
    build = docker_builds.run(name)
    log = docker_builds.log(build)
    assert build["buildStatus"] == "SUCCEEDED", log
    assert all(line in log for line in ["from the first layer\n", "\n0\n", "hello\n"]), log
    assert docker_builds.s3.get_object(Bucket="out", Key=f"{name}/made/file")["Body"].read() == b"content"


def test_an_image_that_cannot_be_had_fails_provisioning(docker_builds, name):
    missing = ENVIRONMENT | {"image": "127.0.0.1:9/no/such:image"}
    docker_builds.create_project(name, json.dumps(spec(build=["true"])), environment=missing)
    build = docker_builds.run(name)
    assert outcome(build)[1]["PROVISIONING"] == "FAILED"
    code, message = contexts(build)["PROVISIONING"]
    assert code == "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE" and "127.0.0.1:9/no/such:image" in message


def test_what_the_daemon_says_against_a_container_is_told(daemon, init, tmp_path, name):
    moved = Path(shutil.copy(init, tmp_path / "buildyard-init"))
    with serving(daemon, moved, tmp_path / "data") as builds:
        moved.unlink()
        builds.create_project(name, json.dumps(spec(build=["true"])), environment=TINY)
        build = builds.run(name)
        assert build["buildStatus"] == "FAULT" and outcome(build)[1]["PROVISIONING"] == "FAULT"
        assert "bind source path does not exist" in builds.log(build)


def test_a_build_outlives_its_server(docker_builds, daemon, name):
    server = docker_builds.server
    docker_builds.create_project(name, json.dumps(spec(build=["echo begun; sleep 1000 || echo over"])), environment=TINY)
    build = docker_builds.start(name)
    wait_until(lambda: processes("CODEBUILD_BUILD_ID=" + build["id"]), "its command runs")
    server.kill()
    server.start()
    docker_builds.wake(build["id"])
    build = docker_builds.wait(build["id"])
    assert build["buildStatus"] == "SUCCEEDED"
    assert docker_builds.log(build).count("begun\n") == 1 and "over\n" in docker_builds.log(build)


def test_a_repository_comes_into_the_daemons_container(daemon, init, tmp_path, tmp_path_factory, name):
    # SA-020
    git = GitServer(tmp_path_factory.mktemp("git")).start()
    try:
        repository = git.repository("public/app.git")
        commit = repository.commit(file_txt="of the repository\n", buildspec_yml=json.dumps(spec(build=["cat file.txt"])))
        sources = f"[sources]\nallow = ['127.0.0.0/8', '::1']\ncertificates = '{git.authority}'\n"
        with serving(daemon, init, tmp_path / "data", sources) as builds:
            source = {"type": "GITHUB_ENTERPRISE", "location": repository.url}
            builds.create_project(name, source=source, environment=TINY)
            build = builds.run(name)
            assert build["buildStatus"] == "SUCCEEDED" and "of the repository\n" in builds.log(build), builds.log(build)
            assert build["resolvedSourceVersion"] == commit
    finally:
        git.stop()


def test_a_stopped_build_is_gone_in_time(docker_builds, daemon, name):
    deaf = "trap '' TERM INT HUP; while :; do sleep 1; done"
    docker_builds.create_project(name, json.dumps(spec(build=[deaf])), environment=TINY)
    took = []
    for _ in range(3):
        build = docker_builds.start(name)
        wait_until(lambda build=build: processes("CODEBUILD_BUILD_ID=" + build["id"]), "its command runs")
        begun = time.monotonic()
        docker_builds.api.stop_build(id=build["id"])
        assert docker_builds.wait(build["id"])["buildStatus"] == "STOPPED"
        wait_until(lambda: not daemon.containers(), "its container is gone")
        took.append(time.monotonic() - begun)
        assert not processes("CODEBUILD_BUILD_ID=" + build["id"])
    assert statistics.median(took) < 10, took


def test_the_compute_type_limits_the_container(docker_builds, daemon, name):
    # EN-010
    docker_builds.create_project(name, json.dumps(spec(build=["sleep 1000"])), environment=TINY)
    build = docker_builds.start(name)
    wait_until(lambda: processes("CODEBUILD_BUILD_ID=" + build["id"]), "its command runs")
    (container,) = daemon.containers()
    limits = json.loads(daemon.cli("inspect", container))[0]["HostConfig"]
    docker_builds.api.stop_build(id=build["id"])
    docker_builds.wait(build["id"])
    assert (limits["Memory"], limits["NanoCpus"]) == (4 << 30, min(2, os.cpu_count()) * 1_000_000_000)
    assert limits["CapDrop"] == ["ALL"] and "SYS_ADMIN" not in limits["CapAdd"] and limits["NetworkMode"] == "none"


def test_commands_find_the_server_and_its_credentials(docker_builds, name):
    # EN-062
    commands = ['wget -q -O - --header "Authorization: $AWS_CONTAINER_AUTHORIZATION_TOKEN" $AWS_CONTAINER_CREDENTIALS_FULL_URI']
    docker_builds.create_project(name, json.dumps(spec(build=commands)), environment=TINY)
    build = docker_builds.run(name)
    assert build["buildStatus"] == "SUCCEEDED" and "AccessKeyId" in docker_builds.log(build), docker_builds.log(build)


def test_a_privileged_build_is_refused(docker_builds, name):
    # EN-090
    docker_builds.create_project(name, json.dumps(spec(build=["true"])), environment=TINY | {"privilegedMode": True})
    with pytest.raises(docker_builds.api.exceptions.InvalidInputException, match="privilegedMode"):
        docker_builds.start(name)


def test_a_build_starts_a_docker_daemon_of_its_own_where_it_may(privileged_builds, docker_image, name):
    # EN-090, EN-092
    start = "dockerd --host=unix:///var/run/docker.sock --storage-driver=vfs --bridge=none --iptables=false >/docker.log 2>&1 &"
    ready = "timeout 300 sh -c 'until docker info >/dev/null 2>&1; do sleep 0.2; done' || { cat /docker.log; false; }"
    make = "mkdir -p root/bin && cp /bin/busybox root/bin && tar -C root -c . | docker import - inner"
    run = "docker run --rm --network none inner /bin/busybox echo from the inside || { cat /docker.log; false; }"
    environment = ENVIRONMENT | {"image": docker_image, "privilegedMode": True}
    privileged_builds.create_project(name, json.dumps(spec(build=[start, ready, make, run])), environment=environment)
    build = privileged_builds.run(name, 600)
    log = privileged_builds.log(build)
    assert build["buildStatus"] == "SUCCEEDED" and "from the inside\n" in log, log


def test_only_builds_that_ask_for_it_are_privileged(privileged_builds, name):
    tell = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status"
    told = {}
    for privileged in (False, True):
        project = f"{name}-{privileged}"
        environment = TINY | {"privilegedMode": privileged}
        privileged_builds.create_project(project, json.dumps(spec(build=[tell])), environment=environment)
        log = privileged_builds.log(privileged_builds.run(project))
        told[privileged] = dict(re.findall(r"(\w+):\t(\w+)", log))
    assert (told[False]["NoNewPrivs"], told[False]["Seccomp"]) == ("1", "2")
    assert (told[True]["NoNewPrivs"], told[True]["Seccomp"]) == ("0", "0")
    has_sys_admin = {key: bool(int(value["CapEff"], 16) >> 21 & 1) for key, value in told.items()}
    assert has_sys_admin == {False: False, True: True}


def test_a_local_build_runs_in_the_daemons_container(daemon, init, project):
    project.buildspec(spec(build=["cat given; cat /etc/mark; echo changed >given; mkdir out; echo made >out/file"]) | {"artifacts": {"files": ["out/*"]}})
    project.write("given", "as it was\n")
    where = {"DOCKER_HOST": f"unix://{daemon.socket}", "BUILDYARD_INIT": init}
    for _ in range(2):
        ran = project.run("--executor", "docker", "--image", IMAGE, env=where).ended(0)
        assert ran.output == ["as it was", "from the first layer"]
    assert (project.folder / "given").read_text() == "as it was\n"
    assert (project.artifacts / "out/file").read_text() == "made\n"
    wait_until(lambda: not daemon.containers(), "no container is left")


def test_what_is_missing_is_named(daemon, init, project, tmp_path):
    project.buildspec(spec(build=["true"]))
    where = {"DOCKER_HOST": f"unix://{daemon.socket}", "BUILDYARD_INIT": init}
    docker = ["--executor", "docker"]
    assert "--image" in project.run(*docker, env=where).ended(2).err
    nowhere = where | {"DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    assert f"{tmp_path}/no.sock" in project.run(*docker, "--image", IMAGE, env=nowhere).ended(2).err
    far = where | {"DOCKER_HOST": "tcp://build.example:2376"}
    assert "tcp://build.example:2376" in project.run(*docker, "--image", IMAGE, env=far).ended(2).err
    linked = where | {"BUILDYARD_INIT": shutil.which("python3")}
    assert "linked statically" in project.run(*docker, "--image", IMAGE, env=linked).ended(3).err
