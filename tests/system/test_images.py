"""`buildyard run --image`: an OCI layout, a docker archive, and a registry, all made here from busybox."""

import base64
import concurrent.futures
import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import threading
import time
import uuid
from pathlib import Path

import pytest

from host import files_below, processes, wait_until
from local import BINARY, files, spec
from oci import busybox_root, layout_of, tool
from registries import Registry, dripping
from served import ENVIRONMENT, KEY_ID, REGION, SECRET, Codebuild, Server, contexts, free_port, outcome


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """An OCI layout with two layers, the second of which removes a file, and variables of its own."""
    place = tmp_path_factory.mktemp("image")
    oci, bundle = place / "oci", place / "bundle"
    tool("umoci", "init", "--layout", oci)
    tool("umoci", "new", "--image", f"{oci}:test")
    tool("umoci", "unpack", "--image", f"{oci}:test", bundle)
    busybox_root(bundle / "rootfs")
    tool("umoci", "repack", "--image", f"{oci}:test", bundle)
    shutil.rmtree(bundle)
    tool("umoci", "unpack", "--image", f"{oci}:test", bundle)
    (bundle / "rootfs/etc/removed").unlink()
    (bundle / "rootfs/etc/second").write_text("from the second layer\n")
    tool("umoci", "repack", "--image", f"{oci}:test", bundle)
    tool("umoci", "config", "--image", f"{oci}:test", "--config.env", "IMAGE_SAYS=hello", "--config.user", "maker")
    assert len(manifest(oci)["layers"]) == 2
    return oci


def manifest(oci):
    index = json.loads((oci / "index.json").read_text())
    digest = index["manifests"][-1]["digest"].removeprefix("sha256:")
    return json.loads((oci / "blobs/sha256" / digest).read_text())


@pytest.fixture(scope="module")
def archive(layout):
    path = layout.parent / "image.tar"
    tool("skopeo", "copy", "-q", f"oci:{layout}:test", f"docker-archive:{path}:local/test:1")
    return path


