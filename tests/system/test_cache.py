"""Caches as AWS clients and users of `buildyard run` have them: keys, fallback keys, namespaces, invalidation, damage, kills, domains.

What an archive and a layer are, and each rule alone, is tested beside the agent.
"""

import json
import os
import re
import signal

import pytest

from host import wait_until
from local import spec
from served import Codebuild, contexts

PATHS = ["kept/**/*", "/root/.kept/**/*"]


def cached(commands, **cache):
    return json.dumps(spec(build=commands) | {"cache": {"paths": PATHS} | cache})


@pytest.fixture
def bucket(codebuild, name):
    bucket = f"{name}-caches".lower().replace("_", "-")[-63:].strip("-")
    codebuild.s3.create_bucket(Bucket=bucket)
    return bucket


def keys(codebuild, bucket):
    return [found["Key"] for found in codebuild.s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def succeeds(codebuild, project, commands, **cache):
    build = codebuild.run(project, buildspecOverride=cached(commands, **cache))
    assert build["buildStatus"] == "SUCCEEDED", (contexts(build), codebuild.log(build))
    return codebuild.log(build)


# SA-090, SA-092, SA-094, SA-099, BS-150
def test_a_projects_s3_cache_is_one_object_until_it_is_invalidated(codebuild, bucket, name):
    project = codebuild.create_project(name, cached(["true"]), cache={"type": "S3", "location": f"{bucket}/some/prefix"})
    assert project["cache"] == {"type": "S3", "location": f"{bucket}/some/prefix"}
    log = succeeds(codebuild, name, ["mkdir -p kept /root/.kept; echo one >kept/a; echo two >/root/.kept/b"])
    assert "No cache found at" in log and "Saved the cache" in log
    (first,) = keys(codebuild, bucket)
    assert first.startswith("some/prefix/") and len(first) == len("some/prefix/") + 36
    log = succeeds(codebuild, name, ["cat kept/a /root/.kept/b; echo three >kept/a"])
    assert "\none\n" in log and "\ntwo\n" in log and "Restored the cache" in log
    assert keys(codebuild, bucket) == [first]
    succeeds(codebuild, name, ["test $(cat kept/a) = three"])
    codebuild.api.invalidate_project_cache(projectName=name)
    succeeds(codebuild, name, ["test ! -e kept/a; mkdir -p kept; echo anew >kept/a"])
    assert len(keys(codebuild, bucket)) == 2
    succeeds(codebuild, name, ["test $(cat kept/a) = anew"])


# BS-152, BS-153, BS-155, BS-156
def test_keyed_caches_are_found_by_hash_and_fallback_and_never_change(codebuild, bucket, name):
    codebuild.create_project(name, cached(["true"]), cache={"type": "S3", "location": bucket})
    key = {"key": "deps-$LOCK-$(codebuild-hash-files /etc/hostname | cut -c1-0)x", "fallback-keys": ["deps-"]}

    def build(lock, commands):
        variables = [{"name": "LOCK", "value": lock}]
        build = codebuild.run(
            name, buildspecOverride=cached(commands, **key), environmentVariablesOverride=variables
        )
        assert build["buildStatus"] == "SUCCEEDED", codebuild.log(build)
        return codebuild.log(build)

    build("1", ["mkdir kept; echo one >kept/a"])
    log = build("1", ["test $(cat kept/a) = one; echo changed >kept/a"])
    assert "Skip saving the cache due to: there is one of that key already" in log
    build("2", ["test $(cat kept/a) = one; echo two >kept/a"])
    build("1", ["test $(cat kept/a) = one"])
    build("3", ["test $(cat kept/a) = two"])
    assert sorted(found.rsplit("/", 1)[1] for found in keys(codebuild, bucket)) == ["deps-1-x", "deps-2-x", "deps-3-x"]


# SA-093, BS-155
def test_a_namespace_is_shared_by_the_projects_that_name_it(codebuild, bucket, name):
    shared = {"type": "S3", "location": bucket, "cacheNamespace": f"{name}-shared"}
    for project, cache in [("one", shared), ("two", shared), ("own", {"type": "S3", "location": bucket})]:
        codebuild.create_project(f"{name}-{project}", cached(["true"]), cache=cache)
    succeeds(codebuild, f"{name}-one", ["mkdir kept; echo shared >kept/a"], key="k")
    succeeds(codebuild, f"{name}-two", ["test $(cat kept/a) = shared"], key="k")
    succeeds(codebuild, f"{name}-own", ["test ! -e kept/a"], key="k")
    # Who invalidates finds it no more, the others still do.
    codebuild.api.invalidate_project_cache(projectName=f"{name}-two")
    succeeds(codebuild, f"{name}-two", ["test ! -e kept/a"], key="k", action="restore")
    succeeds(codebuild, f"{name}-one", ["test $(cat kept/a) = shared"], key="k")


# SA-091, SA-096, SA-098, SA-099, BS-151
def test_a_local_cache_is_kept_by_the_host_until_it_is_invalidated(codebuild, name):
    cache = {"type": "LOCAL", "modes": ["LOCAL_SOURCE_CACHE", "LOCAL_CUSTOM_CACHE"]}
    assert codebuild.create_project(name, cached(["true"]), cache=cache)["cache"] == cache
    succeeds(codebuild, name, ["echo one >kept/a; mkdir /root/.kept/d; echo two >/root/.kept/d/b"])
    log = succeeds(codebuild, name, ["cat kept/a /root/.kept/d/b; rm kept/a"])
    assert "\none\n" in log and "\ntwo\n" in log
    succeeds(codebuild, name, ["test ! -e kept/a; test -e /root/.kept/d/b"])
    # An override counts for one build.
    build = codebuild.run(
        name, buildspecOverride=cached(["test ! -e /root/.kept"]), cacheOverride={"type": "NO_CACHE"}
    )
    assert build["buildStatus"] == "SUCCEEDED" and build["cache"] == {"type": "NO_CACHE"}
    codebuild.api.invalidate_project_cache(projectName=name)
    succeeds(codebuild, name, ["test ! -e /root/.kept/d"])


# SA-095
def test_a_cache_that_cannot_be_had_fails_nothing(codebuild, bucket, name):
    codebuild.create_project(name, cached(["true"]), cache={"type": "S3", "location": bucket})
    succeeds(codebuild, name, ["mkdir kept; seq 1000 >kept/a"])
    (key,) = keys(codebuild, bucket)
    whole = codebuild.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    for damaged in [b"", b"no archive", whole[: len(whole) // 2]]:
        codebuild.s3.put_object(Bucket=bucket, Key=key, Body=damaged)
        log = succeeds(codebuild, name, ["test ! -e kept/a"], action="restore")
        assert "Unable to restore the cache: the archive is damaged" in log or not damaged
    build = codebuild.run(
        name, buildspecOverride=cached(["true"]), cacheOverride={"type": "S3", "location": f"{bucket}-missing"}
    )
    assert build["buildStatus"] == "SUCCEEDED"
    assert f"bucket {bucket}-missing does not exist" in codebuild.log(build)


# SA-090
def test_a_cache_without_a_place_is_refused(codebuild, name):
    with pytest.raises(codebuild.api.exceptions.InvalidInputException, match="location"):
        codebuild.create_project(name, cached(["true"]), cache={"type": "S3"})
    codebuild.create_project(name, cached(["true"]))
    with pytest.raises(codebuild.api.exceptions.InvalidInputException, match="location"):
        codebuild.start(name, cacheOverride={"type": "S3", "location": "/no-bucket"})


# SA-095: E18, T36
def test_a_project_that_may_only_read_leaves_nothing(make_server, tmp_path):
    settings = tmp_path / "read-only.toml"
    settings.write_text('read_only_caches = ["strangers"]\n')
    server = make_server("--config", str(settings))
    codebuild = Codebuild(server)
    codebuild.s3.create_bucket(Bucket="caches")
    shared = {"type": "S3", "location": "caches", "cacheNamespace": "shared"}
    for project in ["ours", "strangers"]:
        codebuild.create_project(project, cached(["true"]), cache=shared)
    succeeds(codebuild, "ours", ["mkdir kept; echo ours >kept/a"])
    for key in [{}, {"key": "k"}, {"action": "save"}]:
        log = succeeds(codebuild, "strangers", ["mkdir -p kept; echo poison >kept/a"], **key)
        assert "Skip saving the cache due to: this build may only read it" in log
    succeeds(codebuild, "ours", ["test $(cat kept/a) = ours"])
    succeeds(codebuild, "ours", ["test ! -e kept/a"], key="k")


# SA-095
@pytest.mark.parametrize("kind", ["S3", "LOCAL"])
def test_a_kill_while_a_cache_is_saved_leaves_the_old_one_or_the_new_one(make_server, kind):
    server = make_server()
    codebuild = Codebuild(server)
    codebuild.s3.create_bucket(Bucket="caches")
    cache = {"S3": {"type": "S3", "location": "caches"}, "LOCAL": {"type": "LOCAL", "modes": ["LOCAL_CUSTOM_CACHE"]}}[kind]
    codebuild.create_project("killed", cached(["true"]), cache=cache)
    write = "mkdir -p kept; rm -rf kept/*; for n in $(seq 60); do echo {0} >kept/$n; done; head -c 3000000 /dev/urandom >kept/random"
    check = 'test $(cat kept/[0-9]* | sort -u | wc -l) = 1 && test $(ls kept | wc -l) = 61 && cat kept/1'
    succeeds(codebuild, "killed", [write.format("v0")])
    present = "v0"
    for number in range(1, 9):
        build = codebuild.start("killed", buildspecOverride=cached([write.format(f"v{number}")]))
        log = server.data / "logs" / f"{build['id'].split(':')[1]}.log"
        folder = server.data / "builds" / build["id"].split(":")[1]

        def saving():
            return b"Saving the cache" in log.read_bytes() if log.exists() else False

        wait_until(saving, "the cache is being saved", 60, 0.0005)
        # The agent is killed, and with it all that saves.
        for agent in agents_of(folder):
            try:
                os.kill(agent, signal.SIGKILL)
            except ProcessLookupError:
                pass
        codebuild.wait(build["id"])
        seen = succeeds(codebuild, "killed", [check], action="restore")
        found = [line for line in seen.splitlines() if line in (present, f"v{number}")]
        assert found, seen
        present = found[-1]


def agents_of(folder):
    """Processes that work in a build's folder."""
    found = []
    for process in os.listdir("/proc"):
        if process.isdigit():
            try:
                if os.readlink(f"/proc/{process}/cwd") == str(folder):
                    found.append(int(process))
            except OSError:
                pass
    return found


def local(commands, **more):
    return spec(**({"build": commands} | more)) | {"cache": {"paths": PATHS}}


# BS-150, BS-151: locally
def test_a_local_build_finds_what_the_last_one_of_the_folder_has_cached(project):
    project.buildspec(local(["echo one >kept/a; echo two >/root/.kept/b"]))
    project.run().ended(0)
    assert not (project.folder / "kept").exists()
    project.buildspec(local(["cat kept/a /root/.kept/b"]))
    assert project.run().ended(0).output == ["one", "two"]
    ended = project.run("--no-cache").ended(1)
    assert "Skip cache due to: the project has none" in ended.service_lines


def test_cached_folders_are_there_in_every_phase_and_when_one_goes_on_from_a_phase(project):
    phases = {"install": ["echo one >kept/a"], "pre_build": ["cat kept/a; echo two >kept/b"]}
    project.buildspec(local(["cat kept/a kept/b; echo three >kept/a; test -f ok"], **phases))
    failed = project.run().ended(1)
    assert failed.output == ["one", "one", "two"]
    # What a build that failed has written is not cached, but kept with its environment.
    project.write("ok", "")
    again = project.run("--from", "build").ended(0)
    assert again.output == ["one", "two"]
    # Now it is cached.
    project.buildspec(local(["cat kept/a kept/b"]))
    assert project.run().ended(0).output == ["three", "two"]
    # And one can still go on from a phase.
    assert project.run("--from", "build").ended(0).output == ["three", "two"]


def test_an_ordinary_user_has_a_cache_too(ordinary_project):
    project = ordinary_project
    for commands, output in [(["echo one >kept/a"], []), (["cat kept/a"], ["one"])]:
        project.buildspec(local(commands))
        os.chown(project.folder / "buildspec.yml", project.user, project.user)
        assert project.run().ended(0).output == output


def test_a_shell_in_what_a_build_left_sees_cached_folders(project):
    project.buildspec(local(["cat kept/a", "false"], install=["echo one >kept/a"]))
    project.run().ended(1)
    assert project.say("shell", "--", "cat", "kept/a").ended(0).out == "one\n"
    project.buildspec(local(["cat kept/a"], install=["echo two >kept/a"]))
    project.run().ended(0)
    assert project.say("shell", "--", "cat", "kept/a").ended(0).out == "two\n"


def test_caches_are_listed_counted_and_removed(project, make_project):
    other = make_project()
    for folder, key in [(project, {}), (other, {"key": "k-1"}), (other, {"key": "k-2"})]:
        folder.buildspec(local(["head -c 2000000 /dev/urandom >kept/a"]) | {"cache": {"paths": PATHS} | key})
        folder.run().ended(0)
    listed = project.say("cache", "ls").ended(0).out.splitlines()
    named = sorted(line.split()[-2:] for line in listed)
    assert named == sorted([[str(project.folder), "-"], [str(other.folder), "k-1"], [str(other.folder), "k-2"]])
    (one,) = project.say("cache", "ls", str(other.folder), "--key", "k-1").ended(0).out.splitlines()
    # All but the age, which may be a second more by now.
    assert [one.split()[:2] + one.split()[-2:]] == [line.split()[:2] + line.split()[-2:] for line in listed if line.endswith("k-1")]
    assert all(re.fullmatch(r" +2\.0 MB +\d+s  /.*", line) for line in [one, *listed]), listed
    assert project.say("cache", "stats").ended(0).out.startswith("3 of at most 256 caches\n")
    project.say("cache", "rm").ended(1)
    assert project.say("cache", "rm", ".").ended(0).out.startswith("removed 1 cache(s), ")
    assert project.say("cache", "rm", "--all", "--key", "k-2").ended(0).out.startswith("removed 1 cache(s), ")
    (left,) = project.say("cache", "ls").ended(0).out.splitlines()
    assert left.endswith("k-1")
    project.say("cache", "rm", "--all").ended(0)
    assert not list((project.data / "caches").glob("*/layers/*"))


# SA-090, SA-093, SA-095: E18
@pytest.mark.parametrize("kind", ["S3", "LOCAL"])
def test_a_local_build_and_the_servers_builds_share_one_cache(make_server, make_project, tmp_path, kind):
    settings = tmp_path / "read-only.toml"
    settings.write_text('read_only_caches = ["strangers"]\n')
    server = make_server("--config", str(settings))
    codebuild = Codebuild(server)
    codebuild.s3.create_bucket(Bucket="caches")
    cache = {"S3": {"type": "S3", "location": "caches/here"}, "LOCAL": {"type": "LOCAL", "modes": ["LOCAL_CUSTOM_CACHE"]}}[kind]
    for project in ["ours", "strangers"]:
        codebuild.create_project(project, cached(["true"]), cache=cache)
    codebuild.create_project("bare", cached(["true"]))
    folder = make_project()

    def run(commands, *flags, code=0):
        folder.buildspec(local(commands))
        return folder.run("--data", server.data, *flags).ended(code)

    succeeds(codebuild, "ours", ["mkdir -p kept /root/.kept; echo server >kept/a; echo more >/root/.kept/b"])
    # Found, and not changed.
    ran = run(["cat kept/a /root/.kept/b; echo poison >kept/a"], "--cache-of", "ours")
    assert ran.output == ["server", "more"]
    assert "Skip saving the cache due to: this build may only read it" in ran.service_lines
    succeeds(codebuild, "ours", ["test $(cat kept/a) = server"])
    # The other way, if one says so.
    arn = "arn:aws:codebuild:us-east-1:123456789012:project/ours"
    run(["test $(cat kept/a) = server; echo local >kept/a"], "--cache-of", arn, "--save-cache")
    succeeds(codebuild, "ours", ["test $(cat kept/a) = local"])
    # It is the project's, and nobody else's.
    run(["test ! -e kept/a"], "--cache-of", "strangers")
    run(["mkdir -p kept; echo poison >kept/a"], "--cache-of", "strangers", "--save-cache")
    succeeds(codebuild, "strangers", ["test ! -e kept/a"])
    codebuild.api.invalidate_project_cache(projectName="ours")
    run(["test ! -e kept/a"], "--cache-of", "ours")
    for project, why in [("bare", "project bare has no cache"), ("nobody", "account 123456789012 has no project nobody")]:
        assert why in run(["true"], "--cache-of", project, code=2).err
    server.stop()
    assert "no server answers" in run(["true"], "--cache-of", "ours", code=2).err
