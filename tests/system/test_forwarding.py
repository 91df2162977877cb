"""Builds' logs forwarded to other services: in order, without gap, through kills of the server, and at nobody's cost.

What is checked of a log: the first time each of its lines comes, they come in order, and all of them do. Lines may come again, as they
do after a kill, and then again in order.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from host import wait_until
from local import spec
from served import KEY_ID, REGION, SECRET, Codebuild
from test_log_volume import GROWTH_MAX_BYTES, resident_bytes

LINES = 30_000


def numbers(messages):
    """Those of the numbered lines that came, in their order."""
    return [int(line[5:]) for message in messages for line in message.splitlines() if line.startswith("line ")]


def is_whole(found, count):
    """All numbers from 1 on came, each for the first time behind the one before."""
    furthest = 0
    for number in found:
        assert number <= furthest + 1, f"{number} after {furthest}"
        furthest = max(furthest, number)
    return furthest == count


def printing(count):
    return json.dumps(spec(build=[f"seq -f 'line %.0f' {count}"]))


def events(server, build):
    """What a log stream of another server holds by now."""
    logs = server.client("logs")
    group, stream = build["logs"]["groupName"], build["logs"]["streamName"]
    messages, token = [], {}
    while True:
        try:
            page = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True, **token)
        except logs.exceptions.ResourceNotFoundException:
            return messages
        messages += [event["message"] for event in page["events"]]
        if page["nextForwardToken"] == token.get("nextToken"):
            return messages
        token = {"nextToken": page["nextForwardToken"]}


class Collector:
    """Takes OTLP logs over HTTP as far as `moods` lets it; then whatever comes."""

    def __init__(self):
        self.moods, self.bodies, self.held = [], [], threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                mood = collector.mood()
                if mood == 200:
                    assert self.path == "/v1/logs" and self.headers["x-token"] == "secret"
                    collector.bodies.append(json.loads(body))
                self.send_response(mood)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def mood(self):
        # It hangs for whoever comes, until it is told that it was long enough.
        if "hang" in self.moods[:1]:
            self.held.wait(600)
            self.moods = self.moods[1:]
            return 503
        return self.moods.pop(0) if self.moods else 200

    def logs(self):
        return [resource for body in list(self.bodies) for resource in body["resourceLogs"]]

    def messages(self, stream):
        """What came of a stream, and the trace ids it bore."""
        messages, traces = [], set()
        for resource in self.logs():
            if stream in json.dumps(resource["resource"]):
                for record in resource["scopeLogs"][0]["logRecords"]:
                    messages.append(record["body"]["stringValue"])
                    traces.add(record["traceId"])
        return messages, traces


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.held.set()
    collector.http.shutdown()


@pytest.fixture
def forwarding_server(make_server, tmp_path):
    """A server that forwards as this says."""

    def make(settings):
        path = tmp_path / "forwarding.toml"
        path.write_text(f"[forward_logs]\n{settings}\n")
        return make_server("--config", str(path))

    return make


def test_logs_come_to_cloudwatch_whole_and_in_order_through_kills_of_the_server(
    make_server, forwarding_server, monkeypatch
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    sink = make_server()
    server = forwarding_server(f"to = 'cloudwatch'\nendpoint = '{sink.endpoint}'\nregion = '{REGION}'")
    codebuild = Codebuild(server)
    codebuild.create_project("forwarded", printing(10))
    builds = [codebuild.start("forwarded", buildspecOverride=printing(LINES)) for _ in range(3)]

    def taken():
        found = (codebuild.build(build["id"]) for build in builds)
        return sum(len(numbers(events(sink, build))) for build in found if build["logs"].get("groupName"))

    for kills in range(4):
        before = taken()
        wait_until(lambda: taken() > before or before >= 3 * LINES, f"something comes after {kills} kills", 120, 0.05)
        server.kill()
        server.start()
    builds = [codebuild.wait(build["id"], 300) for build in builds]
    for build in builds:
        assert build["buildStatus"] == "SUCCEEDED"
        wait_until(lambda: is_whole(numbers(events(sink, build)), LINES), f"all of {build['id']}", 120, 0.2)
        # Lines of the service, too, and each as it is here.
        assert set(events(sink, build)) >= {message for message in events(server, build)}
    # While nobody takes anything, builds go on, and what they log is taken later.
    sink.kill()
    late = codebuild.run("forwarded")
    assert late["buildStatus"] == "SUCCEEDED"
    sink.start()
    wait_until(lambda: is_whole(numbers(events(sink, late)), 10), "what was logged meanwhile", 120, 0.1)


def test_logs_come_to_a_collector_whatever_it_answers_at_first(collector, forwarding_server, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x-token=secret")
    collector.moods = [503, "hang"]
    server = forwarding_server(f"to = 'opentelemetry'\nendpoint = '{collector.url}'")
    codebuild = Codebuild(server)
    codebuild.create_project("collected", printing(10))
    before = resident_bytes(server.process.pid)
    # It hangs, and no build minds.
    build = codebuild.run("collected", buildspecOverride=printing(100_000))
    assert build["buildStatus"] == "SUCCEEDED" and not collector.bodies
    collector.held.set()
    stream = build["logs"]["streamName"]
    wait_until(lambda: is_whole(numbers(collector.messages(stream)[0]), 100_000), "all of it", 120, 0.5)
    messages, traces = collector.messages(stream)
    assert traces == {build["id"].split(":")[1].replace("-", "")}
    assert any(message.startswith("[Container] ") and "Phase complete: BUILD" in message for message in messages)
    grown = resident_bytes(server.process.pid) - before
    assert grown <= GROWTH_MAX_BYTES, f"the server has grown by {grown >> 20} MiB"
    # What it will never take does not stop what follows.
    collector.moods = [400]
    codebuild.run("collected")
    wait_until(lambda: not collector.moods, "something is refused")
    taken = codebuild.run("collected")["logs"]["streamName"]
    wait_until(lambda: is_whole(numbers(collector.messages(taken)[0]), 10), "the log after it", 120, 0.1)


def test_a_sink_that_cannot_be_one_is_named(forwarding_server, make_server, tmp_path):
    for settings, why in [("to = 'opentelemetry'", "says where"), ("to = 'syslog'", "syslog")]:
        with pytest.raises(AssertionError, match=why):
            forwarding_server(settings)
