"""What a power cut must not take is synced, and in this order (P1, P5, P6): seen call by call by strace, in which a sync that is missing is missing."""

import contextlib
import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from host import processes, wait_until
from local import spec
from served import Codebuild, Server, contexts

CALLS = "fsync,fdatasync,syncfs,rename,renameat,renameat2,write,writev,pwrite64,recvfrom,sendto"
CREATED, STARTED = 2, 1


class Trace:
    """The calls of a server and its agents, in order, with the paths of their files as they are below the data folder."""

    def __init__(self, path, data):
        self.path, self.data = path, data

    def calls(self):
        text = self.path.read_text(errors="replace").replace(str(self.data), "")
        found = re.findall(r"^\d+ +(?:<\.\.\. )?(\w+(?:\(| resumed>).*)$", text, re.MULTILINE)
        return [call.replace(" resumed>", "(", 1) for call in found]

    def at(self, pattern, begin=0, end=None):
        """Where the calls are that this describes."""
        return [number for number, call in enumerate(self.calls()) if begin <= number < (end or 1 << 60) and re.match(pattern, call)]

    def has(self, *patterns):
        return all(self.at(pattern) for pattern in patterns)


def synced(path, call="f(data)?sync"):
    return rf"{call}\(\d+<{path}>"


@pytest.fixture(scope="module")
def traced(request, tmp_path_factory):
    """A trace of two projects made, a build of each, and the ids of the builds."""
    place = tmp_path_factory.mktemp("syncs")
    server = Server(place / "data")
    trace = Trace(place / "trace", server.data)
    server.wrap = ["strace", "-D", "-f", "-qq", "-yy", "-s", "16", "--seccomp-bpf", "-o", str(trace.path)]
    server.wrap += ["-e", f"trace={CALLS}", "-e", "signal=none"]
    request.addfinalizer(server.stop)
    server.start()
    codebuild = Codebuild(server)
    codebuild.s3.create_bucket(Bucket="made")
    for kind in ("ZIP", "NONE"):
        artifacts = {"type": "S3", "location": "made", "packaging": kind, "name": kind.lower()}
        commands = spec(build=["echo a > a", "echo b > b", *["sleep 1000 || true"] * (kind == "ZIP")])
        codebuild.create_project(kind, json.dumps(commands | {"artifacts": {"files": ["a", "b"]}}), artifacts=artifacts)
    whole = codebuild.start("ZIP")["id"]
    folder = f"/builds/{whole.split(':')[1]}"
    codebuild.reached(whole)
    regular = [log_of(whole), f"{folder}/journal", f"{folder}/plan.json", folder, "/builds", "/logs", ""]
    wait_until(lambda: trace.has(*map(synced, regular)), "what is there of a build is on the disk while it runs")
    codebuild.wake(whole)
    assert codebuild.wait(whole)["buildStatus"] == "SUCCEEDED"
    several = codebuild.run("NONE")
    assert several["buildStatus"] == "SUCCEEDED"
    server.stop()
    wait_until(lambda: not processes(f"SYSTEM_TEST={server.data}"), "whoever was looked at is gone")
    return trace, whole, several["id"]


def log_of(build_id):
    return f"/logs/{build_id.split(':')[1]}.log"


# P1
def test_a_change_is_on_the_disk_before_it_is_answered(traced):
    trace, _, _ = traced
    asked = trace.at(r"recvfrom\(.*\"POST / HTTP")[: CREATED + STARTED]
    assert len(asked) == CREATED + STARTED
    for begin in asked:
        answered = trace.at(r"(sendto|writev)\(.*\"HTTP/1.1 200 OK", begin)[0]
        assert trace.at(synced("/records.sqlite-wal"), begin, answered), trace.calls()[begin : answered + 1]


# P5
@pytest.mark.parametrize("which", [1, 2])
def test_a_log_and_its_name_are_on_the_disk_before_the_journal_says_that_all_is_over(traced, which):
    trace, build = traced[0], traced[which]
    log, journal = log_of(build), f"/builds/{build.split(':')[1]}/journal"
    sealed, finished = trace.at(rf"writev?\(\d+<{log}>")[-1], trace.at(rf"write\(\d+<{journal}>")[-1]
    content = trace.at(synced(log), sealed, finished)
    assert content, "the log's content"
    assert trace.at(synced("/logs"), content[0], finished), "the log's name"
    assert trace.at(synced(journal), finished), "the journal"


