"""Sources, artifacts, caches and logs in a store that is not the server's own, and what becomes of them when it fails."""

import gzip
import hashlib
import io
import json
import os
import random
import signal
import stat
import subprocess
import threading
import zipfile

import pytest
from botocore.exceptions import ClientError

from faulty import DENIED, SKEWED, Proxy
from host import processes, wait_until
from local import BINARY, spec
from served import KEY_ID as OUR_KEY_ID
from served import SECRET as OUR_SECRET
from served import Codebuild, Server
from stores import SECRET, Moto, Transfers, s3_client, s3_toml


def zipped(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    moto = Moto(tmp_path_factory.mktemp("moto"))
    yield moto
    moto.stop()


@pytest.fixture(scope="module")
def there(moto):
    """A client of the store elsewhere."""
    return moto.client()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Makes servers whose builds use a store elsewhere."""
    servers = []

    def make(toml):
        folder = tmp_path_factory.mktemp("elsewhere")
        (folder / "buildyard.toml").write_text(toml)
        servers.append(Server(folder / "data", "--config", str(folder / "buildyard.toml")))
        servers[-1].start()
        return Codebuild(servers[-1])

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def codebuild(served, moto):
    """Builds whose buckets are at moto, but for those that are called ours."""
    return served(s3_toml(moto.endpoint, buckets=["there*"], timeout_seconds=60))


def contents(there, bucket, prefix=""):
    found = there.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {each["Key"]: there.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in found}


# SA-004, SA-066, SA-067, SA-070, SA-116
def test_a_build_takes_its_source_from_another_store_and_leaves_artifact_and_log_there(codebuild, there, name):
    for bucket in ("there-in", "there-out"):
        there.create_bucket(Bucket=bucket)
    text = spec(build=["cat greeting", "mkdir out", "cp greeting out/", "head -c 20000000 /dev/urandom > out/noise"])
    text["artifacts"] = {"files": ["**/*"], "base-directory": "out"}
    source = zipped({"buildspec.yml": json.dumps(text), "greeting": "good morning"})
    there.put_object(Bucket="there-in", Key="path/source.zip", Body=source)
    codebuild.create_project(
        name,
        source={"type": "S3", "location": "there-in/path/source.zip"},
        artifacts={"type": "S3", "location": "there-out", "packaging": "ZIP", "path": "P", "name": "all.zip"},
        logsConfig={"s3Logs": {"status": "ENABLED", "location": "there-out/logs"}},
    )
    build = codebuild.run(name)
    assert build["buildStatus"] == "SUCCEEDED", build["phases"]
    found = there.get_object(Bucket="there-out", Key="P/all.zip")
    packed = found["Body"].read()
    assert hashlib.sha256(packed).hexdigest() == build["artifacts"]["sha256sum"]
    assert found["ETag"].strip('"').endswith("-3"), "in parts"
    assert found["Metadata"]["codebuild-content-sha256"] == build["artifacts"]["sha256sum"]
    assert found["Metadata"]["codebuild-buildarn"] == build["arn"]
    assert zipfile.ZipFile(io.BytesIO(packed)).read("greeting") == b"good morning"
    log = there.get_object(Bucket="there-out", Key=f"logs/{build['id'].split(':')[1]}.gz")["Body"].read()
    assert b"good morning" in gzip.decompress(log)
    # Nothing of it is here.
    assert codebuild.s3.list_buckets()["Buckets"] == []
    assert not there.list_multipart_uploads(Bucket="there-out").get("Uploads")


# SA-004, SA-074, SA-007
def test_folders_files_and_versions_come_and_go_as_well(codebuild, there, name):
    there.create_bucket(Bucket="there-files")
    there.put_bucket_versioning(Bucket="there-files", VersioningConfiguration={"Status": "Enabled"})
    names = ["a", "b/c d+é", "empty"]
    for at, each in enumerate(names):
        there.put_object(Bucket="there-files", Key=f"in/{each}", Body=b"x" * at)
    text = spec(build=["find . -type f | sort", "test $(find . -type f | wc -l) = 3"])
    text["artifacts"] = {"files": ["**/*"]}
    artifacts = {"type": "S3", "location": "there-files", "path": "out", "name": "N"}
    source = {"type": "S3", "location": "there-files/in/"}
    codebuild.create_project(name, json.dumps(text), source=source, artifacts=artifacts)
    assert codebuild.run(name)["buildStatus"] == "SUCCEEDED"
    assert sorted(contents(there, "there-files", "out/")) == sorted(f"out/N/{each}" for each in names)

    versions = [
        there.put_object(Bucket="there-files", Key="s.zip", Body=zipped({"which": which}))["VersionId"] for which in "12"
    ]
    source = {"type": "S3", "location": "there-files/s.zip"}
    text = spec(build=["echo which=$(cat which) $CODEBUILD_SOURCE_VERSION"])
    codebuild.create_project(f"{name}-2", json.dumps(text), source=source)
    build = codebuild.run(f"{name}-2", sourceVersion=versions[0])
    log = codebuild.logs.get_log_events(logGroupName=f"/aws/codebuild/{name}-2", logStreamName=build["id"].split(":")[1])
    assert any(f"which=1 {versions[0]}" in event["message"] for event in log["events"])
    build = codebuild.run(f"{name}-2", sourceVersion="none-such")
    (context,) = next(p for p in build["phases"] if p["phaseType"] == "DOWNLOAD_SOURCE")["contexts"]
    assert context["statusCode"] == "CLIENT_ERROR" and "s.zip of bucket there-files" in context["message"]


# SA-092, SA-093
def test_a_cache_is_kept_there_with_and_without_a_key(codebuild, there, name):
    there.create_bucket(Bucket="there-cache")
    text = spec(build=["cat kept/file || true", "mkdir -p kept", "date +%N > kept/file"])
    cache = {"type": "S3", "location": "there-cache/p"}
    for key in ({}, {"key": "k-1", "fallback-keys": ["k-"]}):
        text["cache"] = {"paths": ["kept/**/*"]} | key
        project = f"{name}-{len(key)}"
        codebuild.create_project(project, json.dumps(text), cache=cache)
        for said in ("No cache found", "Restored the cache"):
            build = codebuild.run(project)
            log = codebuild.logs.get_log_events(
                logGroupName=f"/aws/codebuild/{project}", logStreamName=build["id"].split(":")[1]
            )
            assert any(said in event["message"] for event in log["events"]), (said, log["events"])
    assert len(contents(there, "there-cache")) == 2


# The keys of the store are nowhere a build can look.
# SA-090, SA-092, SA-093
@pytest.mark.parametrize("keyed", [{}, {"key": "k-$(cat lock)", "fallback-keys": ["k-"]}], ids=["", "keyed"])
def test_a_cache_there_is_shared_with_local_builds_of_any_machine(codebuild, moto, there, make_project, keyed):
    bucket, name = ("there-keyed", "keyed") if keyed else ("there-plain", "plain")
    there.create_bucket(Bucket=bucket)
    location = f"{bucket}/p"
    codebuild.create_project(name, json.dumps(spec(build=["true"])), cache={"type": "S3", "location": location})
    text = lambda lock, commands: json.dumps(
        spec(build=commands) | {"env": {"variables": {"LOCK": lock}}, "cache": {"paths": ["kept/**/*"]} | keyed}
    ).replace("$(cat lock)", "$LOCK")

    def served(lock, command):
        build = codebuild.run(name, buildspecOverride=text(lock, [command]))
        assert build["buildStatus"] == "SUCCEEDED", codebuild.log(build)

    served("1", "mkdir -p kept; echo server > kept/a")
    # On the machine of the server.
    here = make_project()
    here.buildspec(text("1", ["cat kept/a"]))
    assert here.run("--data", codebuild.server.data, "--cache-of", name).ended(0).output == ["server"]
    # On another one, that has the store's keys and nothing of the server's.
    url = here.say("cache", "url", name, "--data", codebuild.server.data).ended(0).out.strip()
    assert url.startswith(f"s3://{location}/")
    keys = {"AWS_ENDPOINT_URL_S3": moto.endpoint, "AWS_ACCESS_KEY_ID": "AKIDELSEWHERE0000001", "AWS_SECRET_ACCESS_KEY": SECRET}
    keys |= {"AWS_REGION": "us-east-1"}
    away = make_project()
    away.buildspec(text("2" if keyed else "1", ["cat kept/a; env | grep -c AKIDELSEWHERE || true; echo away > kept/a"]))
    ran = away.run("--cache-of", url, env=keys).ended(0)
    assert ran.output == ["server", "0"]
    assert "Skip saving the cache due to: this build may only read it" in ran.service_lines
    # What it leaves the server's builds find, if it says so.
    away.run("--cache-of", url, "--save-cache", env=keys).ended(0)
    served("2", "test $(cat kept/a) = away")
    codebuild.api.invalidate_project_cache(projectName=name)
    served("2", "test ! -e kept/a")
    assert here.say("cache", "url", name, "--data", codebuild.server.data).ended(0).out.strip() != url
    for wrong in ["s3://there-plain", "s3:///x", f"{url}x"]:
        assert "it must be s3://BUCKET/PREFIX/ID" in away.run("--cache-of", wrong, env=keys).ended(2).err


def test_a_build_sees_no_key_of_the_store(codebuild, there, name):
    there.create_bucket(Bucket="there-hidden")
    # Not found by where it is itself written.
    pattern = "[e]lsewhere/secret"
    assert pattern.replace("[e]", "e") in SECRET
    hunt = f"env | grep {pattern}; grep -rasl {pattern} /proc/[0-9]*/environ /proc/[0-9]*/cmdline /codebuild /tmp /var /root /home /etc"
    text = spec(build=[f"found=$({hunt}); echo \"found: [$found]\"", "echo made > made"])
    text["artifacts"] = {"files": ["made"]}
    codebuild.create_project(name, json.dumps(text), artifacts={"type": "S3", "location": "there-hidden", "packaging": "ZIP"})
    build = codebuild.run(name)
    log = codebuild.logs.get_log_events(logGroupName=f"/aws/codebuild/{name}", logStreamName=build["id"].split(":")[1])
    told = "".join(event["message"] for event in log["events"])
    assert build["buildStatus"] == "SUCCEEDED"
    assert "found: []" in told and SECRET not in told
    settings = codebuild.server.data / "s3.json"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    assert SECRET.encode() not in (codebuild.server.data / "records.sqlite").read_bytes()
    assert SECRET not in codebuild.server.log.read_text(errors="replace")


def test_a_wrong_configuration_is_told_at_the_start(tmp_path):
    for text, said in [
        (s3_toml("s3.example"), "must be http"),
        (s3_toml("http://s3.example/path"), "nothing may follow"),
        (s3_toml("http://me:you@s3.example"), "user names"),
        (s3_toml("http://s3.example", buckets=["A"]), "`A`"),
        ('[s3]\nendpoint = "http://s3.example"\naccess_key_id = "a"\n', "s3.secret_access_key"),
        ('[s3]\nendpoint = "http://s3.example"\n', "there are no AWS credentials"),
    ]:
        (tmp_path / "buildyard.toml").write_text(text)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | {"HOME": str(tmp_path)}
        command = [str(BINARY), "serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "data"), "--config", str(tmp_path / "buildyard.toml")]
        ended = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 1 and said in ended.stderr, (text, ended.stderr)
        assert SECRET not in ended.stderr


def contexts(build, phase):
    (context,) = next(p for p in build["phases"] if p["phaseType"] == phase)["contexts"]
    return context


# A store that nobody reaches, by name or by address: the phase says so, and nothing hangs.
def test_a_store_out_of_reach_fails_the_phase_that_needs_it(served, name):
    for endpoint in ("http://127.0.0.1:9", "http://no-such-host.invalid"):
        codebuild = served(s3_toml(endpoint))
        artifacts = {"type": "S3", "location": "bucket", "packaging": "ZIP"}
        source = {"type": "S3", "location": "bucket/source.zip"}
        codebuild.create_project(name, source=source)
        build = codebuild.run(name)
        said = contexts(build, "DOWNLOAD_SOURCE")
        assert build["buildStatus"] == "FAILED" and said["statusCode"] == "CLIENT_ERROR"
        assert "source.zip of bucket bucket" in said["message"] and "cannot be reached" in said["message"]
        text = spec(build=["echo x > x"]) | {"artifacts": {"files": ["x"]}}
        codebuild.create_project(f"{name}-2", json.dumps(text), artifacts=artifacts)
        build = codebuild.run(f"{name}-2")
        said = contexts(build, "UPLOAD_ARTIFACTS")
        assert build["buildStatus"] == "FAILED" and said["statusCode"] == "CLIENT_ERROR"
        assert said["message"].startswith("Failed to upload artifacts: ") and "cannot be reached" in said["message"]


# SA-002, SA-061
def test_a_location_is_asked_for_where_there_is_one_and_comes_back_as_an_arn(codebuild, there, name):
    for project in ({"source": {"type": "S3"}}, {"source": {"type": "GITHUB"}}, {"artifacts": {"type": "S3"}}):
        with pytest.raises(ClientError, match="location"):
            codebuild.create_project(name, "version: 0.2", **project)
    there.create_bucket(Bucket="there-arn")
    text = spec(build=["echo x > x"]) | {"artifacts": {"files": ["x"]}}
    codebuild.create_project(name, json.dumps(text), artifacts={"type": "S3", "location": "there-arn", "packaging": "ZIP"})
    assert codebuild.run(name)["artifacts"]["location"] == f"arn:aws:s3:::there-arn/{name}"
    codebuild.create_project(f"{name}-2", json.dumps(text))
    assert codebuild.run(f"{name}-2")["artifacts"]["location"] == ""


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A store that looks at every signature: a second server of ours."""
    server = Server(tmp_path_factory.mktemp("store") / "data")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def proxy(ours):
    proxy = Proxy(ours.endpoint)
    yield proxy
    proxy.stop()


@pytest.fixture
def transfers(tmp_path, proxy):
    transfers = Transfers(tmp_path, proxy.endpoint, OUR_KEY_ID, OUR_SECRET)
    yield transfers
    assert transfers.stop() == 0


@pytest.fixture
def store(ours, name):
    """A client past the proxy, and a bucket of this test's own."""
    client = s3_client(ours.endpoint, OUR_KEY_ID, OUR_SECRET)
    bucket = name[:50].strip("-")
    client.create_bucket(Bucket=bucket)
    return client, bucket


# A stop does not wait for a store that keeps silent, and nothing stays there.
def test_a_stop_ends_an_upload_and_leaves_nothing(served, ours, proxy, store, name):
    client, bucket = store
    codebuild = served(s3_toml(proxy.endpoint, OUR_KEY_ID, OUR_SECRET, timeout_seconds=600))
    proxy.once("black-hole", lambda method, path: "partNumber=2" in path, times=1 << 30)
    text = spec(build=["head -c 20000000 /dev/urandom > noise"]) | {"artifacts": {"files": ["noise"]}}
    codebuild.create_project(name, json.dumps(text), artifacts={"type": "S3", "location": bucket, "packaging": "ZIP"})
    build = codebuild.start(name)
    wait_until(lambda: "black-hole" in proxy.made, "an upload that hangs")
    codebuild.api.stop_build(id=build["id"])
    assert codebuild.wait(build["id"])["buildStatus"] == "STOPPED"
    assert contents(client, bucket) == {} and not client.list_multipart_uploads(Bucket=bucket).get("Uploads")
    moving = lambda: [line for line in processes(f"SYSTEM_TEST={codebuild.server.data}").values() if " transfer " in line]
    wait_until(lambda: not moving(), "nobody moves anything")


# P6
def test_a_kill_in_the_middle_of_a_set_leaves_nothing_of_it(served, ours, proxy, store, name):
    client, bucket = store
    client.put_object(Bucket=bucket, Key="out/N/3", Body=b"of somebody else")
    codebuild = served(s3_toml(proxy.endpoint, OUR_KEY_ID, OUR_SECRET, timeout_seconds=600))
    # Most objects of the set have been made of their parts when this one is.
    proxy.once("black-hole", lambda method, path: method == "POST" and "/out/N/17?" in path and "uploadId" in path, times=1 << 30)
    text = spec(build=["for n in $(seq 10 30); do echo $n > $n; done"]) | {"artifacts": {"files": ["*"]}}
    target = {"type": "S3", "location": bucket, "path": "out", "name": "N", "packaging": "NONE"}
    codebuild.create_project(name, json.dumps(text), artifacts=target)
    build = codebuild.start(name)
    made = lambda: "black-hole" in proxy.made and len(contents(client, bucket)) > 3
    wait_until(made, "a part of the set")
    ours_is = lambda line: " transfer " in line
    (process,) = [pid for pid, line in processes(f"SYSTEM_TEST={codebuild.server.data}").items() if ours_is(line)]
    os.kill(process, signal.SIGKILL)
    build = codebuild.wait(build["id"])
    assert build["buildStatus"] == "FAILED", build["phases"]
    assert contents(client, bucket) == {"out/N/3": b"of somebody else"}
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_each_fault_of_a_store_is_got_over_once(proxy, transfers, store):
    client, bucket = store
    part = random.Random(1).randbytes(8 << 20)
    large, small = part + part[:1000], {"small": b"small", "empty": b"", "other": b"o"}
    for fault in ["500", "slow-down", "error-in-200", "late", "black-hole", "lost-answer", "lost-request", "wrong-etag", "absent", SKEWED]:
        for what, when in [
            ({"one": b"one"}, lambda method, path: method in ("PUT", "HEAD")),
            ({"large": large}, lambda method, path: "partNumber" in path),
            ({"large": large}, lambda method, path: method == "POST"),
            (small, lambda method, path: method == "POST" and "uploadId" in path),
        ]:
            if fault in ("late", "black-hole") and what is small:
                continue
            for key in what:
                client.delete_object(Bucket=bucket, Key=key)
            proxy.once(fault, when)
            answer = transfers.put(bucket, what)
            if fault == "wrong-etag" and answer != "Done":
                # Bytes that arrived as others cannot be told from a lie about them: nothing is left.
                assert not set(what) & set(contents(client, bucket)), (fault, answer)
                continue
            assert answer == "Done", (fault, list(what), answer)
            found = contents(client, bucket)
            assert all(found[key] == content for key, content in what.items()), fault
    client.put_object(Bucket=bucket, Key="large", Body=large)
    proxy.choose = lambda method, path: None
    for fault in ["500", "slow-down", "reset", "truncated", "late", "black-hole", "corrupted", "lost-answer", "lost-request", SKEWED]:
        proxy.once(fault, lambda method, path: method == "GET")
        answer, content = transfers.get(bucket, "large")
        assert "Object" in answer and content == large, (fault, answer)


# SA-005, SA-006, SA-068
def test_refusals_of_a_store_are_told_as_codebuild_tells_them(served, proxy, store, name):
    client, bucket = store
    assert client.get_bucket_acl(Bucket=bucket)["Grants"] and "LocationConstraint" in client.get_bucket_location(Bucket=bucket)
    codebuild = served(s3_toml(proxy.endpoint, OUR_KEY_ID, OUR_SECRET, timeout_seconds=60))
    text = spec(build=["echo x > x"]) | {"artifacts": {"files": ["x"]}}
    codebuild.create_project(f"{name}-out", json.dumps(text), artifacts={"type": "S3", "location": bucket, "packaging": "ZIP"})
    codebuild.create_project(name, source={"type": "S3", "location": f"{bucket}/s.zip"})
    moved = (301, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint.")
    for fault, downloading, uploading in [
        (DENIED, "Access Denied", "Access Denied"),
        (moved, "must be addressed using the specified endpoint", "Failed to upload artifacts: Invalid arn"),
    ]:
        proxy.once(fault, lambda method, path: True, times=1 << 30)
        assert downloading in contexts(codebuild.run(name), "DOWNLOAD_SOURCE")["message"]
        assert uploading in contexts(codebuild.run(f"{name}-out"), "UPLOAD_ARTIFACTS")["message"]


# SA-007, SA-065, IN-155
def test_a_bucket_of_ours_keeps_versions_and_says_how_objects_were_to_be_encrypted(ours, store, name):
    client, bucket = store
    codebuild = Codebuild(ours)
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert client.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    archives = {client.put_object(Bucket=bucket, Key="s.zip", Body=zipped({"which": w}))["VersionId"]: w for w in "12"}
    listed = client.list_object_versions(Bucket=bucket)["Versions"]
    assert [each["VersionId"] for each in listed] == list(reversed(archives)) and listed[0]["IsLatest"]
    text = spec(build=["echo which=$(cat which), $CODEBUILD_SOURCE_VERSION"])
    codebuild.create_project(name, json.dumps(text), source={"type": "S3", "location": f"{bucket}/s.zip"})
    for version, which in archives.items():
        build = codebuild.run(name, sourceVersion=version)
        log = codebuild.logs.get_log_events(logGroupName=f"/aws/codebuild/{name}", logStreamName=build["id"].split(":")[1])
        assert any(f"which={which}, {version}" in event["message"] for event in log["events"])
        assert build["sourceVersion"] == version and "resolvedSourceVersion" not in build
        assert client.head_object(Bucket=bucket, Key="s.zip", VersionId=version)["VersionId"] == version
    said = contexts(codebuild.run(name, sourceVersion="0" * 32), "DOWNLOAD_SOURCE")
    assert said["statusCode"] == "CLIENT_ERROR" and "has no version" in said["message"]
    gone = client.delete_object(Bucket=bucket, Key="s.zip")
    assert gone["DeleteMarker"]
    assert "s.zip" in contexts(codebuild.run(name), "DOWNLOAD_SOURCE")["message"]
    assert client.list_object_versions(Bucket=bucket)["DeleteMarkers"][0]["IsLatest"]
    client.delete_object(Bucket=bucket, Key="s.zip", VersionId=gone["VersionId"])
    assert codebuild.run(name)["buildStatus"] == "SUCCEEDED"

    text = spec(build=["echo x > x"]) | {"artifacts": {"files": ["x"]}}
    target = {"type": "S3", "location": bucket, "packaging": "ZIP", "name": "a.zip"}
    codebuild.create_project(f"{name}-2", json.dumps(text), artifacts=target)
    build = codebuild.run(f"{name}-2")
    found = client.head_object(Bucket=bucket, Key="a.zip")
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", build["encryptionKey"])
    codebuild.run(f"{name}-2", artifactsOverride=target | {"encryptionDisabled": True})
    assert "ServerSideEncryption" not in client.head_object(Bucket=bucket, Key="a.zip")


# What is torn in the middle goes on from there.
def test_a_broken_answer_is_taken_up_where_it_broke(proxy, transfers, store):
    client, bucket = store
    large = random.Random(2).randbytes(3 << 20)
    client.put_object(Bucket=bucket, Key="large", Body=large)
    proxy.once("truncated", lambda method, path: method == "GET", times=4)
    answer, content = transfers.get(bucket, "large")
    assert "Object" in answer and content == large
    # And one more for each that took longer than this client's patience of a second.
    assert len([seen for seen in proxy.seen if seen[0] == "GET"]) >= 5
    assert len(proxy.made) == 4


# SA-004
def test_a_folder_of_many_objects_is_fetched_some_at_once(served, ours, proxy, store, name):
    client, bucket = store
    sizes = {f"in/d{at % 7}/f{at}": at * 37 for at in range(250)}
    for key, size in sizes.items():
        client.put_object(Bucket=bucket, Key=key, Body=key.encode() * (size // len(key)) + b"." * (size % len(key)))
    codebuild = served(s3_toml(proxy.endpoint, OUR_KEY_ID, OUR_SECRET, timeout_seconds=60))
    at_once, most, lock = [0], [0], threading.Lock()
    forward = proxy._forward

    def counted(request, body):
        is_get = request.command == "GET" and "/in/" in request.path
        with lock:
            at_once[0] += is_get
            most[0] = max(most[0], at_once[0])
        answered = forward(request, body)
        with lock:
            at_once[0] -= is_get
        return answered

    proxy._forward = counted
    text = spec(build=["find . -type f | wc -l", "cat $(find . -type f | sort) | sha256sum"])
    codebuild.create_project(name, json.dumps(text), source={"type": "S3", "location": f"{bucket}/in/"})
    build = codebuild.run(name)
    log = codebuild.log(build)
    paths = sorted(f"./{key.removeprefix('in/')}" for key in sizes)
    whole = b"".join(client.get_object(Bucket=bucket, Key=f"in/{path[2:]}")["Body"].read() for path in paths)
    assert f"\n{len(sizes)}\n" in log and hashlib.sha256(whole).hexdigest() in log, log
    assert 1 < most[0] <= 6


# SA-004: F33
def test_objects_in_parts_are_held_against_the_checksums_of_their_parts(proxy, transfers, store):
    client, bucket = store
    large = random.Random(4).randbytes((11 << 20) + 7)

    def uploaded(key, part_size):
        upload = {"Bucket": bucket, "Key": key, "UploadId": client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]}
        pieces = [large[at : at + part_size] for at in range(0, len(large), part_size)]
        parts = [client.upload_part(**upload, PartNumber=at + 1, Body=piece)["ETag"] for at, piece in enumerate(pieces)]
        listed = [{"PartNumber": at + 1, "ETag": etag} for at, etag in enumerate(parts)]
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": listed})

    gets = lambda: len([seen for seen in proxy.seen if seen[0] == "GET"])
    # Of usual parts one whole answer is enough. Ours tells nothing of parts: unusual ones are read until they are twice the same.
    for key, part_size, enough in [("usual", 8 << 20, 1), ("unusual", 6 << 20, 2)]:
        uploaded(key, part_size)
        for times in (0, 1):
            proxy.seen.clear()
            proxy.once("corrupted", lambda method, path: method == "GET", times=times)
            answer, content = transfers.get(bucket, key)
            assert "Object" in answer and content == large, (key, times, answer)
            assert gets() >= enough + times, (key, times)


# SA-004: F33
def test_a_store_that_knows_the_sizes_of_parts_is_asked_for_them(tmp_path, moto, there, name):
    there.create_bucket(Bucket="there-parts")
    large = random.Random(5).randbytes((11 << 20) + 7)
    upload = {"Bucket": "there-parts", "Key": "k", "UploadId": there.create_multipart_upload(Bucket="there-parts", Key="k")["UploadId"]}
    sizes, at, listed = [6 << 20, 5 << 20, 7], 0, []
    for number, size in enumerate(sizes, 1):
        listed.append({"PartNumber": number, "ETag": there.upload_part(**upload, PartNumber=number, Body=large[at : at + size])["ETag"]})
        at += size
    there.complete_multipart_upload(**upload, MultipartUpload={"Parts": listed})
    proxy = Proxy(moto.endpoint)
    transfers = Transfers(tmp_path, proxy.endpoint, patience=60)
    for times in (0, 1):
        proxy.seen.clear()
        proxy.once("corrupted", lambda method, path: method == "GET", times=times)
        answer, content = transfers.get("there-parts", "k")
        assert "Object" in answer and content == large, (times, answer)
        assert len([seen for seen in proxy.seen if seen[0] == "GET"]) >= 1 + times, proxy.seen
    # What the store itself has damaged is not taken for the object.
    proxy.once("corrupted", lambda method, path: method == "GET", times=1 << 30)
    answer, _ = transfers.get("there-parts", "k")
    assert "checksums" in answer["Failed"]["Refused"], answer
    assert transfers.stop() == 0
    proxy.stop()


# P6
def test_faults_that_stay_are_told_and_leave_no_object(proxy, transfers, store):
    client, bucket = store
    large = {"large": random.Random(3).randbytes(9 << 20)}
    several = {f"d/{at}": b"%d" % at for at in range(12)}
    always = 1 << 30
    for fault, what, when in [
        (DENIED, large, lambda method, path: "partNumber=2" in path),
        (DENIED, large, lambda method, path: method == "POST" and "uploadId" in path),
        ("error-in-200", large, lambda method, path: method == "POST" and "uploadId" in path),
        ("slow-down", {"one": b"1"}, lambda method, path: method == "PUT"),
        (DENIED, several, lambda method, path: "/d/7?" in path and "partNumber" in path),
        (DENIED, several, lambda method, path: "/d/7?" in path and method == "POST" and "uploadId" in path),
    ]:
        proxy.once(fault, when, times=always)
        answer = transfers.put(bucket, what)
        assert "Failed" in answer, (fault, list(what), answer)
        assert contents(client, bucket) == {}, (fault, list(what))
        assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads"), (fault, list(what))
    client.put_object(Bucket=bucket, Key="k", Body=b"content")
    for fault, kind in [("corrupted", "Refused"), (DENIED, "Refused"), ("black-hole", "Refused"), ("absent", "Missing")]:
        proxy.once(fault, lambda method, path: method == "GET", times=always)
        answer, _ = transfers.get(bucket, "k")
        assert kind in answer["Failed"], (fault, answer)


# P6: what was made without being heard of is made nonetheless, however often it is denied to be there, and is taken back with the set that fails.
@pytest.mark.parametrize("denial", ["absent", "wrong-etag"])
def test_an_object_whose_completion_was_not_heard_of_is_found_or_taken_back(tmp_path, proxy, ours, denial):
    client, bucket = s3_client(ours.endpoint, OUR_KEY_ID, OUR_SECRET), f"unheard-{denial}"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    # Patient: an upload that was begun twice, as the first answer was late, would be one more.
    transfers = Transfers(tmp_path, proxy.endpoint, OUR_KEY_ID, OUR_SECRET, patience=60)
    # The second is what it was: of two that look the same the older is not taken for the newer.
    old = {"s/a": b"old", "s/b": b"same", "s/c": b"old"}
    new = {"s/a": b"new", "s/b": b"same", "s/c": b"new"}

    def choosing(is_refused):
        left = {"lost-answer": 1, denial: 2}

        def choose(method, path):
            completes, key = method == "POST" and "uploadId" in path, path.partition("?")[0][-3:]
            if is_refused and completes and key != "s/a":
                return DENIED
            fault = "lost-answer" if completes else denial if method == "HEAD" else None
            if key == "s/a" and left.get(fault):
                left[fault] -= 1
                return fault

        return choose

    assert transfers.put(bucket, old) == "Done"
    versions = {each["Key"]: each["VersionId"] for each in client.list_object_versions(Bucket=bucket)["Versions"]}
    proxy.choose = choosing(is_refused=True)
    answer = transfers.put(bucket, new)
    assert "Failed" in answer and {"lost-answer", denial, DENIED} <= set(proxy.made), (answer, proxy.made)
    listed = client.list_object_versions(Bucket=bucket)
    assert sorted((each["Key"], each["VersionId"]) for each in listed["Versions"]) == sorted(versions.items())
    assert contents(client, bucket) == old and "DeleteMarkers" not in listed
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")
    proxy.made.clear()
    proxy.choose = choosing(is_refused=False)
    assert transfers.put(bucket, new) == "Done" and {"lost-answer", denial} <= set(proxy.made), proxy.made
    assert contents(client, bucket) == new
    assert transfers.stop() == 0


def now(transfers, bucket, key):
    """What is there, if anything is."""
    answered, content = transfers.get(bucket, key)
    assert "Object" in answered or "Missing" in answered["Failed"], answered
    return content if "Object" in answered else None


# P6: F28..F37 and more, at random: what is said to be there is there as it was sent; of what is said not to be, there is what was before, or the new if it is one
# object. Sets go where versions are kept: elsewhere what one of them has overwritten is gone when they are taken back (docs/serve.md).
def test_transfers_under_faults_are_whole_or_not_at_all(proxy, transfers, store, request):
    client, plain = store
    versioned = f"{plain}-v"
    client.create_bucket(Bucket=versioned)
    client.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Enabled"})
    chance = random.Random(request.config.getoption("--seed"))
    before, done, failed = {}, 0, 0
    for number in range(request.config.getoption("--transfers")):
        rate = chance.choice([0, 0.05, 0.15, 0.3])
        size = chance.choice([0, 1, 1000, 1 << 20, (8 << 20) + 1]) if number % 5 == 0 else chance.choice([0, 1, 1000])
        keys = [f"k{chance.randrange(40)}"] if number % 3 else sorted({f"k{chance.randrange(40)}" for _ in range(4)})
        bucket = plain if len(keys) == 1 else versioned
        what = {key: chance.randbytes(size) for key in keys}
        old = {key: before.get((bucket, key)) for key in keys}
        faults = len(proxy.made)
        proxy.at_random(chance.random(), rate)
        answer = transfers.put(bucket, what)
        proxy.choose = lambda method, path: None
        done, failed = done + (answer == "Done"), failed + (answer != "Done")
        found = {key: now(transfers, bucket, key) for key in keys}
        if answer == "Done":
            is_there = found == what
            assert is_there, (number, keys, proxy.seen[-40:])
        else:
            # By the store or the way to it, and only where something was done to a request.
            assert list(answer["Failed"]) == ["Refused"] and len(proxy.made) > faults, (number, answer)
            is_whole_or_not_at_all = found in (old, what)
            seen = {key: "new" if found[key] == what[key] else "old" if found[key] == old[key] else "neither" for key in keys}
            assert is_whole_or_not_at_all, (number, bucket, seen, answer, proxy.made[faults:])
        before |= {(bucket, key): content for key, content in found.items()}
        proxy.at_random(chance.random(), rate)
        key = chance.choice(keys)
        answered, content = transfers.get(bucket, key)
        proxy.choose = lambda method, path: None
        assert "Object" not in answered or content == found[key], (number, key, answered)
    assert done and set(proxy.made), (done, failed)
    print(f"{done} done, {failed} failed, {len(proxy.made)} faults in {len(proxy.seen)} requests")
