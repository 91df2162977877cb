"""Logs that are long, wide or watched by many (T12): not a byte is lost or changed, and the server stays small.

`--log-percent 100` is the whole of it: a line of 1 GB, 10 GB of noise, 60 million lines at 100,000 a second, a million lines of one byte. It needs
30 GB of disk. Less than all is written as fast as it goes.
"""

import gzip
import hashlib
import json
import subprocess
import threading
import time
from pathlib import Path

import pytest

from local import spec
from served import ACCOUNT, REGION, Codebuild

GROWTH_MAX_BYTES = 64 << 20
LATENCY_MAX_SECONDS = 1.0
LINE_BYTES = 1_000_000_000
NOISE_BYTES = 10_000_000_000
LINES_A_SECOND = 100_000
SECONDS = 600
SHORT_LINES = 1_000_000
TAILS = 200


@pytest.fixture
def percent(request):
    return request.config.getoption("--log-percent")


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


class Packed:
    """A packed log, read once and in pieces."""

    def __init__(self, path):
        self.stream, self.held = gzip.open(path), b""

    def until(self, mark):
        """The pieces up to a line; what follows it is read next."""
        at = -1
        while at < 0:
            piece = self.stream.read(1 << 20)
            self.held += piece
            at = self.held.find(mark)
            assert piece or at >= 0, f"{mark} is not there"
            whole = self.held[: at if at >= 0 else max(0, len(self.held) - len(mark))]
            self.held = self.held[len(whole) :]
            yield whole
        self.held = self.held[len(mark) :]

    def between(self, begin, end):
        """The digest and length of what lies between two lines."""
        for _ in self.until(begin):
            pass
        found, length = hashlib.sha256(), 0
        for piece in self.until(end):
            found.update(piece)
            length += len(piece)
        return found.hexdigest(), length


def printed(percent):
    """What is printed, by name: a command that builds run, and another for the same bytes without pauses."""
    line, sound = LINE_BYTES * percent // 100, NOISE_BYTES * percent // 100
    lines = f"seq -f 'this is line %.0f, one as a compiler prints' {LINES_A_SECOND}"
    seconds = f"seq {SECONDS * percent // 100}"
    # A second's lines, and then the rest of the second.
    pace = "sleep 1 & " if percent >= 100 else ""
    wide = f"head -c {line} /dev/zero | tr '\\0' x"
    short = f"yes x | head -n {SHORT_LINES * percent // 100}"
    progress = "seq -f '%.0f percent' 100000 | tr '\\n' '\\r'"
    return {
        "line": (wide, wide),
        "noise": (noise(sound), noise(sound)),
        "lines": (f"for s in $({seconds}); do {pace}{lines}; wait; done", f"for s in $({seconds}); do {lines}; done"),
        "short": (short, short),
        "progress": (progress, progress),
    }


# SA-116
def test_long_logs_arrive_byte_for_byte_in_a_small_server(make_server, percent):
    server = make_server()
    codebuild = Codebuild(server)
    codebuild.s3.create_bucket(Bucket="volume")
    s3_logs = {"status": "ENABLED", "location": "volume"}
    codebuild.create_project("wide", json.dumps(spec(build=["true"])), logsConfig={"s3Logs": s3_logs})
    codebuild.run("wide")
    before = resident_bytes(server.process.pid)
    all_printed = printed(percent)
    commands = [f"echo; echo begin-{name}; {command}; echo; echo end-{name}" for name, (command, _) in all_printed.items()]
    begun = time.monotonic()
    build = codebuild.run("wide", seconds=60 * max(10, percent), buildspecOverride=json.dumps(spec(build=commands)))
    took = time.monotonic() - begun
    assert build["buildStatus"] == "SUCCEEDED", build["phases"]

    packed = Packed(server.data / "s3" / build["logs"]["s3LogsArn"].removeprefix("arn:aws:s3:::"))
    bytes_in_all = 0
    for name, (_, same) in all_printed.items():
        found, length = packed.between(f"\nbegin-{name}\n".encode(), f"\nend-{name}\n".encode())
        assert found == digest(same), f"{name}, {length} bytes"
        bytes_in_all += length
    # What a client gets of it is the same line, in events that are not too long for it.
    page = codebuild.logs.get_log_events(
        logGroupName=build["logs"]["groupName"], logStreamName=build["logs"]["streamName"], startFromHead=True
    )
    assert all(len(event["message"]) <= 65536 for event in page["events"])
    grown = resident_bytes(server.process.pid) - before
    print(f"\n{bytes_in_all} bytes of log in {took:.0f} s, each as it was printed; the server has grown by {grown >> 10} KiB")
    assert grown <= GROWTH_MAX_BYTES, f"the server has grown by {grown >> 20} MiB"


# SA-119
def test_two_hundred_live_tails_see_each_line_once_and_hold_nothing_up(codebuild, server, name, percent):
    codebuild.create_project(name, json.dumps(spec(build=["true"])))
    group = codebuild.run(name)["logs"]["groupName"]
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"
    client = server.client("logs", inject_host_prefix=False, max_pool_connections=TAILS, read_timeout=300)
    started, seen = threading.Barrier(TAILS + 1, timeout=300), [[] for _ in range(TAILS)]

    def tail(lines):
        stream = client.start_live_tail(logGroupIdentifiers=[arn], logEventFilterPattern="line")["responseStream"]
        for event in stream:
            if "sessionStart" in event:
                started.wait()
            results = event.get("sessionUpdate", {}).get("sessionResults", [])
            lines += [(result["message"], time.time()) for result in results]
            if any(line.startswith("line 100 ") for line, _ in lines):
                break
        stream.close()

    tails = [threading.Thread(target=tail, args=(lines,), daemon=True) for lines in seen]
    for one in tails:
        one.start()
    started.wait()
    # The clients here are slower than the server: how late a line is, is seen only where they have time.
    pause = 0.5 if percent > 10 else 0.02
    commands = [f"for n in $(seq 100); do echo line $n at $EPOCHREALTIME; sleep {pause}; done"]
    bash = json.dumps(spec(build=commands) | {"env": {"shell": "bash"}})
    build = codebuild.run(name, seconds=600, buildspecOverride=bash)
    for one in tails:
        one.join(timeout=300)
    assert build["buildStatus"] == "SUCCEEDED"
    told = [[(line.split(), at) for line, at in lines if line.startswith("line ") and " at 1" in line] for lines in seen]
    assert [[int(words[1]) for words, _ in lines] for lines in told] == [list(range(1, 101))] * TAILS
    delays = sorted(at - float(words[3]) for lines in told for words, at in lines)
    p99 = delays[len(delays) * 99 // 100]
    print(f"\n{TAILS} tails see a line after {delays[len(delays) // 2] * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms")
    assert percent <= 10 or p99 <= LATENCY_MAX_SECONDS