@contextlib.contextmanager
def serving(layout, place, more="", *credentials):
    """Debian's registry with the image in it; answers its address. `more` of its configuration."""
    port = free_port()
    (place / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {place}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{more}"
    )
    with open(place / "log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", place / "config.yml"], stdout=log, stderr=log)

    def pushed():
        copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", *credentials, f"oci:{layout}:test"]
        return subprocess.run([*copy, f"docker://127.0.0.1:{port}/team/tools:1.2"], capture_output=True).returncode == 0

    try:
        wait_until(pushed, "the image in the registry", 120, 0.2)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def registry(layout, tmp_path_factory):
    with serving(layout, tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def make_server(make_server, tmp_path):
    """Its servers may fetch from this host."""

    def make(*flags):
        config = Path(flags[1]) if flags else tmp_path / "allowing.toml"
        config.write_text("images_allow = ['127.0.0.0/8']\n" + (config.read_text() if flags else ""))
        return servers("--config", str(config))

    servers = make_server
    make.servers = servers.servers
    return make


PASSWORD = "secret"


@pytest.fixture(scope="module")
def locked_registry(layout, tmp_path_factory):
    """One that lets only `user` in."""
    place = tmp_path_factory.mktemp("locked")
    (place / "users").write_text("user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n")
    more = f"auth: {{htpasswd: {{realm: test, path: {place}/users}}}}\n"
    with serving(layout, place, more, "--dest-creds", f"user:{PASSWORD}") as address:
        yield address


PROBE = spec(
    build=[
        "cat /etc/mark /etc/second; ls /etc/removed 2>/dev/null || echo removed",
        "echo $IMAGE_SAYS as $(id -u) in ${PWD##*/}",
        "echo made > made.txt; echo x > /etc/mark",
        "cat /etc/mark; ls / | wc -l",
    ]
) | {"artifacts": {"files": ["made.txt"]}}


def check(project, image):
    project.buildspec(PROBE)
    ran = project.run("--image", image).ended(0)
    assert ran.output[:3] == ["from the first layer", "from the second layer", "removed"]
    # EN-026: the image's USER does not count.
    assert ran.output[3:5] == ["hello as 0 in src", "x"]
    assert files(project.artifacts) == ["made.txt"]
    return ran


def test_an_oci_layout_is_a_builds_environment(project, layout):
    check(project, layout)
    again = project.run("--image", f"{layout}").ended(0)
    assert again.output[0] == "from the first layer", "a build must not change its image"


def test_a_docker_archive_is_a_builds_environment(project, archive):
    check(project, archive)


def test_a_registry_serves_images_by_tag_and_by_digest(project, registry, layout):
    check(project, f"{registry}/team/tools:1.2")
    inspect = ["skopeo", "inspect", "--tls-verify=false", f"docker://{registry}/team/tools:1.2"]
    digest = json.loads(subprocess.run(inspect, capture_output=True, check=True).stdout)["Digest"]
    project.run("--image", f"{registry}/team/tools@{digest}").ended(0)


def test_an_ordinary_user_builds_in_an_image(ordinary_project, archive, tmp_path_factory):
    copy = ordinary_project.home / "image.tar"
    shutil.copy(archive, copy)
    copy.chmod(0o644)
    check(ordinary_project, copy)


def cousin(layout, place):
    """Another image over the first layer of the layout's."""
    oci, bundle = place / "cousin", place / "bundle"
    shutil.copytree(layout, oci)
    tool("umoci", "unpack", "--image", f"{oci}:test", bundle)
    (bundle / "rootfs/etc/second").write_text("from the cousin's layer\n")
    (bundle / "rootfs/etc/mark").unlink()
    tool("umoci", "repack", "--image", f"{oci}:test", bundle)
    assert len(manifest(oci)["layers"]) == 3
    return oci


def test_images_of_one_base_share_its_layers_for_root_and_for_an_ordinary_user(project, ordinary_project, layout, tmp_path):
    other = cousin(layout, tmp_path)
    script = spec(build=["cat /etc/second; ls /etc/mark 2>/dev/null || echo gone; ls /etc/removed 2>/dev/null || echo removed"])
    for who in [project, ordinary_project]:
        who.buildspec(script)
        both = []
        for name, image in [("one", layout), ("other", other)]:
            at = Path(who.home or who.folder.parent) / name
            shutil.copytree(image, at)
            subprocess.run(["chmod", "-R", "a+rX", at], check=True)
            both.append(who.run("--image", at).ended(0).output)
        assert both == [
            ["from the second layer", "/etc/mark", "removed"],
            ["from the cousin's layer", "gone", "removed"],
        ]
        assert len(list(who.data.glob("images/layers/*"))) == 3, "a layer each, two of them for both"
        assert all(path.name.startswith("sha256-") and len(path.name) == 71 for path in who.data.glob("images/layers/*"))


def test_a_layer_that_is_here_is_not_fetched_for_another_image(layout, make_server, tmp_path):
    other, data = cousin(layout, tmp_path), tmp_path / "data0"
    for image, fetched in [(layout, 2), (other, 1)]:
        origin = Registry(image)
        done = subprocess.run([BINARY, "image", "pull", f"{origin.address}/{image.name}:1", "--data", data], capture_output=True, text=True)
        origin.stop()
        assert done.returncode == 0, done.stderr
        layers = {layer["digest"] for layer in manifest(image)["layers"]}
        asked = [path.rsplit("/", 1)[1] for path in origin.blobs_asked()]
        assert len([digest for digest in asked if digest in layers]) == fetched, asked
    listed = json.loads(subprocess.run([BINARY, "image", "ls", "--json", "--data", data], capture_output=True).stdout)
    assert len(listed) == 2 and len({folder for one in listed for folder in one["rootfs"]}) == 3


# BS-043
def test_a_variable_of_the_buildspec_replaces_the_images(project, layout):
    project.buildspec({"env": {"variables": {"IMAGE_SAYS": "nothing"}}} | spec(build=["echo $IMAGE_SAYS"]))
    assert project.run("--image", layout).ended(0).output == ["nothing"]


# BS-030
def test_run_as_finds_the_images_users(project, layout):
    project.buildspec({"run-as": "maker"} | spec(build=["id -u"]))
    assert project.run("--image", layout).ended(0).output == ["1000"]


# LC-053
def test_an_image_that_is_not_there_is_named(project, registry, tmp_path):
    project.buildspec(PROBE)
    for image in [f"{registry}/team/tools:none", f"{registry}/nobody/none", "127.0.0.1:1/x/y", tmp_path / "no.tar"]:
        ran = project.run("--image", image)
        assert ran.code != 0 and str(image) in ran.err, ran.err


def test_a_damaged_image_is_refused(project, layout, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(layout, broken)
    digest = manifest(broken)["layers"][0]["digest"].removeprefix("sha256:")
    blob = broken / "blobs/sha256" / digest
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    project.buildspec(PROBE)
    ran = project.run("--image", broken)
    assert ran.code != 0 and digest[:12] in ran.err, ran.err


def test_a_server_build_runs_in_the_image_its_project_names(registry, make_server):
    codebuild = Codebuild(make_server())
    codebuild.create_project(
        "imaged", json.dumps(PROBE), environment=ENVIRONMENT | {"image": f"{registry}/team/tools:1.2"}
    )
    build = codebuild.run("imaged")
    assert outcome(build)[0] == "SUCCEEDED", build["phases"]
    assert "from the second layer\n" in codebuild.log(build)
    gone = codebuild.run("imaged", imageOverride=f"{registry}/team/tools:none")
    status, phases = outcome(gone)
    assert (status, phases["PROVISIONING"]) == ("FAILED", "FAILED")
    context = next(phase for phase in gone["phases"] if phase["phaseType"] == "PROVISIONING")["contexts"][0]
    assert context["statusCode"] == "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE"


@pytest.fixture
def slow_registry(layout):
    """One that sends a byte now and then."""
    stopped = threading.Event()
    registry = Registry(layout, dripping(stopped))
    yield registry
    stopped.set()
    registry.stop()


def test_a_stopped_build_ends_its_pull_and_a_slow_registry_holds_nobody_up(slow_registry, make_server):
    server = make_server()
    codebuild, s3 = Codebuild(server), server.client("s3")
    image = f"{slow_registry.address}/team/slow:1"
    codebuild.create_project("slow", json.dumps(PROBE), environment=ENVIRONMENT | {"image": image})

    def pulls():
        lines = processes(f"SYSTEM_TEST={server.data}").values()
        return len([line for line in lines if line.split()[1:] == ["pull"]])

    def threads():
        return len(os.listdir(f"/proc/{server.process.pid}/task"))

    # Both wait for one.
    waiting = [codebuild.start("slow")["id"] for _ in range(2)]
    wait_until(lambda: slow_registry.blobs_asked(), "the blob is asked for")
    for build in waiting:
        wait_until(lambda build=build: codebuild.build(build)["currentPhase"] == "PROVISIONING", "it waits for its image")
    assert (pulls(), len(slow_registry.blobs_asked())) == (1, 1)
    codebuild.api.stop_build(id=waiting[0])
    assert codebuild.wait(waiting[0])["buildStatus"] == "STOPPED"
    assert pulls() == 1
    codebuild.api.stop_build(id=waiting[1])
    assert codebuild.wait(waiting[1])["buildStatus"] == "STOPPED"
    wait_until(lambda: pulls() == 0, "nobody waits for the image, and nobody fetches it")

    idle = threads()
    for number in range(40):
        build = codebuild.start("slow", imageOverride=f"{image}{number}")["id"]
        wait_until(lambda tag=f"/manifests/1{number}": any(path.endswith(tag) for path in slow_registry.asked), "it is asked")
        codebuild.api.stop_build(id=build)
        assert codebuild.wait(build)["buildStatus"] == "STOPPED"
    wait_until(lambda: pulls() == 0, "all are ended")
    assert threads() < idle + 20
    s3.create_bucket(Bucket="still")
    s3.put_object(Bucket="still", Key="there", Body=b"x")

    codebuild.start("slow", imageOverride=f"{image}last")
    wait_until(lambda: pulls() == 1, "the last one is fetched")
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 15
    wait_until(lambda: pulls() == 0, "the pull ended with its server")


def test_a_project_leads_the_server_to_no_address_of_its_own_network(layout, server, make_server, tmp_path):
    registry, codebuild = Registry(layout), Codebuild(server)
    closed, port = f"127.0.0.1:{free_port()}", registry.server.server_port
    for place in [registry.address, closed, f"localhost:{port}", "10.1.2.3", "169.254.169.254", f"[::1]:{port}"]:
        status, message = ended(codebuild, f"{place}/team/tools:1")
        assert status == "FAILED" and "which is no public address; the operator can allow it (images_allow)" in message
    # Whether anybody listens there is not told.
    told = [ended(codebuild, f"{place}/x:1")[1].replace(place, "") for place in [registry.address, closed]]
    assert told[0] == told[1] and registry.asked == []
    # What the operator names may be anywhere, and what a setting allows.
    config = tmp_path / "buildyard.toml"
    config.write_text(f'[images]\ntools = "{registry.address}/team/tools:1"\n')
    mapped = Server(tmp_path / "mapped", "--config", str(config))
    mapped.start()
    assert ended(Codebuild(mapped), "tools")[0] == "SUCCEEDED"
    assert ended(Codebuild(mapped), f"{registry.address}/team/tools:2")[0] == "FAILED"
    mapped.stop()
    assert ended(Codebuild(make_server()), f"{registry.address}/team/tools:1")[0] == "SUCCEEDED"
    registry.stop()


def ended(codebuild, image, **more):
    """Status of a build in that image, and what PROVISIONING says."""
    environment = ENVIRONMENT | {"image": image} | more
    if codebuild.api.batch_get_projects(names=["pulls"])["projects"]:
        codebuild.api.update_project(name="pulls", environment=environment)
    else:
        codebuild.create_project("pulls", json.dumps(spec(build=["cat /etc/mark"])), environment=environment)
    # Two calls of one second are two signatures only if they differ, and a server that was started anew takes none twice.
    build = codebuild.run("pulls", idempotencyToken=uuid.uuid4().hex)
    context = next(phase for phase in build["phases"] if phase["phaseType"] == "PROVISIONING")["contexts"][0]
    assert context.get("statusCode", "") in ("", "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE")
    return build["buildStatus"], context.get("message", "")


def by_login(credential):
    login = {"credential": credential, "credentialProvider": "SECRETS_MANAGER"}
    return {"imagePullCredentialsType": "SERVICE_ROLE", "registryCredential": login}


# EN-023, EN-024, EN-025, LC-053
def test_a_project_pulls_with_its_own_login_or_with_the_servers(
    locked_registry, layout, make_server, tmp_path, monkeypatch
):
    logins = {"auths": {locked_registry: {"auth": base64.b64encode(f"user:{PASSWORD}".encode()).decode()}}}
    (tmp_path / "config.json").write_text(json.dumps(logins))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    server = make_server()
    codebuild, secrets = Codebuild(server), server.client("secretsmanager")
    image = f"{locked_registry}/team/tools:1.2"
    known = json.dumps({"username": "user", "password": PASSWORD})
    arn = secrets.create_secret(Name="team/registry", SecretString=known)["ARN"]
    secrets.create_secret(Name="wrong", SecretString=json.dumps({"username": "user", "password": "hunter2-guess"}))
    secrets.create_secret(Name="no-json", SecretString="user:hunter2-guess")

    assert ended(codebuild, image, **by_login("team/registry"))[0] == "SUCCEEDED"
    # What came with a project's own login is here now, and opens to nobody else by its digest.
    digest = json.loads((layout / "index.json").read_text())["manifests"][-1]["digest"]
    pinned = f"{locked_registry}/team/tools@{digest}"
    role = {"imagePullCredentialsType": "SERVICE_ROLE"}
    refused = "CannotPullContainerError: cannot use the image "
    for reference in [image, pinned]:
        status, message = ended(codebuild, reference, **role)
        assert status == "FAILED" and f"{refused}{reference}" in message, message
        assert f"registry {locked_registry} refused access: 401 Unauthorized without a login" in message
        assert ended(codebuild, reference, **by_login(arn))[0] == "SUCCEEDED"
        assert ended(codebuild, reference, imagePullCredentialsType="CODEBUILD")[0] == "SUCCEEDED"
    for credential, said in [
        ("wrong", "with the login given"),
        ("no-json", "registryCredential no-json: the secret is no JSON object with the texts username and password"),
        ("none/such", "registryCredential none/such: ResourceNotFoundException"),
    ]:
        status, message = ended(codebuild, image, **by_login(credential))
        assert status == "FAILED" and said in message, message
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    server.stop()
    server.start()
    assert ended(codebuild, image)[0] == "FAILED"
    assert ended(codebuild, image, **by_login("team/registry"))[0] == "SUCCEEDED"
    assert [path for path, content in files_below(server.data) if b"hunter2-guess" in content] == []
    assert b"hunter2-guess" not in server.log.read_bytes()


# EN-025
def test_a_registry_login_comes_from_aws_if_references_do(locked_registry, make_server, tmp_path, monkeypatch):
    elsewhere = make_server()
    known = json.dumps({"username": "user", "password": PASSWORD})
    elsewhere.client("secretsmanager").create_secret(Name="team/registry", SecretString=known)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    config = tmp_path / "buildyard.toml"
    config.write_text(f'[references]\nfrom = "aws"\nendpoint = "{elsewhere.endpoint}"\nregion = "{REGION}"\n')
    codebuild, image = Codebuild(make_server("--config", str(config))), f"{locked_registry}/team/tools:1.2"
    assert ended(codebuild, image, **by_login("team/registry")) == ("SUCCEEDED", "")
    status, message = ended(codebuild, image, **by_login("none/such"))
    assert status == "FAILED" and "registryCredential none/such: " in message, message


# EN-025
def test_a_registry_login_is_refused_where_it_cannot_be_used(codebuild):
    for image, more, said in [
        (ENVIRONMENT["image"], by_login("c"), "curated image"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/x:1", by_login("c"), "Amazon ECR image"),
        ("registry.example/x:1", by_login("c") | {"imagePullCredentialsType": "CODEBUILD"}, "SERVICE_ROLE"),
    ]:
        with pytest.raises(codebuild.api.exceptions.InvalidInputException, match=said):
            codebuild.create_project("refused", json.dumps(PROBE), environment=ENVIRONMENT | {"image": image} | more)


# EN-020, EN-021, EN-022, EN-033, AP-068
def test_curated_names_mean_what_the_operator_says_and_the_list_tells(archive, make_server, tmp_path):
    amazon = "aws/codebuild/amazonlinux{}-x86_64-standard:{}"
    config = tmp_path / "buildyard.toml"
    config.write_text(
        f'[images]\n"{amazon.format(2, "5.0")}" = "{archive}"\n[host]\nimages = ["host", "aws/codebuild/standard:*"]\n'
    )
    codebuild = Codebuild(make_server("--config", str(config)))
    platforms = codebuild.api.list_curated_environment_images()["platforms"]
    listed = {one["platform"]: one["languages"][0]["images"] for one in platforms}
    names = {platform: [image["name"] for image in images] for platform, images in listed.items()}
    ubuntu = [f"aws/codebuild/standard:{version}" for version in ("5.0", "6.0", "7.0", "8.0")]
    assert names == {"AMAZON_LINUX": [amazon.format("", "5.0")], "UBUNTU": ubuntu}
    # What is listed is there, by each of its names; what is not listed is not.
    look = spec(build=["cat /etc/mark 2>/dev/null || echo the host"])
    codebuild.create_project("looks", json.dumps(look))
    by_every_name = [amazon.format(age, version) for age in ("", 2) for version in ("5.0", "5.0-24.01.17")]
    for image in by_every_name + ubuntu + [amazon.format("", "6.0"), amazon.format(2, "4.0")]:
        build = codebuild.run("looks", imageOverride=image)
        if image in by_every_name + ubuntu:
            expect = "the host" if image in ubuntu else "from the first layer"
            assert f"\n{expect}\n" in codebuild.log(build), image
            assert build["environment"]["image"] == image
        else:
            context = next(phase for phase in build["phases"] if phase["phaseType"] == "PROVISIONING")["contexts"][0]
            assert build["buildStatus"] == "FAILED" and f"{image} is not there" in context["message"], context


# EN-022
def test_images_are_fetched_listed_and_removed_but_not_under_a_build(layout, archive, registry, make_server, tmp_path):
    data = tmp_path / "data0"

    def image(*arguments):
        done = subprocess.run([BINARY, "image", *arguments, "--data", data], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    code, out, told = image("pull", f"{registry}/team/tools:1.2")
    assert code == 0 and out.startswith("sha256:")
    assert told.count("fetched sha256:") == 2 and "unpacking layer 2 of 2\n" in told
    digest = out.strip()
    # The same image by another way, and another one: an archive of Docker's has no manifest.
    assert image("import", f"{layout}:test")[:2] == (0, out)
    other = image("import", str(archive))[1].strip()
    assert other.startswith("sha256:") and other != digest
    listed = {one["digest"]: one for one in json.loads(image("ls", "--json")[1])}
    assert set(listed) == {digest, other} and not any(one["inUse"] for one in listed.values())
    assert listed[digest]["references"] == sorted([f"{layout}:test", f"{registry}/team/tools:1.2"])
    known = json.loads(image("inspect", digest[7:19])[1])
    assert known["variables"]["IMAGE_SAYS"] == "hello" and known["user"] == "maker" and known["bytes"] > 100_000
    assert f"{registry}/team/tools:1.2" in image("ls")[1]

    codebuild = Codebuild(make_server())
    environment = ENVIRONMENT | {"image": f"{registry}/team/tools:1.2"}
    waits = spec(build=["busybox sleep 100000"])
    codebuild.create_project("waits", json.dumps(waits), environment=environment)
    started = codebuild.start("waits")
    codebuild.reached(started["id"])
    code, _, err = image("rm", digest)
    assert code == 1 and f"the image {digest} is in use" in err
    assert image("prune") == (0, image_removed(other, listed), "")
    assert [(one["digest"], one["inUse"]) for one in json.loads(image("ls", "--json")[1])] == [(digest, True)]
    codebuild.api.stop_build(id=started["id"])
    codebuild.wait(started["id"])
    assert wait_until(lambda: image("rm", f"{registry}/team/tools:1.2")[0] == 0, "the image is free")
    assert json.loads(image("ls", "--json")[1]) == []
    for arguments, said in [
        (["pull", str(layout)], "image import"),
        (["inspect", "nothing/of:that-name"], "no such image"),
        (["prune", "--keep", "much"], "is no size"),
    ]:
        code, _, err = image(*arguments)
        assert code != 0 and said in err, err


def is_waited_for(path):
    """Somebody waits for a lock on it."""
    waits = re.compile(rf"-> FLOCK .*:{path.stat().st_ino} ")
    return any(waits.search(line) for line in Path("/proc/locks").read_text().splitlines())


def test_a_look_at_images_disturbs_no_build_and_one_that_is_removed_meanwhile_comes_again(layout, make_server, tmp_path):
    config = tmp_path / "buildyard.toml"
    config.write_text(f'[images]\ntools = "{layout}:test"\n')
    server = make_server("--config", str(config))
    codebuild = Codebuild(server)
    environment = ENVIRONMENT | {"image": "tools"}
    codebuild.create_project("looked-at", json.dumps(spec(build=["cat /etc/mark"])), environment=environment)
    assert outcome(codebuild.run("looked-at"))[0] == "SUCCEEDED"
    (stack,) = (server.data / "images/stacks").iterdir()
    for removes in [False, True]:
        # As who looks whether it is used has it, or who begins to remove it.
        held = os.open(stack, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        started = codebuild.start("looked-at")["id"]
        wait_until(lambda: is_waited_for(stack), "the build waits for its image")
        if removes:
            stack.rename(tmp_path / "removed")
        os.close(held)
        build = codebuild.wait(started)
        assert build["buildStatus"] == "SUCCEEDED", build["phases"]
    assert stack.exists()


def test_a_local_build_waits_for_who_looks_at_its_image_and_says_if_it_was_removed(project, layout, tmp_path):
    project.buildspec(spec(build=["cat /etc/mark"]))
    project.run("--image", layout).ended(0)
    (stack,) = project.data.glob("images/stacks/*")
    for removes, code in [(False, 0), (True, 1)]:
        held = os.open(stack, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        with concurrent.futures.ThreadPoolExecutor() as aside:
            running = aside.submit(project.run, "--image", layout)
            wait_until(lambda: is_waited_for(stack), "the build waits for its image")
            if removes:
                stack.rename(tmp_path / "removed")
            os.close(held)
            ran = running.result().ended(code)
    assert "it was removed before the build could use it" in ran.err, ran.err


def test_images_keep_to_the_quota_but_not_under_a_build(layout, registry, make_server, tmp_path, monkeypatch):
    monkeypatch.setenv("BUILDYARD_LOG", "info")
    config, root = tmp_path / "buildyard.toml", tmp_path / "root"
    busybox_root(root)
    third = layout_of(root, tmp_path / "third")
    (root / "etc/mark").write_text("of another image, with layers of its own\n")
    second = layout_of(root, tmp_path / "second")

    def there(data):
        listed = subprocess.run([BINARY, "image", "ls", "--json", "--data", data], capture_output=True, check=True)
        return {one["digest"]: one for one in json.loads(listed.stdout)}

    subprocess.run([BINARY, "image", "import", second, "--data", tmp_path / "other"], capture_output=True, check=True)
    ((_, known),) = there(tmp_path / "other").items()
    quota = known["bytes"] * 5 // 2
    config.write_text(
        f'images_quota = "{quota}"\n[images]\nthird = "{third}"\nsecond = "{second}"\n'
    )
    server = make_server("--config", str(config))
    codebuild, used = Codebuild(server), ENVIRONMENT | {"image": f"{registry}/team/tools:1.2"}

    waits = spec(build=["busybox sleep 100000"])
    codebuild.create_project("waits", json.dumps(waits), environment=used)
    codebuild.create_project("quick", json.dumps(spec(build=["cat /etc/mark"])), environment=used | {"image": "second"})
    started = codebuild.start("waits")
    codebuild.reached(started["id"])
    (in_use,) = there(server.data)
    assert outcome(codebuild.run("quick"))[0] == "SUCCEEDED"
    (other,) = set(there(server.data)) - {in_use}
    wait_until(lambda: not there(server.data)[other]["inUse"], "nobody uses it any more")
    assert outcome(codebuild.run("quick", imageOverride="third"))[0] == "SUCCEEDED"
    left = there(server.data)
    assert in_use in left and other not in left and len(left) == 2
    assert sum(one["bytes"] for one in left.values()) <= quota
    assert "unpacking layer 1 of 1" in server.log.read_text()

    # What says that it is too large is not fetched at all.
    large = Registry(layout, manifest=lambda text: re.sub(rb'("size":)\d+(}]})', rb"\g<1>10000000000\2", text))
    build = codebuild.run("quick", imageOverride=f"{large.address}/large:1")
    large.stop()
    code, message = contexts(build)["PROVISIONING"]
    assert code == "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE" and f"of the {quota} that all images may take up (images_quota)" in message
    assert large.blobs_asked() == [] and set(there(server.data)) == set(left)
    codebuild.api.stop_build(id=started["id"])
    codebuild.wait(started["id"])


def test_what_did_not_come_of_an_image_is_listed_and_pruned(layout, make_server, tmp_path):
    data = tmp_path / "data0"

    def image(*arguments):
        return subprocess.run([BINARY, "image", *arguments, "--data", data], capture_output=True, text=True)

    # The second layer breaks off each time, the first came.
    digests = [layer["digest"] for layer in manifest(layout)["layers"]]
    broken = Registry(layout, lambda digest, whole: [whole[:-1] if digest == digests[1] else whole])
    done = image("pull", f"{broken.address}/broken:1")
    broken.stop()
    assert done.returncode == 1 and f"registry {broken.address}: " in done.stderr, done.stderr
    (left,) = json.loads(image("ls", "--json").stdout)
    assert left["unfinished"] and not left["inUse"] and left["bytes"] > 100_000
    assert f"{left['digest'][7:19]}  " in image("ls").stdout and "unfinished" in image("ls").stdout
    assert image("prune").returncode == 0 and json.loads(image("ls", "--json").stdout) == []
    # What is wrong is not kept.
    wrong = Registry(layout, lambda digest, whole: [whole if digest != digests[1] else whole[:-1] + b"?"])
    done = image("pull", f"{wrong.address}/wrong:1")
    wrong.stop()
    assert done.returncode == 1 and digests[1][7:19] in done.stderr, done.stderr
    assert json.loads(image("ls", "--json").stdout) == [] and list((data / "images/scratch").iterdir()) == []


def image_removed(digest, listed):
    return f"removed {digest} ({listed[digest]['bytes'] / 1e6:.1f} MB)\n"
