"""Logs that are long, wide or watched by many (T12): not a byte is lost or changed, and the server stays small.

`--log-scale 20` is a line of 1 GB and 2 GB of noise. It needs three times that on the disk.
"""

import gzip
import hashlib
import json
import subprocess
import threading
from pathlib import Path

import pytest

from local import spec
from served import ACCOUNT, REGION, Codebuild

GROWTH_MAX_BYTES = 64 << 20
LINE_BYTES = 50_000_000
NOISE_BYTES = 100_000_000
TAILS = 200


@pytest.fixture
def scale(request):
    return request.config.getoption("--log-scale")


def resident_bytes(pid):
    """At most, so far."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def noise(length):
    """A command for bytes that are any bytes, and the same each time."""
    return f"openssl enc -aes-128-ctr -K {'17' * 16} -iv {'0' * 32} -in /dev/zero 2>/dev/null | head -c {length}"


def digest(command):
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE) as process:
        return hashlib.file_digest(process.stdout, "sha256").hexdigest()


def between(packed, begin, end):
    """The digest and length of what lies between two lines of a packed log, read in pieces."""
    found, length, held = hashlib.sha256(), 0, b""
    with gzip.open(packed) as stream:
        while stream.readline() != begin:
            pass
        while True:
            piece = stream.read(1 << 20)
            assert piece, f"{end} is not there"
            held += piece
            at = held.find(end)
            whole = held[: at if at >= 0 else max(0, len(held) - len(end))]
            found.update(whole)
            length += len(whole)
            if at >= 0:
                return found.hexdigest(), length
            held = held[len(whole) :]


# SA-116
def test_a_line_without_end_and_noise_arrive_byte_for_byte_in_a_small_server(make_server, scale):
    server = make_server()
    codebuild = Codebuild(server)
    codebuild.s3.create_bucket(Bucket="volume")
    line, sound = LINE_BYTES * scale, NOISE_BYTES * scale
    wide = f"head -c {line} /dev/zero | tr '\\0' x"
    commands = [
        f"echo; echo begin-line; {wide}; echo; echo end-line",
        f"echo begin-noise; {noise(sound)}; echo; echo end-noise",
    ]
    s3_logs = {"status": "ENABLED", "location": "volume"}
    codebuild.create_project("wide", json.dumps(spec(build=["true"])), logsConfig={"s3Logs": s3_logs})
    codebuild.run("wide")
    before = resident_bytes(server.process.pid)
    build = codebuild.run("wide", seconds=600 * scale, buildspecOverride=json.dumps(spec(build=commands)))
    assert build["buildStatus"] == "SUCCEEDED", build["phases"]

    packed = server.data / "s3" / build["logs"]["s3LogsArn"].removeprefix("arn:aws:s3:::")
    assert between(packed, b"begin-line\n", b"\nend-line\n") == (digest(wide), line)
    assert between(packed, b"begin-noise\n", b"\nend-noise\n") == (digest(noise(sound)), sound)
    # What a client gets of it is the same line, in events that are not too long for it.
    page = codebuild.logs.get_log_events(
        logGroupName=build["logs"]["groupName"], logStreamName=build["logs"]["streamName"], startFromHead=True
    )
    assert all(len(event["message"]) <= 65536 for event in page["events"])
    grown = resident_bytes(server.process.pid) - before
    assert grown <= GROWTH_MAX_BYTES, f"the server has grown by {grown >> 20} MiB"


# SA-119
def test_two_hundred_live_tails_see_each_line_once_and_hold_nothing_up(codebuild, server, name):
    codebuild.create_project(name, json.dumps(spec(build=["true"])))
    group = codebuild.run(name)["logs"]["groupName"]
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"
    client = server.client("logs", inject_host_prefix=False, max_pool_connections=TAILS, read_timeout=120)
    started, seen = threading.Barrier(TAILS + 1, timeout=120), [[] for _ in range(TAILS)]

    def tail(lines):
        stream = client.start_live_tail(logGroupIdentifiers=[arn], logEventFilterPattern="line")["responseStream"]
        for event in stream:
            if "sessionStart" in event:
                started.wait()
            lines += [result["message"] for result in event.get("sessionUpdate", {}).get("sessionResults", [])]
            if any(line == "line 100\n" for line in lines):
                break
        stream.close()

    tails = [threading.Thread(target=tail, args=(lines,), daemon=True) for lines in seen]
    for one in tails:
        one.start()
    started.wait()
    build = codebuild.run(name, buildspecOverride=json.dumps(spec(build=["for n in $(seq 100); do echo line $n; done"])))
    for one in tails:
        one.join(timeout=120)
    assert build["buildStatus"] == "SUCCEEDED"
    expect = [f"line {number}\n" for number in range(1, 101)]
    told = [[line for line in lines if line in expect] for lines in seen]
    assert told == [expect] * TAILS
