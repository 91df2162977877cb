"""How a server is watched: probes, its log, its metrics, traces of its builds; and how it stops."""

import http.client
import json
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prometheus_client.parser import text_string_to_metric_families

from host import wait_until
from local import spec
from served import ACCOUNT, Codebuild, Server, free_port
from test_api import error_of


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


def metrics(port):
    """Values by name and labels, as Prometheus understands them."""
    status, text = get(port, "/metrics")
    assert status == 200
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


class Collector:
    """An OpenTelemetry collector that keeps what it gets."""

    def __init__(self):
        self.requests = []
        keep = self.requests.append

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                keep((self.path, dict(self.headers), json.loads(body)))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self):
        scopes = [scope for _, _, body in self.requests for each in body["resourceSpans"] for scope in each["scopeSpans"]]
        return [span for scope in scopes for span in scope["spans"]]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A server whose log is JSON, with metrics and a collector of traces."""
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=very-secret")
    monkeypatch.setenv("BUILDYARD_LOG", "info")
    monkeypatch.setenv("BUILDYARD_LOG_FORMAT", "json")
    server = Server(tmp_path / "data", "--metrics-listen", f"127.0.0.1:{free_port()}")
    server.metrics_port = int(server.flags[-1].rpartition(":")[2])
    server.collector = collector
    server.start()
    yield server
    server.stop()
    collector.close()


# LC-022, IN-032
def test_builds_are_counted_timed_and_traced_and_each_request_has_a_line(watched, name):
    codebuild = Codebuild(watched)
    codebuild.create_project(name, json.dumps(spec(build=["head -c 100000000 /dev/zero | sha256sum", 'test "$WANTED" = good'])))
    ended = []
    for wanted in ["good", "bad", "good"]:
        variable = {"name": "WANTED", "value": wanted}
        build = codebuild.start(name, environmentVariablesOverride=[variable])
        ended.append(codebuild.wait(build["id"]))
    assert [build["buildStatus"] for build in ended] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    error_of(codebuild.api.list_projects, nextToken="nonsense")

    # What happened is told once it is stored, which may be a moment after a client can see it.
    failed = ("codebuild_FailedBuilds_total", ACCOUNT, name)
    succeeded = ("codebuild_SucceededBuilds_total", ACCOUNT, name)
    wait_until(lambda: metrics(watched.metrics_port).get(succeeded) == 2, "the last build is counted")
    found = metrics(watched.metrics_port)
    assert (found["codebuild_Builds_total", ACCOUNT, name], found[failed]) == (3, 1)
    for spent in ["Duration", "QueuedDuration", "ProvisioningDuration", "DownloadSourceDuration", "BuildDuration"]:
        assert found[f"codebuild_{spent}_seconds_count", ACCOUNT, name] == 3, spent
        assert found[f"codebuild_{spent}_seconds_sum", ACCOUNT, name] >= 0, spent
    resources = ["CPUUtilized", "CPUUtilizedPercent", "MemoryUtilized_megabytes", "MemoryUtilizedPercent"]
    for resource in [*resources, "StorageReadBytes", "StorageWriteBytes"]:
        assert found[f"codebuild_{resource}_count", ACCOUNT, name] == 3, resource
    processors, percent, *memory = [found[f"codebuild_{resource}_sum", ACCOUNT, name] for resource in resources]
    # BUILD_GENERAL1_SMALL has two processors.
    assert percent == pytest.approx(processors / 2 * 100) and 0 < percent <= 300 and all(memory)
    whole = sum((build["endTime"] - build["startTime"]).total_seconds() for build in ended)
    assert found["codebuild_Duration_seconds_sum", ACCOUNT, name] == pytest.approx(whole, abs=0.01)
    assert found["buildyard_requests_total", "200", "StartBuild", "codebuild"] == 3
    assert found["buildyard_requests_total", "400", "ListProjects", "codebuild"] == 1
    assert found["buildyard_request_duration_seconds_count", "StartBuild", "codebuild"] == 3
    assert found["buildyard_request_duration_seconds_bucket", "+Inf", "StartBuild", "codebuild"] == 3
    assert (found["buildyard_builds_waiting",], found["buildyard_traces_dropped_total",]) == (0, 0)
    assert get(watched.metrics_port, "/")[0] == 404 and get(watched.port, "/metrics")[0] == 403

    roots = lambda: [span for span in watched.collector.spans() if "parentSpanId" not in span]
    wait_until(lambda: len(roots()) == 3, "every build has a trace")
    path, headers, _ = watched.collector.requests[0]
    assert (path, headers["x-token"], headers["content-type"]) == ("/v1/traces", "very-secret", "application/json")
    for build in ended:
        uuid = build["id"].rpartition(":")[2].replace("-", "")
        root, *phases = [span for span in watched.collector.spans() if span["traceId"] == uuid]
        timed = [phase for phase in build["phases"] if "endTime" in phase]
        assert [span["name"] for span in phases] == [phase["phaseType"] for phase in timed]
        assert {span["parentSpanId"] for span in phases} == {root["spanId"]}
        assert len({span["spanId"] for span in [root, *phases]}) == len(phases) + 1
        broken = {span["name"]: span["status"] for span in phases if span["status"].get("code") == 2}
        assert root["status"]["code"] == (1 if build["buildStatus"] == "SUCCEEDED" else 2)
        if build["buildStatus"] == "FAILED":
            message = next(phase for phase in timed if phase["phaseType"] == "BUILD")["contexts"][0]["message"]
            assert broken == {"BUILD": {"code": 2, "message": message}}
        begun = round(build["startTime"].timestamp() * 1000) * 1_000_000
        assert int(root["startTimeUnixNano"]) == begun

    lines = [json.loads(line) for line in watched.log.read_text().splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["target"] == "request"]
    start = [line for line in requests if line["operation"] == "StartBuild"]
    assert [line["status"] for line in start] == [200] * 3
    for line in start:
        assert line["service"] == "codebuild" and line["caller"].startswith(f"arn:aws:iam::{ACCOUNT}:user/")
        assert line["micros"] > 0 and len(line["id"]) == 36
    assert "very-secret" not in watched.log.read_text() and "Signature=" not in watched.log.read_text()


def test_a_request_id_in_an_answer_is_the_one_in_the_log(watched):
    answer = watched.client("codebuild").list_projects()
    wanted = answer["ResponseMetadata"]["RequestId"]
    wait_until(lambda: wanted in watched.log.read_text(), "the request is in the log")


def test_a_server_without_room_for_records_says_so(make_server):
    server = make_server()
    assert get(server.port, "/healthz") == (200, "ok\n")
    assert get(server.port, "/readyz") == (200, "ready\n")
    aside = server.data.with_name("aside")
    server.data.rename(aside)
    try:
        status, text = get(server.port, "/readyz")
        assert status == 503 and text.startswith("not ready: "), text
        assert get(server.port, "/healthz")[0] == 200
    finally:
        aside.rename(server.data)
    assert get(server.port, "/readyz")[0] == 200


def test_a_server_that_stops_finishes_what_it_has_begun_and_takes_nothing_new(make_server):
    server = make_server()
    s3 = server.client("s3")
    s3.create_bucket(Bucket="bucket")
    url = s3.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": "key"})
    path = url.removeprefix(server.endpoint)
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 10\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        # Somebody is reading the body.
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")
        connection.sendall(b"12345")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(server.port), "nobody new is let in")
        connection.sendall(b"67890")
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert server.process.wait(timeout=60) == 0
    server.start()
    assert server.client("s3").get_object(Bucket="bucket", Key="key")["Body"].read() == b"1234567890"


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), 60).close()
        return False
    except ConnectionResetError:
        # It waited to be let in when the door closed.
        return False
    except ConnectionRefusedError:
        return True