# P6
def test_an_object_has_its_bytes_before_its_name_and_its_name_before_anybody_is_told(traced):
    trace, build, _ = traced
    named = trace.at(r'renameat\(\d+</s3/\.tmp>, "\w+", \d+</s3/made>, "zip')
    assert len(named) == 1
    temporary = re.search(r'"(\w+)"', trace.calls()[named[0]])[1]
    assert trace.at(synced(f"/s3/.tmp/{temporary}"), 0, named[0]), "the bytes"
    finished = trace.at(rf"write\(\d+</builds/{build.split(':')[1]}/journal>")[-1]
    assert trace.at(synced("/s3/made"), named[0], finished), "the name"


# P6
def test_a_set_of_objects_can_be_taken_back_until_all_have_their_names(traced):
    trace, _, _ = traced
    written_down = trace.at(r'renameat\(\d+</s3/\.tmp>, "\w+", \d+</s3/\.batches>, "made"')[0]
    intent = re.search(r'"(\w+)"', trace.calls()[written_down])[1]
    named = trace.at(r'renameat\(\d+</s3/\.tmp/\w+>, "\w+", \d+</s3/made/none>')
    assert len(named) == 2
    objects = re.search(r"</s3/\.tmp/(\w+)>", trace.calls()[named[0]])[1]
    written = trace.at(rf"write\(\d+</s3/\.tmp/{objects}/\w+>")[-1]
    whole = trace.at(synced(f"/s3/.tmp/{objects}", "syncfs"), written, written_down)
    assert whole, "the objects, before anything is said of them"
    assert trace.at(synced(f"/s3/.tmp/{intent}"), whole[0], written_down), "what is written down"
    assert trace.at(synced("/s3/.batches"), written_down, named[0]), "its name, before the first object's"
    durable = trace.at(synced(f"/s3/.tmp/{objects}", "syncfs"), named[-1])
    assert durable, "the names"
    assert trace.at(synced("/s3/.batches"), durable[0]), "that nothing is to be taken back"


# P5, P12
def test_a_log_whose_last_sync_failed_is_not_taken_for_kept(server, codebuild, tmp_path):
    """Only the first sync fails: the kernel tells of what it could not write once, and takes it for written from then on."""
    codebuild.create_project("unkept", json.dumps(spec(build=["sleep 1000 || true"])))
    build = codebuild.start("unkept")["id"]
    codebuild.reached(build)
    journal = server.data / "builds" / build.split(":")[1] / "journal"
    agent = int(re.search(rb'"process":(\d+)', journal.read_bytes())[1])
    # One thread of it, which is the one that ends the log.
    with failing(agent, tmp_path / "trace", when="1") as strace:
        codebuild.wake(build)
        ended = codebuild.wait(build)
        strace.wait(timeout=60)
    assert (tmp_path / "trace").read_text().count("EIO") == 1
    assert ended["buildStatus"] == "FAULT", contexts(ended)


# P12
def test_events_whose_sync_failed_are_refused_and_no_later_ones_lie_behind_them(server, codebuild, tmp_path):
    stream = {"logGroupName": "unkept", "logStreamName": "unkept"}
    codebuild.logs.create_log_group(logGroupName="unkept")
    codebuild.logs.create_log_stream(**stream)
    put = lambda *texts: codebuild.logs.put_log_events(**stream, logEvents=[{"timestamp": now, "message": text} for text in texts])
    now = int(time.time() * 1000)
    before = {*(server.data / "logs").glob("*")}
    put("a")
    [segment] = {*(server.data / "logs").glob("*")} - before
    with failing(server.process.pid, tmp_path / "trace", "-f", "-P", str(segment)), pytest.raises(ClientError):
        put("b", "c")
    assert "EIO" in (tmp_path / "trace").read_text()
    put("d")
    events = codebuild.logs.get_log_events(**stream, startFromHead=True)["events"]
    assert [event["message"] for event in events] == ["a", "d"]


@contextlib.contextmanager
def failing(process, trace, *what, when="1+"):
    """The `when`th syncs of a process's data fail, in each of its threads."""
    strace = ["strace", "-qq", "-o", str(trace), *what, "-p", str(process), "-e", "trace=fdatasync", "-e", "signal=none"]
    tracer = subprocess.Popen([*strace, "-e", f"inject=fdatasync:error=EIO:when={when}"])
    threads = "*" if "-f" in what else str(process)
    statuses = Path(f"/proc/{process}/task").glob
    is_traced = lambda: all(f"TracerPid:\t{tracer.pid}\n" in status.read_text() for status in statuses(f"{threads}/status"))
    try:
        wait_until(is_traced, "somebody makes syncs fail")
        yield tracer
    finally:
        tracer.terminate()
        tracer.wait(timeout=60)
